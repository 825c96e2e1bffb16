"""Activations beyond relu, silu and gelu: composites of one operand, each with the gradient of its closed form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.errors import TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.elementwise import exp, expm1, log1p, neg, sigmoid, tanh, where
from tjit.ops.movement import reshape, slice_dims
from tjit.ops.operands import as_tensor_operand, normalize_dim
from tjit.ops.public import public, write_into
from tjit.ops.records import in_f32, one_type, parts_in_f32
from tjit.ops.rounding import abs
from tjit.tensor import Tensor

__all__ = [
    "celu",
    "elu",
    "glu",
    "hardshrink",
    "hardsigmoid",
    "hardswish",
    "hardtanh",
    "leaky_relu",
    "logsigmoid",
    "mish",
    "prelu",
    "relu6",
    "selu",
    "softplus",
    "softshrink",
    "softsign",
    "tanhshrink",
    "threshold",
]


def _activation(
    name: str,
    reference: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    decompose: Callable[..., Any],
    samples: tuple[Sample, ...],
) -> Op:
    return register(
        Op(
            name=name,
            kind="composite",
            infer=one_type(name),
            reference=in_f32(reference),
            vjp=vjp,
            decompose=parts_in_f32(decompose),
            samples=samples,
        )
    )


def _samples(*attrs: dict[str, Any], low: float = -3.0, high: float = 3.0) -> tuple[Sample, ...]:
    return tuple(Sample(((3, 5),), low=low, high=high, attrs=a) for a in attrs or ({},))


def _apply(op: Op, input: Any, inplace: bool = False, **attrs: Any) -> Tensor:
    y = apply(op, as_tensor_operand(input, op.name), **attrs)
    return write_into(input, y) if inplace else y


def leaky_relu(input: Tensor, negative_slope: float = 0.01, inplace: bool = False) -> Tensor:
    """x where x > 0, else negative_slope * x."""
    return _apply(LEAKY_RELU, input, inplace, negative_slope=float(negative_slope))


LEAKY_RELU = _activation(
    "leaky_relu",
    reference=lambda x, negative_slope: np.where(x > 0, x, x * np.asarray(negative_slope, x.dtype)),
    vjp=lambda g, y, x, negative_slope: (where(x > 0, g, g * negative_slope),),
    decompose=lambda x, negative_slope: where(x > 0, x, x * negative_slope),
    samples=_samples({"negative_slope": 0.01}, {"negative_slope": 0.2}),
)


@public()
def prelu(input: Tensor, weight: Tensor) -> Tensor:
    """x where x > 0, else weight * x; a weight of more than one element runs along dim 1."""
    x, w = as_tensor_operand(input, "prelu"), as_tensor_operand(weight, "prelu")
    if w.ndim == 1 and x.ndim > 1:
        w = reshape(w, (w.shape[0], *(1,) * (x.ndim - 2)))
    return where(x > 0, x, x * w)


# The exponential sees no positive x, so that a second derivative meets no inf * 0.
def _elu(x: Tensor, alpha: float, scale: float = 1.0, rate: float = 1.0) -> Tensor:
    low = expm1(where(x > 0, 0.0, x) * rate) * (alpha * scale)
    return where(x > 0, x * scale, low)


def _elu_vjp(g: Tensor, y: Tensor, x: Tensor, alpha: float, scale: float = 1.0, rate: float = 1.0) -> tuple[Tensor]:
    slope = exp(where(x > 0, 0.0, x) * rate) * (alpha * scale * rate)
    return (where(x > 0, g * scale, g * slope),)


def _elu_reference(x: np.ndarray, alpha: float, scale: float = 1.0, rate: float = 1.0) -> np.ndarray:
    return np.where(x > 0, scale * x, alpha * scale * np.expm1(np.minimum(x, 0) * rate)).astype(x.dtype)


def elu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x) - 1)."""
    return _apply(ELU, input, inplace, alpha=float(alpha))


