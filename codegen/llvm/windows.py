"""Contractions with windows: an image of each block in scratch, packed filters, tiles, then the epilogue.

Loops, outermost first: cells of this task (positions, then blocks of filters), blocks of k, for which the image is
copied with its padding, blocks of filters, which are packed, tiles. Where filters have images of their own, a cell is
one block of filters. Every sum runs over k in order, in blocks that depend on k's extent only: the number of tasks
changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import llvmlite.ir as ir

from tjit.codegen.llvm.contract_lanes import emit_call_for, emit_epilogue
from tjit.codegen.llvm.contract_sides import Emission, Range
from tjit.codegen.llvm.vectors import I64, i64, stack, while_loop
from tjit.codegen.llvm.window_blocks import Blocks
from tjit.codegen.llvm.window_filling import Filling
from tjit.codegen.llvm.window_plan import WindowPlan
from tjit.codegen.llvm.window_tile import (
    DOTS_TILE,
    TABLE_ROW,
    WINDOW_TILE,
    DotsTile,
    RowsTile,
    Tap,
    WindowTile,
    emit_dots_tile,
    emit_rows_tile,
    emit_window_tile,
)
from tjit.codegen.llvm.window_turn import TURN, Total, Turn, emit_total, emit_turn

__all__ = ["emit_windows"]


def emit_windows(module: ir.Module, plan: WindowPlan) -> Emission:
    """Define the kernel of `plan` in `module`; what it is joined with."""
    emitter = _Windows(module, plan)
    emitter.emit()
    return emitter.shared


class _Windows(Filling):
    """The one emission of a kernel."""

    def emit(self) -> None:
        """The cells of this task: filters first, then positions, then groups."""
        ints, b, plan = self.ints, self.b, self.plan
        cells = ints.dim(plan.cells)
        negative = b.icmp_signed("<", self.tasks, i64(0))  # as with other contractions; all filters follow one another
        tasks = b.select(negative, b.neg(self.tasks), self.tasks)
        first = ints.div(ints.mul(self.task, cells), tasks)
        last = ints.div(ints.mul(ints.add(self.task, i64(1)), cells), tasks)
        cell = stack(b, I64)
        b.store(first, cell)
        b.store(i64(-1), self.packed)
        if plan.planes is not None:
            self._clear_image()
        with while_loop(b, lambda: b.icmp_signed("<", b.load(cell, typ=I64), last)):
            c = b.load(cell, typ=I64)
            i, block = ints.mod(c, i64(plan.m_blocks)), ints.div(c, i64(plan.m_blocks))
            tall = ints.min(i64(plan.group), ints.min(ints.sub(i64(plan.m_blocks), i), ints.sub(last, c)))
            group = ints.div(block, i64(plan.n.count))
            self._bind_batch(group)
            n = self._bind_block(plan.n, ints.mod(block, i64(plan.n.count)))
            start = ints.mul(i, i64(plan.m_block))
            stop = ints.min(ints.add(start, ints.mul(tall, i64(plan.m_block))), i64(plan.m))
            self._rectangle(Range(start, ints.sub(stop, start)), n, group)
            b.store(ints.add(c, tall), cell)
        b.ret_void()

    def _bind_batch(self, linear: ir.Value) -> None:
        for axis in reversed(self.windows.batch):
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(linear, extent)
            linear = self.ints.div(linear, extent)

    def _bind_block(self, blocks: Blocks, number: ir.Value) -> list[Range]:
        """The range of each digit in a block."""
        ints, level = self.ints, blocks.level
        start = ints.mul(ints.mod(number, i64(blocks.each)), i64(blocks.span))
        size = ints.min(i64(blocks.span), ints.sub(i64(blocks.digits[level].extent), start))
        if blocks.digits[level].extent % blocks.span == 0:
            size = i64(blocks.span)
        ranges = [Range(i64(0), i64(d.extent)) for d in blocks.digits[:level]] + [Range(start, size)]
        rest = ints.div(number, i64(blocks.each))
        for digit in blocks.digits[level + 1 :]:
            ranges.append(Range(ints.mod(rest, i64(digit.extent)), i64(1)))
            rest = ints.div(rest, i64(digit.extent))
        return ranges

    def _rectangle(self, m: Range, n: list[Range], group: ir.Value) -> None:
        ints, plan, b = self.ints, self.plan, self.b
        with ints.loop(i64(0), i64(plan.k.count)) as number:
            k = self._bind_block(plan.k, number)
            self._copy_image(m, n, k)
            self._fill_table(k)
            later = b.zext(b.icmp_signed(">", number, i64(0)), I64)
            final = b.icmp_signed("==", number, i64(plan.k.count - 1))
            if plan.packs_whole:
                with b.if_then(b.icmp_signed("!=", b.load(self.packed, typ=I64), group)):
                    self._pack(Range(i64(0), i64(plan.m)), k)
                    b.store(group, self.packed)
            with ints.loop(i64(0), m.size, plan.m_block) as i:
                block = Range(ints.add(m.start, i), ints.min(i64(plan.m_block), ints.sub(m.size, i)))
                if not plan.packs_whole:
                    self._pack(block, k)
                panels = self.panels
                if plan.packs_whole:
                    panels = self.shared.at(panels, ints.mul(block.start, i64(plan.k.size)))
                self._tiles(block, i, n, k, panels, later, final)

    # -- tiles ---------------------------------------------------------------------------------------------------------

    def _tiles(
        self,
        m: Range,
        m_offset: ir.Value,
        n: list[Range],
        k: list[Range],
        panels: ir.Value,
        later: ir.Value,
        final: ir.Value,
    ) -> None:
        """Every tile of a block of filters; `m_offset` of them lie before it among the kept sums."""
        ints, b, plan = self.ints, self.b, self.plan
        number = stack(b, I64, block=b.function.entry_basic_block)
        b.store(i64(0), number)
        with self._each(n, range(plan.n.level, plan.tile.level - 1, -1), plan.tile.span) as digits:
            image = self.shared.at(self.image, self._image_offset(n, digits))
            rows = self._rows_inside(n, digits, k)
            microkernel = self._microkernel(n, digits)
            first = ints.mul(b.load(number, typ=I64), i64(plan.columns))
            with ints.loop(i64(0), m.size, plan.filters) as i:
                panel = self._panel(panels, m, i, k)
                sums = self.sums
                if plan.keeps_sums:
                    place = ints.add(first, ints.div(ints.add(m_offset, i), i64(plan.filters)))
                    sums = self.shared.at(sums, ints.mul(place, i64(plan.sums)))
                filters = Range(ints.add(m.start, i), ints.min(i64(plan.filters), ints.sub(m.size, i)))
                if plan.along == "m":
                    with b.if_then(final):
                        self._call_for_results(filters, n, digits)
                self._run(microkernel, rows, image, panel, sums, later)
                with b.if_then(final):
                    self._finish(sums, filters, n, digits)
            b.store(ints.add(b.load(number, typ=I64), i64(1)), number)

    def _rows_inside(self, n: list[Range], digits: list[ir.Value], k: list[Range]) -> Range:
        """The rows of the table that a tile has to add up: where these are all padding, one of them."""
        ints, plan = self.ints, self.plan
        count = self._size([k[digit] for digit in plan.rows])
        axis = plan.outer
        if axis is None:
            return Range(i64(0), count)
        assert axis.n is not None
        assert axis.k is not None
        assert axis.inside is not None
        outer = k[axis.k]
        each = ints.div(count, outer.size)
        low, end = axis.inside
        place = ints.mul(ints.add(n[axis.n].start, digits[axis.n]), i64(axis.scale_n))  # of the tile's first positions
        reach = ints.add(place, i64((plan.tile.span_of(axis.n) - 1) * axis.scale_n))
        first = ints.floor_div(ints.add(ints.sub(i64(low), reach), i64(axis.scale_k - 1)), i64(axis.scale_k))
        stop = ints.floor_div(ints.add(ints.sub(i64(end - 1), place), i64(axis.scale_k)), i64(axis.scale_k))
        first = ints.min(ints.max(ints.sub(first, outer.start), i64(0)), ints.sub(outer.size, i64(1)))
        stop = ints.max(ints.min(ints.sub(stop, outer.start), outer.size), ints.add(first, i64(1)))
        if plan.reads.backwards[axis.k]:
            first, stop = ints.sub(outer.size, stop), ints.sub(outer.size, first)
        return Range(ints.mul(first, each), ints.mul(ints.sub(stop, first), each))

    def _image_offset(self, n: list[Range], digits: list[ir.Value]) -> ir.Value:
        ints, place = self.ints, i64(0)
        for axis, stride in zip(self.windows.axes, self.plan.strides, strict=True):
            if axis.n is not None:
                at = ints.mul(digits[axis.n], i64(axis.scale_n))
                if axis.spread > 1:
                    start = n[axis.n].start
                    at = ints.sub(ints.div(ints.add(start, at), i64(axis.spread)), ints.div(start, i64(axis.spread)))
                place = ints.add(place, ints.mul(at, i64(stride)))
        return place

    def _call_for_results(self, m: Range, n: list[Range], digits: list[ir.Value]) -> None:
        """Ask for the memory of a tile's results while its sums are made."""
        e = self.shared
        columns, values = self._columns(n, digits)
        where = [m.start, m.size, columns.start, columns.size]
        if self.stored is not None:
            with self._batch_bound(values):
                self.stored.call_for(e, where)
            return
        function = e.parts.get("stores")
        if function is None:
            function = e.parts["stores"] = emit_call_for(e.module, self.kernel, self.plan.target)
        self.b.call(function, [e.args, *self._batch_at(values), *where])

    def _columns(self, n: list[Range], digits: list[ir.Value]) -> tuple[Range, list[ir.Value]]:
        """The positions of a tile, and the values of n's digits at its first."""
        ints, tile = self.ints, self.plan.tile
        values = [ints.add(r.start, d) for r, d in zip(n, digits, strict=True)]
        first, below = i64(0), 1
        for digit, value in zip(self.windows.n[: self.windows.own], values, strict=False):
            first = ints.add(first, ints.mul(value, i64(below)))
            below *= digit.extent
        count = ints.min(i64(tile.span), ints.sub(n[tile.level].size, digits[tile.level]))
        return Range(first, ints.mul(count, i64(tile.below))), values

    def _finish(self, sums: ir.Value, m: Range, n: list[Range], digits: list[ir.Value]) -> None:
        """Run the epilogue on a tile of finished sums, which are transposed first where lanes are filters."""
        e, ints, plan = self.shared, self.ints, self.plan
        columns, values = self._columns(n, digits)
        line, stride, lines = columns.size, i64(plan.turned), i64(1)
        if plan.along == "n":
            apart = plan.vectors * plan.lanes * plan.reads.side_by_side
            stride = i64(plan.reads.lines * plan.vectors * plan.lanes)
            if plan.tile.level > 0:
                line, lines = i64(plan.tile.below), ints.div(columns.size, i64(plan.tile.below))
        else:
            self.b.call(self._turn(), [sums, self.turned])
            sums, apart = self.turned, 0
        where = [sums, stride, m.start, m.size, columns.start, line, lines, i64(apart)]
        if self.stored is not None and self.stored.dtype is not None:
            with self._batch_bound(values):
                self.stored.run_epilogue(e, where)
        else:
            self.b.call(self._epilogue(), [e.args, *self._batch_at(values), *where])

    @contextmanager
    def _batch_bound(self, values: list[ir.Value]) -> Iterator[None]:
        """The kernel's batch axes stand for what they are at a tile."""
        before = dict(self.ints.symbols)
        names = [x.symbol.name for x in self.kernel.batch]
        self.ints.symbols |= zip(names, self._batch_at(values), strict=True)
        yield
        self.ints.symbols = before

    def _batch_at(self, values: list[ir.Value]) -> list[ir.Value]:
        """The kernel's batch axes, where the last digits of n are some of them."""
        own = self.windows.own
        place = {d.symbol.name: v for d, v in zip(self.windows.n[own:], values[own:], strict=True)}
        return [place.get(x.symbol.name) or self.ints.symbols[x.symbol.name] for x in self.kernel.batch]

    def _epilogue(self) -> ir.Function:
        e = self.shared
        function = e.parts.get("epilogue")
        if function is None:
            function = emit_epilogue(e.module, self.kernel, self.plan.target, in_lines=True)
            e.parts["epilogue"] = function
        return function

    def _turn(self) -> ir.Function:
        """What makes lines along n of finished sums."""
        plan, target, dtype = self.plan, self.plan.tile_target, self.kernel.accumulate
        if plan.along == "k":
            total = Total(dtype, plan.filters, plan.tile.size, plan.turned)
            return self.shared.depend(total.name(target), TURN, lambda: emit_total(total, target))
        turn = Turn(dtype, plan.turned, plan.vectors)
        return self.shared.depend(turn.name(target), TURN, lambda: emit_turn(turn, target))

    def _microkernel(self, n: list[Range], digits: list[ir.Value]) -> ir.Value:
        """The function for a tile."""
        ints, plan = self.ints, self.plan
        level = plan.tile.level
        number = ints.div(ints.add(n[level].start, digits[level]), i64(plan.tile.span))
        phase, below = i64(0), 1
        for digit, by in plan.reads.phases:
            remainder = ints.mod(ints.add(n[digit].start, digits[digit]), i64(by))
            phase, below = ints.add(phase, ints.mul(remainder, i64(below))), below * by
        first, *others = (self._at_number(variants, number) for variants in plan.reads.variants)
        found = first
        for i, function in enumerate(others, 1):
            found = self.b.select(self.b.icmp_signed("==", phase, i64(i)), function, found)
        return found

    def _at_number(self, variants: tuple[tuple[Tap, ...], ...], number: ir.Value) -> ir.Value:
        """The one of the microkernels for the tiles along `tile.level`."""
        usual = max(variants, key=variants.count)
        found = self._variant(usual)
        for i, taps in enumerate(variants):
            if taps != usual:
                found = self.b.select(self.b.icmp_signed("==", number, i64(i)), self._variant(taps), found)
        return found

    def _variant(self, taps: tuple[Tap, ...]) -> ir.Function:
        plan, target, dtype, offsets = self.plan, self.plan.tile_target, self.kernel.accumulate, self.plan.reads.offsets
        if plan.along == "k":
            dots = DotsTile(dtype, plan.filters, offsets, plan.k.span_of(0), plan.step, taps)
            return self.shared.depend(dots.name(target), DOTS_TILE, lambda: emit_dots_tile(dots, target))
        if plan.along == "n":
            rows = RowsTile(dtype, plan.filters, offsets, plan.vectors, plan.step, taps, plan.reads.side_by_side)
            return self.shared.depend(rows.name(target), WINDOW_TILE, lambda: emit_rows_tile(rows, target))
        tile = WindowTile(dtype, offsets, plan.vectors, taps, plan.apart, plan.planes is not None)
        return self.shared.depend(tile.name(target), WINDOW_TILE, lambda: emit_window_tile(tile, target))

    def _run(
        self, microkernel: ir.Value, rows: Range, image: ir.Value, panel: ir.Value, sums: ir.Value, later: ir.Value
    ) -> None:
        table = self.shared.at(self.table, rows.start, TABLE_ROW)
        if self.plan.along == "k":
            stride = i64(self.plan.matrix_stride)
            arguments = [rows.size, image, table, self.matrix, stride, sums, later]
        else:
            arguments = [rows.size, image, table, panel, sums, later]
        self.b.call(microkernel, arguments)
