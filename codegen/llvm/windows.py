"""Contractions with windows: an image of each block in scratch, packed filters, tiles, then the epilogue.

Loops, outermost first: cells of this task (positions, then blocks of filters), blocks of k, for which the image is
copied with its padding, blocks of filters, which are packed, tiles. Every sum runs over k in order, in blocks that
depend on k's extent only: the number of tasks changes no bit.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from math import prod

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.contract_lanes import emit_call_for, emit_epilogue, emit_fill, emit_image, load_arguments
from tjit.codegen.llvm.contract_operands import Operand
from tjit.codegen.llvm.contract_sides import Emission, Range
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.packing import PACK, Packing, emit_packing
from tjit.codegen.llvm.vectors import I32, I64, PTR, i64, plain_function, stack, while_loop
from tjit.codegen.llvm.window_blocks import Blocks
from tjit.codegen.llvm.window_packing import TapsPacking, emit_taps_packing, packs_taps
from tjit.codegen.llvm.window_plan import WindowPlan
from tjit.codegen.llvm.window_tile import (
    DOTS_TILE,
    TABLE_ROW,
    TURN,
    WINDOW_TILE,
    DotsTile,
    RowsTile,
    Tap,
    Total,
    Turn,
    WindowTile,
    emit_dots_tile,
    emit_rows_tile,
    emit_total,
    emit_turn,
    emit_window_tile,
)

__all__ = ["emit_windows"]


def emit_windows(module: ir.Module, plan: WindowPlan) -> Emission:
    """Define the kernel of `plan` in `module`; what it is joined with."""
    emitter = _Windows(module, plan)
    emitter.emit()
    return emitter.shared


class _Windows:
    """The one emission of a kernel."""

    def __init__(self, module: ir.Module, plan: WindowPlan) -> None:
        self.plan, self.kernel, self.windows = plan, plan.kernel, plan.windows
        # these loops only call: optimising them doubles LLVM's time and gains nothing
        function = plain_function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), self.kernel.name)
        args, self.task, self.tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.ints = Integers(self.b)
        pointers = load_arguments(self.b, self.ints, args, self.kernel)
        self.shared = Emission(self.kernel, plan.target, module, self.b, self.ints, args, pointers)
        self.packed = stack(self.b, I64)
        self._place_scratch(self.b.load(self.b.gep(args, [i64(2)], source_etype=PTR), typ=PTR))

    def _place_scratch(self, scratch: ir.Value) -> None:
        places = []
        for size in self.plan.slots():
            places.append(scratch)
            scratch = self.shared.at(scratch, i64(size))
        self.image, self.panels, self.matrix, self.sums, self.turned = places
        self.table = scratch

    # -- cells ---------------------------------------------------------------------------------------------------------

    def emit(self) -> None:
        """The cells of this task: filters first, then positions, then groups."""
        ints, b, plan = self.ints, self.b, self.plan
        cells = ints.dim(plan.cells)
        first = ints.div(ints.mul(self.task, cells), self.tasks)
        last = ints.div(ints.mul(ints.add(self.task, i64(1)), cells), self.tasks)
        cell = stack(b, I64)
        b.store(first, cell)
        b.store(i64(-1), self.packed)
        with while_loop(b, lambda: b.icmp_signed("<", b.load(cell, typ=I64), last)):
            c = b.load(cell, typ=I64)
            i, block = ints.mod(c, i64(plan.m_blocks)), ints.div(c, i64(plan.m_blocks))
            tall = ints.min(ints.sub(i64(plan.m_blocks), i), ints.sub(last, c))
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
            self._copy_image(n, k)
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

    # -- what tiles read -----------------------------------------------------------------------------------------------

    def _copy_image(self, n: list[Range], k: list[Range]) -> None:
        e, ints, plan = self.shared, self.ints, self.plan
        fill = e.parts.get("image")
        if fill is None:
            symbols = tuple(axis.symbol for axis in self.windows.axes)
            batch = self.windows.batch
            fill = emit_image(e.module, self.kernel, plan.target, self.windows.image, symbols, plan.strides, batch)
            e.parts["image"] = fill
        places: list[ir.Value] = []
        for axis in self.windows.axes:
            start, size = i64(0), i64(1)
            for digit, ranges, scale in ((axis.n, n, axis.scale_n), (axis.k, k, axis.scale_k)):
                if digit is not None:
                    start = ints.add(start, ints.mul(ranges[digit].start, i64(scale)))
                    size = ints.add(size, ints.mul(ints.sub(ranges[digit].size, i64(1)), i64(scale)))
            places += [start, size]
        self.b.call(fill, [e.args, *self._batch(), self.image, *places])

    def _batch(self) -> list[ir.Value]:
        return [self.ints.symbols[axis.symbol.name] for axis in self.windows.batch]

    def _fill_table(self, k: list[Range]) -> None:
        """How many bytes into the image and into a panel each row of k is."""
        ints, b, plan = self.ints, self.b, self.plan
        size = self.kernel.accumulate.itemsize
        image = [0] * len(k)
        for axis, stride in zip(self.windows.axes, plan.strides, strict=True):
            if axis.k is not None:
                image[axis.k] = axis.scale_k * stride * size
        step = i64(size * (1 if plan.along == "k" else plan.filters))
        row = stack(b, I64, block=b.function.entry_basic_block)
        b.store(i64(0), row)
        with self._each(k, plan.rows) as digits:
            p = b.load(row, typ=I64)
            place = i64(0)
            for d in plan.rows:
                value = ints.sub(ints.sub(k[d].size, i64(1)), digits[d]) if plan.reads.backwards[d] else digits[d]
                place = ints.add(place, ints.mul(value, i64(image[d])))
            for field, where in enumerate((place, ints.mul(self._linear(digits, k), step))):
                b.store(where, b.gep(self.table, [p, I32(field)], source_etype=TABLE_ROW))
            b.store(ints.add(p, i64(1)), row)

    @contextmanager
    def _each(self, ranges: list[Range], order: Sequence[int], step: int = 1) -> Iterator[list[ir.Value]]:
        """A loop over some digits of a block, outermost first: how far each is from its start, by `step` the last."""
        found = [i64(0)] * len(ranges)
        with ExitStack() as loops:
            for digit in order:
                by = step if digit == order[-1] else 1
                found[digit] = loops.enter_context(self.ints.loop(i64(0), ranges[digit].size, by))
            yield found

    def _linear(self, digits: list[ir.Value], ranges: list[Range]) -> ir.Value:
        """Where in a block an element is."""
        ints, total, below = self.ints, i64(0), i64(1)
        for digit, r in zip(digits, ranges, strict=True):
            total = ints.add(total, ints.mul(digit, below))
            below = ints.mul(below, r.size)
        return total

    def _size(self, ranges: list[Range]) -> ir.Value:
        total = i64(1)
        for r in ranges:
            total = self.ints.mul(total, r.size)
        return total

    def _pack(self, m: Range, k: list[Range]) -> None:
        """The filters of a block into panels, each with all of the block's k."""
        ints, plan = self.ints, self.plan
        steps = self._size(k)
        if plan.along == "k":
            self._evaluate(m, k, steps)
            return
        with ints.loop(i64(0), m.size, plan.filters) as i:
            rows = Range(ints.add(m.start, i), ints.min(i64(plan.filters), ints.sub(m.size, i)))
            to = self.shared.at(self.panels, ints.mul(i, steps))
            if plan.panels is None:
                self._pack_evaluated(rows, k, steps, to)
            else:
                self._pack_runs(rows, k, to)

    def _pack_runs(self, rows: Range, k: list[Range], to: ir.Value) -> None:
        """One run of k after another, straight from memory."""
        ints, plan = self.ints, self.plan
        panels = plan.panels
        assert panels is not None
        operand = panels.operand
        row, step = ints.dim(operand.row_stride), ints.dim(operand.k_stride)
        base = ints.add(ints.dim(operand.base), ints.mul(rows.start, row))
        for digit, by, backward in zip(k, panels.steps, panels.reversed, strict=True):
            last = ints.sub(ints.add(digit.start, digit.size), i64(1))
            base = ints.add(base, ints.mul(last, i64(-by)) if backward else ints.mul(digit.start, i64(by)))
        run = self._size(k[: panels.run])
        packing = self._runs_packing(operand, panels.run)
        with self._each(k, range(plan.k.level, panels.run - 1, -1)) as digits:
            at = base
            for digit, by in zip(digits, panels.steps, strict=True):
                at = ints.add(at, ints.mul(digit, i64(by)))
            source = self.shared.at(
                self.shared.pointers[operand.buffer.name], at, ir.IntType(operand.buffer.dtype.bits)
            )
            place = self.shared.at(to, ints.mul(self._linear(digits, k), i64(plan.filters)))
            self.b.call(packing, [rows.size, run, source, row, step, place])

    def _runs_packing(self, operand: Operand, run: int) -> ir.Function:
        """The packing function for runs of the lowest `run` digits of k."""
        plan, target, dtype = self.plan, self.plan.target, self.kernel.accumulate
        taps = prod(plan.k.span_of(i) for i in range(run))
        whole = run <= plan.k.level or plan.k.digits[plan.k.level].extent % plan.k.span == 0
        if plan.along == "m" and whole and packs_taps(operand.k_stride, taps, target):
            few = TapsPacking(operand.buffer.dtype, dtype, plan.filters, taps)
            return self.shared.depend(few.name(target), PACK, lambda: emit_taps_packing(few, target))
        order = "any" if plan.along == "n" else operand.order  # a few filters: not worth squares of vectors
        return self._packing(Packing(operand.buffer.dtype, dtype, plan.filters, order))

    def _pack_evaluated(self, rows: Range, k: list[Range], steps: ir.Value, to: ir.Value) -> None:
        self._evaluate(rows, k, steps)
        order = "any" if self.plan.along == "n" else "k"
        packing = self._packing(Packing(self.kernel.accumulate, self.kernel.accumulate, self.plan.filters, order))
        stride = i64(self.plan.matrix_stride)
        self.b.call(packing, [rows.size, steps, self.matrix, stride, i64(1), to])

    def _evaluate(self, rows: Range, k: list[Range], steps: ir.Value) -> None:
        """The operand a as a matrix, with k along its lines."""
        e, ints, plan = self.shared, self.ints, self.plan
        fill = e.parts.get("a")
        if fill is None:
            symbol = self.kernel.m.symbol
            fill = emit_fill(e.module, self.kernel, plan.target, "fill_a", self.kernel.a, symbol, "k")
            e.parts["a"] = fill
        start, below = i64(0), 1
        for digit, r in zip(plan.k.digits, k, strict=True):
            start = ints.add(start, ints.mul(r.start, i64(below)))
            below *= digit.extent
        batch = [ints.symbols.get(axis.symbol.name, i64(0)) for axis in self.kernel.batch]
        stride = i64(plan.matrix_stride)
        self.b.call(fill, [e.args, *batch, self.matrix, stride, rows.start, rows.size, start, steps])

    def _packing(self, packing: Packing) -> ir.Function:
        target = self.plan.target
        return self.shared.depend(packing.name(target), PACK, lambda: emit_packing(packing, target))

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
        steps = self._size(k)
        count = -(-plan.m // plan.filters)
        number = stack(b, I64, block=b.function.entry_basic_block)
        b.store(i64(0), number)
        with self._each(n, range(plan.n.level, plan.tile.level - 1, -1), plan.tile.span) as digits:
            image = self.shared.at(self.image, self._image_offset(digits))
            rows = self._rows_inside(n, digits, k)
            microkernel = self._microkernel(n, digits)
            first = ints.mul(b.load(number, typ=I64), i64(count))
            with ints.loop(i64(0), m.size, plan.filters) as i:
                panel = self.shared.at(panels, ints.mul(i, steps))
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

    def _image_offset(self, digits: list[ir.Value]) -> ir.Value:
        place = i64(0)
        for axis, stride in zip(self.windows.axes, self.plan.strides, strict=True):
            if axis.n is not None:
                place = self.ints.add(place, self.ints.mul(digits[axis.n], i64(axis.scale_n * stride)))
        return place

    def _call_for_results(self, m: Range, n: list[Range], digits: list[ir.Value]) -> None:
        """Ask for the memory of a tile's results while its sums are made."""
        e = self.shared
        function = e.parts.get("stores")
        if function is None:
            function = e.parts["stores"] = emit_call_for(e.module, self.kernel, self.plan.target)
        columns, values = self._columns(n, digits)
        arguments = [e.args, *self._batch_at(values), m.start, m.size, columns.start, columns.size]
        self.b.call(function, arguments)

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
            apart = plan.vectors * plan.lanes
            stride = i64(plan.reads.lines * apart)
            if plan.tile.level > 0:
                line, lines = i64(plan.tile.below), ints.div(columns.size, i64(plan.tile.below))
        else:
            self.b.call(self._turn(), [sums, self.turned])
            sums, apart = self.turned, 0
        where = [sums, stride, m.start, m.size, columns.start, line, lines, i64(apart)]
        self.b.call(self._epilogue(), [e.args, *self._batch_at(values), *where])

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
        plan, target, dtype = self.plan, self.plan.target, self.kernel.accumulate
        if plan.along == "k":
            total = Total(dtype, plan.filters, plan.tile.size, plan.turned)
            return self.shared.depend(total.name(target), TURN, lambda: emit_total(total, target))
        turn = Turn(dtype, plan.turned, plan.vectors)
        return self.shared.depend(turn.name(target), TURN, lambda: emit_turn(turn, target))

    def _microkernel(self, n: list[Range], digits: list[ir.Value]) -> ir.Value:
        """The function for a tile."""
        ints, plan = self.ints, self.plan
        variants = plan.reads.variants
        level = plan.tile.level
        number = ints.div(ints.add(n[level].start, digits[level]), i64(plan.tile.span))
        usual = max(variants, key=variants.count)
        found = self._variant(usual)
        for i, taps in enumerate(variants):
            if taps != usual:
                found = self.b.select(self.b.icmp_signed("==", number, i64(i)), self._variant(taps), found)
        return found

    def _variant(self, taps: tuple[Tap, ...]) -> ir.Function:
        plan, target, dtype, offsets = self.plan, self.plan.target, self.kernel.accumulate, self.plan.reads.offsets
        if plan.along == "k":
            dots = DotsTile(dtype, plan.filters, offsets, plan.k.span_of(0), plan.step, taps)
            return self.shared.depend(dots.name(target), DOTS_TILE, lambda: emit_dots_tile(dots, target))
        if plan.along == "n":
            rows = RowsTile(dtype, plan.filters, offsets, plan.vectors, plan.step, taps)
            return self.shared.depend(rows.name(target), WINDOW_TILE, lambda: emit_rows_tile(rows, target))
        tile = WindowTile(dtype, offsets, plan.vectors, taps)
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
