"""Losses on pairs of elements: what is lost at one element, then a mean or a sum."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.cross_entropy import checked_reduction
from tjit.ops.elementwise import abs, cast, exp, log, log1p, maximum, minimum, neg, sigmoid, sign, where
from tjit.ops.movement import broadcast_to
from tjit.ops.nonlinear import logsigmoid
from tjit.ops.operands import as_tensor_operand, broadcast_shapes, common_dtype
from tjit.ops.records import in_f32, parts_in_f32
from tjit.ops.reduce import mean
from tjit.ops.reduce import sum as sum_
from tjit.tensor import Tensor

__all__ = [
    "binary_cross_entropy",
    "binary_cross_entropy_with_logits",
    "huber_loss",
    "kl_div",
    "l1_loss",
    "mse_loss",
    "reduced",
    "smooth_l1_loss",
]


def reduced(loss: Tensor, reduction: str) -> Tensor:
    """The mean or the sum of a loss, or the loss itself."""
    if checked_reduction(reduction) == "none":
        return loss
    return mean(loss) if reduction == "mean" else sum_(loss)


def _pair(name: str, input: Any, target: Any, may_broadcast: bool = True) -> tuple[Tensor, Tensor]:
    x, t = as_tensor_operand(input, name), as_tensor_operand(target, name)
    if tuple(x.shape) != tuple(t.shape):
        if not may_broadcast:
            raise ArgumentError(
                f"{name} needs a target of input's shape: {x.type_} and target {t.type_}",
                user_location(),
                hint="reshape the target",
            )
        warnings.warn(
            f"Using a target size ({t.shape}) that is different to the input size ({x.shape}). "
            "This will likely lead to incorrect results due to broadcasting. Please ensure they have the same size.",
            stacklevel=4,
        )
    dtype, shape = common_dtype(x, t), broadcast_shapes(x.shape, t.shape, what=name)
    return broadcast_to(cast(x, dtype), shape), broadcast_to(cast(t, dtype), shape)


def _pair_loss(
    name: str,
    one: Callable[..., Tensor],
    slopes: Callable[..., tuple[Tensor, Tensor]],
    reference: Callable[..., np.ndarray],
    samples: tuple[tuple[tuple[tuple[float, float], ...], dict[str, Any]], ...],
) -> Op:
    """A loss on two tensors of one type.

    Args:
        one: the loss of each element, in public functions.
        slopes: its derivatives for the input and the target.
        reference: `one` in NumPy.
        samples: pairs (ranges, attrs).
    """

    def infer(x: TensorType, target: TensorType, reduction: str, **_: Any) -> TensorType:
        if not x.is_float or x != target:
            raise TypeRuleError(
                f"{name} needs two float tensors of one type, not {x} and {target}", hint="convert with .float()"
            )
        return x if reduction == "none" else x.with_shape(())

    def decompose(x: Tensor, target: Tensor, reduction: str, **attrs: Any) -> Tensor:
        return reduced(one(x, target, **attrs), reduction)

    def vjp(g: Tensor, y: Tensor, x: Tensor, target: Tensor, reduction: str, **attrs: Any) -> tuple[Tensor, Tensor]:
        if reduction == "mean":
            g = g / _count(x)
        dx, dt = slopes(x, target, **attrs)
        return dx * g, dt * g

    def reduced_reference(x: np.ndarray, target: np.ndarray, reduction: str, **attrs: Any) -> np.ndarray:
        loss = reference(x, target, **attrs).astype(x.dtype)
        return loss if reduction == "none" else loss.mean() if reduction == "mean" else loss.sum()

    return register(
        Op(
            name=name,
            kind="composite",
            infer=infer,
            reference=in_f32(reduced_reference),
            vjp=vjp,
            decompose=parts_in_f32(decompose),
            samples=tuple(
                Sample(((3, 5), (3, 5)), ranges=ranges, attrs={"reduction": reduction, **attrs})
                for ranges, attrs in samples
                for reduction in ("mean", "sum", "none")
            ),
        )
    )


def _count(x: Tensor) -> Any:
    """The number of x's elements, as a factor."""
    from tjit.ops.creation import full

    count = x.numel()
    return max(count, 1) if isinstance(count, int) else full((), count, dtype=x.dtype)


