"""Dead nodes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace

from tjit.ir.graph import Graph, Node, Operand, Region

__all__ = ["eliminate_dead_nodes"]


def eliminate_dead_nodes(graph: Graph) -> Graph:
    """Drop every node that no output depends on. Nodes without results are there for their effect and stay.

    Before:
        graph f(%x: f32[4]) -> f32[4] {
          %0: f32[4] = exp(%x)  # model.py:3
          %1: f32[4] = neg(%x)  # model.py:4
          return %1
        }

    After:
        graph f(%x: f32[4]) -> f32[4] {
          %0: f32[4] = neg(%x)  # model.py:4
          return %0
        }
    """
    nodes = _live_nodes(graph.nodes, graph.outputs, set())
    return graph if nodes is graph.nodes else replace(graph, nodes=nodes)


def _live_nodes(nodes: tuple[Node, ...], outputs: Iterable[Operand], live: set[Operand]) -> tuple[Node, ...]:
    """The nodes that count; adds what they and the outputs read to `live`. The same object if all count."""
    live.update(outputs)
    kept: list[Node] = []
    changed = False
    for node in reversed(nodes):
        if node.results and not any(value in live for value in node.results):
            changed = True
            continue
        live.update(node.operands)
        regions = tuple(_live_region(region, live) for region in node.regions)
        if regions != node.regions:
            changed = True
            node = Node(node.op, node.operands, node.attrs, node.results, regions=regions, location=node.location)
        kept.append(node)
    return tuple(reversed(kept)) if changed else nodes


def _live_region(region: Region, live: set[Operand]) -> Region:
    nodes = _live_nodes(region.nodes, region.outputs, live)
    return region if nodes is region.nodes else replace(region, nodes=nodes)
