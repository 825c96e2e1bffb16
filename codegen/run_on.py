"""Rows shorter than a vector: the lanes run on from the end of a row into the next one.

    parallel (p0: 1000, p1: 3) tasks 1 vector p1 on over p0
      b1[p0, p1] = mul(b0[p0, p1], b2[p0])

Lane t stands for the point (t // 3, t % 3) of (p0, p1). What is stored lies in that order, and where every index is
affine in the axes, a vector that starts at the start of a row always has its lanes the same distances apart. So many
vectors as come to whole rows are one turn of the loop: the first 16 lanes above begin with row 0, the next 16 with the
second element of row 5, and after the third vector a row starts again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import gcd

from tjit.codegen.digits import split_digits
from tjit.codegen.kernel import Axis, Expr, Index, Load, LoopKernel, Store, walk
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol, coefficient, product, symbols

__all__ = ["MOST_WINDOWS", "RunOn", "fills_a_vector", "run_on", "running_on", "split_axes", "windows"]

_SHORT = 64  # elements of a row: beyond, the vector that a row ends within costs little
_VECTOR_BYTES = 64  # to reckon with
_LANES = 16  # of a vector of f32
_MOST_VECTORS = 40  # in one turn, each with code of its own
_MOST_CODE = 256  # expressions in one turn
MOST_WINDOWS = 4  # that the lanes of one vector are picked from


@dataclass(frozen=True, slots=True)
class RunOn:
    """How lanes run over the points of several axes.

    Attributes:
        axes: where the lanes run, innermost first.
        inner: elements in one point of the last axis: of a row.
    """

    axes: tuple[Axis, ...]
    inner: int

    def vectors(self, width: int) -> int:
        """How many vectors come to whole rows."""
        return self.inner // gcd(self.inner, width)

    def rows(self, width: int) -> int:
        """How many rows they are."""
        return width // gcd(self.inner, width)

    def steps(self, d: Dim, first: int, width: int) -> tuple[int, ...] | None:
        """How much more `d` is in lanes first, first + 1, ... than where a row starts; None: that is not constant."""
        found = [coefficient(d, axis.symbol) for axis in self.axes]
        factors = [k for k in found if isinstance(k, int)]
        if len(factors) < len(found):
            return None
        return tuple(sum(map(int.__mul__, factors, self._point(t))) for t in range(first, first + width))

    def _point(self, lane: int) -> list[int]:
        """The values of the axes in a lane."""
        point: list[int] = []
        for axis in self.axes[:-1]:
            assert isinstance(axis.extent, int)
            point.append(lane % axis.extent)
            lane //= axis.extent
        return [*point, lane]


def run_on(kernel: LoopKernel) -> RunOn | None:
    """How the lanes of a kernel run over several axes; None: they run along one."""
    if not kernel.beyond or kernel.vector is None:
        return None
    axes = (kernel.vector, *kernel.beyond)
    inner = product(axis.extent for axis in axes[:-1])
    assert isinstance(inner, int)
    return RunOn(axes, inner)


def windows(places: Sequence[int], width: int) -> list[int]:
    """Where whole vectors start that hold all of the places."""
    starts: list[int] = []
    for place in sorted(set(places)):
        if not starts or place >= starts[-1] + width:
            starts.append(place)
    return starts


def running_on(kernel: LoopKernel) -> LoopKernel | None:
    """The kernel with lanes that run on; None where rows are long, or vectors could not be loaded whole."""
    statements = [s for loop in kernel.loops for s in loop.body]
    stores = [s for s in statements if isinstance(s, Store)]
    if len(stores) < len(statements) or any(loop.axes for loop in kernel.loops):
        return None
    axes = _stored_order(kernel, [s.buffer.offset(s.index) for s in stores])
    if len(axes) < 2 or any(axis.extent == 0 for axis in axes) or fills_a_vector(axes[0], stores):
        return None
    parallel = (*(a for a in kernel.parallel if a not in axes), *reversed(axes))
    found = replace(kernel, parallel=parallel, vector=axes[0], beyond=axes[1:])
    run = run_on(found)
    assert run is not None
    return found if _is_worth(stores, run) else None


def fills_a_vector(row: Axis, stores: Sequence[Store]) -> bool:
    """Whether a row fills most of one vector: a mask then leaves off fewer lanes than running on picks twice."""
    seen: set[int] = set()
    dtypes = [e.dtype for s in stores for e in walk(s.value, seen)]
    widest = max(max(4, d.itemsize) if d.is_floating_point else d.itemsize for d in dtypes)
    lanes = _VECTOR_BYTES // widest
    return isinstance(row.extent, int) and 4 * lanes <= 5 * row.extent <= 5 * lanes


def _stored_order(kernel: LoopKernel, offsets: Sequence[Dim]) -> tuple[Axis, ...]:
    """Axes in the order in which all stores lie in memory, innermost first, the last one the first of long rows."""
    order: list[Axis] = []
    inner: Dim = 1
    while isinstance(inner, int) and inner < _SHORT:
        following = (a for a in kernel.parallel if all(coefficient(o, a.symbol) == inner for o in offsets))
        axis = next((a for a in following if a not in order), None)
        if axis is None:
            break
        order.append(axis)
        inner = inner * axis.extent
    return tuple(order)


def _is_worth(stores: Sequence[Store], run: RunOn) -> bool:
    """Whether what is loaded is at constant distances, few vectors hold it, and one turn is not too much code."""
    seen: set[int] = set()
    exprs = [e for s in stores for e in walk(s.value, seen)]
    count = run.vectors(_LANES)
    if count > _MOST_VECTORS or count * len(exprs) > _MOST_CODE:
        return False
    dims = [d for e in exprs for d in _dims(e)]
    if any(run.steps(d, 0, 1) is None for d in dims):
        return False
    loads = [e for e in exprs if isinstance(e, Load)]
    if any(e.bindings for e in loads):  # what an index picks is read row by row
        return False
    return all(_is_decided(e, run) and _is_near(e.buffer.offset(e.index), run, count) for e in loads)


def _is_decided(load: Load, run: RunOn) -> bool:
    """Whether it is known which lanes meet the conditions: none is about the row."""
    return not any(run.axes[-1].symbol in symbols(d) for pair in load.conditions for d in pair)


def _dims(expr: Expr) -> list[Dim]:
    if isinstance(expr, Load):
        return [expr.buffer.offset(expr.index), *(d for pair in expr.conditions for d in pair)]
    return [expr.value] if isinstance(expr, Index) else []


def _is_near(offset: Dim, run: RunOn, count: int) -> bool:
    steps = [run.steps(offset, n * _LANES, _LANES) for n in range(count)]
    return all(s is not None and len(windows(s, _LANES)) <= MOST_WINDOWS for s in steps)


def split_axes(kernel: LoopKernel) -> tuple[tuple[Axis, ...], dict[Symbol, Dim]]:
    """Axes that indices divide as an axis for each digit, in which indices are affine; and what the old ones are."""
    exprs = [s.value for loop in kernel.loops for s in loop.body]
    axes: list[Axis] = []
    values: dict[Symbol, Dim] = {}
    for axis in kernel.parallel:
        digits = split_digits(axis.symbol, *exprs)
        if not digits.radices or not isinstance(axis.extent, int) or axis.extent % digits.radices[-1]:
            axes.append(axis)
            continue
        values[axis.symbol] = digits.value
        bounds = (1, *digits.radices, axis.extent)
        extents = [high // low for low, high in pairwise(bounds)]
        symbols = (digits.lowest, *digits.higher)
        axes += [Axis(s, n) for s, n in zip(symbols, extents, strict=True)][::-1]
    return tuple(axes), values
