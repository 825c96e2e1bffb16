"""Moves of elements that do nothing, or that one move does: part of `simplify_algebra`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.dtypes import DType, bf16, bool_, f16, f32, f64
from tjit.ir.dims import Dim, is_one, lower_bound
from tjit.ir.graph import Node, Operand
from tjit.passes.rewrite import Rewriter

__all__ = ["simplify_move"]

_WIDER = {f16: (f32, f64), bf16: (f32, f64), f32: (f64,)}  # floats that hold every number of a float


def simplify_move(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
    """What stands for a movement node, a cast or a reduction over no dims; None where it stays as it is."""
    if node.op.name == "slice_update":
        return _update_once(rewriter, node)
    if len(node.operands) != 1 or len(node.results) != 1:
        return None
    (x,) = node.operands
    if _does_nothing(node):
        return (x,)
    join = _JOINS.get(node.op.name)
    inner = rewriter.producer(x)
    if inner is not None and node.op.name == "slice" and inner.op.name == "slice_update":
        return _read_update(inner, node)
    if join is None or inner is None or inner.op is not node.op:
        return None
    attrs = join(inner, node)
    if attrs is None:
        return None
    (source,) = inner.operands
    joined = Node(node.op, [source], attrs, node.results, location=node.location)
    return (source,) if _does_nothing(joined) else tuple(rewriter.emit(joined))


def _read_update(update: Node, read: Node) -> tuple[Operand, ...] | None:
    """A single element that was just written. More of them may be dear to compute again, and are in memory now."""
    value = update.operands[1]
    return (value,) if update.attrs == read.attrs and is_one(value.type.size) else None


def _update_once(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
    """Leaves out an update that writes what is there, as `x[i:j] += y` does, or what the next writes over unread."""
    base, value = node.operands
    read = rewriter.producer(value)
    if read is not None and read.op.name == "slice" and read.operands[0] is base and read.attrs == node.attrs:
        return (base,)
    inner = rewriter.producer(base)
    if inner is None or inner.op is not node.op or inner.attrs != node.attrs:
        return None
    if inner.operands[1] is value:
        return (base,)
    if _is_read(rewriter, inner):
        return None
    return tuple(
        rewriter.emit(Node(node.op, [inner.operands[0], value], node.attrs, node.results, location=node.location))
    )


def _is_read(rewriter: Rewriter, node: Node) -> bool:
    """Whether a node of the same body reads a result of `node`, as far as there are nodes yet, or it has no such."""
    for later in reversed(rewriter.nodes):
        if later is node:
            return False
        if any(value in later.reads() for value in node.results):
            return True
    return True


def _does_nothing(node: Node) -> bool:
    name, attrs = node.op.name, node.attrs
    if node.operands[0].type != node.result.type:
        return False
    if name in ("alias", "detach", "cast", "reshape", "broadcast_to"):
        return True  # of the type it has already
    if name == "pad":
        return all(isinstance(d, int) and d == 0 for d in (*attrs["low"], *attrs["high"]))
    if name == "permute":
        return attrs["dims"] == tuple(range(len(attrs["dims"])))
    if name == "slice":
        return all(s == 1 for s in attrs["steps"])  # of full extent
    return name in ("flip", "sum", "prod", "max", "min", "any", "all") and attrs["dims"] == ()


def _join_cast(inner: Node, outer: Node) -> dict[str, Any] | None:
    source, middle, target = inner.operands[0].type.dtype, inner.attrs["dtype"], outer.attrs["dtype"]
    return {"dtype": target} if _holds(source, middle, target) else None


def _holds(source: DType, middle: DType, target: DType) -> bool:
    """Whether a cast by way of `middle` is the cast from `source` to `target`."""
    if source is bool_:
        return middle is not bool_
    if source.kind == "float":
        return middle in _WIDER.get(source, ()) and (target.kind == "float" or target is bool_)
    if source.kind == middle.kind == target.kind == "int":
        return middle.itemsize >= target.itemsize or _fits(source, middle)
    return source.kind == middle.kind == "int" and _fits(source, middle)


def _fits(source: DType, middle: DType) -> bool:
    """Whether every int of `source` is one of `middle`."""
    if source.is_signed:
        return middle.is_signed and middle.itemsize >= source.itemsize
    return middle is source or (middle.is_signed and middle.itemsize > source.itemsize)


def _join_slice(inner: Node, outer: Node) -> dict[str, Any] | None:
    starts: list[Dim] = []
    stops: list[Dim] = []
    steps: list[int] = []
    for d, extent in enumerate(outer.result.type.shape):
        a, s = inner.attrs["starts"][d], inner.attrs["steps"][d]
        c, e, t = (outer.attrs[name][d] for name in ("starts", "stops", "steps"))
        if s != 1 and lower_bound(extent) < 1:
            return None  # where the last element lies is known only if there is one
        starts.append(a + s * c)
        stops.append(a + e if s == 1 else a + s * c + s * t * (extent - 1) + 1)
        steps.append(s * t)
    return {"starts": tuple(starts), "stops": tuple(stops), "steps": tuple(steps)}


def _join_pad(inner: Node, outer: Node) -> dict[str, Any] | None:
    if repr(inner.attrs["value"]) != repr(outer.attrs["value"]):
        return None
    sides = ("low", "high")
    joined = {k: tuple(a + b for a, b in zip(inner.attrs[k], outer.attrs[k], strict=True)) for k in sides}
    return {**joined, "value": outer.attrs["value"]}


_JOINS: dict[str, Callable[[Node, Node], dict[str, Any] | None]] = {
    "broadcast_to": lambda inner, outer: dict(outer.attrs),
    "reshape": lambda inner, outer: dict(outer.attrs),
    "permute": lambda inner, outer: {"dims": tuple(inner.attrs["dims"][d] for d in outer.attrs["dims"])},
    "flip": lambda inner, outer: {"dims": tuple(sorted(set(inner.attrs["dims"]) ^ set(outer.attrs["dims"])))},
    "cast": _join_cast,
    "slice": _join_slice,
    "pad": _join_pad,
}
