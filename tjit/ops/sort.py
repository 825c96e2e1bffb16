"""Order along a dim: sort, and what only wants the first few. Equal elements keep their order; nan is the greatest."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from tjit.dtypes import bf16, f16, i64
from tjit.errors import DimensionError, TypeRuleError
from tjit.ir.dims import Dim, upper_bound
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.creation import zeros_like
from tjit.ops.index import as_index, scatter_add
from tjit.ops.join import select
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand, normalize_dim
from tjit.ops.public import public
from tjit.ops.shape import unsqueeze
from tjit.tensor import Tensor

__all__ = ["argsort", "in_order", "kthvalue", "msort", "nth", "sort", "topk"]

_Sort = namedtuple("sort", ["values", "indices"])
_TopK = namedtuple("topk", ["values", "indices"])
_KthValue = namedtuple("kthvalue", ["values", "indices"])


def _sort_infer(x: TensorType, dim: int, descending: bool, count: Dim) -> tuple[TensorType, TensorType]:
    if not 0 <= dim < x.ndim:
        raise TypeRuleError(f"sort wants a dim of {x}, not {dim}")
    extent = x.shape[dim]
    if isinstance(count, int) and (count < 0 or (isinstance(extent, int) and count > extent)):
        raise TypeRuleError(f"sort wants a count of elements in dim {dim} of {x}, not {count}")
    values = x.with_shape((*x.shape[:dim], count, *x.shape[dim + 1 :]))
    return values, values.with_dtype(i64)


def _sort_reference(x: np.ndarray, dim: int, descending: bool, count: int) -> tuple[np.ndarray, np.ndarray]:
    keys = x.astype(np.float32) if x.dtype in (f16.numpy, bf16.numpy) else x
    if descending:  # the last of equal elements first, read backwards
        order = np.argsort(np.flip(keys, dim), axis=dim, kind="stable")
        order = np.flip(x.shape[dim] - 1 - order, dim)
    else:
        order = np.argsort(keys, axis=dim, kind="stable")
    order = np.take(order, np.arange(count), axis=dim)
    return np.take_along_axis(x, order, dim), order


def _sort_vjp(g: Any, y: Any, x: Tensor, dim: int, descending: bool, count: Dim) -> tuple[Tensor]:
    return (scatter_add(zeros_like(x), dim, y[1], g[0]),)


SORT = register(
    Op(
        name="sort",
        kind="sort",
        infer=_sort_infer,
        reference=_sort_reference,
        vjp=_sort_vjp,
        samples=(
            Sample(((3, 5),), attrs={"dim": 1, "descending": False, "count": 5}),
            Sample(((3, 5),), attrs={"dim": 0, "descending": True, "count": 3}),
            Sample(((2, 37, 3),), attrs={"dim": 1, "descending": True, "count": 37}),
            Sample(((2, 700),), attrs={"dim": 1, "descending": False, "count": 3}),
            Sample(((1,),), attrs={"dim": 0, "descending": False, "count": 1}),
        ),
        dtypes="any",
        exact=True,
    )
)


def in_order(x: Tensor, dim: Any, *, descending: bool = False, count: Dim | None = None) -> tuple[Tensor, Tensor]:
    """(values, indices): the first `count` elements in order along `dim`, None: all. A 0-d x is a row of one."""
    dim = normalize_dim(dim, x.ndim)
    if not x.ndim:
        values, indices = apply(SORT, reshape(x, (1,)), dim=0, descending=descending, count=1)
        return reshape(values, ()), reshape(indices, ())
    count = x.shape[dim] if count is None else count
    return apply(SORT, x, dim=dim, descending=descending, count=count)


@public()
def sort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Any:
    """(values, indices) of x's elements in order along `dim`. It is always stable; nan is the greatest."""
    return _Sort(*in_order(as_tensor_operand(x, "sort"), dim, descending=bool(descending)))


@public()
def argsort(x: Tensor, dim: int = -1, descending: bool = False, stable: bool = True) -> Tensor:
    """The indices that put x's elements in order along `dim`; as in `sort`."""
    return in_order(as_tensor_operand(x, "argsort"), dim, descending=bool(descending))[1]


@public()
def msort(x: Tensor) -> Tensor:
    """x's elements in order along its first dim."""
    return in_order(as_tensor_operand(x, "msort"), 0)[0]


@public()
def topk(x: Tensor, k: int, dim: int = -1, largest: bool = True, sorted: bool = True) -> Any:
    """(values, indices) of the k largest elements along `dim`, or of the smallest, in order. Of equal ones the first.

    Raises:
        DimensionError: there are no k elements.
    """
    x = as_tensor_operand(x, "topk")
    count = _checked_count(x, k, dim, "topk", 0)
    return _TopK(*in_order(x, dim, descending=bool(largest), count=count))


@public()
def kthvalue(x: Tensor, k: int, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the k-th smallest element along `dim`, counted from 1.

    Raises:
        DimensionError: there are no k elements.
    """
    x = as_tensor_operand(x, "kthvalue")
    place = _checked_count(x, k, dim, "kthvalue", 1) - 1
    return _KthValue(*nth(x, place, normalize_dim(dim, x.ndim), keepdim))


def nth(x: Tensor, place: Dim, dim: int, keepdim: bool) -> tuple[Tensor, Tensor]:
    """(value, index) at a place of the order along `dim`."""
    found = in_order(x, dim, count=place + 1)
    if not x.ndim:
        return found
    values, indices = (select(y, dim, place) for y in found)
    return (unsqueeze(values, dim), unsqueeze(indices, dim)) if keepdim else (values, indices)


def _checked_count(x: Tensor, k: Any, dim: Any, name: str, least: int) -> Dim:
    k = as_index(k)
    extent = x.shape[normalize_dim(dim, x.ndim)] if x.ndim else 1
    most = upper_bound(extent)
    if isinstance(k, int) and (k < least or (most is not None and k > most)):
        raise DimensionError(f"{name}: k = {k} is not in {least} to {extent}, the size of dim {dim}", user_location())
    return k
