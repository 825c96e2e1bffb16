"""What has to be in memory whoever reads it: outputs, and operands of contractions, gathers and control nodes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tjit.codegen.items import INLINE_INDEX, STORED_KINDS, picked_from
from tjit.ir.graph import Graph, Node, Value

__all__ = ["changed_operands", "must_be_stored"]

_DEEP = 100  # nodes one under another
_CHEAP_PROLOGUE = frozenset({"cast"})


def changed_operands(node: Node) -> Iterator[tuple[int, int]]:
    """Pairs (position of an operand, position of the result that is its new value)."""
    name = node.op.name
    if name == "if":
        yield from ((j + 1, j) for j in range(len(node.operands) - 1))
    elif name in ("for", "while"):
        yield from ((j, j) for j in range(len(node.operands)))
    elif node.op.kind == "index" and name not in INLINE_INDEX:
        yield 0, 0


def must_be_stored(graph: Graph) -> set[Value]:
    """The values that are in memory; what nodes change is looked at by `plan_storage`."""
    stored: set[Value] = set()
    producer = graph.producers()
    for output in graph.outputs:
        if isinstance(output, Value) and output in producer:
            stored.add(output)
    for node in graph.nodes:
        if node.op.kind == "contract":
            found = (_stored_operand(o, producer, _CHEAP_PROLOGUE) for o in node.operands)
            stored.update(v for v in found if v is not None)
        elif node.op.kind == "composite":
            found = (_stored_operand(o, producer, _CHEAP_PROLOGUE) for o in _multiplied(node))
            stored.update(v for v in found if v is not None)
        elif node.op.kind == "index":
            stored.update(_index_operands(node, producer, stored))
        elif node.op.kind == "control":
            stored.update(v for v in _read_whole(node) if v in producer)
    return stored | _too_deep(graph, stored)


def _multiplied(node: Node) -> Iterator[Any]:
    """The operands of an attention or its gradient but for the mask, which is computed on the way."""
    yield from node.operands[: 6 if node.op.name.endswith("backward") else 3]


def _read_whole(node: Node) -> Iterator[Value]:
    """What a control node reads from memory, but for what it changes."""
    changed = {i for i, _ in changed_operands(node)}
    yield from (o for i, o in enumerate(node.operands) if i not in changed and isinstance(o, Value))
    for region in node.regions:
        yield from region.captured()


def _too_deep(graph: Graph, stored: set[Value]) -> set[Value]:
    """What cuts long chains: an unrolled loop of hundreds of steps is neither one expression nor one kernel."""
    depth: dict[Value, int] = {}
    cut: set[Value] = set()
    for node in graph.nodes:
        below = 1 + max((depth.get(o, 0) for o in node.operands if isinstance(o, Value)), default=0)
        if node.op.kind in STORED_KINDS or any(v in stored for v in node.results):
            below = 0
        elif below >= _DEEP:
            cut.update(node.results)
            below = 0
        depth.update(dict.fromkeys(node.results, below))
    return cut


def _index_operands(node: Node, producer: dict[Value, Node], stored: set[Value]) -> list[Value]:
    """What an index op reads at computed places must be in memory; what it reads in order is computed on the way."""
    if node.op.name in ("gather", "take"):
        source, _ = picked_from(node.operands[0], producer, stored)
        if source in producer:
            return [source]
    return []


def _stored_operand(operand: Any, producer: dict[Value, Node], allowed: frozenset[str]) -> Value | None:
    """The value under movement (and `allowed` elementwise ops) that has to be in memory, if it is not already."""
    narrowed: Value | None = None  # what is computed is stored as narrow as it is read
    while isinstance(operand, Value):
        node = producer.get(operand)
        if node is None:
            return None
        if node.op.kind in STORED_KINDS:
            return narrowed
        if node.op.kind == "index":
            return operand if node.op.name in INLINE_INDEX else None
        if node.op.kind == "create":
            return operand if node.op.name == "constant" else None
        if node.op.kind != "movement" and node.op.name not in allowed:
            return narrowed or operand
        if narrowed is None and _narrows(node):
            narrowed = operand
        operand = node.operands[0]
    return None


def _narrows(node: Node) -> bool:
    """Whether it is a cast to a dtype of fewer bytes."""
    return node.op.name == "cast" and node.result.type.dtype.itemsize < node.operands[0].type.dtype.itemsize
