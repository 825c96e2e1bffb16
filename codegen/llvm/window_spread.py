"""Reads of what is spread out: x[i // 2] where i is even, else zero, as reads of the elements that are there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tjit.codegen.kernel import Compute, Expr, Load, walk
from tjit.ir.dims import Call, Dim, DimExpr, Symbol, coefficient, substitute, symbols

__all__ = ["gathered", "kept"]

_MOST_SPREAD = 8  # that many vectors of sums has a row of the image


def gathered(expr: Expr) -> tuple[Expr, tuple[int, ...]]:
    """A load that is zero but where places are multiples of numbers, as one that has these places as its index.

    With x[(i - 1) // 2] if (i - 1) % 2 == 0 comes x[i - 1] and (2,): what each index is to be divided by. Any other
    expression comes as it is, with ().
    """
    if isinstance(expr, Compute) and expr.op.name == "cast":
        inner, apart = gathered(expr.operands[0])
        return replace(expr, operands=(inner,)), apart
    if not isinstance(expr, Load) or expr.fill != 0:
        return expr, ()
    rests = {rest for place, extent in expr.conditions if extent == 1 and (rest := _remainder(place)) is not None}
    index = list(expr.index)
    apart = [1] * len(index)
    for rest in rests:
        for i, d in enumerate(index):
            index[i] = _without(d, rest, expr.conditions)
            whole = _multiplied(index[i], rest)
            if whole is not None and apart[i] == 1:
                index[i], apart[i] = whole, _divisor(rest)
    if not rests or sum(by > 1 for by in apart) != len(rests):
        return expr, ()
    conditions = tuple((place, e) for place, e in expr.conditions if e != 1 or _remainder(place) not in rests)
    return replace(expr, index=tuple(index), conditions=conditions), tuple(apart)


def _remainder(place: Dim) -> Call | None:
    """`place` where it is the remainder of a division by a number."""
    call = _only_call(place)
    return call if call is not None and call.name == "%" and isinstance(call.b, int) else None


def _divisor(rest: Call) -> int:
    assert isinstance(rest.b, int)
    return rest.b


def _only_call(d: Dim) -> Call | None:
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        ((monomial, factor),) = d.terms.items()
        if factor == 1 and len(monomial) == 1 and isinstance(monomial[0], Call):
            return monomial[0]
    return None


def _without(d: Dim, rest: Call, conditions: Sequence[tuple[Dim, Dim]]) -> Dim:
    """`d` where a remainder is 0 and the conditions hold: a quotient that they bound needs no remainder of its own."""
    if not isinstance(d, DimExpr):
        return d
    quotient = rest.a // rest.b
    bounds = [-(-e // _divisor(rest)) for place, e in conditions if place == rest.a and isinstance(e, int)]
    total: Dim = 0
    for monomial, factor in d.terms.items():
        if _wraps(monomial, quotient, min(bounds, default=None)):
            total = total + quotient * factor
        elif rest not in monomial:
            total = total + DimExpr({monomial: factor})
    return total


def _wraps(monomial: tuple[Symbol | Call, ...], quotient: Dim, bound: int | None) -> bool:
    """Whether this is the remainder of `quotient` by no less than its bound."""
    call = monomial[0] if len(monomial) == 1 else None
    if not isinstance(call, Call) or call.name != "%" or call.a != quotient:
        return False
    return bound is not None and isinstance(call.b, int) and bound <= call.b


def _multiplied(d: Dim, rest: Call) -> Dim | None:
    """`d` times the divisor of a remainder that is 0, where `d` has the quotient as a term; None where it has not."""
    quotient = rest.a // rest.b
    call = _only_call(quotient)
    if call is None or not isinstance(d, DimExpr) or d.terms.get((call,)) != 1:
        return None
    return (d - quotient) * _divisor(rest) + rest.a


def kept(expr: Expr, axes: Sequence[Symbol], apart: Sequence[int]) -> tuple[Expr, tuple[tuple[int, int], ...]] | None:
    """A load with its index at positions of `axes`, over the elements that are there; (spread, origin) of each axis.

    Element v of an axis is that of position v * spread - origin. None where an index that is to be divided is not a
    position of one axis and a number.
    """
    load = next(e for e in walk(expr) if isinstance(e, Load))
    index, conditions = list(load.index), load.conditions
    found: dict[Symbol, tuple[int, int]] = dict.fromkeys(axes, (1, 0))
    for i, by in enumerate(apart):
        own = [axis for axis in axes if axis in symbols(index[i])]
        if by == 1:
            continue
        if len(own) != 1 or by > _MOST_SPREAD or coefficient(index[i], own[0]) != 1:
            return None
        first = substitute(index[i], {own[0]: 0})
        if not isinstance(first, int) or found[own[0]] != (1, 0):
            return None
        origin = first % by
        index[i] = own[0].dim + (first - origin) // by
        conditions = tuple(_divided(place, extent, own[0], by, origin) for place, extent in conditions)
        found[own[0]] = by, origin
    read = replace(load, index=tuple(index), conditions=conditions)
    return _replaced(expr, read), tuple(found[axis] for axis in axes)


def _divided(place: Dim, extent: Dim, axis: Symbol, by: int, origin: int) -> tuple[Dim, Dim]:
    """The condition 0 <= place < extent on positions of an axis, on its elements."""
    if axis not in symbols(place):
        return place, extent
    first = substitute(place, {axis: 0}) - origin  # by * v + first
    return axis.dim + first // by, -((first % by - extent) // by)


def _replaced(expr: Expr, load: Load) -> Expr:
    """Casts of a load, of another one."""
    return replace(expr, operands=(_replaced(expr.operands[0], load),)) if isinstance(expr, Compute) else load
