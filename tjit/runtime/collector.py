"""Python's garbage collector rests while a program is built: graphs are many objects, of which little is garbage."""

from __future__ import annotations

import gc
import threading
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["paused_collection"]

_lock = threading.Lock()
_pauses = 0  # on all threads
_was_enabled = False
_aged = 0  # objects made by builds since old ones were collected
_MOST_AGED = 400_000  # a model's training step makes about a tenth


@contextmanager
def paused_collection() -> Iterator[None]:
    """Inside, no collection starts by itself. A tenth of the time of building goes into them otherwise."""
    _pause(1)
    try:
        yield
    finally:
        _pause(-1)


def _pause(more: int) -> None:
    global _pauses, _was_enabled
    with _lock:
        if _pauses == 0:
            _was_enabled = gc.isenabled()
            gc.disable()
        _pauses += more
        ends = _pauses == 0 and _was_enabled
        collects = ends and _age()
        if ends:
            gc.enable()
    if collects:  # not under the lock: finalizers may build
        gc.collect()


def _age() -> bool:
    """Make all objects old ones: the next collection of young ones would pass through all that a build made.

    That is 40 to 90 ms of a model's first call. Garbage among them waits for a collection of old ones; the result is
    whether there has to be one. What is frozen already is the user's and would not stay so.
    """
    global _aged
    if gc.get_freeze_count() == 0:
        _aged += gc.get_count()[0]
        gc.freeze()
        gc.unfreeze()
    if _aged <= _MOST_AGED:
        return False
    _aged = 0
    return True
