"""Scans: each element with all before it along a dim. Their gradients are scans the other way."""

from __future__ import annotations

from collections import namedtuple
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, bool_, i32, i64, u8
from tjit.errors import TypeRuleError
from tjit.ir.dims import upper_bound
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.ops.arithmetic import add, div, mul, neg, sub
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.compare import eq, gt, isnan, where
from tjit.ops.conversion import cast
from tjit.ops.creation import iota, zeros_like
from tjit.ops.index import scatter_add
from tjit.ops.math import exp, log
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand, normalize_dim
from tjit.ops.public import public
from tjit.ops.records import in_f32
from tjit.tensor import Tensor

__all__ = ["cummax", "cummin", "cumprod", "cumsum", "logcumsumexp"]

_Max = namedtuple("cummax", ["values", "indices"])
_Min = namedtuple("cummin", ["values", "indices"])

_SAMPLES = (
    Sample(((3, 5),), attrs={"dim": 1, "reverse": False}),
    Sample(((3, 5),), attrs={"dim": 0, "reverse": True}),
    Sample(((2, 37, 3),), attrs={"dim": 1, "reverse": False}),
    Sample(((2, 67),), attrs={"dim": 1, "reverse": True}),
    Sample(((1,),), attrs={"dim": 0, "reverse": False}),
)


def _scan_rule(name: str, kinds: tuple[str, ...] = ("int", "float")) -> Callable[..., TensorType]:
    def infer(x: TensorType, dim: int, reverse: bool) -> TensorType:
        if x.dtype.kind not in kinds:
            raise TypeRuleError(f"{name} wants {' or '.join(kinds)} elements, not {x}")
        if not 0 <= dim < x.ndim:
            raise TypeRuleError(f"{name} wants a dim of {x}, not {dim}")
        return x

    return infer


def _reference(accumulate: Callable[..., Any]) -> Callable[..., Any]:
    """The scan by NumPy's `accumulate`; sums and products of f32 run in f64, as in PyTorch."""

    def reference(x: np.ndarray, dim: int, reverse: bool) -> np.ndarray:
        x = np.flip(x, dim) if reverse else x
        y = accumulate(x, dim)
        return np.flip(y, dim) if reverse else y

    return in_f32(reference)


def _wide(ufunc: np.ufunc) -> Callable[..., Any]:
    def accumulate(x: np.ndarray, dim: int) -> Any:
        wide = np.float64 if x.dtype == np.float32 else x.dtype
        return ufunc.accumulate(x, axis=dim, dtype=wide).astype(x.dtype, copy=False)

    return accumulate


def _scan_op(name: str, accumulate: Callable[..., Any], vjp: Callable[..., Any], **more: Any) -> Op:
    """Register a scan; `accumulate` takes an array and an axis."""
    samples = tuple(Sample(s.shapes, *more.pop("range", (-3.0, 3.0)), attrs=s.attrs) for s in _SAMPLES)
    fields = {"infer": _scan_rule(name), "dtypes": "number", **more}
    return register(Op(name=name, kind="scan", reference=_reference(accumulate), vjp=vjp, samples=samples, **fields))


def _operand(x: Any, dtype: Any, name: str) -> Tensor:
    """x in the dtype of its scan: `dtype`, or i64 for ints and bools."""
    x = as_tensor_operand(x, name)
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_floating_point else cast(x, i64)


def _along(op: Op, x: Tensor, dim: Any) -> Any:
    """`op` along `dim`; a 0-d x is a row of one."""
    dim = normalize_dim(dim, x.ndim)
    if x.ndim:
        return apply(op, x, dim=dim, reverse=False)
    found = apply(op, reshape(x, (1,)), dim=0, reverse=False)
    return tuple(reshape(y, ()) for y in found) if isinstance(found, tuple) else reshape(found, ())


