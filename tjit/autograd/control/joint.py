"""The graph of a region together with that of its gradient."""

from __future__ import annotations

from collections.abc import Collection, Sequence

from tjit.autograd.control.replay import replay
from tjit.autograd.split import KeptType, Parts
from tjit.autograd.tape import grad, grad_mode
from tjit.capture.trace import Trace
from tjit.dataclass import dataclass
from tjit.ir.graph import Literal, Node, Region, Value
from tjit.tensor import Tensor, Traced

__all__ = ["RegionJoint", "derive_region"]


@dataclass
class RegionJoint:
    """A region's nodes and those of its gradient, which read nothing from outside.

    Attributes:
        env: values of the region, of those that it reads from outside and of its nodes, to those of the joint graph.
        outputs: of the region.
        cotangents: of the region's outputs that have one, by position.
        totals: of values from outside: cotangents that are added to.
        gradients: of the region's inputs and of what it reads from outside, where something flows to them.
        first, second: the nodes that the region computes with, and those that only its gradient needs.
    """

    env: dict[Value, Value]
    outputs: tuple[Value | Literal, ...]
    cotangents: dict[int, Value]
    totals: dict[Value, Value]
    gradients: dict[Value, Value]
    parts: Parts
    first: list[Node]
    second: list[Node]


def derive_region(
    trace: Trace,
    region: Region,
    wanted: Collection[Value],
    seeds: Sequence[int],
    totals: Collection[Value] = (),
    kept_type: KeptType = lambda type: type,
) -> RegionJoint:
    """The joint graph of `region`.

    Args:
        wanted: inputs and values read from outside that need a gradient.
        seeds: positions of the outputs that have a cotangent.
        totals: those of `wanted` whose gradient is added to a cotangent.
        kept_type: as `Parts` takes it.
    """
    with trace.apart() as scope:
        given = (*region.inputs, *region.captured())
        handles = {v: Tensor(Traced(Value(v.type, v.name))) for v in given}
        for value in wanted:
            handles[value]._requires_grad = True
        env = dict(handles)
        with grad_mode(True):
            replay(trace, region.nodes, env)
        outputs = tuple(o if isinstance(o, Literal) else env[o] for o in region.outputs)
        effects = [n for n in scope.builder.nodes if not n.results]
        made = {v for n in scope.builder.nodes for v in n.results}
        tracked = {i: t for i in seeds if isinstance(t := outputs[i], Tensor) and t.requires_grad}
        cotangents = {i: Tensor(Traced(Value(t.type_, "g"))) for i, t in tracked.items()}
        sums = {v: Tensor(Traced(Value(v.type, "sum"))) for v in totals}
        ends_of = [*(handles[v] for v in totals), *tracked.values()]
        starts = [*sums.values(), *cotangents.values()]
        gradients = _gradients(ends_of, starts, [handles[v] for v in wanted])
        values = {v: trace.value_of(t) for v, t in env.items()}
        ends = tuple(o if isinstance(o, Literal) else trace.value_of(o) for o in outputs)
        pulled = {v: trace.value_of(g) for v, g in zip(wanted, gradients, strict=True) if g is not None}
        seeded = {i: trace.value_of(t) for i, t in cotangents.items()}
        added = {v: trace.value_of(t) for v, t in sums.items()}
    pulled = {v: g for v, g in pulled.items() if g is not added.get(v)}  # to which nothing is added
    parts = Parts(scope.builder.nodes, (*seeded.values(), *added.values()), kept_type)
    effects += [n for n in scope.builder.nodes if n.has_effect() and any(v in made for v in n.results)]
    first = parts.needed(ends, effects)
    second = [n for n in parts.needed(pulled.values(), ()) if n not in set(first)]
    return RegionJoint(values, ends, seeded, added, pulled, parts, first, second)


def _gradients(
    outputs: Sequence[Tensor], cotangents: Sequence[Tensor], wanted: Sequence[Tensor]
) -> Sequence[Tensor | None]:
    if not outputs or not wanted:
        return [None] * len(wanted)
    return grad(outputs, wanted, cotangents, allow_unused=True)
