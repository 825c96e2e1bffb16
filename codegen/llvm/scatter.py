"""Scatter kernels: in each element one point after the other, in order."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Axis, Load, ScatterKernel, Store, kernel_symbols
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.rows_ahead import ask_for, find_targets_ahead
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, i64, lanes_below

__all__ = ["emit_scatter"]


def emit_scatter(kernel: ScatterKernel, target: Target) -> ir.Module:
    """The module that defines `kernel.name` by the convention of docs/design/0001."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), kernel.name)
    _Scatter(function, kernel, target).emit()
    return module


class _Scatter:
    """The one emission of a kernel."""

    def __init__(self, function: ir.Function, kernel: ScatterKernel, target: Target) -> None:
        self.kernel, self.target = kernel, target
        self.args, self.task, self.tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.ints = Integers(self.b)
        symbols = kernel_symbols(kernel)
        for i, symbol in enumerate(symbols):
            at = self.b.gep(self._argument(0), [i64(i)], source_etype=I64)
            self.ints.symbols[symbol.name] = self.b.load(at, typ=I64)
        self.pointers = {buffer.name: self._argument(3 + i) for i, buffer in enumerate(kernel.buffers)}
        self.error = self._argument(1)
        self.ahead = find_targets_ahead(kernel)

    def _argument(self, i: int) -> ir.Value:
        return self.b.load(self.b.gep(self.args, [i64(i)], source_etype=PTR), typ=PTR)

    def emit(self) -> None:
        kernel = self.kernel
        self.ranges = {axis.symbol: self._range(axis) for axis in kernel.axes}
        self._loops([axis for axis in kernel.axes if axis is not kernel.vector])
        self.b.ret_void()

    def _range(self, axis: Axis) -> tuple[ir.Value, ir.Value]:
        """The part of an axis that this task runs over."""
        ints, extent = self.ints, self.ints.dim(axis.extent)
        if axis is not self.kernel.shared:
            return i64(0), extent
        bounds = (ints.mul(n, extent) for n in (self.task, ints.add(self.task, i64(1))))
        first, last = (ints.div(bound, self.tasks) for bound in bounds)
        return first, last

    def _loops(self, axes: Sequence[Axis]) -> None:
        if not axes:
            self._line()
            return
        axis, *inner = axes
        with self.ints.loop(*self.ranges[axis.symbol]) as i:
            self.ints.symbols[axis.symbol.name] = i
            self._loops(inner)

    def _line(self) -> None:
        """The points along the lanes' axis, or the one point."""
        ints, vector = self.ints, self.kernel.vector
        scalar = self._emitter(Lanes(None, 1))
        with scalar.scope():
            for symbol, value, extent in self.kernel.bindings:
                ints.symbols[symbol.name] = scalar.bind(value, extent, None)
        if vector is None:
            self._point(scalar)
            return
        first, last = self.ranges[vector.symbol]
        width = self._width(vector)
        whole = ints.whole_steps(first, last, width)
        rows = self._rows_ahead(vector)
        with ints.loop(first, whole, width) as i:
            ints.symbols[vector.symbol.name] = i
            ask_for(self.b, rows, i, width, write=True)
            self._point(self._emitter(Lanes(vector.symbol, width)))
        if width > 1 and not self._is_whole(vector, width):
            with ints.loop(whole, last, width) as i:
                ints.symbols[vector.symbol.name] = i
                inside = lanes_below(self.b, ints.sub(last, i), width)
                self._point(self._emitter(Lanes(vector.symbol, width, inside)))

    def _rows_ahead(self, vector: Axis) -> list[tuple[ir.Value, int]]:
        """The rows that a later point is going to change."""
        along = [axis for axis in self.kernel.axes if axis is not vector][-1:]
        if self.ahead is None or not along:
            return []
        (axis,), symbols, ints = along, self.ints.symbols, self.ints
        here = symbols[axis.symbol.name]
        _, end = self.ranges[axis.symbol]
        symbols[axis.symbol.name] = ints.min(ints.add(here, i64(self.ahead.distance)), ints.sub(end, i64(1)))
        rows = self.ahead.begin(self._emitter(Lanes(None, 1)), vector)
        symbols[axis.symbol.name] = here
        return rows

    def _width(self, vector: Axis) -> int:
        """The lanes of a vector: no more than there are points."""
        width = self.target.lanes(max(4, self.kernel.target.dtype.itemsize))
        while isinstance(vector.extent, int) and width > 1 and vector.extent <= width // 2:
            width //= 2
        return width

    def _is_whole(self, vector: Axis, width: int) -> bool:
        """Whether every task's points along the lanes are whole vectors."""
        extent = vector.extent
        return vector is not self.kernel.shared and isinstance(extent, int) and extent % width == 0

    def _emitter(self, lanes: Lanes) -> ExprEmitter:
        return ExprEmitter(self.b, self.target, lanes, self.ints, self.pointers, error=self.error)

    def _point(self, emitter: ExprEmitter) -> None:
        kernel = self.kernel
        with emitter.scope():
            value = emitter.emit(kernel.value)
            if kernel.add:
                value = emitter.scalars.add(emitter.emit(Load(kernel.target, kernel.index)), value)
            emitter.put(Store(kernel.target, kernel.index, kernel.value), value)
