"""Asynchronous tasks: `fork` starts one, `wait` gives its result."""

from __future__ import annotations

import functools
from collections.abc import Callable
from concurrent.futures import Future as _Task
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Generic, TypeVar

from tjit.capture.calls import callee
from tjit.ops.apply import state

__all__ = ["Future", "fork", "wait"]

T = TypeVar("T")


class Future(Generic[T]):
    """The result of a task, perhaps still to come."""

    def __init__(self, task: _Task[T] | None = None, value: T | None = None) -> None:
        self._task = task
        self._value = value

    def wait(self) -> T:
        """The result, once it is there. What the task raised is raised."""
        return self._value if self._task is None else self._task.result()  # pyright: ignore[reportReturnType]

    def value(self) -> T:
        return self.wait()

    def done(self) -> bool:
        return self._task is None or self._task.done()


@functools.cache
def _pool() -> ThreadPoolExecutor:
    return ThreadPoolExecutor(thread_name_prefix="tjit.jit.fork")


def fork(func: Callable[..., Any], *args: Any, **kwargs: Any) -> Future[Any]:
    """Start `func(*args, **kwargs)` on another thread.

    While a function is captured the task becomes a part of its graph, which orders what depends on each other only.
    """
    if state.trace is not None:
        return Future(value=callee(func)(*args, **kwargs))
    recording = state.grad

    def task() -> Any:
        before, state.grad = state.grad, recording
        try:
            return func(*args, **kwargs)
        finally:
            state.grad = before

    return Future(_pool().submit(task))


def wait(future: Future[T]) -> T:
    """The result of a task."""
    return future.wait()
