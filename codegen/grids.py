"""Which part of a buffer each of a kernel's tasks touches.

A kernel's tasks are equal ranges of its *grid*: axes in pieces, the outermost first. Where the grid's first axes walk a
buffer from its start to its end, in equal *slabs* of neighbouring elements, a task touches only as many slabs as it has
pieces: task t of T, the t-th T-th of the buffer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import cached_property

from tjit.codegen.axes import statements
from tjit.codegen.kernel import Attention, Axis, ContractKernel, Kernel, Load, LoopKernel, Store, kernel_exprs
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol, coefficient, lower_bound, product, substitute, symbols, upper_bound

__all__ = ["GridAxis", "Slabs", "whole_pieces"]


@dataclass(frozen=True, slots=True)
class GridAxis:
    """An axis in `count` pieces of `step` points."""

    symbol: Symbol
    count: int
    step: int = 1


def whole_pieces(*axes: tuple[Axis, int]) -> tuple[GridAxis, ...]:
    """The grid of (axis, step), up to the first axis that does not fall into equal pieces."""
    found: list[GridAxis] = []
    for axis, step in axes:
        if not isinstance(axis.extent, int) or axis.extent < 1 or (axis.extent % step and axis.extent > step):
            break
        if axis.extent > step:
            found.append(GridAxis(axis.symbol, axis.extent // step, step))
    return tuple(found)


class Slabs:
    """What the tasks of a kernel touch.

    Attributes:
        pieces: of the grid: T tasks are equal ranges of it for every T that divides this number. 1 where nothing is
            known, as of a kernel that checks indices.
    """

    def __init__(self, kernel: Kernel, grid: Sequence[GridAxis]) -> None:
        self.kernel, self.grid = kernel, grid
        self.accesses = list(_accesses(kernel)) if grid else []
        checked = any(isinstance(a, Load) and a.bindings for a in self.accesses)
        self.pieces = 1 if checked else _pieces(grid)

    @cached_property
    def buffers(self) -> tuple[int, ...]:
        """For each of the kernel's buffers, how many slabs the pieces walk; 1: they walk none.

        Task t of T touches the t-th of T equal parts alone if T divides this number.
        """
        found = {b.name: self.pieces for b in self.kernel.buffers}
        sizes = {b.name: product(b.shape) for b in self.kernel.buffers}
        for access in self.accesses:
            name = access.buffer.name
            if not access.buffer.row and found[name] > 1:
                found[name] = min(found[name], _slabs(access, self.grid, sizes[name]))
        return tuple(found[b.name] for b in self.kernel.buffers)

    @cached_property
    def whole(self) -> tuple[bool, ...]:
        """For each of the kernel's buffers, whether there are elements that every task may read."""
        symbol = self.grid[0].symbol
        fixed = {a.buffer.name for a in self.accesses if symbol not in symbols(a.buffer.offset(a.index))}
        return tuple(b.name in fixed for b in self.kernel.buffers)


def _pieces(grid: Sequence[GridAxis]) -> int:
    total = 1
    for axis in grid:
        total *= axis.count
    return total


def _accesses(kernel: Kernel) -> Iterator[Load | Store]:
    """Every load and store of a kernel that has a grid."""
    if isinstance(kernel, LoopKernel):
        yield from (s for s in statements(kernel) if isinstance(s, Store))
    elif isinstance(kernel, ContractKernel):
        yield from kernel.epilogue
    else:
        assert isinstance(kernel, Attention)
        yield from kernel.stores
    yield from (e for e in kernel_exprs(kernel) if isinstance(e, Load))


def _slabs(access: Load | Store, grid: Sequence[GridAxis], elements: Dim) -> int:
    """Into how many slabs the first axes of `grid` cut a buffer of so many elements, as this access sees it.

    Where several axes cut it, so do the first of them: the finest cut says all.
    """
    found = 1
    for n in range(1, len(grid) + 1):
        count = _pieces(grid[:n])
        if not isinstance(elements, int) or elements % count or not _is_within(access, grid[:n], elements // count):
            break
        found = count
    return found


def _is_within(access: Load | Store, grid: Sequence[GridAxis], slab: int) -> bool:
    """Whether piece i of `grid`, in row-major order, touches elements of [i * slab, (i + 1) * slab) only."""
    offset, size = access.buffer.offset(access.index), slab
    if any(axis.step != 1 for axis in grid[:-1]):
        return False
    for axis in reversed(grid):
        # offset = ... + size * piece + (a step's own points)
        k = coefficient(offset, axis.symbol)
        if not isinstance(k, int) or k * axis.step != size:
            return False
        size *= axis.count
    inside = slab // grid[-1].step * (grid[-1].step - 1)
    low, high = _rest(access, {axis.symbol: 0 for axis in grid})
    return low >= 0 and high is not None and high + inside < slab


def _rest(access: Load | Store, at: dict[Symbol, Dim]) -> tuple[int, int | None]:
    """Bounds of the offset at one piece of the grid. A condition keeps what it is on inside of its range."""
    conditions = dict(access.conditions) if isinstance(access, Load) else {}
    if not conditions:
        offset = substitute(access.buffer.offset(access.index), at)
        return lower_bound(offset), upper_bound(offset)
    least, most = 0, 0
    for index, stride in zip(access.index, access.buffer.strides, strict=True):
        low, high = _range(index, conditions, at)
        if high is None or not isinstance(stride, int) or stride < 0:
            return 0, None
        least, most = least + stride * low, most + stride * high
    return least, most


def _range(index: Dim, conditions: dict[Dim, Dim], at: dict[Symbol, Dim]) -> tuple[int, int | None]:
    rest = substitute(index, at)
    low, high = lower_bound(rest), upper_bound(rest)
    extent = conditions.get(index)
    if isinstance(extent, int) and not any(s in at for s in symbols(index)):
        return max(low, 0), extent - 1 if high is None else min(high, extent - 1)
    return low, high
