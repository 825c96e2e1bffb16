"""What a call in rewritten code calls: the user's own functions are converted, a few of Python's understand tensors."""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable
from types import BuiltinFunctionType, FunctionType, MethodType
from typing import Any

import numpy as np

from tjit.capture.builtin_calls import REPLACED
from tjit.capture.changing import warn_of_changing
from tjit.capture.source import converted, is_convertible
from tjit.location import is_internal
from tjit.ops.apply import state
from tjit.ops.numbers import recorded

__all__ = ["callee"]

# Python's functions that call what they are given.
_CALLING = (
    map, filter, sorted, min, max, functools.reduce, itertools.accumulate, itertools.starmap, itertools.takewhile,
    itertools.dropwhile, itertools.filterfalse, itertools.groupby,
)  # fmt: skip


def callee(fn: Any) -> Any:
    """What to call where the user calls `fn`.

    Raises:
        CaptureError: `fn` cannot be converted.
    """
    if state.trace is None or not state.trace.converts:
        return fn
    kind = type(fn)
    if kind is FunctionType:
        return _function(fn)
    if kind is MethodType:
        warn_of_changing(fn)
        function = fn.__func__
        new = callee(function)
        return fn if new is function else MethodType(new, fn.__self__)
    if kind is BuiltinFunctionType:
        return _builtin(fn)
    if kind is np.ufunc:
        return _numpys(fn, fn)
    return _class(fn) if isinstance(fn, type) else _object(fn, kind)


def _function(fn: FunctionType) -> Any:
    new = converted(fn)
    if new is not fn or not is_internal(fn.__code__.co_filename):
        return _numpys(fn, new)
    # tjit's own may call what they are given: optimizers their closure, `checkpoint` its function
    return fn if fn.__module__.startswith("tjit.ops.") else functools.partial(_calling, fn)


def _calling(fn: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`fn(*args, **kwargs)`, with functions among the arguments converted."""
    return fn(*map(_given, args), **{k: _given(v) for k, v in kwargs.items()})


def _given(value: Any) -> Any:
    return callee(value) if type(value) in (FunctionType, MethodType, functools.partial) else value


def _numpys(fn: Any, otherwise: Any) -> Any:
    """What a function of NumPy's is in a captured function of arrays."""
    if state.trace is None or not state.trace.numpy:
        return otherwise
    from tjit.numpy_api.calls import numpy_call  # with all of NumPy's functions: only where they are asked for

    return numpy_call(fn) or otherwise


def _builtin(fn: Any) -> Any:
    """A function written in C."""
    warn_of_changing(fn)
    if fn in _CALLING or (fn.__name__ == "sort" and type(fn.__self__) is list):
        return functools.partial(_calling, _replaced(fn))
    return _replaced(fn)


def _replaced(fn: Any) -> Any:
    """Python's function for operands that are known later, or NumPy's for its own."""
    replaced: Any = REPLACED.get(fn, fn)
    if replaced is fn and getattr(fn, "__module__", None) == "math":
        return functools.partial(recorded, fn)
    of_numpy = _numpys(fn, None)
    if of_numpy is None:
        return replaced
    if replaced is fn:
        return of_numpy
    return functools.partial(_by_operands, replaced, of_numpy)


def _by_operands(of_tensors: Callable[..., Any], of_numpy: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    from tjit.numpy_api.array import is_array

    if any(is_array(x) for a in args for x in (a if isinstance(a, (list, tuple)) else (a,))):
        return of_numpy(*args, **kwargs)
    return of_tensors(*args, **kwargs)


def _object(fn: Any, kind: type) -> Any:
    """An object that can be called."""
    if kind is functools.partial:
        inner = callee(fn.func)
        return fn if inner is fn.func else functools.partial(inner, *fn.args, **fn.keywords)
    called = getattr(kind, "__call__", None)  # noqa: B004  # of its class
    if type(called) is FunctionType and is_convertible(called.__code__):
        return MethodType(converted(called), fn)
    return _numpys(fn, fn)


def _class(kind: type) -> Any:
    """A class; where its `__init__` or `__new__` is the user's, a function that makes objects with them converted."""
    if kind in _CALLING:
        return functools.partial(_calling, kind)
    if not _is_users(kind.__init__) and not _is_users(kind.__new__):
        return _replaced(kind)
    if type(kind).__call__ is not type.__call__:
        return kind
    return functools.partial(_construct, kind)


def _is_users(member: Any) -> bool:
    """Whether a method was written by the user: not made from a text, as a dataclass's."""
    return (
        type(member) is FunctionType
        and not member.__code__.co_filename.startswith("<string>")
        and is_convertible(member.__code__)
    )


def _construct(kind: type, /, *args: Any, **kwargs: Any) -> Any:
    """What `kind(*args, **kwargs)` does."""
    new: Callable[..., Any] = kind.__new__
    made = new(kind) if new is object.__new__ else callee(new)(kind, *args, **kwargs)
    if isinstance(made, kind):
        callee(type(made).__init__)(made, *args, **kwargs)
    return made
