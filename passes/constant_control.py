"""Control flow whose course is known while compiling: part of `fold_constants`."""

from __future__ import annotations

from collections.abc import Sequence

from tjit.ir.clone import clone_nodes
from tjit.ir.dims import Dim
from tjit.ir.graph import Literal, Node, Operand, Region, Value
from tjit.passes.known import known_number, make_full
from tjit.passes.rewrite import Rewriter

__all__ = ["fold_control"]


def fold_control(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    """What stands for an `if` of known condition, a loop of no trip, or a `for` of one; None where it stays."""
    if node.op.name == "for":
        return _fold_for(rewriter, node)
    if node.op.name == "while":
        return _fold_while(rewriter, node)
    condition = known_number(rewriter, node.operands[0]) if node.op.name == "if" else None
    if condition is None:
        return None
    then, otherwise = node.regions
    return _inlined(rewriter, node, then if condition.value else otherwise, node.operands[1:], {})


def _fold_for(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    trip = node.attrs["trip"]
    if not isinstance(trip, int) or trip > 1 or (trip == 1 and node.attrs.get("checkpoint")):
        return None  # what a checkpoint computes again would be found to be there already
    if trip < 1:
        return _values(rewriter, node, node.operands)
    return _inlined(rewriter, node, node.regions[0], node.operands, {node.attrs["counter"]: 0})


def _fold_while(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    """A test that is false at once, whatever came in."""
    test = node.regions[0]
    more = known_number(rewriter, test.outputs[0])
    if more is None or more.value or any(inner.has_effect() for inner in test.nodes):
        return None
    return _values(rewriter, node, node.operands)


def _inlined(
    rewriter: Rewriter, node: Node, region: Region, carried: Sequence[Operand], symbols: dict[str, Dim]
) -> Sequence[Operand]:
    """What a region yields that runs once; its nodes take the place of `node`."""
    values: dict[Value, Operand] = dict(zip(region.inputs, _values(rewriter, node, carried), strict=True))
    for inner in clone_nodes(region.nodes, values, symbols):
        rewriter.step(inner)
    outputs = [o if isinstance(o, Literal) else values.get(o, o) for o in region.outputs]
    return _values(rewriter, node, rewriter.mapped(outputs))


def _values(rewriter: Rewriter, node: Node, operands: Sequence[Operand]) -> list[Operand]:
    """The operands as values: what reads them may take no numbers."""
    return [make_full(rewriter, o, o.type, node)[0] if isinstance(o, Literal) else o for o in operands]
