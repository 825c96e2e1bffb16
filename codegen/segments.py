"""Segments of the lanes' axis: where a load's conditions hold all along one, it needs no mask, and a choice is none.

    parallel (p0: 1000, p1: 1000) tasks 64 vector p1
      b1[p0, p1] = where(lt(p1, 3), (b0[p0, p1 + 997] if 0 <= p1 < 3), (b0[p0, p1 - 3] if 0 <= p1 - 3 < 997))

is, for p1 from 3 on, a copy.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tjit.codegen.kernel import Axis, Compute, Const, Expr, Load, Loop, LoopKernel, Store, fold_up, walk
from tjit.codegen.places import asked_sign
from tjit.dataclass import dataclass
from tjit.dtypes import bool_
from tjit.ir.dims import Dim, coefficient

__all__ = ["Segment", "segments"]

_SHORTEST = 64  # points: a segment of fewer is not worth code of its own
_MOST = 16


@dataclass(frozen=True, slots=True)
class Segment:
    """The points first, first + 1, ... before `stop` of the lanes' axis, and what the loops are there."""

    first: int
    stop: int
    loops: tuple[Loop, ...]


def segments(kernel: LoopKernel) -> tuple[Segment, ...]:
    """The segments of a kernel's lanes, in order; one where nothing is won by more, or its length is not known.

    Only of kernels of stores alone, whose lanes run along a parallel axis.
    """
    axis = kernel.vector
    if axis is None or not isinstance(axis.extent, int):
        return ()
    whole = (Segment(0, axis.extent, kernel.loops),)
    if any(loop.axes or not all(isinstance(s, Store) for s in loop.body) for loop in kernel.loops):
        return whole
    seen: set[int] = set()
    exprs = [e for loop in kernel.loops for s in loop.body for e in walk(s.value, seen)]
    edges = sorted({p for e in exprs for p in _edges(e, axis) if 0 < p < axis.extent})
    spans = _spans([0, *edges, axis.extent])
    if len(spans) == 1 or len(spans) > _MOST:
        return whole
    return tuple(Segment(first, stop, _within(kernel.loops, axis, first, stop)) for first, stop in spans)


def _spans(edges: list[int]) -> list[tuple[int, int]]:
    """What lies between the edges, short neighbours taken together."""
    spans: list[tuple[int, int]] = []
    for first, stop in pairwise(edges):
        if spans and stop - first < _SHORTEST and spans[-1][1] - spans[-1][0] < _SHORTEST:
            spans[-1] = (spans[-1][0], stop)
        else:
            spans.append((first, stop))
    return spans


def _edges(expr: Expr, axis: Axis) -> list[int]:
    """Where along the axis a condition, or a comparison of places, changes."""
    if isinstance(expr, Load):
        return [p for e, n in expr.conditions for d in (e, e - n) for p in _sign_change(d, axis)]
    asked = asked_sign(expr)
    return [] if asked is None else _sign_change(asked[0], axis)


def _sign_change(d: Dim, axis: Axis) -> list[int]:
    """The first point at which d >= 0 is otherwise than before, for d that steps by one along the axis."""
    k = coefficient(d, axis.symbol)
    if k not in (1, -1) or not isinstance(rest := d - axis.index * k, int):
        return []
    return [-rest if k == 1 else rest + 1]


def _within(loops: tuple[Loop, ...], axis: Axis, first: int, stop: int) -> tuple[Loop, ...]:
    """The loops for points of the axis from `first` to `stop`."""
    memo: dict[int, Expr] = {}

    def settled(d: Dim) -> bool | None:
        """Whether d >= 0 for all of the points; None: only for some, or who knows."""
        k = coefficient(d, axis.symbol)
        if not isinstance(k, int) or not isinstance(rest := d - axis.index * k, int):
            return None
        least, most = sorted((rest + k * first, rest + k * (stop - 1)))
        return True if least >= 0 else False if most < 0 else None

    def new(e: Expr) -> Expr:
        if isinstance(e, Load):
            return _settled_load(e)
        asked = asked_sign(e)
        known = None if asked is None else settled(asked[0])
        if asked is not None and known is not None:
            return Const(known == asked[1], bool_)
        return _folded(replace(e, operands=tuple(memo[id(o)] for o in e.operands))) if isinstance(e, Compute) else e

    def _settled_load(load: Load) -> Expr:
        left = []
        for e, n in load.conditions:
            low, high = settled(e), settled(e - n)
            if low is False or high is True:
                return Const(load.fill, load.dtype)
            if low is None or high is None:
                left.append((e, n))
        bindings = tuple((s, memo[id(v)], n) for s, v, n in load.bindings)
        return replace(load, conditions=tuple(left), bindings=bindings)

    def statement(store: Store) -> Store:
        return replace(store, value=fold_up(store.value, memo, new))

    return tuple(replace(x, body=tuple(statement(s) for s in x.body if isinstance(s, Store))) for x in loops)


def _folded(expr: Compute) -> Expr:
    """A choice that is made already, and what it is made of."""
    name, operands = expr.op.name, expr.operands
    first = operands[0]
    if name == "where" and isinstance(first, Const):
        return operands[1] if first.value else operands[2]
    if name == "bitwise_and" and expr.dtype is bool_:
        for known, other in (operands, operands[::-1]):
            if isinstance(known, Const):
                return other if known.value else known
    return expr
