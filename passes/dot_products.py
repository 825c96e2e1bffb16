"""Contractions of one row and one column."""

from __future__ import annotations

from collections.abc import Sequence

from tjit.dtypes import f32
from tjit.ir.dims import is_one
from tjit.ir.graph import Graph, Node, Operand, Value
from tjit.ops.conversion import cast
from tjit.ops.elementwise import mul
from tjit.ops.movement import reshape
from tjit.ops.sums import sum as total
from tjit.passes.rewrite import Rewriter, rewrite
from tjit.tensor import Tensor

__all__ = ["sum_dot_products"]


def sum_dot_products(graph: Graph) -> Graph:
    """Write a product of one row and one column as a sum: all threads share a long one, and it fuses like other sums.

    Before:
        graph f(%x: f32[5, 1, 900], %y: f32[5, 900, 1]) -> f32[5, 1, 1] {
          %0: f32[5, 1, 1] = dot(%x, %y)  # model.py:2
          return %0
        }

    After:
        graph f(%x: f32[5, 1, 900], %y: f32[5, 900, 1]) -> f32[5, 1, 1] {
          %0: f32[5, 900] = reshape(%x, shape=(5, 900))    # model.py:2
          %1: f32[5, 900] = reshape(%y, shape=(5, 900))    # model.py:2
          %2: f32[5, 900] = mul(%0, %1)                    # model.py:2
          %3: f32[5] = sum(%2, dims=(1,), keepdim=False)   # model.py:2
          %4: f32[5, 1, 1] = reshape(%3, shape=(5, 1, 1))  # model.py:2
          return %4
        }
    """
    return rewrite(graph, _summed)


def _summed(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.name != "dot" or not all(isinstance(o, Value) for o in node.operands):
        return None
    *_, rows, columns = node.result.type.shape
    if not (is_one(rows) and is_one(columns)):
        return None
    return rewriter.trace(node, _sum_of_products, node.operands)


def _sum_of_products(a: Tensor, b: Tensor) -> Tensor:
    shape = (*a.shape[:-2], a.shape[-1])
    wide = f32 if a.dtype.is_floating_point and a.dtype.itemsize == 2 else a.dtype
    products = mul(cast(reshape(a, shape), wide), cast(reshape(b, shape), wide))
    return cast(reshape(total(products, -1, dtype=wide), (*shape[:-1], 1, 1)), a.dtype)
