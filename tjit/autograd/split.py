"""Which nodes of a joint graph belong to forward and backward, and what flows between them: a cut of least bytes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from typing import Any

from tjit.autograd.minimum_cut import Network
from tjit.capture.trace import inline
from tjit.ir.dims import Dim, evaluate, symbols
from tjit.ir.graph import GraphBuilder, Literal, Node, Operand, Value
from tjit.ir.scope import mentioned
from tjit.ir.types import TensorType

__all__ = ["KeptType", "Parts"]

KeptType = Callable[[TensorType], "TensorType | None"]

_TYPICAL = 64  # a symbolic dim's extent, where sizes are compared
_KEPT = frozenset({"contract", "reduce", "scan", "sort", "index", "control"})
_DEAR: dict[Any, bool] = {}  # of composites


class Parts:
    """A joint graph's nodes and what each depends on: what it and its regions read, and the `bind` of each symbol that
    its attrs and types mention. A bound symbol has no value in the other program, so its `bind` runs in both."""

    def __init__(
        self, nodes: Sequence[Node], cotangents: Collection[Value], kept_type: KeptType = lambda type: type
    ) -> None:
        """`kept_type`: the type under which a value of a type is kept, None where it cannot be."""
        self.nodes = nodes
        self._binds = {node.attrs["symbol"]: node for node in nodes if node.op.name == "bind"}
        self._kept_type = kept_type
        self._bound_by = {node: self._bind_nodes(mentioned(node)) for node in nodes} if self._binds else {}
        self._of_backward = self._depending_on(set(cotangents))

    def _bind_nodes(self, names: Iterable[str]) -> list[Node]:
        return [self._binds[name] for name in sorted(names) if name in self._binds]

    def _depending_on(self, values: set[Value]) -> set[Node]:
        """The nodes that depend on `values`."""
        found: set[Node] = set()
        for node in self.nodes:
            if any(o in values for o in node.reads()) or any(b in found for b in self._bound_by.get(node, ())):
                found.add(node)
                values.update(node.results)
        return found

    def effects(self, backward: bool) -> list[Node]:
        """The nodes with an effect, of forward or of backward: of the latter where they depend on a cotangent."""
        return [n for n in self.nodes if n.has_effect() and (n in self._of_backward) is backward]

    def reads(self, node: Node) -> list[Value]:
        """The values that a node depends on, by its symbols too."""
        own = node.reads()
        bound = (o for b in self._bound_by.get(node, ()) if b is not node for o in b.operands)
        return [o for o in (*own, *bound) if isinstance(o, Value)]

    def needed(self, outputs: Iterable[Operand], effects: Iterable[Node]) -> list[Node]:
        """The nodes that `outputs` and `effects` depend on, and these, in order."""
        return self._backwards(self.nodes, {o for o in outputs if isinstance(o, Value)}, set(effects), set())

    def recomputed(
        self, first: Sequence[Node], second: Sequence[Node], gradients: Iterable[Operand], have: Collection[Value]
    ) -> list[Node]:
        """The forward's nodes that backward runs again, given the values it has."""
        wanted = {o for n in second for o in self.reads(n)} | {g for g in gradients if isinstance(g, Value)}
        binds = {b for n in second for b in self._bound_by.get(n, ())}
        return self._backwards(first, wanted, binds, have)

    def _backwards(
        self, nodes: Sequence[Node], wanted: set[Value], also: set[Node], have: Collection[Value]
    ) -> list[Node]:
        found: list[Node] = []
        for node in reversed(nodes):
            if node in also or any(r in wanted and r not in have for r in node.results):
                found.append(node)
                wanted.update(self.reads(node))
                also.update(self._bound_by.get(node, ()))
        return found[::-1]

    def inputs_read(
        self, inputs: Sequence[Value], first: Sequence[Node], second: Sequence[Node], gradients: Collection[Operand]
    ) -> list[Value]:
        """What backward needs of the inputs where nothing else is kept."""
        again = self.recomputed(first, second, gradients, inputs)
        read = {v for n in (*again, *second) for v in self.reads(n)} | {g for g in gradients if isinstance(g, Value)}
        return [v for v in inputs if v in read]

    def choose_saved(
        self,
        inputs: Sequence[Value],
        written: Collection[Value],
        first: Sequence[Node],
        second: Sequence[Node],
        gradients: Iterable[Operand],
        kept: Collection[Value] = (),
        late: bool = False,
    ) -> list[Value]:
        """The values to keep from forward to backward: a cut of least bytes between the inputs and what backward reads.

        Args:
            written: inputs whose memory the forward changes, so that they cost memory to keep.
            kept: values that are kept anyway.
            late: of cuts of the same bytes take the one that leaves backward the least to compute.
        """
        made = {v: i for i, v in enumerate((*inputs, *(r for n in first for r in n.results)))}
        read = {o for n in second for o in self.reads(n) if o in made}
        read |= {g for g in gradients if isinstance(g, Value) and g in made}
        unchanged = set(inputs) - set(written)
        network = Network()
        for value in made:
            # an input that stays as it is costs nothing to keep
            free = value in unchanged or value in kept
            network.edge(("in", value), ("out", value), 1 if free else self._capacity(value))
        for value in inputs:
            network.edge("source", ("in", value), None)
        for node in first:
            for result in node.results:
                if not self._may_recompute(node):
                    network.edge("source", ("in", result), None)
                for operand in self.reads(node):
                    network.edge(("out", operand), ("in", result), None)
        for value in read:
            network.edge(("out", value), "sink", None)
        reachable = network.source_side("source", "sink", late)
        cut = [v for v in made if ("in", v) in reachable and ("out", v) not in reachable]
        return sorted(cut, key=made.__getitem__)

    def _stored(self, value: Value) -> TensorType | None:
        """The type of what is kept. An extent that is a bound symbol cannot be that of an output or an input."""
        bound = any(s.name in self._binds for d in value.type.shape for s in symbols(d))
        return None if bound else self._kept_type(value.type)

    def _is_hidden(self, value: Value) -> bool:
        return self._stored(value) is None

    def _capacity(self, value: Value) -> int | None:
        stored = self._stored(value)
        return None if stored is None else 8 + _bytes(stored)

    def _may_recompute(self, node: Node) -> bool:
        return not _is_dear(node) or any(map(self._is_hidden, node.results)) or _is_cheap_control(node)


