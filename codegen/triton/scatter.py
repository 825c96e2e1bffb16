"""Scatter kernels. Points that may meet in one element are taken in order, so that the result's bits never change.

Axes that are themselves an index of the target (the columns of an embedding's gradient) are lanes: their points never
meet. The others run one after the other inside a program; sums of ints, exact in any order, are atomic instead.
"""

from __future__ import annotations

from collections.abc import Mapping

from tjit.codegen.kernel import Axis, ScatterKernel, Store
from tjit.codegen.scatter import keeps_apart
from tjit.codegen.triton.expressions import Expressions, lane, unflatten
from tjit.codegen.triton.source import Source, TritonKernel, power_of_two
from tjit.dtypes import i32, i64
from tjit.ir import dims
from tjit.ir.dims import Dim, Symbol

__all__ = ["emit_scatter"]

_BLOCK = 256


def emit_scatter(kernel: ScatterKernel, constants: Mapping[str, int]) -> TritonKernel:
    """The source of a scatter; `constants` override the block."""
    apart = tuple(axis for axis in kernel.axes if keeps_apart(kernel, axis))
    atomic = kernel.add and kernel.target.dtype in (i32, i64)
    lanes = kernel.axes if atomic else apart
    steps = tuple(axis for axis in kernel.axes if axis not in lanes)
    source = Source(kernel)
    e = Expressions(source)
    count = dims.product(axis.extent for axis in lanes)
    size = constants.get("BLOCK", min(_BLOCK, power_of_two(count) if isinstance(count, int) else _BLOCK))
    if count == 1:
        e.axes.update({axis.symbol: 0 for axis in lanes})
    else:
        _enter_lanes(source, e, lanes, count, size)
    number = dims.product(axis.extent for axis in steps)
    if number == 1:
        e.axes.update({axis.symbol: 0 for axis in steps})
        _emit_point(source, e, kernel, atomic=atomic)
    else:
        symbol = Symbol(f"step<{number}", 0, number - 1)
        with source.loop(source.fresh("step"), "0", e.index(number).text) as step:
            e.lanes[symbol] = (source.bind(f"tl.full((), 0, {source.integer}) + {step}", "point"), "")
            e.axes.update(unflatten(steps, symbol.dim))
            _emit_point(source, e, kernel, atomic=False)
            source.line("tl.debug_barrier()", "the next point may be the same element")
    programs = 1 if count == 1 else (count + (size - 1)) // size
    return source.finish(programs, warps=max(1, min(4, size // 32)))


def _enter_lanes(source: Source, e: Expressions, lanes: tuple[Axis, ...], count: Dim, size: int) -> None:
    symbol, name = lane(source, "i", count)
    block = source.constant("BLOCK", size)
    source.line(f"{name} = {source.widen('tl.program_id(0)')} * {block} + tl.arange(0, {block})")
    e.axes.update(unflatten(lanes, symbol.dim))
    e.lanes[symbol] = (name, "")
    if not isinstance(count, int) or count % size:
        e.lanes[symbol] = (name, source.bind(f"{name} < {e.index(count).text}", "mask"))


def _emit_point(source: Source, e: Expressions, kernel: ScatterKernel, *, atomic: bool) -> None:
    for symbol, value, extent in kernel.bindings:
        e.bind(symbol, value, extent)
    if not kernel.add:
        e.store(Store(kernel.target, kernel.index, kernel.value, kernel.location))
        return
    value = e.evaluate(kernel.value)
    address, mask, lanes = e.address(kernel.target, kernel.index)
    mask = f", mask={mask}" if mask else ""
    at = "" if kernel.location is None else kernel.location.short
    if atomic:
        text = e.scalars.stored(value, kernel.target.dtype)
        for name, lane_mask in e.lanes.values():
            if name not in lanes:  # every lane adds, to one element
                address += f" + 0 * {name}"
                mask = f", mask={lane_mask}" if lane_mask else ""
        source.line(f'tl.atomic_add({address}, {text}{mask}, sem="relaxed")', at)
        return
    name = source.fresh("sum")
    source.line(f"{name} = tl.load({address}{mask})")
    old = e.widened(type(value)(name, kernel.target.dtype, lanes))
    total = e.scalars.add(old, e.scalars.cast(value, kernel.target.dtype))
    source.line(f"tl.store({address}, {e.scalars.stored(total, kernel.target.dtype)}{mask})", at)
