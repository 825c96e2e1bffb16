"""The gradient of `for`: a `for` that counts down, over what the forward kept of each trip."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tjit.autograd.control.joint import RegionJoint, derive_region
from tjit.autograd.control.replay import copied
from tjit.autograd.control.tapes import keep, kept_type, row
from tjit.capture.activity import active_results, reached_inputs
from tjit.capture.leaves import Spec
from tjit.capture.regions import ControlRecord, Part, add_control, part
from tjit.capture.trace import Trace
from tjit.ir.clone import substituted_type
from tjit.ir.dims import add_runtime, counter
from tjit.ir.graph import Operand, Value
from tjit.ops.apply import Total, state
from tjit.ops.control import FOR
from tjit.ops.creation import zeros
from tjit.tensor import Tensor, Traced

__all__ = ["Pulled", "for_vjp", "pull_back_for"]

Pulled = tuple["Tensor | Total | None", ...]


def for_vjp(g: Any, y: Any, *operands: Any, record: ControlRecord, so_far: Sequence[Tensor | None]) -> Pulled:
    """The rule of `for`."""
    trace = state.trace
    assert isinstance(trace, Trace)
    return pull_back_for(trace, g if isinstance(g, tuple) else (g,), operands, record, so_far)


def pull_back_for(
    trace: Trace,
    ends: Sequence[Tensor | None],
    operands: Sequence[Any],
    record: ControlRecord,
    so_far: Sequence[Tensor | None],
) -> Pulled:
    """The cotangents of a `for`'s operands and of what its body reads from outside.

    Args:
        ends: cotangents of the results.
        operands: those of the node on the tape.
        so_far: the cotangents that they have already.
    """
    return _Countdown(trace, ends, operands, record, so_far).run()


class _Countdown:
    def __init__(
        self,
        trace: Trace,
        ends: Sequence[Tensor | None],
        operands: Sequence[Any],
        record: ControlRecord,
        so_far: Sequence[Tensor | None],
    ) -> None:
        self.trace = trace
        self.record = record
        self.ends = ends
        self.count = len(operands) - len(record.captured)
        self.operands = operands
        self.outside: dict[Value, Any] = dict(zip(record.captured, operands[self.count :], strict=True))
        (self.body,) = record.node.regions
        self.so_far = dict(zip(record.captured, so_far[self.count :], strict=True))
        self.carried = self._carried()
        self.name: str = record.node.attrs["counter"]

    def _carried(self) -> list[int]:
        """The positions of the carried values that have a cotangent."""
        record, untracked = self.record, self.trace.untracked
        started = zip(record.node.operands, record.wanted[: self.count], strict=False)
        wanted = {v for v, w in started if w} | {v for v, w in self._outer() if w}
        active = active_results(record.node, {v for v in wanted if isinstance(v, Value)}, untracked)
        found = {i for i, end in enumerate(self.ends) if end is not None and active[i]}
        while True:
            more = found | {i for i in reached_inputs(self.body, found, untracked) if active[i]}
            if more == found:
                return sorted(found)
            found = more

    def _outer(self) -> list[tuple[Value, bool]]:
        return list(zip(self.record.captured, self.record.wanted[self.count :], strict=True))

    def run(self) -> Pulled:
        if not self.carried:
            return (None,) * len(self.operands)
        read = set(self.body.captured())
        outer = [v for v, w in self._outer() if w and v in read and v.type.is_float]
        wanted = [*(self.body.inputs[i] for i in self.carried), *outer]
        joint = derive_region(
            self.trace, self.body, wanted, self.carried, outer, lambda t: kept_type(self.trace, self.record, t)
        )
        saved = self._saved(joint)
        tapes = keep(self.trace, self.record, joint, saved)
        sums = [v for v in outer if v in joint.gradients]
        found = self._loop(joint, tapes, sums)
        started = dict(zip(self.carried, found, strict=False))
        summed = {v: self._summed(v, t) for v, t in zip(sums, found[len(self.carried) :], strict=True)}
        own = [started.get(i) if self.record.wanted[i] else None for i in range(self.count)]
        return (*own, *(summed.get(v) for v in self.record.captured))

    def _summed(self, v: Value, total: Tensor) -> Tensor | Total:
        return total if self.so_far[v] is None else Total(total)

    # -- what is kept --------------------------------------------------------------------------------------------------

    def _saved(self, joint: RegionJoint) -> list[Value]:
        """The values of a trip that its gradient needs and does not compute again."""
        inputs = [joint.env[v] for v in self.body.inputs]
        outside = [joint.env[v] for v in self.outside if v in joint.env]
        kept = {joint.env[v] for v in self.record.kept if v in joint.env}
        gradients = joint.gradients.values()
        if self.record.node.attrs.get("checkpoint"):
            return joint.parts.inputs_read(inputs, joint.first, joint.second, gradients)
        saved = joint.parts.choose_saved(
            [*inputs, *outside], inputs, joint.first, joint.second, gradients, kept, late=True
        )
        return [v for v in saved if v not in set(outside)]

    # -- the loop ------------------------------------------------------------------------------------------------------

    def _loop(self, joint: RegionJoint, tapes: dict[Value, Tensor], sums: Sequence[Value]) -> list[Tensor]:
        """Cotangents of `carried` before the first trip, and the sums over all trips of those of `sums`."""
        trace, trip = self.trace, self.record.node.attrs["trip"]
        symbol = counter(trace.fresh_name("i"), trip)
        add_runtime(symbol)
        types = [*(self.body.inputs[i].type for i in self.carried), *(v.type for v in sums)]
        with part(trace, "body") as p:
            handles = [Tensor(Traced(Value(t))) for t in types]
            p.inputs = [trace.value_of(h) for h in handles]
            assert symbol.maximum is not None
            values = self._values(joint, tapes, symbol.maximum - symbol.dim, handles)
            for v, handle in zip(sums, handles[len(self.carried) :], strict=True):
                values[joint.totals[v]] = trace.value_of(handle)
            self._compute(joint, p, values, symbol.maximum - symbol.dim, (*tapes, *joint.cotangents.values()))
            p.outputs = [self._gradient(joint, v, values) for v in (*self._starting(), *sums)]
            p.requires = [False] * len(p.outputs)
        starts = [
            zeros(t.shape, dtype=t.dtype) if g is None else g for g, t in zip(self._starts(sums), types, strict=True)
        ]
        specs = [Spec(t, Tensor) for t in types]
        attrs = dict(self.record.node.attrs) | {"counter": symbol.name}
        return add_control(trace, FOR, [], starts, [p], specs, attrs, (True,))

    def _starts(self, sums: Sequence[Value]) -> list[Tensor | None]:
        return [*(self.ends[i] for i in self.carried), *(self.so_far[v] for v in sums)]

    def _values(
        self, joint: RegionJoint, tapes: dict[Value, Tensor], trip: Any, handles: Sequence[Tensor]
    ) -> dict[Value, Operand]:
        """What the joint graph's values are in the loop."""
        value_of = self.trace.value_of
        values: dict[Value, Operand] = {}
        for i, handle in zip(self.carried, handles, strict=False):
            if i in joint.cotangents:
                values[joint.cotangents[i]] = value_of(handle)
        types = {v: substituted_type(v.type, {self.name: trip}) for v in tapes}
        values.update((v, value_of(row(tape, trip, types[v]))) for v, tape in tapes.items())
        values.update((joint.env[v], value_of(t)) for v, t in self.outside.items() if v in joint.env)
        return values

    def _compute(
        self, joint: RegionJoint, p: Part, values: dict[Value, Operand], trip: Any, have: Sequence[Value]
    ) -> None:
        """The nodes of the gradient, and of the forward what they need."""
        gradients = joint.gradients.values()
        given = {*have, *(joint.env[v] for v in self.outside if v in joint.env)}
        again = joint.parts.recomputed(joint.first, joint.second, gradients, given)
        p.scope.builder.nodes.extend(copied(self.trace, (*again, *joint.second), values, {self.name: trip}))

    def _starting(self) -> list[Value]:
        return [self.body.inputs[i] for i in self.carried]

    def _gradient(self, joint: RegionJoint, v: Value, values: dict[Value, Operand]) -> Operand:
        """What a trip makes of the cotangent of an input, or of the sum for a value from outside."""
        if v not in joint.gradients:
            return self.trace.value_of(zeros(v.type.shape, dtype=v.type.dtype))
        found = joint.gradients[v]
        return values.get(found, found)
