"""The gradient of `while`: the loop counts its trips, runs again as a `for` of so many, and that is differentiated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tjit.autograd.control.for_loop import Pulled, pull_back_for
from tjit.autograd.control.replay import copied
from tjit.capture.regions import ControlRecord
from tjit.capture.trace import Trace
from tjit.dtypes import i64
from tjit.ir.graph import GraphBuilder, Literal, Node, Operand, Region, Value
from tjit.ir.types import TensorType
from tjit.ops.apply import TapeNode, state
from tjit.ops.arithmetic import ADD
from tjit.ops.control import FOR, WHILE
from tjit.ops.creation import FULL
from tjit.tensor import Tensor, Traced

__all__ = ["while_vjp"]


def while_vjp(g: Any, y: Any, *operands: Any, record: ControlRecord, so_far: Sequence[Tensor | None]) -> Pulled:
    """The rule of `while`."""
    trace = state.trace
    assert isinstance(trace, Trace)
    ends = g if isinstance(g, tuple) else (g,)
    count = len(operands) - len(record.captured)
    again, found = _run_again(trace, record, operands, count)
    before = {id(t): g for t, g in zip(operands[count:], so_far[count:], strict=True)}
    starts = [*(None for _ in range(count)), *(before[id(t)] for t in found[count:])]
    pulled = pull_back_for(trace, ends[:count], found, again, starts)
    if not state.grad:
        trace.mark_untracked(again.node.results)
    outer = {id(t): p for t, p in zip(found[count:], pulled[count:], strict=True)}
    return (*pulled[:count], *(outer.get(id(t)) for t in operands[count:]))


def _run_again(
    trace: Trace, record: ControlRecord, operands: tuple[Any, ...], count: int
) -> tuple[ControlRecord, tuple[Any, ...]]:
    """The loop as a `for`, and its operands on the tape."""
    trip = trace.bind(_counted(trace, record), 0, None)
    outside = dict(zip(record.captured, operands[count:], strict=True))
    values: dict[Value, Operand] = {v: trace.value_of(t) for v, t in outside.items()}
    region = _without_count(record.node.regions[1], count)
    starts = [o if isinstance(o, Literal) else trace.value_of(o) for o in operands[:count]]
    attrs = {**record.node.attrs, "counter": trace.fresh_name("i"), "trip": trip}
    results = [Value(v.type) for v in region.inputs]
    loop = Node(FOR, starts, attrs, results, regions=(region,), location=record.node.location)
    (node,) = copied(trace, [loop], values)
    trace.scope.builder.nodes.append(node)
    wanted = dict(zip(record.captured, record.wanted[count:], strict=True))
    behind = {trace.value_of(t): (t, wanted[v]) for v, t in outside.items()}
    captured = node.regions[0].captured()
    found = (*operands[:count], *(behind[v][0] for v in captured))
    flags = (*record.wanted[:count], *(behind[v][1] for v in captured))
    return _on_tape(trace, node, found, captured, flags), found


def _without_count(body: Region, count: int) -> Region:
    """The body without the number of trips, carried behind the first `count` values."""
    trips = body.inputs[count:]
    nodes = tuple(n for n in body.nodes if not any(v in n.operands for v in trips))
    return Region("body", body.inputs[:count], nodes, body.outputs[:count])


def _on_tape(
    trace: Trace, node: Node, operands: tuple[Any, ...], captured: tuple[Value, ...], wanted: tuple[bool, ...]
) -> ControlRecord:
    """The record of the `for`: it is on the tape because the tapes that it will keep have a history."""
    again = ControlRecord(node, trace.scope, captured, wanted)
    results = tuple(Tensor(Traced(v)) for v in node.results)
    again.tape = TapeNode(FOR, operands, {"record": again}, results)
    return again


def _counted(trace: Trace, record: ControlRecord) -> Tensor:
    """The number of trips of the `while`, which counts them from now on."""
    if record.count is None:
        record.count = _count(record)
    return record.count


def _count(record: ControlRecord) -> Tensor:
    old = record.node
    test, body = old.regions
    type = TensorType(i64, ())
    start = GraphBuilder("count")
    attrs = {"value": 0, "shape": (), "dtype": i64, "device": type.device}
    (zero,) = start.add(FULL, (), attrs, location=old.location)
    trips = Value(type, "trips")
    after = GraphBuilder("body")
    after.nodes.extend(body.nodes)
    more = after.add_one(ADD, trips, Literal(1, i64), location=old.location)
    regions = (
        Region("test", (*test.inputs, Value(type, "trips")), test.nodes, test.outputs),
        Region("body", (*body.inputs, trips), tuple(after.nodes), (*body.outputs, more)),
    )
    count = Value(type, "trips")
    operands, results = (*old.operands, zero), (*old.results, count)
    node = Node(WHILE, operands, old.attrs, results, regions=regions, location=old.location)
    nodes = record.scope.builder.nodes
    at = next(i for i, n in enumerate(nodes) if n is old)
    nodes[at : at + 1] = [*start.nodes, node]
    record.node = node
    handle = Tensor(data := Traced(count))
    data.scope = record.scope
    assert record.tape is not None
    record.tape.add_result(handle)
    return handle
