"""Guards: the Python values a function can see while it is captured, and whether they are still the same.

What a function can see is found from its code: the globals and closure variables that it names, and, for modules,
optimizers and plain objects among them and among the arguments, what those attributes hold that any of the code names.
Functions, methods and properties that it names are followed. The snapshot is taken before capture, so a value that
capture itself changes makes the next call capture again.
"""

from __future__ import annotations

import functools
import gc
import re
import types
from collections import deque
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import field
from enum import Enum
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.capture.places import MISSING as _MISSING
from tjit.capture.places import Place, Watch
from tjit.capture.reads import reading
from tjit.dataclass import dataclass
from tjit.devices import Device
from tjit.dtypes import DType, default_dtype
from tjit.location import Location, is_users
from tjit.tensor import Tensor

__all__ = ["Guards", "same", "take_guards"]

_SIMPLE = (int, float, complex, str, bytes, bool, type(None), DType, Device, slice, range, np.generic)
_LIBRARIES = (
    "tjit",
    "numpy",
    "math",
    "torch",
    "jax",
    "builtins",
    "typing",
    "functools",
    "itertools",
    "operator",
    "collections",
)
_MOST = 20_000
# Code that names one of these may read any attribute of an object.
_DYNAMIC = frozenset(
    {"getattr", "hasattr", "vars", "__dict__", "asdict", "astuple", "fields", "attrgetter", "__getattribute__", "dir"}
)


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

    def put_back(self) -> None:
        """Have it hold what it held. Attributes of classes, functions and slots are left alone."""
        holder, key = self.holder, self.key
        if self.expected is _MISSING and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(holder, dict) or (type(holder) is list and key < len(holder)):
            holder[key] = self.expected
        elif type(holder) is types.CellType and self.expected is not _MISSING:
            holder.cell_contents = self.expected

    def changed(self) -> bool:
        now = self.now()
        return now is not self.expected and not same(now, self.expected)

    def wanted(self) -> Any:
        """What it holds if that will do, which may be another object than before; else what it held."""
        return self.expected if self.changed() else self.now()

    def place(self) -> Place | None:
        """The place that it is, where a call can write to it."""
        is_entry = isinstance(self.holder, dict) and type(self.key) is str
        if not is_entry and type(self.holder) not in (types.CellType, list):
            return None
        return Place(self.holder, self.key, _last_name(self.path))

    def varying(self) -> Place | None:
        """The place, where it held an int, a float or a tensor and holds another one."""
        kinds = {type(self.expected), type(self.now())}
        if not (kinds <= {int, float} or kinds <= {Tensor}) or not self.changed():
            return None
        return self.place()


