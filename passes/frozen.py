"""What a program computes of frozen inputs before its first call, and the program that is left."""

from __future__ import annotations

from dataclasses import replace

from tjit.ir.graph import Graph, Literal, Node, Value
from tjit.ir.scope import each_node, yielded

__all__ = ["split_frozen"]

_MOVES = ("pad", "permute", "reshape")


def split_frozen(graph: Graph) -> tuple[Graph, dict[int, Graph]]:
    """The program without the copies of frozen inputs that `lay_out_frozen` had made, and those by input.

    Returns:
        The graph, in which some inputs have other types, and for each of those the graph of one input that makes it of
        the one that was there.
    """
    copies = _copies(graph) if graph.frozen else {}
    if not copies:
        return graph, {}
    inputs = list(graph.inputs)
    laid: dict[int, Graph] = {}
    gone: set[Node] = set()
    for i, chain in copies.items():
        copy = chain[-1].result
        laid[i] = Graph("laid", (inputs[i],), chain, (copy,))  # one text, whatever program it is for
        inputs[i] = copy
        gone.update(chain)
    nodes = tuple(node for node in graph.nodes if node not in gone)
    return replace(graph, inputs=tuple(inputs), nodes=nodes), laid


def _copies(graph: Graph) -> dict[int, tuple[Node, ...]]:
    """The nodes from a frozen input to its only reader's copy, by input."""
    read: dict[Value, int] = {}
    operands = (operand for node in each_node(graph.nodes) for operand in node.operands)
    for operand in (*graph.outputs, *operands, *yielded(graph.nodes)):
        if not isinstance(operand, Literal):
            read[operand] = read.get(operand, 0) + 1
    chains: dict[Value, tuple[int, tuple[Node, ...]]] = {graph.inputs[i]: (i, ()) for i in graph.frozen}
    found: dict[int, tuple[Node, ...]] = {}
    for node in graph.nodes:
        if node.op.name not in (*_MOVES, "clone"):
            continue
        x = node.operands[0]
        if isinstance(x, Literal) or x not in chains or read[x] != 1:
            continue
        i, before = chains[x]
        if node.op.name == "clone":
            found[i] = (*before, node)
        else:
            chains[node.result] = i, (*before, node)
    return found
