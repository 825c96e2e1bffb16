"""Lists, dicts and dataclasses among a call's arguments that the function changes: each call changes them too."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tjit.capture.pytree import CONTAINERS, attributes_of, flatten, is_record
from tjit.errors import ArgumentError, CaptureError
from tjit.location import user_location

__all__ = ["Containers", "refuse_twins"]

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
    if not isinstance(value, CONTAINERS) and not is_record(value):
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
