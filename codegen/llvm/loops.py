"""Loop kernels: parallel points over tasks, loops with lanes along one axis, reductions in registers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import llvmlite.ir as ir

from tjit.codegen.axes import statements
from tjit.codegen.kernel import Axis, Loop, LoopKernel, Reduce, Scan, Store, kernel_symbols
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter, scopes
from tjit.codegen.llvm.first_places import are_looked_for
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.interleaved import Turns, interleaved
from tjit.codegen.llvm.lane_loop import LaneLoop, backwards, emit_statements, place_in
from tjit.codegen.llvm.lookups import load_tables
from tjit.codegen.llvm.loop_plan import plan_loops, takes_rows_together
from tjit.codegen.llvm.narrow_indices import with_narrow_indices
from tjit.codegen.llvm.paired_halves import emit_pairs
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.reductions import Accumulation
from tjit.codegen.llvm.register_tiles import RegisterTiles, fits_registers
from tjit.codegen.llvm.rows_ahead import ask_for
from tjit.codegen.llvm.run_on import Rows
from tjit.codegen.llvm.scans import RowState, Running, registers
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.tiles import Tiles
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, declare, i64, lanes_below, stack
from tjit.codegen.llvm.wide_columns import WideColumns
from tjit.codegen.segments import segments
from tjit.ir.dims import Dim, Symbol, product

__all__ = ["emit_loops"]

_IN_FLIGHT = 8  # vectors that reductions of columns take in at once


def emit_loops(kernel: LoopKernel, target: Target) -> ir.Module:
    """The module that defines `kernel.name` by the convention of docs/design/0001."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    _Loops(with_narrow_indices(kernel), target, module).emit()
    return module


