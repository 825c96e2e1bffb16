"""Which values hold no -0.0: adding 0.0 to one of these changes no bit."""

from __future__ import annotations

from collections.abc import Sequence
from math import copysign

from tjit.ir.dims import DimExpr
from tjit.ir.graph import Graph, Literal, Node, Operand, Value

__all__ = ["values_without_minus_zero"]

_MOVES = frozenset(
    {"alias", "broadcast_to", "clone", "detach", "diagonal", "dilate", "flip", "permute", "reshape", "slice"}
)
_BOTH = frozenset({"slice_update", "concat", "maximum", "minimum", "sum"})  # of the operands, or of parts of them
_POSITIVE = frozenset({"abs", "exp", "exp2", "sigmoid", "cosh", "iota"})


def values_without_minus_zero(graph: Graph) -> set[Value]:
    """The values of `graph` and of its regions that certainly hold no -0.0, as integers and bools never do."""
    analysis = _Analysis()
    analysis.run(graph.nodes)
    return analysis.found


class _Analysis:
    def __init__(self) -> None:
        self.found: set[Value] = set()

    def run(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            if node.regions:
                self.control(node)
            elif len(node.results) == 1 and self.proves(node):
                self.found.add(node.result)

    def holds(self, operand: Operand) -> bool:
        if operand.type.dtype.kind != "float":
            return True
        return _is_plus(operand.value) if isinstance(operand, Literal) else operand in self.found

    def proves(self, node: Node) -> bool:
        name, holds = node.op.name, [self.holds(o) for o in node.operands]
        if node.result.type.dtype.kind != "float" or name in _POSITIVE:
            return True
        if name == "full":
            return _is_plus(node.attrs["value"])
        if name == "add":
            return any(holds)  # only -0.0 + -0.0 is -0.0
        if name == "sub":
            return holds[0]  # only -0.0 - 0.0 is -0.0
        if name == "mul":
            return node.operands[0] == node.operands[1]
        if name == "where":
            return all(holds[1:])
        if name == "pad":
            return all(holds) and _is_plus(node.attrs["value"])
        if name == "cast":
            return node.operands[0].type.dtype.kind != "float"  # a small negative float may become -0.0
        return (name in _MOVES or name in _BOTH) and all(holds)

    def control(self, node: Node) -> None:
        if node.op.name == "if":
            for region in node.regions:
                self.enter(region.inputs, [self.holds(o) for o in node.operands[1:]])
                self.run(region.nodes)
            yields = zip(*(region.outputs for region in node.regions), strict=True)
            self.enter(node.results, [all(map(self.holds, outputs)) for outputs in yields])
        elif node.op.name in ("for", "while"):
            self.loop(node)

    def enter(self, values: Sequence[Value], holds: Sequence[bool]) -> None:
        for value, one in zip(values, holds, strict=True):
            if one:
                self.found.add(value)

    def loop(self, node: Node) -> None:
        """Assume it of all that comes in without, until what the body yields keeps to it."""
        holds = [self.holds(o) for o in node.operands]
        while True:
            before = set(self.found)
            for region in node.regions:
                self.enter(region.inputs, holds)
                self.run(region.nodes)
            after = [a and self.holds(o) for a, o in zip(holds, node.regions[-1].outputs, strict=True)]
            if after == holds:
                break
            self.found, holds = before, after
        self.enter(node.results, holds)


def _is_plus(number: object) -> bool:
    if isinstance(number, DimExpr):
        return True
    return not isinstance(number, float) or copysign(1.0, number) > 0 or number != 0
