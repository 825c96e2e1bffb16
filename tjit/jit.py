"""TorchScript's names. For now `trace`; the others come with the capture of control flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.capture.calls import AsTraced
from tjit.compile import CompiledFunction, compile
from tjit.ir.graph import Graph, Literal, Node, Value
from tjit.ir.printer import print_attr, print_literal
from tjit.tensor import Tensor

__all__ = ["TracedFunction", "trace"]


class TracedFunction:
    """A function compiled from a trace of its ops. Call it like the function; other sizes are compiled as they come.

    Attributes:
        graph: as captured for the example inputs.
        code: the graph as a readable Python function.
    """

    def __init__(self, compiled: CompiledFunction, example_inputs: tuple[Any, ...]) -> None:
        self._compiled = compiled
        self._example_inputs = example_inputs
        self.graph: Graph = compiled.lower(*example_inputs).graph

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self._compiled(*args, **kwargs)

    @property
    def code(self) -> str:
        return _code(self.graph)

    def lower(self, *args: Any, **kwargs: Any) -> Any:
        """The stages of the program for these arguments, or for the example inputs where there are none."""
        return self._compiled.lower(*(args or self._example_inputs), **kwargs)


def trace(func: Callable[..., Any], example_inputs: Any) -> TracedFunction:
    """Capture `func` with example inputs, by the ops it applies to them.

    Args:
        func: a function of tensors, or an `nn.Module`.
        example_inputs: a tensor, or a tuple of the positional arguments.

    Raises:
        CaptureError: the function branches on a tensor's value, or cannot be captured for another reason.
    """
    inputs = example_inputs if isinstance(example_inputs, (tuple, list)) else (example_inputs,)
    detached = tuple(x.detach() if isinstance(x, Tensor) and x.requires_grad else x for x in inputs)
    return TracedFunction(compile(AsTraced(func)), detached)


def _code(graph: Graph) -> str:
    """A graph as the text of a Python function."""
    names: dict[Value, str] = {v: v.name or f"input_{i}" for i, v in enumerate(graph.inputs)}
    lines = [f"def forward({', '.join(f'{names[v]}: Tensor' for v in graph.inputs)}):"]
    for node in graph.nodes:
        for result in node.results:
            names[result] = f"_{len(names) - len(graph.inputs)}"
        lines.append(f"    {', '.join(names[r] for r in node.results)} = {_call(node, names)}")
    outputs = [names[o] if isinstance(o, Value) else print_literal(o) for o in graph.outputs]
    lines.append(f"    return {', '.join(outputs)}")
    return "\n".join(lines) + "\n"


def _call(node: Node, names: dict[Value, str]) -> str:
    operands = [print_literal(o) if isinstance(o, Literal) else names[o] for o in node.operands]
    attrs = [f"{k}={print_attr(v)}" for k, v in node.attrs.items()]
    return f"torch.{node.op.name}({', '.join((*operands, *attrs))})"
