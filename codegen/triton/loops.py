"""Loop kernels. Without reductions the whole space is one line of elements, cut into blocks; rows.py has the others."""

from __future__ import annotations

from collections.abc import Mapping

from tjit.codegen.kernel import Buffer, Load, LoopKernel, Store, kernel_exprs
from tjit.codegen.triton.expressions import Expressions, lane, unflatten
from tjit.codegen.triton.rows import emit_rows, written
from tjit.codegen.triton.source import Source, TritonKernel, power_of_two
from tjit.ir import dims

__all__ = ["emit_loops", "is_flat"]

_BLOCK = 1024  # elements of a program


def emit_loops(kernel: LoopKernel, constants: Mapping[str, int]) -> TritonKernel:
    """The source of a loop kernel; `constants` override block sizes."""
    if is_flat(kernel):
        return _emit_flat(kernel, constants)
    return emit_rows(kernel, constants)


def is_flat(kernel: LoopKernel) -> bool:
    """Whether every element is on its own: no reductions, no scratch, no element of an earlier loop."""
    statements = [s for loop in kernel.loops for s in loop.body]
    if not all(isinstance(s, Store) and not s.buffer.row for s in statements):
        return False
    extents = {tuple(axis.extent for axis in loop.axes) for loop in kernel.loops}
    return len(extents) == 1 and (len(kernel.loops) == 1 or not written(kernel.loops) & _read(kernel))


def _read(kernel: LoopKernel) -> set[Buffer]:
    return {e.buffer for e in kernel_exprs(kernel) if isinstance(e, Load)}


def _emit_flat(kernel: LoopKernel, constants: Mapping[str, int]) -> TritonKernel:
    source = Source(kernel)
    axes = (*kernel.parallel, *kernel.loops[0].axes)
    count = dims.product(axis.extent for axis in axes)
    size = constants.get("BLOCK", min(_BLOCK, power_of_two(count) if isinstance(count, int) else _BLOCK))
    e = Expressions(source)
    if count == 1:
        e.axes = {axis.symbol: 0 for axis in axes}
    else:
        symbol, i = lane(source, "i", count)
        block = source.constant("BLOCK", size)
        source.line(f"{i} = {source.widen('tl.program_id(0)')} * {block} + tl.arange(0, {block})")
        e.axes = dict(unflatten(axes, symbol.dim))
        masked = not isinstance(count, int) or count % size
        e.lanes = {symbol: (i, "")}
        if masked:
            e.lanes = {symbol: (i, source.bind(f"{i} < {e.index(count).text}", "mask"))}
    for loop in kernel.loops:
        for axis, first in zip(loop.axes, kernel.loops[0].axes, strict=True):
            e.axes[axis.symbol] = e.axes[first.symbol]
        for statement in loop.body:
            assert isinstance(statement, Store)
            e.store(statement)
    programs = 1 if count == 1 else (count + (size - 1)) // size
    return source.finish(programs, warps=1 if count == 1 else 4)
