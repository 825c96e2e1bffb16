"""NumPy's products of vectors and matrices, and what numpy.linalg has of norms, on captured arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.errors import CaptureError, DimensionError
from tjit.location import user_location
from tjit.numpy_api.array import ComplexTensor, built, each, parts
from tjit.numpy_api.elementwise import call_ufunc, store
from tjit.numpy_api.operands import as_array, real_dtype, result_type, to_dtype
from tjit.numpy_api.reductions import REDUCTIONS
from tjit.numpy_api.shaping import SHAPING
from tjit.ops.conversion import cast
from tjit.ops.movement import reshape
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor

__all__ = ["PRODUCTS", "matmul"]

_f = FUNCTIONS.__getitem__


def _bilinear(fn: Callable[[Tensor, Tensor], Tensor], a: Any, b: Any) -> Any:
    """A bilinear function of two arrays, in their common dtype; of complex ones by real and imaginary parts."""
    kind = result_type(a, b)
    own = dtypes.from_numpy(real_dtype(kind))
    p, q = ([cast(t, own) if t.dtype is not own else t for t in parts(x)] for x in (a, b))
    if kind.kind == "b":  # NumPy's sum of products of bools is their `or`
        p, q = ([cast(t, dtypes.i64) for t in x] for x in (p, q))
        return to_dtype(built([fn(p[0], q[0])]), bool)
    if len(p) == len(q) == 1:
        return built([fn(p[0], q[0])])
    if len(q) == 1:
        return built([fn(p[0], q[0]), fn(p[1], q[0])])
    if len(p) == 1:
        return built([fn(p[0], q[0]), fn(p[0], q[1])])
    return built([fn(p[0], q[0]) - fn(p[1], q[1]), fn(p[0], q[1]) + fn(p[1], q[0])])


def _given(result: Any, out: Any) -> Any:
    out = out[0] if isinstance(out, tuple) else out
    return result if out is None else store(out, result)


def matmul(x1: Any, x2: Any, /, out: Any = None, **ignored: Any) -> Any:
    a, b = as_array(x1), as_array(x2)
    if not a.shape or not b.shape:
        raise DimensionError("matmul takes arrays of at least one dim, not a scalar", user_location(), hint="use *")
    return _given(_bilinear(_f("matmul"), a, b), out)


def dot(a: Any, b: Any, out: Any = None) -> Any:
    a, b = as_array(a), as_array(b)
    if not a.shape or not b.shape:
        return _given(call_ufunc(np.multiply, a, b), out)
    if len(b.shape) <= 2 and len(a.shape) <= 2:
        return _given(_bilinear(_f("matmul"), a, b), out)
    return _given(tensordot(a, b, (-1, max(len(b.shape) - 2, 0))), out)


def inner(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    if not a.shape or not b.shape:
        return call_ufunc(np.multiply, a, b)
    return _bilinear(_f("inner"), a, b)


def _flat(x: Any) -> Any:
    x = as_array(x)
    return SHAPING[np.reshape](x, (-1,))


def outer(a: Any, b: Any, out: Any = None) -> Any:
    a, b = _flat(a), _flat(b)
    return _given(call_ufunc(np.multiply, SHAPING[np.expand_dims](a, 1), b), out)


def ufunc_outer(ufunc: np.ufunc, a: Any, b: Any, **keywords: Any) -> Any:
    """`ufunc.outer`: every element of a with every one of b."""
    a, b = as_array(a), as_array(b)
    shape = (*a.shape, *(1,) * len(b.shape))
    return call_ufunc(ufunc, each(lambda t: reshape(t, shape), a, scalar=False), b, **keywords)


def vdot(a: Any, b: Any, /) -> Any:
    return _bilinear(_f("matmul"), call_ufunc(np.conjugate, _flat(a)), _flat(b))


def tensordot(a: Any, b: Any, axes: Any = 2) -> Any:
    a, b = as_array(a), as_array(b)
    if not isinstance(axes, int):
        first, second = ([x] if isinstance(x, int) else list(x) for x in axes)
        axes = ([d % len(a.shape) for d in first], [d % len(b.shape) for d in second])
    return each(lambda t: t, _bilinear(lambda s, t: _f("tensordot")(s, t, axes), a, b), scalar=False)


def einsum(*operands: Any, out: Any = None, **ignored: Any) -> Any:
    equation, *arrays = operands
    if not isinstance(equation, str):
        raise CaptureError(
            "np.einsum with lists of dims", user_location(), hint="use letters: np.einsum('ij,jk', a, b)"
        )
    xs = [as_array(a) for a in arrays]
    kind = result_type(*xs)
    xs = [to_dtype(x, kind) for x in xs]
    if kind.kind != "c":
        return _given(built([_f("einsum")(equation, *(parts(x)[0] for x in xs))]), out)
    if len(xs) == 1:
        return _given(each(lambda t: _f("einsum")(equation, t), xs[0]), out)
    if len(xs) == 2:
        return _given(_bilinear(lambda s, t: _f("einsum")(equation, s, t), *xs), out)
    raise CaptureError("np.einsum of three complex arrays", user_location(), hint="multiply two at a time")


def norm(x: Any, ord: Any = None, axis: Any = None, keepdims: Any = False) -> Any:
    """numpy.linalg.norm of vectors, and the Frobenius, 1 and infinity norms of matrices.

    Raises:
        CaptureError: a norm that takes singular values.
    """
    x = as_array(x)
    x = to_dtype(x, float) if x.dtype.kind in "biu" else x
    rank = len(x.shape)
    dims = tuple(range(rank)) if axis is None else tuple(axis) if isinstance(axis, (tuple, list)) else (axis,)
    if ord is None or (ord == 2 and len(dims) == 1) or ord == "fro":
        squares = x.re * x.re + x.im * x.im if isinstance(x, ComplexTensor) else None
        squares = call_ufunc(np.multiply, x, x) if squares is None else built([squares], scalar=False)
        return call_ufunc(np.sqrt, REDUCTIONS[np.sum](squares, dims, keepdims=keepdims))
    size = call_ufunc(np.absolute, x)
    if len(dims) == 1:
        return _vector_norm(size, ord, dims[0], keepdims)
    if ord in (1, -1, np.inf, -np.inf):
        rows, columns = (d % rank for d in dims)
        along, over = (rows, columns) if abs(ord) == 1 else (columns, rows)
        sums = REDUCTIONS[np.sum](size, along, keepdims=True)
        result = REDUCTIONS[np.max if ord > 0 else np.min](sums, over, keepdims=True)
        return result if keepdims else built(parts(SHAPING[np.squeeze](result, (rows, columns))))
    raise CaptureError(f"the {ord} norm of a matrix takes singular values, which tjit has not", user_location())


def _vector_norm(size: Any, ord: Any, dim: int, keepdims: Any) -> Any:
    if ord in (np.inf, -np.inf):
        return REDUCTIONS[np.max if ord > 0 else np.min](size, dim, keepdims=keepdims)
    if ord == 0:
        nonzero = to_dtype(call_ufunc(np.not_equal, size, 0), size.dtype)
        return REDUCTIONS[np.sum](nonzero, dim, keepdims=keepdims)
    if ord == 1:
        return REDUCTIONS[np.sum](size, dim, keepdims=keepdims)
    total = REDUCTIONS[np.sum](call_ufunc(np.power, size, float(ord)), dim, keepdims=keepdims)
    return call_ufunc(np.power, total, 1.0 / ord)


def cross(a: Any, b: Any, axisa: int = -1, axisb: int = -1, axisc: int = -1, axis: Any = None) -> Any:
    axisa, axisb, axisc = (axis,) * 3 if axis is not None else (axisa, axisb, axisc)
    a, b = (SHAPING[np.moveaxis](as_array(x), d, -1) for x, d in ((a, axisa), (b, axisb)))
    if a.shape[-1] != 3 or b.shape[-1] != 3:
        raise CaptureError("np.cross of vectors of 2 elements", user_location(), hint="write x[0] * y[1] - x[1] * y[0]")
    x, y = ([v[..., i] for i in range(3)] for v in (a, b))
    pairs = ((1, 2), (2, 0), (0, 1))
    columns = [
        call_ufunc(np.subtract, call_ufunc(np.multiply, x[i], y[j]), call_ufunc(np.multiply, x[j], y[i]))
        for i, j in pairs
    ]
    return SHAPING[np.moveaxis](SHAPING[np.stack](columns, -1), -1, axisc)


def kron(a: Any, b: Any) -> Any:
    a, b = as_array(a), as_array(b)
    rank = max(len(a.shape), len(b.shape))
    left, right = ((1,) * (rank - len(x.shape)) + tuple(x.shape) for x in (a, b))
    a = SHAPING[np.reshape](a, tuple(s for d in left for s in (d, 1)))
    b = SHAPING[np.reshape](b, tuple(s for d in right for s in (1, d)))
    return SHAPING[np.reshape](call_ufunc(np.multiply, a, b), tuple(m * n for m, n in zip(left, right, strict=True)))


PRODUCTS: dict[Any, Callable[..., Any]] = {
    np.dot: dot,
    np.inner: inner,
    np.outer: outer,
    np.vdot: vdot,
    np.tensordot: tensordot,
    np.einsum: einsum,
    np.kron: kron,
    np.cross: cross,
    np.linalg.norm: norm,
    np.linalg.matmul: matmul,
    np.linalg.outer: outer,
    np.linalg.trace: lambda x, /, *, offset=0, dtype=None: SHAPING[np.trace](x, offset, -2, -1, dtype),
    np.linalg.diagonal: lambda x, /, *, offset=0: SHAPING[np.diagonal](x, offset, -2, -1),
}
