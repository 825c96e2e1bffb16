"""Differentiate a compiled function from outside: its joint graph split into a forward and a backward program.

What flows between them is chosen by a minimum cut: backward computes cheap elementwise work again and keeps what is
dear (contractions, reductions) or small.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit.autograd.control.eager import run_eagerly
from tjit.autograd.control.replay import replay
from tjit.autograd.split import Parts
from tjit.capture.function import Captured
from tjit.capture.trace import Trace
from tjit.ir.clone import reading_nodes
from tjit.ir.dims import Dim, symbols
from tjit.ir.graph import Graph, Node, Operand, Value
from tjit.ir.op import Op
from tjit.ir.scope import bound_names
from tjit.ops.apply import TapeNode, state
from tjit.tensor import Modified, Tensor

__all__ = ["Joint", "split_joint"]


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
        tensors = [*operands, *cotangents]
        sizes: dict[str, Dim] = {
            str(d): extent
            for value, tensor in zip(joint.inputs, tensors, strict=True)
            for d, extent in zip(value.type.shape, tensor.shape, strict=True)
            if not isinstance(d, int)
        }
        trace = state.trace
        if isinstance(trace, Trace):
            env = dict(zip(joint.inputs, tensors, strict=True))
            trace.untracked |= self.captured.untracked
            replay(trace, joint.nodes, env, sizes)
            outputs = [env[o] for o in joint.outputs if isinstance(o, Value)]  # capture returns values
        else:
            outputs = run_eagerly(joint, tensors, sizes, self.captured.untracked)
        return outputs[-len(self.captured.requires) :]


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a compiled function is called as a program")


def split_joint(captured: Captured, joint: Graph) -> Joint:
    """Split a captured function's joint graph, of primitives: a sum computed again need not have the same bits."""
    count = len(captured.requires)
    outputs, gradients = joint.outputs[:-count], joint.outputs[-count:]
    inputs = joint.inputs[: len(captured.graph.inputs)]
    cotangents = joint.inputs[len(inputs) :]
    written = {inputs[i] for i in captured.graph.writes.values()}
    parts = Parts(joint.nodes, cotangents)
    # what gradients bind and check, in loops that they run again, is not the function's effect
    own = bound_names(captured.graph.nodes)
    first = parts.needed(outputs, [n for n in parts.effects(backward=False) if bound_names([n]) <= own])
    second = [n for n in parts.needed(gradients, parts.effects(backward=True)) if n not in set(first)]
    if captured.checkpoint:
        saved = parts.inputs_read(inputs, first, second, gradients)
    else:
        saved = parts.choose_saved(inputs, written, first, second, gradients)
    again = parts.recomputed(first, second, gradients, {*saved, *cotangents})
    saved = _with_sizes(saved, cotangents, sorted(inputs, key=written.__contains__), (*again, *second), gradients)
    produced = [v for v in saved if v not in set(inputs) or v in written]
    forward = Graph(joint.name, inputs, tuple(first), (*outputs, *produced), captured.graph.writes)
    # what is saved comes in as a fresh input: the forward's values belong to the forward
    fresh: dict[Value, Operand] = {v: Value(v.type, v.name or f"saved{i}") for i, v in enumerate(saved)}
    backward_inputs = (*(v for v in fresh.values() if isinstance(v, Value)), *cotangents)
    nodes = reading_nodes((*again, *second), fresh)
    backward = Graph(f"{joint.name}_backward", backward_inputs, nodes, tuple(_use(v, fresh) for v in gradients))
    first_kept = len(outputs) - len(captured.graph.writes)  # a call gives its outputs but for those written back
    places = [
        ("output", first_kept + produced.index(v)) if v in produced else ("input", inputs.index(v)) for v in saved
    ]
    seeded = sorted({r.position for r in captured.results if r.kind == "output" and r.requires_grad})
    return Joint(captured, forward, backward, places, seeded)


def _with_sizes(
    saved: Sequence[Value],
    cotangents: Sequence[Value],
    inputs: Sequence[Value],
    nodes: Sequence[Node],
    gradients: Sequence[Operand],
) -> list[Value]:
    """What is saved, and the inputs that give sizes which nothing else of the backward program's inputs gives."""
    found = list(saved)
    known = {str(d) for v in (*saved, *cotangents) for d in v.type.shape} | bound_names(nodes)
    values = (*(v for node in nodes for v in node.results), *gradients)
    for name in dict.fromkeys(s.name for v in values for d in v.type.shape for s in symbols(d)):
        source = next((v for v in inputs if any(str(d) == name for d in v.type.shape)), None)
        if name not in known and source is not None:
            found.append(source)
            known.update(map(str, source.type.shape))
    return found


def _use(operand: Operand, fresh: dict[Value, Operand]) -> Operand:
    return fresh.get(operand, operand) if isinstance(operand, Value) else operand
