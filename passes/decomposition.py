"""Decomposition of composites."""

from __future__ import annotations

from collections.abc import Callable

from tjit.ir.graph import Graph, Literal, Node, Operand
from tjit.passes.claims import is_claimed
from tjit.passes.known import make_full
from tjit.passes.rewrite import Rewriter, rewrite

__all__ = ["decompose", "decompose_claimed"]


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
    return _expand(graph, is_claimed)


def decompose_claimed(graph: Graph) -> Graph:
    """Expand what `decompose` left whole too: for a backend without kernels for it.

    Before:
        graph f(%q: f32[8, 1], %k: f32[2, 1], %v: f32[2, 1]) -> f32[8, 1] {
          %0: f32[8, 1], %1: f32[8] = scaled_dot_product_attention(%q, %k, %v, is_causal=False, scale=1.0, zero_blind=False)  # model.py:2
          return %0
        }

    After:
        graph f(%q: f32[8, 1], %k: f32[2, 1], %v: f32[2, 1]) -> f32[8, 1] {
          %0: f32[1, 2] = permute(%k, dims=(1, 0))            # model.py:2
          %1: f32[8, 2] = dot(%q, %0)                         # model.py:2
          %2: f32[8, 2] = mul(%1, 1.0)                        # model.py:2
          %3: f32[8, 1] = max(%2, dims=(1,), keepdim=True)    # model.py:2
          %4: f32[8, 2] = broadcast_to(%3, shape=(8, 2))      # model.py:2
          %5: f32[8, 2] = sub(%2, %4)                         # model.py:2
          %6: f32[8, 2] = exp(%5)                             # model.py:2
          %7: f32[8, 1] = sum(%6, dims=(1,), keepdim=True)    # model.py:2
          %8: f32[8, 2] = broadcast_to(%7, shape=(8, 2))      # model.py:2
          %9: f32[8, 2] = div(%6, %8)                         # model.py:2
          %10: f32[8, 1] = dot(%9, %v)                        # model.py:2
          %11: f32[1, 2] = permute(%k, dims=(1, 0))           # model.py:2
          %12: f32[8, 2] = dot(%q, %11)                       # model.py:2
          %13: f32[8, 2] = mul(%12, 1.0)                      # model.py:2
          %14: f32[8, 1] = max(%13, dims=(1,), keepdim=True)  # model.py:2
          %15: bool[8, 1] = isinf(%14)                        # model.py:2
          %16: f32[8, 1] = where(%15, 0.0, %14)               # model.py:2
          %17: f32[8, 2] = broadcast_to(%16, shape=(8, 2))    # model.py:2
          %18: f32[8, 2] = sub(%13, %17)                      # model.py:2
          %19: f32[8, 2] = exp(%18)                           # model.py:2
          %20: f32[8, 1] = sum(%19, dims=(1,), keepdim=True)  # model.py:2
          %21: f32[8, 1] = log(%20)                           # model.py:2
          %22: f32[8, 1] = add(%21, %16)                      # model.py:2
          %23: f32[8] = reshape(%22, shape=(8,))              # model.py:2
          return %10
        }
    """  # noqa: E501
    return _expand(graph, lambda node: False)


def _expand(graph: Graph, is_kept: Callable[[Node], bool]) -> Graph:
    def expand(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
        if node.op.decompose is None or is_kept(node):
            return None
        found = rewriter.trace(node, node.op.decompose, node.operands, **node.attrs)
        return tuple(
            make_full(rewriter, new, old.type, node)[0] if isinstance(new, Literal) else new
            for new, old in zip(found, node.results, strict=True)
        )

    return rewrite(graph, expand)
