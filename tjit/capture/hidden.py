"""Python objects that a captured loop or branch would change unseen: by methods, in attributes, in closures.

The variables of a statement are known to the node that it becomes; what helpers and methods change behind them is not.
A node's body is captured once, so such a change would be made once and its value baked in. It is undone and refused:
loops whose trips are known then run in Python, trip by trip.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator
from types import CellType, FunctionType, MethodType, ModuleType
from typing import Any

import numpy as np

from tjit.capture.state import State
from tjit.capture.trace import Trace
from tjit.capture.variables import contents, set_contents
from tjit.errors import CaptureError
from tjit.ir.dims import DimExpr
from tjit.location import is_users, user_location
from tjit.ops.apply import state as active
from tjit.tensor import Tensor

__all__ = ["apart", "watched"]

_MOST = 2000  # objects that are looked at
_PLAIN = (Tensor, np.ndarray, np.generic, DimExpr, str, bytes, int, float, complex, type(None), type, ModuleType, range)
_GENERATORS = ("random", "numpy.random._generator", "numpy.random.mtrand")


def watched(run: Callable[..., Any], state: State, *, carried: bool = True) -> Callable[..., Any]:
    """`run`, a part of a statement with the variables `state`, which refuses unseen changes while it is captured.

    Args:
        carried: whether the node carries what the variables hold.

    Raises:
        CaptureError: when called to be captured as a region: it changes what the node does not carry.
    """
    trace = active.trace
    if not isinstance(trace, Trace):
        return run
    scope = trace.scope

    def call(*args: Any) -> Any:
        if trace.scope is scope:  # Python runs it
            return run(*args)
        watch = _Watch(state, carried)
        try:
            result = run(*args)
        except BaseException:
            watch.undo()
            raise
        changed = watch.changed()
        if changed is not None:
            watch.undo()
            raise _refusal(f"{changed} is changed")
        return result

    return call


def apart(run: Callable[[], Any], state: State) -> Callable[[], Any]:
    """`run`, which evaluates a part of an expression and changes no variable of `state` while it is captured.

    Raises:
        CaptureError: when called to be captured as a region: it does.
    """

    def call() -> Any:
        before = state.get()
        result = run()
        now = state.get()
        for name, a, b in zip(state.names[: state.assigned], before, now, strict=False):
            if a is not b:
                state.set(before)
                raise _refusal(f"{name} is changed")
        return result

    trace = active.trace
    if not isinstance(trace, Trace):
        return run
    scope, inside = trace.scope, watched(call, state, carried=False)
    return lambda: run() if trace.scope is scope else inside()


def _refusal(what: str) -> CaptureError:
    return CaptureError(
        f"{what} behind the variables of a loop or branch that depends on tensors",
        user_location(),
        hint="assign it in the function itself, or return the new value and assign that",
    )


class _Watch:
    """The objects that can be reached from the variables of a statement, and what they hold."""

    def __init__(self, state: State, carried: bool) -> None:
        values = state.get()
        self.covered = {id(v) for v in values if carried and isinstance(v, (list, dict))}
        self.names = set(state.names[: state.assigned]) if carried else set()
        self.seen: set[int] = set()
        self.held: list[tuple[Any, Any, str]] = []  # an object, what it held, what it is called
        self._queue = deque(zip(values, state.names, strict=True))
        while self._queue and len(self.seen) < _MOST:
            value, name = self._queue.popleft()
            if not isinstance(value, _PLAIN) and id(value) not in self.seen:
                self.seen.add(id(value))
                self._look(value, name)

    def _look(self, value: Any, name: str) -> None:
        if isinstance(value, Iterator) or type(value).__module__ in _GENERATORS:
            raise _refusal(f"{name}, a {type(value).__name__}, may go on")
        if _is_container(value):
            if id(value) not in self.covered:
                self.held.append((value, value.copy(), name))
            self._follow(value, name)
        elif isinstance(value, (tuple, frozenset)):
            self._follow(value, name)
        elif isinstance(value, FunctionType):
            self._function(value, name)
        elif isinstance(value, MethodType):
            self._queue += [(value.__self__, name), (value.__func__, name)]
        elif isinstance(value, functools.partial):
            self._queue += [(value.func, name), (value.args, name), (value.keywords, name)]
        elif isinstance(getattr(value, "__dict__", None), dict) and not _is_own(type(value)):
            self.held.append((value, dict(vars(value)), name))
            self._queue += [(v, f"{name}.{k}") for k, v in vars(value).items()]

    def _follow(self, container: Any, name: str) -> None:
        """What is in a container; containers in one that is covered are covered as well."""
        items = list(container.values()) if isinstance(container, dict) else list(container)
        if id(container) in self.covered:
            self.covered |= {id(v) for v in items if isinstance(v, (list, dict))}
        self._queue += [(v, f"{name}[{i}]") for i, v in enumerate(items) if not isinstance(v, _PLAIN)]

    def _function(self, function: FunctionType, name: str) -> None:
        """The closure of a function of the user's, and globals that it names and that are no functions or classes."""
        code = function.__code__
        if not is_users(code.co_filename):
            return
        for variable, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
            if variable.startswith("_tjit_"):
                continue
            if variable not in self.names:
                self.held.append((cell, contents(cell), variable))
            self._queue.append((contents(cell), variable))
        for variable in code.co_names:
            value = function.__globals__.get(variable)
            if isinstance(value, FunctionType) or not callable(value):
                self._queue.append((value, variable))

    def changed(self) -> str | None:
        """What of it no longer holds what it held."""
        for value, before, name in self.held:
            if isinstance(value, CellType):
                if contents(value) is not before:
                    return name
            elif _is_container(value):
                if not _same(value, before):
                    return name
            elif (key := self._attribute(value, before, name)) is not None:
                return key
        return None

    def _attribute(self, value: Any, before: dict[str, Any], name: str) -> str | None:
        """An attribute that changed and is no variable of the statement."""
        now = vars(value)
        for key in {**before, **now}:
            path = f"{name}.{key}"
            if now.get(key, self) is not before.get(key, self) and path not in self.names:
                return path
        return None

    def undo(self) -> None:
        """Have all hold again what it held."""
        for value, before, _ in self.held:
            if isinstance(value, CellType):
                set_contents(value, before)
            elif _is_container(value):
                value.clear()
                (value.update if isinstance(value, (dict, set)) else value.extend)(before)
            else:
                vars(value).clear()
                vars(value).update(before)


def _is_container(value: Any) -> bool:
    return type(value) in (list, deque, bytearray) or isinstance(value, (dict, set))


def _is_own(kind: type) -> bool:
    """Whether objects of a class of tjit's have nothing that a loop's body changes for Python to see."""
    return kind.__module__.startswith("tjit.") and not kind.__module__.startswith(("tjit.nn", "tjit.optim"))


def _same(now: Any, before: Any) -> bool:
    """Whether a container holds the same objects."""
    if len(now) != len(before):
        return False
    if isinstance(now, dict):
        return all(k in before and before[k] is v for k, v in now.items())
    if isinstance(now, set):
        return now == before
    return all(a is b for a, b in zip(now, before, strict=True))
