"""Arithmetic on numbers: + - * / and their relatives, extrema, rounding and sign."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.dtypes import bool_, default_dtype
from tjit.errors import ArgumentError, DTypeError, TypeRuleError
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.compare import _all_bool, eq, ge, gt, isnan, le, lt, where
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, common_dtype, elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, is_number, zero_vjp
from tjit.tensor import Tensor

__all__ = [
    "abs", "add", "addcdiv", "addcmul", "ceil", "clamp", "clamp_max", "clamp_min", "copysign", "div", "floor", "floor_divide",
    "fmax", "fmin", "fmod", "frac", "lerp", "maximum", "minimum", "mul", "neg", "positive", "reciprocal", "remainder", "round",
    "rsub", "sign", "signbit", "square", "sub", "trunc",
]  # fmt: skip


# Sums and products


@public(inplace=True)
def add(x: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """x + alpha * other; for bools, whether one holds.

    Raises:
        TypeRuleError: alpha is a float and the tensors are ints, or the shapes do not broadcast.
    """
    other = other if alpha == 1 else _scaled(x, other, alpha)
    return bitwise_or(x, other) if _all_bool(x, other) else elementwise(ADD, x, other)


def _scaled(x: Any, other: Any, alpha: float) -> Any:
    dtype = common_dtype(x, other)
    if isinstance(alpha, float) and not dtype.is_floating_point:
        raise TypeRuleError(f"alpha must not be a float ({alpha}) for {dtype} tensors", user_location())
    return mul(cast(other, dtype) if isinstance(other, Tensor) else other, alpha)


ADD = elementwise_op(
    "add", arity=2, dtypes="number", reference=np.add, scalar=lambda b, x, y: b.add(x, y), vjp=lambda g, y, a, b: (g, g)
)


@public(inplace=True, aliases=("subtract",))
def sub(x: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """x - alpha * other.

    Raises:
        TypeRuleError: a tensor is bool; or as `add`.
    """
    if any(isinstance(o, bool) or (isinstance(o, Tensor) and o.dtype is bool_) for o in (x, other)):
        raise TypeRuleError(
            "Subtraction, the `-` operator, with a bool tensor is not supported",
            user_location(),
            hint="use `^` or logical_xor() to compare, `~` or logical_not() to invert",
        )
    return elementwise(SUB, x, other if alpha == 1 else _scaled(x, other, alpha))


def _sub_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return g, None if is_number(b) else neg(g)


SUB = elementwise_op(
    "sub", arity=2, dtypes="number", reference=np.subtract, scalar=lambda b, x, y: b.sub(x, y), vjp=_sub_vjp
)


@public()
def rsub(x: Tensor, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """other - alpha * x."""
    return sub(other, x, alpha=alpha)


@public(inplace=True, aliases=("multiply",))
def mul(x: Tensor, other: Tensor | float) -> Tensor:
    """x * other; for bools, whether both hold."""
    return bitwise_and(x, other) if _all_bool(x, other) else elementwise(MUL, x, other)


def _mul_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return None if is_number(a) else mul(g, b), None if is_number(b) else mul(g, a)


MUL = elementwise_op(
    "mul", arity=2, dtypes="number", reference=np.multiply, scalar=lambda b, x, y: b.mul(x, y), vjp=_mul_vjp
)


@public(inplace=True)
def neg(x: Tensor) -> Tensor:
    """-x.

    Raises:
        TypeRuleError: x is bool.
    """
    if _all_bool(x):
        raise TypeRuleError(
            "Negation, the `-` operator, on a bool tensor is not supported", user_location(), hint="invert a mask with `~`"
        )
    return elementwise(NEG, x)


NEG = elementwise_op(
    "neg", dtypes="number", reference=np.negative, scalar=lambda b, x: b.neg(x), vjp=lambda g, y, x: (neg(g),), exact=True
)


@public()
def positive(x: Tensor) -> Tensor:
    """x itself.

    Raises:
        TypeRuleError: x is bool.
    """
    if _all_bool(x):
        raise TypeRuleError("The `+` operator on a bool tensor is not supported", user_location())
    return x


@public(inplace=True)
def square(x: Tensor) -> Tensor:
    """x * x."""
    x = as_tensor_operand(x, "square")
    return mul(x, 1) if x.dtype is bool_ else mul(x, x)


# Quotients


@public(inplace=True, aliases=("divide", "true_divide"))
def div(x: Tensor, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
    """x / other; ints and bools become the default float dtype unless the quotient is rounded.

    Args:
        rounding_mode: None, "trunc" (to zero, as C's ints) or "floor" (as Python's //).

    Raises:
        ArgumentError: another rounding mode.
    """
    if rounding_mode is None:
        return elementwise(DIV, x, other, to="float")
    if rounding_mode == "floor":
        return floor_divide(x, other)
    if rounding_mode != "trunc":
        raise ArgumentError(
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}", user_location()
        )
    if common_dtype(x, other).is_floating_point:
        return trunc(elementwise(DIV, x, other))
    return elementwise(TRUNC_DIVIDE, x, other)


def _div_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return None if is_number(a) else div(g, b), None if is_number(b) else neg(div(mul(g, y), b))


DIV = elementwise_op(
    "div",
    arity=2,
    reference=np.true_divide,
    scalar=lambda b, x, y: b.div(x, y),
    vjp=_div_vjp,
    ranges=((-3, 3), (0.5, 3)),
)


@public(inplace=True)
def reciprocal(x: Tensor) -> Tensor:
    """1 / x."""
    return elementwise(DIV, 1, x, to="float")


@public(inplace=True)
def floor_divide(x: Tensor, other: Tensor | float) -> Tensor:
    """floor(x / other), exact for ints, as Python's //. An int divided by 0 gives 0."""
    return elementwise(FLOOR_DIVIDE, x, other)


def _is_int(b: Any, x: Any) -> bool:
    return b.dtype(x).kind == "int"


def _nonzero_divisor(b: Any, y: Any, quotient: Any) -> Any:
    zero = b.const(0, y)
    return b.select(b.eq(y, zero), zero, quotient)


def _floor_divide_scalar(b: Any, x: Any, y: Any) -> Any:
    """CPython's divmod for floats: exact where x / y would round up to the next integer."""
    if _is_int(b, x):
        return _nonzero_divisor(b, y, b.floor_div(x, y))
    zero, one = b.const(0.0, x), b.const(1.0, x)
    rest = b.trunc_mod(x, y)
    quotient = b.div(b.sub(x, rest), y)
    below = b.bit_and(b.ne(rest, zero), b.bit_xor(b.lt(y, zero), b.lt(rest, zero)))
    quotient = b.select(below, b.sub(quotient, one), quotient)
    whole = b.floor(quotient)
    whole = b.select(b.gt(b.sub(quotient, whole), b.const(0.5, x)), b.add(whole, one), whole)
    whole = b.select(b.eq(quotient, zero), b.copysign(zero, b.div(x, y)), whole)
    return b.select(b.eq(y, zero), b.div(x, y), whole)


FLOOR_DIVIDE = elementwise_op(
    "floor_divide",
    arity=2,
    dtypes="number",
    reference=np.floor_divide,
    scalar=_floor_divide_scalar,
    vjp=zero_vjp,
    ranges=((4.1, 4.9), (1.1, 1.3)),
)


TRUNC_DIVIDE = elementwise_op(
    "trunc_divide",
    arity=2,
    dtypes="int",
    reference=lambda x, y: np.where(y == 0, y, (x - np.fmod(x, y)) // np.where(y == 0, np.ones_like(y), y)),
    scalar=lambda b, x, y: _nonzero_divisor(b, y, b.trunc_div(x, y)),
    vjp=None,
    exact=True,
    ranges=((-9, 9), (1, 4)),
)


@public(inplace=True)
def remainder(x: Tensor, other: Tensor | float) -> Tensor:
    """x - other * floor(x / other), with the sign of `other`, as Python's %. An int modulo 0 gives 0."""
    return elementwise(REMAINDER, x, other)


def _remainder_reference(x: Any, y: Any) -> Any:
    if x.dtype.kind in "iu":
        return np.remainder(x, y)
    rest = np.fmod(x, y)
    return np.where((rest != 0) & ((y < 0) != (rest < 0)), rest + y, rest)


def _remainder_scalar(b: Any, x: Any, y: Any) -> Any:
    if _is_int(b, x):
        return _nonzero_divisor(b, y, b.floor_mod(x, y))
    zero = b.const(0.0, x)
    rest = b.trunc_mod(x, y)
    below = b.bit_and(b.ne(rest, zero), b.bit_xor(b.lt(y, zero), b.lt(rest, zero)))
    return b.select(below, b.add(rest, y), rest)


def _remainder_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return g, None if is_number(b) else neg(mul(g, floor_divide(a, b)))


REMAINDER = elementwise_op(
    "remainder",
    arity=2,
    dtypes="number",
    reference=_remainder_reference,
    scalar=_remainder_scalar,
    vjp=_remainder_vjp,
    ranges=((4.1, 4.9), (1.1, 1.3)),
)


@public(inplace=True)
def fmod(x: Tensor, other: Tensor | float) -> Tensor:
    """x - other * trunc(x / other), with the sign of x, as C's fmod. An int modulo 0 gives 0."""
    return elementwise(FMOD, x, other)


def _fmod_scalar(b: Any, x: Any, y: Any) -> Any:
    rest = b.trunc_mod(x, y)
    return _nonzero_divisor(b, y, rest) if _is_int(b, x) else rest


def _fmod_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return g, None if is_number(b) else neg(mul(g, trunc(div(a, b))))


FMOD = elementwise_op(
    "fmod",
    arity=2,
    dtypes="number",
    reference=np.fmod,
    scalar=_fmod_scalar,
    vjp=_fmod_vjp,
    ranges=((-4.9, -4.1), (1.1, 1.3)),
)


# Extrema


@public()
def maximum(x: Tensor, other: Tensor | float) -> Tensor:
    """The larger of the two; nan if one is nan. At ties each gets half of the gradient."""
    return bitwise_or(x, other) if _all_bool(x, other) else elementwise(MAXIMUM, x, other)


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
def minimum(x: Tensor, other: Tensor | float) -> Tensor:
    """The smaller of the two; nan if one is nan. At ties each gets half of the gradient."""
    return bitwise_and(x, other) if _all_bool(x, other) else elementwise(MINIMUM, x, other)


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
def fmax(x: Tensor, other: Tensor | float) -> Tensor:
    """The larger of the two; a nan gives way to a number."""
    return bitwise_or(x, other) if _all_bool(x, other) else elementwise(FMAX, x, other)


@public()
def fmin(x: Tensor, other: Tensor | float) -> Tensor:
    """The smaller of the two; a nan gives way to a number."""
    return bitwise_and(x, other) if _all_bool(x, other) else elementwise(FMIN, x, other)


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


# Sign and rounding


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
    return x if _all_bool(x) else elementwise(SIGN, x)


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
def copysign(x: Tensor, other: Tensor | float) -> Tensor:
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


CEIL = elementwise_op("ceil", reference=np.ceil, scalar=lambda b, x: b.ceil(x), vjp=zero_vjp, exact=True, ranges=((1.1, 1.9),))


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


# Combinations


@public(inplace=True)
def lerp(x: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """x + weight * (end - x), computed from the nearer end so that weight 1 gives `end` exactly.

    Raises:
        TypeRuleError: the tensors are not float.
    """
    if not common_dtype(x, end).is_floating_point:
        raise TypeRuleError(f"lerp wants float tensors, not {x.type_}", user_location())
    step = sub(end, x)
    if not isinstance(weight, Tensor):
        return add(x, mul(step, weight)) if math.fabs(weight) < 0.5 else sub(end, mul(step, 1 - weight))
    near = lt(abs(weight), 0.5)
    return where(near, add(x, mul(step, weight)), sub(end, mul(step, sub(1, weight))))


@public(inplace=True)
def addcmul(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """x + value * tensor1 * tensor2."""
    product = mul(tensor1, tensor2)
    return add(x, product if value == 1 else mul(product, value))


@public(inplace=True)
def addcdiv(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """x + value * tensor1 / tensor2.

    Raises:
        DTypeError: both tensors are ints.
    """
    if not common_dtype(tensor1, tensor2).is_floating_point:
        raise DTypeError("addcdiv does not divide ints", user_location(), hint=f"convert one to {default_dtype()}")
    quotient = div(tensor1, tensor2)
    return add(x, quotient if value == 1 else mul(quotient, value))
