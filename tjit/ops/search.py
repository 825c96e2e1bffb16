"""Places in sorted rows, and counts of bins."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import f64, i32, i64
from tjit.errors import ArgumentError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, upper_bound
from tjit.location import user_location
from tjit.ops.arithmetic import add, div, mul, sub
from tjit.ops.bitwise import bitwise_and, bitwise_not
from tjit.ops.bounds import clamp
from tjit.ops.compare import ge, gt, le, where
from tjit.ops.conversion import cast
from tjit.ops.creation import full, zeros
from tjit.ops.extrema import amax, amin
from tjit.ops.index import gather, index_add, refuse_capture, take_dim
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand
from tjit.ops.public import public
from tjit.ops.rounding import floor
from tjit.tensor import Tensor

__all__ = ["bincount", "bucketize", "histc", "searchsorted", "unique", "unique_consecutive"]

_MOST_BITS = 40  # of a row's size that is not known: enough for a terabyte


@public(method=False)
def searchsorted(
    sorted_sequence: Tensor,
    values: Any,
    *,
    out_int32: bool = False,
    right: bool = False,
    side: str | None = None,
    sorter: Tensor | None = None,
) -> Tensor:
    """Where each value would go into its sorted row: before what is equal to it, or with `right` after.

    Args:
        sorted_sequence: [n] for all values, or [*s, n].
        values: [*s, m], or anything for one row.
        side: "left" or "right" instead of `right`.
        sorter: the order of `sorted_sequence`, if it is not sorted itself.

    Returns:
        The values' shape; i64, or i32.
    """
    rows = as_tensor_operand(sorted_sequence, "searchsorted")
    values = as_tensor_operand(values, "searchsorted")
    if side not in (None, "left", "right") or (side == "left" and right):
        raise ArgumentError(f"searchsorted: side is left or right, and not against `right`: {side!r}", user_location())
    if rows.ndim != 1 and (rows.ndim != values.ndim or rows.shape[:-1] != values.shape[:-1]):
        message = f"searchsorted wants one row or one for each row of the values: {rows.type_} and {values.type_}"
        raise TypeRuleError(message, user_location())
    if sorter is not None:
        rows = gather(rows, -1, sorter)
    found = _places(rows, values, after=right or side == "right")
    return cast(found, i32) if out_int32 else found


def _places(rows: Tensor, values: Tensor, *, after: bool) -> Tensor:
    """How many of the row's elements come before each value, bit by bit from the highest."""
    n: Dim = rows.shape[-1]
    most = upper_bound(n)
    bits = _MOST_BITS if most is None else int(most).bit_length()
    size = n if isinstance(n, int) else full((), n, dtype=i64)
    place = zeros(tuple(values.shape), dtype=i64)
    for bit in reversed(range(bits)):
        further = add(place, 1 << bit)
        at = sub(clamp(further, max=size) if isinstance(size, int) else where(gt(further, size), size, further), 1)
        element = take_dim(rows, at, 0) if rows.ndim == 1 else gather(rows, rows.ndim - 1, at)
        before = bitwise_not(gt(element, values) if after else ge(element, values))  # so a nan comes after all
        place = where(bitwise_and(le(further, size), before), further, place)
    return place


@public(method=False)
def bucketize(x: Any, boundaries: Tensor, *, out_int32: bool = False, right: bool = False) -> Tensor:
    """The number of the bucket between `boundaries`, which are sorted, that each element is in."""
    boundaries = as_tensor_operand(boundaries, "bucketize")
    if boundaries.ndim != 1:
        raise TypeRuleError(f"bucketize wants a row of boundaries, not {boundaries.type_}", user_location())
    return searchsorted(boundaries, x, out_int32=out_int32, right=right)


