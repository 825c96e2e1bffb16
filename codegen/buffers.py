"""Where buffers lie: one arena for all intermediates, reused as they die."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import overload

from tjit.ir.dims import Call, Dim, DimExpr, Symbol, is_constant, lower_bound, maximum, minimum, product, symbols

__all__ = ["Lifetime", "largest", "plan_arena"]

_ALIGNMENT = 64


@dataclass
class Lifetime:
    """Bytes needed from the first to the last step (inclusive) that touch them."""

    nbytes: Dim
    first: int
    last: int


@overload
def aligned(nbytes: int) -> int: ...
@overload
def aligned(nbytes: Dim) -> Dim: ...
def aligned(nbytes: Dim) -> Dim:
    return (nbytes + (_ALIGNMENT - 1)) // _ALIGNMENT * _ALIGNMENT


def plan_arena(lifetimes: Sequence[Lifetime]) -> tuple[list[Dim], Dim]:
    """An offset for each lifetime, and the size of the arena.

    Sizes known now are placed first fit, largest first; symbolic ones follow, each in memory of its own unless one of
    equal size is free.
    """
    offsets: list[Dim] = [0] * len(lifetimes)
    placed: list[tuple[int, int, Lifetime]] = []
    known = [(life.nbytes, i) for i, life in enumerate(lifetimes) if isinstance(life.nbytes, int)]
    for nbytes, i in sorted(known, key=lambda k: (-k[0], k[1])):
        life, size = lifetimes[i], aligned(nbytes)
        at = 0
        for start, end, _ in sorted((p for p in placed if _overlap(p[2], life)), key=lambda p: p[0]):
            if at + size <= start:
                break
            at = max(at, end)
        offsets[i] = at
        placed.append((at, at + size, life))
    end: Dim = max((e for _, e, _ in placed), default=0)
    free: list[tuple[Dim, Dim, int]] = []  # (size, offset, last step)
    for i in (i for i, life in enumerate(lifetimes) if not isinstance(life.nbytes, int)):
        life, size = lifetimes[i], aligned(lifetimes[i].nbytes)
        for slot, (s, offset, last) in enumerate(free):
            if s == size and last < life.first:
                offsets[i] = offset
                free[slot] = (s, offset, life.last)
                break
        else:
            offsets[i] = end
            free.append((size, end, life.last))
            end = end + size
    return offsets, end


def _overlap(a: Lifetime, b: Lifetime) -> bool:
    return a.first <= b.last and b.first <= a.last


def largest(d: Dim, known: Collection[str]) -> Dim | None:
    """A size, not negative, of the symbols `known` alone that `d` never exceeds; None where a symbol has no bound.

    Each other symbol takes the end of its range that makes `d` largest.
    """
    unknown = [s for s in symbols(d) if s.name not in known]
    if not unknown:
        return d
    top = _extreme(d, known, upper=True)
    return None if top is None else maximum(top, 0)


def _extreme(d: Dim, known: Collection[str], *, upper: bool) -> Dim | None:
    """A bound of `d`, which need not be the least: each term is bounded for itself."""
    if is_constant(d) or not any(s.name not in known for s in symbols(d)):
        return d
    assert isinstance(d, DimExpr)
    total: Dim = 0
    for monomial, c in d.terms.items():
        ends = [_end(atom, known, upper=upper == (c > 0)) for atom in monomial]
        if any(end is None for end in ends):
            return None
        total = total + c * product(end for end in ends if end is not None)
    return total


def _end(atom: Symbol | Call, known: Collection[str], *, upper: bool) -> Dim | None:
    """The bound of one factor. Factors are not negative where they count: sizes and positions."""
    if isinstance(atom, Symbol):
        if atom.name in known:
            return atom.dim
        bound = atom.maximum if upper else atom.minimum
        return None if bound is None else _extreme(bound, known, upper=upper)
    a = _extreme(atom.a, known, upper=upper)
    b = _extreme(atom.b, known, upper=upper)
    if atom.name in ("min", "max"):
        ends = [end for end in (a, b) if end is not None]
        if len(ends) == 2:
            return (minimum if atom.name == "min" else maximum)(*ends)
        return ends[0] if ends and upper == (atom.name == "min") else None
    divisor = _extreme(atom.b, known, upper=not upper)
    if atom.name == "//":
        if divisor is None or lower_bound(divisor) < 1:
            return a if upper else 0
        return None if a is None else a // divisor
    return 0 if not upper else None if b is None else b - 1
