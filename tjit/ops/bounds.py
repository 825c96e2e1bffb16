"""Extrema of two tensors, and clamping."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.ops.arithmetic import _is_int, mul
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.compare import eq, ge, gt, isnan, le, lt, where
from tjit.ops.operands import as_tensor_operand, elementwise
from tjit.ops.public import public
from tjit.ops.records import all_bool, elementwise_op, is_number
from tjit.tensor import Tensor

__all__ = ["clamp", "clamp_max", "clamp_min", "fmax", "fmin", "maximum", "minimum"]


@public()
def maximum(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The larger of the two; nan if one is nan. At ties each gets half of the gradient."""
    return bitwise_or(x, other) if all_bool(x, other) else elementwise(MAXIMUM, x, other)


def _extremum_vjp(loses: Any) -> Any:
    """The winner takes the cotangent; equal operands share it."""

    def vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
        shared = where(eq(a, b), mul(g, 0.5), g)
        to_a = None if is_number(a) else where(loses(a, b), 0, shared)
        return to_a, None if is_number(b) else where(loses(b, a), 0, shared)

    return vjp


MAXIMUM = elementwise_op(
    "maximum",
    arity=2,
    dtypes="number",
    reference=np.maximum,
    scalar=lambda b, x, y: b.maximum(x, y),
    vjp=_extremum_vjp(lt),
    exact=True,
)


@public()
def minimum(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The smaller of the two; nan if one is nan. At ties each gets half of the gradient."""
    return bitwise_and(x, other) if all_bool(x, other) else elementwise(MINIMUM, x, other)


MINIMUM = elementwise_op(
    "minimum",
    arity=2,
    dtypes="number",
    reference=np.minimum,
    scalar=lambda b, x, y: b.minimum(x, y),
    vjp=_extremum_vjp(gt),
    exact=True,
)


@public()
def fmax(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The larger of the two; a nan gives way to a number."""
    return bitwise_or(x, other) if all_bool(x, other) else elementwise(FMAX, x, other)


@public()
def fmin(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The smaller of the two; a nan gives way to a number."""
    return bitwise_and(x, other) if all_bool(x, other) else elementwise(FMIN, x, other)


def _number_first(b: Any, x: Any, y: Any, extremum: Any) -> Any:
    if _is_int(b, x):
        return extremum(x, y)
    return b.select(b.ne(x, x), y, b.select(b.ne(y, y), x, extremum(x, y)))


def _fextremum_vjp(wins: Any) -> Any:
    def vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
        first = bitwise_or(wins(a, b), isnan(as_tensor_operand(b, "fmax")))
        return None if is_number(a) else where(first, g, 0), None if is_number(b) else where(first, 0, g)

    return vjp


FMAX = elementwise_op(
    "fmax",
    arity=2,
    dtypes="number",
    reference=np.fmax,
    scalar=lambda b, x, y: _number_first(b, x, y, b.maximum),
    vjp=_fextremum_vjp(ge),
    exact=True,
)


FMIN = elementwise_op(
    "fmin",
    arity=2,
    dtypes="number",
    reference=np.fmin,
    scalar=lambda b, x, y: _number_first(b, x, y, b.minimum),
    vjp=_fextremum_vjp(le),
    exact=True,
)


@public(inplace=True, aliases=("clip",))
def clamp(x: Tensor, min: Tensor | float | None = None, max: Tensor | float | None = None) -> Tensor:
    """minimum(maximum(x, min), max); a nan of any operand stays. At the bounds x gets the whole gradient.

    Raises:
        ArgumentError: both bounds are None.
    """
    if min is None and max is None:
        raise ArgumentError("clamp: at least one of 'min' or 'max' must not be None", user_location())
    if max is None:
        return elementwise(CLAMP_MIN, x, min)
    if min is None:
        return elementwise(CLAMP_MAX, x, max)
    return elementwise(CLAMP, x, min, max)


@public(inplace=True)
def clamp_min(x: Tensor, min: Tensor | float) -> Tensor:
    """maximum(x, min), with the whole gradient to x where they are equal."""
    return clamp(x, min)


@public(inplace=True)
def clamp_max(x: Tensor, max: Tensor | float) -> Tensor:
    """minimum(x, max), with the whole gradient to x where they are equal."""
    return clamp(x, None, max)


def _clamp_vjp(g: Tensor, y: Tensor, x: Any, low: Any, high: Any) -> tuple[Any, ...]:
    inside = bitwise_and(ge(x, low), le(x, high))
    to_low = None if is_number(low) else where(bitwise_and(lt(x, low), lt(low, high)), g, 0)
    to_high = None if is_number(high) else where(bitwise_or(gt(x, high), gt(low, high)), g, 0)
    return where(inside, g, 0), to_low, to_high


def _clamp_one_vjp(beyond: Any) -> Any:
    def vjp(g: Tensor, y: Tensor, x: Any, bound: Any) -> tuple[Any, ...]:
        outside = beyond(x, bound)
        return where(outside, 0, g), None if is_number(bound) else where(outside, g, 0)

    return vjp


CLAMP = elementwise_op(
    "clamp",
    arity=3,
    dtypes="number",
    reference=lambda x, low, high: np.minimum(np.maximum(x, low), high),
    scalar=lambda b, x, low, high: b.minimum(b.maximum(x, low), high),
    vjp=_clamp_vjp,
    exact=True,
    ranges=((-3, 3), (-2, -1), (1, 2)),
)


CLAMP_MIN = elementwise_op(
    "clamp_min",
    arity=2,
    dtypes="number",
    reference=np.maximum,
    scalar=lambda b, x, low: b.maximum(x, low),
    vjp=_clamp_one_vjp(lt),
    exact=True,
    ranges=((-3, 3), (-1, 0)),
)


CLAMP_MAX = elementwise_op(
    "clamp_max",
    arity=2,
    dtypes="number",
    reference=np.minimum,
    scalar=lambda b, x, high: b.minimum(x, high),
    vjp=_clamp_one_vjp(gt),
    exact=True,
    ranges=((-3, 3), (0, 1)),
)
