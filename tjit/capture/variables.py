"""The variables of a running rewritten function, by the names that its author gave them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from types import CellType, FunctionType
from typing import Any

from tjit.capture.operators import UNDEFINED, State

__all__ = ["Variables", "contents", "load", "mangled", "set_contents", "visible"]


def mangled(name: str, owner: str | None) -> str:
    """What Python makes of `name` in the body of the class `owner`."""
    if owner is None or not name.startswith("__") or name.endswith("__"):
        return name
    stem = owner.lstrip("_")
    return f"_{stem}{name}" if stem else name


class Variables:
    """The variables of one call of a function: those that `reader`, a function inside of it, refers to.

    A call makes the `State` of one statement.
    """

    def __init__(self, reader: FunctionType, owner: str | None = None) -> None:
        self.cells = dict(zip(reader.__code__.co_freevars, reader.__closure__ or (), strict=True))
        self.globals = reader.__globals__
        self.owner = owner

    def __call__(self, names: tuple[str, ...], assigned: int, live: frozenset[str]) -> State:
        paths = tuple(tuple(mangled(part, self.owner) for part in name.split(".")) for name in names)
        return State(partial(self._get, paths), partial(self._set, paths), names, assigned, live)

    def _get(self, paths: tuple[tuple[str, ...], ...]) -> tuple[Any, ...]:
        return tuple(self._value(root, rest) for root, *rest in paths)

    def _value(self, root: str, rest: list[str]) -> Any:
        cell = self.cells.get(root)
        value = self.globals.get(root, UNDEFINED) if cell is None else contents(cell)
        for name in rest:
            value = _attribute(value, name)
        return value

    def _set(self, paths: tuple[tuple[str, ...], ...], values: tuple[Any, ...]) -> None:
        for (root, *rest), value in zip(paths, values, strict=True):
            if self._value(root, rest) is value:
                continue
            if rest:
                _set_attribute(self._value(root, rest[:-1]), rest[-1], value)
            elif root in self.cells:
                set_contents(self.cells[root], value)
            elif value is UNDEFINED:
                self.globals.pop(root, None)
            else:
                self.globals[root] = value


def contents(cell: CellType) -> Any:
    """What a variable holds, UNDEFINED where it is unbound."""
    try:
        return cell.cell_contents
    except ValueError:
        return UNDEFINED


def set_contents(cell: CellType, value: Any) -> None:
    """Give a variable a value; UNDEFINED takes it away."""
    if value is UNDEFINED:
        del cell.cell_contents
    else:
        cell.cell_contents = value


def _attribute(value: Any, name: str) -> Any:
    """An attribute that holds something. A property computes, which would be a part of the user's program."""
    if value is UNDEFINED or isinstance(getattr(type(value), name, None), property):
        return UNDEFINED
    return getattr(value, name, UNDEFINED)


def _set_attribute(holder: Any, name: str, value: Any) -> None:
    if holder is UNDEFINED:
        return
    if value is UNDEFINED:
        delattr(holder, name)
    else:
        setattr(holder, name, value)


def load(name: str, read: Callable[[], Any]) -> Any:
    """The value of a variable that may be unbound, read where it is not its function's own.

    Raises:
        UnboundLocalError: it is, as in the function itself.
    """
    try:
        return read()
    except NameError as error:
        if type(error) is not NameError or error.name != name:
            raise
    raise UnboundLocalError(f"cannot access local variable '{name}' where it is not associated with a value")


def visible(reader: FunctionType) -> dict[str, Any]:
    """What `locals()` gives: the variables that `reader` refers to and that have a value."""
    return dict(_bound(reader))


def _bound(reader: FunctionType) -> Iterator[tuple[str, Any]]:
    for name, cell in zip(reader.__code__.co_freevars, reader.__closure__ or (), strict=True):
        value = contents(cell)
        if value is not UNDEFINED:
            yield name, value
