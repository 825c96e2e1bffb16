"""What a profile recorded, summed up by kernel and by op, and printed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any

from tjit.dataclass import dataclass
from tjit.errors import ArgumentError
from tjit.ir.dims import Dim, evaluate
from tjit.location import user_location
from tjit.profiler.machine import Limits, measure
from tjit.recording import Event, Recorder, Run
from tjit.runtime.threads import get_num_threads

__all__ = ["Average", "averages", "kernel_events", "machine_limits", "print_table"]


@dataclass
class Average:
    """One kernel of one program, or one eager op at one line, summed over its calls.

    Attributes:
        kind: "kernel", "op" or "range".
        program: the compiled function that the kernel belongs to, "" for ops and ranges.
        line: the user's, as `model.py:7`.
        ns: of all calls.
        bytes, operations: of all calls; None where the sizes are known only inside the program.
        itemsize: of the numbers that it computes with.
    """

    name: str
    kind: str
    program: str
    line: str
    calls: int = 0
    ns: int = 0
    bytes: int | None = 0
    operations: int | None = 0
    itemsize: int = 4

    @property
    def mean_us(self) -> float:
        return self.ns / max(1, self.calls) / 1e3

    @property
    def gigabytes_per_second(self) -> float | None:
        return self.bytes / self.ns if self.bytes and self.ns else None

    @property
    def gigaflops(self) -> float | None:
        return self.operations / self.ns if self.operations and self.ns else None

    def floor_ns(self, limits: Limits) -> float | None:
        """What the machine needs at least for all calls, if every byte comes from memory."""
        if self.bytes is None or self.operations is None:
            return None
        peak = limits.peak * 4 / max(4, self.itemsize)
        return max(self.bytes / limits.triad, self.operations / peak)

    def share(self, limits: Limits) -> float | None:
        """The floor over the time: 1 is all that the machine gives. More is possible for what lies in a cache."""
        floor = self.floor_ns(limits)
        return floor / self.ns if floor and self.ns else None

    def _add(self, calls: int, ns: int, moved: int | None, computed: int | None) -> None:
        """Count calls, all of them with these bytes and operations."""
        self.calls += calls
        self.ns += ns
        self.bytes = None if self.bytes is None or moved is None else self.bytes + calls * moved
        self.operations = None if self.operations is None or computed is None else self.operations + calls * computed


def _known(d: Dim, symbols: dict[str, int]) -> int | None:
    try:
        return evaluate(d, symbols)
    except ArgumentError:
        return None


def kernel_events(run: Run) -> list[Event]:
    """The kernels of one run of a program."""
    sizes = [(_known(w.bytes, run.symbols), _known(w.operations, run.symbols)) for w in run.works]
    return [
        Event(w.name, "kernel", start, end, run.thread, w.location, *sizes[step], w.itemsize)
        for step, start, end in run.events
        for w in (run.works[step],)
    ]


def averages(recorder: Recorder) -> list[Average]:
    """Longest first."""
    found: dict[tuple[str, str, str, str], Average] = {}

    def of(name: str, kind: str, program: str, line: str) -> Average:
        return found.setdefault((name, kind, program, line), Average(name, kind, program, line))

    for run in recorder.runs:
        for work, (calls, ns) in zip(run.works, run.counters, strict=True):
            if calls:
                line = of(work.name, "kernel", run.name, work.location.short if work.location else "")
                line.itemsize = work.itemsize
                line._add(calls, ns, _known(work.bytes, run.symbols), _known(work.operations, run.symbols))
    for e in recorder.events:
        line = of(e.name, e.kind, "", e.location.short if e.location else "")
        line.itemsize = e.itemsize
        line._add(1, e.end - e.start, e.bytes, e.operations)
    return sorted(found.values(), key=lambda a: -a.ns)


@cache
def machine_limits() -> Limits:
    """Of this machine, with as many threads as programs use."""
    return measure(get_num_threads())


# -- printing ----------------------------------------------------------------------------------------------------------

_HEADINGS = ("kernel or op", "calls", "total ms", "time", "mean us", "GB/s", "GFLOP/s", "of limit", "line")


def _orders(limits: Limits) -> dict[str, Callable[[Average], Any]]:
    return {
        "total": lambda a: -a.ns,
        "mean": lambda a: -a.mean_us,
        "calls": lambda a: -a.calls,
        "bytes": lambda a: -(a.bytes or 0),
        "share": lambda a: a.share(limits) or 0.0,
        "name": lambda a: a.name,
    }


def print_table(
    recorder: Recorder, lines: Sequence[Average], seconds: float, sort_by: str, row_limit: int, limits: Limits
) -> str:
    """The table, where the time went in all, and the limits that it reckons with."""
    orders = _orders(limits)
    if sort_by not in orders:
        raise ArgumentError(f"no order {sort_by!r}", user_location(), hint=f"one of {', '.join(orders)}")
    ordered = sorted(lines, key=orders[sort_by])
    shown = ordered if row_limit < 0 else ordered[:row_limit]
    cells = [_HEADINGS, *(_cells(a, seconds, limits) for a in shown)]
    widths = [max(len(row[i]) for row in cells) for i in range(len(_HEADINGS))]
    text = ["  ".join(_padded(row[i], widths[i], i) for i in range(len(row))).rstrip() for row in cells]
    text.insert(1, "-" * max(map(len, text)))
    if len(shown) < len(ordered):
        text.append(f"and {len(ordered) - len(shown)} more")
    return "\n".join([*text, "", *_summary(recorder, lines, seconds), _limits(limits)])


def _padded(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column in (0, len(_HEADINGS) - 1) else cell.rjust(width)


def _cells(a: Average, seconds: float, limits: Limits) -> tuple[str, ...]:
    share = a.share(limits)
    return (
        a.name,
        f"{a.calls:,}",
        f"{a.ns / 1e6:.3f}",
        f"{a.ns / seconds / 1e7:.1f} %" if seconds else "-",
        f"{a.mean_us:,.1f}",
        _number(a.gigabytes_per_second),
        _number(a.gigaflops),
        "-" if share is None else f"{100 * share:.0f} %",
        f"{a.line} {a.program}".strip(),
    )


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _summary(recorder: Recorder, lines: Iterable[Average], seconds: float) -> list[str]:
    kernels, ops = (sum(a.ns for a in lines if a.kind == kind) / 1e6 for kind in ("kernel", "op"))
    programs = sum(run.end - run.start for run in recorder.runs) / 1e6
    rest = max(0.0, seconds * 1e3 - programs - ops)
    around = max(0.0, programs - kernels)
    text = (
        f"{seconds * 1e3:.3f} ms in all: {kernels:.3f} in kernels, {around:.3f} in programs around them, "
        f"{ops:.3f} in eager ops, {rest:.3f} elsewhere"
    )
    lost = sum(sum(calls for calls, _ in run.counters) - len(run.events) for run in recorder.runs)
    return [text] + (
        [f"{lost:,} kernel runs are counted here, but are not in the trace: its log was full"] if lost else []
    )


def _limits(limits: Limits) -> str:
    return f"limits measured: {limits.triad:.1f} GB/s, {limits.peak:.0f} GFLOP/s of f32"
