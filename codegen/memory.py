"""The memory of a schedule: temps in the arena by their lifetimes, and the others where the program allocates them."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tjit.codegen.buffers import Lifetime, largest, plan_arena
from tjit.codegen.launches import launches
from tjit.codegen.steps import Allocate, AnyStep, Placed, touched
from tjit.ir.dims import Dim

__all__ = ["plan_memory"]


def plan_memory(
    steps: Sequence[AnyStep], temps: Sequence[Placed], known: Collection[str]
) -> tuple[list[AnyStep], list[Placed], Dim]:
    """The steps with allocations between them, the temps that they touch, now placed, and the bytes of the arena.

    Args:
        known: the symbols that the arena's size may depend on.
    """
    steps = _allocated(steps, {p for p in temps if p.kind == "heap"})
    first: dict[Placed, int] = {}
    last: dict[Placed, int] = {}
    for n, launch in enumerate(launches(steps)):
        for placed in (p for step in launch for p in touched(step)):
            first.setdefault(placed, n)
            last[placed] = n
    touched_temps = [p for p in temps if p in first]
    live = [p for p in touched_temps if p.kind == "temp"]
    offsets, size = plan_arena([Lifetime(_bytes(p, known), first[p], last[p]) for p in live])
    for placed, offset in zip(live, offsets, strict=True):
        placed.offset = offset
    return steps, touched_temps, size


def _bytes(temp: Placed, known: Collection[str]) -> Dim:
    """The most that a temp in the arena holds."""
    size = largest(temp.type.nbytes, known)
    assert size is not None, temp
    return size


def _allocated(steps: Sequence[AnyStep], heap: set[Placed]) -> list[AnyStep]:
    """An allocation before the first step that touches a buffer on the heap."""
    result: list[AnyStep] = []
    for step in steps:
        new = [p for p in dict.fromkeys(touched(step)) if p in heap]
        heap.difference_update(new)
        result += [Allocate(p, step.location) for p in new]
        result.append(step)
    return result
