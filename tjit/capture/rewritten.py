"""What rewritten source finds under `_tjit_`."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from tjit.capture.calls import callee
from tjit.capture.operators import and_, assert_, for_, if_, if_expr, not_, or_, while_
from tjit.capture.trace import Trace
from tjit.capture.variables import Variables, load, visible
from tjit.errors import CaptureError
from tjit.location import user_location
from tjit.ops.apply import state

__all__ = [
    "Variables",
    "and_",
    "assert_",
    "callee",
    "compare",
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
    "==": operator.eq,
    "!=": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
    "is": operator.is_,
    "is not": operator.is_not,
    "in": lambda a, b: a in b,
    "not in": lambda a, b: a not in b,
}


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
