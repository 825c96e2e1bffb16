"""Activity analysis: which results of nodes with regions depend, differentiably, on values that require grad."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from tjit.ir.graph import Node, Operand, Region, Value

__all__ = ["active_results", "reached_inputs"]


def active_results(node: Node, active: Collection[Value], untracked: Collection[Value]) -> list[bool]:
    """For each result of a control node, whether it depends on one of the values `active`.

    Args:
        active: of the node's operands and of what its regions read from outside.
        untracked: values that were computed under `no_grad`: nothing flows through them.
    """
    known = set(active)
    if node.op.name == "if":
        found = [_region_active(r, node.operands[1:], known, untracked) for r in node.regions]
        flags = [any(pair) for pair in zip(*found, strict=True)]
    else:
        flags = _loop_active(node, known, untracked)
    return [f and v.type.is_float and v not in untracked for f, v in zip(flags, node.results, strict=True)]


def _loop_active(node: Node, active: set[Value], untracked: Collection[Value]) -> list[bool]:
    """What a trip makes active is active at the start of the next."""
    body = node.regions[-1]
    starts: list[Operand] = list(node.operands)
    flags = [o in active for o in starts]
    while True:
        carried = active | {v for v, f in zip(body.inputs, flags, strict=True) if f}
        ends = _outputs_active(body, carried, untracked)
        after = [a or b for a, b in zip(flags, ends, strict=True)]
        if after == flags:
            return flags
        flags = after


def _region_active(
    region: Region, carried: Iterable[Operand], active: set[Value], untracked: Collection[Value]
) -> list[bool]:
    inside = {v for v, o in zip(region.inputs, carried, strict=True) if o in active}
    return _outputs_active(region, active | inside, untracked)


def _outputs_active(region: Region, active: set[Value], untracked: Collection[Value]) -> list[bool]:
    for node in region.nodes:
        if node.regions:
            flags = active_results(node, active, untracked)
        else:
            reads = node.op.differentiable and any(o in active for o in node.operands)
            flags = [reads and v.type.is_float and v not in untracked for v in node.results]
        active.update(v for v, f in zip(node.results, flags, strict=True) if f)
    return [o in active for o in region.outputs]


def reached_inputs(region: Region, outputs: Iterable[int], untracked: Collection[Value]) -> set[int]:
    """The positions of a region's inputs that gradients of these of its outputs may flow to."""
    live: set[Operand] = {region.outputs[i] for i in outputs}
    for node in reversed(region.nodes):
        flows = node.op.differentiable and any(v in live and v not in untracked for v in node.results)
        if flows:
            live.update(o for o in node.reads() if o.type.is_float)
    return {i for i, v in enumerate(region.inputs) if v in live}
