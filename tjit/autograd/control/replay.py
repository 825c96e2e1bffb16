"""Apply the nodes of a graph once more, to tensors: in a trace, so that what they compute can be differentiated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from tjit.autograd.tape import grad_mode
from tjit.capture.regions import record_control
from tjit.capture.trace import Trace
from tjit.ir.clone import clone_nodes, substituted
from tjit.ir.dims import Dim, Symbol, add_runtime
from tjit.ir.graph import Literal, Node, Operand, Value
from tjit.ir.scope import bound_names
from tjit.ops.apply import apply, state
from tjit.tensor import Tensor, Traced

__all__ = ["copied", "replay"]


def copied(
    trace: Trace, nodes: Iterable[Node], values: dict[Value, Operand], symbols: Mapping[str, Dim] | None = None
) -> tuple[Node, ...]:
    """`clone_nodes` for the active scope: bound symbols get names that are new in the trace."""
    nodes = tuple(nodes)
    trace.runtime |= bound_names(nodes)
    found = clone_nodes(nodes, values, symbols, trace.runtime)
    for name in bound_names(found):
        add_runtime(Symbol(name))
    mirror_untracked(trace, values)
    return found


def mirror_untracked(trace: Trace, values: Mapping[Value, Any]) -> None:
    """Copies of values that the user computed under `no_grad` are as these are."""
    if trace.untracked:
        trace.untracked.update(new for old, new in values.items() if old in trace.untracked and isinstance(new, Value))


def replay(
    trace: Trace, nodes: Sequence[Node], env: dict[Value, Tensor], symbols: Mapping[str, Dim] | None = None
) -> None:
    """Apply `nodes` in the active scope, on the tape; what was computed under `no_grad` is again.

    Args:
        env: the tensor of each value that the nodes read; gains those of their results.
        symbols: dims that stand for symbols, by name.
    """
    run = _Replay(trace, env, symbols or {})
    location = trace.forced_location
    try:
        for node in nodes:
            trace.forced_location = node.location or location
            run.node(node)
    finally:
        trace.forced_location = location


class _Replay:
    def __init__(self, trace: Trace, env: dict[Value, Tensor], symbols: Mapping[str, Dim]) -> None:
        self.trace = trace
        self.env = env
        self.symbols = symbols

    def node(self, node: Node) -> None:
        untracked = any(v in self.trace.untracked for v in node.results)
        with grad_mode(state.grad and not untracked):
            results = self.control(node) if node.op.kind == "control" else self.plain(node)
        self.env.update(zip(node.results, results, strict=True))
        if untracked:
            self.trace.untracked.update(self.trace.value_of(r) for r in results)

    def plain(self, node: Node) -> tuple[Tensor, ...]:
        operands = [o if isinstance(o, Literal) else self.env[o] for o in node.operands]
        attrs = {key: substituted(attr, self.symbols) for key, attr in node.attrs.items()}
        found = apply(node.op, *operands, **attrs)
        results = found if isinstance(found, tuple) else (found,)
        for result in results:
            result._view = None  # nothing here writes in place
        return results

    def control(self, node: Node) -> tuple[Tensor, ...]:
        """A copy of a node with regions, or of a `bind` or `check`; its symbols keep their names."""
        values: dict[Value, Operand] = {
            o: self.trace.value_of(self.env[o]) for o in node.reads() if isinstance(o, Value)
        }
        outside = dict(values)
        (copy,) = clone_nodes([node], values, self.symbols)
        mirror_untracked(self.trace, values)
        self.trace.scope.builder.nodes.append(copy)
        results = tuple(Tensor(Traced(v)) for v in copy.results)
        if not copy.regions:
            return results
        captured = {v: o for o, v in outside.items() if isinstance(v, Value)}
        reads = tuple(dict.fromkeys(v for r in copy.regions for v in r.captured()))
        operands = [o if isinstance(o, Literal) else self.env[o] for o in node.operands]
        record_control(self.trace, copy, (*operands, *(self.env[captured[v]] for v in reads)), reads, results)
        return results
