"""Places that hold a Python value: an entry of a dict or a list, or a closure's cell."""

from __future__ import annotations

import threading
import types
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from tjit.ops.numbers import Number

__all__ = ["MISSING", "Place", "replaced"]

MISSING = object()


class Place:
    """`holder[key]`, or the contents of a cell. Equal where it is the same place; keeps the holder.

    Args:
        name: for dumps; the key where it is one.
    """

    __slots__ = ("holder", "key", "name")

    def __init__(self, holder: Any, key: Any, name: str | None = None) -> None:
        self.holder = holder
        self.key = key
        self.name = name or (key if isinstance(key, str) and key.isidentifier() else "number")

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Place) and self.holder is other.holder and self.key == other.key

    def __hash__(self) -> int:
        return hash((id(self.holder), self.key))

    def now(self) -> Any:
        """What it holds; MISSING where nothing."""
        try:
            return self.holder.cell_contents if type(self.holder) is types.CellType else self.holder[self.key]
        except (KeyError, IndexError, ValueError):
            return MISSING

    def put(self, value: Any) -> None:
        """Have it hold a value; MISSING takes it away."""
        if value is MISSING:
            self.take_away()
            return
        if type(self.holder) is types.CellType:
            self.holder.cell_contents = value
        else:
            self.holder[self.key] = value

    def take_away(self) -> None:
        if type(self.holder) is types.CellType:
            del self.holder.cell_contents
        else:
            self.holder.pop(self.key, None)


class Watch:
    """What attributes, closures and globals hold before a capture, to find what it leaves there.

    Args:
        dicts: attributes of objects, all of which count.
        places: of others.
    """

    def __init__(self, dicts: Iterable[dict[str, Any]] = (), places: Iterable[Place] = ()) -> None:
        self._dicts = [(d, dict(d)) for d in dicts]
        self._places = [(p, p.now()) for p in places]

    def before(self, place: Place) -> Any:
        """What a place held; MISSING where that is not known."""
        for d, before in self._dicts:
            if d is place.holder:
                return before.get(place.key, MISSING)
        return next((before for p, before in self._places if p == place), MISSING)

    def left(self, is_set: Callable[[Any, Any], bool]) -> list[tuple[Place, Any]]:
        """Places that hold something else than before where `is_set(now, before)`, and what they held."""
        found = [(p, before) for p, before in self._places if p.now() is not before and is_set(p.now(), before)]
        for d, before in self._dicts:
            changed = [(k, before.get(k, MISSING)) for k, v in d.items() if v is not before.get(k, MISSING)]
            found += [(Place(d, k), was) for k, was in changed if is_set(d[k], was)]
        return found


_replacing = threading.RLock()


@contextmanager
def replaced(values: Mapping[Place, Number]) -> Iterator[None]:
    """Have places hold these numbers inside.

    Other threads that read such a place meanwhile find the number.
    """
    if not values:
        yield
        return
    with _replacing:
        before = {place: place.now() for place in values}
        for place, number in values.items():
            place.put(number)
        try:
            yield
        finally:
            for place, value in before.items():
                place.put(value)
