"""NumPy's reductions on captured arrays: its dtypes, `where=` and `initial=`, and what a bool mask selects."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.errors import CaptureError, DTypeError
from tjit.ir.dims import DimExpr, product
from tjit.location import user_location
from tjit.numpy_api.array import ComplexTensor, MaskedRead, NumpyTensor, built, each, parts, plain
from tjit.numpy_api.elementwise import call_ufunc, store, where
from tjit.numpy_api.operands import as_array, operand, real_dtype, to_dtype
from tjit.ops.creation import full
from tjit.ops.movement import broadcast_to, reshape
from tjit.ops.operands import normalize_dim, normalize_dims
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor

__all__ = ["REDUCTIONS", "reduce_ufunc"]

_f = FUNCTIONS.__getitem__
Axis = Any


def _dims(x: Any, axis: Axis) -> tuple[int, ...]:
    if isinstance(axis, tuple) and not axis:
        return ()
    return normalize_dims(tuple(axis) if isinstance(axis, (list, tuple)) else axis, len(x.shape))


def _selected(a: Any, condition: Any) -> tuple[Any, Any]:
    """The array to reduce, and the condition of what counts in it (None: all)."""
    a = operand(a)
    if isinstance(a, MaskedRead):
        if condition is not True:
            raise CaptureError("where= of what a bool mask selects", user_location(), hint="combine both in where=")
        return a.full, a.mask
    a = as_array(a)
    return a, None if condition is True else broadcast_to(parts(as_array(condition))[0], tuple(a.shape))


def _kept(a: Any, condition: Tensor | None, identity: Any) -> Any:
    """a with what does not count replaced by the identity of the reduction."""
    return a if condition is None else where(built([condition], scalar=False), a, identity)


def _given(result: Any, out: Any) -> Any:
    return result if out is None else store(out, result)


def _sum_dtype(dtype: np.dtype[Any], wanted: Any) -> np.dtype[Any]:
    """What sums and products are computed in: small integers in int64 (NumPy's uint64 of uint8 is int64 here)."""
    if wanted is not None:
        return np.dtype(wanted)
    return np.dtype(np.int64) if dtype.kind in "biu" else dtype


def _reduced(fn: Callable[..., Tensor], a: Any, axis: Axis, keepdims: bool) -> Any:
    dims = _dims(a, axis)
    if not dims:
        return a
    return each(lambda t: fn(t, dims, bool(keepdims)), a)


def _accumulate(name: str, identity: Any) -> Callable[..., Any]:
    def reduce(
        a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: Any = False,
        initial: Any = None, where: Any = True,
    ) -> Any:  # fmt: skip
        a, condition = _selected(a, where)
        a = to_dtype(_kept(a, condition, identity), _sum_dtype(a.dtype, dtype))
        if name == "prod" and isinstance(a, ComplexTensor):
            result = _complex_product(a, _dims(a, axis), bool(keepdims))
        else:
            result = _reduced(lambda t, d, k: _f(name)(t, d, k), a, axis, keepdims)
        if initial is not None:
            result = call_ufunc(np.add if name == "sum" else np.multiply, result, initial)
        return _given(result, out)

    reduce.__name__ = name
    return reduce


def _complex_product(a: ComplexTensor, dims: tuple[int, ...], keepdims: bool) -> Any:
    """By halves: the product of the first and the second half of the elements, and so on."""
    rest = [d for d in range(a.ndim) if d not in dims]
    count = product(a.shape[d] for d in dims)
    if not isinstance(count, int):
        raise CaptureError(
            f"a product of {count} complex numbers, a number that differs between calls", user_location()
        )
    lead = tuple(a.shape[d] for d in rest)
    x = each(lambda t: reshape(t.permute((*rest, *dims)), (*lead, count)), a, scalar=False)
    while count > 1:
        half = count // 2
        paired = call_ufunc(np.multiply, x[..., :half], x[..., half : 2 * half])
        x = paired if count == 2 * half else _joined(paired, x[..., 2 * half :])
        count -= half
    if not count:
        x = to_dtype(built([full((*lead, 1), 1.0, dtype=x.re.dtype)]), x.dtype)
    shape = tuple(1 if d in dims else a.shape[d] for d in range(a.ndim)) if keepdims else lead
    return each(lambda t: reshape(t, shape), x)


def _joined(x: Any, y: Any) -> Any:
    return each(lambda s, t: _f("cat")([s, t], -1), x, y)


def _extreme(name: str) -> Callable[..., Any]:
    ufunc = np.maximum if name == "amax" else np.minimum

    def reduce(
        a: Any, axis: Axis = None, out: Any = None, keepdims: Any = False, initial: Any = None, where: Any = True
    ) -> Any:
        a, condition = _selected(a, where)
        _refuse_complex(a, f"np.{name[1:]}")
        a = _kept(a, condition, _lowest(a.dtype, name) if initial is None else initial)
        result = _reduced(lambda t, d, k: _f(name)(t, d, k), a, axis, keepdims)
        return _given(result if initial is None else call_ufunc(ufunc, result, initial), out)

    return reduce


def _lowest(dtype: np.dtype[Any], name: str) -> Any:
    """The identity of the maximum (minimum) in a dtype."""
    if dtype.kind == "f":
        return -np.inf if name == "amax" else np.inf
    if dtype.kind == "b":
        return name != "amax"
    return int(np.iinfo(dtype).min if name == "amax" else np.iinfo(dtype).max)


def _refuse_complex(a: Any, name: str) -> None:
    if isinstance(a, ComplexTensor):
        raise DTypeError(
            f"{name} takes real numbers, not {a.dtype}", user_location(), hint="use abs(x), .real or .imag"
        )


def _quantify(name: str) -> Callable[..., Any]:
    def reduce(a: Any, axis: Axis = None, out: Any = None, keepdims: Any = False, where: Any = True) -> Any:
        a, condition = _selected(a, where)
        a = _kept(to_dtype(a, bool), condition, name == "all")
        return _given(_reduced(lambda t, d, k: _f(name)(t, d, k), a, axis, keepdims), out)

    return reduce


def _count(a: Any, condition: Tensor | None, axis: Axis, keepdims: Any) -> Any:
    """How many elements a mean is over."""
    if condition is not None:
        counted = built([condition], scalar=False)
        return to_dtype(REDUCTIONS[np.sum](counted, axis, keepdims=keepdims), np.float64)
    count = product(a.shape[d] for d in _dims(a, axis))
    return built([full((), count, dtype=dtypes.f64)]) if isinstance(count, DimExpr) else count


def mean(
    a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: Any = False, *, where: Any = True
) -> Any:
    a, condition = _selected(a, where)
    kind = np.dtype(dtype) if dtype is not None else np.dtype(float) if a.dtype.kind in "biu" else a.dtype
    wide = np.dtype(np.float32) if kind == np.float16 else kind  # NumPy sums half floats in single precision
    total = REDUCTIONS[np.sum](_kept(to_dtype(a, wide), condition, 0), axis, keepdims=keepdims)
    count = to_dtype(_as_count(_count(a, condition, axis, keepdims)), real_dtype(wide))
    return _given(to_dtype(call_ufunc(np.divide, total, count), kind), out)


def _as_count(count: Any) -> Any:
    return count if isinstance(count, NumpyTensor) else as_array(count)


def var(
    a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, ddof: Any = 0, keepdims: Any = False,
    *, where: Any = True, mean: Any = None, correction: Any = None,
) -> Any:  # fmt: skip
    ddof = ddof if correction is None else correction
    a, condition = _selected(a, where)
    kind = np.dtype(dtype) if dtype is not None else np.dtype(float) if a.dtype.kind in "biu" else a.dtype
    x = to_dtype(a, kind)
    counted = True if condition is None else built([condition], scalar=False)
    center = mean if mean is not None else _mean(x, axis, None, None, True, where=counted)
    off = call_ufunc(np.subtract, x, center)
    squares = _squared_size(off)
    total = REDUCTIONS[np.sum](_kept(squares, condition, 0), axis, keepdims=keepdims)
    count = call_ufunc(np.subtract, _as_count(_count(a, condition, axis, keepdims)), ddof)
    result = call_ufunc(np.divide, total, to_dtype(call_ufunc(np.maximum, count, 0), total.dtype))
    return _given(result, out)


_mean = mean


def _squared_size(x: Any) -> Any:
    if isinstance(x, ComplexTensor):
        return built([x.re * x.re + x.im * x.im], scalar=False)
    return call_ufunc(np.multiply, x, x)


def std(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, *rest: Any, **keywords: Any) -> Any:
    return _given(call_ufunc(np.sqrt, var(a, axis, dtype, None, *rest, **keywords)), out)


def _position(name: str) -> Callable[..., Any]:
    def find(a: Any, axis: Axis = None, out: Any = None, *, keepdims: Any = False) -> Any:
        a = as_array(a)
        _refuse_complex(a, f"np.{name}")
        t = plain(a)
        t = t if t.dtype.kind != "bool" else t.to(dtypes.u8)
        if axis is None:
            found = _f(name)(reshape(t, (product(t.shape),)), 0)
            return _given(built([reshape(found, (1,) * t.ndim) if keepdims else found]), out)
        return _given(built([_f(name)(t, normalize_dim(axis, t.ndim), bool(keepdims))]), out)

    return find


def ptp(a: Any, axis: Axis = None, out: Any = None, keepdims: Any = False) -> Any:
    high, low = (REDUCTIONS[f](a, axis, keepdims=keepdims) for f in (np.max, np.min))
    return _given(call_ufunc(np.subtract, high, low), out)


def count_nonzero(a: Any, axis: Axis = None, *, keepdims: Any = False) -> Any:
    a, condition = _selected(a, True)
    return REDUCTIONS[np.sum](_kept(to_dtype(a, bool), condition, False), axis, keepdims=keepdims)


def average(a: Any, axis: Axis = None, weights: Any = None, returned: bool = False, *, keepdims: Any = False) -> Any:
    if weights is None:
        result = mean(a, axis, keepdims=keepdims)
        total = _count(as_array(a), None, axis, keepdims)
    else:
        a, weights = as_array(a), as_array(weights)
        if len(weights.shape) != len(a.shape):
            shape = [1] * len(a.shape)
            shape[normalize_dim(axis, len(a.shape))] = weights.shape[0]
            weights = each(lambda t: reshape(t, tuple(shape)), weights, scalar=False)
        wide = np.result_type(a.dtype, weights.dtype, *([np.float64] if a.dtype.kind in "biu" else []))
        weights = each(lambda t: broadcast_to(t, tuple(a.shape)), to_dtype(weights, wide), scalar=False)
        total = REDUCTIONS[np.sum](weights, axis, keepdims=keepdims)
        products = call_ufunc(np.multiply, to_dtype(a, wide), weights)
        result = call_ufunc(np.divide, REDUCTIONS[np.sum](products, axis, keepdims=keepdims), total)
    return (result, total) if returned else result


def _scan(ufunc: np.ufunc) -> Callable[..., Any]:
    """A cumulative sum or product."""
    op = "cumsum" if ufunc is np.add else "cumprod"

    def scan(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None) -> Any:
        a = as_array(a)
        x = to_dtype(a, _sum_dtype(a.dtype, dtype))
        if axis is None or not x.shape:
            x, axis = each(lambda t: reshape(t, (product(t.shape),)), x, scalar=False), 0
        dim = normalize_dim(axis, len(x.shape))
        if x.dtype.kind == "c" and ufunc is np.multiply:
            return _given(_complex_products(x, dim), out)
        return _given(each(lambda t: _f(op)(t, dim, dtype=t.type_.dtype), x), out)

    return scan


def _complex_products(x: Any, dim: int) -> Any:
    """In steps of 1, 2, 4, ... each element takes in the one so far before it."""
    extent = x.shape[dim]
    if not isinstance(extent, int):
        raise CaptureError(
            f"a cumulative product along a dim of {extent} complex numbers, a number that differs between calls",
            user_location(),
            hint="compile with dynamic=False",
        )
    step = 1
    lead = (slice(None),) * dim
    while step < extent:
        later = call_ufunc(np.multiply, x[(*lead, slice(step, None))], x[(*lead, slice(None, extent - step))])
        x = each(lambda s, t: _f("cat")([s, t], dim), x[(*lead, slice(None, step))], later)
        step *= 2
    return x if extent > 1 else each(_f("clone"), x)


def _without_nan(name: Any, identity: Any) -> Callable[..., Any]:
    def reduce(a: Any, axis: Axis = None, *rest: Any, **keywords: Any) -> Any:
        a = as_array(a)
        if a.dtype.kind in "fc":
            a = where(call_ufunc(np.isnan, a), identity, a)
        return REDUCTIONS[name](a, axis, *rest, **keywords)

    return reduce


def nanmean(a: Any, axis: Axis = None, dtype: Any = None, out: Any = None, keepdims: Any = False) -> Any:
    a = as_array(a)
    valid = call_ufunc(np.logical_not, call_ufunc(np.isnan, to_dtype(a, float) if a.dtype.kind in "biu" else a))
    return mean(a, axis, dtype, out, keepdims, where=valid)


def reduce_ufunc(ufunc: np.ufunc, a: Any, axis: Axis = 0, dtype: Any = None, out: Any = None, **keywords: Any) -> Any:
    """`ufunc.reduce`."""
    fn = _BY_UFUNC.get(ufunc)
    if fn is None:
        raise CaptureError(f"np.{ufunc.__name__}.reduce has no counterpart in tjit", user_location(), hint="use a loop")
    out = out[0] if isinstance(out, tuple) else out
    named = {k: v for k, v in keywords.items() if v is not np._NoValue}
    if dtype is not None:
        named["dtype"] = dtype
    return REDUCTIONS[fn](a, axis, out=out, **named)


_BY_UFUNC = {
    np.add: np.sum, np.multiply: np.prod, np.maximum: np.max, np.minimum: np.min, np.logical_and: np.all,
    np.logical_or: np.any,
}  # fmt: skip

REDUCTIONS: dict[Any, Callable[..., Any]] = {
    np.sum: _accumulate("sum", 0),
    np.prod: _accumulate("prod", 1),
    np.max: _extreme("amax"),
    np.min: _extreme("amin"),
    np.amax: _extreme("amax"),
    np.amin: _extreme("amin"),
    np.any: _quantify("any"),
    np.all: _quantify("all"),
    np.mean: mean,
    np.var: var,
    np.std: std,
    np.argmax: _position("argmax"),
    np.argmin: _position("argmin"),
    np.ptp: ptp,
    np.count_nonzero: count_nonzero,
    np.average: average,
    np.cumsum: _scan(np.add),
    np.cumprod: _scan(np.multiply),
    np.nansum: _without_nan(np.sum, 0),
    np.nanprod: _without_nan(np.prod, 1),
    np.nanmax: _without_nan(np.max, -np.inf),
    np.nanmin: _without_nan(np.min, np.inf),
    np.nanmean: nanmean,
}
