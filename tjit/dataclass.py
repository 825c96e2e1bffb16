"""`dataclasses.dataclass` without its price at import: methods are the class's own when they are first called."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from operator import attrgetter
from reprlib import recursive_repr
from typing import TYPE_CHECKING, Any

__all__ = ["dataclass"]

if TYPE_CHECKING:
    from dataclasses import dataclass
else:

    def dataclass(
        cls: type | None = None,
        /,
        *,
        frozen: bool = False,
        eq: bool = True,
        slots: bool = False,
        kw_only: bool = False,
    ) -> Any:
        """As of the standard library, whose arguments these are, and as quick to call; a tenth of the time to define.

        The standard library compiles the text of up to six methods for each class, 0.2 to 0.4 ms. Here `__init__` is
        compiled at the first call, and the others are the same functions for all classes.
        """

        def decorate(cls: type) -> type:
            cls.__doc__ = cls.__doc__ or cls.__name__  # else the standard library asks for the signature
            own = set(vars(cls))
            made = dataclasses.dataclass(init=False, repr=False, eq=False, slots=slots, kw_only=kw_only)(cls)
            methods = {"__init__": _first_init(made, frozen), "__repr__": _repr}
            if eq:
                methods |= _comparison(made, frozen)
            if frozen:
                methods |= {"__setattr__": _refuse_write, "__delattr__": _refuse_delete}
            if frozen and slots:
                methods |= {"__getstate__": _state, "__setstate__": _set_state}
            for name in methods.keys() - own:
                setattr(made, name, methods[name])
            return made

        return decorate if cls is None else decorate(cls)


def _first_init(cls: type, frozen: bool) -> Callable[..., None]:
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        cls.__init__ = _compiled_init(cls, frozen)
        cls.__init__(self, *args, **kwargs)

    return __init__


def _compiled_init(cls: Any, frozen: bool) -> Callable[..., None]:
    names: dict[str, Any] = {"store": object.__setattr__, "missing": dataclasses.MISSING}
    parameters: list[str] = []
    keywords: list[str] = []
    body: list[str] = []
    for i, field in enumerate(dataclasses.fields(cls)):
        default, factory = field.default, field.default_factory
        value = field.name
        if factory is not dataclasses.MISSING:
            names[f"factory{i}"], default = factory, dataclasses.MISSING
            made = f"factory{i}()"
            value = f"{made} if {value} is missing else {value}" if field.init else made
        elif not field.init:
            continue  # the class has its default
        if field.init:
            parameter = field.name
            if factory is not dataclasses.MISSING:
                parameter += "=missing"
            elif default is not dataclasses.MISSING:
                names[f"default{i}"] = default
                parameter += f"=default{i}"
            (keywords if field.kw_only else parameters).append(parameter)
        body.append(f"store(self, {field.name!r}, {value})" if frozen else f"self.{field.name} = {value}")
    if hasattr(cls, "__post_init__"):
        body.append("self.__post_init__()")
    arguments = ", ".join(["self", *parameters, *(["*"] if keywords else []), *keywords])
    exec(f"def __init__({arguments}):\n " + "\n ".join(body or ["pass"]), names)
    return names["__init__"]


def _comparison(cls: Any, hashed: bool) -> dict[str, Any]:
    """`__eq__` and `__hash__` of the fields that are compared; without a hash where instances can change."""
    compared = [field.name for field in dataclasses.fields(cls) if field.compare]
    names = compared * 2 if len(compared) == 1 else compared  # of one, attrgetter gives no tuple
    key: Callable[[Any], tuple[Any, ...]] = attrgetter(*names) if names else _no_fields

    def __eq__(self: Any, other: object) -> bool:
        return key(self) == key(other) if other.__class__ is self.__class__ else NotImplemented

    def __hash__(self: Any) -> int:
        return hash(key(self))

    return {"__eq__": __eq__, "__hash__": __hash__ if hashed else None}


def _no_fields(_: object) -> tuple[()]:
    return ()


@recursive_repr()
def _repr(self: Any) -> str:
    shown = (f"{field.name}={getattr(self, field.name)!r}" for field in dataclasses.fields(self) if field.repr)
    return f"{type(self).__qualname__}({', '.join(shown)})"


def _refuse_write(self: object, name: str, value: object) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot assign to field {name!r}")


def _refuse_delete(self: object, name: str) -> None:
    raise dataclasses.FrozenInstanceError(f"cannot delete field {name!r}")


def _state(self: Any) -> list[Any]:
    return [getattr(self, field.name) for field in dataclasses.fields(self)]


def _set_state(self: Any, state: list[Any]) -> None:
    for field, value in zip(dataclasses.fields(self), state, strict=True):
        object.__setattr__(self, field.name, value)
