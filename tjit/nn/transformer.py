"""Transformers: layers of attention and feed-forward networks, and stacks of them."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.nn import functional as F
from tjit.nn import init
from tjit.nn.attention import MultiheadAttention
from tjit.nn.containers import ModuleList
from tjit.nn.layers import Dropout, LayerNorm, Linear
from tjit.nn.module import Module
from tjit.ops.creation import full, triu
from tjit.tensor import Tensor

__all__ = [
    "Transformer",
    "TransformerDecoder",
    "TransformerDecoderLayer",
    "TransformerEncoder",
    "TransformerEncoderLayer",
]

Activation = str | Callable[[Tensor], Tensor]
_ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {"relu": F.relu, "gelu": F.gelu}


class _Layer(Module):
    """What layers of encoder and decoder share: a feed-forward network, and sublayers that are added and normed."""

    attentions: tuple[str, ...] = ()  # the names of the layer's attentions

    def __init__(
        self,
        d_model: int,
        nhead: int,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        where: dict[str, Any] = {"device": device, "dtype": dtype}
        for name in self.attentions:
            self.add_module(name, MultiheadAttention(d_model, nhead, dropout, bias, batch_first=batch_first, **where))
        self.linear1 = Linear(d_model, dim_feedforward, bias, **where)
        self.dropout = Dropout(dropout)
        self.linear2 = Linear(dim_feedforward, d_model, bias, **where)
        self.norm_first = norm_first
        sublayers = range(1, len(self.attentions) + 2)
        for i in sublayers:
            self.add_module(f"norm{i}", LayerNorm(d_model, layer_norm_eps, bias=bias, **where))
        for i in sublayers:
            self.add_module(f"dropout{i}", Dropout(dropout))
        self.activation = _activation(activation)

    def _feed_forward(self, x: Tensor) -> Tensor:
        return self.linear2(self.dropout(self.activation(self.linear1(x))))

    def _attend(self, attention: Module, x: Tensor, to: Tensor, masks: tuple[Any, Any, bool]) -> Tensor:
        mask, padding, causal = masks
        return attention(x, to, to, attn_mask=mask, key_padding_mask=padding, is_causal=causal, need_weights=False)[0]

    def _add(self, i: int, x: Tensor, sublayer: Callable[[Tensor], Tensor]) -> Tensor:
        """x and sublayer number i of it, normed before or after."""
        norm, dropout = getattr(self, f"norm{i}"), getattr(self, f"dropout{i}")
        if self.norm_first:
            return x + dropout(sublayer(norm(x)))
        return norm(x + dropout(sublayer(x)))


def _activation(given: Activation) -> Callable[[Tensor], Tensor]:
    if not isinstance(given, str):
        return given
    if given not in _ACTIVATIONS:
        raise ArgumentError(f"activation should be relu/gelu, not {given}", user_location())
    return _ACTIVATIONS[given]


class TransformerEncoderLayer(_Layer):
    """Attention of a sequence to itself, then a feed-forward network; each is added to what it takes and normed.

    Args:
        d_model: columns of what the layer takes and gives.
        nhead: heads of attention.
        dim_feedforward: columns inside of the feed-forward network.
        dropout: the probability that an element is dropped in training: of weights, and of what is added.
        activation: "relu", "gelu" or a function, between the products of the feed-forward network.
        layer_norm_eps: of the norms.
        batch_first: operands are f[b, t, d_model], not f[t, b, d_model].
        norm_first: norms stand before the sublayers, not behind the sums.
        bias: whether products and norms have one.

    Raises:
        ArgumentError: d_model is no multiple of nhead, either is not positive, or `activation` is another string.

    Source: Vaswani et al. (2017), "Attention is all you need".
    """

    attentions = ("self_attn",)

    def forward(
        self,
        src: Tensor,
        src_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool = False,
    ) -> Tensor:
        """Encode.

        Args:
            src: f[t, b, d_model], f[b, t, d_model] with `batch_first`, or f[t, d_model].
            src_mask, src_key_padding_mask, is_causal: as MultiheadAttention's attn_mask, key_padding_mask, is_causal.

        Returns:
            f[*src].

        Raises:
            ArgumentError: an operand has another shape, or `is_causal` comes without `src_mask`.
        """
        masks = src_mask, src_key_padding_mask, is_causal
        x = self._add(1, src, lambda x: self._attend(self.self_attn, x, x, masks))
        return self._add(2, x, self._feed_forward)


class TransformerDecoderLayer(_Layer):
    """Attention of a sequence to itself, then to an encoder's output, then a feed-forward network.

    Takes TransformerEncoderLayer's arguments.
    """

    attentions = ("self_attn", "multihead_attn")

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool = False,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Decode.

        Args:
            tgt: f[t, b, d_model], f[b, t, d_model] with `batch_first`, or f[t, d_model].
            memory: f[s, b, d_model], likewise: the encoder's output.
            tgt_*: the masks of the attention to itself, as MultiheadAttention's attn_mask, key_padding_mask, is_causal.
            memory_*: those of the attention to `memory`.

        Returns:
            f[*tgt].

        Raises:
            ArgumentError: an operand has another shape, or a hint that a mask is causal comes without the mask.
        """
        own = tgt_mask, tgt_key_padding_mask, tgt_is_causal
        other = memory_mask, memory_key_padding_mask, memory_is_causal
        x = self._add(1, tgt, lambda x: self._attend(self.self_attn, x, x, own))
        x = self._add(2, x, lambda x: self._attend(self.multihead_attn, x, memory, other))
        return self._add(3, x, self._feed_forward)


def _copies(layer: Module, count: int) -> ModuleList:
    return ModuleList([copy.deepcopy(layer) for _ in range(count)])


