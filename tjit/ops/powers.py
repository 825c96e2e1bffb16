"""Powers and roots."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.errors import TypeRuleError
from tjit.location import user_location
from tjit.ops.arithmetic import div, mul, reciprocal, sub
from tjit.ops.bitwise import bitwise_and
from tjit.ops.compare import eq, ge, where
from tjit.ops.math import log
from tjit.ops.operands import elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, is_number
from tjit.tensor import Tensor

__all__ = ["float_power", "pow", "rsqrt", "sqrt"]


@public(inplace=True)
def sqrt(x: Tensor) -> Tensor:
    """The square root; nan below 0."""
    return elementwise(SQRT, x, to="float")


SQRT = elementwise_op(
    "sqrt",
    reference=np.sqrt,
    scalar=lambda b, x: b.sqrt(x),
    vjp=lambda g, y, x: (div(g, mul(y, 2)),),
    ranges=((0.5, 3),),
)


@public(inplace=True)
def rsqrt(x: Tensor) -> Tensor:
    """1 / sqrt(x)."""
    return elementwise(RSQRT, x, to="float")


RSQRT = elementwise_op(
    "rsqrt",
    reference=lambda x: 1 / np.sqrt(x),
    scalar=lambda b, x: b.rsqrt(x),
    vjp=lambda g, y, x: (mul(mul(g, -0.5), mul(y, mul(y, y))),),
    ranges=((0.5, 3),),
)


@public(inplace=True)
def pow(x: Tensor | float, exponent: Tensor | float) -> Tensor:
    """x ** exponent.

    Exponents 2, 3, 0.5 and -0.5, -1, -2 given as numbers are computed as products, roots and quotients.

    Raises:
        TypeRuleError: a negative number as the exponent of ints.
    """
    if isinstance(exponent, (int, float)) and isinstance(x, Tensor):
        return _pow_number(x, exponent)
    return elementwise(POW, x, exponent)


def _pow_number(x: Tensor, exponent: float) -> Tensor:
    is_float = x.dtype.is_floating_point or isinstance(exponent, float)
    if not is_float and exponent < 0:
        raise TypeRuleError(
            f"ints to negative int powers are not allowed: {x.type_} ** {exponent}",
            user_location(),
            hint="make one a float",
        )
    if exponent == 2:
        return mul(x, x) if x.dtype.is_floating_point else elementwise(POW, x, exponent)
    if not x.dtype.is_floating_point:
        return elementwise(POW, x, exponent)
    if exponent == 3:
        return mul(mul(x, x), x)
    if exponent == 0.5:
        return sqrt(x)
    if exponent == -0.5:
        return rsqrt(x)
    if exponent == -1:
        return reciprocal(x)
    if exponent == -2:
        return reciprocal(mul(x, x))
    return elementwise(POW, x, exponent)


def _pow_reference(x: Any, y: Any) -> Any:
    if x.dtype.kind not in "iu":
        return np.power(x, y)
    # of negative powers only those of 1 and -1 are ints: 1 / (-1)**n is (-1)**n, the others truncate to 0
    negative, unit = y < 0, (x == 1) | (x == x.dtype.type(-1) if x.dtype.kind == "i" else x == 1)
    power = np.power(x, np.where(negative, y & y.dtype.type(1), y))
    return np.where(negative & ~unit, x.dtype.type(0), power)


def _pow_vjp(g: Tensor, y: Tensor, x: Any, n: Any) -> tuple[Any, ...]:
    return None if is_number(x) else _pow_base_vjp(g, x, n), None if is_number(n) else _pow_exponent_vjp(g, y, x, n)


def _pow_base_vjp(g: Tensor, x: Tensor, n: Any) -> Tensor:
    if is_number(n):
        return mul(g, mul(pow(x, n.value - 1), n)) if n.value else mul(g, 0)
    return where(eq(n, 0), 0, mul(g, mul(n, pow(x, sub(n, 1)))))  # x**0 is 1 also at x = 0, where x**-1 is inf


def _pow_exponent_vjp(g: Tensor, y: Tensor, x: Any, n: Tensor) -> Tensor:
    if is_number(x):
        x = x.value
        return (
            mul(g, where(ge(n, 0), 0, mul(y, -math.inf)))
            if x == 0
            else mul(g, mul(y, math.log(x) if x > 0 else math.nan))
        )
    # 0**n is 0 for all n > 0, though log 0 is -inf
    return where(bitwise_and(eq(x, 0), ge(n, 0)), 0, mul(g, mul(y, log(x))))


POW = elementwise_op(
    "pow",
    arity=2,
    dtypes="number",
    reference=_pow_reference,
    scalar=lambda b, x, y: b.pow(x, y),
    vjp=_pow_vjp,
    ranges=((0.5, 3), (-2, 2)),
)


@public(inplace=True)
def float_power(x: Tensor | float, exponent: Tensor | float) -> Tensor:
    """x ** exponent in f64."""
    return elementwise(POW, x, exponent, to="f64")