@public(inplace=True)
def cumsum(x: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The sum of each element and all before it along `dim`.

    Args:
        x: [*s]; ints and bools are summed as i64. f16, bf16 and f32 accumulate in more digits than they have.
        dtype: convert x to it first.
    """
    return _along(CUMSUM, _operand(x, dtype, "cumsum"), dim)


def _cumsum_vjp(g: Tensor, y: Tensor, x: Tensor, dim: int, reverse: bool) -> tuple[Tensor]:
    return (apply(CUMSUM, g, dim=dim, reverse=not reverse),)


CUMSUM = _scan_op("cumsum", _wide(np.add), _cumsum_vjp)


@public(inplace=True)
def cumprod(x: Tensor, dim: int, *, dtype: DType | None = None) -> Tensor:
    """The product of each element and all before it along `dim`; dtypes as in `cumsum`.

    The first derivative is exact also where elements are 0.
    """
    return _along(CUMPROD, _operand(x, dtype, "cumprod"), dim)


def _cumprod_vjp(g: Tensor, y: Tensor, x: Tensor, dim: int, reverse: bool) -> tuple[Tensor]:
    # dx[i] is the sum over j >= i of g[j] y[j] / x[i]. At the first zero the products are taken without it; after it
    # they hold it, and are 0.
    zero = eq(x, 0)
    zeros = apply(CUMSUM, cast(zero, i64), dim=dim, reverse=reverse)
    first = bitwise_and(zero, eq(zeros, 1))
    others = apply(CUMPROD, where(first, 1, x), dim=dim, reverse=reverse)
    before = div(apply(CUMSUM, mul(g, y), dim=dim, reverse=not reverse), where(zero, 1, x))
    at = apply(CUMSUM, mul(g, others), dim=dim, reverse=not reverse)
    return (where(eq(zeros, 0), before, where(first, at, 0)),)


CUMPROD = _scan_op("cumprod", _wide(np.multiply), _cumprod_vjp, range=(0.5, 1.5))


@public()
def logcumsumexp(x: Tensor, dim: int) -> Tensor:
    """The logarithm of the sum of the exponentials of each element and all before it along `dim`, without overflow.

    Raises:
        TypeRuleError: x is not float.
    """
    return _along(LOGCUMSUMEXP, as_tensor_operand(x, "logcumsumexp"), dim)


def _logcumsumexp_vjp(g: Tensor, y: Tensor, x: Tensor, dim: int, reverse: bool) -> tuple[Tensor]:
    # dx[i] is the sum over j >= i of g[j] exp(x[i] - y[j]): of logarithms, for each sign of g
    def share(positive: Tensor, size: Tensor) -> Tensor:
        term = sub(log(where(positive, size, 1)), where(positive, y, 0))
        term = where(bitwise_and(positive, gt(y, float("-inf"))), term, float("-inf"))
        return exp(add(x, apply(LOGCUMSUMEXP, term, dim=dim, reverse=not reverse)))

    return (sub(share(gt(g, 0), g), share(gt(neg(g), 0), neg(g))),)


LOGCUMSUMEXP = _scan_op(
    "logcumsumexp",
    lambda x, dim: np.logaddexp.accumulate(x, axis=dim),
    _logcumsumexp_vjp,
    infer=_scan_rule("logcumsumexp", ("float",)),
    dtypes="float",
)


# The running extremes and where they are


def _latest(x: Tensor, y: Tensor, dim: int, reverse: bool) -> Tensor:
    """The position of the latest element that is the extreme so far, or a nan."""
    most = upper_bound(x.shape[dim])
    narrow = i32 if most is not None and most < 1 << 31 else i64
    line = iota(tuple(x.shape), dim, narrow, device=x.device)
    extreme = eq(x, y) if not x.dtype.is_floating_point else bitwise_or(eq(x, y), isnan(x))
    last = x.shape[dim] - 1
    found = where(extreme, line, last if reverse else 0)
    return cast(apply(CUMMIN if reverse else CUMMAX, found, dim=dim, reverse=reverse), i64)


def _extreme_vjp(g: Tensor, y: Tensor, x: Tensor, dim: int, reverse: bool) -> tuple[Tensor]:
    return (scatter_add(zeros_like(g), dim, _latest(x, y, dim, reverse), g),)


CUMMAX = _scan_op("cummax", lambda x, dim: np.maximum.accumulate(x, axis=dim), _extreme_vjp, exact=True)
CUMMIN = _scan_op("cummin", lambda x, dim: np.minimum.accumulate(x, axis=dim), _extreme_vjp, exact=True)


def _with_index_op(name: str, values: Op) -> Op:
    """Two results: the extreme so far, and the position of the latest element that is it."""
    rule = _scan_rule(name)

    def decompose(x: Tensor, dim: int, reverse: bool) -> tuple[Tensor, Tensor]:
        y = apply(values, x, dim=dim, reverse=reverse)
        return y, _latest(x, y, dim, reverse)

    def reference(x: np.ndarray, dim: int, reverse: bool) -> tuple[np.ndarray, np.ndarray]:
        y = values.reference(x, dim=dim, reverse=reverse)
        line = np.arange(x.shape[dim]).reshape([-1 if d == dim else 1 for d in range(x.ndim)])
        extreme = (x == y) | (x != x)
        index = np.where(extreme, line, x.shape[dim] - 1 if reverse else 0)
        op = CUMMIN if reverse else CUMMAX
        return y, op.reference(index, dim=dim, reverse=reverse)

    def infer(x: TensorType, dim: int, reverse: bool) -> tuple[TensorType, TensorType]:
        found = rule(x, dim, reverse)
        return found, found.with_dtype(i64)

    def vjp(g: Any, y: Any, x: Tensor, dim: int, reverse: bool) -> tuple[Tensor]:
        return (scatter_add(zeros_like(g[0]), dim, y[1], g[0]),)

    return register(
        Op(
            name=name,
            kind="composite",
            infer=infer,
            reference=reference,
            decompose=decompose,
            vjp=vjp,
            samples=_SAMPLES,
            dtypes="number",
            exact=True,
        )
    )


CUMMAX_WITH_INDEX = _with_index_op("cummax_with_index", CUMMAX)
CUMMIN_WITH_INDEX = _with_index_op("cummin_with_index", CUMMIN)


@public()
def cummax(x: Tensor, dim: int) -> Any:
    """(values, indices): the largest element so far along `dim`, and the latest place where it is; nan is largest."""
    return _Max(*_extremes(CUMMAX_WITH_INDEX, x, dim))


@public()
def cummin(x: Tensor, dim: int) -> Any:
    """(values, indices): the smallest element so far along `dim`, and the latest place where it is; nan is smallest."""
    return _Min(*_extremes(CUMMIN_WITH_INDEX, x, dim))


def _extremes(op: Op, x: Any, dim: Any) -> tuple[Tensor, Tensor]:
    x = as_tensor_operand(x, op.name.removesuffix("_with_index"))
    if x.dtype is bool_:
        values, indices = _along(op, cast(x, u8), dim)
        return cast(values, bool_), indices
    return _along(op, x, dim)