_ANY = ((-3.0, 3.0), (-3.0, 3.0))
_APART = ((0.2, 3.0), (-3.0, 0.0))  # never equal: |x - t| has a kink there


def mse_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """(input - target)^2, reduced."""
    x, t = _pair("mse_loss", input, target)
    if weight is not None:
        return reduced(apply(MSE_LOSS, x, t, reduction="none") * weight, reduction)
    return apply(MSE_LOSS, x, t, reduction=checked_reduction(reduction))


def _mse_slopes(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    d = (x - t) * 2
    return d, -d


def _square(d: Any) -> Any:
    return d * d


MSE_LOSS = _pair_loss("mse_loss", lambda x, t: _square(x - t), _mse_slopes, lambda x, t: _square(x - t), ((_ANY, {}),))


def l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    weight: Tensor | None = None,
) -> Tensor:
    """|input - target|, reduced."""
    x, t = _pair("l1_loss", input, target)
    if weight is not None:
        return reduced(apply(L1_LOSS, x, t, reduction="none") * weight, reduction)
    return apply(L1_LOSS, x, t, reduction=checked_reduction(reduction))


def _l1_slopes(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    d = sign(x - t)
    return d, -d


L1_LOSS = _pair_loss("l1_loss", lambda x, t: abs(x - t), _l1_slopes, lambda x, t: np.abs(x - t), ((_APART, {}),))


def smooth_l1_loss(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    beta: float = 1.0,
) -> Tensor:
    """d^2 / (2 beta) where d = |input - target| < beta, else d - beta / 2; reduced."""
    x, t = _pair("smooth_l1_loss", input, target)
    if beta < 0:
        raise ArgumentError(f"smooth_l1_loss needs beta >= 0, not {beta}", user_location())
    if beta == 0:
        return apply(L1_LOSS, x, t, reduction=checked_reduction(reduction))
    return apply(SMOOTH_L1_LOSS, x, t, reduction=checked_reduction(reduction), beta=float(beta))


def _smooth_l1(x: Tensor, t: Tensor, beta: float) -> Tensor:
    d = abs(x - t)
    return where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta)


def _smooth_l1_slopes(x: Tensor, t: Tensor, beta: float) -> tuple[Tensor, Tensor]:
    d = x - t
    slope = where(abs(d) < beta, d / beta, sign(d))
    return slope, -slope


def _smooth_l1_reference(x: np.ndarray, t: np.ndarray, beta: float) -> np.ndarray:
    d = np.abs(x - t)
    return np.where(d < beta, d * d * (0.5 / beta), d - 0.5 * beta)


SMOOTH_L1_LOSS = _pair_loss(
    "smooth_l1_loss",
    _smooth_l1,
    _smooth_l1_slopes,
    _smooth_l1_reference,
    ((_ANY, {"beta": 1.0}), (_ANY, {"beta": 0.5})),
)


def huber_loss(
    input: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, weight: Tensor | None = None
) -> Tensor:
    """d^2 / 2 where d = |input - target| <= delta, else delta (d - delta / 2); reduced."""
    if delta <= 0:
        raise ArgumentError(f"huber_loss needs delta > 0, not {delta}", user_location())
    x, t = _pair("huber_loss", input, target)
    if weight is not None:
        return reduced(apply(HUBER_LOSS, x, t, reduction="none", delta=float(delta)) * weight, reduction)
    return apply(HUBER_LOSS, x, t, reduction=checked_reduction(reduction), delta=float(delta))


def _huber(x: Tensor, t: Tensor, delta: float) -> Tensor:
    d = abs(x - t)
    return where(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta)


def _huber_slopes(x: Tensor, t: Tensor, delta: float) -> tuple[Tensor, Tensor]:
    slope = minimum(maximum(x - t, -delta), delta)
    return slope, -slope


def _huber_reference(x: np.ndarray, t: np.ndarray, delta: float) -> np.ndarray:
    d = np.abs(x - t)
    return np.where(d <= delta, d * d * 0.5, (d - 0.5 * delta) * delta)


HUBER_LOSS = _pair_loss(
    "huber_loss", _huber, _huber_slopes, _huber_reference, ((_ANY, {"delta": 1.0}), (_ANY, {"delta": 0.5}))
)


