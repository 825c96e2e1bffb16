"""Attention: one op whole, which the processor's backend claims as one kernel; elsewhere it is its decomposition."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.dtypes import bf16, f16, f32, f64
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.contract import matmul
from tjit.ops.conversion import cast
from tjit.ops.creation import iota
from tjit.ops.dropout import dropout
from tjit.ops.elementwise import exp, where
from tjit.ops.movement import broadcast_to, permute, reshape
from tjit.ops.normalize import softmax
from tjit.ops.operands import broadcast_shapes
from tjit.ops.reduce import amax, logsumexp
from tjit.ops.reduce import sum as sum_
from tjit.ops.sums import wide
from tjit.tensor import Tensor

__all__ = ["scaled_dot_product_attention"]


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
    operands = _aligned(query, key, value, *(() if attn_mask is None else (attn_mask,)))
    scale = 1 / math.sqrt(query.shape[-1]) if scale is None else float(scale)
    attrs = {"is_causal": bool(is_causal), "scale": scale, "zero_blind": True}
    if dropout_p > 0:
        q, k, v, *mask = operands
        return matmul(dropout(attention_weights(q, k, *mask, **attrs), dropout_p), v)
    return apply(SCALED_DOT_PRODUCT_ATTENTION, *operands, **attrs)[0]


def plain_attention(
    query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None, *, scale: float, hides: bool
) -> Tensor:
    """The formula softmax(query @ key.T * scale + mask) @ value, in which a row that sees nothing is nan.

    Args:
        hides: a bool mask is true where a position is not seen.
    """
    rest = () if mask is None else (~mask if hides else mask,)
    operands = _aligned(query, key, value, *rest)
    attrs = {"is_causal": False, "scale": scale, "zero_blind": False}
    return apply(SCALED_DOT_PRODUCT_ATTENTION, *operands, **attrs)[0]


def _repeat_heads(x: Tensor, query: Tensor) -> Tensor:
    heads, repeats = x.shape[-3], query.shape[-3] // x.shape[-3]
    wide = broadcast_to(reshape(x, (*x.shape[:-2], 1, *x.shape[-2:])), (*x.shape[:-2], repeats, *x.shape[-2:]))
    return reshape(wide, (*x.shape[:-3], heads * repeats, *x.shape[-2:]))


def _aligned(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None) -> tuple[Tensor, ...]:
    """The operands with all of their batch dims, as far as they fit: the type rule says what does not."""
    if min(q.ndim, k.ndim, v.ndim) < 2:
        return (q, k, v) if mask is None else (q, k, v, mask)
    rest = () if mask is None else (mask.shape[:-2],)
    batch = broadcast_shapes(q.shape[:-2], k.shape[:-2], v.shape[:-2], *rest, what="scaled_dot_product_attention")
    aligned = tuple(broadcast_to(x, (*batch, *x.shape[-2:])) for x in (q, k, v))
    return aligned if mask is None else (*aligned, broadcast_to(mask, (*batch, q.shape[-2], k.shape[-2])))


def _attention_infer(
    q: TensorType, k: TensorType, v: TensorType, mask: TensorType | None = None, **_: Any
) -> tuple[TensorType, TensorType]:
    if not q.is_float or not q.dtype is k.dtype is v.dtype:
        raise TypeRuleError(f"scaled_dot_product_attention needs floats of one dtype, not {q}, {k} and {v}")
    fits = min(q.ndim, k.ndim, v.ndim) >= 2 and q.shape[-1] == k.shape[-1] and k.shape[-2] == v.shape[-2]
    if not fits or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise TypeRuleError(
            f"scaled_dot_product_attention needs query [*, l, e], key [*, s, e], value [*, s, v], not {q}, {k} and {v}"
        )
    if mask is not None and mask.dtype.kind != "bool" and mask.dtype is not q.dtype:
        raise TypeRuleError(f"scaled_dot_product_attention needs a mask of bool or {q.dtype}, not {mask}")
    if mask is not None and mask.shape != (*q.shape[:-1], k.shape[-2]):
        raise TypeRuleError(f"scaled_dot_product_attention needs a mask [*, l, s] of {q} and {k}, not {mask}")
    log_sum = TensorType(f64 if q.dtype is f64 else f32, q.shape[:-1], q.device)
    return q.with_shape((*q.shape[:-1], v.shape[-1])), log_sum


def _transposed(x: Tensor) -> Tensor:
    return permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


def _scores(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """query @ key.T * scale with the mask, -inf where a position is not seen.

    By `where`, which also keeps the nan of a row that sees nothing out of the gradient.
    """
    scores = matmul(q, _transposed(k)) * scale
    lowest = float("-inf")
    if is_causal:
        rows, columns = q.shape[-2], k.shape[-2]
        scores = where(iota((rows, 1), 0, device=q.device) >= iota((1, columns), 1, device=q.device), scores, lowest)
    if mask is None:
        return scores
    if mask.dtype.kind == "bool":
        return where(mask, scores, lowest)
    return where(mask != lowest, scores + mask, lowest)


def _wide_scores(q: Tensor, k: Tensor, mask: Tensor | None, is_causal: bool, scale: float) -> Tensor:
    """The scores in f32 where the dtype is narrower: their exponentials are to be as exact as the weights."""
    return _scores(wide(q), wide(k), _wide_mask(mask), is_causal, scale)


def _wide_mask(mask: Tensor | None) -> Tensor | None:
    return wide(mask) if mask is not None and mask.dtype.is_floating_point else mask


def attention_weights(
    q: Tensor, k: Tensor, mask: Tensor | None = None, *, is_causal: bool, scale: float, zero_blind: bool
) -> Tensor:
    """softmax(query @ key.T * scale + mask).

    Args:
        q, k, mask: as of `scaled_dot_product_attention`; the mask may be of less dims.
        zero_blind: whether a row that sees nothing is zero, not nan.
    """
    scores = _scores(q, k, mask, is_causal, scale)
    weights = softmax(scores, -1)
    if mask is None or not zero_blind:  # under a causal mask every row sees its first position
        return weights
    return where(amax(scores, -1, keepdim=True) == float("-inf"), 0.0, weights)


def _log_sum(
    q: Tensor, k: Tensor, mask: Tensor | None = None, *, is_causal: bool, scale: float, zero_blind: bool
) -> Tensor:
    """log(sum(exp(scores))) of each row; inf where it sees nothing: exp(score - inf) is its weight of zero."""
    found = logsumexp(_wide_scores(q, k, mask, is_causal, scale), -1)
    return where(found == float("-inf"), float("inf"), found) if zero_blind and mask is not None else found


def _attention(q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, **attrs: Any) -> tuple[Tensor, Tensor]:
    weights = attention_weights(wide(q), wide(k), _wide_mask(mask), **attrs)
    return cast(matmul(weights, wide(v)), q.dtype), _log_sum(q, k, mask, **attrs)


def _np_scores(q: np.ndarray, k: np.ndarray, mask: np.ndarray | None, is_causal: bool, scale: float) -> np.ndarray:
    scores = q @ k.swapaxes(-1, -2) * np.asarray(scale, q.dtype)
    if is_causal:
        mask = np.tri(q.shape[-2], k.shape[-2], dtype=bool)
    if mask is None:
        return scores
    return np.where(mask, scores, -np.inf).astype(q.dtype) if mask.dtype == bool else scores + mask


def _attention_reference(
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    is_causal: bool,
    scale: float,
    zero_blind: bool,
) -> tuple[np.ndarray, np.ndarray]:
    dtype = q.dtype
    q, k, v, mask = _in_f32(q, k, v, mask)
    scores = _np_scores(q, k, mask, is_causal, scale)
    top = scores.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(scores - np.where(np.isneginf(top), 0, top))
    total = e.sum(-1, keepdims=True)
    blind = zero_blind and mask is not None
    log_sum = np.where(blind & (total == 0), np.inf, np.log(total) + top)[..., 0]
    weights = e / np.where(blind & (total == 0), 1, total)
    return (weights @ v).astype(dtype), log_sum.astype(q.dtype)


def _in_f32(*xs: np.ndarray | None) -> tuple[Any, ...]:
    """Narrow floats as f32, as compiled code computes them."""
    narrow = (f16.numpy, bf16.numpy)
    return tuple(x.astype(np.float32) if x is not None and x.dtype in narrow else x for x in xs)


def _attention_vjp(
    g: tuple[Tensor, Tensor],
    y: tuple[Tensor, Tensor],
    q: Tensor,
    k: Tensor,
    v: Tensor,
    mask: Tensor | None = None,
    **attrs: Any,
) -> tuple[Tensor | None, ...]:
    # weights p and their cotangent dp: that of the scores is p (dp - sum(p dp)), and sum(p dp) = sum(g y) of the row;
    # the cotangent of the row's log-sum-exp adds p times itself
    delta = sum_(wide(g[0]) * wide(y[0]), -1) - g[1]
    rest = () if mask is None else (mask,)
    pulled = apply(SCALED_DOT_PRODUCT_ATTENTION_BACKWARD, g[0], q, k, v, y[1], delta, *rest, **attrs)
    if mask is None or mask.dtype.kind == "bool":
        return (*pulled, *(None for _ in rest))
    _, ds = _score_cotangents(g[0], q, k, v, y[1], delta, mask, attrs["is_causal"], attrs["scale"])
    return *pulled, cast(ds, mask.dtype)


def _score_cotangents(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_sum: Tensor,
    delta: Tensor,
    mask: Tensor | None,
    is_causal: bool,
    scale: float,
) -> tuple[Tensor, Tensor]:
    """The weights, and the cotangents of the scores, in the dtype of `log_sum`."""
    p = exp(_wide_scores(q, k, mask, is_causal, scale) - _column(wide(log_sum)))
    return p, p * (matmul(wide(g), _transposed(wide(v))) - _column(wide(delta)))


def _column(x: Tensor) -> Tensor:
    return reshape(x, (*x.shape, 1))


def _attention_backward(
    g: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    log_sum: Tensor,
    delta: Tensor,
    mask: Tensor | None = None,
    *,
    is_causal: bool,
    scale: float,
    zero_blind: bool,
) -> tuple[Tensor, ...]:
    p, ds = _score_cotangents(g, q, k, v, log_sum, delta, mask, is_causal, scale)
    ds = ds * scale
    found = matmul(ds, wide(k)), matmul(_transposed(ds), wide(q)), matmul(_transposed(p), wide(g))
    return tuple(cast(x, q.dtype) for x in found)


def _attention_backward_infer(
    g: TensorType,
    q: TensorType,
    k: TensorType,
    v: TensorType,
    log_sum: TensorType,
    delta: TensorType,
    mask: TensorType | None = None,
    **attrs: Any,
) -> tuple[TensorType, TensorType, TensorType]:
    y, rows = _attention_infer(q, k, v, *(() if mask is None else (mask,)))
    if g != y or not all(x.is_float and x.shape == rows.shape for x in (log_sum, delta)):
        raise TypeRuleError(
            f"scaled_dot_product_attention_backward needs {y} and twice {rows}, not {g}, {log_sum} and {delta}"
        )
    return q, k, v


def _attention_backward_reference(
    g: np.ndarray,
    q: np.ndarray,
    k: np.ndarray,
    v: np.ndarray,
    log_sum: np.ndarray,
    delta: np.ndarray,
    mask: np.ndarray | None = None,
    *,
    is_causal: bool,
    scale: float,
    zero_blind: bool,
) -> tuple[np.ndarray, ...]:
    dtype = q.dtype
    g, q, k, v, log_sum, delta, mask = _in_f32(g, q, k, v, log_sum, delta, mask)
    p = np.exp(_np_scores(q, k, mask, is_causal, scale) - log_sum[..., None])
    ds = p * (g @ v.swapaxes(-1, -2) - delta[..., None]) * np.asarray(scale, q.dtype)
    found = ds @ k, ds.swapaxes(-1, -2) @ q, p.swapaxes(-1, -2) @ g
    return tuple(x.astype(dtype) for x in found)


def _attrs(is_causal: bool, scale: float, zero_blind: bool = True) -> dict[str, Any]:
    return {"is_causal": is_causal, "scale": scale, "zero_blind": zero_blind}


SCALED_DOT_PRODUCT_ATTENTION = register(
    Op(
        name="scaled_dot_product_attention",  # the output, and the log-sum-exp of each row of scores
        kind="composite",
        infer=_attention_infer,
        reference=_attention_reference,
        vjp=_attention_vjp,
        decompose=_attention,
        samples=(
            Sample(((3, 4), (5, 4), (5, 2)), attrs=_attrs(False, 0.5)),
            Sample(((2, 3, 4), (2, 5, 4), (2, 5, 2)), attrs=_attrs(True, 0.5)),
            Sample(((2, 3, 4), (2, 5, 4), (2, 5, 2), (2, 3, 5)), attrs=_attrs(False, 1.0)),
            Sample(((2, 70, 5), (2, 33, 5), (2, 33, 19)), attrs=_attrs(True, 0.25, zero_blind=False)),
        ),
    )
)

SCALED_DOT_PRODUCT_ATTENTION_BACKWARD = register(
    Op(
        name="scaled_dot_product_attention_backward",  # the cotangents of query, key and value
        kind="composite",
        infer=_attention_backward_infer,
        reference=_attention_backward_reference,
        vjp=None,
        decompose=_attention_backward,
        samples=(
            Sample(((3, 2), (3, 4), (5, 4), (5, 2), (3,), (3,)), -1.5, 1.5, attrs=_attrs(False, 0.5)),
            Sample(((2, 3, 2), (2, 3, 4), (2, 5, 4), (2, 5, 2), (2, 3), (2, 3)), -1.5, 1.5, attrs=_attrs(True, 0.5)),
        ),
    )
)
