"""Losses over classes: `nll_loss` and `cross_entropy`.

The target's class is picked by comparing an iota with it, not by a gather: the loss and its gradient are then
elementwise work and sums over rows, which fuse with the softmax.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import i32, i64
from tjit.errors import ArgumentError, DimensionError, TypeRuleError
from tjit.ir.graph import Literal
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.creation import iota, zeros
from tjit.ops.elementwise import cast, where
from tjit.ops.index import take_dim
from tjit.ops.movement import reshape
from tjit.ops.normalize import log_softmax, softmax
from tjit.ops.operands import as_tensor_operand
from tjit.ops.records import in_f32, parts_in_f32
from tjit.ops.reduce import mean
from tjit.ops.reduce import sum as sum_
from tjit.tensor import Tensor

__all__ = ["REDUCTIONS", "cross_entropy", "nll_loss"]

REDUCTIONS = ("none", "mean", "sum")


def checked_reduction(reduction: str) -> str:
    """`reduction`, one of `REDUCTIONS`."""
    if reduction not in REDUCTIONS:
        raise ArgumentError(
            f"{reduction} is not a valid value for reduction", user_location(), hint="one of none, mean, sum"
        )
    return reduction


def cross_entropy(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
    label_smoothing: float = 0.0,
) -> Tensor:
    """-log(softmax(input)[target]).

    Args:
        input: f[c], f[n, c] or f[n, c, *s].
        target: classes, i[], i[n] or i[n, *s]; or probabilities, of input's type.
        weight: f[c], a factor for each class.
        ignore_index: a class whose elements count for nothing.
        reduction: "mean" (over the weights of the elements that count), "sum" or "none".
        label_smoothing: how much of the target is spread evenly over the classes.

    Returns:
        f[], or the target's shape without reduction.

    Raises:
        TypeRuleError: the shapes do not fit.
        DimensionError: a class is out of range.
    """
    x, t = as_tensor_operand(input, "cross_entropy"), as_tensor_operand(target, "cross_entropy")
    attrs: dict[str, Any] = {"reduction": checked_reduction(reduction), "label_smoothing": float(label_smoothing)}
    rest = () if weight is None else (weight,)
    if t.dtype.is_floating_point:
        return apply(SOFT_CROSS_ENTROPY, x, t, *rest, **attrs)
    return apply(CROSS_ENTROPY, x, t, *rest, ignore_index=int(ignore_index), **attrs)


def nll_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    ignore_index: int = -100,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """-input[target], for log-probabilities. Arguments as in `cross_entropy`."""
    x, t = as_tensor_operand(input, "nll_loss"), as_tensor_operand(target, "nll_loss")
    rest = () if weight is None else (weight,)
    return apply(NLL_LOSS, x, t, *rest, ignore_index=int(ignore_index), reduction=checked_reduction(reduction))


def _class_dim(rank: int) -> int:
    return 1 if rank > 1 else 0


def _class_infer(name: str) -> Any:
    def infer(x: TensorType, target: TensorType, weight: TensorType | None = None, **attrs: Any) -> TensorType:
        if not x.is_float or x.ndim == 0:
            raise TypeRuleError(f"{name} needs floats with a dim of classes, not {x}")
        if target.dtype.kind != "int":
            raise TypeRuleError(f"{name} needs int classes as its target, not {target}", hint="convert with .long()")
        c = _class_dim(x.ndim)
        wanted = (*x.shape[:c], *x.shape[c + 1 :])
        if target.shape != wanted:
            raise TypeRuleError(f"{name} needs a target of input's shape without its dim {c}: {x} and target {target}")
        _check_weight(name, x, weight)
        return x.with_shape(wanted if attrs["reduction"] == "none" else ())

    return infer


def _check_weight(name: str, x: TensorType, weight: TensorType | None) -> None:
    classes = x.shape[_class_dim(x.ndim)]
    if weight is not None and (weight.shape != (classes,) or weight.dtype is not x.dtype):
        raise TypeRuleError(f"{name} needs a weight for each class, {x.with_shape((classes,))}, not {weight}")


class _Classes:
    """What the loss and its gradient share: which class is the target's, and which rows count."""

    def __init__(self, x: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int) -> None:
        self.dim = _class_dim(x.ndim)
        self.extent = x.shape[self.dim]
        self.ones = (1,) * (x.ndim - self.dim - 1)
        self.dtype = x.dtype
        self.target = target
        self.counts = target != ignore_index
        index_dtype = i32 if not isinstance(self.extent, int) or self.extent < 2**31 else i64
        iota_shape = (*(1,) * self.dim, self.extent, *self.ones)
        self.is_target = iota(iota_shape, self.dim, index_dtype, x.device) == self.as_column(cast(target, index_dtype))
        self.weight = None if weight is None else reshape(weight, (self.extent, *self.ones))

    def as_column(self, rows: Tensor) -> Tensor:
        return reshape(rows, (*rows.shape[: self.dim], 1, *rows.shape[self.dim :]))

    def row_weights(self) -> Tensor:
        """The weight of each element of the target; 0 where it is ignored."""
        if self.weight is None:
            return cast(self.counts, self.dtype)
        return where(self.counts, sum_(where(self.is_target, self.weight, 0.0), self.dim), 0.0)

    def coefficients(self, smoothing: float) -> Tensor:
        """q in loss = -sum(q * log p) over the classes, for rows that count."""
        spread = smoothing / self.extent
        q = where(self.is_target, Literal(1.0 - smoothing + spread, self.dtype), Literal(spread, self.dtype))
        return q if self.weight is None else q * self.weight

    def checked_zero(self) -> Tensor:
        """0 for each row, read at its class: a class out of range is an error when the program runs."""
        inside = where(self.target < 0, self.extent, self.target)
        return take_dim(zeros((self.extent,), dtype=self.dtype), where(self.counts, inside, 0), 0)


