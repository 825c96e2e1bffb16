"""The variables of a statement that becomes a node: what they hold before, inside and after it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from tjit.capture.pytree import Tree, flatten, unflatten, write_back
from tjit.dataclass import dataclass
from tjit.errors import CaptureError
from tjit.location import Location, user_location

__all__ = [
    "INTERNAL", "UNDEFINED", "Contents", "State", "Unassigned", "is_local_flag", "rebuilt", "restore", "snapshot",
]  # fmt: skip

INTERNAL = "_tjit_"  # names that rewriting makes: flags and the returned value
_WITHIN = "_tjit_continue"  # of them, flags that each trip of a loop sets anew


class _Undefined:
    """The value of a name that has none."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED = _Undefined()


class Unassigned:
    """The value of a variable that not every way to here assigns: any use is an error."""

    def __init__(self, name: str, why: str) -> None:
        self.__dict__.update(name=name, why=why, where=user_location())

    def refuse(self, use: str, location: Location | None) -> NoReturn:
        """Say that it has no value where the program returns or uses it (None: where it came to have none)."""
        raise CaptureError(
            f"the variable {self.__dict__['name']} is {use}, but {self.__dict__['why']}",
            location or self.__dict__["where"],
            hint=f"give {self.__dict__['name']} a value before",
        )

    def _refuse(self, *_: Any, **__: Any) -> Any:
        self.refuse("used", user_location())

    __getattr__ = __setattr__ = __getitem__ = __setitem__ = __call__ = __iter__ = __len__ = __bool__ = _refuse
    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = __truediv__ = __rtruediv__ = __neg__ = _refuse
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = __matmul__ = __rmatmul__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __and__ = __or__ = __xor__ = __invert__ = __abs__ = __index__ = _refuse
    __float__ = __int__ = __contains__ = __array__ = _refuse


@dataclass(frozen=True)
class State:
    """The variables of a statement that becomes a node.

    Attributes:
        get: their present values, UNDEFINED where a name is unbound.
        set: takes as many values; UNDEFINED unbinds.
        names: as the user wrote them: `y`, `self.h`.
        assigned: how many of the names the statement binds. The others name what it may change in place (`out.append`).
        live: names that are read elsewhere in the function.
    """

    get: Callable[[], tuple[Any, ...]]
    set: Callable[[tuple[Any, ...]], None]
    names: tuple[str, ...]
    assigned: int
    live: frozenset[str]


@dataclass(frozen=True)
class Contents:
    """What a variable holds at one moment: containers taken apart, so that later changes in place do not show.

    `leaves` is empty and `tree` None for a name without a value.
    """

    value: Any
    tree: Tree | None
    leaves: tuple[Any, ...]

    @staticmethod
    def of(value: Any) -> Contents:
        if value is UNDEFINED:
            return Contents(value, None, ())
        leaves, tree = flatten(value)
        return Contents(value, tree, tuple(leaves))

    def put_back(self) -> Any:
        """The value, its containers holding again what they held."""
        return self.value if self.tree is None else rebuilt(self.value, self.tree, self.leaves)

    def same(self, other: Contents) -> bool:
        """Whether both hold the same objects."""
        return self.tree == other.tree and all(a is b for a, b in zip(self.leaves, other.leaves, strict=True))


def snapshot(state: State) -> tuple[Contents, ...]:
    """What the variables hold. Of those that are only changed in place, containers count alone."""
    values = state.get()
    return tuple(Contents.of(v if _counts(state, i, v) else UNDEFINED) for i, v in enumerate(values))


def _counts(state: State, i: int, value: Any) -> bool:
    return i < state.assigned or isinstance(value, (list, dict))


def is_local_flag(name: str) -> bool:
    """Whether a name is a flag that each trip of a loop sets anew."""
    return name.startswith(_WITHIN)


def restore(state: State, contents: Sequence[Contents]) -> None:
    """Give the variables back what they held."""
    now = state.get()
    state.set(
        tuple(c.put_back() if i < state.assigned or c.tree is not None else now[i] for i, c in enumerate(contents))
    )


def rebuilt(old: Any, tree: Tree, leaves: Sequence[Any]) -> Any:
    """A value of structure `tree`; lists, dicts and dataclasses that `old` has at the same places change in place."""
    return write_back(old, unflatten(tree, leaves))