class TransformerEncoder(Module):
    """`num_layers` copies of an encoder layer on one another, and `norm` behind them.

    `enable_nested_tensor` and `mask_check` are there for PyTorch's sake: padding is computed like all else.
    """

    def __init__(
        self,
        encoder_layer: Module,
        num_layers: int,
        norm: Module | None = None,
        enable_nested_tensor: bool = True,
        mask_check: bool = True,
    ) -> None:
        super().__init__()
        self.layers = _copies(encoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        src: Tensor,
        mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        is_causal: bool | None = None,
    ) -> Tensor:
        """The last layer's output f[*src], or `norm`'s of it; arguments and errors are each layer's."""
        for layer in self.layers:
            src = layer(src, mask, src_key_padding_mask, bool(is_causal))
        return src if self.norm is None else self.norm(src)


class TransformerDecoder(Module):
    """`num_layers` copies of a decoder layer on one another, and `norm` behind them."""

    def __init__(self, decoder_layer: Module, num_layers: int, norm: Module | None = None) -> None:
        super().__init__()
        self.layers = _copies(decoder_layer, num_layers)
        self.num_layers, self.norm = num_layers, norm

    def forward(
        self,
        tgt: Tensor,
        memory: Tensor,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """The last layer's output f[*tgt], or `norm`'s of it; arguments and errors are each layer's."""
        paddings = tgt_key_padding_mask, memory_key_padding_mask
        for layer in self.layers:
            tgt = layer(tgt, memory, tgt_mask, memory_mask, *paddings, bool(tgt_is_causal), memory_is_causal)
        return tgt if self.norm is None else self.norm(tgt)


class Transformer(Module):
    """An encoder and a decoder, each with a norm behind its layers; matrices are drawn by `xavier_uniform_`.

    Takes TransformerEncoderLayer's arguments, numbers of layers behind `nhead`, and modules that stand for encoder or
    decoder behind `activation`.
    """

    def __init__(
        self,
        d_model: int = 512,
        nhead: int = 8,
        num_encoder_layers: int = 6,
        num_decoder_layers: int = 6,
        dim_feedforward: int = 2048,
        dropout: float = 0.1,
        activation: Activation = F.relu,
        custom_encoder: Module | None = None,
        custom_decoder: Module | None = None,
        layer_norm_eps: float = 1e-5,
        batch_first: bool = False,
        norm_first: bool = False,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        layer = (d_model, nhead, dim_feedforward, dropout, activation, layer_norm_eps, batch_first, norm_first, bias)
        where: dict[str, Any] = {"device": device, "dtype": dtype}

        def norm() -> LayerNorm:
            return LayerNorm(d_model, layer_norm_eps, bias=bias, **where)

        if custom_encoder is None:
            encoder_layer = TransformerEncoderLayer(*layer, **where)
            custom_encoder = TransformerEncoder(encoder_layer, num_encoder_layers, norm())
        if custom_decoder is None:
            decoder_layer = TransformerDecoderLayer(*layer, **where)
            custom_decoder = TransformerDecoder(decoder_layer, num_decoder_layers, norm())
        self.encoder, self.decoder = custom_encoder, custom_decoder
        self.d_model, self.nhead, self.batch_first = d_model, nhead, batch_first
        self._reset_parameters()

    def _reset_parameters(self) -> None:
        for parameter in self.parameters():
            if parameter.ndim > 1:
                init.xavier_uniform_(parameter)

    def forward(
        self,
        src: Tensor,
        tgt: Tensor,
        src_mask: Tensor | None = None,
        tgt_mask: Tensor | None = None,
        memory_mask: Tensor | None = None,
        src_key_padding_mask: Tensor | None = None,
        tgt_key_padding_mask: Tensor | None = None,
        memory_key_padding_mask: Tensor | None = None,
        src_is_causal: bool | None = None,
        tgt_is_causal: bool | None = None,
        memory_is_causal: bool = False,
    ) -> Tensor:
        """Encode `src`, and decode `tgt` with it.

        Args:
            src: f[s, b, d_model], f[b, s, d_model] with `batch_first`, or f[s, d_model].
            tgt: f[t, b, d_model], likewise.
            src_*, tgt_*: the masks of attention in the encoder and, to itself, in the decoder, as MultiheadAttention's
                attn_mask, key_padding_mask, is_causal.
            memory_*: those of the decoder's attention to the encoder's output.

        Returns:
            f[*tgt].

        Raises:
            ArgumentError: their batches differ, they have not d_model columns, a mask has another shape, or a hint that
                a mask is causal comes without the mask.
        """
        dim = 0 if self.batch_first else 1
        if src.ndim == 3 and tgt.ndim == 3 and src.shape[dim] != tgt.shape[dim]:
            raise ArgumentError(
                f"the batch number of src and tgt must be equal, not {src.shape[dim]} and {tgt.shape[dim]}",
                user_location(),
            )
        if not src.shape[-1] == tgt.shape[-1] == self.d_model:
            raise ArgumentError(
                f"the feature number of src and tgt must be equal to d_model, {self.d_model}, not {src.shape[-1]} and "
                f"{tgt.shape[-1]}",
                user_location(),
            )
        memory = self.encoder(src, src_mask, src_key_padding_mask, src_is_causal)
        paddings = tgt_key_padding_mask, memory_key_padding_mask
        return self.decoder(tgt, memory, tgt_mask, memory_mask, *paddings, tgt_is_causal, memory_is_causal)

    @staticmethod
    def generate_square_subsequent_mask(sz: int, device: Any = None, dtype: Any = None) -> Tensor:
        """f[sz, sz], -inf above the diagonal and 0 elsewhere: what MultiheadAttention takes to be causal."""
        return triu(full((sz, sz), float("-inf"), dtype=dtype, device=device), 1)
