"""Trigonometric and hyperbolic functions and their inverses. Ints and bools become the default float dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.ir.op import Op, Sample, register
from tjit.ops.arithmetic import add, div, mul, neg, sub
from tjit.ops.bitwise import bitwise_or
from tjit.ops.bounds import maximum, minimum
from tjit.ops.compare import eq, isinf, where
from tjit.ops.operands import elementwise
from tjit.ops.powers import sqrt
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, in_f32, is_number, one_type, parts_in_f32
from tjit.ops.rounding import abs
from tjit.tensor import Tensor

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "deg2rad", "hypot", "rad2deg",
    "sin", "sinh", "tan",
]  # fmt: skip


@public(inplace=True)
def sin(x: Tensor) -> Tensor:
    """The sine of x radians."""
    return elementwise(SIN, x, to="float")


SIN = elementwise_op("sin", reference=np.sin, scalar=lambda b, x: b.sin(x), vjp=lambda g, y, x: (mul(g, cos(x)),))


@public(inplace=True)
def cos(x: Tensor) -> Tensor:
    """The cosine of x radians."""
    return elementwise(COS, x, to="float")


COS = elementwise_op("cos", reference=np.cos, scalar=lambda b, x: b.cos(x), vjp=lambda g, y, x: (neg(mul(g, sin(x))),))


@public(inplace=True)
def tan(x: Tensor) -> Tensor:
    """The tangent of x radians."""
    return elementwise(TAN, x, to="float")


TAN = elementwise_op(
    "tan",
    reference=np.tan,
    scalar=lambda b, x: b.tan(x),
    vjp=lambda g, y, x: (mul(g, add(mul(y, y), 1)),),
    ranges=((-1, 1),),
)


@public(inplace=True, aliases=("arcsin",))
def asin(x: Tensor) -> Tensor:
    """The angle in [-pi/2, pi/2] whose sine is x."""
    return elementwise(ASIN, x, to="float")


def _root_of_complement(x: Tensor) -> Tensor:
    """sqrt(1 - x*x), as a product that keeps its digits near 1."""
    return sqrt(mul(sub(1, x), add(x, 1)))


ASIN = elementwise_op(
    "asin",
    reference=np.arcsin,
    scalar=lambda b, x: b.asin(x),
    vjp=lambda g, y, x: (div(g, _root_of_complement(x)),),
    ranges=((-0.8, 0.8),),
)


@public(inplace=True, aliases=("arccos",))
def acos(x: Tensor) -> Tensor:
    """The angle in [0, pi] whose cosine is x."""
    return elementwise(ACOS, x, to="float")


ACOS = elementwise_op(
    "acos",
    reference=np.arccos,
    scalar=lambda b, x: b.acos(x),
    vjp=lambda g, y, x: (neg(div(g, _root_of_complement(x))),),
    ranges=((-0.8, 0.8),),
)


@public(inplace=True, aliases=("arctan",))
def atan(x: Tensor) -> Tensor:
    """The angle in (-pi/2, pi/2) whose tangent is x."""
    return elementwise(ATAN, x, to="float")


ATAN = elementwise_op(
    "atan", reference=np.arctan, scalar=lambda b, x: b.atan(x), vjp=lambda g, y, x: (div(g, add(mul(x, x), 1)),)
)


@public(inplace=True, aliases=("arctan2",))
def atan2(x: Tensor, other: Tensor) -> Tensor:
    """The angle of the point (other, x), in [-pi, pi]."""
    return elementwise(ATAN2, x, other, to="float")


def _atan2_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    radius = add(mul(a, a), mul(b, b)) if not is_number(a) and not is_number(b) else _sum_of_squares(a, b)
    slope = where(eq(radius, 0), 0, div(g, radius))
    return None if is_number(a) else mul(slope, b), None if is_number(b) else neg(mul(slope, a))


def _sum_of_squares(a: Any, b: Any) -> Tensor:
    return add(mul(a, a), b.value**2) if is_number(b) else add(mul(b, b), a.value**2)


ATAN2 = elementwise_op(
    "atan2",
    arity=2,
    reference=np.arctan2,
    scalar=lambda b, x, y: b.atan2(x, y),
    vjp=_atan2_vjp,
    ranges=((-3, 3), (0.5, 3)),
)


@public(inplace=True)
def sinh(x: Tensor) -> Tensor:
    """(exp(x) - exp(-x)) / 2."""
    return elementwise(SINH, x, to="float")


SINH = elementwise_op("sinh", reference=np.sinh, scalar=lambda b, x: b.sinh(x), vjp=lambda g, y, x: (mul(g, cosh(x)),))


@public(inplace=True)
def cosh(x: Tensor) -> Tensor:
    """(exp(x) + exp(-x)) / 2."""
    return elementwise(COSH, x, to="float")


COSH = elementwise_op("cosh", reference=np.cosh, scalar=lambda b, x: b.cosh(x), vjp=lambda g, y, x: (mul(g, sinh(x)),))


@public(inplace=True, aliases=("arcsinh",))
def asinh(x: Tensor) -> Tensor:
    """The inverse of sinh: log(x + sqrt(x*x + 1))."""
    return elementwise(ASINH, x, to="float")


_LN2 = math.log(2.0)
_HUGE = 1e9  # above it x*x + 1 rounds to x*x also in f64, and below it x*x does not overflow in f32


def _asinh_scalar(b: Any, x: Any) -> Any:
    one, a = b.const(1.0, x), b.abs(x)
    aa = b.mul(a, a)
    near = b.add(a, b.div(aa, b.add(one, b.sqrt(b.add(aa, one)))))
    return b.copysign(_log1p_or_log2x(b, b.gt(a, b.const(_HUGE, x)), near, a), x)


def _log1p_or_log2x(b: Any, far: Any, near: Any, x: Any) -> Any:
    """log(2 x) where x is `far` above 1, else log1p(near)."""
    y = b.log1p(b.select(far, b.sub(x, b.const(1.0, x)), near))
    return b.add(y, b.select(far, b.const(_LN2, x), b.const(0.0, x)))


ASINH = elementwise_op(
    "asinh",
    reference=np.arcsinh,
    scalar=_asinh_scalar,
    vjp=lambda g, y, x: (div(g, sqrt(add(mul(x, x), 1))),),
)


@public(inplace=True, aliases=("arccosh",))
def acosh(x: Tensor) -> Tensor:
    """The inverse of cosh; nan below 1."""
    return elementwise(ACOSH, x, to="float")


def _acosh_scalar(b: Any, x: Any) -> Any:
    t = b.sub(x, b.const(1.0, x))
    near = b.add(t, b.sqrt(b.mul(t, b.add(t, b.const(2.0, x)))))
    y = _log1p_or_log2x(b, b.gt(x, b.const(_HUGE, x)), near, x)
    return b.select(b.lt(x, b.const(1.0, x)), b.const(math.nan, x), y)


ACOSH = elementwise_op(
    "acosh",
    reference=np.arccosh,
    scalar=_acosh_scalar,
    vjp=lambda g, y, x: (div(g, sqrt(mul(sub(x, 1), add(x, 1)))),),
    ranges=((1.5, 3),),
)


@public(inplace=True, aliases=("arctanh",))
def atanh(x: Tensor) -> Tensor:
    """The inverse of tanh; infinite at -1 and 1, nan beyond."""
    return elementwise(ATANH, x, to="float")


def _atanh_scalar(b: Any, x: Any) -> Any:
    a = b.abs(x)
    ratio = b.div(b.add(a, a), b.sub(b.const(1.0, x), a))
    return b.copysign(b.mul(b.const(0.5, x), b.log1p(ratio)), x)


ATANH = elementwise_op(
    "atanh",
    reference=np.arctanh,
    scalar=_atanh_scalar,
    vjp=lambda g, y, x: (div(g, mul(sub(1, x), add(x, 1))),),
    ranges=((-0.8, 0.8),),
)


@public()
def hypot(x: Tensor, other: Tensor) -> Tensor:
    """sqrt(x*x + other*other), without overflow.

    Raises:
        TypeRuleError: the tensors are not float.
    """
    return elementwise(HYPOT, x, other)


def _hypot_decompose(x: Tensor, other: Tensor) -> Tensor:
    a, b = abs(x), abs(other)
    large, small = maximum(a, b), minimum(a, b)
    ratio = where(eq(large, 0), 0, div(small, large))
    length = mul(large, sqrt(add(mul(ratio, ratio), 1)))
    return where(bitwise_or(isinf(a), isinf(b)), math.inf, length)  # also where the other is nan


def _hypot_vjp(g: Tensor, y: Tensor, x: Any, other: Any) -> tuple[Any, ...]:
    return None if is_number(x) else mul(g, div(x, y)), None if is_number(other) else mul(g, div(other, y))


HYPOT = register(
    Op(
        name="hypot",
        kind="composite",
        infer=one_type("hypot"),
        reference=in_f32(np.hypot),
        decompose=parts_in_f32(_hypot_decompose),
        vjp=_hypot_vjp,
        samples=(Sample(((3, 5), (3, 5)), low=0.5),),
    )
)


@public(inplace=True)
def deg2rad(x: Tensor) -> Tensor:
    """Degrees to radians."""
    return mul(x, math.pi / 180)


@public(inplace=True)
def rad2deg(x: Tensor) -> Tensor:
    """Radians to degrees."""
    return mul(x, 180 / math.pi)
