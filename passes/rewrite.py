"""What passes share: rebuild a graph node by node, replacing some of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any

from tjit.capture.trace import inline
from tjit.ir.graph import Graph, GraphBuilder, Literal, Node, Operand, Region, Value
from tjit.ir.op import Op
from tjit.ir.types import TensorType

__all__ = ["Rewriter", "Visit", "rewrite", "with_operands"]


def rewrite(graph: Graph, visit: Visit) -> Graph:
    """`graph` with nodes replaced, in order, regions included.

    Args:
        visit: (rewriter, node) to what stands for the node's results from there on, or None to keep the node. The
            node's operands are already those of the new graph.

    Returns:
        The same object if every node was kept.
    """
    return Rewriter(visit).rewrite(graph)


class Rewriter:
    """The new graph so far.

    Attributes:
        nodes: of the body that is being rebuilt: the graph's, or a region's.
        changed: whether any node was replaced.
    """

    def __init__(self, visit: Visit) -> None:
        self.visit = visit
        self.nodes: list[Node] = []
        self.changed = False
        self._replaced: dict[Value, Operand] = {}
        self._producers: dict[Value, Node] = {}

    def rewrite(self, graph: Graph) -> Graph:
        """The whole of `graph`, as the function `rewrite`."""
        for node in graph.nodes:
            self.step(node)
        if not self.changed:
            return graph
        return replace(graph, nodes=tuple(self.nodes), outputs=self.mapped(graph.outputs))

    def producer(self, operand: Operand) -> Node | None:
        """The node of the new graph that defines `operand`; None for inputs and literals."""
        return None if isinstance(operand, Literal) else self._producers.get(operand)

    def mapped(self, operands: Iterable[Operand]) -> tuple[Operand, ...]:
        """The operands that stand for `operands` in the new graph."""
        replaced = self._replaced
        if not replaced:
            return tuple(operands)
        return tuple([o if isinstance(o, Literal) else replaced.get(o, o) for o in operands])

    def step(self, node: Node) -> None:
        """Take over one node of the old graph."""
        operands = self.mapped(node.operands)
        regions = tuple(map(self.region, node.regions)) if node.regions else ()
        if operands != node.operands or regions != node.regions:
            node = with_operands(node, operands, regions)
        results = self.visit(self, node)
        if results is None:
            self.emit(node)
            return
        self.changed = True
        for old, new in zip(node.results, results, strict=True):
            if new is not old:
                self._replaced[old] = new

    def emit(self, node: Node) -> Sequence[Value]:
        """Append a node as it is; returns its results."""
        self.nodes.append(node)
        for value in node.results:
            self._producers[value] = node
        return node.results

    def add(
        self, old: Node, op: Op, operands: Sequence[Operand], types: Sequence[TensorType], **attrs: Any
    ) -> Sequence[Value]:
        """Append a new node in place of `old`, with its location."""
        return self.emit(Node(op, operands, attrs, [Value(t) for t in types], location=old.location))

    def trace(
        self, node: Node, fn: Callable[..., Any], operands: Sequence[Operand], **attrs: Any
    ) -> tuple[Operand, ...]:
        """Append what `fn(*operands, **attrs)` traces to, in place of `node` and with its location.

        Each new node is visited like those of the old graph.
        """
        scratch = GraphBuilder(node.op.name)
        results = inline(scratch, fn, operands, attrs, node.location)
        return self.insert(scratch.nodes, results, node)

    def insert(self, nodes: Sequence[Node], results: Iterable[Operand], old: Node) -> tuple[Operand, ...]:
        """Append `nodes` in place of `old`, each visited like those of the old graph; what stands for `results`."""
        for new in nodes:
            new.location = old.location
            self.step(new)
        return self.mapped(results)

    def region(self, region: Region) -> Region:
        """A region of the old graph, rebuilt."""
        outer, self.nodes = self.nodes, []
        for node in region.nodes:
            self.step(node)
        nodes, self.nodes = tuple(self.nodes), outer
        outputs = self.mapped(region.outputs)
        if nodes == region.nodes and outputs == region.outputs:
            return region
        return replace(region, nodes=nodes, outputs=outputs)


Visit = Callable[[Rewriter, Node], "Sequence[Operand] | None"]


def with_operands(node: Node, operands: Sequence[Operand], regions: Sequence[Region] | None = None) -> Node:
    """`node` with other operands and the same results."""
    kept = node.regions if regions is None else regions
    return Node(node.op, operands, node.attrs, node.results, regions=kept, location=node.location)
