"""Cut an attention's gradients along the keys, where batches are too few for all threads.

Each part of the keys has their cotangents and values' to itself, and leaves its share of the queries' cotangents, which
a kernel adds up. Like `split_contraction`, the cut depends on shapes only: no bit depends on the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tjit.codegen.axes import rebuild
from tjit.codegen.kernel import Accumulator, AttentionGradientKernel, Axis, Buffer, LoopKernel, Store
from tjit.codegen.split import parts_axis
from tjit.codegen.split_k import join_parts
from tjit.ir.dims import Dim, Symbol, product, substitute
from tjit.ir.types import TensorType

__all__ = ["split_attention_gradient"]

_CELLS = 8  # of batches and parts: with the causal mask they are unequal, and few threads still end together
_LEAST_KEYS = 256  # of a part
_TILE = 8  # keys: parts of whole tiles

Split = tuple[list[AttentionGradientKernel], LoopKernel]


def split_attention_gradient(
    kernel: AttentionGradientKernel, new_buffer: Callable[[TensorType], Buffer]
) -> Split | None:
    """Kernels for parts of the keys, and the one that adds up the cotangents of the queries; None: it stays whole."""
    batch, keys = product(axis.extent for axis in kernel.batch), kernel.n.extent
    shape = tuple(axis.extent for axis in (*kernel.batch, kernel.m, kernel.k))
    if not isinstance(batch, int) or not isinstance(keys, int) or not all(isinstance(d, int) and d for d in shape):
        return None
    count = min(-(-_CELLS // batch), keys // _LEAST_KEYS)
    if count < 2:
        return None
    length = keys // count // _TILE * _TILE
    rest = keys - count * length
    buffer = new_buffer(TensorType(kernel.accumulate, (count + (rest > 0), *shape)))
    part = parts_axis(kernel.n, count)
    kernels = [_part(replace(kernel, batch=(part, *kernel.batch)), buffer, part.index, part.index * length, length)]
    if rest:
        kernels.append(_part(kernel, buffer, count, count * length, rest))
    own = kernel.query_gradient
    sums = replace(own, value=Accumulator(own.buffer.dtype))
    part = parts_axis(kernel.n, count + (rest > 0))
    return kernels, join_parts(kernel, part, buffer, (*kernel.batch, kernel.m, kernel.k), (sums,))


def _part(
    kernel: AttentionGradientKernel, buffer: Buffer, part: Dim, first: Dim, length: int
) -> AttentionGradientKernel:
    """The gradients of `length` keys from `first` on; the queries' go to place `part` of the buffer."""
    n = Axis(Symbol(kernel.n.symbol.name, 0, length - 1), length)
    values: dict[Symbol, Dim] = {kernel.n.symbol: first + n.index}
    names = ("query", "key", "value", "gradient", "log_sum", "delta", "score")
    reads: dict[str, Any] = {name: rebuild(getattr(kernel, name), values, {}, {}) for name in names}
    own = kernel.query_gradient
    query_gradient = Store(buffer, (part, *own.index), Accumulator(kernel.accumulate), own.location)
    others = {name: _moved(getattr(kernel, name), values) for name in ("key_gradient", "value_gradient")}
    return replace(kernel, n=n, first_key=first, **reads, query_gradient=query_gradient, **others)


def _moved(store: Store, values: dict[Symbol, Dim]) -> Store:
    return replace(store, index=tuple(substitute(d, values) for d in store.index))
