"""Reductions of many columns, row by row: memory is read in long runs.

What the columns of a block have come to is in the first-level cache. Several rows are joined before they are added to
it, so that it is read and written once for all of them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Axis, Compute, Load, LoopKernel, Reduce, Store, walk
from tjit.codegen.llvm.expressions import EmitterOf, ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.reductions import join, neutral, running_dtype
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.vectors import counted_loop, i64, lanes_below, stack
from tjit.ir.dims import coefficient, product, symbols, upper_bound

__all__ = ["WideColumns", "block_of_columns", "goes_by_rows"]

_KINDS = frozenset({"sum", "prod", "max", "min", "any", "all"})
_WIDE = 512  # columns, at least
_TALL = 32  # rows, at least
_BLOCK = 2048  # columns of one reduction, at most
_BLOCKS = 8  # of a row, at least where blocks stay wide
_TOGETHER = 8  # rows
_LIGHT = 8  # computations of an element: below, memory is what a kernel waits for


def goes_by_rows(kernel: LoopKernel) -> bool:
    """Whether a kernel is of light reductions of columns that are many and neighbours in memory, and their results."""
    if kernel.vector is None or kernel.cross is not None or not kernel.loops or kernel.vector not in kernel.parallel:
        return False
    first, *others = kernel.loops
    extent, rows = kernel.vector.extent, upper_bound(product(a.extent for a in first.axes))
    if rows is not None and rows < _TALL:
        return False
    if not first.axes or any(loop.axes for loop in others) or not isinstance(extent, int) or extent < _WIDE:
        return False
    joined = all(isinstance(s, Reduce) and s.kind in _KINDS for s in first.body)
    if not joined or not all(isinstance(s, Store) for loop in others for s in loop.body):
        return False
    exprs = [e for s in first.body for e in walk(s.value)]
    if sum(isinstance(e, Compute) for e in exprs) > _LIGHT:
        return False
    return all(_is_read_in_runs(e, kernel) for e in exprs if isinstance(e, Load))


def _is_read_in_runs(load: Load, kernel: LoopKernel) -> bool:
    assert kernel.vector is not None
    offset = load.buffer.offset(load.index)
    along = kernel.vector.symbol not in symbols(offset) or coefficient(offset, kernel.vector.symbol) == 1
    return along and not load.bindings and not load.conditions


def block_of_columns(kernel: LoopKernel, width: int) -> int:
    """How many columns are a unit of work: whole vectors of `width`."""
    assert kernel.vector is not None
    assert isinstance(kernel.vector.extent, int)
    most = _BLOCK // len(kernel.loops[0].body)
    block = max(_WIDE, min(most, -(-kernel.vector.extent // _BLOCKS)))
    return -(-block // width) * width


class WideColumns:
    """The blocks of a kernel that goes by rows.

    Args:
        width: lanes of a vector, more than one.
        emitter: makes the emitter of lanes, given that of what is the same in all of them.
        entry: the function's first block.
    """

    def __init__(
        self, b: ir.IRBuilder, ints: Integers, kernel: LoopKernel, width: int, emitter: EmitterOf, entry: ir.Block
    ) -> None:
        assert kernel.vector is not None
        self.b, self.ints, self.width, self.emitter = b, ints, width, emitter
        self.vector = kernel.vector
        self.loop, *others = kernel.loops
        self.reduces = [s for s in self.loop.body if isinstance(s, Reduce)]
        self.stores = [s for loop in others for s in loop.body if isinstance(s, Store)]
        self.scalar = emitter(Lanes(None, 1), None)
        size = block_of_columns(kernel, width)
        self.kept = [stack(b, ir.ArrayType(self._element(r), size), align=64, block=entry) for r in self.reduces]

    def _element(self, reduce: Reduce) -> ir.Type:
        return self.scalar.scalars.register_type(running_dtype(reduce))

    def emit(self, start: ir.Value, stop: ir.Value) -> None:
        """Reduce the columns from `start` to `stop`, and store what is made of them."""
        self.start, self.stop = start, stop
        axes = self.loop.axes
        roots = [s.value for s in self.loop.body]
        self.scalar.hoist(roots, frozenset((self.vector.symbol, *(a.symbol for a in axes))))
        for emitter, i in self._vectors():
            for reduce, slot in zip(self.reduces, self._slots(i), strict=True):
                dtype = running_dtype(reduce)
                nothing = emitter.scalars.constant(neutral(reduce.kind, dtype), dtype)
                self.b.store(nothing.value, slot)
        for row, count in self._rows(axes):
            for emitter, i in self._vectors():
                emitter.hoist(roots, frozenset((axes[-1].symbol,)))
                self._take_in(emitter, i, row, count)
        for emitter, i in self._vectors():
            for reduce, slot in zip(self.reduces, self._slots(i), strict=True):
                emitter.reduced[id(reduce)] = emitter.scalars.cast(self._loaded(emitter, reduce, slot), reduce.dtype)
            for store in self.stores:
                emitter.store(store)

    def _vectors(self) -> Iterator[tuple[ExprEmitter, ir.Value]]:
        """Loops over the block: the emitter of a vector, and where it begins."""
        b, ints, width = self.b, self.ints, self.width
        whole = ints.whole_steps(self.start, self.stop, width)
        with counted_loop(b, self.start, whole, i64(width)) as i, self.scalar.scope():
            ints.symbols[self.vector.symbol.name] = i
            yield self.emitter(Lanes(self.vector.symbol, width), self.scalar), i
        assert isinstance(self.vector.extent, int)
        if self.vector.extent % width:
            with counted_loop(b, whole, self.stop, i64(width)) as i, self.scalar.scope():
                ints.symbols[self.vector.symbol.name] = i
                mask = lanes_below(b, ints.sub(self.stop, i), width)
                yield self.emitter(Lanes(self.vector.symbol, width, mask), self.scalar), i

    def _rows(self, axes: Sequence[Axis]) -> Iterator[tuple[ir.Value, int]]:
        """Loops over the rows: the first of some that are taken in together, and how many they are."""
        first, *inner = axes
        extent = self.ints.dim(first.extent)
        if inner:
            with counted_loop(self.b, i64(0), extent, i64(1)) as i, self.scalar.scope():
                self.ints.symbols[first.symbol.name] = i
                yield from self._rows(inner)
            return
        whole = self.ints.whole_steps(i64(0), extent, _TOGETHER)
        with counted_loop(self.b, i64(0), whole, i64(_TOGETHER)) as i, self.scalar.scope():
            yield i, _TOGETHER
        if not isinstance(first.extent, int) or first.extent % _TOGETHER:
            with counted_loop(self.b, whole, extent, i64(1)) as i, self.scalar.scope():
                yield i, 1

    def _take_in(self, emitter: ExprEmitter, i: ir.Value, row: ir.Value, count: int) -> None:
        """Join `count` rows of a vector of columns, and that with what the columns have come to."""
        s, symbol = emitter.scalars, self.loop.axes[-1].symbol
        values: list[list[Lane]] = [[] for _ in self.reduces]
        for n in range(count):
            self.ints.symbols[symbol.name] = self.ints.add(row, i64(n))
            with emitter.scope():
                for reduce, found in zip(self.reduces, values, strict=True):
                    found.append(s.cast(emitter.emit(reduce.value), running_dtype(reduce)))
        for reduce, slot, found in zip(self.reduces, self._slots(i), values, strict=True):
            while len(found) > 1:
                found = [join(s, reduce.kind, x, y) for x, y in zip(found[::2], found[1::2], strict=True)]
            total = join(s, reduce.kind, self._loaded(emitter, reduce, slot), found[0])
            self.b.store(total.value, slot)

    def _slots(self, i: ir.Value) -> list[ir.Value]:
        """Where each reduction's vector is whose columns begin at i."""
        at = self.ints.sub(i, self.start)
        return [
            self.b.gep(k, [at], source_etype=self._element(r)) for r, k in zip(self.reduces, self.kept, strict=True)
        ]

    def _loaded(self, emitter: ExprEmitter, reduce: Reduce, slot: ir.Value) -> Lane:
        dtype = running_dtype(reduce)
        return Lane(self.b.load(slot, typ=emitter.scalars.register_type(dtype)), dtype)
