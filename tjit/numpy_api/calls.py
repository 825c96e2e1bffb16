"""Calls in captured source that have to mean something else than what is called: `numpy_call(f)` finds it.

NumPy's functions that make arrays give arrays of the graph, which may be written; casts, ufuncs and Python's own
functions of numbers take traced operands.
"""

from __future__ import annotations

import builtins
import functools
import math
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.ir.dims import DimExpr
from tjit.numpy_api.array import MaskedRead, NumpyTensor, built, is_array, is_number, number, parts
from tjit.numpy_api.creation import CREATION, caster
from tjit.numpy_api.elementwise import call_ufunc, where
from tjit.numpy_api.functions import FUNCTIONS
from tjit.numpy_api.operands import as_array, operand, to_dtype
from tjit.ops.apply import state
from tjit.tensor import Tensor

__all__ = ["numpy_call"]


def numpy_call(f: Any) -> Callable[..., Any] | None:
    """What to call instead of `f` in captured NumPy code; None: `f` itself.

    The replacement calls `f` where no operand is traced, unless `f` makes an array.
    """
    try:
        found = _CREATION.get(f) or _CALLS.get(f)
    except TypeError:  # not hashable
        return None
    if found is not None:
        return found
    if isinstance(f, np.ufunc):
        return _ufunc_call(f)
    if isinstance(f, type) and issubclass(f, np.generic) and np.dtype(f).kind in "biufc":
        return _guarded(f, caster(np.dtype(f)))
    return None


def _traced(x: Any) -> bool:
    """Whether an operand is known only when the program runs."""
    if isinstance(x, (list, tuple)):
        return any(_traced(v) for v in x)
    return is_array(x) or isinstance(x, Tensor) or type(x) is DimExpr


