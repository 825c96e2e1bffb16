"""What rewritten source finds under `_tjit_`."""

from __future__ import annotations

import operator as _op
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tjit.capture import operators
from tjit.capture.calls import callee
from tjit.capture.hidden import apart, watched
from tjit.capture.operators import State, and_, assert_, first_false, first_true, if_expr, not_, or_
from tjit.capture.trace import Trace
from tjit.capture.variables import Variables, load, visible
from tjit.errors import CaptureError
from tjit.location import user_location
from tjit.ops.apply import state

__all__ = [
    "Variables",
    "and_",
    "apart",
    "assert_",
    "callee",
    "compare",
    "first_false",
    "first_true",
    "for_",
    "if_",
    "if_expr",
    "load",
    "not_",
    "nothing",
    "or_",
    "python_only",
    "trying",
    "visible",
    "while_",
]

_COMPARISONS: dict[str, Callable[[Any, Any], Any]] = {
    "==": _op.eq,
    "!=": _op.ne,
    "<": _op.lt,
    "<=": _op.le,
    ">": _op.gt,
    ">=": _op.ge,
    "is": _op.is_,
    "is not": _op.is_not,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}


def if_(test: Any, then: Callable[[], None], orelse: Callable[[], None], variables: State) -> None:
    """`if test: then() else: orelse()`."""
    operators.if_(test, watched(then, variables), watched(orelse, variables), variables)


def while_(test: Callable[[], Any], body: Callable[[], None], variables: State) -> None:
    """`while test(): body()`."""
    operators.while_(watched(test, variables), watched(body, variables), variables)


def for_(items: Any, body: Callable[[Any], None], variables: State, goes_on: Callable[[], Any] | None = None) -> None:
    """`for item in items: body(item)`, as long as `goes_on()` holds after each (None: always)."""
    operators.for_(items, watched(body, variables), variables, goes_on)


def nothing() -> None:
    """A branch that does nothing."""


def compare(left: Any, *chain: Any) -> Any:
    """`left < b <= c` for `left, "<", lambda: b, "<=", lambda: c`: each evaluated once, none behind a false one."""
    right = chain[1]()
    first = _COMPARISONS[chain[0]](left, right)
    if len(chain) == 2:
        return first
    return and_(lambda: first, lambda: compare(right, *chain[2:]))


def python_only(what: str) -> None:
    """Refuse what only Python can do, where it depends on a tensor whether or how often it is done.

    Raises:
        CaptureError: a region is being captured.
    """
    trace = state.trace
    if isinstance(trace, Trace) and trace.is_inside:
        error = CaptureError(
            f"{what} under a condition or in a loop that depends on tensors",
            user_location(),
            hint="return the value, or do it outside of the branch or loop",
        )
        trace.refused = trace.refused or error
        raise error


@contextmanager
def trying() -> Iterator[None]:
    """The body of a `try` with handlers: it must not compute, since what fails at run time cannot be caught.

    Raises:
        CaptureError: nodes were made; capture fails even if the function catches this.
    """
    trace = state.trace
    if not isinstance(trace, Trace):
        yield
        return
    nodes = trace.scope.builder.nodes
    before = len(nodes)
    yield
    if len(nodes) > before:
        error = CaptureError(
            "tensors are computed in the body of a `try`, whose handlers could not run at run time",
            nodes[before].location,
            hint="move the tensor code out of the try",
        )
        trace.refused = trace.refused or error
        raise error
