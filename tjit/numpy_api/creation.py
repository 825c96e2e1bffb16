"""NumPy's functions that make arrays, while capturing: what they make may be written, so it is part of the graph."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.errors import CaptureError
from tjit.ir.dims import DimExpr, maximum
from tjit.location import user_location
from tjit.numpy_api.array import NumpyTensor, built, each, is_array
from tjit.numpy_api.elementwise import call_ufunc
from tjit.numpy_api.operands import as_array, lifted, operand, real_dtype, result_type, split_complex, to_dtype
from tjit.numpy_api.shaping import SHAPING, copy
from tjit.ops.creation import full as full_tensor
from tjit.ops.creation import iota, tensor
from tjit.ops.movement import broadcast_to, reshape
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor

__all__ = ["CREATION", "LIKE", "array", "constant"]

_LITERAL = 64  # elements of a constant array that is written out in the graph; larger ones are inputs of it


def _shape(shape: Any) -> tuple[Any, ...]:
    if isinstance(shape, NumpyTensor) and shape.known is not None:
        shape = shape.known.tolist()
    listed = shape if isinstance(shape, (tuple, list, np.ndarray)) else (shape,)
    return tuple(d if isinstance(d, DimExpr) else _extent(d) for d in listed)


def _extent(d: Any) -> Any:
    if isinstance(d, NumpyTensor):
        if d.known is None:
            raise CaptureError(
                "an array's extent is computed from data", user_location(), hint="take it from x.shape or an argument"
            )
        d = d.known
    if isinstance(d, Tensor):
        from tjit.ops.index import as_index

        return as_index(d)
    return d.__index__()


def full(shape: Any, fill_value: Any, dtype: Any = None, order: str = "C", **ignored: Any) -> Any:
    value = operand(fill_value)
    kind = np.dtype(dtype) if dtype is not None else result_type(value)
    extents = _shape(shape)
    if is_array(value):
        value = to_dtype(as_array(value), kind)
        return each(lambda t: FUNCTIONS["clone"](broadcast_to(t, extents)), value, scalar=False)
    number = value.item() if isinstance(value, np.generic) else value
    numbers = (complex(number).real, complex(number).imag) if kind.kind == "c" else (_in_dtype(number, kind),)
    own = dtypes.from_numpy(real_dtype(kind))
    return built([full_tensor(extents, n, dtype=own) for n in numbers], scalar=False)


def _in_dtype(number: Any, dtype: np.dtype[Any]) -> Any:
    return np.asarray(number).astype(dtype).item() if dtype.kind in "biu" else float(number)


def _filled(value: int) -> Callable[..., Any]:
    def make(shape: Any, dtype: Any = float, order: str = "C", **ignored: Any) -> Any:
        return full(shape, value, np.dtype(float if dtype is None else dtype))

    return make


def _like(value: int) -> Callable[..., Any]:
    def make(a: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **ignored: Any) -> Any:
        a = as_array(a)
        return full(a.shape if shape is None else shape, value, a.dtype if dtype is None else dtype)

    return make


def full_like(
    a: Any, fill_value: Any, dtype: Any = None, order: str = "K", subok: bool = True, shape: Any = None, **ignored: Any
) -> Any:
    a = as_array(a)
    return full(a.shape if shape is None else shape, fill_value, a.dtype if dtype is None else dtype)


def constant(value: np.ndarray) -> Any:
    """An array whose elements capture knows, as a part of the graph. It may be written; `value` stays as it is."""
    value = np.array(value)
    if value.dtype.kind == "c":
        floats = _constant(np.ascontiguousarray(value)[..., None].view(real_dtype(value.dtype)))
        return split_complex(floats)
    result = built([_constant(value)], scalar=False)
    result.known = value
    return result


def _constant(value: np.ndarray) -> Tensor:
    own = dtypes.from_numpy(value.dtype)
    if value.size and (value == value.flat[0]).all() and not (value == 0).any():
        return full_tensor(value.shape, value.flat[0].item(), dtype=own)
    if value.size <= _LITERAL:
        return tensor(value.tolist(), dtype=own).reshape(value.shape)
    return FUNCTIONS["clone"](Tensor(value))


def array(
    object: Any, dtype: Any = None, *, copy: bool | None = True, order: str = "K", subok: bool = False, ndmin: int = 0,
    like: Any = None,
) -> Any:  # fmt: skip
    result = _array(object, dtype, copy)
    missing = ndmin - len(result.shape)
    return result if missing <= 0 else each(lambda t: reshape(t, (*(1,) * missing, *t.shape)), result, scalar=False)


def _array(value: Any, dtype: Any, copied: bool | None) -> Any:
    if is_array(value) or isinstance(value, (Tensor, DimExpr)):
        x = as_array(value)
        same = dtype is None or x.dtype == np.dtype(dtype)
        x = x if same else to_dtype(x, dtype)
        if (same and copied) or x.scalar or x._number:
            return each(FUNCTIONS["clone"], x, scalar=False)
        return x
    if isinstance(value, np.ndarray):
        x = lifted(value) if dtype is None else to_dtype(lifted(value), dtype)
        return copy_of(x) if copied else x
    if isinstance(value, (list, tuple)) and _holds_arrays(value):
        return _nested(value, dtype)
    return constant(np.array(value, dtype))


def copy_of(x: Any) -> Any:
    return each(FUNCTIONS["clone"], x, scalar=False)


def _holds_arrays(value: Any) -> bool:
    if isinstance(value, (list, tuple)):
        return any(_holds_arrays(v) for v in value)
    return is_array(value) or isinstance(value, (Tensor, DimExpr, np.ndarray))


def _nested(value: Any, dtype: Any) -> Any:
    rows = [_nested(v, None) if isinstance(v, (list, tuple)) else operand(v) for v in value]
    kind = np.dtype(dtype) if dtype is not None else np.result_type(*(_own_dtype(r) for r in rows))
    stacked = SHAPING[np.stack]([to_dtype(as_array(r), kind) for r in rows])
    return each(lambda t: t, stacked, scalar=False)


def _own_dtype(x: Any) -> np.dtype[Any]:
    """The dtype of an operand in an array: of a number that of an array of it."""
    return x.dtype if is_array(x) or isinstance(x, np.generic) else np.dtype(type(x))


def asarray(a: Any, dtype: Any = None, order: Any = None, *, copy: bool | None = None, **ignored: Any) -> Any:
    return array(a, dtype, copy=copy)


def arange(start: Any, stop: Any = None, step: Any = 1, dtype: Any = None, **ignored: Any) -> Any:
    start, stop = (0, start) if stop is None else (start, stop)
    start, stop, step = (_number(v) for v in (start, stop, step))
    if not any(isinstance(v, DimExpr) for v in (start, stop, step)):
        return constant_range(np.arange(start, stop, step, dtype=dtype), start, step)
    if not isinstance(step, int) or not all(isinstance(v, (int, DimExpr)) for v in (start, stop)):
        raise CaptureError(
            "np.arange of a symbolic length takes integers", user_location(), hint="scale np.arange(n) instead"
        )
    count = maximum((stop - start + step - (1 if step > 0 else -1)) // step, 0)
    positions = built([iota((count,), 0)], scalar=False)
    scaled = positions if step == 1 else call_ufunc(np.multiply, positions, step)
    moved = scaled if isinstance(start, int) and start == 0 else call_ufunc(np.add, scaled, start)
    return to_dtype(moved, dtype or np.int64)


def _number(value: Any) -> Any:
    if isinstance(value, NumpyTensor):
        if value.known is None:
            return _extent(value)
        return value.known.item()
    return _extent(value) if isinstance(value, Tensor) else value


def constant_range(value: np.ndarray, start: Any, step: Any) -> Any:
    """A range that is known, computed where it is long: NumPy computes start + i * step too."""
    if value.size <= _LITERAL or value.dtype.kind != "i":
        return constant(value)
    own = dtypes.from_numpy(value.dtype)
    result = built([iota(value.shape, 0, own) * int(step) + int(start)], scalar=False)
    result.known = value
    return result


def linspace(
    start: Any, stop: Any, num: Any = 50, endpoint: bool = True, retstep: bool = False, dtype: Any = None,
    axis: int = 0, **ignored: Any,
) -> Any:  # fmt: skip
    values = (start, stop, num)
    if not any(is_array(v) or isinstance(v, (Tensor, DimExpr)) for v in values):
        made, step = np.linspace(start, stop, num, endpoint, retstep=True, dtype=dtype)
        return (constant(made), step) if retstep else constant(made)
    count = _number(num)
    parts_of = count - 1 if endpoint else count
    first, last = operand(start), operand(stop)
    if any(is_array(v) and len(v.shape) for v in (first, last)):
        raise CaptureError("np.linspace between arrays", user_location(), hint="use a + t * (b - a)")
    kind = result_type(first, last, 1.0)
    steps = call_ufunc(np.divide, call_ufunc(np.subtract, last, first), as_array(parts_of))
    positions = to_dtype(built([iota((count,), 0)], scalar=False), real_dtype(kind))
    result = call_ufunc(np.add, call_ufunc(np.multiply, positions, steps), first)
    result = to_dtype(result, dtype or kind)
    if endpoint:
        result[-1] = last
    return (result, steps) if retstep else result


def eye(N: Any, M: Any = None, k: int = 0, dtype: Any = float, order: str = "C", **ignored: Any) -> Any:
    rows, columns = _extent_of(N), _extent_of(N if M is None else M)
    on = iota((rows, columns), 1) - iota((rows, columns), 0) == k
    return to_dtype(built([on], scalar=False), np.dtype(dtype or float))


def _extent_of(n: Any) -> Any:
    return n if isinstance(n, (int, DimExpr)) else _extent(n)


def meshgrid(*xi: Any, copy: bool = True, sparse: bool = False, indexing: str = "xy") -> Any:
    xs = [SHAPING[np.ravel](as_array(x)) for x in xi]
    order = list(range(len(xs)))
    if indexing == "xy" and len(xs) > 1:
        order[0], order[1] = 1, 0
    shape = [xs[i].shape[0] for i in order]
    grids: list[Any] = []
    for i, x in enumerate(xs):
        own = [1] * len(xs)
        own[order.index(i)] = x.shape[0]
        column = each(lambda t, own=own: reshape(t, tuple(own)), x, scalar=False)
        grids.append(column if sparse else full_of(column, tuple(shape)))
    return tuple(grids)


def full_of(x: Any, shape: tuple[Any, ...]) -> Any:
    return each(lambda t: FUNCTIONS["clone"](broadcast_to(t, shape)), x, scalar=False)


def indices(dimensions: Any, dtype: Any = int, sparse: bool = False) -> Any:
    shape = _shape(dimensions)
    grids = [to_dtype(built([iota(shape, d)], scalar=False), dtype) for d in range(len(shape))]
    if sparse:
        raise CaptureError("np.indices with sparse=True", user_location(), hint="use np.arange and None in indices")
    return SHAPING[np.stack](grids)


def tri(N: Any, M: Any = None, k: int = 0, dtype: Any = float, **ignored: Any) -> Any:
    rows, columns = _extent_of(N), _extent_of(N if M is None else M)
    on = iota((rows, columns), 1) - iota((rows, columns), 0) <= k
    return to_dtype(built([on], scalar=False), dtype)


def fromfunction(function: Callable[..., Any], shape: Any, *, dtype: Any = float, **keywords: Any) -> Any:
    grids = indices(shape, dtype)
    return function(*(grids[i] for i in range(len(_shape(shape)))), **keywords)


def _refused(name: str) -> Callable[..., Any]:
    def refuse(*args: Any, **keywords: Any) -> Any:
        raise CaptureError(
            f"np.{name}: its result's shape depends on data",
            user_location(),
            hint="use np.where(condition, a, b), or call it outside of the compiled function",
        )

    return refuse


def caster(dtype: np.dtype[Any]) -> Callable[..., Any]:
    """`np.float32(x)`: a scalar of a 0-d operand, an array of any other."""

    def convert(value: Any = 0) -> Any:
        x = operand(value)
        if not is_array(x):
            return dtype.type(x)
        result = to_dtype(as_array(x), dtype)
        return each(lambda t: t, result, scalar=True) if result is x else result

    return convert


# These make arrays of anything: capture has to call them also where no operand is traced.
CREATION: dict[Any, Callable[..., Any]] = {
    np.zeros: _filled(0),
    np.empty: _filled(0),
    np.ones: _filled(1),
    np.full: full,
    np.arange: arange,
    np.linspace: linspace,
    np.eye: eye,
    np.identity: lambda n, dtype=None, **ignored: eye(n, dtype=dtype or float),
    np.meshgrid: meshgrid,
    np.indices: indices,
    np.array: array,
    np.asarray: asarray,
    np.asanyarray: asarray,
    np.ascontiguousarray: lambda a, dtype=None, **ignored: SHAPING[np.atleast_1d](asarray(a, dtype)),
    np.asfortranarray: asarray,
    np.tri: tri,
    np.fromfunction: fromfunction,
}

LIKE: dict[Any, Callable[..., Any]] = {
    np.zeros_like: _like(0),
    np.empty_like: _like(0),
    np.ones_like: _like(1),
    np.full_like: full_like,
    np.copy: copy,
    **{
        getattr(np, name): _refused(name)
        for name in (
            "nonzero", "flatnonzero", "argwhere", "unique", "extract", "compress", "delete", "bincount", "setdiff1d",
            "intersect1d", "union1d", "trim_zeros",
        )
    },
}  # fmt: skip
