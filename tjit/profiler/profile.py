"""The profile: a context manager that has everything recorded, and what can be asked of it afterwards."""

from __future__ import annotations

import json
import os
import time
from types import TracebackType
from typing import Any

from tjit import recording
from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.profiler.machine import Limits
from tjit.profiler.table import Average, averages, kernel_events, machine_limits, print_table
from tjit.profiler.trace import trace_events
from tjit.recording import Event, Recorder
from tjit.runtime.entry import forget_threads

__all__ = ["profile", "record_function"]


class profile:
    """Records eager ops, compiled programs and each of their kernels, on all threads, from `with` to its end.

    While a profile is open, compiled functions run programs that note when kernels start and end. These are built when
    a function is first called in a profile, from the same kernels; the note of a kernel costs about 50 ns, and calls go
    through Python instead of the native entry. Nothing of it is in the programs that run outside of a profile.

        with tjit.profiler.profile() as prof:
            step(x, y)
        print(prof.table())
        prof.export_chrome_trace("trace.json")

    Raises:
        ArgumentError: a profile is open already.
    """

    def __init__(self) -> None:
        self._recorder = Recorder()
        self._start = self._end = 0

    def __enter__(self) -> profile:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """Begin to record; what was recorded before is dropped."""
        if recording.active is not None:
            raise ArgumentError("a profile is open already", user_location(), hint="leave the first one, or stop() it")
        self._recorder = Recorder()
        recording.active = self._recorder
        forget_threads()
        self._start = time.perf_counter_ns()

    def stop(self) -> None:
        """End the recording."""
        if recording.active is self._recorder:
            self._end = time.perf_counter_ns()
            recording.active = None

    def events(self) -> list[Event]:
        """Everything that was recorded, by the time at which it began."""
        runs = self._recorder.runs
        programs = [Event(r.name, "program", r.start, r.end, r.thread) for r in runs]
        kernels = [event for run in runs for event in kernel_events(run)]
        return sorted([*self._recorder.events, *programs, *kernels], key=lambda e: (e.start, -e.end))

    def key_averages(self) -> list[Average]:
        """A line for each kernel of each program and for each eager op at each line of the user's, longest first."""
        return averages(self._recorder)

    def table(self, sort_by: str = "total", row_limit: int = 40, limits: Limits | None = None) -> str:
        """The kernels and ops as text, with what share of the machine's limits each reached.

        Args:
            sort_by: "total", "mean", "calls", "bytes", "share" (the worst first) or "name".
            row_limit: how many lines at most; below 0: all.
            limits: of the machine; measured when first needed, in half a second.

        Raises:
            ArgumentError: no such order.
        """
        seconds = (max(self._end, self._start) - self._start) / 1e9
        found = limits or machine_limits()
        return print_table(self._recorder, self.key_averages(), seconds, sort_by, row_limit, found)

    def export_chrome_trace(self, path: str | os.PathLike[str]) -> None:
        """Write the trace in the JSON format that Perfetto (ui.perfetto.dev) and Chrome (about:tracing) open."""
        with open(path, "w", encoding="utf-8") as file:
            json.dump(trace_events(self.events(), self._start), file)


class record_function:
    """Names what happens inside, for the trace: `with tjit.profiler.record_function("forward"): ...`"""

    def __init__(self, name: str) -> None:
        self.name = name
        self._start = 0

    def __enter__(self) -> record_function:
        self._start = time.perf_counter_ns()
        return self

    def __exit__(self, *_: Any) -> None:
        recorder = recording.active
        if recorder is not None:
            recorder.range(self.name, self._start)
