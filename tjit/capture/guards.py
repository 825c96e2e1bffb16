"""Guards: the Python values a function can see while it is captured, and whether they are still the same.

What a function can see is found from its code: the globals and closure variables that it names, and, for modules, optimizers and
plain objects among them, what their attributes hold. Functions it names are followed. The snapshot is taken before capture, so a
value that capture itself changes makes the next call capture again.
"""

from __future__ import annotations

import types
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tjit.devices import Device
from tjit.dtypes import DType
from tjit.tensor import Tensor

__all__ = ["Guards", "take_guards"]

_MISSING = object()
_SIMPLE = (int, float, complex, str, bytes, bool, type(None), DType, Device, slice, range, np.generic)
_LIBRARIES = ("tjit", "numpy", "math", "torch", "jax", "builtins", "typing", "functools", "itertools", "operator", "collections")
_MOST = 20_000


@dataclass
class _Slot:
    """One place that holds a value: `holder[key]`, and how the user would call it."""

    holder: Any
    key: Any
    expected: Any
    path: str

    def now(self) -> Any:
        holder = self.holder
        if isinstance(holder, dict):
            return holder.get(self.key, _MISSING)
        if type(holder) is types.CellType:
            try:
                return holder.cell_contents
            except ValueError:
                return _MISSING
        if isinstance(holder, list):
            return holder[self.key] if self.key < len(holder) else _MISSING
        return getattr(holder, self.key, _MISSING)


@dataclass
class Guards:
    """Slots whose values must be what they were, and containers that must have kept their size."""

    slots: list[_Slot] = field(default_factory=list)
    sizes: list[tuple[Any, int, str]] = field(default_factory=list)
    _dicts: list[tuple[dict, Any, Any]] = field(default_factory=list)
    _others: list[_Slot] = field(default_factory=list)

    def seal(self) -> Guards:
        """Sort the slots by how they are checked."""
        self._dicts = [(s.holder, s.key, s.expected) for s in self.slots if isinstance(s.holder, dict)]
        self._others = [s for s in self.slots if not isinstance(s.holder, dict)]
        return self

    def hold(self) -> bool:
        """Whether everything is as it was."""
        for holder, key, expected in self._dicts:
            now = holder.get(key, _MISSING)
            if now is not expected and not _same(now, expected):
                return False
        for slot in self._others:
            now = slot.now()
            if now is not slot.expected and not _same(now, slot.expected):
                return False
        return all(len(container) == size for container, size, _ in self.sizes)

    def reason(self) -> str | None:
        """What changed, in words; None where nothing did."""
        for slot in self.slots:
            now = slot.now()
            if now is not slot.expected and not _same(now, slot.expected):
                return f"{slot.path} was {_shown(slot.expected)} and is {_shown(now)}"
        for container, size, path in self.sizes:
            if len(container) != size:
                return f"{path} had {size} entries and has {len(container)}"
        return None

    def forget(self, holder: Any, key: Any) -> None:
        """Do not guard `holder[key]`: it was lifted to an input."""
        self.slots = [s for s in self.slots if not (s.holder is holder and s.key == key)]


def _same(now: Any, expected: Any) -> bool:
    if type(now) is not type(expected) or not isinstance(now, _SIMPLE):
        return False
    return bool(now == expected) or (now != now and expected != expected)


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    return repr(value) if isinstance(value, _SIMPLE) else f"a {type(value).__name__}"


def take_guards(fn: Callable[..., Any]) -> Guards:
    """Guards on everything that `fn` can see."""
    taker = _Taker()
    taker.function(fn, "")
    return taker.guards.seal()


class _Taker:
    def __init__(self) -> None:
        self.guards = Guards()
        self.seen: set[int] = set()
        self.kept: list[Any] = []  # ids in `seen` stay valid

    def _first_time(self, value: Any) -> bool:
        if id(value) in self.seen or len(self.guards.slots) > _MOST:
            return False
        self.seen.add(id(value))
        self.kept.append(value)
        return True

    def slot(self, holder: Any, key: Any, value: Any, path: str, names: frozenset[str]) -> None:
        self.guards.slots.append(_Slot(holder, key, value, path))
        self.value(value, path, names)

    def value(self, value: Any, path: str, names: frozenset[str]) -> None:
        """Guard what `value` holds, beyond its identity."""
        if isinstance(value, (*_SIMPLE, Tensor, np.ndarray, type)) or not self._first_time(value):
            return
        if isinstance(value, types.ModuleType):
            self._python_module(value, path, names)
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            self.function(value, path)
        elif isinstance(value, list):
            self.guards.sizes.append((value, len(value), path))
            for i, v in enumerate(value):
                self.slot(value, i, v, f"{path}[{i}]", names)
        elif isinstance(value, dict):
            self.guards.sizes.append((value, len(value), path))
            for k, v in value.items():
                self.slot(value, k, v, f"{path}[{_shown(k)}]", names)
        elif isinstance(value, (tuple, frozenset)):
            for i, v in enumerate(value):
                self.value(v, f"{path}[{i}]", names)
        elif isinstance(value, set):
            self.guards.sizes.append((value, len(value), path))
        else:
            self._object(value, path, names)

    def _object(self, value: Any, path: str, names: frozenset[str]) -> None:
        attributes = getattr(value, "__dict__", None)
        wrapped = attributes.get("_tjit_function") if isinstance(attributes, dict) else None
        if wrapped is not None:
            self.function(wrapped, path)
            return
        if isinstance(attributes, dict):
            for name, v in list(attributes.items()):
                if not name.startswith("__"):
                    self.slot(attributes, name, v, f"{path}.{name}", names)
        for code in _methods(type(value)):
            self.function(code, path)

    def _python_module(self, module: types.ModuleType, path: str, names: frozenset[str]) -> None:
        if module.__name__.split(".")[0] in _LIBRARIES:
            return
        for name in sorted(names & module.__dict__.keys()):
            self.slot(module.__dict__, name, module.__dict__[name], f"{path}.{name}", names)

    def function(self, fn: Any, path: str) -> None:
        """Guard the globals, closure and defaults of a function, and of those it names."""
        bound = getattr(fn, "__self__", None)
        fn = getattr(fn, "__func__", fn)
        if bound is not None and not isinstance(bound, types.ModuleType):
            self.value(bound, path or "self", frozenset())
        code = getattr(fn, "__code__", None)
        if code is None or not self._first_time(code) or _is_library(getattr(fn, "__module__", None)):
            return
        names = frozenset(_names(code))
        for name in sorted(names):
            if name in fn.__globals__:
                self.slot(fn.__globals__, name, fn.__globals__[name], f"global {name}", names)
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
            slot = _Slot(cell, "cell_contents", _MISSING, f"closure variable {name}")
            value = slot.now()
            self.slot(cell, "cell_contents", value, f"closure variable {name}", names)
        for i, default in enumerate(fn.__defaults__ or ()):
            self.value(default, f"default {i} of {fn.__name__}", names)
        for name, default in (fn.__kwdefaults__ or {}).items():
            self.value(default, f"default {name} of {fn.__name__}", names)


def _is_library(module: str | None) -> bool:
    return module is not None and module.split(".")[0] in _LIBRARIES


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _methods(kind: type) -> list[Any]:
    """The user's own methods of a class: what a call of one of them can see."""
    found = []
    for base in kind.__mro__:
        if not _is_library(base.__module__):
            found += [v for v in vars(base).values() if isinstance(v, types.FunctionType)]
    return found
