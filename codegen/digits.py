"""An axis as digits: where an index uses n // 56 and n % 56, the lanes run along the lowest digit of n.

In a run of the axis in which the higher digits stay as they are, such an index is affine again. That is how the window
of a convolution is read with whole vectors.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from itertools import pairwise

from tjit.codegen.kernel import Compute, Expr, Index, Load, walk
from tjit.dataclass import dataclass
from tjit.ir.dims import Call, Dim, DimExpr, Symbol, substitute, symbols

__all__ = ["Digits", "digits_of", "expression_dims", "split_digits", "substitute_symbol"]


@dataclass(frozen=True, slots=True)
class Digits:
    """axis = lowest + radices[0]*higher[0] + radices[1]*higher[1] + ...; each radix divides the next.

    Attributes:
        value: that sum; the axis itself where there are no radices.
        lowest: its symbol for the lanes.
    """

    value: Dim
    lowest: Symbol
    higher: tuple[Symbol, ...]
    radices: tuple[int, ...]


def split_digits(axis: Symbol, *exprs: Expr) -> Digits:
    """The digits of `axis` by the numbers that index expressions of `exprs` divide it by."""
    radices = sorted({n for expr in exprs for d in expression_dims(expr) for n in _divisors(d, axis)})
    return digits_of(axis, () if any(big % small for small, big in pairwise(radices)) else radices)


def digits_of(axis: Symbol, radices: Sequence[int]) -> Digits:
    """The digits of `axis` by rising `radices`."""
    if not radices:
        return Digits(axis.dim, axis, (), ())
    lowest = Symbol(f"{axis.name}.0", 0, radices[0] - 1)
    tops = [big // small - 1 for small, big in pairwise(radices)]
    higher = tuple(Symbol(f"{axis.name}.{i + 1}", 0, top) for i, top in enumerate([*tops, None]))
    value: Dim = lowest.dim
    for symbol, radix in zip(higher, radices, strict=True):
        value = value + symbol.dim * radix
    return Digits(value, lowest, higher, tuple(radices))


def substitute_symbol(expr: Expr, symbol: Symbol, value: Dim) -> Expr:
    """`expr` with a symbol of its index expressions replaced."""
    if value == symbol.dim:
        return expr
    known: dict[int, Expr] = {}

    def dim(d: Dim) -> Dim:
        return substitute(d, {symbol: value})

    def visit(e: Expr) -> Expr:
        if id(e) not in known:
            known[id(e)] = rebuilt(e)
        return known[id(e)]

    def rebuilt(e: Expr) -> Expr:
        if isinstance(e, Compute):
            return replace(e, operands=tuple(map(visit, e.operands)))
        if isinstance(e, Index):
            return replace(e, value=dim(e.value))
        if isinstance(e, Load):
            bindings = tuple((s, visit(v), dim(extent)) for s, v, extent in e.bindings)
            conditions = tuple((dim(x), dim(extent)) for x, extent in e.conditions)
            return replace(e, index=tuple(map(dim, e.index)), bindings=bindings, conditions=conditions)
        return e

    return visit(expr)


def expression_dims(expr: Expr) -> Iterator[Dim]:
    """The index expressions of `expr`."""
    for e in walk(expr):
        if isinstance(e, Load):
            yield from (*e.index, *(x for x, _ in e.conditions))
        elif isinstance(e, Index):
            yield e.value


def _divisors(d: Dim, axis: Symbol) -> Iterator[int]:
    """The constants that terms with `axis` are divided by, at any depth."""
    if not isinstance(d, DimExpr) or axis not in symbols(d):
        return
    for monomial in d.terms:
        for atom in monomial:
            if isinstance(atom, Call):
                yield from _divisors(atom.a, axis)
                yield from _divisors(atom.b, axis)
                if atom.name in ("//", "%") and isinstance(atom.b, int) and axis in symbols(atom.a):
                    yield atom.b * _scale(atom.a, axis)


def _scale(d: Dim, axis: Symbol) -> int:
    """What the quotient that is divided again was divided by: 56 for (n // 56) % 3; 1 for n itself."""
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        ((monomial, c),) = d.terms.items()
        if c == 1 and len(monomial) == 1 and isinstance(monomial[0], Call):
            call = monomial[0]
            if call.name == "//" and isinstance(call.b, int) and axis in symbols(call.a):
                return call.b * _scale(call.a, axis)
    return 1
