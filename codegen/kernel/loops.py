"""Kernels of loops over elements: computed and reduced, scattered, sorted."""

from __future__ import annotations

from tjit.codegen.kernel.exprs import Axis, Buffer, Expr, Local, Statement, Store
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol
from tjit.location import Location

__all__ = ["Loop", "LoopKernel", "ScatterKernel", "SortKernel"]


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """A loop nest over `axes` (outermost first) around statements; no axes: once per parallel point.

    Attributes:
        reverse: from the last point to the first, as its scans run. Other statements do not care.
    """

    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    reverse: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class LoopKernel:
    """Parallel axes around loops.

    Attributes:
        vector: the axis whose consecutive values are the lanes. An axis of the loops (lanes are then reduced across at
            the end of a reduction), or the last parallel axis (lanes are then independent points); None: scalar.
        tasks: number of equal ranges the linear parallel space is cut into, at most; 1: not worth a thread.
            Depends on shapes only.
        cross: where accesses that step over elements along `vector` are contiguous: they pass through transposed
            tiles. The last parallel axis but one, or the only axis of all loops, which is short. None: there are none.
        beyond: the axes that the lanes run on over where those of `vector` are too few, from the inside out: the last
            parallel axes but one (`run_on.running_on`).
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    parallel: tuple[Axis, ...]
    loops: tuple[Loop, ...]
    vector: Axis | None
    tasks: Dim = 1
    location: Location | None = None
    cross: Axis | None = None
    beyond: tuple[Axis, ...] = ()


@dataclass(frozen=True, eq=False, slots=True)
class ScatterKernel:
    """target[index] += value (or = value, where `add` is False) for every point of `axes`, in row-major order.

    Several points may meet in one element, and the order fixes the result's bits. `index` may use symbols of `bindings`
    as in `Load`.

    Attributes:
        shared: an axis whose points are different elements: each task does all points of its range of it.
        vector: an axis whose points are neighbours in the target, with one value of each binding; the innermost.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    axes: tuple[Axis, ...]
    target: Buffer
    index: tuple[Dim, ...]
    bindings: tuple[tuple[Symbol, Expr, Dim], ...]
    value: Expr
    add: bool = True
    location: Location | None = None
    shared: Axis | None = None
    vector: Axis | None = None
    tasks: Dim = 1


@dataclass(frozen=True, eq=False, slots=True)
class SortKernel:
    """The first `count` elements of every row in order, and the places in the row that they come from.

    Equal elements keep their order, and nan is the greatest.

    Attributes:
        row: the axis of a row's elements; a row has fewer than 2**32.
        value: an element, over the parallel axes and the row's.
        element: what stands for the element that comes at a place of the order, in `stores`.
        place: what stands for where it was.
        stores: of these two, over the parallel axes and the row's, whose value is the place in the order.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    parallel: tuple[Axis, ...]
    row: Axis
    value: Expr
    descending: bool
    count: Dim
    element: Local
    place: Local
    stores: tuple[Store, ...]
    tasks: Dim = 1
    location: Location | None = None

    @property
    def placed(self) -> bool:
        """Whether places are stored."""
        return any(s.value is self.place for s in self.stores)