def _blocks(symbol: Symbol, axis: Axis, size: int) -> Axis:
    """The blocks of `size` points of an axis."""
    return Axis(symbol, (axis.extent + (size - 1)) // size)


class _Loops:
    def __init__(self, kernel: LoopKernel, target: Target, module: ir.Module) -> None:
        self.kernel = kernel
        self.target = target
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), kernel.name)
        self.args, self.task, self.tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.entry = self.b.block
        self.ints = Integers(self.b)
        self.plan = plan = plan_loops(kernel, target)
        self.columns, self.run, self.shape = plan.columns, plan.run, plan.shape
        self.past_caches = False
        self.rows_ahead: list[tuple[ir.Value, int]] = []
        self.in_registers = fits_registers(kernel, target, self.shape.width)
        tiled = kernel.cross is not None and not self.in_registers
        self.aligned = True  # vectors of columns begin at multiples of their width
        self.tiles = Tiles(kernel, target, self.shape.width * self.shape.unroll) if tiled else None
        self.loops = kernel.loops if self.tiles is None else self.tiles.loops

    # -- the function --------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        self._load_arguments()
        self._emit_past_caches()
        self.b.ret_void()

    def _emit_past_caches(self) -> None:
        """The points, with stores past the caches where the buffers are aligned for it."""
        stores = (s for loop in self.loops for s in loop.body if isinstance(s, Store) and s.past_caches)
        pointers = [self.pointers[name] for name in dict.fromkeys(s.buffer.name for s in stores)]
        if not pointers:
            self._emit_units()
            return
        low = i64(0)
        for pointer in pointers:
            low = self.b.or_(low, self.b.and_(self.b.ptrtoint(pointer, I64), i64(63)))
        with self.b.if_else(self.b.icmp_unsigned("==", low, i64(0))) as (aligned, other):
            with aligned:
                self.past_caches = True
                self._emit_units()
                self._drain()
            with other:
                self.past_caches = False
                self._emit_units()

    def _emit_units(self) -> None:
        if self.tiles is not None:
            self._emit_tiles(self.tiles)
        elif self.in_registers:
            self._emit_register_tiles()
        else:
            self._emit_points()

    def _share(self, units: Dim) -> tuple[ir.Value, ir.Value]:
        """The first of this task's units, and the end."""
        total = self.ints.dim(units)
        first = self.ints.div(self.ints.mul(self.task, total), self.tasks)
        return first, self.ints.div(self.ints.mul(self.ints.add(self.task, i64(1)), total), self.tasks)

    @contextmanager
    def _each_block(self, height: int | None, width: int) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Where this task's blocks of `height` (None: all) by `width` begin along `cross` and along the lanes."""
        cross, vector, ints = self.kernel.cross, self.kernel.vector, self.ints
        assert cross is not None
        assert vector is not None
        top, start = Symbol(f"{vector.symbol.name}.cross", 0, None), Symbol(f"{vector.symbol.name}.along", 0, None)
        down = [] if height is None else [_blocks(top, cross, height)]
        axes = (*self.kernel.parallel[: -1 - len(down)], *down, _blocks(start, vector, width))
        ints.symbols[top.name] = i64(0)
        first, last = self._share(product(a.extent for a in axes))
        with counted_loop(self.b, first, last, i64(1)) as unit:
            self._bind(axes, unit)
            yield ints.mul(ints.symbols[top.name], i64(height or 1)), ints.mul(ints.symbols[start.name], i64(width))

    def _emit_tiles(self, tiles: Tiles) -> None:
        """A block at a time: in from where it is read, through the statements, out to where it is stored."""
        self.pointers.update((b.name, self._alloca_row(b)) for b in tiles.scratch)
        with self._each_block(None if tiles.whole else tiles.height, tiles.width) as (top, start):
            self.ints.symbols.update({tiles.height_symbol.name: top, tiles.width_symbol.name: start})
            stop = self.ints.min(self.ints.add(start, i64(tiles.width)), self.ints.dim(tiles.vector.extent))
            tiles.fill(self.b, self.ints, self.pointers)
            if tiles.whole:
                self._column_block(start, stop)
            else:
                self._tile_rows(tiles, top, start, stop)
            tiles.drain(self.b, self.ints, self.pointers)

    def _emit_register_tiles(self) -> None:
        tiles = RegisterTiles(self.b, self.ints, self.kernel, self.shape.width, self._lanes)
        with self._each_block(tiles.height, tiles.width) as (top, start):
            tiles.emit(top, start, self._stores)

    def _stores(self, emitter: ExprEmitter) -> None:
        for statement in statements(self.kernel):
            assert isinstance(statement, Store)
            emitter.store(statement)

    def _tile_rows(self, tiles: Tiles, top: ir.Value, start: ir.Value, stop: ir.Value) -> None:
        bottom = self.ints.min(self.ints.add(top, i64(tiles.height)), self.ints.dim(tiles.cross.extent))
        with counted_loop(self.b, top, bottom, i64(1)) as row:
            self.ints.symbols[tiles.cross.symbol.name] = row
            self._column_block(start, stop)

    def _drain(self) -> None:
        """Have other threads see the stores past the caches before they see that the task is done."""
        if self.target.architecture == "x86_64":  # where such stores are ordered by nothing else
            self.b.call(declare(self.b, "llvm.x86.sse.sfence", ir.FunctionType(ir.VoidType(), [])), [])

    def _emit_points(self) -> None:
        outer, units, block = self.plan.units
        first, last = self._share(product((*(a.extent for a in outer), units)))
        self.rows = {b.name: self._alloca_row(b) for b in self._row_buffers()}
        self.pointers.update(self.rows)
        assert not (self.rows and self.columns), "a row buffer has no place for each of several lanes"
        with counted_loop(self.b, first, last, i64(1)) as unit:
            if self.columns:
                assert self.kernel.vector is not None
                # strided reads: go down the rows of one narrow block, whose cache lines serve all of them
                count = self.ints.dim(product(a.extent for a in outer) if self.plan.strided else units)
                number, rest = self.ints.mod(unit, count), self.ints.div(unit, count)
                if self.plan.strided:
                    number, rest = rest, number
                self._bind(outer, rest)
                start = self.ints.mul(number, i64(block))
                along = self.kernel.vector if self.run is None else self.run.axes[-1]
                stop = self.ints.min(self.ints.add(start, i64(block)), self.ints.dim(along.extent))
                if self.run is not None:
                    Rows(self.b, self.ints, self.kernel, self.run, self.shape.width, self._lanes).emit(start, stop)
                elif self.plan.wide:
                    width = self.shape.width
                    WideColumns(self.b, self.ints, self.kernel, width, self._lanes, self.entry).emit(start, stop)
                elif self.plan.by_rows:
                    self._block_by_rows(start, stop, block)
                else:
                    self._begin_rows_ahead(outer, rest, last)
                    self._segments(start, stop)
            else:
                self._bind(outer, unit)
                self._rows()

    def _begin_rows_ahead(self, outer: Sequence[Axis], point: ir.Value, last: ir.Value) -> None:
        """Find the rows that a later point of this task reads, where its points read rows that indices pick."""
        ahead = self.plan.rows_ahead
        if ahead is None:
            return
        assert self.kernel.vector is not None
        later = self.ints.min(self.ints.add(point, i64(ahead.distance)), self.ints.sub(last, i64(1)))
        self._bind(outer, later)
        self.rows_ahead = ahead.begin(self._emitter(Lanes(None, 1), {}), self.kernel.vector)
        self._bind(outer, point)

    def _load_arguments(self) -> None:
        b = self.b

        def argument(i: int) -> ir.Value:
            return b.load(b.gep(self.args, [i64(i)], source_etype=PTR), typ=PTR)

        symbols = kernel_symbols(self.kernel)
        if symbols:
            values = argument(0)
            for i, symbol in enumerate(symbols):
                self.ints.symbols[symbol.name] = b.load(b.gep(values, [i64(i)], source_etype=I64), typ=I64)
        self.error = argument(1)
        self.pointers = {buffer.name: argument(3 + i) for i, buffer in enumerate(self.kernel.buffers)}
        self.tables = load_tables(b, self.plan.tables, self.pointers)

    def _bind(self, axes: Sequence[Axis], linear: ir.Value) -> None:
        """Give the axes the values of a linear position."""
        for n, axis in enumerate(reversed(axes)):
            if n == len(axes) - 1:
                self.ints.symbols[axis.symbol.name] = linear
                return
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(linear, extent)
            linear = self.ints.div(linear, extent)

    def _row_buffers(self) -> list:
        stores = (s for loop in self.kernel.loops for s in loop.body if isinstance(s, Store))
        return list(dict.fromkeys(s.buffer for s in stores if s.buffer.row))

    def _alloca_row(self, buffer) -> ir.Value:
        size = buffer.dtype.itemsize
        for d in buffer.shape:
            size *= d
        return stack(self.b, ir.ArrayType(ir.IntType(8), max(64, size)), align=64)

    @property
    def turns(self) -> Turns:
        return interleaved(self.loops, self.kernel.vector)

    def _emitter(self, lanes: Lanes, reduced: dict) -> ExprEmitter:
        emitter = ExprEmitter(self.b, self.target, lanes, self.ints, self.pointers, error=self.error, reduced=reduced)
        emitter.past_caches, emitter.tables, emitter.turns = self.past_caches, self.tables, self.turns
        return emitter

    # -- lanes along a loop's axis -------------------------------------------------------------------------------------

    def _rows(self) -> None:
        """One parallel point: its loops in order."""
        reduced: dict = {}
        scalar = self._emitter(Lanes(None, 1), reduced)
        for loop in self.kernel.loops:
            if not loop.axes:
                self._point(loop, scalar, reduced)
            else:
                self._row_loop(loop, scalar, reduced)

    def _point(self, loop: Loop, emitter: ExprEmitter, reduced: dict) -> None:
        for statement in loop.body:
            if isinstance(statement, Reduce):  # over nothing: the value itself
                accumulation = Accumulation(emitter, [statement], 1)
                accumulation.update(0, emitter, i64(0))
                reduced.update(accumulation.finish())
            elif isinstance(statement, Scan):  # along one point
                running = Running(emitter, 1, registers(emitter, [statement], self.entry), reverse=False)
                running.begin([statement], emitter)
                emitter.scanned[id(statement)] = running.step(statement, emitter)
            else:
                emitter.store(statement)

    def _accumulation(
        self, emitter: ExprEmitter, loop: Loop, width: int, unroll: int, *, placed: bool = True
    ) -> Accumulation:
        reduces = [s for s in loop.body if isinstance(s, Reduce)]
        return Accumulation(
            emitter,
            reduces,
            width,
            unroll,
            self.entry,
            points=product(a.extent for a in loop.axes),
            backwards=loop.reverse,
            placed=placed,
        )

    def _row_loop(self, loop: Loop, scalar: ExprEmitter, reduced: dict) -> None:
        *outer, inner = loop.axes
        width = self.shape.width if self.kernel.vector is not None else 1
        roots = [s.value for s in loop.body]
        accumulation = self._accumulation(
            scalar, loop, width, self.shape.unroll, placed=width == 1 or not are_looked_for(loop)
        )
        scans = [s for s in loop.body if isinstance(s, Scan)]
        running = Running(scalar, width, registers(scalar, scans, self.entry), reverse=loop.reverse)
        running.begin(scans, scalar)
        symbols = frozenset(a.symbol for a in loop.axes)
        scalar.hoist([r for r in roots], symbols)
        with self._nest(outer), scalar.scope():
            scalar.hoist(roots, frozenset((inner.symbol,)))
            lanes = LaneLoop(loop, width, self.shape.unroll, scalar, reduced, accumulation, running, self.entry)
            lanes.emit()
        reduced.update(accumulation.finish())

    @contextmanager
    def _nest(self, axes: Sequence[Axis], reverse: bool = False) -> Iterator[None]:
        """Counted loops over axes, outermost first."""
        if not axes:
            yield
            return
        axis, *rest = axes
        extent = self.ints.dim(axis.extent)
        with counted_loop(self.b, i64(0), extent, i64(1)) as i:
            self.ints.symbols[axis.symbol.name] = backwards(self.ints, i, extent, 1) if reverse else i
            with self._nest(rest, reverse):
                yield

    def _mask(self, start: ir.Value, extent: ir.Value, width: int) -> ir.Value:
        """Lanes whose position is below the extent."""
        return lanes_below(self.b, self.ints.sub(extent, start), width)

    # -- lanes along the last parallel axis ----------------------------------------------------------------------------

    def _segments(self, start: ir.Value, stop: ir.Value) -> None:
        """A block of columns, segment by segment of what differs along them."""
        found = segments(self.kernel)
        if len(found) < 2:
            self._column_block(start, stop)
            return
        loops, past_caches = self.loops, self.past_caches
        for segment in found:
            # a segment may start anywhere in a cache line, but for 64 elements are whole ones
            self.loops, self.past_caches = segment.loops, past_caches and segment.first % 64 == 0
            first = self.ints.max(start, i64(segment.first))
            self._column_block(first, self.ints.max(first, self.ints.min(stop, i64(segment.stop))), anywhere=True)
        self.loops, self.past_caches = loops, past_caches

    def _column_block(self, start: ir.Value, stop: ir.Value, *, anywhere: bool = False) -> None:
        """Lanes are parallel points of their own: each vector runs all loops.

        Args:
            anywhere: the block is not whole vectors but for the axis' last.
        """
        vector = self.kernel.vector
        assert vector is not None
        self.aligned = not anywhere
        width, unroll = self.shape.width, self.shape.unroll
        step = width * unroll
        scalar = self._emitter(Lanes(None, 1), {})
        roots = [s.value for loop in self.loops for s in loop.body]
        inner = frozenset({vector.symbol, *(a.symbol for loop in self.loops for a in loop.axes)})
        scalar.hoist(roots, inner, reduced=True)
        left = vector.extent % step if isinstance(vector.extent, int) and not anywhere else None
        masked = left != 0 and self.plan.few
        whole = start if masked else self.ints.whole_steps(start, stop, step)
        if not masked and (not isinstance(vector.extent, int) or vector.extent >= step):
            with self.ints.loop(start, whole, step) as i, scalar.scope():
                self._column_vectors(i, unroll, None, scalar)
        if left != 0:
            # the last columns together: a pass down their rows for each vector would read every cache line again
            down = any(loop.axes for loop in self.loops) and self.tiles is None
            count = -(-left // width) if left is not None and down else 1
            with self.ints.loop(whole, stop, count * width) as i, scalar.scope():
                last = self.ints.add(i, i64((count - 1) * width))
                self._column_vectors(i, count, self._mask(last, stop, width) if width > 1 else None, scalar)

    def _block_by_rows(self, start: ir.Value, stop: ir.Value, block: int) -> None:
        """Scans down columns, a row of the block at a time."""
        (loop,) = self.kernel.loops
        vector, (axis,), width = self.kernel.vector, loop.axes, self.shape.width
        assert vector is not None
        scalar = self._emitter(Lanes(None, 1), {})
        scalar.hoist([s.value for s in loop.body], frozenset({vector.symbol, axis.symbol}))
        scans = [s for s in loop.body if isinstance(s, Scan)]
        kept = RowState(self.b, scans, block, self.entry)
        with counted_loop(self.b, start, stop, i64(width)) as i, scalar.scope():
            emitter = self._lanes_at(i, None, scalar)
            slots = kept.slots(self.ints.sub(i, start))
            Running(emitter, 1, slots, reverse=loop.reverse).begin(scans, emitter)
        with self._nest(loop.axes, loop.reverse), scalar.scope():
            scalar.hoist([s.value for s in loop.body], frozenset({vector.symbol}))
            whole = self.ints.whole_steps(start, stop, width * self.shape.unroll)
            with counted_loop(self.b, start, whole, i64(width * self.shape.unroll)) as i, scalar.scope():
                for n in range(self.shape.unroll):
                    self._row_vector(loop, kept, self.ints.add(i, i64(n * width)), start, None, scalar)
            with counted_loop(self.b, whole, stop, i64(width)) as i, scalar.scope():
                mask = self._mask(i, stop, width) if width > 1 else None
                self._row_vector(loop, kept, i, start, mask, scalar)

    def _row_vector(
        self, loop: Loop, kept: RowState, i: ir.Value, start: ir.Value, mask: ir.Value | None, scalar: ExprEmitter
    ) -> None:
        emitter = self._lanes_at(i, mask, scalar)
        running = Running(emitter, 1, kept.slots(self.ints.sub(i, start)), reverse=loop.reverse)
        emit_statements(loop, emitter, running)

    def _lanes_at(self, place: ir.Value, mask: ir.Value | None, scalar: ExprEmitter) -> ExprEmitter:
        """The emitter of the columns from `place` on."""
        vector = self.kernel.vector
        assert vector is not None
        self.ints.symbols[vector.symbol.name] = place
        return self._lanes(Lanes(vector.symbol, self.shape.width, mask, aligned=self.aligned), scalar)

    def _lanes(self, lanes: Lanes, scalar: ExprEmitter | None) -> ExprEmitter:
        """An emitter of parallel points."""
        emitter = ExprEmitter(
            self.b,
            self.target,
            lanes,
            self.ints,
            self.pointers,
            error=self.error,
            reduced={},
            scalar=scalar,
            columns=True,
        )
        emitter.past_caches, emitter.tables, emitter.turns = self.past_caches, self.tables, self.turns
        return emitter

    def _column_vectors(self, start: ir.Value, count: int, mask: ir.Value | None, scalar: ExprEmitter) -> None:
        """All loops for `count` vectors of columns; the mask is of the last of them."""
        vector = self.kernel.vector
        assert vector is not None
        width = self.shape.width
        if self.plan.pairs and count == 2 and mask is None and width > 1:
            emit_pairs(self.kernel, *(self._lanes_at(start, None, scalar) for _ in range(2)))
            return
        places = [self.ints.add(start, i64(n * width)) for n in range(count)]
        emitters = [self._lanes_at(place, mask if n == count - 1 else None, scalar) for n, place in enumerate(places)]
        ask_for(self.b, self.rows_ahead, start, count * width)
        for loop in self.loops:
            roots = [s.value for s in loop.body]
            reduces = [s for s in loop.body if isinstance(s, Reduce)]
            rows = self._rows_together(loop, count)
            accumulations = [self._accumulation(e, loop, 1, rows) for e in emitters] if reduces else []
            scans = [s for s in loop.body if isinstance(s, Scan)]
            running = [Running(e, 1, registers(e, scans, self.entry), reverse=loop.reverse) for e in emitters]
            for one, emitter in zip(running, emitters, strict=True):
                one.begin(scans, emitter)
            symbols = frozenset(a.symbol for a in loop.axes)
            for place, emitter in zip(places, emitters, strict=True):
                self.ints.symbols[vector.symbol.name] = place
                if loop.axes:
                    emitter.hoist(roots, symbols)
            linear = place_in(loop)
            for row in self._down(loop, rows, (scalar, *emitters)):
                for n, (place, emitter) in enumerate(zip(places, emitters, strict=True)):
                    self.ints.symbols[vector.symbol.name] = place
                    emit_statements(loop, emitter, running[n])
                    if reduces:
                        accumulations[n].update(row, emitter, linear)
            for emitter, accumulation in zip(emitters, accumulations, strict=False):
                emitter.reduced.update(accumulation.finish_lanes())

    def _rows_together(self, loop: Loop, vectors: int) -> int:
        """How many rows of so many vectors are taken in at once: else each addition would wait for the one before."""
        if not takes_rows_together(loop) or self.kernel.cross is not None:
            return 1
        rows, extent = max(1, _IN_FLIGHT // vectors), loop.axes[-1].extent
        while isinstance(extent, int) and rows > 1 and extent < 2 * rows:
            rows //= 2
        return rows

    def _down(self, loop: Loop, rows: int, emitters: Sequence[ExprEmitter]) -> Iterator[int]:
        """Loops over the points of `loop`, `rows` of its last axis at a time: the number of each among these."""
        if not loop.axes:
            yield 0
            return
        *outer, inner = loop.axes
        extent = self.ints.dim(inner.extent)
        whole = self.ints.whole_steps(i64(0), extent, rows)
        with self._nest(outer, loop.reverse):
            if rows > 1:
                with counted_loop(self.b, i64(0), whole, i64(rows)) as i:
                    for row in range(rows):
                        with scopes(emitters):
                            self.ints.symbols[inner.symbol.name] = self.ints.add(i, i64(row))
                            yield row
            if rows == 1 or not isinstance(inner.extent, int) or inner.extent % rows:
                start = i64(0) if rows == 1 else whole
                with counted_loop(self.b, start, extent, i64(1)) as i, scopes(emitters):
                    self.ints.symbols[inner.symbol.name] = backwards(self.ints, i, extent, 1) if loop.reverse else i
                    yield 0