def _is_dear(node: Node) -> bool:
    """Whether a node sums or moves data by rules of its own: a composite where its decomposition does."""
    if node.op.kind != "composite":
        return node.op.kind in _KEPT
    signature = tuple(o if isinstance(o, Literal) else o.type for o in node.operands)
    key = (node.op.name, signature, tuple(sorted(node.attrs.items())))
    if key not in _DEAR:
        assert node.op.decompose is not None
        builder = GraphBuilder(node.op.name)
        operands = [s if isinstance(s, Literal) else builder.input(s) for s in signature]
        inline(builder, node.op.decompose, operands, dict(node.attrs))
        _DEAR[key] = any(map(_is_dear, builder.nodes))
    return _DEAR[key]


def _is_cheap_control(node: Node) -> bool:
    """An `if` of few operations on numbers: no loops, no contractions or the like."""
    if node.op.name != "if" or any(v.type.ndim for v in node.results):
        return False
    inner = [n for region in node.regions for n in region.nodes]
    return all(not _is_dear(n) or _is_cheap_control(n) for n in inner)


def _bytes(type: TensorType) -> int:
    total = type.dtype.itemsize
    for d in type.shape:
        total *= max(1, _extent(d))
    return total


def _extent(d: Dim) -> int:
    return d if isinstance(d, int) else evaluate(d, {s.name: _TYPICAL for s in symbols(d)})
