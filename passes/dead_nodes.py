"""Dead nodes, and dead values that control flow carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tjit.ir.clone import reading
from tjit.ir.graph import Graph, Node, Operand, Region, Value
from tjit.passes.rewrite import with_operands

__all__ = ["eliminate_dead_nodes"]


def eliminate_dead_nodes(graph: Graph) -> Graph:
    """Drop every node that no output depends on, and what control flow carries or yields for none.

    Nodes without results are there for their effect and stay: a `bind`, a check. So does a loop with one inside.

    Before:
        graph f(%x: f32[4], %n: f32[]) -> f32[4] {
          %0: f32[4] = exp(%x)                                             # model.py:3
          %1: f32[4], %2: f32[] = for(%x, %n, counter="i0", trip=3) {      # model.py:4
            body(%y: f32[4], %m: f32[]) {
              %3: f32[] = neg(%m)                                          # model.py:5
              %4: f32[4] = neg(%y)                                         # model.py:6
              yield %4, %3
            }
          }
          return %1
        }

    After:
        graph f(%x: f32[4], %n: f32[]) -> f32[4] {
          %0: f32[4] = for(%x, counter="i0", trip=3) {  # model.py:4
            body(%y: f32[4]) {
              %1: f32[4] = neg(%y)                      # model.py:6
              yield %1
            }
          }
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
        if not any(value in live for value in node.results) and not node.has_effect():
            changed = True
            continue
        after = _live_control(node, live) if node.regions else node
        changed = changed or after is not node
        live.update(after.operands)
        kept.append(after)
    return tuple(reversed(kept)) if changed else nodes


def _live_control(node: Node, live: set[Operand]) -> Node:
    """A node with regions, without what it carries or yields for nothing."""
    kept = _live_positions(node, live)
    if len(kept) < len(node.results):
        node = _with_results(node, kept) if node.op.name == "if" else _with_carried(node, kept)
    regions = tuple(_live_region(region, live) for region in node.regions)
    return node if regions == node.regions else with_operands(node, node.operands, regions)


def _live_positions(node: Node, live: set[Operand]) -> list[int]:
    """The results that count: those that are read and, in a loop, those that the next values of others depend on."""
    kept = {j for j, value in enumerate(node.results) if value in live}
    if node.op.name == "if":
        # a number that is read inside stays carried: not every op of the branches may take one
        read = _read_inputs(node, node.regions, kept)
        return sorted(kept | {j for j in read if not isinstance(node.operands[1 + j], Value)})
    if node.op.name not in ("for", "while"):
        return list(range(len(node.results)))
    while True:
        more = _read_inputs(node, node.regions[-1:], kept)
        if more <= kept:
            return sorted(kept)
        kept |= more


def _read_inputs(node: Node, last: Sequence[Region], kept: Iterable[int]) -> set[int]:
    """The positions of the inputs that regions read, where those of `last` yield the positions `kept` alone."""
    read: set[Operand] = set()
    for region in node.regions:
        _live_nodes(region.nodes, [region.outputs[j] for j in kept] if region in last else region.outputs, read)
    return {j for region in node.regions for j, value in enumerate(region.inputs) if value in read}


def _with_carried(node: Node, kept: Sequence[int]) -> Node:
    """A loop that carries the values at the positions `kept` alone."""
    *tests, body = node.regions
    regions = [replace(test, inputs=tuple(test.inputs[j] for j in kept)) for test in tests]
    inputs, outputs = tuple(body.inputs[j] for j in kept), tuple(body.outputs[j] for j in kept)
    regions.append(replace(body, inputs=inputs, outputs=outputs))
    operands, results = [node.operands[j] for j in kept], [node.results[j] for j in kept]
    return Node(node.op, operands, node.attrs, results, regions=regions, location=node.location)


def _with_results(node: Node, kept: Sequence[int]) -> Node:
    """An `if` with the results at the positions `kept`; what it no longer carries is read from outside."""
    condition, *carried = node.operands
    regions: list[Region] = []
    for region in node.regions:
        outside = {v: carried[j] for j, v in enumerate(region.inputs) if j not in kept}
        region = reading(region, outside)
        inputs = tuple(v for j, v in enumerate(region.inputs) if j in kept)
        regions.append(replace(region, inputs=inputs, outputs=tuple(region.outputs[j] for j in kept)))
    operands = [condition, *(o for j, o in enumerate(carried) if j in kept)]
    results = [node.results[j] for j in kept]
    return Node(node.op, operands, node.attrs, results, regions=regions, location=node.location)


def _live_region(region: Region, live: set[Operand]) -> Region:
    nodes = _live_nodes(region.nodes, region.outputs, live)
    return region if nodes is region.nodes else replace(region, nodes=nodes)
