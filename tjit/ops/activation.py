"""Activations that are nodes of their own: relu, silu, gelu."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.errors import ArgumentError
from tjit.ir.op import Op, Sample, register
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.arithmetic import add, div, mul, neg, sub
from tjit.ops.compare import le, where
from tjit.ops.erf import erf_reference
from tjit.ops.math import erf, exp, sigmoid, tanh
from tjit.ops.operands import as_tensor_operand, elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op, in_f32, one_type, parts_in_f32
from tjit.tensor import Tensor

__all__ = ["gelu", "relu", "silu"]


@public(inplace=True)
def relu(x: Tensor) -> Tensor:
    """x where it is positive, else 0; nan stays, and the gradient at 0 is 0."""
    return elementwise(RELU, x)


RELU = elementwise_op(
    "relu",
    dtypes="number",
    reference=lambda x: np.where(x < 0, x.dtype.type(0), x),
    scalar=lambda b, x: b.select(b.lt(x, b.const(0, x)), b.const(0, x), x),
    vjp=lambda g, y, x: (where(le(y, 0), 0, g),),
    exact=True,
    ranges=((0.1, 3),),
)


@public(method=False)
def silu(x: Tensor) -> Tensor:
    """x * sigmoid(x), also called swish.

    Args:
        x: f[*s].

    Returns:
        f[*s]. silu(-inf) is nan, as in the formula.

    Raises:
        TypeRuleError: x is not float.

    Source: Elfwing, Uchibe and Doya (2018), "Sigmoid-weighted linear units for neural network function approximation in
    reinforcement learning".
    """
    return apply(SILU, as_tensor_operand(x, "silu"))


def _silu_vjp(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    s = sigmoid(x)
    return (mul(g, add(s, mul(y, sub(1, s)))),)  # y' = s + x s (1 - s)


SILU = register(
    Op(
        name="silu",
        kind="composite",
        infer=one_type("silu"),
        reference=in_f32(lambda x: x / (1 + np.exp(-x))),
        decompose=parts_in_f32(lambda x: div(x, add(exp(neg(x)), 1))),  # exp is cheaper than sigmoid
        vjp=_silu_vjp,
        samples=(Sample(((3, 5),), low=-6.0, high=6.0),),
    )
)


@public(method=False)
def gelu(x: Tensor, *, approximate: str = "none") -> Tensor:
    """x times the normal distribution function at x.

    Args:
        x: f[*s].
        approximate: "none" for x (1 + erf(x / sqrt 2)) / 2, or "tanh" for
            x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x**3))) / 2.

    Raises:
        TypeRuleError: x is not float.
        ArgumentError: another `approximate`.

    Source: Hendrycks and Gimpel (2016), "Gaussian error linear units (GELUs)".
    """
    if approximate not in ("none", "tanh"):
        raise ArgumentError(f"approximate argument must be either none or tanh, not {approximate!r}", user_location())
    return apply(GELU, as_tensor_operand(x, "gelu"), approximate=approximate)


_ROOT_HALF = math.sqrt(0.5)
_TANH_SCALE = math.sqrt(2 / math.pi)
_CUBIC = 0.044715


def _gelu_reference(x: Any, approximate: str) -> Any:
    if approximate == "tanh":
        return 0.5 * x * (1 + np.tanh(_TANH_SCALE * (x + _CUBIC * x * x * x)))
    return 0.5 * x * (1 + erf_reference(x * x.dtype.type(_ROOT_HALF)))


def _gelu_decompose(x: Tensor, approximate: str) -> Tensor:
    if approximate == "tanh":
        # (1 + tanh(u)) / 2 = 1 / (1 + exp(-2u)): no cancellation for negative x, and exp costs a third of tanh
        minus_2u = mul(x, add(mul(mul(x, x), -2 * _TANH_SCALE * _CUBIC), -2 * _TANH_SCALE))
        return div(x, add(exp(minus_2u), 1))
    return mul(mul(x, 0.5), add(_gelu_bend(x, approximate), 1))


def _gelu_bend(x: Tensor, approximate: str) -> Tensor:
    if approximate == "none":
        return erf(mul(x, _ROOT_HALF))
    return tanh(mul(add(x, mul(mul(x, mul(x, x)), _CUBIC)), _TANH_SCALE))


def _gelu_vjp(g: Tensor, y: Tensor, x: Tensor, approximate: str) -> tuple[Tensor]:
    bend = _gelu_bend(x, approximate)
    if approximate == "none":
        slope = mul(exp(mul(mul(x, x), -0.5)), 2 * _ROOT_HALF / math.sqrt(math.pi))
    else:
        inner = mul(add(mul(mul(x, x), 3 * _CUBIC), 1), _TANH_SCALE)
        slope = mul(sub(1, mul(bend, bend)), inner)
    # y = x/2 (1 + t), so y' = (1 + t + x t') / 2
    return (mul(mul(g, 0.5), add(add(bend, 1), mul(x, slope))),)


GELU = register(
    Op(
        name="gelu",
        kind="composite",
        infer=one_type("gelu"),
        reference=in_f32(_gelu_reference),
        decompose=parts_in_f32(_gelu_decompose),
        vjp=_gelu_vjp,
        samples=(Sample(((3, 5),), attrs={"approximate": "none"}), Sample(((3, 5),), attrs={"approximate": "tanh"})),
    )
)
