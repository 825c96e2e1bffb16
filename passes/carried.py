"""Values that control flow carries without changing them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from tjit.ir.clone import reading
from tjit.ir.graph import Graph, Literal, Node, Operand, Region
from tjit.passes.known import make_full
from tjit.passes.rewrite import Rewriter, rewrite

__all__ = ["uncarry_invariants"]


def uncarry_invariants(graph: Graph) -> Graph:
    """Read from outside what a loop, or every branch, yields as it came in.

    Before:
        graph f(%x: f32[4], %w: f32[]) -> f32[4], f32[] {
          %0: f32[4], %1: f32[] = for(%x, %w, counter="i0", trip=3) {  # model.py:3
            body(%y: f32[4], %v: f32[]) {
              %2: f32[4] = mul(%y, %v)                                 # model.py:4
              yield %2, %v
            }
          }
          return %0, %1
        }

    After:
        graph f(%x: f32[4], %w: f32[]) -> f32[4], f32[] {
          %0: f32[4] = for(%x, counter="i0", trip=3) {  # model.py:3
            body(%y: f32[4]) {
              %1: f32[4] = mul(%y, %w)                  # model.py:4
              yield %1
            }
          }
          return %0, %w
        }
    """
    if not any(node.regions for node in graph.nodes):
        return graph
    while True:  # what an inner loop no longer carries, an outer one may not change either
        after = rewrite(graph, _uncarry)
        if after is graph:
            return graph
        graph = after


def _uncarry(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.name not in ("if", "for", "while"):
        return None
    first = 1 if node.op.name == "if" else 0  # the condition is not carried
    carried = node.operands[first:]
    changing = node.regions[1:] if node.op.name == "while" else node.regions
    same = {j for j, operand in enumerate(carried) if all(_keeps(region, j, operand) for region in changing)}
    if not same:
        return None
    outside = {j: _value(rewriter, carried[j], node) for j in same}
    regions: list[Region] = []
    for region in node.regions:
        region = reading(region, {region.inputs[j]: value for j, value in outside.items()})
        outputs = [o for j, o in enumerate(region.outputs) if region.name == "test" or j not in same]
        inputs = [v for j, v in enumerate(region.inputs) if j not in same]
        regions.append(replace(region, inputs=tuple(inputs), outputs=tuple(outputs)))
    operands = [*node.operands[:first], *(o for j, o in enumerate(carried) if j not in same)]
    results = [v for j, v in enumerate(node.results) if j not in same]
    rewriter.emit(Node(node.op, operands, node.attrs, results, regions=regions, location=node.location))
    return [outside.get(j, v) for j, v in enumerate(node.results)]


def _keeps(region: Region, j: int, operand: Operand) -> bool:
    output = region.outputs[j]
    return output is region.inputs[j] or output == operand


def _value(rewriter: Rewriter, operand: Operand, node: Node) -> Operand:
    """The operand as a value: not every op may take a number."""
    return make_full(rewriter, operand, operand.type, node)[0] if isinstance(operand, Literal) else operand
