"""What goes on while a program is built: Python's garbage collector rests, and forks wait.

Graphs are many objects, of which little is garbage. And the child of a fork would never get the locks that other
threads hold while they build: LLVM's, and those of modules that are being imported.
"""

from __future__ import annotations

import gc
import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["hold_builds", "paused_collection", "release_builds"]

_lock = threading.RLock()  # a collection may begin under it, and a finalizer build
_pauses: dict[int, int] = {}  # of each thread that builds
_changed = threading.Condition(_lock)  # who builds, and who forks
_forking: set[int] = set()
_was_enabled = False
_aged = 0  # objects, so far
_MOST_AGED = 400_000  # a model's training step makes a fourth


@contextmanager
def paused_collection() -> Iterator[None]:
    """Inside, no collection starts by itself. A tenth of the time of building goes into them otherwise."""
    _pause(1)
    try:
        yield
    finally:
        _pause(-1)


def _pause(more: int) -> None:
    global _was_enabled
    thread = threading.get_ident()
    with _lock:
        if thread not in _pauses:
            _changed.wait_for(lambda: _forking <= {thread})
        if not _pauses:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses[thread] = _pauses.get(thread, 0) + more
        if _pauses[thread] == 0:
            del _pauses[thread]
            _changed.notify_all()
        if not _pauses and _was_enabled:
            _age()
            gc.enable()


def hold_builds(seconds: float) -> None:
    """Wait until no other thread builds, and let none begin before `release_builds`; at most for `seconds`.

    The time is for a thread that builds and waits for this one.
    """
    thread, end = threading.get_ident(), time.monotonic() + seconds
    if _lock.acquire(timeout=seconds):
        _forking.add(thread)
        _changed.wait_for(lambda: _pauses.keys() <= {thread}, end - time.monotonic())


def release_builds() -> None:
    """Let other threads build again."""
    if threading.get_ident() in _forking:
        _forking.discard(threading.get_ident())
        _changed.notify_all()
        _lock.release()


def _after_fork() -> None:
    """The thread that forked is the only one in the child; the others' builds do not end there."""
    _forking.clear()
    _lock._at_fork_reinit()  # pyright: ignore[reportAttributeAccessIssue]  # what threading does for its own locks
    others = [thread for thread in _pauses if thread != threading.get_ident()]
    for thread in others:
        del _pauses[thread]
    if others and not _pauses and _was_enabled:
        gc.enable()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


def _age() -> None:
    """Make all objects old ones, in the first builds of a process: the next collection would pass through them all.

    That is 40 to 90 ms of a model's first call. Garbage among them waits for a collection of old ones, which comes
    less often for it: so the number is bounded. What is frozen already is the user's and would not stay so.
    """
    global _aged
    if _aged < _MOST_AGED and gc.get_freeze_count() == 0:
        _aged += gc.get_count()[0]
        gc.freeze()
        gc.unfreeze()
