"""Common nodes: the same op on the same operands."""

from __future__ import annotations

from collections.abc import Hashable

from tjit.ir.graph import Graph, Node, Operand, Region, Value, exactly
from tjit.passes.algebra import COMMUTATIVE
from tjit.passes.rewrite import Rewriter

__all__ = ["merge_common_nodes"]


def merge_common_nodes(graph: Graph) -> Graph:
    """Keep the first of nodes that compute the same. Nodes with regions, and those without results, stay as they are.

    Random ops take the generator's state as an operand, so those of different states differ here too.

    Before:
        graph f(%x: f32[4], %y: f32[4]) -> f32[4] {
          %0: f32[4] = add(%x, %y)  # model.py:2
          %1: f32[4] = add(%y, %x)  # model.py:3
          %2: f32[4] = sub(%0, %1)  # model.py:4
          return %2
        }

    After:
        graph f(%x: f32[4], %y: f32[4]) -> f32[4] {
          %0: f32[4] = add(%x, %y)  # model.py:2
          %1: f32[4] = sub(%0, %0)  # model.py:4
          return %1
        }
    """
    return _Merger().rewrite(graph)


class _Merger(Rewriter):
    """Nodes by what they compute. A region sees those around it; those around it do not see a region's."""

    def __init__(self) -> None:
        super().__init__(self._merge)
        self._known: dict[Hashable, Node] = {}

    def _merge(self, _: Rewriter, node: Node) -> tuple[Operand, ...] | None:
        if node.regions or not node.results:
            return None
        first = self._known.setdefault(_key(node), node)
        return None if first is node else first.results

    def region(self, region: Region) -> Region:
        outside = len(self._known)
        result = super().region(region)
        while len(self._known) > outside:
            self._known.popitem()
        return result


def _key(node: Node) -> Hashable:
    """Equal for nodes that compute the same."""
    operands = [o if isinstance(o, Value) else exactly(o) for o in node.operands]
    attrs = frozenset([(name, exactly(value)) for name, value in node.attrs.items()])
    types = tuple([value.type for value in node.results])
    return node.op.name, (frozenset if node.op.name in COMMUTATIVE else tuple)(operands), attrs, types
