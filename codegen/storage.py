"""Which values share memory: an op that changes an operand writes over it where no one misses the old value.

`a = for(a, ...)` leaves its result where a was if a is not read later; else a copy is made first, as a node of its own
(`alias`, which the scheduler stores). After this every such op overwrites its operand.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from tjit.codegen.items import INLINE_INDEX, must_be_stored
from tjit.devices import cpu
from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.op import OPS
from tjit.ir.types import TensorType

__all__ = ["Storage", "changed_operands", "plan_storage"]


@dataclass
class Storage:
    """A graph with its copies made explicit.

    Attributes:
        overwrites: result to the operand whose memory it takes.
        stored: values that must be in memory.
    """

    graph: Graph
    overwrites: dict[Value, Value] = field(default_factory=dict)
    stored: set[Value] = field(default_factory=set)

    def root(self, value: Value) -> Value:
        """The first of the values that share memory with `value`."""
        while value in self.overwrites:
            value = self.overwrites[value]
        return value


def changed_operands(node: Node) -> Iterator[tuple[int, int]]:
    """Pairs (position of an operand, position of the result that is its new value)."""
    name = node.op.name
    if name == "if":
        yield from ((j + 1, j) for j in range(len(node.operands) - 1))
    elif name in ("for", "while"):
        yield from ((j, j) for j in range(len(node.operands)))
    elif node.op.kind == "index" and name not in INLINE_INDEX:
        yield 0, 0


def plan_storage(graph: Graph) -> Storage:
    """What overwrites what in `graph`, and what has to be copied before."""
    stored = must_be_stored(graph)
    if not any(node.op.kind == "control" or any(changed_operands(node)) for node in graph.nodes):
        return Storage(graph, {}, stored)
    return _Planner(graph, stored).run()


class _Planner:
    def __init__(self, graph: Graph, stored: set[Value]) -> None:
        self.graph = graph
        self.result = Storage(graph, {}, stored)
        self.producer = graph.producers()
        self.nodes: list[Node] = []
        self.last_read = _last_reads(graph)
        self.written_back = self._written_back()

    def run(self) -> Storage:
        for at, node in enumerate(self.graph.nodes):
            self._node(at, node)
        self.result.graph = replace(self.graph, nodes=tuple(self.nodes))
        return self.result

    def _node(self, at: int, node: Node) -> None:
        operands = list(node.operands)
        for i, j in changed_operands(node):
            operands[i] = base = self._base(at, node, operands[i])
            self.result.overwrites[node.results[j]] = base
        if node.op.kind == "control":
            operands = [self._number(node, o) if isinstance(o, Literal) else o for o in operands]
        if operands != list(node.operands):
            node = Node(node.op, operands, node.attrs, node.results, regions=node.regions, location=node.location)
        self.nodes.append(node)

    def _base(self, at: int, node: Node, operand: Operand) -> Value:
        """What `node` writes over: the operand, or a copy of it."""
        if isinstance(operand, Literal):
            return self._number(node, operand)
        if self._may_overwrite(at, node, operand):
            self.result.stored.add(operand)
            return operand
        return self._new(node, "alias", (operand,), {}, operand.type)

    def _number(self, node: Node, number: Literal) -> Value:
        """A number in memory."""
        attrs = {"value": number.value, "shape": (), "dtype": number.dtype, "device": cpu}
        return self._new(node, "full", (), attrs, number.type)

    def _new(
        self, node: Node, op: str, operands: tuple[Operand, ...], attrs: dict[str, Any], type: TensorType
    ) -> Value:
        made = Value(type)
        self.nodes.append(Node(OPS[op], operands, attrs, (made,), location=node.location))
        self.result.stored.add(made)
        return made

    def _may_overwrite(self, at: int, node: Node, base: Value) -> bool:
        return False

    def _written_back(self) -> set[Value]:
        return set()


def _last_reads(graph: Graph) -> dict[Value, int]:
    """The position of the last node that reads each value; outputs are read after all nodes."""
    found = {o: n for n, node in enumerate(graph.nodes) for o in node.reads() if isinstance(o, Value)}
    found.update((o, len(graph.nodes)) for o in graph.outputs if isinstance(o, Value))
    return found
