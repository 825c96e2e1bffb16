"""Nodes with regions as steps around schedules: a region is scheduled as a graph that writes back what it carries."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tjit.codegen.steps import AnyStep, Bind, Body, Check, For, If, Placed, While
from tjit.dtypes import u8
from tjit.ir.dims import maximum
from tjit.ir.graph import Graph, Node, Region, Value
from tjit.ir.types import TensorType

if TYPE_CHECKING:
    from tjit.codegen.schedule import Scheduler

__all__ = ["control_step"]


def control_step(outer: Scheduler, node: Node) -> AnyStep:
    """The step of an `if`, `for`, `while`, `bind` or `check`; all that it reads is in memory."""
    make = {"if": _if, "for": _for, "while": _while, "bind": _bind, "check": _check}
    return make[node.op.name](outer, node)


def _bind(outer: Scheduler, node: Node) -> AnyStep:
    attrs = node.attrs
    return Bind(attrs["symbol"], _read(outer, node, 0), attrs["low"], attrs["high"], node.location)


def _check(outer: Scheduler, node: Node) -> AnyStep:
    return Check(_read(outer, node, 0), node.attrs["message"], node.location)


def _if(outer: Scheduler, node: Node) -> AnyStep:
    then, otherwise = node.regions
    carried = [outer.place(value) for value in node.results[: len(then.inputs)]]
    fresh = [outer.place(value) for value in node.results[len(then.inputs) :]]
    both = _body(outer, then, carried, fresh), _body(outer, otherwise, carried, fresh)
    return If(_read(outer, node, 0), *both, _arena(outer, both), node.location)


def _for(outer: Scheduler, node: Node) -> AnyStep:
    body = _body(outer, node.regions[0], [outer.place(value) for value in node.results], (), is_loop=True)
    return For(node.attrs["counter"], node.attrs["trip"], body, _arena(outer, (body,)), node.location)


def _while(outer: Scheduler, node: Node) -> AnyStep:
    carried = [outer.place(value) for value in node.results]
    test, body = node.regions
    condition = outer.temp(test.outputs[0].type)
    both = _body(outer, test, carried, (condition,)), _body(outer, body, carried, (), is_loop=True)
    return While(condition, *both, _arena(outer, both), node.location)


def _read(outer: Scheduler, node: Node, i: int) -> Placed:
    operand = node.operands[i]
    assert isinstance(operand, Value), "numbers that control nodes read are put in memory by `plan_storage`"
    return outer.place(operand)


def _body(
    outer: Scheduler, region: Region, carried: Sequence[Placed], fresh: Sequence[Placed], *, is_loop: bool = False
) -> Body:
    """A region over the buffers of what it carries, of what it reads from outside, and of what it defines anew.

    A test, which yields no new values of what it carries, only reads.
    """
    captured = region.captured()
    inputs = (*carried, *(outer.place(value) for value in captured))
    written = len(region.outputs) - len(fresh)
    graph = Graph(
        region.name, (*region.inputs, *captured), region.nodes, region.outputs, {i: i for i in range(written)}
    )
    inner = outer.inner(graph, [placed.strides for placed in inputs])
    inner.is_loop = is_loop
    plan = inner.run()
    rotations = tuple((source, target, outer.temp(source.type)) for source, target in inner.rotations)
    return Body(region.name, plan, inputs, tuple(fresh), rotations)


def _arena(outer: Scheduler, both: Sequence[Body]) -> Placed | None:
    """Memory for the temps of bodies that never run at the same time."""
    size = 0
    for body in both:
        size = maximum(size, body.plan.arena)
    return None if isinstance(size, int) and size == 0 else outer.temp(TensorType(u8, (size,)), "body")
