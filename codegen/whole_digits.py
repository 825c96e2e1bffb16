"""Axes that indices divide, cut where their last digit is not full: before, indices are affine along the lanes.

    parallel (p0: 256, p1: 13)
      b1[p0, p1] = b0[p0, p1 // 2]

is a kernel with 12 points along p1, an even and an odd one of each of 6, and one with the last.
"""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.axes import rebuild, statements
from tjit.codegen.digits import split_digits
from tjit.codegen.kernel import Axis, LoopKernel, Store
from tjit.ir.dims import Dim, Symbol, coefficient, substitute

__all__ = ["with_whole_digits"]

_SHORTEST = 8  # points: fewer are not worth kernels


def with_whole_digits(kernel: LoopKernel) -> list[LoopKernel]:
    """The kernel, or it for most of the points of the axis along which it stores and for the others."""
    stores = [s for s in statements(kernel) if isinstance(s, Store)]
    if len(stores) < len(statements(kernel)) or any(loop.axes for loop in kernel.loops):
        return [kernel]
    for axis in kernel.parallel:
        whole = _whole(axis, stores)
        if whole is not None:
            return [_part(kernel, axis, 0, whole), _part(kernel, axis, whole, axis.extent)]
    return [kernel]


def _whole(axis: Axis, stores: list[Store]) -> int | None:
    """The points of an axis along which all stores run that come to whole digits; None: all do, or nothing divides."""
    if not isinstance(axis.extent, int) or axis.extent < _SHORTEST:
        return None
    if any(coefficient(s.buffer.offset(s.index), axis.symbol) != 1 for s in stores):
        return None
    radices = split_digits(axis.symbol, *(s.value for s in stores)).radices
    rest = axis.extent % radices[-1] if radices else 0
    return axis.extent - rest if 0 < rest < axis.extent else None


def _part(kernel: LoopKernel, axis: Axis, first: int, stop: Dim) -> LoopKernel:
    """The kernel for the points of an axis from `first` to before `stop`."""
    assert isinstance(stop, int)
    count = stop - first
    part = Axis(Symbol(axis.symbol.name, 0, count - 1), count)
    place: Dim = part.index + first if count > 1 else first

    values, memo = {axis.symbol: place}, {}

    def moved(store: Store) -> Store:
        index = tuple(substitute(d, values) for d in store.index)
        return replace(store, index=index, value=rebuild(store.value, values, {}, memo))

    axes = (part,) if count > 1 else ()
    parallel = tuple(a for other in kernel.parallel for a in (axes if other is axis else (other,)))
    loops = tuple(replace(x, body=tuple(moved(s) for s in x.body if isinstance(s, Store))) for x in kernel.loops)
    return replace(kernel, parallel=parallel, loops=loops)
