"""Sign and rounding."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.ir.op import Op
from tjit.ops.arithmetic import div, mul, positive, sub
from tjit.ops.compare import lt
from tjit.ops.operands import as_tensor_operand, elementwise
from tjit.ops.public import public
from tjit.ops.records import all_bool, elementwise_op, is_number, zero_vjp
from tjit.tensor import Tensor

__all__ = ["abs", "ceil", "copysign", "floor", "frac", "round", "sign", "signbit", "trunc"]


@public(inplace=True, aliases=("absolute",))
def abs(x: Tensor) -> Tensor:
    """|x|. The smallest int is its own absolute value."""
    return elementwise(ABS, x)


ABS = elementwise_op(
    "abs",
    dtypes="number",
    reference=np.abs,
    scalar=lambda b, x: b.abs(x),
    vjp=lambda g, y, x: (mul(g, sign(x)),),
    exact=True,
    ranges=((0.1, 3),),
)


@public(inplace=True, aliases=("sgn",))
def sign(x: Tensor) -> Tensor:
    """-1, 0 or 1; 0 for nan, and a bool is its own sign."""
    return x if all_bool(x) else elementwise(SIGN, x)


def _sign_scalar(b: Any, x: Any) -> Any:
    zero, one = b.const(0, x), b.const(1, x)
    negative = b.select(b.lt(x, zero), b.sub(zero, one), zero)
    return b.select(b.gt(x, zero), one, negative)


SIGN = elementwise_op(
    "sign",
    dtypes="number",
    reference=lambda x: (x > 0).astype(x.dtype) - (x < 0).astype(x.dtype),
    scalar=_sign_scalar,
    vjp=zero_vjp,
    exact=True,
    ranges=((0.1, 3),),
)


@public()
def signbit(x: Tensor) -> Tensor:
    """Whether the sign is negative, also that of -0."""
    if not x.dtype.is_floating_point:
        return lt(x, 0)
    return lt(copysign(1, x), 0)


@public(inplace=True)
def copysign(x: Tensor | float, other: Tensor | float) -> Tensor:
    """|x| with the sign of `other`, also that of -0."""
    return elementwise(COPYSIGN, x, other, to="float")


def _copysign_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    to_a = None if is_number(a) else mul(g, mul(sign(a), copysign(1, as_tensor_operand(b, "copysign"))))
    return to_a, *zero_vjp(g, y, b)


COPYSIGN = elementwise_op(
    "copysign",
    arity=2,
    reference=np.copysign,
    scalar=lambda b, x, y: b.copysign(x, y),
    vjp=_copysign_vjp,
    exact=True,
    ranges=((0.1, 3), (-3, -0.1)),
)


def _rounded(op: Op, x: Any) -> Tensor:
    """Ints are whole already; bools are refused by the type rule."""
    return positive(x) if isinstance(x, Tensor) and x.dtype.kind == "int" else elementwise(op, x)


@public(inplace=True)
def floor(x: Tensor) -> Tensor:
    """The largest integer that is not above x."""
    return _rounded(FLOOR, x)


FLOOR = elementwise_op(
    "floor", reference=np.floor, scalar=lambda b, x: b.floor(x), vjp=zero_vjp, exact=True, ranges=((1.1, 1.9),)
)


@public(inplace=True)
def ceil(x: Tensor) -> Tensor:
    """The smallest integer that is not below x."""
    return _rounded(CEIL, x)


CEIL = elementwise_op(
    "ceil", reference=np.ceil, scalar=lambda b, x: b.ceil(x), vjp=zero_vjp, exact=True, ranges=((1.1, 1.9),)
)


@public(inplace=True, aliases=("fix",))
def trunc(x: Tensor) -> Tensor:
    """x without its fraction: the next integer to zero."""
    return _rounded(TRUNC, x)


TRUNC = elementwise_op(
    "trunc", reference=np.trunc, scalar=lambda b, x: b.trunc(x), vjp=zero_vjp, exact=True, ranges=((1.1, 1.9),)
)


@public(inplace=True)
def round(x: Tensor, *, decimals: int = 0) -> Tensor:
    """The nearest multiple of 10**-decimals; halves to even."""
    if decimals == 0:
        return _rounded(ROUND, x)
    scale = 10.0 ** math.fabs(decimals)
    if decimals > 0:
        return div(elementwise(ROUND, mul(x, scale)), scale)
    return mul(elementwise(ROUND, div(x, scale)), scale)


ROUND = elementwise_op(
    "round", reference=np.rint, scalar=lambda b, x: b.round(x), vjp=zero_vjp, exact=True, ranges=((0.6, 1.4),)
)


@public(inplace=True)
def frac(x: Tensor) -> Tensor:
    """x - trunc(x)."""
    return sub(x, elementwise(TRUNC, x))
