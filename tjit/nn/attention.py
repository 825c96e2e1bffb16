"""Multi-head attention as a module."""

from __future__ import annotations

import math
from functools import reduce
from operator import add, or_
from typing import Any

from tjit.dtypes import DType, bool_
from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.nn import functional as F
from tjit.nn import init
from tjit.nn.layers import Linear
from tjit.nn.module import Module
from tjit.nn.parameter import Parameter
from tjit.ops.attention import attention_weights
from tjit.ops.creation import empty, zeros
from tjit.ops.elementwise import where
from tjit.ops.join import cat
from tjit.ops.movement import broadcast_to, reshape
from tjit.tensor import Tensor

__all__ = ["MultiheadAttention"]


class MultiheadAttention(Module):
    """Attention of `num_heads` heads, each on its part of projections of query, key and value.

    Args:
        embed_dim: columns e of query and output.
        num_heads: e is a multiple of it.
        dropout: the probability that a weight is dropped in training.
        bias: whether projections have one.
        add_bias_kv: whether a learnt key and value are put behind the others.
        add_zero_attn: whether a key and a value of zeros are.
        kdim, vdim: columns of key and value (None: e).
        batch_first: operands are f[b, t, *], not f[t, b, *].

    Attributes:
        in_proj_weight: f[3 e, e], the projections of query, key and value, one below the other. Where their columns
            differ it is None, and there are q_proj_weight f[e, e], k_proj_weight f[e, kdim], v_proj_weight f[e, vdim].
        in_proj_bias: f[3 e], or None.
        bias_k, bias_v: f[1, 1, e], or None.
        out_proj: Linear of e to e.

    Raises:
        ArgumentError: e is no multiple of num_heads, or either is not positive.

    Source: Vaswani et al. (2017), "Attention is all you need".
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        dropout: float = 0.0,
        bias: bool = True,
        add_bias_kv: bool = False,
        add_zero_attn: bool = False,
        kdim: int | None = None,
        vdim: int | None = None,
        batch_first: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        if embed_dim <= 0 or num_heads <= 0:
            raise ArgumentError(
                f"embed_dim and num_heads must be greater than 0, got embed_dim={embed_dim} and num_heads={num_heads}",
                user_location(),
            )
        if embed_dim % num_heads:
            raise ArgumentError(
                f"embed_dim must be divisible by num_heads, not {embed_dim} by {num_heads}", user_location()
            )
        self.embed_dim, self.num_heads, self.head_dim = embed_dim, num_heads, embed_dim // num_heads
        self.kdim, self.vdim = kdim or embed_dim, vdim or embed_dim
        self.dropout, self.add_zero_attn, self.batch_first = dropout, add_zero_attn, batch_first
        packed = self.kdim == self.vdim == embed_dim
        shapes: dict[str, tuple[int, ...] | None] = {
            "q_proj_weight": None if packed else (embed_dim, embed_dim),
            "k_proj_weight": None if packed else (embed_dim, self.kdim),
            "v_proj_weight": None if packed else (embed_dim, self.vdim),
            "in_proj_weight": (3 * embed_dim, embed_dim) if packed else None,
            "in_proj_bias": (3 * embed_dim,) if bias else None,
            "bias_k": (1, 1, embed_dim) if add_bias_kv else None,
            "bias_v": (1, 1, embed_dim) if add_bias_kv else None,
        }
        for name, shape in shapes.items():
            made = None if shape is None else Parameter(empty(shape, device=device, dtype=dtype))
            self.register_parameter(name, made)
        self.out_proj = Linear(embed_dim, embed_dim, bias, device=device, dtype=dtype)
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for name, parameter in self._parameters.items():
            if parameter is None:
                continue
            if name.endswith("weight"):
                init.xavier_uniform_(parameter)
            elif name == "in_proj_bias":
                init.zeros_(parameter)
            else:
                init.xavier_normal_(parameter)
        if self.out_proj.bias is not None:
            init.zeros_(self.out_proj.bias)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        key_padding_mask: Tensor | None = None,
        need_weights: bool = True,
        attn_mask: Tensor | None = None,
        average_attn_weights: bool = True,
        is_causal: bool = False,
    ) -> tuple[Tensor, Tensor | None]:
        """Attend.

        Args:
            query: f[l, b, e], f[b, l, e] with `batch_first`, or f[l, e].
            key: f[s, b, kdim], likewise.
            value: f[s, b, vdim], likewise.
            key_padding_mask: [b, s] or [s]: of bool, True where a key is not seen, or of floats added to the scores.
            need_weights: whether the weights are wanted; without them they need not be in memory.
            attn_mask: [l, s] or [b * num_heads, l, s], likewise.
            average_attn_weights: whether the weights are the mean of all heads'.
            is_causal: a promise that `attn_mask` is the causal one.

        Returns:
            The output, laid out as `query`; and the weights f[b, l, s], without the mean f[b, num_heads, l, s]; or
            None for them.

        Raises:
            ArgumentError: an operand has another shape, a mask another dtype, or `is_causal` comes without `attn_mask`.
        """
        self._check(query, key, value)
        if is_causal and attn_mask is None:
            raise ArgumentError(
                "Need attn_mask if specifying the is_causal hint.",
                user_location(),
                hint="make it with tjit.nn.Transformer.generate_square_subsequent_mask",
            )
        single = query.ndim == 2
        q, k, v = (self._heads(x, single) for x in self._projected(query, key, value))
        k, v = self._with_added(k, v)
        added = k.shape[-2] - key.shape[1 if self.batch_first and not single else 0]
        plain = is_causal and key_padding_mask is None and not need_weights
        mask = None if plain else self._mask(attn_mask, key_padding_mask, q, k, added)
        dropout, weights = self.dropout if self.training else 0.0, None
        if need_weights:
            attrs: dict[str, Any] = {"is_causal": False, "scale": 1 / math.sqrt(self.head_dim), "zero_blind": False}
            weights = F.dropout(attention_weights(q, k, mask, **attrs), dropout)
            y = weights @ v
            weights = weights.mean(1) if average_attn_weights else weights
            weights = weights.squeeze(0) if single else weights
        else:
            y = F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=plain)
        return self.out_proj(self._merged(y, single)), weights

    def _check(self, query: Tensor, key: Tensor, value: Tensor) -> None:
        if query.ndim not in (2, 3) or not query.ndim == key.ndim == value.ndim:
            raise ArgumentError(
                f"MultiheadAttention takes query, key and value of 3 dims, or of 2, not {query.type_}, {key.type_} and "
                f"{value.type_}",
                user_location(),
            )
        for name, x, width in (("query", query, self.embed_dim), ("key", key, self.kdim), ("value", value, self.vdim)):
            if x.shape[-1] != width:
                raise ArgumentError(
                    f"MultiheadAttention was expecting {width} columns of {name}, but got {x.shape[-1]}",
                    user_location(),
                )
        if key.shape[:-1] != value.shape[:-1]:
            raise ArgumentError(
                f"key shape {key.shape} does not match value shape {value.shape} but in the last dim", user_location()
            )
        batch = 0 if self.batch_first else 1
        if query.ndim == 3 and query.shape[batch] != key.shape[batch]:
            raise ArgumentError(
                f"query and key have one batch: dim {batch} of {query.type_} is not that of {key.type_}",
                user_location(),
            )

    def _projected(self, query: Tensor, key: Tensor, value: Tensor) -> tuple[Tensor, ...]:
        """Query, key and value with e columns."""
        operands = (query, key, value)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        if self.in_proj_weight is None:
            weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        elif query is key and key is value:
            return F.linear(query, self.in_proj_weight, self.in_proj_bias).chunk(3, -1)
        else:
            weights = self.in_proj_weight.chunk(3)
        return tuple(F.linear(x, w, b) for x, w, b in zip(operands, weights, biases, strict=True))

    def _heads(self, x: Tensor, single: bool) -> Tensor:
        """A projection as f[b, heads, t, e / heads]."""
        x = reshape(x, (*x.shape[:-1], self.num_heads, self.head_dim))
        if single:
            return x.transpose(0, 1).unsqueeze(0)
        return x.permute(0, 2, 1, 3) if self.batch_first else x.permute(1, 2, 0, 3)

    def _merged(self, y: Tensor, single: bool) -> Tensor:
        """The heads' outputs f[b, heads, l, e / heads], laid out as the query."""
        y = y.squeeze(0).transpose(0, 1) if single else y.permute(*((0, 2, 1, 3) if self.batch_first else (2, 0, 1, 3)))
        return reshape(y, (*y.shape[:-2], self.embed_dim))

    def _with_added(self, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Keys and values f[b, heads, s, e / heads] with the learnt ones and the zeros behind them."""
        shape = (k.shape[0], self.num_heads, 1, self.head_dim)
        if self.bias_k is not None and self.bias_v is not None:
            rows = (reshape(x, (1, self.num_heads, 1, self.head_dim)) for x in (self.bias_k, self.bias_v))
            k, v = (cat([x, broadcast_to(row, shape)], -2) for x, row in zip((k, v), rows, strict=True))
        if self.add_zero_attn:
            k, v = (cat([x, zeros(shape, dtype=x.dtype, device=x.device)], -2) for x in (k, v))
        return k, v

    def _mask(
        self, attn_mask: Tensor | None, key_padding_mask: Tensor | None, q: Tensor, k: Tensor, added: int
    ) -> Tensor | None:
        """Both masks as one that broadcasts to [b, heads, l, s]: True where a key is seen, or added to the scores."""
        (b, heads, l), s = q.shape[:3], k.shape[2] - added  # noqa: E741
        found: list[Tensor] = []
        if attn_mask is not None:
            self._check_mask("attn_mask", attn_mask, ((l, s), (b * heads, l, s)))
            found.append(attn_mask if attn_mask.ndim == 2 else reshape(attn_mask, (b, heads, l, s)))
        if key_padding_mask is not None:
            self._check_mask("key_padding_mask", key_padding_mask, ((b, s), *(((s,),) if b == 1 else ())))
            found.append(reshape(key_padding_mask, (b, 1, 1, s)))
        if not found:
            return None
        found = [F.pad(mask, (0, added)) if added else mask for mask in found]
        if all(mask.dtype is bool_ for mask in found):
            return ~reduce(or_, found)
        return reduce(add, (_added(mask, q.dtype) for mask in found))

    def _check_mask(self, name: str, mask: Tensor, shapes: tuple[tuple[Any, ...], ...]) -> None:
        if mask.dtype is not bool_ and not mask.dtype.is_floating_point:
            raise ArgumentError(f"{name} has to be of bool or of floats, not {mask.dtype}", user_location())
        if tuple(mask.shape) not in shapes:
            wanted = " or ".join(map(str, shapes))
            raise ArgumentError(
                f"The shape of the {name} is {tuple(mask.shape)}, but should be {wanted}", user_location()
            )


def _added(mask: Tensor, dtype: DType) -> Tensor:
    """A mask as what is added to the scores."""
    return where(mask, float("-inf"), zeros((), dtype=dtype)) if mask.dtype is bool_ else mask.to(dtype)