@dataclass
class Guards:
    """Slots whose values must be what they were, and containers that must have kept their size.

    Attributes:
        codes: what was followed of the user's code.
        objects: the attributes of the user's objects, which the function may set.
        class_dicts: the ids of holders that are not to be written.
    """

    slots: list[_Slot] = field(default_factory=list)
    sizes: list[tuple[Any, int, str]] = field(default_factory=list)
    codes: list[types.CodeType] = field(default_factory=list)
    class_dicts: set[int] = field(default_factory=set)
    objects: list[dict[str, Any]] = field(default_factory=list)
    _dicts: list[tuple[dict, Any, Any]] = field(default_factory=list)
    _others: list[_Slot] = field(default_factory=list)

    def seal(self) -> Guards:
        """Sort the slots by how they are checked."""
        self._dicts = [(s.holder, s.key, s.expected) for s in self.slots if isinstance(s.holder, dict)]
        self._others = [s for s in self.slots if not isinstance(s.holder, dict)]
        return self

    def watch(self) -> Watch:
        """What the function may leave something in that outlives the call."""
        dicts = {id(d): d for d in self.objects}
        slots = [s for s in self.slots if id(s.holder) not in dicts and id(s.holder) not in self.class_dicts]
        return Watch(dicts.values(), [place for s in slots if (place := s.place()) is not None])

    def hold(self) -> bool:
        """Whether everything is as it was."""
        for holder, key, expected in self._dicts:
            now = holder.get(key, _MISSING)
            if now is not expected and not same(now, expected):
                return False
        for slot in self._others:
            now = slot.now()
            if now is not slot.expected and not same(now, slot.expected):
                return False
        return all(len(container) == size for container, size, _ in self.sizes)

    @property
    def asks_types(self) -> bool:
        """Whether the user's code may tell a float from what stands for one by `type(x)`."""
        return any("type" in code.co_names for code in self.codes)

    def changed_places(self) -> list[Place]:
        """Places that held an int, a float or a tensor and hold another one."""
        found = [slot.varying() for slot in self.slots if id(slot.holder) not in self.class_dicts]
        return [place for place in found if place is not None]

    def changed_values(self) -> dict[Place, tuple[str, Location | None]]:
        """Places of plain values that are others now: how the user calls each, and the line that reads it."""
        plain = (bool, int, float, str, type(None))
        slots = [s for s in self.slots if type(s.expected) in plain and type(s.now()) in plain and s.changed()]
        named = {place: s.path for s in slots if (place := s.place()) is not None}
        return {place: (path, reading(_last_name(path), self.codes)) for place, path in named.items()}

    def reason(self) -> str | None:
        """What changed, in words, and where it is read; None where nothing did."""
        for slot in self.slots:
            if slot.changed():
                return self._read(f"{slot.path} was {_shown(slot.expected)} and is {_shown(slot.now())}", slot.path)
        for container, size, path in self.sizes:
            if len(container) != size:
                return self._read(f"{path} had {size} entries and has {len(container)}", path)
        return None

    def _read(self, reason: str, path: str) -> str:
        where = reading(_last_name(path), self.codes)
        return reason if where is None else f"{reason}\n  at {where.describe()}"

    def put_back(self) -> None:
        """Undo what a capture that failed has written, where another one is to run the function again."""
        for slot in self.slots:
            if slot.changed() and id(slot.holder) not in self.class_dicts:
                slot.put_back()
        for container, size, _ in self.sizes:
            if type(container) is list:
                del container[size:]
            while type(container) is dict and len(container) > size:
                container.popitem()

    def reads(self, key: Any) -> bool:
        """Whether the user's code has an index that is this key."""
        return any(type(c) is type(key) and c == key for code in self.codes for c in code.co_consts)

    def forget(self, places: Collection[Place]) -> None:
        """Do not guard these: they were lifted to inputs."""
        found = set(places)
        self.slots = [s for s in self.slots if type(s.key) not in (str, int) or Place(s.holder, s.key) not in found]


def _last_name(path: str) -> str:
    """The name by which code reaches what `path` says: `self.levels[0]` by `levels`."""
    names = re.findall(r"[A-Za-z_]\w*", re.sub(r"\[[^]]*\]", "", path))
    return names[-1] if names else ""


def same(now: Any, expected: Any) -> bool:
    if type(now) is not type(expected):
        return False
    if isinstance(now, (tuple, frozenset)):  # of what a container holds
        return _same_items(now, expected)
    if not isinstance(now, _SIMPLE):
        return False
    if now == expected:
        return bool(now) or repr(now) == repr(expected)  # 0.0 is not -0.0
    return bool(now != now and expected != expected)


def _same_items(now: Any, expected: Any) -> bool:
    if isinstance(now, frozenset):
        return bool(now == expected)
    return len(now) == len(expected) and all(a is b or same(a, b) for a, b in zip(now, expected, strict=True))


def _shown(value: Any) -> str:
    if value is _MISSING:
        return "missing"
    return repr(value) if isinstance(value, _SIMPLE) else f"a {type(value).__name__}"


def take_guards(fn: Callable[..., Any], values: Sequence[Any] = ()) -> Guards:
    """Guards on everything that `fn` can see, called with `values` among its arguments."""
    taker = _Taker()
    taker.state()
    taker.value(fn, "")
    for value in values:
        taker.value(value, f"an argument of type {type(value).__name__}")
    return taker.finish()


@dataclass
class _Opened:
    """Something with attributes, of which those that any code names are guarded."""

    holder: Any
    attributes: dict[str, Any]
    path: str
    done: set[str] = field(default_factory=set)


class _Contents:
    """What a container holds that is neither list nor dict."""

    def __init__(self, container: Any) -> None:
        self.container = container

    @property
    def items(self) -> Any:
        return frozenset(self.container) if isinstance(self.container, set) else tuple(self.container)


