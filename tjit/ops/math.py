"""Powers, exponentials, logarithms, trigonometry and the error function. Ints and bools become the default float dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.errors import TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.location import user_location
from tjit.ops.arithmetic import abs, add, div, maximum, minimum, mul, neg, reciprocal, sub
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.compare import eq, ge, isinf, where
from tjit.ops.erf import erf_reference, erfc_reference
from tjit.ops.operands import elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, in_f32, is_number, one_type
from tjit.tensor import Tensor

__all__ = [
    "acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "cos", "cosh", "deg2rad", "erf", "erfc", "exp", "exp2", "expm1",
    "float_power", "hypot", "log", "log10", "log1p", "log2", "logaddexp", "logaddexp2", "pow", "rad2deg", "rsqrt", "sigmoid",
    "sin", "sinh", "sqrt", "tan", "tanh", "xlogy",
]  # fmt: skip

_LN2 = math.log(2.0)


# Powers


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
            f"ints to negative int powers are not allowed: {x.type_} ** {exponent}", user_location(), hint="make one a float"
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
        return mul(g, where(ge(n, 0), 0, mul(y, -math.inf))) if x == 0 else mul(g, mul(y, math.log(x) if x > 0 else math.nan))
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


# Exponentials and logarithms


@public(inplace=True)
def exp(x: Tensor) -> Tensor:
    """e ** x."""
    return elementwise(EXP, x, to="float")


EXP = elementwise_op("exp", reference=np.exp, scalar=lambda b, x: b.exp(x), vjp=lambda g, y, x: (mul(g, y),))


@public(inplace=True)
def exp2(x: Tensor) -> Tensor:
    """2 ** x."""
    return elementwise(EXP2, x, to="float")


EXP2 = elementwise_op("exp2", reference=np.exp2, scalar=lambda b, x: b.exp2(x), vjp=lambda g, y, x: (mul(g, mul(y, _LN2)),))


@public(inplace=True)
def expm1(x: Tensor) -> Tensor:
    """e ** x - 1, accurate near 0."""
    return elementwise(EXPM1, x, to="float")


EXPM1 = elementwise_op("expm1", reference=np.expm1, scalar=lambda b, x: b.expm1(x), vjp=lambda g, y, x: (mul(g, add(y, 1)),))


@public(inplace=True)
def log(x: Tensor) -> Tensor:
    """The natural logarithm; -inf at 0, nan below."""
    return elementwise(LOG, x, to="float")


LOG = elementwise_op(
    "log", reference=np.log, scalar=lambda b, x: b.log(x), vjp=lambda g, y, x: (div(g, x),), ranges=((0.5, 3),)
)


@public(inplace=True)
def log2(x: Tensor) -> Tensor:
    """The logarithm to base 2."""
    return elementwise(LOG2, x, to="float")


LOG2 = elementwise_op(
    "log2", reference=np.log2, scalar=lambda b, x: b.log2(x), vjp=lambda g, y, x: (div(g, mul(x, _LN2)),), ranges=((0.5, 3),)
)


@public(inplace=True)
def log10(x: Tensor) -> Tensor:
    """The logarithm to base 10."""
    return elementwise(LOG10, x, to="float")


LOG10 = elementwise_op(
    "log10",
    reference=np.log10,
    scalar=lambda b, x: b.log10(x),
    vjp=lambda g, y, x: (div(g, mul(x, math.log(10.0))),),
    ranges=((0.5, 3),),
)


@public(inplace=True)
def log1p(x: Tensor) -> Tensor:
    """log(1 + x), accurate near 0."""
    return elementwise(LOG1P, x, to="float")


LOG1P = elementwise_op(
    "log1p", reference=np.log1p, scalar=lambda b, x: b.log1p(x), vjp=lambda g, y, x: (div(g, add(x, 1)),), ranges=((-0.5, 3),)
)


@public()
def logaddexp(x: Tensor, other: Tensor) -> Tensor:
    """log(exp(x) + exp(other)), without overflow.

    Raises:
        TypeRuleError: the tensors are not float.
    """
    return elementwise(LOGADDEXP, x, other)


def _logaddexp_decompose(x: Tensor, other: Tensor) -> Tensor:
    distance = where(eq(x, other), 0, abs(sub(x, other)))  # two equal infinities differ by 0, not nan
    return add(maximum(x, other), log1p(exp(neg(distance))))


def _logaddexp_vjp(g: Tensor, y: Tensor, x: Any, other: Any) -> tuple[Any, ...]:
    to_x = None if is_number(x) else mul(g, sigmoid(sub(x, other)))
    return to_x, None if is_number(other) else mul(g, sigmoid(sub(other, x)))


LOGADDEXP = register(
    Op(
        name="logaddexp",
        kind="composite",
        infer=one_type("logaddexp"),
        reference=in_f32(np.logaddexp),
        decompose=_logaddexp_decompose,
        vjp=_logaddexp_vjp,
        samples=(Sample(((3, 5), (3, 5))),),
    )
)


@public()
def logaddexp2(x: Tensor, other: Tensor) -> Tensor:
    """log2(2**x + 2**other), without overflow."""
    return div(logaddexp(mul(x, _LN2), mul(other, _LN2)), _LN2)


@public(inplace=True)
def xlogy(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x * log(other); 0 where x is 0 and `other` is not nan."""
    product = mul(x, log(other))
    return where(bitwise_and(eq(x, 0), eq(other, other)), 0, product)


