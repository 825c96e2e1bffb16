"""Every NumPy function that captured arrays know, by the function itself, and NumPy's dispatch to them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.errors import CaptureError
from tjit.location import user_location
from tjit.numpy_api.array import ArrayMethods, NumpyTensor, built, is_array, number, parts, plain
from tjit.numpy_api.complex_math import angle as angle_of
from tjit.numpy_api.creation import LIKE
from tjit.numpy_api.elementwise import call_ufunc, store, where
from tjit.numpy_api.operands import as_array, kind_of, operand, to_dtype
from tjit.numpy_api.products import PRODUCTS, matmul, ufunc_outer
from tjit.numpy_api.reductions import REDUCTIONS, reduce_ufunc
from tjit.numpy_api.shaping import SHAPING
from tjit.ops.creation import full
from tjit.ops.order import quantile
from tjit.ops.sort import in_order
from tjit.tensor import Tensor

__all__ = ["FUNCTIONS", "array_function", "array_ufunc", "imag", "real"]


def _where(condition: Any, *branches: Any) -> Any:
    if not branches:
        return LIKE[np.nonzero](condition)
    return where(condition, *branches)


def real(val: Any) -> Any:
    x = as_array(val)
    return built([x.re], x.scalar) if len(parts(x)) == 2 else x


def imag(val: Any) -> Any:
    x = as_array(val)
    own = parts(x)
    return built([own[1] if len(own) == 2 else full(tuple(x.shape), 0, dtype=own[0].dtype)], x.scalar)


def angle(z: Any, deg: bool = False) -> Any:
    x = as_array(z)
    pair = parts(x) if len(parts(x)) == 2 else (parts(as_array(call_ufunc(np.multiply, x, 1.0)))[0], None)
    result = built([angle_of((pair[0], pair[1]))])
    return call_ufunc(np.degrees, result) if deg else result


def _isclose(a: Any, b: Any, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Any:
    a, b = operand(a), operand(b)
    size = call_ufunc(np.add, call_ufunc(np.multiply, call_ufunc(np.absolute, b), rtol), atol)
    near = call_ufunc(np.less_equal, call_ufunc(np.absolute, call_ufunc(np.subtract, a, b)), size)
    close = call_ufunc(np.logical_or, call_ufunc(np.logical_and, near, call_ufunc(np.isfinite, b)), a == b)
    if not equal_nan:
        return close
    both = call_ufunc(np.logical_and, call_ufunc(np.isnan, a), call_ufunc(np.isnan, b))
    return call_ufunc(np.logical_or, close, both)


def _array_equal(a1: Any, a2: Any, equal_nan: bool = False) -> Any:
    a, b = as_array(a1), as_array(a2)
    return tuple(a.shape) == tuple(b.shape) and number(REDUCTIONS[np.all](call_ufunc(np.equal, a, b)))


def _interp(x: Any, xp: Any, fp: Any, left: Any = None, right: Any = None, period: Any = None) -> Any:
    raise CaptureError("np.interp has no counterpart in tjit", user_location(), hint="write it with np.where")


FUNCTIONS: dict[Any, Callable[..., Any]] = {
    **LIKE,
    **SHAPING,
    **REDUCTIONS,
    **PRODUCTS,
    np.where: _where,
    np.real: real,
    np.imag: imag,
    np.angle: angle,
    np.isclose: _isclose,
    np.allclose: lambda a, b, *args, **keywords: number(REDUCTIONS[np.all](_isclose(a, b, *args, **keywords))),
    np.array_equal: _array_equal,
    np.isposinf: lambda x, out=None: call_ufunc(np.equal, x, np.inf, out=out),
    np.isneginf: lambda x, out=None: call_ufunc(np.equal, x, -np.inf, out=out),
    np.isreal: lambda x: call_ufunc(np.equal, imag(x), 0),
    np.iscomplexobj: lambda x: as_array(x).dtype.kind == "c",
    np.isrealobj: lambda x: as_array(x).dtype.kind != "c",
    np.shape: lambda a: tuple(as_array(a).shape),
    np.ndim: lambda a: len(as_array(a).shape),
    np.size: lambda a, axis=None: as_array(a).size if axis is None else as_array(a).shape[axis],
    np.result_type: lambda *xs: np.result_type(*(x.dtype if isinstance(x, ArrayMethods) else x for x in xs)),
    np.can_cast: lambda from_, *rest: np.can_cast(kind_of(from_) if is_array(from_) else from_, *rest),
    np.interp: _interp,
    np.fix: lambda x, out=None: call_ufunc(np.trunc, x, out=out),
    np.sinc: lambda x: _sinc(x),
    np.sort: lambda a, axis=-1, kind=None, order=None, *, stable=None: _in_order(np.sort, a, axis),
    np.argsort: lambda a, axis=-1, kind=None, order=None, *, stable=None: _in_order(np.argsort, a, axis),
    np.median: lambda a, *args, **keywords: _median(a, *args, **keywords),
}


def _in_order(function: Any, a: Any, axis: Any) -> Any:
    """np.sort or np.argsort; always stable."""
    x = _real_rows(function, a)
    (rows,) = parts(SHAPING[np.ravel](x) if axis is None else x)
    values, places = in_order(rows, 0 if axis is None else axis)
    return built([values if function is np.sort else places])


def _median(a: Any, axis: Any = None, out: Any = None, overwrite_input: bool = False, keepdims: bool = False) -> Any:
    x = _real_rows(np.median, a)
    wide = np.float64 if x.dtype.kind in "biu" else x.dtype
    found = built([quantile(parts(to_dtype(x, wide))[0], 0.5, axis, keepdims, interpolation="midpoint")])
    return found if out is None else store(out, found)


def _real_rows(function: Any, a: Any) -> Any:
    x = as_array(a)
    if x.dtype.kind == "c":
        message = f"np.{function.__name__} of complex numbers has no counterpart in tjit"
        raise CaptureError(message, user_location(), hint="call it outside of the compiled function")
    return x


def _sinc(x: Any) -> Any:
    y = call_ufunc(np.multiply, np.pi, where(call_ufunc(np.equal, x, 0), 1e-20, x))
    return call_ufunc(np.divide, call_ufunc(np.sin, y), y)


def array_ufunc(self: Any, ufunc: np.ufunc, method: str, *inputs: Any, **keywords: Any) -> Any:
    """`__array_ufunc__`: NumPy calls it for a ufunc with a captured array among its operands."""
    if any(type(x) is Tensor and not x._number for x in inputs):
        tensors = [plain(x) if isinstance(x, NumpyTensor) else x for x in inputs]
        return getattr(ufunc, method)(*tensors, **keywords)
    if ufunc is np.matmul and method == "__call__":
        return matmul(*inputs, **keywords)
    if method == "__call__":
        return call_ufunc(ufunc, *inputs, **keywords)
    if method == "reduce":
        return reduce_ufunc(ufunc, *inputs, **keywords)
    if method == "outer":
        return ufunc_outer(ufunc, *inputs, **keywords)
    if method == "accumulate" and ufunc in (np.add, np.multiply):
        axis = keywords.pop("axis", 0)
        return REDUCTIONS[np.cumsum if ufunc is np.add else np.cumprod](*inputs, axis=axis)
    if method == "at":
        return _write_at(ufunc, *inputs)
    raise CaptureError(
        f"np.{ufunc.__name__}.{method} has no counterpart in tjit", user_location(), hint="write it as a loop"
    )


def _write_at(ufunc: np.ufunc, a: Any, key: Any, value: Any = None) -> None:
    """`np.add.at`: every one of equal positions counts."""
    from tjit.numpy_api.keys import add_at

    if ufunc is np.add:
        return add_at(a, key, value)
    if ufunc is np.subtract:
        return add_at(a, key, call_ufunc(np.negative, as_array(value)))
    raise CaptureError(f"np.{ufunc.__name__}.at has no counterpart in tjit", user_location(), hint="write it as a loop")


def array_function(self: Any, func: Callable[..., Any], types: Any, args: Any, keywords: Any) -> Any:
    """`__array_function__`: NumPy calls it for its other functions with a captured array among their operands."""
    fn = FUNCTIONS.get(func)
    if fn is None:
        module = "np.linalg" if func.__module__ == "numpy.linalg" else "np"
        raise CaptureError(
            f"{module}.{func.__name__} has no counterpart in tjit",
            user_location(),
            hint="write it with other functions, or call it outside of the compiled function",
        )
    named = {k: v for k, v in keywords.items() if v is not np._NoValue}
    return fn(*args, **named)
