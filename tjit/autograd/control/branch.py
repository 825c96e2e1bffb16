"""The gradient of `if`: an `if` on the same condition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tjit.autograd.control.joint import RegionJoint, derive_region
from tjit.autograd.control.replay import copied
from tjit.capture.leaves import Spec
from tjit.capture.regions import ControlRecord, Part, add_control, part
from tjit.capture.trace import Trace
from tjit.ir.graph import Literal, Operand, Region, Value
from tjit.ops.apply import state
from tjit.ops.control import IF
from tjit.ops.creation import zeros
from tjit.tensor import Tensor

__all__ = ["if_vjp"]


def if_vjp(g: Any, y: Any, condition: Any, *operands: Any, record: ControlRecord) -> tuple[Tensor | None, ...]:
    """The rule of `if`: each branch computes again what its gradient needs."""
    trace = state.trace
    assert isinstance(trace, Trace)
    ends = g if isinstance(g, tuple) else (g,)
    return (None, *_Branches(trace, ends, condition, operands, record).run())


class _Branches:
    def __init__(
        self,
        trace: Trace,
        ends: Sequence[Tensor | None],
        condition: Tensor,
        operands: Sequence[Any],
        record: ControlRecord,
    ) -> None:
        self.trace = trace
        self.ends = ends
        self.condition = condition
        self.operands = operands
        self.record = record
        self.wanted = [i for i, w in enumerate(record.wanted[1:]) if w]

    def run(self) -> list[Tensor | None]:
        seeds = [i for i, end in enumerate(self.ends) if end is not None]
        regions = self.record.node.regions
        insides = [self._insides(r) for r in regions]
        joints = [
            derive_region(self.trace, r, [v for i in self.wanted if (v := inside.get(i))], seeds)
            for r, inside in zip(regions, insides, strict=True)
        ]
        reached = [
            i
            for i in self.wanted
            if any(inside.get(i) in j.gradients for inside, j in zip(insides, joints, strict=True))
        ]
        found: list[Tensor | None] = [None] * len(self.operands)
        if not reached:
            return found
        parts = [self._part(r, j, inside, reached) for r, j, inside in zip(regions, joints, insides, strict=True)]
        specs = [Spec(self.operands[i].type_, Tensor) for i in reached]
        results = add_control(self.trace, IF, [self.condition], [], parts, specs, {}, (True, True))
        for i, result in zip(reached, results, strict=True):
            found[i] = result
        return found

    def _insides(self, region: Region) -> dict[int, Value]:
        """What stands in a region for each operand behind the condition."""
        captured = set(region.captured())
        inside = dict(enumerate(region.inputs))
        others = enumerate(self.record.captured, len(region.inputs))
        return inside | {i: v for i, v in others if v in captured}

    def _part(self, region: Region, joint: RegionJoint, inside: dict[int, Value], reached: Sequence[int]) -> Part:
        trace = self.trace
        with part(trace, region.name) as p:
            values: dict[Value, Operand] = {
                joint.env[v]: t if isinstance(t := self.operands[i], Literal) else trace.value_of(t)
                for i, v in inside.items()
            }
            given = set(values)
            for i, cotangent in joint.cotangents.items():
                end = self.ends[i]
                assert end is not None
                values[cotangent] = trace.value_of(end)
            gradients = joint.gradients.values()
            again = joint.parts.recomputed(joint.first, joint.second, gradients, given)
            p.scope.builder.nodes.extend(copied(trace, (*again, *joint.second), values))
            p.outputs = [self._gradient(joint, inside.get(i), values, i) for i in reached]
            p.requires = [False] * len(reached)
        return p

    def _gradient(self, joint: RegionJoint, v: Value | None, values: dict[Value, Operand], position: int) -> Operand:
        if v is not None and v in joint.gradients:
            return values[joint.gradients[v]]
        type = self.operands[position].type_
        return self.trace.value_of(zeros(type.shape, dtype=type.dtype))