# Trigonometry


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


@public(inplace=True)
def tanh(x: Tensor) -> Tensor:
    """sinh(x) / cosh(x)."""
    return elementwise(TANH, x, to="float")


TANH = elementwise_op(
    "tanh", reference=np.tanh, scalar=lambda b, x: b.tanh(x), vjp=lambda g, y, x: (mul(g, sub(1, mul(y, y))),)
)


@public(inplace=True, aliases=("arcsinh",))
def asinh(x: Tensor) -> Tensor:
    """The inverse of sinh: log(x + sqrt(x*x + 1))."""
    return elementwise(ASINH, x, to="float")


_HUGE = 1e9  # above it x*x + 1 rounds to x*x also in f64, and below it x*x does not overflow in f32


def _asinh_scalar(b: Any, x: Any) -> Any:
    one, a = b.const(1.0, x), b.abs(x)
    aa = b.mul(a, a)
    near = b.log1p(b.add(a, b.div(aa, b.add(one, b.sqrt(b.add(aa, one))))))
    far = b.add(b.log(a), b.const(_LN2, x))
    return b.copysign(b.select(b.gt(a, b.const(_HUGE, x)), far, near), x)


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
    near = b.log1p(b.add(t, b.sqrt(b.mul(t, b.add(t, b.const(2.0, x))))))
    far = b.add(b.log(x), b.const(_LN2, x))
    y = b.select(b.gt(x, b.const(_HUGE, x)), far, near)
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
        decompose=_hypot_decompose,
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


# The error function and the logistic function


@public(inplace=True)
def erf(x: Tensor) -> Tensor:
    """2/sqrt(pi) times the integral of exp(-t*t) from 0 to x."""
    return elementwise(ERF, x, to="float")


def _gauss(x: Tensor) -> Tensor:
    return mul(exp(neg(mul(x, x))), 2 / math.sqrt(math.pi))


ERF = elementwise_op("erf", reference=erf_reference, scalar=lambda b, x: b.erf(x), vjp=lambda g, y, x: (mul(g, _gauss(x)),))


@public(inplace=True)
def erfc(x: Tensor) -> Tensor:
    """1 - erf(x), accurate for large x."""
    return elementwise(ERFC, x, to="float")


ERFC = elementwise_op(
    "erfc", reference=erfc_reference, scalar=lambda b, x: b.erfc(x), vjp=lambda g, y, x: (neg(mul(g, _gauss(x))),)
)


@public(inplace=True)
def sigmoid(x: Tensor) -> Tensor:
    """1 / (1 + exp(-x))."""
    return elementwise(SIGMOID, x, to="float")


def _sigmoid_reference(x: Any) -> Any:
    e = np.exp(-np.abs(x))
    return np.where(x < 0, e, np.ones_like(e)) / (1 + e)


SIGMOID = elementwise_op(
    "sigmoid",
    reference=_sigmoid_reference,
    scalar=lambda b, x: b.sigmoid(x),
    vjp=lambda g, y, x: (mul(g, mul(y, sub(1, y))),),
)
