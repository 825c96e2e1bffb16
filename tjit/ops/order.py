"""What is read off the order of a row: medians, quantiles, the most frequent element."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

from tjit.dtypes import i64
from tjit.errors import ArgumentError, DTypeError
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.arithmetic import add, floor_divide, mul, sub
from tjit.ops.bitwise import bitwise_or
from tjit.ops.bounds import clamp
from tjit.ops.compare import eq, isnan, ne, where
from tjit.ops.conversion import cast
from tjit.ops.creation import iota, tensor
from tjit.ops.extrema import argmax
from tjit.ops.index import gather
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand, normalize_dim
from tjit.ops.public import public
from tjit.ops.records import extent
from tjit.ops.rounding import ceil, floor
from tjit.ops.rounding import round as round_
from tjit.ops.scans import CUMMAX
from tjit.ops.shape import movedim, squeeze, unsqueeze
from tjit.ops.sort import in_order, nth
from tjit.ops.sums import any as any_
from tjit.ops.sums import sum as sum_
from tjit.tensor import Tensor

__all__ = ["median", "mode", "nanmedian", "nanquantile", "quantile"]

_Median = namedtuple("median", ["values", "indices"])
_NanMedian = namedtuple("nanmedian", ["values", "indices"])
_Mode = namedtuple("mode", ["values", "indices"])

_INTERPOLATIONS = ("linear", "lower", "higher", "midpoint", "nearest")


@public()
def median(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The element in the middle of the order, the lower of two; a nan if there is one.

    Returns:
        The element; with a dim, (values, indices).
    """
    return _median(x, dim, keepdim, _middle, _Median)


@public()
def nanmedian(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Any:
    """The element in the middle of the order of those that are not nan, the lower of two.

    Returns:
        The element; with a dim, (values, indices).
    """
    return _median(x, dim, keepdim, _middle_of_numbers, _NanMedian)


def _median(x: Any, dim: int | None, keepdim: bool, find: Any, pair: Any) -> Any:
    x = as_tensor_operand(x, pair.__name__)
    whole = dim is None
    rows = reshape(x, (-1,)) if whole or not x.ndim else x
    dim = 0 if dim is None else normalize_dim(dim, x.ndim)
    if whole and isinstance(rows.shape[0], int) and rows.shape[0] == 0:
        return tensor(float("nan") if x.dtype.is_floating_point else 0, dtype=x.dtype)
    indices = find(rows, dim)
    values = gather(rows, dim, indices)
    if whole:
        return reshape(values, ())
    if not x.ndim:
        return pair(reshape(values, ()), reshape(indices, ()))
    return pair(values, indices) if keepdim else pair(squeeze(values, dim), squeeze(indices, dim))


def _middle(x: Tensor, dim: int) -> Tensor:
    """Where the median of each row is."""
    _, index = nth(x, (x.shape[dim] - 1) // 2, dim, True)
    if not x.dtype.is_floating_point:
        return index
    nan = isnan(x)
    return where(any_(nan, dim, True), argmax(cast(nan, i64), dim, True), index)


def _middle_of_numbers(x: Tensor, dim: int) -> Tensor:
    if not x.dtype.is_floating_point:
        return _middle(x, dim)
    _, order = in_order(x, dim)
    return gather(order, dim, clamp(floor_divide(sub(_numbers(x, dim), 1), 2), min=0))


def _numbers(x: Tensor, dim: int) -> Tensor:
    """How many elements of each row are not nan."""
    return sum_(eq(x, x), dim, True)


@public()
def mode(x: Tensor, dim: int = -1, keepdim: bool = False) -> Any:
    """(values, indices) of the most frequent element along `dim`: of several the smallest, of it the last place."""
    x = as_tensor_operand(x, "mode")
    if not x.ndim:
        return _Mode(x, tensor(0))
    dim = normalize_dim(dim, x.ndim)
    values, order = in_order(x, dim)
    line = iota(tuple(x.shape), dim, device=x.device)
    last = x.shape[dim] - 1
    before = gather(values, dim, clamp(sub(line, 1), min=0))
    starts = where(bitwise_or(eq(line, 0), ne(values, before)), line, 0)
    run = sub(line, apply(CUMMAX, starts, dim=dim, reverse=False)) if last != 0 else line
    place = argmax(run, dim, True)
    found = gather(values, dim, place), gather(order, dim, place)
    return _Mode(*found) if keepdim else _Mode(*(squeeze(y, dim) for y in found))


@public()
def quantile(
    x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """The elements below which a share q of each row lies; nan where the row has one.

    Args:
        x: f[*s].
        q: a number in [0, 1], or a tensor of several, which become the result's first dim.
        dim: None: of all elements.
        interpolation: between the two nearest elements: linear, lower, higher, midpoint or nearest.
    """
    return _quantiles("quantile", x, q, dim, keepdim, interpolation, ignore_nan=False)


@public()
def nanquantile(
    x: Tensor, q: Any, dim: int | None = None, keepdim: bool = False, *, interpolation: str = "linear"
) -> Tensor:
    """`quantile` of the elements that are not nan."""
    return _quantiles("nanquantile", x, q, dim, keepdim, interpolation, ignore_nan=True)


def _quantiles(
    name: str, x: Any, q: Any, dim: int | None, keepdim: bool, interpolation: str, *, ignore_nan: bool
) -> Tensor:
    x = as_tensor_operand(x, name)
    if not x.dtype.is_floating_point or x.dtype.itemsize < 4:
        raise DTypeError(f"{name} wants an f32 or f64 tensor, not {x.type_}", user_location())
    if interpolation not in _INTERPOLATIONS:
        listed = ", ".join(_INTERPOLATIONS)
        raise ArgumentError(f"{name}: interpolation is one of {listed}, not {interpolation!r}", user_location())
    q = q if isinstance(q, Tensor) else tensor(q, dtype=x.dtype)
    rows = reshape(x, (-1,)) if dim is None else x
    place = 0 if dim is None else normalize_dim(dim, x.ndim)
    shares = reshape(q, (1,) * (rows.ndim - 1) + (-1,))
    found = _interpolated(movedim(rows, place, -1), cast(shares, x.dtype), interpolation, ignore_nan)
    found = movedim(found, -1, 0)
    if keepdim:
        found = reshape(found, (-1,) + (1,) * x.ndim) if dim is None else unsqueeze(found, place + 1)
    return found if q.ndim else squeeze(found, 0)


def _interpolated(rows: Tensor, q: Tensor, interpolation: str, ignore_nan: bool) -> Tensor:
    """For each row, along the last dim, the quantiles q[..., n]."""
    values, _ = in_order(rows, -1)
    last = cast(sub(_numbers(rows, -1), 1), rows.dtype) if ignore_nan else extent(rows, (rows.ndim - 1,)) - 1
    rank = clamp(mul(q, last), min=0)
    if not ignore_nan:  # nan is the greatest
        rank = where(any_(isnan(rows), -1, True), last, rank)
    rank = {"lower": floor, "higher": ceil, "nearest": round_}.get(interpolation, lambda r: r)(rank)
    below = floor(rank)
    low = gather(values, -1, cast(below, i64))
    if interpolation not in ("linear", "midpoint"):
        return low
    high = gather(values, -1, cast(ceil(rank), i64))
    share = sub(rank, below)
    share = share if interpolation == "linear" else where(eq(share, 0), share, 0.5)
    return where(eq(low, high), low, add(low, mul(sub(high, low), share)))
