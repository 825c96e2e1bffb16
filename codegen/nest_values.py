"""The values of a nest: registers, arrays in memory, and what is computed where it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tjit.codegen.expander import BufferOf, Expander
from tjit.codegen.items import Program
from tjit.codegen.kernel import (
    Axis,
    Bind,
    Buffer,
    Compute,
    Const,
    Counted,
    Expr,
    Fold,
    Index,
    Let,
    Load,
    Local,
    NestStatement,
    Store,
    converted,
)
from tjit.codegen.nest_memory import are_apart, is_small, most_elements
from tjit.codegen.scalars import held
from tjit.dtypes import DType
from tjit.ir.dims import Dim, DimExpr, Symbol, counter, is_one, product, symbols
from tjit.ir.graph import Graph, Node, Operand, Value
from tjit.ir.op import OPS

__all__ = ["Indices", "NestValues", "NotNestError", "at", "is_scalar", "whole"]

Indices = tuple[Dim, ...]


class NotNestError(Exception):
    """A control node that cannot be, or had better not be, one kernel."""


def is_scalar(value: Value) -> bool:
    """Whether a value has one element, whatever its rank."""
    return all(is_one(d) for d in value.type.shape)


class NestValues(Expander):
    """What stands for the values of a nest's nodes, and the statements that compute them.

    Attributes:
        scalars: values of one element, in registers.
        arrays: values in memory. `current` is the latest of each buffer, `written` where each was written to become so.
        owned: the buffers that the present region may write.
        pending: arrays that are computed where they are used, and the place of the last use in their region.
        reads: the buffers that pending arrays read, as far as it was asked.
        ranges: the largest value of each counter and bound symbol; `unbounded` are those that have none.
        scratch: memory of the nest's own, and how many elements it has at most.
        failure: the number of a node's check.
    """

    def __init__(self, nodes: Iterable[Node], buffer_of: BufferOf) -> None:
        super().__init__(Program(Graph("nest", (), tuple(nodes), ())), buffer_of)
        self.scalars: dict[Value, Expr] = {}
        self.arrays: dict[Value, Buffer] = {}
        self.current: dict[str, Value] = {}
        self.written: dict[Value, tuple[Value, Indices]] = {}
        self.owned: set[str] = set()
        self.pending: dict[Value, int] = {}
        self.reads: dict[Value, frozenset[str]] = {}
        self.ranges: dict[Symbol, Dim] = {}
        self.unbounded: set[Symbol] = set()
        self.scratch: list[tuple[Buffer, Dim]] = []
        self.body: list[NestStatement] = []
        self.failure: Callable[[Node], int] = lambda node: 0
        self._locals = 0
        self._axes = 0
        self._guards = 0

    # -- statements ----------------------------------------------------------------------------------------------------

    @contextmanager
    def statements(self) -> Iterator[list[NestStatement]]:
        """Collect statements apart; what they compute is not known outside."""
        before, memo = self.body, self.memo
        self.body, self.memo = [], {}
        try:
            yield self.body
        finally:
            self.body, self.memo = before, memo

    @contextmanager
    def loops(self, axes: Sequence[Axis]) -> Iterator[None]:
        """Collect statements inside of loops over axes."""
        with self.statements() as body:
            yield
        for axis in reversed(axes):
            body = [Counted(axis, tuple(body))]
        self.body += body

    @contextmanager
    def region(self) -> Iterator[list[NestStatement]]:
        """Collect the statements of a region. What it puts in memory is not there outside."""
        before = self.pending, self.owned, self.arrays
        self.pending, self.owned, self.arrays = {}, set(), dict(self.arrays)
        with self.statements() as body:
            yield body
        self.pending, self.owned, self.arrays = before

    def local(self, dtype: DType) -> Local:
        self._locals += 1
        return Local(f"v{self._locals - 1}", dtype)

    def symbol(self, name: str, low: int, high: Dim | None) -> Symbol:
        found = Symbol(name, low, high)
        if high is None:
            self.unbounded.add(found)
        else:
            self.ranges[found] = high
        return found

    def let(self, value: Value, expr: Expr, node: Node | None = None) -> None:
        """Put a value of one element into a register."""
        if isinstance(expr, (Local, Const, Index)):
            self.scalars[value] = expr
            return
        local = self.local(value.type.dtype)
        self.body.append(Let(local, expr, None if node is None else node.location))
        self.scalars[value] = local

    def evaluate(self, node: Node) -> None:
        """Compute a node's one element."""
        self.memo.clear()
        self.let(node.result, self.node(node, (0,) * node.result.type.ndim), node)

    def domain(self, shape: Indices) -> tuple[tuple[Axis, ...], Indices]:
        """Axes over a shape, and the index of the element that they are at."""
        axes: list[Axis] = []
        index: list[Dim] = []
        for extent in shape:
            if is_one(extent):
                index.append(0)
                continue
            symbol = counter(f"d{self._axes}", extent)
            self._axes += 1
            self.ranges[symbol] = extent - 1
            axes.append(Axis(symbol, extent))
            index.append(symbol.dim)
        return tuple(axes), tuple(index)

    # -- elements ------------------------------------------------------------------------------------------------------

    def operand(self, operand: Operand, index: Indices = ()) -> Expr:
        if isinstance(operand, Value):
            if operand in self.scalars:
                return self.scalars[operand]
            if operand in self.arrays:
                return self._load(operand, index)
        return super().operand(operand, index)

    def _load(self, value: Value, index: Indices) -> Load:
        buffer = self.arrays[value]
        latest = self.current[buffer.name]
        while latest is not value:
            if latest not in self.written:
                raise NotNestError(f"{value!r} is read after its memory was overwritten")
            latest, at = self.written[latest]
            if not are_apart(index, at):
                raise NotNestError(f"{value!r} is read after its memory was overwritten")
        return Load(buffer, index)

    def _written_out(self, value: Value, index: Indices) -> tuple[Value, ...]:
        return () if value in self.scalars or value in self.arrays else super()._written_out(value, index)

    def _value(self, value: Value, index: Indices) -> Expr:
        node = self.program.producer.get(value)
        if node is None:
            raise NotNestError(f"{value!r} is not known inside")
        return self.node(node, index)

    def node(self, node: Node, index: Indices) -> Expr:
        name = node.op.name
        if node.op.kind == "reduce":
            return self._reduce(node, index)
        if name == "dot":
            return self._dot(node, index)
        if name == "full" and isinstance(node.attrs["value"], DimExpr):
            return Index(node.attrs["value"], node.result.type.dtype)
        if name == "constant":
            return self._constant(node, index)
        if node.op.kind not in ("elementwise", "movement", "create", "index"):
            raise NotNestError(f"{name} has no place in a nest")
        return super().node(node, index)

    def _constant(self, node: Node, index: Indices) -> Expr:
        value = node.result
        if is_scalar(value):
            return Const(np.asarray(node.attrs["value"], value.type.dtype.numpy).item(), value.type.dtype)
        self.place(value, self.buffer_of(value))
        return self._load(value, index)

    def _reduce(self, node: Node, index: Indices) -> Local:
        operand, dims = node.operands[0], node.attrs["dims"]
        shape = operand.type.shape
        axes, places = self.domain(tuple(shape[d] for d in dims))
        at: list[Dim] = list(index) if node.attrs["keepdim"] else [0] * len(shape)
        if not node.attrs["keepdim"]:
            kept = [d for d in range(len(shape)) if d not in dims]
            for d, i in zip(kept, index, strict=True):
                at[d] = i
        for d, i in zip(dims, places, strict=True):
            at[d] = i
        return self._fold(node, node.op.name, axes, lambda: self.operand(operand, tuple(at)))

    def _dot(self, node: Node, index: Indices) -> Local:
        a, b = node.operands
        axes, (k,) = self.domain(a.type.shape[-1:])
        dtype = held(node.result.type.dtype)

        def term() -> Expr:
            operands = self.operand(a, (*index[:-1], k)), self.operand(b, (*index[:-2], k, index[-1]))
            return Compute(OPS["mul"], tuple(converted(o, dtype, node.location) for o in operands), (), dtype)

        return self._fold(node, "sum", axes, term)

    def _fold(self, node: Node, kind: str, axes: tuple[Axis, ...], term: Callable[[], Expr]) -> Local:
        local = self.local(node.result.type.dtype)
        with self.statements() as body:
            value = term()
        self.refuse_large((*self._around, *axes), [value])
        self.body.append(Fold(local, kind, axes, tuple(body), value, node.location))
        return local

    def _gather(self, node: Node, index: Indices) -> Expr:
        if self._guards:
            raise NotNestError("an element at a computed place is wanted only under a condition")
        source, picks = node.operands[:2]
        dim, rank = node.attrs["dim"], picks.type.ndim
        if node.op.name == "gather":
            pick, before, after = self.operand(picks, index), index[:dim], index[dim + 1 :]
        else:
            pick = self.operand(picks, index[dim : dim + rank])
            before, after = index[:dim], index[dim + rank :]
        return self.operand(source, (*before, self.checked(node, pick, source.type.shape[dim]), *after))

    def checked(self, node: Node, pick: Expr, extent: Dim) -> Dim:
        """A computed place as an index; the nest ends where it is none of the extent's."""
        self.bindings += 1
        symbol = self.symbol(f"g{self.bindings}", 0, extent - 1)
        self.body.append(Bind(symbol, pick, 0, extent - 1, self.failure(node), node.location))
        return symbol.dim

    def _guarded(self, operand: Value, index: Indices, conditions: Any, fill: Any) -> Expr:
        with self._guard(conditions):
            return super()._guarded(operand, index, conditions, fill)

    def _select(self, node: Node, index: Indices) -> Expr:
        with self._guard(True):
            return super()._select(node, index)

    @contextmanager
    def _guard(self, conditions: Any) -> Iterator[None]:
        self._guards += bool(conditions)
        yield
        self._guards -= bool(conditions)

    # -- memory --------------------------------------------------------------------------------------------------------

    def place(self, value: Value, buffer: Buffer) -> None:
        """`value` is what is in `buffer` now."""
        self.arrays[value] = buffer
        self.current[buffer.name] = value

    def materialise(self, value: Value, source: Value | None = None) -> None:
        """Compute an array now, into scratch memory; `source` is what it is a copy of."""
        shape = value.type.shape
        most = most_elements(shape, self.ranges)
        if most is None or any(s in self.unbounded for d in shape for s in symbols(d)):
            raise NotNestError(f"the size of {value!r} has no bound")
        strides = tuple(product(shape[d + 1 :]) for d in range(len(shape)))
        buffer = Buffer(f"m{len(self.scratch)}", value.type.dtype, shape, strides, row=True)
        self.scratch.append((buffer, most))
        self.fill(value if source is None else source, buffer, *whole(value))
        self.place(value, buffer)
        self.own(value)
        self.pending.pop(value, None)

    def own(self, value: Value) -> None:
        """Let the present region write over `value`, if that is an array in memory."""
        if value in self.arrays:
            self.owned.add(self.arrays[value].name)

    def fill(self, value: Operand, buffer: Buffer, starts: Indices, steps: Indices) -> None:
        """Store an array into part of a buffer, point by point."""
        axes, index = self.domain(value.type.shape)
        with self.inside(axes), self.loops(axes):
            expr = self.operand(value, index)
            self.refuse_large(self._around, [expr])
            self.body.append(Store(buffer, at(starts, steps, index), expr, self._location(value)))

    _around: tuple[Axis, ...] = ()

    @contextmanager
    def inside(self, axes: tuple[Axis, ...]) -> Iterator[None]:
        before, self._around = self._around, axes
        try:
            yield
        finally:
            self._around = before

    def refuse_large(self, axes: tuple[Axis, ...], exprs: Sequence[Expr]) -> None:
        if not is_small(axes, exprs):
            raise NotNestError("kernels of many threads walk such arrays faster")

    def _location(self, value: Operand) -> Any:
        node = self.program.producer.get(value) if isinstance(value, Value) else None
        return None if node is None else node.location


def whole(value: Value) -> tuple[Indices, Indices]:
    """The starts and steps of all of an array."""
    return (0,) * value.type.ndim, (1,) * value.type.ndim


def at(starts: Indices, steps: Indices, index: Indices) -> Indices:
    return tuple(a + i * s for a, i, s in zip(starts, index, steps, strict=True))
