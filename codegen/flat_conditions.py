"""Conditions on rows as conditions on elements, so that rows that lie one after the other are one axis.

    parallel (p0: 1000, p1: 7)
      b1[p0, p1] = where(lt(p0, 3), (b0[p0 + 997, p1] if 0 <= p0 + 997 < 1000), (b0[p0 - 3, p1] if 0 <= p0 - 3 < 997))

asks 0 <= p0 - 3 < 997 of a row. Of an element that is 0 <= 7*p0 + p1 - 21 < 6979, for p1 is less than 7; and both axes
are one of 7000 points, whose segments are copies.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tjit.codegen.kernel import Axis, Compute, Const, Expr, Index, Load, Loop, LoopKernel, Store, fold_up, walk
from tjit.dtypes import i64
from tjit.ir.dims import Dim, coefficient, symbols

__all__ = ["merge_alike", "with_flat_conditions"]

_COMPARISONS = ("ge", "lt")  # what choices by place are made of
_MOST = 8  # conditions: of more, segments may be too many


def merge_alike(outer: Axis, inner: Axis, dims: Sequence[Dim]) -> bool:
    """Whether the dims depend on two axes as on one axis of the points of both."""
    for d in dims:
        a, b = coefficient(d, outer.symbol), coefficient(d, inner.symbol)
        if a is None or b is None or a != b * inner.extent:
            return False
    return True


def with_flat_conditions(kernel: LoopKernel) -> LoopKernel:
    """A kernel of stores alone whose neighbouring axes are one but for conditions on the outer one: on both."""
    for outer, inner in pairwise(kernel.parallel):
        if _would_merge(kernel.loops, outer, inner):
            kernel = replace(kernel, loops=_flat(kernel.loops, outer, inner))
    return kernel


def _would_merge(loops: Sequence[Loop], outer: Axis, inner: Axis) -> bool:
    """Whether conditions on `outer`, of which there are a few, are all that keeps two axes apart."""
    if not isinstance(outer.extent, int) or not isinstance(inner.extent, int):
        return False
    seen: set[int] = set()
    exprs = [e for loop in loops for s in loop.body for e in walk(s.value, seen)]
    stores = [s for loop in loops for s in loop.body if isinstance(s, Store)]
    loads = [e for e in exprs if isinstance(e, Load)]
    asked = {pair for e in exprs for pair in _asked(e)}
    on_rows = [pair for pair in asked if _is_on_row(pair, outer, inner)]
    if not 0 < len(on_rows) <= _MOST or any(e.bindings for e in loads):
        return False
    others = [d for pair in asked for d in pair if pair not in on_rows]
    others += (d for e in (*exprs, *(s.value for s in stores)) for d in _places(e))
    return merge_alike(outer, inner, [*others, *(a.buffer.offset(a.index) for a in (*stores, *loads))])


def _asked(expr: Expr) -> Iterator[tuple[Dim, Dim]]:
    """The (e, n) of which a load's conditions ask 0 <= e < n, or a comparison e < n or e >= n."""
    if isinstance(expr, Load):
        yield from expr.conditions
    elif isinstance(expr, Compute) and (pair := _compared(expr)) is not None:
        yield pair


def _compared(expr: Compute) -> tuple[Dim, Dim] | None:
    """The places that a comparison is of."""
    if expr.op.name not in _COMPARISONS:
        return None
    a, b = (o.value if isinstance(o, (Index, Const)) and o.dtype is i64 else None for o in expr.operands)
    return None if a is None or b is None or isinstance(a, float) or isinstance(b, float) else (a, b)


def _places(expr: Expr) -> Iterator[Dim]:
    """The places that an expression computes with, other than to compare them."""
    if isinstance(expr, Compute) and _compared(expr) is None:
        yield from (o.value for o in expr.operands if isinstance(o, Index))


def _is_on_row(pair: tuple[Dim, Dim], outer: Axis, inner: Axis) -> bool:
    (e, n), own = pair, outer.symbol
    return coefficient(e, own) == 1 and own not in symbols(n) and inner.symbol not in (*symbols(e), *symbols(n))


def _flat(loops: Sequence[Loop], outer: Axis, inner: Axis) -> tuple[Loop, ...]:
    """The loops with conditions on `outer` as conditions on both axes: e < n is e*k + inner < n*k, for inner < k."""
    memo: dict[int, Expr] = {}

    def scaled(pair: tuple[Dim, Dim]) -> tuple[Dim, Dim]:
        e, n = pair
        return (e * inner.extent + inner.index, n * inner.extent) if _is_on_row(pair, outer, inner) else pair

    def new(e: Expr) -> Expr:
        if isinstance(e, Load):
            return replace(e, conditions=tuple(map(scaled, e.conditions)))
        if not isinstance(e, Compute):
            return e
        pair = _compared(e)
        operands = tuple(memo[id(o)] for o in e.operands)
        if pair is not None and _is_on_row(pair, outer, inner):
            operands = tuple(Index(d, i64) for d in scaled(pair))
        return replace(e, operands=operands)

    return tuple(replace(x, body=tuple(replace(s, value=fold_up(s.value, memo, new)) for s in x.body)) for x in loops)
