"""Arithmetic: + - * / and their relatives."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import bool_
from tjit.errors import ArgumentError, TypeRuleError
from tjit.location import user_location
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, common_dtype, elementwise
from tjit.ops.public import public
from tjit.ops.records import all_bool, elementwise_op, is_number, zero_vjp
from tjit.tensor import Tensor

__all__ = [
    "add", "div", "floor_divide", "fmod", "mul", "neg", "positive", "reciprocal", "remainder", "rsub", "square",
    "sub",
]  # fmt: skip


@public(inplace=True)
def add(x: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """x + alpha * other; for bools, whether one holds.

    Raises:
        TypeRuleError: alpha is a float and the tensors are ints, or the shapes do not broadcast.
    """
    other = other if alpha == 1 else _scaled(x, other, alpha)
    return bitwise_or(x, other) if all_bool(x, other) else elementwise(ADD, x, other)


def _scaled(x: Any, other: Any, alpha: float) -> Any:
    dtype = common_dtype(x, other)
    if isinstance(alpha, float) and not dtype.is_floating_point:
        raise TypeRuleError(f"alpha must not be a float ({alpha}) for {dtype} tensors", user_location())
    return mul(cast(other, dtype) if isinstance(other, Tensor) else other, alpha)


ADD = elementwise_op(
    "add", arity=2, dtypes="number", reference=np.add, scalar=lambda b, x, y: b.add(x, y), vjp=lambda g, y, a, b: (g, g)
)


@public(inplace=True, aliases=("subtract",))
def sub(x: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
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
def rsub(x: Tensor | float, other: Tensor | float, *, alpha: float = 1) -> Tensor:
    """other - alpha * x."""
    return sub(other, x, alpha=alpha)


@public(inplace=True, aliases=("multiply",))
def mul(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x * other; for bools, whether both hold."""
    return bitwise_and(x, other) if all_bool(x, other) else elementwise(MUL, x, other)


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
    if all_bool(x):
        raise TypeRuleError(
            "Negation, the `-` operator, on a bool tensor is not supported",
            user_location(),
            hint="invert a mask with `~`",
        )
    return elementwise(NEG, x)


NEG = elementwise_op(
    "neg",
    dtypes="number",
    reference=np.negative,
    scalar=lambda b, x: b.neg(x),
    vjp=lambda g, y, x: (neg(g),),
    exact=True,
)


@public()
def positive(x: Tensor) -> Tensor:
    """x itself.

    Raises:
        TypeRuleError: x is bool.
    """
    if all_bool(x):
        raise TypeRuleError("The `+` operator on a bool tensor is not supported", user_location())
    return x


@public(inplace=True)
def square(x: Tensor) -> Tensor:
    """x * x."""
    x = as_tensor_operand(x, "square")
    return mul(x, 1) if x.dtype is bool_ else mul(x, x)


@public(inplace=True, aliases=("divide", "true_divide"))
def div(x: Tensor | float, other: Tensor | float, *, rounding_mode: str | None = None) -> Tensor:
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
            f"div expected rounding_mode to be one of None, 'trunc', or 'floor' but found {rounding_mode!r}",
            user_location(),
        )
    if common_dtype(x, other).is_floating_point:
        return _trunc(elementwise(DIV, x, other))
    return elementwise(TRUNC_DIVIDE, x, other)


def _trunc(x: Tensor) -> Tensor:
    from tjit.ops.rounding import trunc  # rounding is written with arithmetic

    return trunc(x)


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
def floor_divide(x: Tensor | float, other: Tensor | float) -> Tensor:
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
def remainder(x: Tensor | float, other: Tensor | float) -> Tensor:
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
def fmod(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x - other * trunc(x / other), with the sign of x, as C's fmod. An int modulo 0 gives 0."""
    return elementwise(FMOD, x, other)


def _fmod_scalar(b: Any, x: Any, y: Any) -> Any:
    rest = b.trunc_mod(x, y)
    return _nonzero_divisor(b, y, rest) if _is_int(b, x) else rest


def _fmod_vjp(g: Tensor, y: Tensor, a: Any, b: Any) -> tuple[Any, ...]:
    return g, None if is_number(b) else neg(mul(g, _trunc(div(a, b))))


FMOD = elementwise_op(
    "fmod",
    arity=2,
    dtypes="number",
    reference=np.fmod,
    scalar=_fmod_scalar,
    vjp=_fmod_vjp,
    ranges=((-4.9, -4.1), (1.1, 1.3)),
)
