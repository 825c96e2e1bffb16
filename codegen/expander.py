"""Expressions of a graph's values, written out over the axes of one kernel."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import field, replace
from math import copysign
from typing import Any

from tjit.codegen.items import Program, picked_from, pieces
from tjit.codegen.kernel import Buffer, Compute, Const, Expr, Index, Load, converted
from tjit.codegen.scalars import held
from tjit.dataclass import dataclass
from tjit.dtypes import bool_, i64
from tjit.ir.dims import Dim, DimExpr
from tjit.ir.graph import Literal, Node, Value
from tjit.ir.op import OPS

__all__ = ["BufferOf", "Expander", "Indices"]

Indices = tuple[Dim, ...]
BufferOf = Callable[[Value], Buffer]


@dataclass
class Expander:
    """Writes out the expression of a value at an index, over the axes of one kernel.

    Attributes:
        buffer_of: the buffer of a value that is in memory.
        member: values this kernel makes itself, to what stands for them at an index (None: write them out).
        rows: (value, index) to the row buffer that an earlier loop left it in.
        widened: elements to what stands for them in f32, if they are of f16 or bf16.
        touched: every (value, index) written out since it was last cleared.
    """

    program: Program
    buffer_of: BufferOf
    member: dict[Value, Callable[[Indices], Expr | None]] = field(default_factory=dict)
    rows: dict[tuple[Value, Indices], Expr] = field(default_factory=dict)
    touched: set[tuple[Value, Indices]] = field(default_factory=set)
    memo: dict[tuple[Value, Indices], Expr] = field(default_factory=dict)
    widened: dict[Expr, Expr] = field(default_factory=dict)
    bindings: int = 0

    def number(self, operand: Any, index: Indices) -> Expr:
        """The operand's element, of its own dtype."""
        return converted(self.operand(operand, index), operand.type.dtype, None)

    def operand(self, operand: Any, index: Indices) -> Expr:
        """The operand's element; of f16 and bf16 it may be an f32 that is still to be rounded (`Program.wide`)."""
        if isinstance(operand, Literal):
            return Const(operand.value, operand.dtype)
        key = (operand, index)
        if key in self.rows:
            return self.rows[key]
        self.touched.add(key)
        found = self.memo.get(key)
        if found is None:
            for value in self._needed_first(operand, index):
                self.operand(value, index)
            found = self.memo[key] = self._value(operand, index)
        elif isinstance(found, Compute):
            self._touch_under(operand, index)
        return found

    def _needed_first(self, value: Value, index: Indices) -> list[Value]:
        """What elementwise nodes under `value` read at its own index, each after what it needs itself."""
        order: dict[Value, None] = {}
        stack = [value]  # not recursion: an unrolled program is thousands of operations deep
        while stack:
            top = stack[-1]
            waiting = [o for o in self._written_out(top, index) if o not in order and not self._is_known(o, index)]
            if waiting:
                stack += reversed(waiting)
            else:
                order[stack.pop()] = None
        return list(order)[:-1]

    def _is_known(self, value: Value, index: Indices) -> bool:
        return (value, index) in self.memo or (value, index) in self.rows

    def _written_out(self, value: Value, index: Indices) -> tuple[Value, ...]:
        """What an elementwise node that is written out in place reads, all of it at its own index."""
        node = self.program.producer.get(value)
        if node is None or node.op.kind != "elementwise":
            return ()
        if self.member[value](index) is not None if value in self.member else self.program.in_memory(value):
            return ()
        return tuple(o for o in node.operands if isinstance(o, Value))

    def _touch_under(self, value: Value, index: Indices) -> None:
        """Count a memoised expression's parts as used by this loop too."""
        stack = [value]
        while stack:
            node = self.program.producer[stack.pop()]
            for o in node.operands if node.op.kind == "elementwise" else ():
                if isinstance(o, Value) and (o, index) in self.memo and (o, index) not in self.touched:
                    self.touched.add((o, index))
                    if isinstance(self.memo[o, index], Compute):
                        stack.append(o)

    def _value(self, value: Value, index: Indices) -> Expr:
        if value in self.member:
            found = self.member[value](index)
            if found is not None:
                return found
        elif self.program.in_memory(value):
            return Load(self.buffer_of(value), index)
        return self.node(self.program.producer[value], index)

    def node(self, node: Node, index: Indices) -> Expr:
        """The expression of a node's result, from its operands."""
        kind, name = node.op.kind, node.op.name
        if kind == "elementwise":
            operands = tuple(self.operand(o, index) for o in node.operands)
            if self.program.wide:
                return self._in_f32(node, operands)
            return Compute(node.op, operands, tuple(node.attrs.items()), node.result.type.dtype, node.location)
        if kind == "movement":
            return self._movement(node, index)
        if name == "full":
            value, dtype = node.attrs["value"], node.result.type.dtype
            return Index(value, dtype) if isinstance(value, DimExpr) else Const(value, dtype)
        if name == "iota":
            return Index(index[node.attrs["dim"]], node.result.type.dtype)
        if name in ("gather", "take"):
            return self._gather(node, index)
        assert name in ("concat", "slice_update"), name
        return self._select(node, index)

    def _in_f32(self, node: Node, operands: Sequence[Expr]) -> Expr:
        """What an elementwise node gives, f32 where that is f16 or bf16, of operands that may be f32 in their place."""
        dtype, attrs = node.result.type.dtype, tuple(node.attrs.items())
        if not dtype.is_floating_point:
            # an extreme of a row is found among numbers that are compared with it as both are in memory
            rounded = (converted(o, v.type.dtype, node.location) for o, v in zip(operands, node.operands, strict=True))
            return Compute(node.op, tuple(rounded), attrs, dtype, node.location)
        wide = tuple(self.widened.setdefault(o, _widened(o)) for o in operands)
        if node.op.name == "cast":
            return converted(wide[0], held(dtype), node.location)
        return Compute(node.op, wide, attrs, held(dtype), node.location)

    def _movement(self, node: Node, index: Indices) -> Expr:
        (operand,) = node.operands
        if isinstance(operand, Literal):
            return Const(operand.value, operand.dtype)
        assert node.op.index is not None, node.op.name
        mapped = node.op.index(index, operand.type, **node.attrs)
        if mapped and isinstance(mapped[0], tuple):
            inner, conditions = mapped
            return self._guarded(operand, inner, conditions, node.attrs.get("value", 0))
        return self.operand(operand, mapped)

    def _guarded(self, operand: Value, index: Indices, conditions: Any, fill: Any) -> Expr:
        """The operand's element where the conditions hold, else `fill`; memory is touched only where they hold."""
        if not conditions:
            return self.operand(operand, index)
        element = self.operand(operand, index)
        inner = _with_conditions(element, conditions)
        if isinstance(element, Load) and element.conditions and _same_number(element.fill, fill):
            return inner
        if isinstance(inner, Load):
            return (
                replace(inner, fill=fill)
                if inner.conditions == tuple(conditions)
                else _select(conditions, inner, Const(fill, inner.dtype))
            )
        return _select(conditions, inner, Const(fill, inner.dtype))

    def _gather(self, node: Node, index: Indices) -> Expr:
        source, picks = node.operands[:2]
        assert isinstance(source, Value)
        dim = node.attrs["dim"]
        rank = picks.type.ndim
        self.bindings += 1
        if node.op.name == "gather":
            pick, place = self.operand(picks, index), index
            at = (*place[:dim], None, *place[dim + 1 :])
        else:
            pick = self.operand(picks, index[dim : dim + rank])
            at = (*index[:dim], None, *index[dim + rank :])
        extent = source.type.shape[dim]
        symbol = self.program.named(f"g{self.bindings}", extent)
        where = tuple(symbol.dim if d is None else d for d in at)
        base, reshapes = picked_from(source, self.program.producer, self.program.stored)
        for reshape in reshapes:
            assert reshape.op.index is not None
            where = reshape.op.index(where, reshape.operands[0].type, **reshape.attrs)
        return Load(self.buffer_of(base), where, bindings=((symbol, pick, extent),), location=node.location)

    def _select(self, node: Node, index: Indices) -> Expr:
        found = pieces(node, index)
        operand, inner, conditions = found[-1]
        result = _with_conditions(self.operand(operand, inner), conditions)
        for operand, inner, conditions in reversed(found[:-1]):
            value = _with_conditions(self.operand(operand, inner), conditions)
            result = _select(conditions, value, result) if conditions else value
        return result


