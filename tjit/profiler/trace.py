"""Events in the Trace Event Format: complete events ("X") in microseconds, with the names of process and threads."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from tjit.recording import Event

__all__ = ["trace_events"]


def trace_events(events: Sequence[Event], start: int) -> dict[str, Any]:
    """The trace as an object for `json`; times count from `start`, in nanoseconds."""
    pid = os.getpid()
    threads = {thread: n for n, thread in enumerate(dict.fromkeys(e.thread for e in events))}
    names = [_metadata("process_name", pid, 0, "tjit")]
    names += [_metadata("thread_name", pid, n, f"thread {n}") for n in threads.values()]
    complete = [
        {
            "name": e.name,
            "cat": e.kind,
            "ph": "X",
            "ts": (e.start - start) / 1e3,
            "dur": (e.end - e.start) / 1e3,
            "pid": pid,
            "tid": threads[e.thread],
            "args": _arguments(e),
        }
        for e in events
    ]
    return {"traceEvents": [*names, *complete], "displayTimeUnit": "ns"}


def _metadata(name: str, pid: int, tid: int, value: str) -> dict[str, Any]:
    return {"name": name, "ph": "M", "pid": pid, "tid": tid, "args": {"name": value}}


def _arguments(event: Event) -> dict[str, Any]:
    found = {
        "line": event.location.short if event.location else None,
        "bytes": event.bytes,
        "operations": event.operations,
    }
    return {name: value for name, value in found.items() if value is not None}
