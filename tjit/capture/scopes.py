"""The scopes of a trace: the graph's nodes, and inside of it those of each region while that is captured.

A region reads and writes tensors from outside through values of its own: the first read of one gives it an entry, a
value that stands for it at the region's start. At the end those that were written are carried, and the others are
replaced by the values from outside that they stand for.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple

from tjit.errors import CaptureError
from tjit.ir.dims import Dim
from tjit.ir.graph import GraphBuilder, Node, Operand, Region, Value
from tjit.ir.printer import print_attr
from tjit.location import user_location
from tjit.tensor import Tensor, Traced

__all__ = ["Entry", "Scope", "substitute"]


class Entry(NamedTuple):
    """What stands for a tensor from outside at a region's start."""

    value: Value
    tensor: Tensor


class Scope:
    """Nodes being captured, and what tensors from outside stand for now.

    Attributes:
        builder: collects the nodes.
        outer: the scope around; None for the graph's.
        entries: tensors from outside that were read or written, in order.
        written: those of them that were written.
        variables: the handles that stand for variables of a loop, to the tensor that the variable was bound to before.
        bound: (how an integer is computed, highest value) to the dim that it was bound to.
        through: of the whole trace: such handles that were written in place, and the tensor with them.
        behind: of the whole trace: such handles whose tensor was written otherwise.
    """

    def __init__(self, builder: GraphBuilder, outer: Scope | None = None) -> None:
        self.builder = builder
        self.outer = outer
        self.root: Scope = self if outer is None else outer.root
        self.entries: dict[Traced, Entry] = {}
        self.written: dict[Traced, Tensor] = {}
        self.variables: dict[Traced, Tensor] = {}
        self.through: set[Traced] = set()
        self.behind: set[Traced] = set()
        self.bound: dict[Any, Dim] = {}
        self._values: dict[Traced, Value] = {}
        self._producers: dict[Value, Node] = {}
        self._seen = 0
        self._histories: dict[int, tuple[Tensor, bool, Any, int]] = {}

    def holds(self, traced: Traced) -> bool:
        """Whether what was made in `traced`'s scope may be used here: that is this scope, or one around it."""
        scope: Scope | None = self
        while scope is not None and scope is not traced.scope:
            scope = scope.outer
        return scope is not None

    def value(self, traced: Traced, tensor: Tensor) -> Value:
        """What a handle stands for now.

        Raises:
            CaptureError: it was made inside of a branch or loop that has ended.
        """
        if traced.scope is self:
            return traced.value
        found = self._values.get(traced)
        return self._enter(traced, tensor) if found is None else found

    def _enter(self, traced: Traced, tensor: Tensor) -> Value:
        if not self.holds(traced):
            if traced.scope is not None and traced.scope.root is self.root:
                raise CaptureError(
                    f"a {traced.value.type} tensor was made inside of a loop or branch that has ended",
                    user_location(),
                    hint="assign it to a variable there, instead of keeping it in an object",
                )
            return traced.value  # of another capture: the end of this one refuses it
        if self.outer is None:
            return traced.value
        value = self._values[traced] = Value(traced.value.type, traced.value.name)
        self.entries[traced] = Entry(value, tensor)
        return value

    def set(self, traced: Traced, value: Value, tensor: Tensor) -> None:
        """Have a handle stand for another value from now on."""
        if traced.scope is self:
            traced.value = value
            return
        self.value(traced, tensor)
        self._values[traced] = value
        self.written[traced] = tensor

    def mark(self) -> tuple[int, dict[Any, Dim]]:
        """Where `back_to` goes back to."""
        return len(self.builder.nodes), dict(self.bound)

    def back_to(self, mark: tuple[int, dict[Any, Dim]]) -> None:
        """Forget the nodes that were captured since."""
        count, self.bound = mark
        del self.builder.nodes[count:]
        self._seen = min(self._seen, count)

    def formula(self, value: Value, depth: int = 8) -> Hashable:
        """How a value is computed: equal for values that are equal whatever the inputs are."""
        for node in self.builder.nodes[self._seen :]:
            self._producers.update(dict.fromkeys(node.results, node))
        self._seen = len(self.builder.nodes)
        node = self._producers.get(value)
        if node is None or node.regions or depth == 0 or len(node.results) != 1:
            return id(value)
        operands = [self.formula(o, depth - 1) if isinstance(o, Value) else o for o in node.operands]
        return node.op.name, tuple(operands), tuple((k, print_attr(v)) for k, v in node.attrs.items())

    def keep_history(self, tensor: Tensor) -> None:
        """Note the tape node of a tensor from outside, which is what it has again behind the region."""
        kept = (tensor, tensor._requires_grad, tensor._grad_fn, tensor._index)
        self._histories.setdefault(id(tensor), kept)

    def restore_histories(self) -> None:
        for tensor, requires, grad_fn, index in self._histories.values():
            tensor._requires_grad, tensor._grad_fn, tensor._index = requires, grad_fn, index

    def variable_of(self, traced: Traced) -> Tensor | None:
        """The tensor that a loop's variable was bound to before the loop."""
        scope: Scope | None = self
        while scope is not None:
            if traced in scope.variables:
                return scope.variables[traced]
            scope = scope.outer
        return None

    def handles_of(self, tensor: Tensor) -> list[Traced]:
        """The loops' variables that were bound to a tensor before their loops."""
        own = [traced for traced, bound in self.variables.items() if bound._data is tensor._data]
        return own if self.outer is None else own + self.outer.handles_of(tensor)

    def region(
        self, name: str, inputs: Sequence[Value], outputs: Sequence[Operand], outside: dict[Value, Value]
    ) -> Region:
        """What was captured, as a region; `outside` has what entries that are no inputs stand for."""
        nodes = substitute(self.builder.nodes, outside)
        return Region(name, tuple(inputs), nodes, tuple(_use(o, outside) for o in outputs))


def _use(operand: Operand, values: dict[Value, Value]) -> Operand:
    return values.get(operand, operand) if isinstance(operand, Value) else operand


def substitute(nodes: Sequence[Node], values: dict[Value, Value]) -> tuple[Node, ...]:
    """The nodes with operands replaced, also inside of regions; results stay the values that they are."""
    return tuple(_with(node, values) for node in nodes) if values else tuple(nodes)


def _with(node: Node, values: dict[Value, Value]) -> Node:
    operands = tuple(_use(o, values) for o in node.operands)
    regions = tuple(
        Region(r.name, r.inputs, substitute(r.nodes, values), tuple(_use(o, values) for o in r.outputs))
        for r in node.regions
    )
    if operands == node.operands and not regions:
        return node
    return Node(node.op, operands, node.attrs, node.results, regions=regions, location=node.location)
