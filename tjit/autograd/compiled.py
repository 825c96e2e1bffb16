"""Differentiate a compiled function from outside: its joint graph split into a forward and a backward program.

What flows between them is chosen by a minimum cut: backward computes cheap elementwise work again and keeps what is
dear (contractions, reductions) or small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit.autograd.minimum_cut import Network
from tjit.autograd.tape import grad_mode
from tjit.capture.function import Captured
from tjit.ir.dims import evaluate, symbols
from tjit.ir.graph import Graph, Literal, Node, Value
from tjit.ir.op import Op
from tjit.ops.apply import TapeNode, apply, state
from tjit.tensor import Modified, Tensor

__all__ = ["Joint", "split_joint"]

_TYPICAL = 64  # a symbolic dim's extent, where sizes are compared
_KEPT = frozenset({"contract", "reduce", "index"})


class Joint:
    """The forward and backward graphs of a function that is differentiated from outside.

    Attributes:
        forward: the captured graph with the saved values as further outputs.
        backward: inputs are `saved` (a position of the forward's inputs, or of its outputs), then the cotangents;
            outputs are the gradients of the inputs in `requires`.
        seeded: positions of the forward's outputs that have a cotangent.
    """

    def __init__(
        self, captured: Captured, forward: Graph, backward: Graph, saved: list[tuple[str, int]], seeded: list[int]
    ) -> None:
        self.captured = captured
        self.forward = forward
        self.backward = backward
        self.saved = saved
        self.seeded = seeded
        self.op = Op(
            name=f"{captured.graph.name}_compiled",
            kind="composite",
            infer=None,
            reference=_never,
            vjp=self._vjp,
            samples=(),
            decompose=_never,
        )

    def record(
        self,
        tensors: dict[int, Tensor],
        operands: list[Any],
        inputs: Sequence[np.ndarray],
        outputs: Sequence[np.ndarray],
        backward: Callable[[], Any],
    ) -> None:
        """Put the call on the tape: `tensors` are the returned ones, by output position."""
        operands = [
            Tensor(a) if o is None or isinstance(o, np.ndarray) else o for o, a in zip(operands, inputs, strict=True)
        ]
        watched = [operands[i] for kind, i in self.saved if kind == "input"]
        versions = [(t, t._storage.version) for t in watched if isinstance(t, Tensor)]
        kept = [inputs[i] if kind == "input" else outputs[i] for kind, i in self.saved]
        results = tuple(tensors[i] for i in self.seeded)
        node = TapeNode(self.op, tuple(operands), {"kept": kept, "versions": versions, "program": backward}, results)
        for index, result in enumerate(results):
            result._grad_fn, result._index = node, index

    def _vjp(
        self,
        g: Any,
        y: Any,
        *operands: Any,
        kept: list[np.ndarray],
        versions: list[tuple[Tensor, int]],
        program: Callable[[], Any],
    ) -> tuple[Any, ...]:
        cotangents = g if isinstance(g, tuple) else (g,)
        for tensor, version in versions:
            if tensor._storage.version != version:
                _ = Tensor(Modified(tensor.type_)).array  # raises
        if state.grad or state.trace is not None:
            gradients = self._replay(operands, cotangents)
        else:
            arrays = [np.asarray(a, order="C") for a in (*kept, *(t.array for t in cotangents))]
            run = program()
            bound = run.bind(arrays)
            assert bound is not None
            gradients = [Tensor(a) for a in run.run(arrays, bound)]
        found: list[Any] = [None] * len(operands)
        for position, gradient in zip(self.captured.requires, gradients, strict=True):
            found[position] = gradient
        return tuple(found)

    def _replay(self, operands: Sequence[Tensor], cotangents: Sequence[Tensor]) -> list[Tensor]:
        """The gradients by applying the joint graph's ops one by one: they can be differentiated again."""
        joint = self.captured.joint
        assert joint is not None
        env: dict[Value, Any] = dict(zip(joint.inputs, (*operands, *cotangents), strict=True))
        sizes = {
            str(d): extent
            for value, tensor in env.items()
            for d, extent in zip(value.type.shape, tensor.shape, strict=True)
            if not isinstance(d, int)
        }
        for node in joint.nodes:
            inputs = [o if isinstance(o, Literal) else env[o] for o in node.operands]
            attrs = {k: _concrete(v, sizes) for k, v in node.attrs.items()}
            with grad_mode(state.grad and node.results[0] not in self.captured.untracked):
                results = apply(node.op, *inputs, **attrs)
            env.update(zip(node.results, results if isinstance(results, tuple) else (results,), strict=True))
        found: list[Tensor] = []
        for output in joint.outputs[-len(self.captured.requires) :]:
            assert isinstance(output, Value)  # capture returns values
            found.append(env[output])
        return found


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a compiled function is called as a program")


def _concrete(attr: Any, sizes: dict[str, int]) -> Any:
    if isinstance(attr, tuple):
        return tuple(_concrete(a, sizes) for a in attr)
    return evaluate(attr, sizes) if hasattr(attr, "terms") else attr


def split_joint(captured: Captured, joint: Graph) -> Joint:
    """Split a captured function's joint graph, of primitives: a sum computed again need not have the same bits."""
    count = len(captured.requires)
    outputs, gradients = joint.outputs[:-count], joint.outputs[-count:]
    inputs = joint.inputs[: len(captured.graph.inputs)]
    cotangents = joint.inputs[len(inputs) :]
    first = _needed(joint.nodes, outputs)
    second = [n for n in _needed(joint.nodes, gradients) if n not in set(first)]
    saved = _choose_saved(captured, joint, inputs, first, second, gradients)
    again = _recomputed(first, second, gradients, set(saved) | set(cotangents))
    produced = [v for v in saved if v not in set(inputs) or _is_written(captured, inputs, v)]
    forward = Graph(joint.name, inputs, tuple(first), (*outputs, *produced), captured.graph.writes)
    # what is saved comes in as a fresh input: the forward's values belong to the forward
    fresh = {v: Value(v.type, v.name or f"saved{i}") for i, v in enumerate(saved)}
    backward_inputs = (*fresh.values(), *cotangents)
    nodes = tuple(_with(n, fresh) for n in (*again, *second))
    backward = Graph(f"{joint.name}_backward", backward_inputs, nodes, tuple(_use(v, fresh) for v in gradients))
    first_kept = len(outputs) - len(captured.graph.writes)  # a call gives its outputs but for those written back
    places = [
        ("output", first_kept + produced.index(v)) if v in produced else ("input", inputs.index(v)) for v in saved
    ]
    seeded = sorted({r.position for r in captured.results if r.kind == "output" and r.requires_grad})
    return Joint(captured, forward, backward, places, seeded)


def _is_written(captured: Captured, inputs: Sequence[Value], value: Value) -> bool:
    return value in inputs and inputs.index(value) in captured.graph.writes.values()


def _use(operand: Any, fresh: dict[Value, Value]) -> Any:
    return fresh.get(operand, operand) if isinstance(operand, Value) else operand


def _with(node: Node, fresh: dict[Value, Value]) -> Node:
    operands = [_use(o, fresh) for o in node.operands]
    return Node(node.op, operands, node.attrs, node.results, regions=node.regions, location=node.location)


def _needed(nodes: Sequence[Node], outputs: Sequence[Any]) -> list[Node]:
    """The nodes that `outputs` depend on, in order."""
    live = {o for o in outputs if isinstance(o, Value)}
    kept: list[Node] = []
    for node in reversed(nodes):
        if any(r in live for r in node.results):
            live.update(o for o in node.operands if isinstance(o, Value))
            kept.append(node)
    return kept[::-1]


def _recomputed(first: list[Node], second: list[Node], gradients: Sequence[Any], have: set[Value]) -> list[Node]:
    """The forward's nodes that backward runs again, given the values it has."""
    wanted = {o for n in second for o in n.operands if isinstance(o, Value)} | {
        g for g in gradients if isinstance(g, Value)
    }
    again: list[Node] = []
    for node in reversed(first):
        if any(r in wanted and r not in have for r in node.results):
            again.append(node)
            wanted.update(o for o in node.operands if isinstance(o, Value))
    return again[::-1]


def _bytes(value: Value) -> int:
    total = value.type.dtype.itemsize
    for d in value.type.shape:
        total *= d if isinstance(d, int) else max(1, evaluate(d, {s.name: _TYPICAL for s in symbols(d)}))
    return total


def _may_recompute(node: Node) -> bool:
    return node.op.kind not in _KEPT


def _choose_saved(
    captured: Captured,
    joint: Graph,
    inputs: Sequence[Value],
    first: list[Node],
    second: list[Node],
    gradients: Sequence[Any],
) -> list[Value]:
    """The values to keep from forward to backward: a cut of least bytes between the inputs and what backward reads."""
    made = {r for n in first for r in n.results} | set(inputs)
    read = {o for n in second for o in n.operands if isinstance(o, Value) and o in made}
    read |= {g for g in gradients if isinstance(g, Value) and g in made}
    network = Network()
    for value in made:
        # an input that stays as it is costs nothing to keep
        free = value in set(inputs) and not _is_written(captured, inputs, value)
        network.edge(("in", value), ("out", value), 1 if free else 8 + _bytes(value))
    for value in inputs:
        network.edge("source", ("in", value), None)
    for node in first:
        for result in node.results:
            operands = [o for o in node.operands if isinstance(o, Value)]
            if not _may_recompute(node):
                network.edge("source", ("in", result), None)
            for operand in operands:
                network.edge(("out", operand), ("in", result), None)
            if not operands and _may_recompute(node):
                continue  # a constant: made again at no cost
    for value in read:
        network.edge(("out", value), "sink", None)
    reachable = network.source_side("source", "sink")
    cut = [v for v in made if ("in", v) in reachable and ("out", v) not in reachable]
    order = {v: i for i, v in enumerate((*inputs, *(r for n in first for r in n.results)))}
    return sorted(cut, key=order.__getitem__)
