"""NumPy without floating-point warnings: what an op gives for inf, nan and overflow is its result, as in machine code.

`np.errstate` sets a context variable and puts it back. That is not safe before Python 3.12, where the garbage collector
may run in the middle of `ContextVar.set`: a finalizer that sets a variable of the same context then frees the mapping
that the interrupted call still copies from, and damaged objects crash the collector much later. So nothing is set for
an op: it runs in a context where NumPy is quiet already, which only one call at a time enters.
"""

from __future__ import annotations

from collections.abc import Callable
from contextvars import Context
from typing import Any, TypeVar

import numpy as np

__all__ = ["quietly"]

_T = TypeVar("_T")

_free: list[Context] = []  # quiet ones in which nothing runs; popping and appending are one step for all threads


def quietly(function: Callable[..., _T], /, *args: Any, **kwargs: Any) -> _T:
    """What `function` returns, without warnings of NumPy about its numbers. It does not see the caller's context."""
    try:
        context = _free.pop()
    except IndexError:
        context = Context()
        context.run(np.seterr, all="ignore")
    try:
        return context.run(function, *args, **kwargs)
    finally:
        _free.append(context)
