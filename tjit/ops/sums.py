"""Sums, products, means and counts over dims."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, bool_, f32, i64, u8
from tjit.errors import ArgumentError
from tjit.ir.op import Op, Sample, register
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.arithmetic import div, mul
from tjit.ops.compare import eq, isnan, ne, where
from tjit.ops.conversion import cast
from tjit.ops.movement import broadcast_to
from tjit.ops.operands import as_tensor_operand, normalize_dims
from tjit.ops.public import public
from tjit.ops.records import extent, in_f32, parts_in_f32, reduce_rule, restore_dims
from tjit.tensor import Tensor

__all__ = ["all", "any", "count_nonzero", "mean", "nanmean", "nansum", "prod", "sum"]

Dims = tuple[int, ...]

REDUCE_SAMPLES = (
    Sample(((3, 5),), attrs={"dims": (1,), "keepdim": False}),
    Sample(((3, 5),), attrs={"dims": (0,), "keepdim": True}),
    Sample(((2, 3, 5),), attrs={"dims": (0, 2), "keepdim": False}),
    Sample(((7,),), attrs={"dims": (0,), "keepdim": False}),
)


def _summand(x: Any, dtype: DType | None, name: str) -> Tensor:
    """x in the dtype of its sum: `dtype`, or i64 for ints and bools."""
    x = as_tensor_operand(x, name)
    if dtype is not None:
        return cast(x, as_dtype(dtype))
    return x if x.dtype.is_floating_point else cast(x, i64)


@public()
def sum(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim`.

    Args:
        x: [*s]; ints and bools are summed as i64. f16 and bf16 accumulate in f32.
        dim: a dim, several, or None for all.
        keepdim: leave reduced dims as 1.
        dtype: convert x to it first.
    """
    x = _summand(x, dtype, "sum")
    return apply(SUM, x, dims=normalize_dims(dim, x.ndim), keepdim=keepdim)


def _sum_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    return (broadcast_to(restore_dims(g, x, dims, keepdim), x.shape),)


SUM = register(
    Op(
        name="sum",
        kind="reduce",
        infer=reduce_rule("sum"),
        reference=in_f32(lambda x, dims, keepdim: np.sum(x, axis=dims, keepdims=keepdim, dtype=x.dtype)),
        vjp=_sum_vjp,
        samples=REDUCE_SAMPLES,
        dtypes="number",
    )
)


@public()
def prod(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The product over `dim`; dtypes as in `sum`. The first derivative is exact also where elements are 0."""
    x = _summand(x, dtype, "prod")
    return apply(PROD, x, dims=normalize_dims(dim, x.ndim), keepdim=keepdim)


def _prod_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    zero = eq(x, 0)
    zeros = sum(zero, dims, True) if dims else cast(zero, i64)
    others = where(zero, 1, x)
    product = prod(others, dims, True) if dims else others
    # of the elements beside a zero none has a slope, and the only zero of a product has that of the others
    slope = where(zero, where(eq(zeros, 1), product, 0), where(eq(zeros, 0), div(product, others), 0))
    return (mul(restore_dims(g, x, dims, keepdim), slope),)


PROD = register(
    Op(
        name="prod",
        kind="reduce",
        infer=reduce_rule("prod"),
        reference=in_f32(lambda x, dims, keepdim: np.prod(x, axis=dims, keepdims=keepdim, dtype=x.dtype)),
        vjp=_prod_vjp,
        samples=tuple(Sample(s.shapes, 0.5, 1.5, attrs=s.attrs) for s in REDUCE_SAMPLES),
        dtypes="number",
    )
)


@public()
def any(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether an element over `dim` is not 0, as bool (u8 for u8). False where there is none."""
    return _quantify(ANY, x, dim, keepdim)


@public()
def all(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """Whether no element over `dim` is 0, as bool (u8 for u8). True where there is none."""
    return _quantify(ALL, x, dim, keepdim)


def _quantify(op: Op, x: Any, dim: Any, keepdim: bool) -> Tensor:
    x = as_tensor_operand(x, op.name)
    y = apply(op, cast(x, bool_), dims=normalize_dims(dim, x.ndim), keepdim=keepdim)
    return cast(y, u8) if x.dtype is u8 else y


ANY = register(
    Op(
        name="any",
        kind="reduce",
        infer=reduce_rule("any", "bool"),
        reference=lambda x, dims, keepdim: np.any(x, axis=dims, keepdims=keepdim),
        vjp=None,
        samples=REDUCE_SAMPLES,
        dtypes="bool",
        differentiable=False,
        exact=True,
    )
)
ALL = register(
    Op(
        name="all",
        kind="reduce",
        infer=reduce_rule("all", "bool"),
        reference=lambda x, dims, keepdim: np.all(x, axis=dims, keepdims=keepdim),
        vjp=None,
        samples=REDUCE_SAMPLES,
        dtypes="bool",
        differentiable=False,
        exact=True,
    )
)


@public()
def mean(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim` divided by the number of elements; nan where there is none.

    Raises:
        TypeRuleError: x is not float and no float `dtype` is given.
    """
    x = as_tensor_operand(x, "mean")
    x = x if dtype is None else cast(x, as_dtype(dtype))
    return apply(MEAN, x, dims=normalize_dims(dim, x.ndim), keepdim=keepdim)


def wide(x: Tensor) -> Tensor:
    """x, or x in f32 where its dtype is narrower: what a composite reduction computes in."""
    return cast(x, f32) if x.dtype.itemsize < 4 else x


def _mean_decompose(x: Tensor, dims: Dims, keepdim: bool) -> Tensor:
    return div(apply(SUM, x, dims=dims, keepdim=keepdim), extent(x, dims))


def _mean_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    share = cast(div(wide(g), extent(wide(x), dims)), x.dtype)  # a count beyond 65504 is infinite in f16
    return (broadcast_to(restore_dims(share, x, dims, keepdim), x.shape),)


MEAN = register(
    Op(
        name="mean",
        kind="composite",
        infer=reduce_rule("mean", "float", hint="pass a float dtype=, or convert with .to(dtype)"),
        reference=in_f32(lambda x, dims, keepdim: np_mean(x, dims, keepdim)),
        decompose=parts_in_f32(_mean_decompose),
        vjp=_mean_vjp,
        samples=REDUCE_SAMPLES,
    )
)


def np_mean(x: np.ndarray, dims: Dims, keepdim: bool) -> Any:
    """np.mean, without its warning where there is no element."""
    n = math.prod(x.shape[d] for d in dims)
    return np.sum(x, axis=dims, keepdims=keepdim) / x.dtype.type(n)


@public()
def nansum(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim` of what is not nan."""
    x = as_tensor_operand(x, "nansum")
    return sum(where(isnan(x), 0, x) if x.dtype.is_floating_point else x, dim, keepdim, dtype=dtype)


@public()
def nanmean(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The mean over `dim` of what is not nan."""
    return div(nansum(x, dim, keepdim, dtype=dtype), sum(eq(x, x), dim, keepdim))


@public()
def count_nonzero(x: Tensor, dim: Any = None) -> Tensor:
    """How many elements over `dim` are not 0, as i64."""
    x = as_tensor_operand(x, "count_nonzero")
    return sum(x if x.dtype is bool_ else ne(x, 0), dim)


def one_dim(dim: Any, name: str) -> Any:
    """`dim`, checked to be one dim or None."""
    if isinstance(dim, (tuple, list)):
        raise ArgumentError(f"{name} takes one dim, not {tuple(dim)}", user_location())
    return dim
