"""From captured scopes to a control node: what is carried, what is read from outside, and the tape."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import field
from typing import Any

from tjit.capture.activity import active_results
from tjit.capture.leaves import Spec, handle
from tjit.capture.scopes import Scope
from tjit.capture.trace import Trace
from tjit.dataclass import dataclass
from tjit.errors import CaptureError
from tjit.ir.graph import Node, Operand, Region, Value
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops.apply import TapeNode, mark_seen, state
from tjit.tensor import Tensor, Traced

__all__ = ["ControlRecord", "Part", "add_control", "part", "record_control", "store_results", "written_by"]


@dataclass
class Part:
    """A region that was captured.

    Attributes:
        inputs, outputs: of the region, beyond the tensors from outside that are written.
        requires: of each output, whether it has a history on the tape.
        replaced: values of the region that stand for a value from outside, and the tensor or number there.
        written: requires_grad of the tensors from outside that the region writes, as it leaves them.
    """

    name: str
    scope: Scope
    inputs: list[Value] = field(default_factory=list)
    outputs: list[Operand] = field(default_factory=list)
    requires: list[bool] = field(default_factory=list)
    replaced: dict[Value, Any] = field(default_factory=dict)
    written: dict[Traced, bool] = field(default_factory=dict)


@dataclass
class ControlRecord:
    """What the gradient of a control node on the tape needs to know.

    Attributes:
        node: the node; it is another one when gradients have had it keep more.
        scope: whose nodes it is among.
        captured: what its regions read from outside, as the last of its operands on the tape.
        wanted: of each operand on the tape, whether it has a history.
        kept: values of the body that the node keeps, to the results that have one row for each trip.
        count: of a `while`, the number of trips.
    """

    node: Node
    scope: Scope
    captured: tuple[Value, ...]
    wanted: tuple[bool, ...]
    tape: TapeNode | None = None
    kept: dict[Value, Tensor] = field(default_factory=dict)
    count: Tensor | None = None


@contextmanager
def part(trace: Trace, name: str, again: Part | None = None) -> Iterator[Part]:
    """Capture a region, or go on with one."""
    with trace.region(again.scope if again else None) as scope:
        found = again or Part(name, scope)
        yield found
        if again is None:
            found.written = {traced: tensor.requires_grad for traced, tensor in scope.written.items()}


def written_by(parts: Sequence[Part]) -> dict[Traced, Tensor]:
    """The tensors from outside that some of the regions write."""
    return {traced: tensor for p in parts for traced, tensor in p.scope.written.items()}


def add_control(
    trace: Trace,
    op: Op,
    leading: Sequence[Tensor],
    carried: Sequence[Tensor],
    parts: Sequence[Part],
    specs: Sequence[Spec],
    attrs: Mapping[str, Any],
    yields: Sequence[bool],
) -> list[Tensor]:
    """Add a control node.

    Args:
        leading: operands that are not carried.
        carried: operands that are, before the tensors that the regions write.
        specs: of the results, but for those of tensors that the regions write, which come first.
        yields: for each region, whether it gives the written tensors' values (a `test` does not).

    Returns:
        The results: the written tensors' values in the order of `written_by`, then those of `specs`.
    """
    writes = written_by(parts)
    regions, tensors = _regions(trace, parts, writes, yields)
    captured = tuple(dict.fromkeys(v for r in regions for v in r.captured()))
    operands = [*leading, *writes.values(), *carried]
    values = [trace.value_of(t) for t in operands]
    kinds = [*(_class(t) for t in writes.values()), *(s.kind for s in specs)]
    types = [*(t.type_ for t in writes.values()), *(s.type for s in specs)]
    found = trace.scope.builder.add(op, values, attrs, location=trace.location(), types=types, regions=regions)
    results = [kind(Traced(v)) for kind, v in zip(kinds, found, strict=True)]
    requires = _requires(parts, writes, len(specs), yields)
    outer = [tensors[v] if v in tensors else Tensor(Traced(v)) for v in captured]
    record_control(trace, trace.scope.builder.nodes[-1], (*operands, *outer), captured, results, requires)
    return results


def _class(tensor: Tensor) -> type[Tensor]:
    return type(tensor) if tensor.is_traced else Tensor


def _regions(
    trace: Trace, parts: Sequence[Part], writes: dict[Traced, Tensor], yields: Sequence[bool]
) -> tuple[list[Region], dict[Value, Tensor]]:
    """The regions, and the tensors behind the values that they read from outside."""
    outside: dict[Value, Value] = {}
    tensors: dict[Value, Tensor] = {}
    for p in parts:
        for traced, tensor in writes.items():
            p.scope.value(traced, tensor)  # an entry, where the region had none
        others = {e.value: e.tensor for t, e in p.scope.entries.items() if t not in writes}
        _check_leaves(trace, others.values(), writes)
        for inside, tensor in (*others.items(), *((v, handle(x)) for v, x in p.replaced.items())):
            outside[inside] = inside_of(p, writes, trace, tensor)
            if outside[inside] not in tensors or tensor.requires_grad:  # a handle with a history before one without
                tensors[outside[inside]] = tensor
    regions = []
    for p, gives in zip(parts, yields, strict=True):
        inputs = [*(p.scope.entries[t].value for t in writes), *p.inputs]
        values = [p.scope.value(t, tensor) for t, tensor in writes.items()] if gives else []
        regions.append(p.scope.region(p.name, inputs, [*values, *p.outputs], outside))
    return regions, tensors


def _check_leaves(trace: Trace, tensors: Iterable[Tensor], writes: dict[Traced, Tensor]) -> None:
    """No leaf of gradients shares memory with what the region writes without being written itself.

    Raises:
        CaptureError: one does.
    """
    for tensor in tensors:
        base = tensor
        while base._view is not None:
            base = base._view[0]
            if not base.is_traced or (isinstance(base._data, Traced) and base._data in writes):
                if not base.is_traced and trace.traced(base) not in writes:
                    continue
                raise CaptureError(
                    f"a loop or branch writes to the memory of a {tensor.type_} tensor whose gradient is wanted",
                    user_location(),
                    hint="clone() it before",
                )


def inside_of(p: Part, writes: dict[Traced, Tensor], trace: Trace, tensor: Tensor) -> Value:
    """What stands for a tensor from outside: its entry where the region writes it, else the value outside."""
    traced = trace.traced(tensor)
    return p.scope.entries[traced].value if traced in writes else trace.value_of(tensor)


def _requires(parts: Sequence[Part], writes: dict[Traced, Tensor], others: int, yields: Sequence[bool]) -> list[bool]:
    giving = [p for p, gives in zip(parts, yields, strict=True) if gives]
    first = [t.requires_grad or any(p.written.get(traced, False) for p in giving) for traced, t in writes.items()]
    return [*first, *(any(p.requires[i] for p in giving) for i in range(others))]


def record_control(
    trace: Trace,
    node: Node,
    operands: tuple[Any, ...],
    captured: tuple[Value, ...],
    results: Sequence[Tensor],
    requires: Sequence[bool] = (),
) -> None:
    """Put a control node on the tape, where something needs its gradient.

    Args:
        operands: the node's, then the tensors behind the values `captured` that its regions read from outside.
        requires: of the results, whether they require grad in any case.
    """
    if not state.grad:
        trace.mark_untracked(node.results)
        return
    wanted = tuple(isinstance(o, Tensor) and o.requires_grad for o in operands)
    values = (*node.operands, *captured)
    active = {v for v, w in zip(values, wanted, strict=True) if w and isinstance(v, Value)}
    flags = active_results(node, active, trace.untracked)
    for i, needed in enumerate(requires):
        flags[i] = (flags[i] or needed) and results[i].dtype.is_floating_point
    if not any(flags):
        return
    record = ControlRecord(node, trace.scope, captured, wanted)
    record.tape = TapeNode(node.op, operands, {"record": record}, tuple(results))
    for index, (result, needed) in enumerate(zip(results, flags, strict=True)):
        if needed:
            result._grad_fn, result._index = record.tape, index


def store_results(trace: Trace, writes: Sequence[Tensor], results: Sequence[Tensor]) -> None:
    """Give tensors from outside what a control node left in them."""
    for tensor, result in zip(writes, results, strict=True):
        traced = trace.traced(tensor)
        trace.scope.set(traced, trace.value_of(result), tensor)
        tensor._storage.version += 1
        mark_seen(tensor)
        if result._grad_fn is not None:
            if traced.scope is not trace.scope:
                trace.scope.keep_history(tensor)
            tensor._grad_fn, tensor._index = result._grad_fn, result._index
