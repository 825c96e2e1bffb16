"""Where buffers lie: one arena for all intermediates, reused as they die."""

from __future__ import annotations

from bisect import bisect_right, insort
from collections.abc import Collection, Iterator, Sequence
from heapq import heappop, heappush
from typing import overload

from tjit.dataclass import dataclass
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
    placed = _Placed()
    known = [(life.nbytes, i) for i, life in enumerate(lifetimes) if isinstance(life.nbytes, int)]
    most = 0
    for nbytes, i in sorted(known, key=lambda k: (-k[0], k[1])):
        life, size = lifetimes[i], aligned(nbytes)
        at = 0
        for start, stop in sorted(placed.beside(life)):
            if at + size <= start:
                break
            at = max(at, stop)
        offsets[i] = at
        placed.add(life, at, at + size)
        most = max(most, at + size)
    end: Dim = most
    free: dict[Dim, list[tuple[int, int]]] = {}  # by size: (last step, lifetime), the first to be free in front
    for i, life in enumerate(lifetimes):
        if isinstance(life.nbytes, int):
            continue
        size = aligned(life.nbytes)
        slots = free.setdefault(size, [])
        if slots and slots[0][0] < life.first:
            offsets[i] = offsets[heappop(slots)[1]]
        else:
            offsets[i] = end
            end = end + size
        heappush(slots, (life.last, i))
    return offsets, end


class _Placed:
    """What lies where when, found by the steps. Lifetimes of about the same length are kept together, sorted."""

    def __init__(self) -> None:
        self.by_length: dict[int, list[tuple[int, int, int, int]]] = {}  # (first, last, start, stop)

    def add(self, life: Lifetime, start: int, stop: int) -> None:
        same = self.by_length.setdefault((life.last - life.first).bit_length(), [])
        insort(same, (life.first, life.last, start, stop))

    def beside(self, life: Lifetime) -> Iterator[tuple[int, int]]:
        """(start, stop) of all that is needed at a step at which `life` is."""
        for bits, same in self.by_length.items():
            begin = bisect_right(same, (life.first - (1 << bits), life.first))  # shorter than that: gone by then
            end = bisect_right(same, (life.last + 1,))
            yield from (place[2:] for place in same[begin:end] if place[1] >= life.first)


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