@public()
def histc(x: Tensor, bins: int = 100, min: float = 0, max: float = 0) -> Tensor:
    """How many elements are in each of `bins` equal parts of [min, max]; of what lies between them if both are 0.

    Returns:
        f[bins], of x's dtype.
    """
    x = reshape(as_tensor_operand(x, "histc"), (-1,))
    if not x.dtype.is_floating_point:
        raise DTypeError(f"histc wants a float tensor, not {x.type_}", user_location())
    low, high = _bounds(x, min, max)
    bin_ = clamp(cast(floor(mul(div(sub(x, low), sub(high, low)), bins)), i64), min=0, max=bins - 1)
    inside = bitwise_and(ge(x, low), le(x, high))
    return index_add(zeros((bins,), dtype=x.dtype), 0, where(inside, bin_, 0), cast(inside, x.dtype))


def _bounds(x: Tensor, low: float, high: float) -> tuple[Any, Any]:
    if low == high == 0 and not (isinstance(x.shape[0], int) and x.shape[0] == 0):
        least, most = amin(x), amax(x)
        flat = bitwise_not(gt(most, least))
        return where(flat, sub(least, 1), least), where(flat, add(most, 1), most)
    if low > high:
        raise ArgumentError(f"histc: max must be larger than min, not {high} and {low}", user_location())
    return (low - 1, high + 1) if low == high else (low, high)


@public()
def bincount(x: Tensor, weights: Tensor | None = None, minlength: int = 0) -> Tensor:
    """How often each of 0, 1, ... occurs, or the sum of its weights; not while capturing.

    Returns:
        i64[n], or the weights' dtype: n is `minlength`, or one more than the largest element.
    """
    x = as_tensor_operand(x, "bincount")
    if x.dtype.kind == "float" or x.ndim != 1:
        raise DTypeError(f"bincount wants a row of integers, not {x.type_}", user_location())
    refuse_capture("bincount", "add to zeros of a known size with index_add")
    if x.numel() and x.array.min() < 0:
        raise ArgumentError("bincount wants no negative numbers", user_location())
    size = max(minlength, int(x.array.max()) + 1 if x.numel() else 0)
    ones = full((x.shape[0],), 1, dtype=i64) if weights is None else weights
    ones = ones if weights is None or ones.dtype.kind == "float" else cast(ones, f64)
    return index_add(zeros((size,), dtype=ones.dtype), 0, cast(x, i64), ones)


@public()
def unique(
    x: Tensor, sorted: bool = True, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The distinct elements in order, or the distinct slices along `dim`; not while capturing."""
    x = as_tensor_operand(x, "unique")
    refuse_capture("unique", "sort, and compare neighbours")
    array = x.array
    found = np.unique(array, return_inverse=True, return_counts=True, axis=dim, equal_nan=False)
    values, inverse, counts = (Tensor(np.ascontiguousarray(a)) for a in found)
    inverse = reshape(inverse, tuple(x.shape)) if dim is None else reshape(inverse, (-1,))
    return _chosen(values, inverse, counts, return_inverse, return_counts)


@public()
def unique_consecutive(
    x: Tensor, return_inverse: bool = False, return_counts: bool = False, dim: int | None = None
) -> Any:
    """The elements, or the slices along `dim`, that differ from the one before; not while capturing."""
    x = as_tensor_operand(x, "unique_consecutive")
    refuse_capture("unique_consecutive", "compare neighbours")
    array = x.array.reshape(-1) if dim is None else np.moveaxis(x.array, dim, 0)
    flat = array.reshape(len(array), -1)
    new = np.ones(len(array), bool)
    new[1:] = (flat[1:] != flat[:-1]).any(1)
    starts = np.flatnonzero(new)
    values = array[starts] if dim is None else np.moveaxis(array[starts], 0, dim)
    counts = np.diff(np.append(starts, len(array)))
    inverse = np.cumsum(new) - 1
    inverse = inverse.reshape(x.array.shape) if dim is None else inverse
    return _chosen(Tensor(np.array(values)), Tensor(inverse), Tensor(counts), return_inverse, return_counts)


def _chosen(values: Tensor, inverse: Tensor, counts: Tensor, with_inverse: bool, with_counts: bool) -> Any:
    more = [t for t, wanted in ((inverse, with_inverse), (counts, with_counts)) if wanted]
    return (values, *more) if more else values
