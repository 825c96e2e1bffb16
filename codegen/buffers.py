"""Where buffers lie: one arena for all intermediates, reused as they die."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import overload

from tjit.ir.dims import Dim

__all__ = ["Lifetime", "plan_arena"]

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
