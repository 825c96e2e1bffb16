"""Which values share memory: an op that changes an operand writes over it where no one misses the old value.

`a = for(a, ...)` leaves its result where a was if a is not read later; else a copy is made first, as a node of its own
(`alias`, which the scheduler stores). After this every such op overwrites its operand. A concatenation that has to be
in memory becomes writes of its operands to memory that nothing fills before.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from typing import Any

from tjit.codegen.items import INLINE_INDEX, STORED_KINDS
from tjit.codegen.stored import changed_operands, must_be_stored
from tjit.dataclass import dataclass
from tjit.devices import cpu
from tjit.ir.dims import Dim, at_least, coefficient, is_one, product
from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.op import OPS
from tjit.ir.scope import bound_symbol
from tjit.ir.types import TensorType

__all__ = ["Storage", "plan_storage"]

_LONG_CHAIN = 8  # updates
_LONG_RUN = 64  # elements that lie one after the other: fewer are better chosen one by one where they are read


@dataclass
class Storage:
    """A graph with its copies made explicit.

    Attributes:
        overwrites: result to the operand whose memory it takes.
        stored: values that must be in memory.
        blank: those of them that are memory to write to, whatever is in it.
    """

    graph: Graph
    overwrites: dict[Value, Value] = field(default_factory=dict)
    stored: set[Value] = field(default_factory=set)
    blank: set[Value] = field(default_factory=set)

    def root(self, value: Value) -> Value:
        """The first of the values that share memory with `value`."""
        while value in self.overwrites:
            value = self.overwrites[value]
        return value


def plan_storage(graph: Graph) -> Storage:
    """What overwrites what in `graph`, and what has to be copied before."""
    stored = must_be_stored(graph)
    if not any(node.op.kind == "control" or _is_join(node) or any(_may_change(node)) for node in graph.nodes):
        return Storage(graph, {}, stored)
    return _Planner(graph, stored).run()


def _may_change(node: Node) -> Iterator[tuple[int, int]]:
    """`changed_operands`, and the base of a slice_update, which may also be a choice between two values."""
    yield from changed_operands(node)
    if node.op.name == "slice_update":
        yield 0, 0


def _is_join(node: Node) -> bool:
    """Whether it is a concatenation of long pieces of memory."""
    if node.op.name != "concat":
        return False
    return all(at_least(product(o.type.shape[node.attrs["dim"] :]), _LONG_RUN) for o in node.operands)


def _fills(loop: Node, result: Value) -> bool:
    """Whether the trips of a `for` only write to a carried array, each to an index of its first dim, and to all."""
    (region,), j = loop.regions, loop.results.index(result)
    carried, output = region.inputs[j], region.outputs[j]
    readers = [node for node in region.nodes if carried in node.reads()]
    if len(readers) != 1 or readers[0].op.name != "slice_update" or readers[0].result is not output:
        return False
    (update,), counter = readers, bound_symbol("for", loop.attrs)
    starts, stops, shape = update.attrs["starts"], update.attrs["stops"], result.type.shape
    assert counter is not None
    return (
        update.operands[1] is not carried
        and sum(output is o for o in region.outputs) == 1
        and coefficient(starts[0], counter) in (1, -1)
        and is_one(stops[0] - starts[0])
        and loop.attrs["trip"] == shape[0]
        and all(start == 0 and stop == n for start, stop, n in zip(starts[1:], stops[1:], shape[1:], strict=True))
    )


class _Planner:
    """Decides node by node.

    Attributes:
        last_read: position of the last node that reads a value.
        readers: the nodes that read a value, each as often as it does; None stands for the graph's outputs.
        returned_to: values on the way from an input to what is written back to it.
        bases: what some node may write over.
        under: for a value that is not in memory, which of `bases` are read to compute it.
        over: for each of `bases`, the values that are not in memory and computed from it.
        chain: how many slice_updates, one over the other, a value that is not in memory is a choice between.
        joined: the concatenations that are written piece by piece.
    """

    def __init__(self, graph: Graph, stored: set[Value]) -> None:
        self.graph = graph
        self.result = Storage(graph, {}, stored)
        self.producer = graph.producers()
        self.nodes: list[Node] = []
        self.copies: set[Value] = set()
        self.last_read = _last_reads(graph)
        self.readers = _readers(graph)
        self.returned_to = self._returned_to()
        changed = ((node, i) for node in graph.nodes for i, _ in _may_change(node))
        self.bases = {o for node, i in changed if isinstance(o := node.operands[i], Value)}
        self.under: dict[Value, frozenset[Value]] = {}
        self.over: dict[Value, list[Value]] = {}
        self.chain: dict[Value, int] = {}
        self.joined: dict[Value, Node] = {}

    def run(self) -> Storage:
        for at, node in enumerate(self.graph.nodes):
            if node.op.name == "slice_update":
                self._update(at, node)
            elif _is_join(node) and node.result in self.result.stored:
                self._join(node)
            else:
                self._node(at, node)
            self._note(node)
        self.result.graph = replace(self.graph, nodes=tuple(self.nodes))
        return self.result

    def _update(self, at: int, node: Node) -> None:
        """Write a part of what is in memory anyway; else the result is a choice, element by element, where it is read.

        A long chain of choices costs more than memory.
        """
        base = node.operands[0]
        if isinstance(base, Value) and self._is_sum(node.operands[1]):
            made = self._base(at, node, base, node.result)
            node = Node(node.op, (made, node.operands[1]), node.attrs, node.results, location=node.location)
            self.nodes.append(node)
            self._overwrite(at, node, made, node.result)
            return
        if not isinstance(base, Value):
            self.nodes.append(node)
            return
        length = self.chain.get(base, 0) + 1
        if (self._in_memory(base) or length > _LONG_CHAIN) and self._may_overwrite(at, node, base, node.result):
            self._overwrite(at, node, base, node.result)
            self._write(node, base)
        else:
            self.nodes.append(node)
            self.chain[node.result] = length

    def _is_sum(self, part: Operand) -> bool:
        """Whether a part is what a contraction makes, seen with other extents: it is then written where it belongs."""
        made = self.producer.get(part) if isinstance(part, Value) else None
        while made is not None and made.op.name == "reshape":
            made = self.producer.get(made.operands[0]) if isinstance(made.operands[0], Value) else None
        return made is not None and made.op.kind == "contract"

    def _write(self, node: Node, base: Value) -> None:
        """Append an update in place; of a concatenation that is written piece by piece, its pieces."""
        part, attrs = node.operands[1], node.attrs
        made = self.producer.get(part) if isinstance(part, Value) else None
        source = made.operands[0] if made is not None and made.op.name == "reshape" else part
        joined = self.joined.get(source) if isinstance(source, Value) else None
        lead = part.type.ndim - joined.result.type.ndim if joined is not None else 0
        ones = (1,) * lead
        if joined is None or lead < 0 or part.type.shape != ones + joined.result.type.shape or {*attrs["steps"]} != {1}:
            self.nodes.append(node)
            return
        pieces = [self._reshaped(node, o, ones + o.type.shape) for o in joined.operands]
        self._write_pieces(node, base, pieces, lead + joined.attrs["dim"], attrs["starts"])

    def _reshaped(self, node: Node, value: Operand, shape: tuple[Dim, ...]) -> Operand:
        """`value` with leading dims of 1."""
        if value.type.shape == shape:
            return value
        made = Value(value.type.with_shape(shape))
        self.nodes.append(Node(OPS["reshape"], (value,), {"shape": shape}, (made,), location=node.location))
        return made

    def _join(self, node: Node) -> None:
        """Write every operand of a concatenation to its place in new memory."""
        type = node.result.type
        self.joined[node.result] = node
        self._write_pieces(node, self._blank(node, type), node.operands, node.attrs["dim"], (0,) * type.ndim)

    def _write_pieces(
        self, node: Node, base: Value, pieces: Sequence[Operand], dim: int, starts: tuple[Dim, ...]
    ) -> None:
        """Write `pieces` one after the other along `dim`, from `starts` on; the last update defines `node`'s result."""
        for n, piece in enumerate(pieces):
            result = node.result if n == len(pieces) - 1 else Value(node.result.type)
            stops = tuple(start + extent for start, extent in zip(starts, piece.type.shape, strict=True))
            attrs = {"starts": starts, "stops": stops, "steps": (1,) * len(starts)}
            self.nodes.append(Node(OPS["slice_update"], (base, piece), attrs, (result,), location=node.location))
            self.result.overwrites[result] = base
            self.result.stored.add(base)
            base, starts = result, (*starts[:dim], stops[dim], *starts[dim + 1 :])

    def _node(self, at: int, node: Node) -> None:
        operands = list(node.operands)
        for i, j in changed_operands(node):
            operands[i] = base = self._base(at, node, operands[i], node.results[j])
            self._overwrite(at, node, base, node.results[j])
        if node.op.kind == "control":
            operands = [self._number(node, o) if isinstance(o, Literal) else o for o in operands]
        if operands != list(node.operands):
            node = Node(node.op, operands, node.attrs, node.results, regions=node.regions, location=node.location)
        self.nodes.append(node)

    def _base(self, at: int, node: Node, operand: Operand, result: Value) -> Value:
        """What `node` writes over: the operand, or a copy of it."""
        if isinstance(operand, Literal):
            return self._number(node, operand)
        if self._is_filled_by(node, operand, result):
            blank = self._blank(node, operand.type)
            blank.name = result.name
            return blank
        if self._may_overwrite(at, node, operand, result):
            return operand
        made = self._new(node, "alias", (operand,), {}, operand.type)
        made.name = operand.name if isinstance(operand, Value) else None
        return made

    def _is_filled_by(self, node: Node, operand: Value, result: Value) -> bool:
        """Whether all of an array that comes in as one number everywhere is written, and none of it read."""
        made = self.producer.get(operand)
        if made is None or made.op.name != "full":
            return False
        if node.op.name == "for":
            return _fills(node, result)
        return node.op.name == "slice_update" and self._fill_by_phase(node)

    def _fill_by_phase(self, update: Node) -> bool:
        """Whether a chain of slice_updates that begins with `update` writes every phase, position modulo steps."""
        steps, shape = update.attrs["steps"], update.result.type.shape
        written: set[tuple[Dim, ...]] = set()
        while update.attrs["steps"] == steps and update.attrs["stops"] == shape:
            starts = update.attrs["starts"]
            if all(isinstance(start, int) and start < step for start, step in zip(starts, steps, strict=True)):
                written.add(starts)
            if len(written) == product(steps):
                return True
            reader = self.readers[update.result][0] if len(self.readers[update.result]) == 1 else None
            if reader is None or reader.op.name != "slice_update" or reader.operands[0] is not update.result:
                return False
            update = reader
        return False

    def _blank(self, node: Node, type: TensorType) -> Value:
        """Memory that is written before it is read."""
        attrs = {"value": 0, "shape": type.shape, "dtype": type.dtype, "device": cpu}
        blank = self._new(node, "full", (), attrs, type)
        self.result.blank.add(blank)
        return blank

    def _number(self, node: Node, number: Literal) -> Value:
        """A number in memory."""
        attrs = {"value": number.value, "shape": (), "dtype": number.dtype, "device": cpu}
        return self._new(node, "full", (), attrs, number.type)

    def _new(self, old: Node, op: str, operands: tuple[Operand, ...], attrs: dict[str, Any], type: TensorType) -> Value:
        made = Value(type)
        self.nodes.append(Node(OPS[op], operands, attrs, (made,), location=old.location))
        self.result.stored.add(made)
        self.copies.add(made)
        return made

    def _may_overwrite(self, at: int, node: Node, base: Value, result: Value) -> bool:
        """Whether nothing reads `base` later, and its memory is the program's to write at this point."""
        if self.last_read[base] > at or _times_read(node, base) > 1:
            return False
        root = self.result.root(base)
        if root in self.copies:
            return True
        made = self.producer.get(root)
        if made is None:
            return result in self.returned_to
        return made.op.kind != "create"  # a constant stays; what is filled is filled where the result goes

    def _overwrite(self, at: int, node: Node, base: Value, result: Value) -> None:
        """Store what is computed from the old value and read from here on.

        The new part of a slice_update may be computed from it: its kernel is looked at when it is built.
        """
        self.result.overwrites[result] = base
        self.result.stored.add(base)
        from_here = at + (node.op.name == "slice_update")
        self.result.stored.update(v for v in self.over.get(base, ()) if self.last_read.get(v, -1) >= from_here)

    def _in_memory(self, value: Value) -> bool:
        """Whether the value is in memory, whatever reads it."""
        made = self.producer.get(value)
        if made is None or value in self.result.stored or value in self.result.overwrites:
            return True
        if made.op.kind == "index":
            return made.op.name not in INLINE_INDEX
        return made.op.kind in STORED_KINDS

    def _note(self, node: Node) -> None:
        """Keep what the results, where they are not in memory, are computed from."""
        if node.regions or not node.results or self._in_memory(node.results[0]):
            return
        found: set[Value] = set()
        for operand in node.operands:
            if isinstance(operand, Value):
                found.update(self.under.get(operand, ()) if operand not in self.result.stored else ())
                found.update((operand,) if operand in self.bases else ())
        for result in node.results:
            self.under[result] = frozenset(found)
            for base in found:
                self.over.setdefault(base, []).append(result)

    def _returned_to(self) -> set[Value]:
        found: set[Value] = set()
        for i, k in self.graph.writes.items():
            way: list[Value] = []
            value = self.graph.outputs[i]
            while isinstance(value, Value) and (node := self.producer.get(value)) is not None:
                way.append(value)
                pairs = [node.operands[o] for o, r in _may_change(node) if node.results[r] is value]
                value = pairs[0] if pairs else None
            if value is self.graph.inputs[k]:
                found.update(way)
        return found


def _times_read(node: Node, value: Value) -> int:
    inside = sum(value in region.captured() for region in node.regions)
    return node.operands.count(value) + inside


def _last_reads(graph: Graph) -> dict[Value, int]:
    """The position of the last node that reads each value; outputs are read after all nodes."""
    found = {o: n for n, node in enumerate(graph.nodes) for o in node.reads() if isinstance(o, Value)}
    found.update((o, len(graph.nodes)) for o in graph.outputs if isinstance(o, Value))
    return found


def _readers(graph: Graph) -> defaultdict[Value, list[Node | None]]:
    found: defaultdict[Value, list[Node | None]] = defaultdict(list)
    for reader, operands in (*((node, node.reads()) for node in graph.nodes), (None, graph.outputs)):
        for operand in operands:
            if isinstance(operand, Value):
                found[operand].append(reader)
    return found
