"""Reads of what a loop has not written yet."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from tjit.ir.dims import Dim, at_least, coefficient
from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.op import OPS
from tjit.ir.scope import bound_symbol, each_node, yielded
from tjit.passes.known import known_number
from tjit.passes.rewrite import Rewriter, rewrite, with_operands

__all__ = ["read_untouched_parts"]


def read_untouched_parts(graph: Graph) -> Graph:
    """Read from before the loop a part of a carried array that no earlier trip writes.

    Where nothing else reads the array, it need not be carried; where it began as one number everywhere, the part is
    that number. Elsewhere the array stays one that is changed in place.

    Before:
        graph f(%x: f32[9], %g: f32[9]) -> f32[9] {
          %0: f32[9] = full(value=0.0, shape=(9,), dtype=f32, device=cpu)  # model.py:2
          %1: f32[1] = full(value=0.0, shape=(1,), dtype=f32, device=cpu)  # model.py:2
          %2: f32[9], %3: f32[9] = for(%0, %g, counter="i0", trip=9) {     # model.py:3
            body(%y: f32[9], %d: f32[9]) {
              %4: f32[1] = slice(%d, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))              # model.py:4
              %5: f32[9] = slice_update(%d, %1, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))   # model.py:4
              %6: f32[1] = slice(%y, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))              # model.py:5
              %7: f32[1] = add(%6, %4)                                                             # model.py:5
              %8: f32[9] = slice_update(%y, %7, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))   # model.py:5
              yield %8, %5
            }
          }
          return %2
        }

    After:
        graph f(%x: f32[9], %g: f32[9]) -> f32[9] {
          %0: f32[9] = full(value=0.0, shape=(9,), dtype=f32, device=cpu)                         # model.py:2
          %1: f32[1] = full(value=0.0, shape=(1,), dtype=f32, device=cpu)                         # model.py:2
          %2: f32[9], %3: f32[9] = for(%0, %g, counter="i0", trip=9) {                            # model.py:3
            body(%y: f32[9], %d: f32[9]) {
              %4: f32[1] = slice(%g, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))             # model.py:4
              %5: f32[9] = slice_update(%d, %1, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))  # model.py:4
              %6: f32[1] = full(value=0.0, shape=(1,), dtype=f32, device=cpu)                     # model.py:5
              %7: f32[1] = add(%6, %4)                                                            # model.py:5
              %8: f32[9] = slice_update(%y, %7, starts=(-i0 + 8,), stops=(-i0 + 9,), steps=(1,))  # model.py:5
              yield %8, %5
            }
          }
          return %2
        }
    """
    if not any(node.regions for node in graph.nodes):
        return graph
    return rewrite(graph, partial(_read_before, _read_values(graph)))


def _read_values(graph: Graph) -> set[Operand]:
    """What any node, region or output of the graph reads."""
    operands = (operand for node in each_node(graph.nodes) for operand in node.operands)
    return {*graph.outputs, *operands, *yielded(graph.nodes)}


def _read_before(read: set[Operand], rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.name != "for":
        return None
    body = _Body(node)
    replaced: dict[Node, Node] = {}
    for j, operand in enumerate(node.operands):
        number, dropped = known_number(rewriter, operand), node.results[j] not in read
        if number is None and not (dropped and isinstance(operand, Value)):
            continue  # it may be changed in place: to read it as it was would take a copy
        for inner in body.untouched_reads(j, alone=number is None):
            replaced[inner] = _full(inner, number) if number is not None else with_operands(inner, [operand])
    if not replaced:
        return None
    nodes = tuple(replaced.get(inner, inner) for inner in body.region.nodes)
    return rewriter.emit(with_operands(node, node.operands, [replace(body.region, nodes=nodes)]))


def _full(node: Node, number: Literal) -> Node:
    """What `node` computes, where all of it is `number`."""
    type = node.result.type
    attrs = {"value": number.value, "shape": type.shape, "dtype": type.dtype, "device": type.device}
    return Node(OPS["full"], [], attrs, node.results, location=node.location)


class _Body:
    """The body of a `for`: who makes and who reads its values."""

    def __init__(self, loop: Node) -> None:
        (self.region,) = loop.regions
        symbol = bound_symbol("for", loop.attrs)
        assert symbol is not None
        self.counter = symbol
        self.made = {value: node for node in self.region.nodes for value in node.results}
        self.readers: dict[Operand, list[Node]] = {}
        for node in self.region.nodes:
            for operand in node.reads():
                self.readers.setdefault(operand, []).append(node)

    def untouched_reads(self, j: int, *, alone: bool) -> list[Node]:
        """The slices of carried value number j that are of parts which no earlier trip has written.

        Args:
            alone: wanted only if nothing else in the body reads it.
        """
        writes = self._writes(j)
        if not writes:
            return []
        found = [n for n in self.readers[self.region.inputs[j]] if n.op.name == "slice"]
        found = [n for n in found if all(self._is_ahead(n, write) for write in writes)]
        return [] if alone and not self._are_all(j, found, writes) else found

    def _writes(self, j: int) -> list[Node]:
        """The updates of parts, from the last to the first, that make carried value number j what it is next."""
        value, found = self.region.outputs[j], []
        while value is not self.region.inputs[j]:
            node = None if isinstance(value, Literal) else self.made.get(value)
            if node is None or node.op.name != "slice_update":
                return []
            found.append(node)
            value = node.operands[0]
        return found

    def _are_all(self, j: int, reads: Sequence[Node], writes: Sequence[Node]) -> bool:
        """Whether nothing else reads carried value number j, and what it becomes, and none writes it to another."""
        own = [self.region.inputs[j], *(node.result for node in writes)]
        known = {*reads, *writes}
        return (
            all(node in known for value in own for node in self.readers.get(value, ()))
            and not any(node.operands[1] in own for node in writes)
            and not any(o in own for i, o in enumerate(self.region.outputs) if i != j)
        )

    def _is_ahead(self, read: Node, write: Node) -> bool:
        """Whether what one node reads lies, along some dim, where the other has written on no earlier trip."""
        dims = zip(*(n.attrs[key] for n in (read, write) for key in ("starts", "stops")), strict=True)
        return any(self._comes_later((start, stop), (low, high)) for start, stop, low, high in dims)

    def _comes_later(self, read: tuple[Dim, Dim], write: tuple[Dim, Dim]) -> bool:
        """Whether [start, stop) lies beyond every [low, high) of earlier trips, the way in which both move."""
        (start, stop), (low, high) = read, write
        step = coefficient(low, self.counter)
        if not isinstance(step, int) or step == 0:
            return False
        if any(coefficient(d, self.counter) != step for d in (start, stop, high)):
            return False
        return at_least(start - (high - step), 0) if step > 0 else at_least(low - step - stop, 0)
