"""Losses with a margin, and negative log-likelihoods of counts and normal distributions, as functions of public ops."""

from __future__ import annotations

import math
from typing import Any

from tjit.dtypes import i64
from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.ops.creation import iota
from tjit.ops.elementwise import cast, exp, log, log1p, where
from tjit.ops.loss import reduced
from tjit.ops.movement import reshape
from tjit.ops.nonlinear import logsigmoid
from tjit.ops.normalize import cosine_similarity, pairwise_distance
from tjit.ops.operands import as_tensor_operand
from tjit.ops.reduce import mean
from tjit.ops.reduce import sum as sum_
from tjit.tensor import Tensor

__all__ = [
    "cosine_embedding_loss",
    "gaussian_nll_loss",
    "hinge_embedding_loss",
    "margin_ranking_loss",
    "multi_margin_loss",
    "multilabel_soft_margin_loss",
    "poisson_nll_loss",
    "soft_margin_loss",
    "triplet_margin_loss",
]


def _positive_part(x: Tensor) -> Tensor:
    return where(x > 0, x, 0.0)


def margin_ranking_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, -target * (input1 - input2) + margin), reduced."""
    return reduced(_positive_part((input2 - input1) * target + margin), reduction)


def hinge_embedding_loss(
    input: Tensor,
    target: Tensor,
    margin: float = 1.0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """input where target is 1, max(0, margin - input) where it is -1; reduced."""
    near = where(target != -1, input, 0.0)
    far = where(target != 1, _positive_part(margin - input), 0.0)
    return reduced(near + far, reduction)


def soft_margin_loss(
    input: Tensor, target: Tensor, size_average: None = None, reduce: None = None, reduction: str = "mean"
) -> Tensor:
    """log(1 + exp(-target * input)), reduced."""
    return reduced(log1p(exp(-(target * input))), reduction)


def multilabel_soft_margin_loss(
    input: Tensor,
    target: Tensor,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """The mean over the classes of binary cross-entropy with logits, reduced over the batch."""
    loss = -(target * logsigmoid(input) + (1 - target) * logsigmoid(-input))
    return reduced(mean(loss if weight is None else loss * weight, -1), reduction)


def multi_margin_loss(
    input: Tensor,
    target: Tensor,
    p: int = 1,
    margin: float = 1.0,
    weight: Tensor | None = None,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """sum(max(0, margin - input[target] + input)^p) / classes over the other classes, reduced.

    Args:
        input: f[n, c] or f[c].
        target: i[n] or i[].
        p: 1 or 2.
    """
    if p not in (1, 2):
        raise ArgumentError("only p == 1 and p == 2 supported", user_location())
    x, t = as_tensor_operand(input, "multi_margin_loss"), as_tensor_operand(target, "multi_margin_loss")
    classes = x.shape[-1]
    is_target = iota((*(1,) * (x.ndim - 1), classes), x.ndim - 1) == cast(reshape(t, (*x.shape[:-1], 1)), i64)
    picked = sum_(where(is_target, x, 0.0), -1, keepdim=True)
    short = _positive_part(x - picked + margin)
    short = short if p == 1 else short * short
    if weight is not None:
        short = short * sum_(where(is_target, weight, 0.0), -1, keepdim=True)
    return reduced(sum_(where(is_target, 0.0, short), -1) / classes, reduction)


def cosine_embedding_loss(
    input1: Tensor,
    input2: Tensor,
    target: Tensor,
    margin: float = 0,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """1 - cos(input1, input2) where target is 1, max(0, cos - margin) where it is -1; reduced."""
    cosine = cosine_similarity(input1, input2, dim=-1)
    return reduced(where(target == 1, 1 - cosine, _positive_part(cosine - margin)), reduction)


def triplet_margin_loss(
    anchor: Tensor,
    positive: Tensor,
    negative: Tensor,
    margin: float = 1.0,
    p: float = 2,
    eps: float = 1e-6,
    swap: bool = False,
    size_average: None = None,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """max(0, d(anchor, positive) - d(anchor, negative) + margin), reduced; `swap` takes the nearer of two negatives."""
    near, far = pairwise_distance(anchor, positive, p, eps), pairwise_distance(anchor, negative, p, eps)
    if swap:
        other = pairwise_distance(positive, negative, p, eps)
        far = where(other < far, other, far)
    return reduced(_positive_part(near - far + margin), reduction)


def poisson_nll_loss(
    input: Tensor,
    target: Tensor,
    log_input: bool = True,
    full: bool = False,
    size_average: None = None,
    eps: float = 1e-8,
    reduce: None = None,
    reduction: str = "mean",
) -> Tensor:
    """exp(input) - target * input, or with log_input=False input - target * log(input + eps); reduced.

    Args:
        full: adds Stirling's approximation of log(target!) where target > 1.
    """
    loss = exp(input) - target * input if log_input else input - target * log(input + eps)
    if full:
        above = target > 1
        t = where(above, target, 1.0)
        loss = loss + where(above, t * log(t) - t + 0.5 * log(2 * math.pi * t), 0.0)
    return reduced(loss, reduction)


def gaussian_nll_loss(
    input: Tensor, target: Tensor, var: Any, full: bool = False, eps: float = 1e-6, reduction: str = "mean"
) -> Tensor:
    """(log(var) + (input - target)^2 / var) / 2, reduced; var counts as at least eps.

    Args:
        var: f of input's shape, of its shape without the last dim, or a number.
        full: adds log(2 pi) / 2.
    """
    v = as_tensor_operand(var, "gaussian_nll_loss")
    if v.ndim and tuple(v.shape) == tuple(input.shape[:-1]) and tuple(v.shape) != tuple(input.shape):
        v = reshape(v, (*v.shape, 1))
    # the floor is a constant: no gradient passes through it, and the variance's own gradient is kept, as in PyTorch
    v = v + where(v < eps, eps - v, 0.0).detach()
    d = input - target
    loss = (log(v) + d * d / v) * 0.5
    return reduced(loss + 0.5 * math.log(2 * math.pi) if full else loss, reduction)