def _guarded(f: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    """`replacement` where an operand is traced, else `f`."""

    @functools.wraps(replacement)
    def call(*args: Any, **keywords: Any) -> Any:
        if state.trace is not None and (any(map(_traced, args)) or any(map(_traced, keywords.values()))):
            return replacement(*args, **{k: v for k, v in keywords.items() if v is not np._NoValue})
        return f(*args, **keywords)

    return call


@functools.cache
def _ufunc_call(ufunc: np.ufunc) -> Callable[..., Any]:
    return _guarded(ufunc, lambda *args, **keywords: _dispatched(ufunc, args, keywords))


def _dispatched(ufunc: np.ufunc, args: tuple[Any, ...], keywords: dict[str, Any]) -> Any:
    """The ufunc through NumPy's dispatch, symbolic dims as arrays."""
    if any(type(x) is DimExpr for x in args):
        args = tuple(operand(x) if type(x) is DimExpr else x for x in args)
    return ufunc(*args, **keywords)


# Python's functions of numbers


def _number(x: Any) -> Any:
    """A scalar result as a Python number, in promotion too."""
    if isinstance(x, NumpyTensor) and not x.shape:
        return number(x)
    return x


def _convert(dtype: Any) -> Callable[..., Any]:
    def convert(x: Any) -> Any:
        x = as_array(x)
        converted = to_dtype(x, dtype)
        return _number(built(parts(converted)))

    return convert


def _minmax(ufunc: np.ufunc, reduce: Any) -> Callable[..., Any]:
    """Python's max and min of scalars: the first of equal ones, and a comparison with nan is False."""
    compare = np.greater if ufunc is np.maximum else np.less

    def extreme(*args: Any, key: Any = None, default: Any = None) -> Any:
        items = list(args[0]) if len(args) == 1 else list(args)
        best = operand(items[0])
        for item in map(operand, items[1:]):
            best = where(call_ufunc(compare, item, best), item, best)
        return best

    return extreme


def _sum(items: Any, start: Any = 0) -> Any:
    total = start
    for item in items:
        total = total + item
    return total


def _pow(base: Any, exponent: Any, modulus: Any = None) -> Any:
    result = operand(base) ** operand(exponent)
    return result if modulus is None else result % modulus


def _math(ufunc: np.ufunc) -> Callable[..., Any]:
    """A function of math: of floats, which promote as Python's."""

    def call(*args: Any) -> Any:
        result = call_ufunc(ufunc, *(to_dtype(as_array(a), float) for a in args))
        return _number(result)

    return call


def _math_int(ufunc: np.ufunc) -> Callable[..., Any]:
    return lambda x: _number(to_dtype(call_ufunc(ufunc, to_dtype(as_array(x), float)), np.int64))


def _isinstance(x: Any, kinds: Any) -> bool:
    listed = kinds if isinstance(kinds, tuple) else (kinds,)
    if not is_array(x) or isinstance(x, MaskedRead):
        return builtins.isinstance(x, kinds)
    if is_number(x):
        own: type = {"b": bool, "i": int, "f": float, "c": complex}[x.dtype.kind]
    else:
        own = x.dtype.type if x.scalar else np.ndarray
    return any(isinstance(kind, type) and issubclass(own, kind) for kind in listed) or builtins.isinstance(x, kinds)


_PYTHON: dict[Any, Callable[..., Any]] = {
    int: _convert(np.int64),
    float: _convert(np.float64),
    bool: _convert(np.bool_),
    abs: lambda x: abs(operand(x)),
    max: _minmax(np.maximum, np.max),
    min: _minmax(np.minimum, np.min),
    sum: _sum,
    pow: _pow,
    divmod: lambda a, b: (operand(a) // operand(b), operand(a) % operand(b)),
    round: lambda x, ndigits=None: _number(round(operand(x), ndigits)),
    isinstance: _isinstance,
}

_MATH: dict[Any, Callable[..., Any]] = {
    **{
        getattr(math, name): _math(getattr(np, ufunc))
        for name, ufunc in {
            "sqrt": "sqrt", "exp": "exp", "exp2": "exp2", "expm1": "expm1", "log": "log", "log2": "log2",
            "log10": "log10", "log1p": "log1p", "sin": "sin", "cos": "cos", "tan": "tan", "asin": "arcsin",
            "acos": "arccos", "atan": "arctan", "atan2": "arctan2", "sinh": "sinh", "cosh": "cosh", "tanh": "tanh",
            "asinh": "arcsinh", "acosh": "arccosh", "atanh": "arctanh", "hypot": "hypot", "fabs": "fabs",
            "pow": "power", "fmod": "fmod", "copysign": "copysign", "isnan": "isnan", "isinf": "isinf",
            "isfinite": "isfinite", "degrees": "degrees", "radians": "radians", "cbrt": "cbrt",
        }.items()
    },
    math.floor: _math_int(np.floor),
    math.ceil: _math_int(np.ceil),
    math.trunc: _math_int(np.trunc),
}  # fmt: skip


def _is_numpys(x: Any) -> bool:
    """Whether x makes a call of Python's functions one of NumPy code."""
    if isinstance(x, (list, tuple)):
        return any(map(_is_numpys, x))
    return is_array(x)


def _python_call(f: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(replacement)
    def call(*args: Any, **keywords: Any) -> Any:
        if state.trace is not None and any(map(_is_numpys, args)):
            return replacement(*args, **keywords)
        return f(*args, **keywords)

    return call


def _made(f: Callable[..., Any], replacement: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(replacement)
    def call(*args: Any, **keywords: Any) -> Any:
        return f(*args, **keywords) if state.trace is None else replacement(*args, **keywords)

    return call


_CREATION = {f: _made(f, replacement) for f, replacement in CREATION.items()}
_CALLS = {
    **{f: _guarded(f, replacement) for f, replacement in FUNCTIONS.items()},
    **{f: _python_call(f, replacement) for f, replacement in {**_PYTHON, **_MATH}.items()},
}