def _widened(expr: Expr) -> Expr:
    """An element in what it is computed in."""
    dtype = held(expr.dtype)
    if isinstance(expr, Const) and expr.dtype is not dtype:
        return Const(float(expr.dtype.numpy.type(expr.value)), dtype)
    return converted(expr, dtype, None)


def _same_number(x: bool | int | float, y: bool | int | float) -> bool:
    return x == y and copysign(1, x) == copysign(1, y)


def _with_conditions(expr: Expr, conditions: Any) -> Expr:
    """`expr` with its loads guarded."""
    conditions = tuple(conditions)
    if not conditions:
        return expr
    if isinstance(expr, Load):
        own = tuple(c for c in conditions if c not in expr.conditions)
        bindings = tuple((s, _with_conditions(e, conditions), n) for s, e, n in expr.bindings)
        return replace(expr, conditions=(*expr.conditions, *own), bindings=bindings)
    if isinstance(expr, Compute):
        return replace(expr, operands=tuple(_with_conditions(o, conditions) for o in expr.operands))
    return expr


def _select(conditions: Any, value: Expr, other: Expr) -> Expr:
    test: Expr | None = None
    for e, n in conditions:
        low = Compute(OPS["ge"], (Index(e, i64), Const(0, i64)), (), bool_)
        high = Compute(OPS["lt"], (Index(e, i64), Index(n, i64)), (), bool_)
        both = Compute(OPS["bitwise_and"], (low, high), (), bool_)
        test = both if test is None else Compute(OPS["bitwise_and"], (test, both), (), bool_)
    if test is None:
        return value
    if value.dtype is not other.dtype:
        value, other = _widened(value), _widened(other)
    return Compute(OPS["where"], (test, value, other), (), value.dtype)
