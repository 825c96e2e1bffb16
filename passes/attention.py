"""Attention from its formula."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from tjit.dataclass import dataclass
from tjit.dtypes import bf16, f16
from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.scope import each_node, yielded
from tjit.ops.attention import plain_attention
from tjit.passes.claims import is_attention_claimed
from tjit.passes.rewrite import Rewriter, rewrite

__all__ = ["find_attention", "find_attention_fast"]

_WIDEST = 512  # elements of a query or a value: of more, the products alone take the time


@dataclass
class _Scores:
    """What a softmax is of: scale times the product of `query` and the transposed `key`, then the mask.

    Attributes:
        hides: whether a bool mask is true where a position is not seen.
    """

    query: Value
    key: Value
    scale: float = 1.0
    mask: Value | None = None
    hides: bool = False


def find_attention(graph: Graph, fast_math: bool = False) -> Graph:
    """softmax(query @ key.T * scale + mask) @ value as one node, where a backend has a kernel for it.

    Products, softmax and mask may be read nowhere else: what is read is in memory.

    Args:
        fast_math: also those of f16, though the formula rounds scores and weights to it and the kernel does not. Those
            of bf16 stay in any case: products of bf16 have instructions of their own, which the kernel's are too wide for.

    Before:
        graph f(%q: f32[4, 64, 16], %k: f32[4, 64, 16], %v: f32[4, 64, 16]) -> f32[4, 64, 16] {
          %0: f32[4, 16, 64] = permute(%k, dims=(0, 2, 1))  # model.py:2
          %1: f32[4, 64, 64] = matmul(%q, %0)               # model.py:2
          %2: f32[4, 64, 64] = mul(%1, 0.25)                # model.py:2
          %3: f32[4, 64, 64] = softmax(%2, dim=2)           # model.py:2
          %4: f32[4, 64, 16] = matmul(%3, %v)               # model.py:2
          return %4
        }

    After:
        graph f(%q: f32[4, 64, 16], %k: f32[4, 64, 16], %v: f32[4, 64, 16]) -> f32[4, 64, 16] {
          %0: f32[4, 16, 64] = permute(%k, dims=(0, 2, 1))  # model.py:2
          %1: f32[4, 64, 64] = matmul(%q, %0)               # model.py:2
          %2: f32[4, 64, 64] = mul(%1, 0.25)                # model.py:2
          %3: f32[4, 64, 64] = softmax(%2, dim=2)           # model.py:2
          %4: f32[4, 64, 16], %5: f32[4, 64] = scaled_dot_product_attention(%q, %k, %v, is_causal=False, scale=0.25, zero_blind=False)  # model.py:2
          return %4
        }
    """  # noqa: E501
    reads = _reads(graph.nodes)
    reads.update(o for o in graph.outputs if isinstance(o, Value))

    def fuse(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
        if node.op.name != "matmul":
            return None
        weights, value = node.operands
        softmax = _made_by("softmax", rewriter, weights, reads)
        if softmax is None or softmax.attrs["dim"] != softmax.result.type.ndim - 1 or not isinstance(value, Value):
            return None
        found = _scores(rewriter, softmax.operands[0], reads)
        if found is None or not _is_worth(found, value, fast_math):
            return None
        operands = [found.query, found.key, value, *(() if found.mask is None else (found.mask,))]
        attrs: dict[str, Any] = {"scale": found.scale, "hides": found.hides}
        return rewriter.trace(node, plain_attention, operands, **attrs)

    return rewrite(graph, fuse)


def find_attention_fast(graph: Graph) -> Graph:
    """`find_attention` with fast_math."""
    return find_attention(graph, fast_math=True)


def _reads(nodes: Sequence[Node]) -> Counter[Value]:
    """How often each value is read, in regions too."""
    operands = (operand for node in each_node(nodes) for operand in node.operands)
    return Counter(o for o in (*operands, *yielded(nodes)) if isinstance(o, Value))


def _made_by(name: str, rewriter: Rewriter, operand: Operand, reads: Counter[Value]) -> Node | None:
    """The node of that op that makes `operand`, if only one node reads it."""
    node = rewriter.producer(operand)
    return node if node is not None and node.op.name == name and reads[node.result] == 1 else None


def _scores(rewriter: Rewriter, operand: Operand, reads: Counter[Value]) -> _Scores | None:
    """What `operand` is, from the outside in: the mask, the scale, the product."""
    mask, hides = None, False
    masked = _masked(rewriter, operand, reads)
    if masked is not None:
        operand, mask, hides = masked
    scale = 1.0
    while (step := _scaled(rewriter, operand, reads)) is not None:
        operand, factor = step
        scale *= factor
    product = _made_by("matmul", rewriter, operand, reads)
    if product is None:
        return None
    query, turned = product.operands
    key = _transposed(rewriter, turned)
    if key is None or not isinstance(query, Value):
        return None
    return _Scores(query, key, scale, mask, hides)


def _masked(rewriter: Rewriter, operand: Operand, reads: Counter[Value]) -> tuple[Operand, Value, bool] | None:
    """(scores, mask, hides): what a mask is put on, and whether it is true where a position is not seen."""
    choice = _made_by("where", rewriter, operand, reads)
    if choice is not None:
        condition, kept, other = choice.operands
        hides = isinstance(kept, Literal)
        fill = kept if hides else other
        lowest = isinstance(fill, Literal) and fill.value == float("-inf")
        return (other if hides else kept, condition, hides) if lowest and isinstance(condition, Value) else None
    sum_ = _made_by("add", rewriter, operand, reads)
    if sum_ is None or not all(isinstance(o, Value) for o in sum_.operands):
        return None
    for scores, mask in (sum_.operands, sum_.operands[::-1]):
        if isinstance(mask, Value) and _is_product(rewriter, scores, reads):
            return scores, mask, False
    return None


def _is_product(rewriter: Rewriter, operand: Operand, reads: Counter[Value]) -> bool:
    while (step := _scaled(rewriter, operand, reads)) is not None:
        operand = step[0]
    return _made_by("matmul", rewriter, operand, reads) is not None


def _scaled(rewriter: Rewriter, operand: Operand, reads: Counter[Value]) -> tuple[Operand, float] | None:
    """(x, c) where `operand` is x times the number c."""
    for name in ("mul", "div"):
        node = _made_by(name, rewriter, operand, reads)
        if node is None:
            continue
        x, c = node.operands
        if name == "mul" and isinstance(x, Literal):
            x, c = c, x
        if isinstance(c, Literal) and isinstance(x, Value) and c.value:
            return x, float(c.value) if name == "mul" else 1 / float(c.value)
    return None


def _transposed(rewriter: Rewriter, operand: Operand) -> Value | None:
    """What `operand` is the transpose of."""
    node = rewriter.producer(operand)
    if node is None or node.op.name != "permute":
        return None
    (key,) = node.operands
    *batch, row, column = node.attrs["dims"]
    rank = len(batch)
    swapped = (*batch, row, column) == (*range(rank), rank + 1, rank)
    return key if swapped and isinstance(key, Value) else None


def _is_worth(found: _Scores, value: Value, fast_math: bool) -> bool:
    query, key = found.query.type, found.key.type
    stays = value.type.dtype is bf16 or (value.type.dtype is f16 and not fast_math)
    if stays or min(query.ndim, key.ndim, value.type.ndim) < 2:
        return False
    narrow = all(isinstance(d, int) and d <= _WIDEST for d in (query.shape[-1], value.type.shape[-1]))
    return narrow and is_attention_claimed(query, value.type)