ELU = _activation("elu", _elu_reference, _elu_vjp, _elu, _samples({"alpha": 1.0}, {"alpha": 0.5}))


_SELU = {"alpha": 1.6732632423543772, "scale": 1.0507009873554805}


@public(method=False)
def selu(input: Tensor, inplace: bool = False) -> Tensor:
    """scale * elu(x, alpha) with the two constants that keep mean 0 and variance 1.

    Source: Klambauer et al. (2017), "Self-normalizing neural networks".
    """
    return _apply(SELU, input, inplace)


SELU = _activation(
    "selu",
    reference=lambda x: _elu_reference(x, **_SELU),
    vjp=lambda g, y, x: _elu_vjp(g, y, x, **_SELU),
    decompose=lambda x: _elu(x, **_SELU),
    samples=_samples(),
)


@public(method=False)
def celu(input: Tensor, alpha: float = 1.0, inplace: bool = False) -> Tensor:
    """x where x > 0, else alpha * (exp(x / alpha) - 1)."""
    return _apply(CELU, input, inplace, alpha=float(alpha))


CELU = _activation(
    "celu",
    reference=lambda x, alpha: _elu_reference(x, alpha, 1.0, 1 / alpha),
    vjp=lambda g, y, x, alpha: _elu_vjp(g, y, x, alpha, 1.0, 1 / alpha),
    decompose=lambda x, alpha: _elu(x, alpha, 1.0, 1 / alpha),
    samples=_samples({"alpha": 1.0}, {"alpha": 2.0}),
)


def _hardtanh(x: Tensor, min_val: float, max_val: float) -> Tensor:
    return where(x <= min_val, min_val, where(x >= max_val, max_val, x))


def _hardtanh_vjp(g: Tensor, y: Tensor, x: Tensor, min_val: float, max_val: float) -> tuple[Tensor]:
    return (where((x <= min_val) | (x >= max_val), 0.0, g),)


def hardtanh(input: Tensor, min_val: float = -1.0, max_val: float = 1.0, inplace: bool = False) -> Tensor:
    """x limited to [min_val, max_val]; the gradient is zero at the limits."""
    return _apply(HARDTANH, input, inplace, min_val=float(min_val), max_val=float(max_val))


HARDTANH = _activation(
    "hardtanh",
    reference=lambda x, min_val, max_val: np.clip(x, min_val, max_val).astype(x.dtype),
    vjp=_hardtanh_vjp,
    decompose=_hardtanh,
    samples=_samples({"min_val": -1.0, "max_val": 1.0}, {"min_val": -2.0, "max_val": 0.5}),
)


def relu6(input: Tensor, inplace: bool = False) -> Tensor:
    """x limited to [0, 6]."""
    return _apply(RELU6, input, inplace)


RELU6 = _activation(
    "relu6",
    reference=lambda x: np.clip(x, 0, 6).astype(x.dtype),
    vjp=lambda g, y, x: _hardtanh_vjp(g, y, x, 0.0, 6.0),
    decompose=lambda x: _hardtanh(x, 0.0, 6.0),
    samples=_samples(low=-4.0, high=9.0),
)


def hardsigmoid(input: Tensor, inplace: bool = False) -> Tensor:
    """(x + 3) / 6 limited to [0, 1]."""
    return _apply(HARDSIGMOID, input, inplace)


HARDSIGMOID = _activation(
    "hardsigmoid",
    reference=lambda x: (np.clip(x + 3, 0, 6) / 6).astype(x.dtype),
    vjp=lambda g, y, x: (where((x > -3) & (x < 3), g * (1 / 6), 0.0),),
    decompose=lambda x: _hardtanh(x + 3, 0.0, 6.0) / 6,
    samples=_samples(low=-5.0, high=5.0),
)


