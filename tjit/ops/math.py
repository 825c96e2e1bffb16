"""Exponentials, logarithms, the error and the logistic function. Ints and bools become the default float dtype."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.ir.op import Op, Sample, register
from tjit.ops.arithmetic import add, div, mul, neg, sub
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.bounds import maximum
from tjit.ops.compare import eq, le, where
from tjit.ops.erf import erf_reference, erfc_reference, erfinv_reference
from tjit.ops.operands import elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, in_f32, is_number, one_type, parts_in_f32
from tjit.ops.rounding import abs
from tjit.tensor import Tensor

__all__ = [
    "erf", "erfc", "erfinv", "exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "logaddexp", "logaddexp2",
    "sigmoid", "tanh", "xlogy",
]  # fmt: skip

_LN2 = math.log(2.0)


@public(inplace=True)
def exp(x: Tensor) -> Tensor:
    """e ** x."""
    return elementwise(EXP, x, to="float")


EXP = elementwise_op("exp", reference=np.exp, scalar=lambda b, x: b.exp(x), vjp=lambda g, y, x: (mul(g, y),))


@public(inplace=True)
def exp2(x: Tensor) -> Tensor:
    """2 ** x."""
    return elementwise(EXP2, x, to="float")


EXP2 = elementwise_op(
    "exp2", reference=np.exp2, scalar=lambda b, x: b.exp2(x), vjp=lambda g, y, x: (mul(g, mul(y, _LN2)),)
)


@public(inplace=True)
def expm1(x: Tensor) -> Tensor:
    """e ** x - 1, accurate near 0."""
    return elementwise(EXPM1, x, to="float")


EXPM1 = elementwise_op(
    "expm1", reference=np.expm1, scalar=lambda b, x: b.expm1(x), vjp=lambda g, y, x: (mul(g, add(y, 1)),)
)


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
    "log2",
    reference=np.log2,
    scalar=lambda b, x: b.log2(x),
    vjp=lambda g, y, x: (div(g, mul(x, _LN2)),),
    ranges=((0.5, 3),),
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
    "log1p",
    reference=np.log1p,
    scalar=lambda b, x: b.log1p(x),
    vjp=lambda g, y, x: (div(g, add(x, 1)),),
    ranges=((-0.5, 3),),
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
        decompose=parts_in_f32(_logaddexp_decompose),
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
    infinite = bitwise_or(le(other, 0), eq(other, math.inf))
    return mul(x, log(where(bitwise_and(eq(x, 0), infinite), 1, other)))  # x itself stays, for its gradient at 0


@public(inplace=True)
def tanh(x: Tensor) -> Tensor:
    """sinh(x) / cosh(x)."""
    return elementwise(TANH, x, to="float")


TANH = elementwise_op(
    "tanh", reference=np.tanh, scalar=lambda b, x: b.tanh(x), vjp=lambda g, y, x: (mul(g, sub(1, mul(y, y))),)
)


@public(inplace=True)
def erf(x: Tensor) -> Tensor:
    """2/sqrt(pi) times the integral of exp(-t*t) from 0 to x."""
    return elementwise(ERF, x, to="float")


def _gauss(x: Tensor) -> Tensor:
    return mul(exp(neg(mul(x, x))), 2 / math.sqrt(math.pi))


ERF = elementwise_op(
    "erf", reference=erf_reference, scalar=lambda b, x: b.erf(x), vjp=lambda g, y, x: (mul(g, _gauss(x)),)
)


@public(inplace=True)
def erfc(x: Tensor) -> Tensor:
    """1 - erf(x), accurate for large x."""
    return elementwise(ERFC, x, to="float")


ERFC = elementwise_op(
    "erfc",
    reference=erfc_reference,
    scalar=lambda b, x: b.erfc(x),
    vjp=lambda g, y, x: (neg(mul(g, _gauss(x))),),
)


@public(inplace=True)
def erfinv(x: Tensor) -> Tensor:
    """The inverse of erf; infinite at -1 and 1, nan beyond."""
    return elementwise(ERFINV, x, to="float")


ERFINV = elementwise_op(
    "erfinv",
    reference=erfinv_reference,
    scalar=lambda b, x: b.erfinv(x),
    vjp=lambda g, y, x: (mul(g, mul(exp(mul(y, y)), math.sqrt(math.pi) / 2)),),
    ranges=((-0.8, 0.8),),
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