def _nll(
    logp: Tensor, target: Tensor, weight: Tensor | None, ignore_index: int, reduction: str, smoothing: float
) -> Tensor:
    classes = _Classes(logp, target, weight, ignore_index)
    if smoothing:
        terms = classes.coefficients(smoothing) * logp
    else:
        terms = where(classes.is_target, logp if classes.weight is None else logp * classes.weight, 0.0)
    loss = where(classes.counts, classes.checked_zero() - sum_(terms, classes.dim), 0.0)
    if reduction == "none":
        return loss
    total = sum_(loss)
    return total if reduction == "sum" else total / sum_(classes.row_weights())


def _nll_loss(x: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int, reduction: str) -> Tensor:
    return _nll(x, target, weight, ignore_index, reduction, 0.0)


def _cross_entropy(
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> Tensor:
    return _nll(log_softmax(x, _class_dim(x.ndim)), target, weight, ignore_index, reduction, label_smoothing)


def _row_scale(g: Tensor, classes: _Classes, reduction: str) -> Tensor:
    """The cotangent of each row's loss, as a column; 0 for rows that are ignored."""
    if reduction == "mean":
        g = g / sum_(classes.row_weights())
    return classes.as_column(where(classes.counts, g, 0.0))


def _nll_loss_vjp(
    g: Tensor, y: Tensor, x: Tensor, target: Tensor, weight: Tensor | None = None, *, ignore_index: int, reduction: str
) -> tuple[Tensor | None, ...]:
    classes = _Classes(x, target, weight, ignore_index)
    scale = -_row_scale(g, classes, reduction)
    dx = where(classes.is_target, scale if classes.weight is None else scale * classes.weight, 0.0)
    return (dx, None) if weight is None else (dx, None, None)


def _cross_entropy_vjp(
    g: Tensor,
    y: Tensor,
    x: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> tuple[Tensor | None, ...]:
    classes = _Classes(x, target, weight, ignore_index)
    scale = _row_scale(g, classes, reduction)
    p = softmax(x, classes.dim)
    # d(-sum(q log p)) = p sum(q) - q, and sum(q) = 1 without weights
    if weight is None and not label_smoothing:
        return where(classes.is_target, p - 1.0, p) * scale, None
    q = classes.coefficients(label_smoothing)
    dx = ((p if weight is None else p * sum_(q, classes.dim, keepdim=True)) - q) * scale
    return (dx, None) if weight is None else (dx, None, None)


def _nll_reference(
    logp: np.ndarray, target: np.ndarray, weight: np.ndarray | None, ignore_index: int, reduction: str, smoothing: float
) -> np.ndarray:
    dim = _class_dim(logp.ndim)
    extent = logp.shape[dim]
    counts = target != ignore_index
    outside = counts & ((target < 0) | (target >= extent))
    if outside.any():
        raise DimensionError(
            f"Target {target[outside].flat[0]} is out of bounds.",
            user_location(),
            hint=f"classes are 0 to {extent - 1}",
        )
    w = np.ones(extent, logp.dtype) if weight is None else weight
    classes = np.where(counts, target, 0)
    picked = np.take_along_axis(logp, np.expand_dims(classes, dim), dim).squeeze(dim)
    loss = -picked * w[classes]
    if smoothing:
        spread = -(logp * w.reshape(-1, *(1,) * (logp.ndim - dim - 1))).sum(dim)
        loss = (1 - smoothing) * loss + smoothing / extent * spread
    loss = np.where(counts, loss, 0).astype(logp.dtype)
    if reduction == "none":
        return loss
    return loss.sum() if reduction == "sum" else loss.sum() / np.where(counts, w[classes], 0).sum(dtype=logp.dtype)


def _nll_loss_reference(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, *, ignore_index: int, reduction: str
) -> np.ndarray:
    return _nll_reference(x, target, weight, ignore_index, reduction, 0.0)


def _log_softmax_array(x: np.ndarray) -> np.ndarray:
    dim = _class_dim(x.ndim)
    z = x - x.max(dim, keepdims=True, initial=-np.inf)
    return z - np.log(np.exp(z).sum(dim, keepdims=True))


def _cross_entropy_reference(
    x: np.ndarray,
    target: np.ndarray,
    weight: np.ndarray | None = None,
    *,
    ignore_index: int,
    reduction: str,
    label_smoothing: float,
) -> np.ndarray:
    return _nll_reference(_log_softmax_array(x), target, weight, ignore_index, reduction, label_smoothing)


def _class_samples(**more: Any) -> tuple[Sample, ...]:
    """Class targets are drawn from 0 to 2, and there are at least three classes."""

    def sample(
        shape: tuple[int, ...], target: tuple[int, ...], reduction: str, ignore: int = -100, weighted: bool = False
    ) -> Sample:
        attrs = {"ignore_index": ignore, "reduction": reduction, **more}
        weight = ((shape[1 if len(shape) > 1 else 0],),) if weighted else ()
        ranges = ((-3.0, 3.0), (0, 2), *(((0.5, 2.0),) * weighted))
        return Sample((shape, target, *weight), dtypes=(None, "i64", *((None,) * weighted)), attrs=attrs, ranges=ranges)

    return (
        sample((6, 5), (6,), "mean"),
        sample((6, 5), (6,), "sum", ignore=1),
        sample((6, 5), (6,), "none", weighted=True),
        sample((6, 4), (6,), "mean", ignore=7, weighted=True),
        sample((2, 3, 4), (2, 4), "mean"),
        sample((3,), (), "mean"),
    )


NLL_LOSS = register(
    Op(
        name="nll_loss",
        kind="composite",
        infer=_class_infer("nll_loss"),
        reference=in_f32(_nll_loss_reference),
        vjp=_nll_loss_vjp,
        decompose=parts_in_f32(_nll_loss),
        samples=_class_samples(),
    )
)

CROSS_ENTROPY = register(
    Op(
        name="cross_entropy",
        kind="composite",
        infer=_class_infer("cross_entropy"),
        reference=in_f32(_cross_entropy_reference),
        vjp=_cross_entropy_vjp,
        decompose=parts_in_f32(_cross_entropy),
        samples=(*_class_samples(label_smoothing=0.0), *_class_samples(label_smoothing=0.1)[::3]),
    )
)


def _soft_infer(x: TensorType, target: TensorType, weight: TensorType | None = None, **attrs: Any) -> TensorType:
    if not x.is_float or x.ndim == 0 or target != x:
        raise TypeRuleError(f"cross_entropy needs probabilities of input's type as its target: {x} and target {target}")
    _check_weight("cross_entropy", x, weight)
    c = _class_dim(x.ndim)
    return x.with_shape((*x.shape[:c], *x.shape[c + 1 :]) if attrs["reduction"] == "none" else ())


def _soft_cross_entropy(
    x: Tensor, target: Tensor, weight: Tensor | None = None, *, reduction: str, label_smoothing: float
) -> Tensor:
    dim = _class_dim(x.ndim)
    extent = x.shape[dim]
    if label_smoothing:
        target = target * (1 - label_smoothing) + label_smoothing / extent
    if weight is not None:
        target = target * reshape(weight, (extent, *(1,) * (x.ndim - dim - 1)))
    loss = -sum_(target * log_softmax(x, dim), dim)
    if reduction == "none":
        return loss
    return sum_(loss) if reduction == "sum" or not loss.ndim else mean(loss)


def _soft_cross_entropy_reference(
    x: np.ndarray, target: np.ndarray, weight: np.ndarray | None = None, *, reduction: str, label_smoothing: float
) -> np.ndarray:
    dim = _class_dim(x.ndim)
    extent = x.shape[dim]
    q = target * (1 - label_smoothing) + label_smoothing / extent
    if weight is not None:
        q = q * weight.reshape(-1, *(1,) * (x.ndim - dim - 1))
    loss = -(q * _log_softmax_array(x)).sum(dim)
    return loss if reduction == "none" else loss.sum() if reduction == "sum" else loss.mean()


def _soft_sample(shape: tuple[int, ...], reduction: str, smoothing: float, weighted: bool) -> Sample:
    weight = ((shape[1],),) if weighted else ()
    ranges = ((-3.0, 3.0), (0.1, 0.9), *(((0.5, 2.0),) * weighted))
    return Sample((shape, shape, *weight), ranges=ranges, attrs={"reduction": reduction, "label_smoothing": smoothing})


SOFT_CROSS_ENTROPY = register(
    Op(
        name="soft_cross_entropy",
        kind="composite",
        infer=_soft_infer,
        reference=in_f32(_soft_cross_entropy_reference),
        vjp=None,
        decompose=parts_in_f32(_soft_cross_entropy),
        samples=(
            _soft_sample((4, 5), "mean", 0.0, False),
            _soft_sample((4, 5), "sum", 0.1, True),
            _soft_sample((2, 3, 4), "none", 0.1, True),
        ),
    )
)
