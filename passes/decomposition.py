"""Decomposition of composites."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import NamedTuple

from tjit.capture.trace import inline
from tjit.ir.dims import DimExpr
from tjit.ir.graph import Graph, GraphBuilder, Literal, Node, Operand, Value, exactly
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
    known: dict[Hashable, _Parts] = {}

    def expand(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
        if node.op.decompose is None or is_kept(node):
            return None
        parts = _parts(node, known)
        found = rewriter.insert(parts.nodes, parts.results, node)
        return tuple(
            make_full(rewriter, new, old.type, node)[0] if isinstance(new, Literal) else new
            for new, old in zip(found, node.results, strict=True)
        )

    return rewrite(graph, expand)


class _Parts(NamedTuple):
    """What a composite is made of, given its operands."""

    operands: Sequence[Operand]
    nodes: Sequence[Node]
    results: Sequence[Operand]

    def of(self, operands: Sequence[Operand]) -> _Parts:
        """The same of other operands, of the same types."""
        stands_for: dict[Operand, Operand] = dict(zip(self.operands, operands, strict=True))
        nodes: list[Node] = []
        for node in self.nodes:
            results = [Value(value.type, value.name) for value in node.results]
            nodes.append(Node(node.op, [stands_for.get(o, o) for o in node.operands], node.attrs, results))
            stands_for.update(zip(node.results, results, strict=True))
        return _Parts(operands, nodes, [stands_for.get(o, o) for o in self.results])


def _parts(node: Node, known: dict[Hashable, _Parts]) -> _Parts:
    """The parts of a composite: traced, or as those of one that is `known` and alike, as in each layer of a network."""
    key = _key(node)
    found = None if key is None else known.get(key)
    if found is not None:
        return found.of(node.operands)
    assert node.op.decompose is not None
    scratch = GraphBuilder(node.op.name)
    results = inline(scratch, node.op.decompose, node.operands, dict(node.attrs), node.location)
    parts = _Parts(node.operands, scratch.nodes, results)
    if key is not None and not any(new.regions or not new.results for new in scratch.nodes):  # which name symbols
        known[key] = parts
    return parts


def _key(node: Node) -> Hashable | None:
    """Equal for composites that trace alike; None where sizes are not numbers: equal dims may differ in bounds."""
    types = [o.type for o in node.operands if isinstance(o, Value)]
    attrs = tuple(node.attrs.items())
    if any(_has_symbols(x) for x in (attrs, *(t.shape for t in types))):
        return None
    first: dict[Operand, int] = {}
    operands = [first.setdefault(o, n) if isinstance(o, Value) else exactly(o) for n, o in enumerate(node.operands)]
    return node.op, tuple(operands), tuple(types), exactly(attrs)


def _has_symbols(x: object) -> bool:
    return any(map(_has_symbols, x)) if isinstance(x, tuple) else isinstance(x, DimExpr)
