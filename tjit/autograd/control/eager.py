"""Run a graph on eager tensors op by op, control flow by Python's, on the tape: so it can be differentiated again."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from tjit.autograd.tape import grad_mode
from tjit.errors import DimensionError
from tjit.ir.clone import substituted
from tjit.ir.dims import Dim
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value
from tjit.ops.apply import apply, state
from tjit.ops.creation import full
from tjit.tensor import Tensor

__all__ = ["run_eagerly"]


def run_eagerly(
    graph: Graph, tensors: Sequence[Tensor], sizes: dict[str, Dim], untracked: Collection[Value]
) -> list[Tensor]:
    """The outputs of `graph`.

    Args:
        sizes: the numbers of the symbols in the inputs' shapes.
        untracked: values that are computed under `no_grad`.

    Raises:
        DimensionError: an index is out of range.
        AssertionError: a check fails.
    """
    run = _Run(dict(sizes), untracked)
    run.env.update(zip(graph.inputs, tensors, strict=True))
    run.nodes(graph.nodes)
    return [run.read(o) for o in graph.outputs]


class _Run:
    def __init__(self, sizes: dict[str, Dim], untracked: Collection[Value]) -> None:
        self.env: dict[Value, Tensor] = {}
        self.sizes = sizes
        self.untracked = untracked

    def nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            run = getattr(self, f"run_{node.op.name}", self.plain) if node.op.kind == "control" else self.plain
            tracked = not any(v in self.untracked for v in node.results)
            with grad_mode(state.grad and tracked):
                results = run(node)
            self.env.update(zip(node.results, results, strict=True))

    def read(self, operand: Operand) -> Tensor:
        """A number that control flow carries is a tensor from then on."""
        return full((), operand.value, dtype=operand.dtype) if isinstance(operand, Literal) else self.env[operand]

    def plain(self, node: Node) -> Sequence[Tensor]:
        operands = [o if isinstance(o, Literal) else self.env[o] for o in node.operands]
        attrs = {key: substituted(attr, self.sizes) for key, attr in node.attrs.items()}
        found = apply(node.op, *operands, **attrs)
        return found if isinstance(found, tuple) else (found,)

    def region(self, region: Region, carried: Sequence[Tensor]) -> list[Tensor]:
        self.env.update(zip(region.inputs, carried, strict=True))
        self.nodes(region.nodes)
        return [self.read(o) for o in region.outputs]

    def run_if(self, node: Node) -> Sequence[Tensor]:
        condition, *carried = map(self.read, node.operands)
        return self.region(node.regions[0 if condition.item() else 1], carried)

    def run_for(self, node: Node) -> Sequence[Tensor]:
        carried = [self.read(o) for o in node.operands]
        for i in range(self.number(node.attrs["trip"])):
            self.sizes[node.attrs["counter"]] = i
            carried = self.region(node.regions[0], carried)
        return carried

    def run_while(self, node: Node) -> Sequence[Tensor]:
        test, body = node.regions
        carried = [self.read(o) for o in node.operands]
        while self.region(test, carried)[0].item():
            carried = self.region(body, carried)
        return carried

    def run_bind(self, node: Node) -> Sequence[Tensor]:
        found, high = int(self.read(node.operands[0]).item()), node.attrs["high"]
        if found < node.attrs["low"] or (high is not None and found > self.number(high)):
            raise DimensionError("index out of range", node.location)
        self.sizes[node.attrs["symbol"]] = found
        return ()

    def run_check(self, node: Node) -> Sequence[Tensor]:
        if not self.read(node.operands[0]).item():
            raise AssertionError(node.attrs["message"])
        return ()

    def number(self, d: Any) -> int:
        found = substituted(d, self.sizes)
        assert isinstance(found, int)  # every symbol has its number
        return found