class _Taker:
    def __init__(self) -> None:
        self.guards = Guards()
        self.seen: set[int] = set()
        self.kept: list[Any] = []  # ids in `seen` stay valid
        self.names: set[str] = set()  # what the code that was found so far names
        self.opened: list[_Opened] = []
        self.classes: dict[type, bool] = {}  # whether code may make objects of it

    def finish(self) -> Guards:
        """Guard the attributes that are named, until following them names no new ones."""
        known = -1
        while known != len(self.names) + len(self.opened):
            known = len(self.names) + len(self.opened)
            for thing in list(self.opened):
                self._attributes(thing)
        for thing in self.opened:
            holder, own = thing.holder, thing.attributes
            if getattr(holder, "__dict__", None) is own and not isinstance(holder, (type, types.ModuleType)):
                self.guards.objects += [own, *(d for d in (own.get("_buffers"),) if isinstance(d, dict))]
        return self.guards.seal()

    def state(self) -> None:
        """What tjit itself reads while capturing."""
        self.slot(vars(dtypes), "_default", default_dtype(), "the default dtype")

    def _first_time(self, value: Any) -> bool:
        if id(value) in self.seen or len(self.guards.slots) > _MOST:
            return False
        self.seen.add(id(value))
        self.kept.append(value)
        return True

    def slot(self, holder: Any, key: Any, value: Any, path: str) -> None:
        self.guards.slots.append(_Slot(holder, key, value, path))
        self.value(value, path)

    def value(self, value: Any, path: str) -> None:
        """Guard what `value` holds, beyond its identity."""
        if isinstance(value, type):
            self._class(value, path, makes=True)
            return
        if isinstance(value, (*_SIMPLE, Tensor, np.ndarray, Enum)) or not self._first_time(value):
            return
        if isinstance(value, types.ModuleType):
            if not _is_library(value.__name__):
                self.opened.append(_Opened(value, value.__dict__, path))
        elif isinstance(value, (types.FunctionType, types.MethodType)):
            self.function(value, path)
        elif isinstance(value, (classmethod, staticmethod)):
            self.value(value.__func__, path)
        elif isinstance(value, property):
            self.value(value.fget, path)
        elif isinstance(value, functools.cached_property):
            self.value(value.func, path)
        elif isinstance(value, functools.partial):
            self.value((value.func, value.args, value.keywords), path)
        elif isinstance(value, list):
            self._sized(value, path)
            for i, v in enumerate(value):
                self.slot(value, i, v, f"{path}[{i}]")
        elif isinstance(value, dict):
            self._sized(value, path)
            for k, v in value.items():
                self.slot(value, k, v, f"{path}[{_shown(k)}]")
        elif isinstance(value, (tuple, frozenset)):
            for i, v in enumerate(value):
                self.value(v, f"{path}[{i}]")
        elif isinstance(value, set) and not value:
            self._sized(value, path)
        elif isinstance(value, (set, deque, bytearray)):
            contents = _Contents(value)
            self.slot(contents, "items", contents.items, path)
        else:
            self._object(value, path)

    def _sized(self, container: Any, path: str) -> None:
        self.guards.sizes.append((container, len(container), path))

    def _object(self, value: Any, path: str) -> None:
        attributes = getattr(value, "__dict__", None)
        wrapped = attributes.get("_tjit_function") if isinstance(attributes, dict) else None
        if wrapped is not None:
            self.value(wrapped, path)
            return
        if isinstance(attributes, dict):
            self.opened.append(_Opened(value, attributes, path))
        for base in type(value).__mro__:
            slots = vars(base).get("__slots__", ())
            if slots and not _is_library(base.__module__):
                names = (slots,) if isinstance(slots, str) else tuple(slots)
                self.opened.append(_Opened(value, {n: _MISSING for n in names if not n.startswith("__")}, path))
        self._class(type(value), path, makes=False)

    def _class(self, kind: type, path: str, makes: bool) -> None:
        """Guard what a class of the user's holds. tjit's own read their attributes by name."""
        for base in kind.__mro__:
            if self.classes.get(base, not makes) >= makes and base in self.classes:
                continue
            self.classes[base] = makes
            if not _is_library(base.__module__):
                done = set() if makes else {"__init__", "__new__", "__post_init__"}
                members = _class_dict(base)
                self.guards.class_dicts.add(id(members))
                self.opened.append(_Opened(base, members, path, done))
            elif base.__module__.startswith("tjit."):
                for member in vars(base).values():
                    if isinstance(member, types.FunctionType):
                        self.names.update(n for n in _names(member.__code__) if n not in _DYNAMIC)

    def _attributes(self, thing: _Opened) -> None:
        """Guard the named attributes of one thing."""
        everything = not self.names.isdisjoint(_DYNAMIC) and not isinstance(thing.holder, types.ModuleType)
        for name in list(thing.attributes):
            special = name.startswith("__") and name.endswith("__")
            if name in thing.done or (special and not callable(thing.attributes[name])):
                continue
            if not (special or everything or name in self.names) or (
                special and isinstance(thing.holder, types.ModuleType)
            ):
                continue
            thing.done.add(name)
            path = f"{thing.path}.{name}".removeprefix(".")
            now = thing.attributes[name]
            if now is not _MISSING:
                self.slot(thing.attributes, name, now, path)
            else:
                self.slot(thing.holder, name, getattr(thing.holder, name, _MISSING), path)
        if not isinstance(thing.holder, (type, types.ModuleType)):
            self._missing(thing)

    def _missing(self, thing: _Opened) -> None:
        """An attribute that a class gives, and the object may come to hide."""
        kind = type(thing.holder)
        if thing.attributes is not getattr(thing.holder, "__dict__", None):
            return
        for base in kind.__mro__:
            if _is_library(base.__module__):
                continue
            for name, value in vars(base).items():
                if (
                    name in self.names
                    and name not in thing.attributes
                    and name not in thing.done
                    and not name.startswith("__")
                ):
                    if isinstance(value, property):
                        continue
                    thing.done.add(name)
                    self.guards.slots.append(
                        _Slot(thing.attributes, name, _MISSING, f"{thing.path}.{name}".removeprefix("."))
                    )

    def function(self, fn: Any, path: str) -> None:
        """Guard the globals, closure and defaults of a function, and of those it names."""
        bound = getattr(fn, "__self__", None)
        fn = getattr(fn, "__func__", fn)
        if bound is not None and not isinstance(bound, types.ModuleType):
            self.value(bound, path or "self")
        code = getattr(fn, "__code__", None)
        if code is None or (bound is not None and not self._first_time(fn)):
            return
        if _is_library(fn.__module__) or not is_users(code.co_filename):
            return
        self.guards.codes.append(code)
        names = frozenset(_names(code))
        self.names |= names
        for name in sorted(names):
            if name in fn.__globals__:
                self.slot(fn.__globals__, name, fn.__globals__[name], f"global {name}")
        for name, cell in zip(code.co_freevars, fn.__closure__ or (), strict=True):
            slot = _Slot(cell, "cell_contents", _MISSING, f"closure variable {name}")
            value = slot.now()
            self.slot(cell, "cell_contents", value, f"closure variable {name}")
        if fn.__defaults__:
            self.guards.slots.append(_Slot(fn, "__defaults__", fn.__defaults__, f"the defaults of {fn.__name__}"))
        for i, default in enumerate(fn.__defaults__ or ()):
            self.value(default, f"default {i} of {fn.__name__}")
        for name, default in (fn.__kwdefaults__ or {}).items():
            self.slot(fn.__kwdefaults__, name, default, f"default {name} of {fn.__name__}")
        for name, value in vars(fn).items():
            self.slot(vars(fn), name, value, f"{fn.__name__}.{name}")


def _is_library(module: str | None) -> bool:
    return module is not None and module.split(".")[0] in _LIBRARIES


def _class_dict(kind: type) -> dict[str, Any]:
    """The dict behind the read-only view that `vars(kind)` is: as a dict it can be watched natively."""
    (found,) = gc.get_referents(vars(kind))
    return found if isinstance(found, dict) else dict(vars(kind))


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)
        elif isinstance(constant, str) and constant.isidentifier():
            yield constant  # for getattr and its like
