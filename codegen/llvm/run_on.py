"""Rows shorter than a vector: a turn of the loop works off as many as come to whole vectors."""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import LoopKernel, Store
from tjit.codegen.llvm.expressions import EmitterOf, ExprEmitter, scopes
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.vectors import I64, counted_loop, i64, numbers, splat
from tjit.codegen.run_on import RunOn

__all__ = ["Rows"]


class Rows:
    """The rows of a kernel of stores alone.

    Args:
        width: lanes of a vector.
        emitter: makes the emitter of lanes, given that of what is the same in all of them.
    """

    def __init__(
        self, b: ir.IRBuilder, ints: Integers, kernel: LoopKernel, run: RunOn, width: int, emitter: EmitterOf
    ) -> None:
        self.b, self.ints, self.run, self.width, self.emitter = b, ints, run, width, emitter
        self.stores = [s for loop in kernel.loops for s in loop.body if isinstance(s, Store)]
        self.roots = [s.value for s in self.stores]
        self.row = run.axes[-1].symbol

    def emit(self, start: ir.Value, stop: ir.Value) -> None:
        """The statements for the rows from `start` to `stop`."""
        ints, rows = self.ints, self.run.rows(self.width)
        for axis in self.run.axes[:-1]:
            ints.symbols[axis.symbol.name] = i64(0)
        scalar = self.emitter(Lanes(None, 1), None)
        scalar.hoist(self.roots, frozenset(axis.symbol for axis in self.run.axes))
        whole = ints.whole_steps(start, stop, rows)
        emitters = self._emitters(None, scalar)
        with scopes((scalar, *emitters)):
            for emitter in emitters:
                emitter.hoist(self.roots, frozenset((self.row,)))
            with counted_loop(self.b, start, whole, i64(rows)) as i, scopes((scalar, *emitters)):
                self._turn(i, emitters)
        extent = self.run.axes[-1].extent
        if not isinstance(extent, int) or extent % rows:
            with counted_loop(self.b, whole, stop, i64(rows)) as i, scopes((scalar,)):
                left = extent % rows if isinstance(extent, int) else ints.sub(stop, i)
                self._turn(i, self._emitters(left, scalar))

    def _emitters(self, rows: ir.Value | int | None, scalar: ExprEmitter) -> list[ExprEmitter]:
        """One for each vector of a turn; `rows`: how many there are, where not all."""
        count, width, inner = self.run.vectors(self.width), self.width, self.run.inner
        count = min(count, -(-rows * inner // width)) if isinstance(rows, int) else count
        masks = [self._mask(rows, n) for n in range(count)]
        lanes = (Lanes(self.run.axes[0].symbol, width, m, self.run, n * width) for n, m in enumerate(masks))
        return [self.emitter(one, scalar) for one in lanes]

    def _mask(self, rows: ir.Value | int | None, n: int) -> ir.Value | None:
        """The lanes of the n-th vector that are in the rows; None: all of them."""
        places = range(n * self.width, (n + 1) * self.width)
        if isinstance(rows, int):
            inside = tuple(int(place < rows * self.run.inner) for place in places)
            return None if all(inside) else numbers(inside, ir.IntType(1))
        if rows is None:
            return None
        left = self.ints.mul(rows, i64(self.run.inner))
        return self.b.icmp_signed("<", numbers(places, I64), splat(self.b, left, self.width))

    def _turn(self, row: ir.Value, emitters: Sequence[ExprEmitter]) -> None:
        self.ints.symbols[self.row.name] = row
        for store in self.stores:
            for emitter in emitters:
                emitter.store(store)
