"""Dead nodes, and dead values that control flow carries."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tjit.ir.clone import reading
from tjit.ir.graph import Graph, Node, Operand, Region, Value

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
    nodes = _Liveness().nodes(graph.nodes, graph.outputs, set())
    return graph if nodes is graph.nodes else replace(graph, nodes=nodes)


class _Liveness:
    """What counts, from the end to the start. Bodies are looked at once for each choice of what they have to yield."""

    def __init__(self) -> None:
        self._bodies: dict[tuple[Region, tuple[int, ...]], tuple[tuple[Node, ...], set[Operand]]] = {}

    def nodes(self, nodes: tuple[Node, ...], outputs: Iterable[Operand], live: set[Operand]) -> tuple[Node, ...]:
        """The nodes that count; adds what they and the outputs read to `live`. The same object if all count."""
        live.update(outputs)
        kept: list[Node] = []
        changed = False
        for node in reversed(nodes):
            if not any(value in live for value in node.results) and not node.has_effect():
                changed = True
                continue
            after = self.control(node, live) if node.regions else node
            changed = changed or after is not node
            live.update(after.operands)
            kept.append(after)
        return tuple(reversed(kept)) if changed else nodes

    def body(self, region: Region, kept: tuple[int, ...]) -> tuple[tuple[Node, ...], set[Operand]]:
        """The nodes that count where the outputs at the positions `kept` do, and what they read."""
        found = self._bodies.get((region, kept))
        if found is None:
            live: set[Operand] = set()
            nodes = self.nodes(region.nodes, [region.outputs[j] for j in kept], live)
            live.difference_update(value for node in region.nodes for value in node.results)
            found = self._bodies[region, kept] = nodes, live
        return found

    def control(self, node: Node, live: set[Operand]) -> Node:
        """A node with regions, without what it carries or yields for nothing."""
        kept = self.positions(node, live)
        carries = node.op.name in ("if", "for", "while")
        carried = node.operands[1:] if node.op.name == "if" else node.operands
        outside: dict[Value, Operand] = {}
        if node.op.name == "if":
            outside = {v: carried[j] for r in node.regions for j, v in enumerate(r.inputs) if j not in kept}
        regions: list[Region] = []
        for region in node.regions:
            outputs = kept if _yields_results(node, region) else tuple(range(len(region.outputs)))
            nodes, reads = self.body(region, outputs)
            live.update(outside.get(o, o) if isinstance(o, Value) else o for o in reads)
            regions.append(_with_body(region, nodes, kept if carries else None, outputs, outside))
        results = [node.results[j] for j in kept]
        if len(results) == len(node.results) and all(a is b for a, b in zip(regions, node.regions, strict=True)):
            return node
        operands = [*node.operands[: len(node.operands) - len(carried)]]
        operands += [o for j, o in enumerate(carried) if j in kept or not carries]
        return Node(node.op, operands, node.attrs, results, regions=regions, location=node.location)

    def positions(self, node: Node, live: set[Operand]) -> tuple[int, ...]:
        """The results that count: those read and, in a loop, those that the next values of others depend on."""
        kept = {j for j, value in enumerate(node.results) if value in live}
        if node.op.name == "if":
            # a number that is read inside stays carried: not every op of the branches may take one
            read = self.inputs(node, kept)
            return tuple(sorted(kept | {j for j in read if not isinstance(node.operands[1 + j], Value)}))
        if node.op.name not in ("for", "while"):
            return tuple(range(len(node.results)))
        while not (more := self.inputs(node, kept)) <= kept:
            kept |= more
        return tuple(sorted(kept))

    def inputs(self, node: Node, kept: set[int]) -> set[int]:
        """The positions of the inputs that the regions read, where the results at the positions `kept` count."""
        found: set[int] = set()
        for region in node.regions:
            outputs = sorted(kept) if _yields_results(node, region) else range(len(region.outputs))
            _, reads = self.body(region, tuple(outputs))
            found.update(j for j, value in enumerate(region.inputs) if value in reads)
        return found


def _yields_results(node: Node, region: Region) -> bool:
    return node.op.name in ("if", "for", "while") and region.name != "test"


def _with_body(
    region: Region,
    nodes: tuple[Node, ...],
    inputs: Sequence[int] | None,
    outputs: Sequence[int],
    outside: dict[Value, Operand],
) -> Region:
    """`region` of other nodes, with the inputs (None: all) and outputs at these positions; others read from outside."""
    kept = region.inputs if inputs is None else tuple(v for j, v in enumerate(region.inputs) if j in inputs)
    if nodes is region.nodes and len(kept) == len(region.inputs) and len(outputs) == len(region.outputs):
        return region
    after = Region(region.name, kept, nodes, tuple(region.outputs[j] for j in outputs))
    return reading(after, outside) if outside else after
