"""Lists, dicts and dataclasses among a call's arguments that the function changes: each call changes them too."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from typing import Any

from tjit.capture.pytree import attributes_of, flatten, is_record
from tjit.errors import ArgumentError, CaptureError
from tjit.location import user_location

__all__ = ["Containers", "refuse_twins", "write_back"]

_DICTS = (dict, OrderedDict)
_KINDS = (list, tuple, *_DICTS)
_Path = tuple[Any, ...]


class Containers:
    """The arguments of a call as they are before it.

    Args:
        arguments: (args, kwargs).
    """

    def __init__(self, arguments: Any) -> None:
        self.arguments = arguments
        self._leaves, self._tree = flatten(arguments, whole=True)
        self._paths = {id(value): path for path, value in _containers(arguments)}

    def changed(self) -> bool:
        """Whether the containers hold other things now.

        Raises:
            CaptureError: one of them is in another place.
        """
        leaves, tree = flatten(self.arguments, whole=True)
        if tree == self._tree and all(a is b for a, b in zip(leaves, self._leaves, strict=True)):
            return False
        for path, value in _containers(self.arguments):
            if self._paths.get(id(value), path) != path:
                raise CaptureError(
                    f"the function moves a {type(value).__name__} of its arguments to another place in them",
                    hint="put a copy there, or return what it makes",
                )
        return True


def _containers(value: Any, path: _Path = ()) -> Iterator[tuple[_Path, Any]]:
    """The containers in others that can change, with the keys that lead there."""
    if not isinstance(value, _KINDS) and not is_record(value):
        return
    if not isinstance(value, tuple):
        yield path, value
    named = value if isinstance(value, dict) else attributes_of(value) if is_record(value) else dict(enumerate(value))
    for key, child in named.items():
        yield from _containers(child, (*path, key))


def refuse_twins(arguments: Any) -> None:
    """No container that can change is at two places of the arguments: the function was captured with two.

    Raises:
        ArgumentError: one is.
    """
    seen: set[int] = set()
    for _, value in _containers(arguments):
        if id(value) in seen:
            kind = type(value).__name__
            raise ArgumentError(
                f"the function changes its arguments, of which two are one {kind}", user_location(), hint="pass a copy"
            )
        seen.add(id(value))


def write_back(before: Any, after: Any) -> Any:
    """What stands for `before` once it is as `after`: lists, dicts and dataclasses stay the objects that they are."""
    if type(before) is not type(after):
        return after
    if is_record(before):
        _write_attributes(before, attributes_of(after))
        return before
    if not isinstance(before, _KINDS):
        return after
    if isinstance(before, dict):
        new = {key: write_back(before[key], value) if key in before else value for key, value in after.items()}
        before.clear()
        before.update(new)
        return before
    items = [write_back(*pair) for pair in zip(before, after, strict=False)] + list(after[len(before) :])
    if isinstance(before, list):
        before[:] = items
        return before
    if len(before) == len(items) and all(a is b for a, b in zip(before, items, strict=True)):
        return before
    return type(before)(*items) if hasattr(before, "_fields") else tuple(items)


def _write_attributes(record: Any, after: dict[str, Any]) -> None:
    before = attributes_of(record)
    for name in before.keys() - after.keys():
        object.__delattr__(record, name)
    for name, value in after.items():
        object.__setattr__(record, name, write_back(before[name], value) if name in before else value)
