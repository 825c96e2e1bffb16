"""Cut a long reduction with few results into partial ones, so that all threads take part.

The cut depends on shapes only, so the order of summation, and with it the bits of the result, does not depend on the
threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tjit.codegen.axes import rebuild
from tjit.codegen.kernel import (
    Axis,
    Buffer,
    Expr,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Reduced,
    Scan,
    Statement,
    Store,
    walk,
)
from tjit.dtypes import bf16, f16, f32
from tjit.ir.dims import Dim, Symbol, coefficient, minimum, product, substitute
from tjit.ir.types import TensorType

__all__ = ["split_reduction"]

_FEW_POINTS = 64
_LONG = 1 << 16  # elements
_TALL = 1 << 20
_PARTS = 32
_SPLITTABLE = frozenset({"sum", "prod", "max", "min", "any", "all"})


def split_reduction(kernel: LoopKernel, new_buffer: Callable[[TensorType], Buffer]) -> list[LoopKernel]:
    """`kernel`, or a kernel of partial reductions over parts of the outermost axis and one that joins them."""
    if not _should_split(kernel):
        return [kernel]
    first, *rest = kernel.loops
    axis = first.axes[0]
    length = -(-axis.extent // _PARTS)
    parts = -(-axis.extent // length)
    name = axis.symbol.name
    part = Axis(Symbol("_" * (len(name) - len(name.lstrip("_"))) + "part", 0, parts - 1), parts)
    inside = Axis(Symbol(f"{name}s", 0, length - 1), minimum(length, axis.extent - part.index * length))
    values = {axis.symbol: part.index * length + inside.index}
    at = (part.index, *(a.index for a in kernel.parallel))
    shape: tuple[Dim, ...] = (parts, *(a.extent for a in kernel.parallel))
    reduced: dict[int, Reduce] = {}
    memo: dict[int, Expr] = {}
    body: list[Statement] = []
    partials: list[Store] = []
    joined: list[Reduce] = []
    for statement in first.body:
        value = rebuild(statement.value, values, reduced, memo)
        if isinstance(statement, Store):
            body.append(replace(statement, value=value, index=tuple(substitute(d, values) for d in statement.index)))
        if not isinstance(statement, Reduce):
            continue
        # partial sums of f16 and bf16 stay in f32
        wide = f32 if statement.dtype in (f16, bf16) else statement.dtype
        new = replace(statement, value=value, dtype=wide)
        body.append(new)
        buffer = new_buffer(TensorType(wide, shape))
        partials.append(Store(buffer, at, Reduced(new), statement.location))
        joined.append(replace(statement, value=Load(buffer, at)))
        reduced[id(statement)] = joined[-1]
    outputs = tuple(dict.fromkeys((*(s.buffer for s in body if isinstance(s, Store)), *(s.buffer for s in partials))))
    partial = replace(
        kernel,
        parallel=(part, *kernel.parallel),
        loops=(Loop((inside, *first.axes[1:]), tuple(body)), Loop((), tuple(partials))),
        outputs=outputs,
    )
    later = _later_loops(rest, reduced)
    kept = tuple(b for b in kernel.outputs if b not in outputs)
    join = replace(kernel, loops=(Loop((part,), tuple(joined)), *later), outputs=kept)
    return [partial, join]


def _later_loops(loops: list[Loop], reduced: dict[int, Reduce]) -> list[Loop]:
    memo: dict[int, Expr] = {}
    return [
        Loop(loop.axes, tuple(replace(s, value=rebuild(s.value, {}, reduced, memo)) for s in loop.body))
        for loop in loops
    ]


def _should_split(kernel: LoopKernel) -> bool:
    reductions = [s for s in kernel.loops[0].body if isinstance(s, Reduce)] if kernel.loops else []
    if not reductions or not kernel.loops[0].axes:
        return False
    if any(loop.axes for loop in kernel.loops[1:]) or any(s.kind not in _SPLITTABLE for s in reductions):
        return False
    if any(isinstance(s, Reduce) for loop in kernel.loops[1:] for s in loop.body):
        return False
    if any(isinstance(s, Scan) for loop in kernel.loops for s in loop.body):
        return False
    points = product(a.extent for a in kernel.parallel)
    length = product(a.extent for a in kernel.loops[0].axes)
    outer = kernel.loops[0].axes[0].extent
    if not (isinstance(points, int) and isinstance(length, int) and isinstance(outer, int)):
        return False
    if points <= _FEW_POINTS:
        return points * length >= _LONG and outer >= _PARTS
    # a tall block of columns: a part's rows are few enough pages for the processor to keep track of
    return points * length >= _TALL and outer >= 8 * _PARTS and _walks_down_columns(kernel)


def _walks_down_columns(kernel: LoopKernel) -> bool:
    """Whether neighbours in memory are parallel points of their own, not elements of one sum."""
    row, column = kernel.loops[0].axes[-1].symbol, kernel.parallel[-1].symbol
    loads = [e for s in kernel.loops[0].body for e in walk(s.value) if isinstance(e, Load)]
    offsets = [e.buffer.offset(e.index) for e in loads]
    return any(coefficient(o, column) == 1 for o in offsets) and not any(coefficient(o, row) == 1 for o in offsets)