def hardswish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * hardsigmoid(x)."""
    return _apply(HARDSWISH, input, inplace)


HARDSWISH = _activation(
    "hardswish",
    reference=lambda x: (x * np.clip(x + 3, 0, 6) / 6).astype(x.dtype),
    vjp=lambda g, y, x: (where(x <= -3, 0.0, where(x < 3, g * (x / 3 + 0.5), g)),),
    decompose=lambda x: x * _hardtanh(x + 3, 0.0, 6.0) / 6,
    samples=_samples(low=-5.0, high=5.0),
)


def _softplus(x: Tensor, beta: float, threshold: float) -> Tensor:
    scaled = x * beta
    linear = scaled > threshold
    return where(linear, x, log1p(exp(where(linear, 0.0, scaled))) / beta)


def softplus(input: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """log(1 + exp(beta x)) / beta, and x where beta x > threshold."""
    return _apply(SOFTPLUS, input, beta=float(beta), threshold=float(threshold))


def _softplus_reference(x: np.ndarray, beta: float, threshold: float) -> np.ndarray:
    low = np.log1p(np.exp(np.minimum(x * beta, threshold))) / beta
    return np.where(x * beta > threshold, x, low).astype(x.dtype)


SOFTPLUS = _activation(
    "softplus",
    reference=_softplus_reference,
    vjp=lambda g, y, x, beta, threshold: (where(x * beta > threshold, g, g * sigmoid(x * beta)),),
    decompose=_softplus,
    samples=_samples({"beta": 1.0, "threshold": 20.0}, {"beta": 2.0, "threshold": 4.0}),
)


def softsign(input: Tensor) -> Tensor:
    """x / (1 + |x|)."""
    return _apply(SOFTSIGN, input)


def _softsign_vjp(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    d = abs(x) + 1
    return (g / (d * d),)


SOFTSIGN = _activation(
    "softsign",
    reference=lambda x: x / (1 + np.abs(x)),
    vjp=_softsign_vjp,
    decompose=lambda x: x / (abs(x) + 1),
    samples=_samples(),
)


def mish(input: Tensor, inplace: bool = False) -> Tensor:
    """x * tanh(softplus(x)).

    Source: Misra (2019), "Mish: a self regularized non-monotonic activation function".
    """
    return _apply(MISH, input, inplace)


def _mish_vjp(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    t = tanh(_softplus(x, 1.0, 20.0))
    return (g * (t + x * sigmoid(x) * (1 - t * t)),)  # softplus' = sigmoid, tanh' = 1 - tanh^2


MISH = _activation(
    "mish",
    reference=lambda x: x * np.tanh(np.logaddexp(x, np.zeros((), x.dtype))),
    vjp=_mish_vjp,
    decompose=lambda x: x * tanh(_softplus(x, 1.0, 20.0)),
    samples=_samples(),
)


def logsigmoid(input: Tensor) -> Tensor:
    """log(sigmoid(x)), without overflow."""
    return _apply(LOGSIGMOID, input)


LOGSIGMOID = _activation(
    "logsigmoid",
    reference=lambda x: -np.logaddexp(np.zeros((), x.dtype), -x),
    vjp=lambda g, y, x: (g * sigmoid(neg(x)),),
    # min(x, 0) - log(1 + exp(-|x|))
    decompose=lambda x: where(x > 0, 0.0, x) - log1p(exp(neg(abs(x)))),
    samples=_samples(low=-9.0, high=9.0),
)


def tanhshrink(input: Tensor) -> Tensor:
    """x - tanh(x)."""
    return _apply(TANHSHRINK, input)


def _tanhshrink_vjp(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    t = tanh(x)
    return (g * (t * t),)


TANHSHRINK = _activation(
    "tanhshrink",
    reference=lambda x: x - np.tanh(x),
    vjp=_tanhshrink_vjp,
    decompose=lambda x: x - tanh(x),
    samples=_samples(low=0.5, high=3.0),
)


@public(method=False)
def threshold(input: Tensor, threshold: float, value: float, inplace: bool = False) -> Tensor:
    """x where x > threshold, else value."""
    return _apply(THRESHOLD, input, inplace, threshold=float(threshold), value=float(value))


THRESHOLD = _activation(
    "threshold",
    reference=lambda x, threshold, value: np.where(x <= threshold, np.asarray(value, x.dtype), x),
    vjp=lambda g, y, x, threshold, value: (where(x <= threshold, 0.0, g),),
    decompose=lambda x, threshold, value: where(x <= threshold, value, x),
    samples=_samples({"threshold": 0.1, "value": -7.0}),
)


@public()
def hardshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x where |x| > lambd, else 0."""
    return _apply(HARDSHRINK, input, lambd=float(lambd))


