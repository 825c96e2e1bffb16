"""Sums with what is zero but for a part: how the gradients of slices are added up."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from math import copysign
from typing import Any, NamedTuple

from tjit.ir.dims import Dim, at_least
from tjit.ir.graph import Graph, Literal, Node, Operand, Value, infer_types
from tjit.ir.op import OPS
from tjit.ir.scope import each_node
from tjit.passes.known import is_zero, known_number
from tjit.passes.rewrite import Rewriter, rewrite
from tjit.passes.zeros import values_without_minus_zero

__all__ = ["narrow_sums", "narrow_sums_fast"]
_STORED = ("index", "control", "contract", "reduce", "scan", "sort")


def narrow_sums(graph: Graph, fast_math: bool = False) -> Graph:
    """Add to a part of an array in memory where the other operand is zero elsewhere.

    Args:
        fast_math: also where a -0.0 stays that 0.0 would make 0.0.

    Before:
        graph f(%y: f32[1]) -> f32[9] {
          %0: f32[9] = full(value=0.0, shape=(9,), dtype=f32, device=cpu)  # model.py:2
          %1: f32[9] = for(%0, counter="i0", trip=3) {                     # model.py:3
            body(%d: f32[9]) {
              %2: f32[9] = pad(%y, low=(i0,), high=(-i0 + 8,), value=0)    # model.py:4
              %3: f32[9] = add(%d, %2)                                     # model.py:4
              yield %3
            }
          }
          return %1
        }

    After:
        graph f(%y: f32[1]) -> f32[9] {
          %0: f32[9] = full(value=0.0, shape=(9,), dtype=f32, device=cpu)                   # model.py:2
          %1: f32[9] = for(%0, counter="i0", trip=3) {                                      # model.py:3
            body(%d: f32[9]) {
              %2: f32[9] = pad(%y, low=(i0,), high=(-i0 + 8,), value=0)                     # model.py:4
              %3: f32[1] = slice(%d, starts=(i0,), stops=(i0 + 1,), steps=(1,))             # model.py:4
              %4: f32[1] = add(%3, %y)                                                      # model.py:4
              %5: f32[9] = slice_update(%d, %4, starts=(i0,), stops=(i0 + 1,), steps=(1,))  # model.py:4
              yield %5
            }
          }
          return %1
        }
    """
    if not any(node.op.name in ("pad", "slice_update") for node in each_node(graph.nodes)):
        return graph
    plus = None if fast_math else values_without_minus_zero(graph)
    return rewrite(graph, partial(_narrow, plus))


def narrow_sums_fast(graph: Graph) -> Graph:
    """`narrow_sums` with fast math."""
    return narrow_sums(graph, fast_math=True)


class _Part(NamedTuple):
    """Where an array may be other than zero: `value` at a slice of it. `zero` is what stands elsewhere."""

    value: Operand
    attrs: dict[str, Any]
    zero: float


def _narrow(plus: set[Value] | None, rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.name != "add":
        return None
    merged = _merged(rewriter, node) or _joined(plus, rewriter, node)
    if merged is not None:
        return merged
    for base, other in (node.operands, node.operands[::-1]):
        if not isinstance(base, Value) or base.type != node.result.type or not _is_in_memory(rewriter, base):
            continue
        parts = _parts(rewriter, other)
        if parts is None:
            continue
        # -0.0 + 0.0 is 0.0, any number and -0.0 is the number
        nothing = all(copysign(1.0, part.zero) < 0 for part in parts) or base.type.dtype.kind != "float"
        same = plus is None or base in plus or nothing
        if same and all(_fits(base, part) for part in parts):
            result = base
            for part in parts:
                result = _added(rewriter, node, result, part)
            if plus is not None and node.result in plus:
                plus.add(result)
            return (result,)
    return None


def _merged(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    """The sum of two arrays with zeros around them, as zeros around their sum, where they are at one place."""
    a, b = map(rewriter.producer, node.operands)
    if a is None or b is None or not a.op.name == b.op.name == "pad":
        return None
    zeros = a.attrs["value"], b.attrs["value"]
    if zeros != (0, 0) or any(a.attrs[key] != b.attrs[key] for key in ("low", "high")):
        return None
    (x,), (y,) = a.operands, b.operands
    (total,) = rewriter.add(node, OPS["add"], [x, y], [x.type])
    attrs = {**a.attrs, "value": sum(zeros, -0.0) if node.result.type.is_float else 0}
    return rewriter.add(node, OPS["pad"], [total], [node.result.type], **attrs)


def _joined(plus: set[Value] | None, rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    """The sum of parts that are side by side along one dim and leave nothing out, as their concatenation."""
    parts: list[_Part] = []
    for operand in node.operands:
        found = _parts(rewriter, operand)
        if found is None or not all(_are_apart(a, b) for a in found for b in parts):
            return None
        parts.extend(found)
    for dim in range(node.result.type.ndim):
        line = _side_by_side(parts, node.result.type.shape, dim)
        if line is not None:
            values = [_plus_zeros(plus, rewriter, node, part, parts) for part in line]
            return rewriter.add(node, OPS["concat"], values, [node.result.type], dim=dim)
    return None


def _side_by_side(parts: Sequence[_Part], shape: tuple[Dim, ...], dim: int) -> list[_Part] | None:
    """The parts in their order along `dim`, if each is whole in the other dims and together they are all."""
    for part in parts:
        bounds = zip(shape, part.attrs["starts"], part.attrs["stops"], strict=True)
        if any(d != dim and not (_same(start, 0) and _same(stop, n)) for d, (n, start, stop) in enumerate(bounds)):
            return None
        if set(part.attrs["steps"]) != {1} or not isinstance(part.value, Value):
            return None
    line: list[_Part] = []
    at: Dim = 0
    while len(line) < len(parts):
        found = [p for p in parts if all(p is not q for q in line) and _same(p.attrs["starts"][dim], at)]
        if len(found) != 1:
            return None
        line.extend(found)
        at = found[0].attrs["stops"][dim]
    return line if _same(at, shape[dim]) else None


def _same(a: Dim, b: Dim) -> bool:
    return at_least(a - b, 0) and at_least(b - a, 0)


def _plus_zeros(
    plus: set[Value] | None, rewriter: Rewriter, node: Node, part: _Part, parts: Sequence[_Part]
) -> Operand:
    """The part's value plus the zeros that the others have there: -0.0 + 0.0 is 0.0."""
    value = part.value
    exact = plus is None or value in plus or value.type.dtype.kind != "float"
    if exact or all(copysign(1.0, other.zero) < 0 for other in parts if other is not part):
        return value
    return rewriter.add(node, OPS["add"], [value, Literal(0.0, value.type.dtype)], [value.type])[0]


