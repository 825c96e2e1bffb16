"""The gradient of `if`: an `if` on the same condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tjit.autograd.control.for_loop import Pulled
from tjit.autograd.control.joint import RegionJoint, derive_region
from tjit.autograd.control.replay import copied
from tjit.capture.leaves import Spec
from tjit.capture.regions import ControlRecord, Part, add_control, part
from tjit.capture.trace import Trace
from tjit.ir.graph import Literal, Operand, Region, Value
from tjit.ops.apply import Total, state
from tjit.ops.control import IF
from tjit.ops.creation import zeros
from tjit.tensor import Tensor, Traced

__all__ = ["if_vjp"]


def if_vjp(
    g: Any, y: Any, condition: Any, *operands: Any, record: ControlRecord, so_far: Sequence[Tensor | None]
) -> Pulled:
    """The rule of `if`: each branch computes again what its gradient needs."""
    trace = state.trace
    assert isinstance(trace, Trace)
    ends = g if isinstance(g, tuple) else (g,)
    return (None, *_Branches(trace, ends, condition, operands, record, so_far[1:]).run())


class _Branches:
    """The node that pulls an `if` back. It carries sums that the branches add to, and the cotangents of carried values.

    Attributes:
        sums: positions of operands that have a cotangent already, which the node adds to.
        through: positions of carried operands whose results have a cotangent.
        others: positions of the other operands that need a gradient.
    """

    def __init__(
        self,
        trace: Trace,
        ends: Sequence[Tensor | None],
        condition: Tensor,
        operands: Sequence[Any],
        record: ControlRecord,
        so_far: Sequence[Tensor | None],
    ) -> None:
        self.trace = trace
        self.ends = ends
        self.condition = condition
        self.operands = operands
        self.record = record
        self.so_far = so_far
        self.regions = record.node.regions
        self.insides = [self._insides(r) for r in self.regions]
        self.wanted = [i for i, w in enumerate(record.wanted[1:]) if w]
        carried = len(self.regions[0].inputs)
        self.sums = [i for i in self.wanted if i >= carried and so_far[i] is not None]
        self.through = [i for i in self.wanted if i < carried and ends[i] is not None]
        self.others = [i for i in self.wanted if i not in self.sums and i not in self.through]

    def run(self) -> list[Tensor | Total | None]:
        joints = [self._derive(r, inside) for r, inside in zip(self.regions, self.insides, strict=True)]
        pairs = list(zip(joints, self.insides, strict=True))
        reached = {i for i in self.wanted if any(inside.get(i) in j.gradients for j, inside in pairs)}
        self.sums = [i for i in self.sums if i in reached]
        self.through = [i for i in self.through if i in reached]
        self.others = [i for i in self.others if i in reached]
        found: list[Tensor | Total | None] = [None] * len(self.operands)
        positions = [*self.sums, *self.through, *self.others]
        if not positions:
            return found
        parts = [self._part(r, j, inside) for r, (j, inside) in zip(self.regions, pairs, strict=True)]
        specs = [Spec(self.operands[i].type_, Tensor) for i in positions]
        carried = [
            t for t in (*(self.so_far[i] for i in self.sums), *(self.ends[i] for i in self.through)) if t is not None
        ]
        results = add_control(self.trace, IF, [self.condition], carried, parts, specs, {}, (True, True))
        for i, result in zip(positions, results, strict=True):
            found[i] = Total(result) if i in self.sums else result
        return found

    def _insides(self, region: Region) -> dict[int, Value]:
        """What stands in a region for each operand behind the condition."""
        captured = set(region.captured())
        inside = dict(enumerate(region.inputs))
        others = enumerate(self.record.captured, len(region.inputs))
        return inside | {i: v for i, v in others if v in captured}

    def _derive(self, region: Region, inside: dict[int, Value]) -> RegionJoint:
        seeds = [i for i, end in enumerate(self.ends) if end is not None]
        wanted = [inside[i] for i in self.wanted if i in inside]
        return derive_region(self.trace, region, wanted, seeds, [inside[i] for i in self.sums if i in inside])

    def _part(self, region: Region, joint: RegionJoint, inside: dict[int, Value]) -> Part:
        trace = self.trace
        with part(trace, region.name) as p:
            types = [self.operands[i].type_ for i in (*self.sums, *self.through)]
            p.inputs = [trace.value_of(Tensor(Traced(Value(t)))) for t in types]
            values: dict[Value, Operand] = {joint.env[v]: self._operand(i) for i, v in inside.items()}
            given = set(values)
            values.update((c, self._cotangent(p, i)) for i, c in joint.cotangents.items())
            totals = zip(self.sums, p.inputs, strict=False)
            values.update((joint.totals[inside[i]], v) for i, v in totals if i in inside)
            gradients = joint.gradients.values()
            again = joint.parts.recomputed(joint.first, joint.second, gradients, given)
            p.scope.builder.nodes.extend(copied(trace, (*again, *joint.second), values))
            p.outputs = [self._output(p, n, joint, inside.get(i), values) for n, i in self._numbered()]
            p.requires = [False] * len(p.outputs)
        return p

    def _numbered(self) -> list[tuple[int, int]]:
        return list(enumerate((*self.sums, *self.through, *self.others)))

    def _operand(self, position: int) -> Operand:
        operand = self.operands[position]
        return operand if isinstance(operand, Literal) else self.trace.value_of(operand)

    def _cotangent(self, p: Part, result: int) -> Operand:
        """The cotangent of a result, in a branch."""
        if result in self.through:
            return p.inputs[len(self.sums) + self.through.index(result)]
        end = self.ends[result]
        assert end is not None
        return self.trace.value_of(end)

    def _output(
        self, p: Part, number: int, joint: RegionJoint, v: Value | None, values: dict[Value, Operand]
    ) -> Operand:
        if v is not None and v in joint.gradients:
            return values[joint.gradients[v]]
        if number < len(self.sums):
            return p.inputs[number]  # nothing is added
        type = self.operands[self._numbered()[number][1]].type_
        return self.trace.value_of(zeros(type.shape, dtype=type.dtype))