HARDSHRINK = _activation(
    "hardshrink",
    reference=lambda x, lambd: np.where((x >= -lambd) & (x <= lambd), np.zeros((), x.dtype), x),
    vjp=lambda g, y, x, lambd: (where((x >= -lambd) & (x <= lambd), 0.0, g),),
    decompose=lambda x, lambd: where((x >= -lambd) & (x <= lambd), 0.0, x),
    samples=_samples({"lambd": 0.5}),
)


def softshrink(input: Tensor, lambd: float = 0.5) -> Tensor:
    """x moved towards 0 by lambd, and 0 where |x| <= lambd."""
    return _apply(SOFTSHRINK, input, lambd=float(lambd))


def _softshrink_reference(x: np.ndarray, lambd: float) -> np.ndarray:
    return np.where(x > lambd, x - lambd, np.where(x < -lambd, x + lambd, x * 0)).astype(x.dtype)


SOFTSHRINK = _activation(
    "softshrink",
    reference=_softshrink_reference,
    vjp=lambda g, y, x, lambd: (where((x >= -lambd) & (x <= lambd), 0.0, g),),
    # x * 0 keeps nan
    decompose=lambda x, lambd: where(x > lambd, x - lambd, where(x < -lambd, x + lambd, x * 0.0)),
    samples=_samples({"lambd": 0.5}),
)


def glu(input: Tensor, dim: int = -1) -> Tensor:
    """a * sigmoid(b), where a and b are the halves of x along `dim`.

    Raises:
        TypeRuleError: the extent of `dim` is odd.
    """
    x = as_tensor_operand(input, "glu")
    dim = normalize_dim(dim, x.ndim)
    if x.ndim == 0 or x.shape[dim] % 2 != 0:
        raise TypeRuleError(f"glu needs an even extent: {x.type_} cannot be halved along dim {dim}", user_location())
    return apply(GLU, x, dim=dim)


def _glu_infer(x: TensorType, dim: int) -> TensorType:
    if not x.is_float:
        raise TypeRuleError(f"glu wants a float tensor, not {x}")
    return x.with_shape((*x.shape[:dim], x.shape[dim] // 2, *x.shape[dim + 1 :]))


def _glu(x: Tensor, dim: int) -> Tensor:
    half = x.shape[dim] // 2
    start, stop, steps = [0] * x.ndim, list(x.shape), (1,) * x.ndim
    start[dim], stop[dim] = half, half
    a = slice_dims(x, (0,) * x.ndim, tuple(stop), steps)
    b = slice_dims(x, tuple(start), tuple(x.shape), steps)
    return a * sigmoid(b)


def _glu_reference(x: np.ndarray, dim: int) -> np.ndarray:
    a, b = np.split(x, 2, axis=dim)
    return a / (1 + np.exp(-b))


GLU = register(
    Op(
        name="glu",
        kind="composite",
        infer=_glu_infer,
        reference=in_f32(_glu_reference),
        vjp=None,
        decompose=parts_in_f32(_glu),
        samples=(Sample(((3, 4),), attrs={"dim": 1}), Sample(((4, 3),), attrs={"dim": 0})),
    )
)
