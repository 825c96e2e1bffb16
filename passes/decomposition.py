"""Decomposition of composites."""

from __future__ import annotations

from tjit.ir.graph import Graph, Literal, Node, Operand
from tjit.passes.claims import is_claimed
from tjit.passes.known import make_full
from tjit.passes.rewrite import Rewriter, rewrite

__all__ = ["decompose"]


def decompose(graph: Graph) -> Graph:
    """Expand every composite into primitives, but for those that a backend claims whole.

    Before:
        graph f(%a: f32[3, 4], %b: f32[4]) -> f32[3] {
          %0: f32[3] = matmul(%a, %b)  # model.py:2
          return %0
        }

    After:
        graph f(%a: f32[3, 4], %b: f32[4]) -> f32[3] {
          %0: f32[4, 1] = reshape(%b, shape=(4, 1))  # model.py:2
          %1: f32[3, 1] = dot(%a, %0)                # model.py:2
          %2: f32[3] = reshape(%1, shape=(3,))       # model.py:2
          return %2
        }
    """

    def expand(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
        if node.op.decompose is None or is_claimed(node):
            return None
        found = rewriter.trace(node, node.op.decompose, node.operands, **node.attrs)
        return tuple(
            make_full(rewriter, new, old.type, node)[0] if isinstance(new, Literal) else new
            for new, old in zip(found, node.results, strict=True)
        )

    return rewrite(graph, expand)
