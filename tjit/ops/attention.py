"""Dropout, embedding and attention."""

from __future__ import annotations

import math

import numpy as np

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.contract import matmul
from tjit.ops.creation import iota
from tjit.ops.elementwise import where
from tjit.ops.movement import permute, reshape
from tjit.ops.normalize import softmax
from tjit.ops.operands import as_tensor_operand, broadcast_shapes
from tjit.ops.public import public, write_into
from tjit.ops.records import in_f32
from tjit.ops.reduce import amax
from tjit.tensor import Tensor

__all__ = ["dropout", "embedding", "scaled_dot_product_attention"]


@public(method=False)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, x with each element zero with probability p, and the others divided by 1 - p.

    Raises:
        ArgumentError: p is not in [0, 1].
    """
    y = _dropped(as_tensor_operand(input, "dropout"), p, training, per_channel=False)
    return write_into(input, y) if inplace else y


@public(method=False, aliases=("dropout1d", "dropout2d", "dropout3d"))
def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of x[n, c, *s]."""
    y = _dropped(as_tensor_operand(input, "feature_dropout"), p, training, per_channel=True)
    return write_into(input, y) if inplace else y


def _dropped(x: Tensor, p: float, training: bool, per_channel: bool) -> Tensor:
    from tjit.ops.random import rand

    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}", user_location())
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2)) if per_channel else x.shape
    keep = rand(shape, device=x.device) >= p
    return where(keep, x * (1 / (1 - p)), 0.0)


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` numbers.

    Args:
        input: i[*s].
        weight: n[rows, n].
        padding_idx: a row that gets no gradient.

    Returns:
        n[*s, n].

    Raises:
        ArgumentError: max_norm or scale_grad_by_freq is asked for.
    """
    from tjit.ops.index import take_dim

    if max_norm is not None or scale_grad_by_freq:
        raise ArgumentError("embedding supports neither max_norm nor scale_grad_by_freq", user_location())
    t = as_tensor_operand(input, "embedding")
    if t.dtype.kind != "int" or weight.ndim != 2:
        raise TypeRuleError(f"embedding needs int rows and a matrix, not {t.type_} and {weight.type_}", user_location())
    rows = take_dim(weight, t, 0)
    if padding_idx is not None:
        padding_idx = padding_idx if padding_idx >= 0 else padding_idx + weight.shape[0]
        rows = where(reshape(t, (*t.shape, 1)) == padding_idx, rows.detach(), rows)
    return rows


def scaled_dot_product_attention(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """softmax(query @ key.T * scale + mask) @ value.

    Args:
        query: f[*b, l, e].
        key: f[*b, s, e].
        value: f[*b, s, v].
        attn_mask: b[*b, l, s], True where a position takes part, or f[*b, l, s], added to the scores.
        is_causal: position i of the query sees positions up to i.
        scale: 1 / sqrt(e) where it is None.
        enable_gqa: query has a multiple of key's and value's heads (the dim before the last two).

    Returns:
        f[*b, l, v]. A row that sees nothing is zero.

    Source: Vaswani et al. (2017), "Attention is all you need".
    """
    if attn_mask is not None and is_causal:
        raise ArgumentError("scaled_dot_product_attention takes attn_mask or is_causal, not both", user_location())
    if enable_gqa:
        key, value = _repeat_heads(key, query), _repeat_heads(value, query)
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    if dropout_p > 0:
        mask = () if attn_mask is None else (attn_mask,)
        weights = _attention_weights(query, key, *mask, is_causal=is_causal, scale=scale)
        return matmul(dropout(weights, dropout_p), value)
    operands = (query, key, value, *(() if attn_mask is None else (attn_mask,)))
    return apply(SCALED_DOT_PRODUCT_ATTENTION, *operands, is_causal=bool(is_causal), scale=scale)


def _repeat_heads(x: Tensor, query: Tensor) -> Tensor:
    from tjit.ops.movement import broadcast_to

    heads, repeats = x.shape[-3], query.shape[-3] // x.shape[-3]
    wide = broadcast_to(reshape(x, (*x.shape[:-2], 1, *x.shape[-2:])), (*x.shape[:-2], repeats, *x.shape[-2:]))
    return reshape(wide, (*x.shape[:-3], heads * repeats, *x.shape[-2:]))


def _attention_infer(
    q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None, *, is_causal: bool, scale: float
) -> TensorType:
    if not q.is_float or not q.dtype is k.dtype is v.dtype:
        raise TypeRuleError(f"scaled_dot_product_attention needs floats of one dtype, not {q}, {k} and {v}")
    fits = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if not fits:
        raise TypeRuleError(
            f"scaled_dot_product_attention needs query [*, l, e], key [*, s, e], value [*, s, v], not {q}, {k} and {v}"
        )
    batch = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], what="scaled_dot_product_attention")
    if mask is not None and mask.dtype.kind != "bool" and mask.dtype is not q.dtype:
        raise TypeRuleError(f"scaled_dot_product_attention needs a mask of bool or {q.dtype}, not {mask}")
    return q.with_shape((*batch, q.shape[-2], v.shape[-1]))


def _transposed(x: Tensor) -> Tensor:
    return permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None, *, is_causal: bool, scale: float) -> Tensor:
    scores = matmul(q, _transposed(k)) * scale
    lowest = float("-inf")
    if is_causal:  # every row sees its first position
        rows, columns = q.shape[-2], k.shape[-2]
        return softmax(where(iota((rows, 1), 0) >= iota((1, columns), 1), scores, lowest), -1)
    if mask is None:
        return softmax(scores, -1)
    # excluded by `where`, which also keeps the nan of a row that sees nothing out of the gradient
    sees = mask if mask.dtype.kind == "bool" else mask != lowest
    scores = where(sees, scores if mask.dtype.kind == "bool" else scores + mask, lowest)
    blind = amax(scores, -1, keepdim=True) == lowest
    return where(blind, 0.0, softmax(scores, -1))


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, is_causal: bool, scale: float) -> Tensor:
    rest = () if mask is None else (mask,)
    return matmul(_attention_weights(q, k, *rest, is_causal=is_causal, scale=scale), v)


def _attention_reference(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, mask: np.ndarray | None = None, *, is_causal: bool, scale: float
) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) * np.asarray(scale, q.dtype)
    if is_causal:
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    if mask is not None:
        scores = np.where(mask, scores, -np.inf).astype(q.dtype) if mask.dtype == bool else scores + mask
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    return (e / np.where(total == 0, 1, total)) @ v


SCALED_DOT_PRODUCT_ATTENTION = register(
    Op(
        name="scaled_dot_product_attention",
        kind="composite",
        infer=_attention_infer,
        reference=in_f32(_attention_reference),
        vjp=None,
        decompose=_attention,
        samples=(
            Sample(((3, 4), (5, 4), (5, 2)), attrs={"is_causal": False, "scale": 0.5}),
            Sample(((2, 3, 4), (2, 5, 4), (2, 5, 2)), attrs={"is_causal": True, "scale": 0.5}),
            Sample(((2, 3, 4), (2, 5, 4), (2, 5, 2), (3, 5)), attrs={"is_causal": False, "scale": 1.0}),
        ),
    )
)
