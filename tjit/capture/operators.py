"""What rewritten source calls: Python decides where a condition is Python's, nodes are made where it is a tensor.

`tjit.capture.source` writes the calls; docs/design/0004 says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

__all__ = ["UNDEFINED", "State", "if_"]


class _Undefined:
    """The value of a name that has none."""

    def __repr__(self) -> str:
        return "UNDEFINED"


UNDEFINED = _Undefined()


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


def if_(test: Any, then: Callable[[], None], orelse: Callable[[], None], state: State) -> None:
    """`if test: then() else: orelse()`."""
    if test:
        then()
    else:
        orelse()


def while_(test: Callable[[], Any], body: Callable[[], None], state: State) -> None:
    """`while test(): body()`."""
    while test():
        body()


def for_(items: Any, body: Callable[[Any], None], state: State, goes_on: Callable[[], Any] | None = None) -> None:
    """`for item in items: body(item)`, as long as `goes_on()` holds after each (None: always)."""
    for item in items:
        body(item)
        if goes_on is not None and not goes_on():
            break


def if_expr(test: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
    """`then() if test else orelse()`."""
    return then() if test else orelse()


def and_(*values: Callable[[], Any]) -> Any:
    """`a and b and c`."""
    result: Any = True
    for value in values:
        result = value()
        if not result:
            break
    return result


def or_(*values: Callable[[], Any]) -> Any:
    """`a or b or c`."""
    result: Any = False
    for value in values:
        result = value()
        if result:
            break
    return result


def not_(value: Any) -> Any:
    """`not value`."""
    return not value


def assert_(test: Callable[[], Any], message: Callable[[], Any]) -> None:
    """`assert test, message`."""
    if not test():
        raise AssertionError(message())