def binary_cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """-(t log x + (1 - t) log(1 - x)), reduced; each logarithm is at least -100.

    Raises:
        TypeRuleError: an eager input is not between 0 and 1.
    """
    x, t = _pair("binary_cross_entropy", input, target, may_broadcast=False)
    if weight is not None:
        return reduced(apply(BINARY_CROSS_ENTROPY, x, t, reduction="none") * weight, reduction)
    return apply(BINARY_CROSS_ENTROPY, x, t, reduction=checked_reduction(reduction))


def _bce(x: Tensor, t: Tensor) -> Tensor:
    return (t - 1) * maximum(log1p(neg(x)), -100.0) - t * maximum(log(x), -100.0)


def _bce_slopes(x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
    dx = (x - t) / maximum((1 - x) * x, 1e-12)
    return dx, maximum(log1p(neg(x)), -100.0) - maximum(log(x), -100.0)


def _bce_reference(x: np.ndarray, t: np.ndarray) -> np.ndarray:
    if not ((x >= 0) & (x <= 1)).all():
        raise TypeRuleError(
            "all elements of input should be between 0 and 1", user_location(), hint="apply sigmoid first"
        )
    floor = np.asarray(-100, x.dtype)
    return (t - 1) * np.maximum(np.log1p(-x), floor) - t * np.maximum(np.log(x), floor)


BINARY_CROSS_ENTROPY = _pair_loss(
    "binary_cross_entropy", _bce, _bce_slopes, _bce_reference, ((((0.05, 0.95), (0.05, 0.95)), {}),)
)


def binary_cross_entropy_with_logits(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    pos_weight: Tensor | None = None,
) -> Tensor:
    """binary_cross_entropy(sigmoid(input), target), without overflow; `pos_weight` is a factor on the positive part."""
    x, t = _pair("binary_cross_entropy_with_logits", input, target, may_broadcast=False)
    if weight is None and pos_weight is None:
        return apply(BINARY_CROSS_ENTROPY_WITH_LOGITS, x, t, reduction=checked_reduction(reduction))
    if pos_weight is None:
        loss = apply(BINARY_CROSS_ENTROPY_WITH_LOGITS, x, t, reduction="none")
    else:
        loss = (t - 1) * logsigmoid(neg(x)) - t * pos_weight * logsigmoid(x)
    return reduced(loss if weight is None else loss * weight, reduction)


BINARY_CROSS_ENTROPY_WITH_LOGITS = _pair_loss(
    "binary_cross_entropy_with_logits",
    lambda x, t: where(x > 0, x, 0.0) - x * t + log1p(exp(neg(abs(x)))),
    lambda x, t: (sigmoid(x) - t, neg(x)),
    lambda x, t: np.maximum(x, 0) - x * t + np.log1p(np.exp(-np.abs(x))),
    ((_ANY, {}),),
)


def kl_div(
    input: Tensor,
    target: Tensor,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
    log_target: bool = False,
) -> Tensor:
    """target * (log(target) - input), for log-probabilities `input`; reduced.

    Args:
        reduction: also "batchmean", the sum divided by the extent of dim 0.
        log_target: the target is given as log-probabilities too.
    """
    x, t = _pair("kl_div", input, target)
    op = LOG_KL_DIV if log_target else KL_DIV
    if reduction == "batchmean":
        total = apply(op, x, t, reduction="sum")
        return total / (x.shape[0] if x.ndim else 1)
    return apply(op, x, t, reduction=checked_reduction(reduction))


def _kl_div(x: Tensor, t: Tensor) -> Tensor:
    return t * log(where(t == 0, 1.0, t)) - t * x  # 0 log 0 = 0


KL_DIV = _pair_loss(
    "kl_div",
    _kl_div,
    lambda x, t: (neg(t), log(t) + 1 - x),
    lambda x, t: t * np.log(np.where(t == 0, 1, t)) - t * x,
    ((((-3.0, 0.0), (0.1, 1.0)), {}),),
)

LOG_KL_DIV = _pair_loss(
    "log_kl_div",
    lambda x, t: exp(t) * (t - x),
    lambda x, t: (neg(exp(t)), exp(t) * (t - x + 1)),
    lambda x, t: np.exp(t) * (t - x),
    ((((-3.0, 0.0), (-3.0, 0.0)), {}),),
)
