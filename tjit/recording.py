"""What a profile records while it is open: eager ops, runs of compiled programs, and the user's own ranges.

`active` is None but while a profile is open; whoever does something worth recording looks there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import field
from typing import Any

from tjit.dataclass import dataclass
from tjit.location import Location, user_location

__all__ = ["Event", "Recorder", "Run", "Work"]


@dataclass(frozen=True)
class Work:
    """What one kernel step of a program does, in one run of it.

    Attributes:
        bytes: that it moves, each buffer counted once; operations: scalar ones. Expressions of the program's symbols.
        itemsize: of the numbers that it computes with.
    """

    name: str
    bytes: Any
    operations: Any
    itemsize: int
    location: Location | None


@dataclass(frozen=True)
class Event:
    """Something that took from `start` to `end`, in nanoseconds of `time.perf_counter_ns`, on one thread.

    Attributes:
        kind: "op" (eager), "program" (a compiled function's machine code), "kernel" (inside one) or "range" (what the
            user named, and the making of programs).
        bytes, operations: what it moved and computed, None where that is not known.
        itemsize: of the numbers that it computed with.
    """

    name: str
    kind: str
    start: int
    end: int
    thread: int
    location: Location | None = None
    bytes: int | None = None
    operations: int | None = None
    itemsize: int = 4


@dataclass(frozen=True)
class Run:
    """One run of a program.

    Attributes:
        works: its kernel steps.
        symbols: the values of the program's symbols.
        counters: (calls, nanoseconds) of each step.
        events: (step, start, end) of kernels that ran, in order; fewer than `counters` say where a log was full.
    """

    name: str
    works: tuple[Work, ...]
    symbols: dict[str, int]
    start: int
    end: int
    thread: int
    counters: list[list[int]]
    events: list[list[int]]


@dataclass
class Recorder:
    """What happened while a profile was open."""

    events: list[Event] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)

    def op(self, run: Callable[..., tuple[Any, ...]], op: Any, operands: tuple[Any, ...], attrs: dict[str, Any]) -> Any:
        """`run(op, operands, attrs)`, recorded."""
        start = time.perf_counter_ns()
        results = run(op, operands, attrs)
        end = time.perf_counter_ns()
        sizes = [x for x in (*operands, *results) if hasattr(x, "_data")]
        moved = 0 if op.view else sum(x._data.nbytes for x in sizes)
        where = user_location()
        self.events.append(
            Event(
                op.name,
                "op",
                start,
                end,
                threading.get_ident(),
                where,
                moved,
                _operations(op, operands, results),
                results[0]._data.itemsize,
            )
        )
        return results

    def range(self, name: str, start: int) -> None:
        """Something that began at `start` and ends now."""
        end = time.perf_counter_ns()
        self.events.append(Event(name, "range", start, end, threading.get_ident(), user_location()))

    def copy(self, target: Any, source: Any) -> None:
        """`target[...] = source`, of two arrays, recorded."""
        start = time.perf_counter_ns()
        target[...] = source
        end = time.perf_counter_ns()
        moved, where = target.nbytes + source.nbytes, user_location()
        self.events.append(Event("copy_", "op", start, end, threading.get_ident(), where, moved, 0, target.itemsize))


def _operations(op: Any, operands: tuple[Any, ...], results: tuple[Any, ...]) -> int | None:
    """Scalar operations of an op of an elementary kind: an element's body is one, a multiply-add two."""
    if op.kind in ("movement", "create", "index"):
        return 0
    if op.kind == "elementwise":
        return results[0]._data.size
    if op.kind == "reduce":
        return operands[0]._data.size
    if op.name in ("dot", "matmul", "linear"):
        return 2 * results[0]._data.size * operands[0]._data.shape[-1]
    return None


active: Recorder | None = None
