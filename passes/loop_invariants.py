"""Work that is the same on every trip of a loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from tjit.ir.dims import at_least
from tjit.ir.graph import Graph, Node, Operand, Region, Value
from tjit.ir.scope import bound_names, mentioned
from tjit.passes.costs import is_dear
from tjit.passes.rewrite import Rewriter, rewrite, with_operands

__all__ = ["hoist_invariants"]

_FEW_ROWS = 16  # a product with so few reads a transposed matrix as it lies
_CHECKED = frozenset({"take", "gather", "index_add", "index_copy", "scatter", "scatter_add"})  # they may fail


def hoist_invariants(graph: Graph) -> Graph:
    """Compute before a loop what is dear and the same on every trip; what is cheap needs no memory inside.

    The transposed matrix of a product with many rows is dear too: each trip would copy it into panels.

    Before:
        graph f(%x: f32[4, 4], %w: f32[4, 4]) -> f32[4, 4] {
          %0: f32[4, 4] = for(%x, counter="i0", trip=9) {  # model.py:3
            body(%y: f32[4, 4]) {
              %1: f32[4, 4] = permute(%w, dims=(1, 0))     # model.py:4
              %2: f32[4, 4] = exp(%1)                      # model.py:4
              %3: f32[4, 4] = neg(%w)                      # model.py:5
              %4: f32[4, 4] = dot(%y, %2)                  # model.py:6
              %5: f32[4, 4] = add(%4, %3)                  # model.py:6
              yield %5
            }
          }
          return %0
        }

    After:
        graph f(%x: f32[4, 4], %w: f32[4, 4]) -> f32[4, 4] {
          %0: f32[4, 4] = permute(%w, dims=(1, 0))         # model.py:4
          %1: f32[4, 4] = exp(%0)                          # model.py:4
          %2: f32[4, 4] = for(%x, counter="i0", trip=9) {  # model.py:3
            body(%y: f32[4, 4]) {
              %3: f32[4, 4] = neg(%w)                      # model.py:5
              %4: f32[4, 4] = dot(%y, %1)                  # model.py:6
              %5: f32[4, 4] = add(%4, %3)                  # model.py:6
              yield %5
            }
          }
          return %2
        }
    """
    return rewrite(graph, _hoist) if any(node.regions for node in graph.nodes) else graph


def _hoist(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.attrs.get("checkpoint"):
        return None  # what it computes again would be kept
    if node.op.name not in ("for", "while"):
        return None
    names = bound_names([node])
    hoisted = [n for region in node.regions for n in _dear_invariants(region, names)]
    if not hoisted:
        return None
    for inner in hoisted:
        rewriter.emit(inner)
    gone = set(hoisted)
    regions = [replace(r, nodes=tuple(n for n in r.nodes if n not in gone)) for r in node.regions]
    return rewriter.emit(with_operands(node, node.operands, regions))


def _dear_invariants(region: Region, names: set[str]) -> list[Node]:
    """The dear nodes that are the same on every trip, and what they read, in order."""
    varying: set[Operand] = set(region.inputs)
    invariant: list[Node] = []
    for node in region.nodes:
        if _is_pure(node) and varying.isdisjoint(node.operands) and names.isdisjoint(mentioned(node)):
            invariant.append(node)
        else:
            varying.update(node.results)
    return _with_producers(invariant, _transposed_matrices(region))


def _transposed_matrices(region: Region) -> set[Value]:
    """Permuted right operands of products of many rows, whose columns are contiguous as they lie."""
    permuted = {node.result: node.attrs["dims"] for node in region.nodes if node.op.name == "permute"}
    found: set[Value] = set()
    for node in region.nodes:
        if node.op.name == "dot" and not at_least(_FEW_ROWS - node.result.type.shape[-2], 0):
            matrix = node.operands[1]
            if isinstance(matrix, Value) and matrix in permuted and permuted[matrix][-2] == matrix.type.ndim - 1:
                found.add(matrix)
    return found


def _with_producers(nodes: Iterable[Node], needed: set[Value]) -> list[Node]:
    """The dear ones of `nodes`, those that make `needed`, and what they read, in order."""
    found: list[Node] = []
    for node in reversed(list(nodes)):
        if is_dear(node) or not needed.isdisjoint(node.results):
            needed.update(o for o in node.operands if isinstance(o, Value))
            found.append(node)
    return found[::-1]


def _is_pure(node: Node) -> bool:
    return bool(node.results) and not node.regions and node.op.name not in _CHECKED
