"""Comparisons of places ask for the sign of an index expression, which needs no numbers in lanes.

    le(sub(index(p1), index(p0)), 0)

asks whether p1 - p0 - 1 >= 0, and is what that is not: along p1, a certain number of lanes from a certain one on.
"""

from __future__ import annotations

from collections.abc import Iterable

from tjit.codegen.kernel import Compute, Const, Expr, Index, Load
from tjit.dtypes import DType, i64, iinfo
from tjit.ir.dims import Dim, Symbol, coefficient, lower_bound, upper_bound

__all__ = ["asked_sign", "in_lanes", "sign_along"]

# what the difference a - b of the operands is compared with, and whether that it is not less is what is asked
_COMPARISONS = {"ge": (0, True), "lt": (0, False), "gt": (1, True), "le": (1, False)}


def asked_sign(expr: Expr) -> tuple[Dim, bool] | None:
    """(d, holds) of a comparison of places that is true where d >= 0 is `holds`; None for other expressions."""
    if not isinstance(expr, Compute) or expr.op.name not in _COMPARISONS:
        return None
    a, b = (_place(o) for o in expr.operands)
    least, holds = _COMPARISONS[expr.op.name]
    return None if a is None or b is None else (a - b - least, holds)


def _place(expr: Expr) -> Dim | None:
    """The index expression that a number is; None: it is none, or not of all its values."""
    if isinstance(expr, Index):
        found: Dim | None = expr.value
    elif isinstance(expr, Const):
        found = expr.value if type(expr.value) is int else None
    else:
        found = _sum(expr) if isinstance(expr, Compute) and expr.op.name in ("add", "sub") else None
    return found if found is not None and _holds(expr.dtype, found) else None


def _sum(expr: Compute) -> Dim | None:
    a, b = (_place(o) for o in expr.operands)
    if a is None or b is None:
        return None
    return a + b if expr.op.name == "add" else a - b


def _holds(dtype: DType, place: Dim) -> bool:
    """Whether a place is the same number in `dtype`: beyond what that holds, it wraps or is rounded."""
    if dtype.kind != "int":
        return False
    high = upper_bound(place)
    in_range = high is not None and high <= iinfo(dtype).max and lower_bound(place) >= iinfo(dtype).min
    return dtype is i64 or in_range


def sign_along(expr: Expr, lane: Symbol) -> tuple[Dim, bool] | None:
    """`asked_sign` where the sign changes once along `lane`, by steps of one; None elsewhere."""
    asked = asked_sign(expr)
    return asked if asked is not None and coefficient(asked[0], lane) in (1, -1) else None


def in_lanes(roots: Iterable[Expr], lane: Symbol) -> list[Expr]:
    """What has to be computed for the roots, but for the places that are compared."""
    found: dict[int, Expr] = {}
    stack = [*roots]
    while stack:
        expr = stack.pop()
        if id(expr) in found:
            continue
        found[id(expr)] = expr
        if isinstance(expr, Compute) and sign_along(expr, lane) is None:
            stack += expr.operands
        elif isinstance(expr, Load):
            stack += (value for _, value, _ in expr.bindings)
    return list(found.values())