def _parts(rewriter: Rewriter, operand: Operand) -> list[_Part] | None:
    """The parts that an operand is zero but for: none of them has elements of another one."""
    node = rewriter.producer(operand)
    if node is None or node.op.name != "add":
        part = _part(rewriter, operand)
        return None if part is None else [part]
    found: list[_Part] = []
    for inner in node.operands:
        parts = _parts(rewriter, inner)
        if parts is None or not all(_are_apart(a, b) for a in parts for b in found):
            return None  # their sum has an order, which may not change
        found.extend(parts)
    return found


def _are_apart(a: _Part, b: _Part) -> bool:
    bounds = zip(*(part.attrs[key] for part in (a, b) for key in ("starts", "stops")), strict=True)
    return any(at_least(b0 - a1, 0) or at_least(a0 - b1, 0) for a0, a1, b0, b1 in bounds)


def _is_in_memory(rewriter: Rewriter, base: Value) -> bool:
    """Whether a value is not written out where it is read, so that there is something to save."""
    node = rewriter.producer(base)
    return node is None or node.op.kind in _STORED or node.op.name == "clone"


def _part(rewriter: Rewriter, operand: Operand) -> _Part | None:
    node = rewriter.producer(operand)
    if node is None:
        return None
    if node.op.name == "slice_update" and is_zero(known_number(rewriter, node.operands[0])):
        return _Part(node.operands[1], dict(node.attrs), 0.0)
    if node.op.name == "pad" and node.attrs["value"] == 0:
        return _padded(rewriter, node)
    return None


def _padded(rewriter: Rewriter, node: Node) -> _Part | None:
    """The part of a pad of zeros, perhaps of another one or of an array spread by steps."""
    starts: tuple[Dim, ...] = (0,) * node.result.type.ndim
    zero = -0.0
    inner: Node | None = node
    value: Operand = node.result
    while inner is not None and inner.op.name == "pad" and inner.attrs["value"] == 0:
        low, high = inner.attrs["low"], inner.attrs["high"]
        if not all(at_least(d, 0) for d in (*low, *high)):
            return None  # it cuts, or one cannot tell
        (value,) = inner.operands
        starts = tuple(a + b for a, b in zip(starts, low, strict=True))
        zero = zero + float(inner.attrs["value"])  # -0.0 only if all are
        inner = rewriter.producer(value)
    stops = tuple(a + d for a, d in zip(starts, value.type.shape, strict=True))
    steps = (1,) * len(starts)
    if inner is not None and inner.op.name == "dilate":
        (value,) = inner.operands
        steps, zero = inner.attrs["steps"], 0.0  # between the steps
    return _Part(value, {"starts": starts, "stops": stops, "steps": steps}, zero)


def _fits(base: Value, part: _Part) -> bool:
    return infer_types(OPS["slice"], [base], part.attrs) == (part.value.type,)


def _added(rewriter: Rewriter, node: Node, base: Value, part: _Part) -> Value:
    (old,) = rewriter.add(node, OPS["slice"], [base], [part.value.type], **part.attrs)
    (new,) = rewriter.add(node, OPS["add"], [old, part.value], [part.value.type])
    (result,) = rewriter.add(node, OPS["slice_update"], [base, new], [base.type], **part.attrs)
    return result
