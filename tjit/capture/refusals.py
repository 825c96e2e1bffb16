"""What a function is, calls or returns that no graph can stand for, said at the user's line."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterator
from inspect import CO_ASYNC_GENERATOR, CO_COROUTINE, CO_GENERATOR
from types import TracebackType
from typing import Any

from tjit.capture.pytree import Tree
from tjit.capture.state import Unassigned
from tjit.errors import CaptureError
from tjit.ir.dims import DimExpr
from tjit.ir.graph import Value
from tjit.location import Location, definition, is_users
from tjit.tensor import Tensor

__all__ = ["check_keys", "check_kind", "check_plain", "endless", "leaked"]


def check_kind(fn: Any) -> None:
    """Calling the function computes what it returns.

    Raises:
        CaptureError: it is a generator function or a coroutine function.
    """
    code = getattr(getattr(fn, "forward", fn), "__code__", None)
    if code is not None and code.co_flags & (CO_GENERATOR | CO_ASYNC_GENERATOR):
        raise CaptureError(
            "a generator function computes nothing when it is called",
            definition(fn),
            hint="return a list or a tuple of what it yields",
        )
    if code is not None and code.co_flags & CO_COROUTINE:
        raise CaptureError(
            "an async function computes nothing when it is called",
            definition(fn),
            hint="compile a plain function, and call that from the async one",
        )


def endless(error: RecursionError) -> CaptureError:
    """For a recursion that does not end while the function is captured."""
    return CaptureError(
        "the function calls itself without end while it is captured",
        _repeated(error.__traceback__),
        hint="let a Python value end the recursion, such as a depth; where a tensor ends it, write a loop",
    )


def _repeated(traceback: TracebackType | None) -> Location | None:
    """The user's line that a traceback passes most often; of several, the last in the file."""
    counts: Counter[Location] = Counter()
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if is_users(file):
            counts[Location(file, traceback.tb_lineno)] += 1
        traceback = traceback.tb_next
    most = max(counts.values(), default=0)
    # where the limit was met by chance, lines of one cycle differ by one
    return max((place for place, n in counts.items() if n >= most - 1), default=None)


def leaked(value: Value, location: Location | None) -> CaptureError:
    """For a traced tensor of another capture."""
    return CaptureError(
        f"a {value.type} tensor was kept from the capture of another call, where it had no elements",
        location,
        hint="return tensors from a compiled function; do not store them in globals or attributes",
    )


def check_plain(leaf: Any) -> None:
    """A returned Python value holds no traced tensor, which would have no elements for the caller.

    Raises:
        CaptureError: it does, or computes when asked.
    """
    if isinstance(leaf, Unassigned):
        leaf.refuse("returned", None)
    found = (
        "tensors" if _holds_traced(leaf, 3) else "what it has yet to compute" if isinstance(leaf, Iterator) else None
    )
    if found is not None:
        raise CaptureError(
            f"the function returns a {type(leaf).__name__}, and with it {found}",
            hint="return tensors, and tuples, lists and dicts of them",
        )


def check_keys(tree: Tree) -> None:
    """No key of a returned dict holds a traced tensor.

    Raises:
        CaptureError: one does.
    """
    for key in tree.keys:
        if _holds_traced(key, 3):
            raise CaptureError(
                "the function returns a dict with a tensor among its keys",
                hint="return tensors as a dict's values, under names",
            )
    for child in tree.children:
        check_keys(child)


def _holds_traced(value: Any, depth: int) -> bool:
    if isinstance(value, Tensor):
        return value.is_traced
    if isinstance(value, (str, bytes, int, float, type, DimExpr)) or depth == 0:
        return False
    inside = (
        list(value.values())
        if isinstance(value, dict)
        else list(value)
        if isinstance(value, (list, tuple, set, frozenset, deque))
        else []
    )
    inside += list(getattr(value, "__dict__", {}).values())
    return any(_holds_traced(v, depth - 1) for v in inside)
