"""What tiles of contractions with windows read: the image of a block, the table of places in it, packed filters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.contract_lanes import emit_fill, emit_image, load_arguments
from tjit.codegen.llvm.contract_sides import Emission, Range
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.packing import PACK, Packing, emit_packing
from tjit.codegen.llvm.plain import plain_function
from tjit.codegen.llvm.shared_parts import copied_image, stored_sums
from tjit.codegen.llvm.vectors import I32, I64, PTR, declare, i64, stack
from tjit.codegen.llvm.window_map import ImageAxis
from tjit.codegen.llvm.window_packing import TapsPacking, emit_taps_packing, taps_near
from tjit.codegen.llvm.window_plan import Panels, WindowPlan
from tjit.codegen.llvm.window_planes import FILLING, Planes, PlanesFilling, emit_planes_filling
from tjit.codegen.llvm.window_tile import TABLE_ROW
from tjit.ir.dims import Dim, coefficient

__all__ = ["Filling"]


class Filling:
    """What an emission puts into scratch for its tiles to read."""

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
        self.copied, self.stored = copied_image(self.kernel, self.windows), stored_sums(self.kernel)
        self._place_scratch(self.b.load(self.b.gep(args, [i64(2)], source_etype=PTR), typ=PTR))

    def _place_scratch(self, scratch: ir.Value) -> None:
        places = []
        for size in self.plan.slots():
            places.append(scratch)
            scratch = self.shared.at(scratch, i64(size))
        self.image, self.panels, self.matrix, self.sums, self.turned = places
        self.table = scratch

    def _copy_image(self, m: Range, n: list[Range], k: list[Range]) -> None:
        """The part of the image that a block of n and one of k read, padding included, of m's own planes."""
        places = [self._place(axis, n, k) for axis in self.windows.axes]
        if self.plan.planes is not None:
            self._copy_planes(self.plan.planes, m, places)
            return
        e, plan = self.shared, self.plan
        if self.copied is not None:
            self.copied.call(e, self.windows, plan.strides, self.image, places)
            return
        fill = e.parts.get("image")
        if fill is None:
            symbols = tuple(axis.symbol for axis in self.windows.axes)
            batch = self.windows.batch
            fill = emit_image(e.module, self.kernel, plan.target, self.windows.image, symbols, plan.strides, batch)
            e.parts["image"] = fill
        self.b.call(fill, [e.args, *self._batch(), self.image, *(v for r in places for v in (r.start, r.size))])

    def _place(self, axis: ImageAxis, n: list[Range], k: list[Range]) -> Range:
        """The range of an axis of the image that a block of n and one of k read."""
        ints = self.ints
        start, size = i64(0), i64(1)
        for digit, ranges, scale in ((axis.n, n, axis.scale_n), (axis.k, k, axis.scale_k)):
            if digit is not None:
                start = ints.add(start, ints.mul(ranges[digit].start, i64(scale)))
                size = ints.add(size, ints.mul(ints.sub(ranges[digit].size, i64(1)), i64(scale)))
        if axis.spread == 1:
            return Range(start, size)
        last = ints.add(start, ints.add(size, i64(axis.origin - 1)))  # that is read: memory may end there
        start = ints.div(start, i64(axis.spread))
        return Range(start, ints.add(ints.sub(ints.div(last, i64(axis.spread)), start), i64(1)))

    def _clear_image(self) -> None:
        """Zeros for the padding around planes, over which nothing else is written."""
        size = self.plan.slots()[0] * self.kernel.accumulate.itemsize
        i8, i1 = ir.IntType(8), ir.IntType(1)
        clear = declare(self.b, "llvm.memset.p0.i64", ir.FunctionType(ir.VoidType(), [PTR, i8, I64, i1]))
        self.b.call(clear, [self.image, i8(0), i64(size), i1(0)])

    def _copy_planes(self, planes: Planes, m: Range, places: list[Range]) -> None:
        """The planes of the filters `m`, transposed."""
        e, ints, plan = self.shared, self.ints, self.plan
        axes, dtype = self.windows.axes, self.kernel.accumulate
        outer = len(axes) - len(planes.axes)
        extents = tuple(end - low for low, end in planes.inside)
        strides = tuple(stride // plan.lanes for stride in plan.strides[outer:])
        filling = PlanesFilling(planes.load.dtype, dtype, planes.apart, extents, strides)
        fill = e.depend(filling.name(plan.target), FILLING, lambda: emit_planes_filling(filling, plan.target))
        ints.symbols[self.kernel.m.symbol.name] = m.start
        last = ints.sub(ints.min(m.size, i64(plan.lanes)), i64(1))
        to = i64(sum(low * stride for (low, _), stride in zip(planes.inside, plan.strides[outer:], strict=True)))
        with ExitStack() as loops:
            for axis, place, stride in zip(axes[:outer], places, plan.strides, strict=False):
                u = loops.enter_context(ints.loop(i64(0), place.size))
                ints.symbols[axis.symbol.name] = ints.add(place.start, u)
                to = ints.add(to, ints.mul(u, i64(stride)))
            first = e.at(
                e.pointers[planes.load.buffer.name], ints.dim(planes.first), ir.IntType(planes.load.dtype.bits)
            )
            self.b.call(fill, [first, last, self._following(planes), e.at(self.image, to)])

    def _following(self, planes: Planes) -> ir.Value:
        """How many bytes away the planes are that are read after some: of another image, or of more filters."""
        step: Dim = planes.apart * self.plan.lanes
        for axis in self.windows.axes[: -len(planes.axes)]:
            if axis.n is None or self.plan.n.span_of(axis.n) > 1:
                step = coefficient(planes.first, axis.symbol) or step
        return self.ints.mul(self.ints.dim(step), i64(planes.load.dtype.itemsize))

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
        step = i64(size * (1 if plan.along == "k" else plan.apart))
        row = stack(b, I64, block=b.function.entry_basic_block)
        b.store(i64(0), row)
        with self._each(k, plan.rows) as digits:
            p = b.load(row, typ=I64)
            place = i64(0)
            for d in plan.rows:
                value = ints.sub(ints.sub(k[d].size, i64(1)), digits[d]) if plan.reads.backwards[d] else digits[d]
                place = ints.add(place, ints.mul(value, i64(image[d])))
            steps = self._steps_in_place(digits) if plan.in_place else self._linear(digits, k)
            for field, where in enumerate((place, ints.mul(steps, step))):
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

    def _steps_in_place(self, digits: Sequence[ir.Value]) -> ir.Value:
        """How many steps of k the values of its digits are, in panels that no block of k cuts."""
        ints, total, below = self.ints, i64(0), 1
        for value, digit in zip(digits, self.windows.k, strict=True):
            total = ints.add(total, ints.mul(value, i64(below)))
            below *= digit.extent
        return total

    def _panel(self, packed: ir.Value, m: Range, i: ir.Value, k: list[Range]) -> ir.Value:
        """Where the filters of a tile are, the i-th of a block of filters `m` that was packed, or in place."""
        ints, e = self.ints, self.shared
        operand = None if self.plan.panels is None else self.plan.panels.operand
        if operand is None or operand.panels is None:
            return e.at(packed, ints.mul(i, self._size(k)))
        row, width = ints.add(m.start, i), i64(operand.panels.width)
        first = self._steps_in_place([r.start for r in k])
        offset = ints.add(ints.dim(operand.base), ints.mul(first, width))
        offset = ints.add(offset, ints.mul(ints.div(row, width), ints.dim(operand.panels.stride)))
        return e.at(e.pointers[operand.buffer.name], ints.add(offset, ints.mod(row, width)))

    def _size(self, ranges: list[Range]) -> ir.Value:
        total = i64(1)
        for r in ranges:
            total = self.ints.mul(total, r.size)
        return total

    def _pack(self, m: Range, k: list[Range]) -> None:
        """The filters of a block into panels, each with all of the block's k; none that are in panels."""
        ints, plan = self.ints, self.plan
        if plan.in_place:
            return
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
        run, packing = self._runs_packing(panels)
        steps, following = self._size(k[:run]), step
        if isinstance(packing, TapsPacking):
            following = i64(panels.steps[run] if run < len(panels.steps) else 0)
        function = self._packing(packing)
        with self._each(k, range(plan.k.level, run - 1, -1)) as digits:
            at = base
            for digit, by in zip(digits, panels.steps, strict=True):
                at = ints.add(at, ints.mul(digit, i64(by)))
            source = self.shared.at(
                self.shared.pointers[operand.buffer.name], at, ir.IntType(operand.buffer.dtype.bits)
            )
            place = self.shared.at(to, ints.mul(self._linear(digits, k), i64(plan.filters)))
            self.b.call(function, [rows.size, steps, source, row, following, place, i64(plan.filters)])

    def _runs_packing(self, panels: Panels) -> tuple[int, Packing | TapsPacking]:
        """How many of k's lowest digits are packed by one call, and the function for them."""
        plan, operand = self.plan, panels.operand
        source, dtype, width = operand.buffer.dtype, self.kernel.accumulate, plan.filters
        near, places = taps_near(plan.k, panels.steps)
        if (
            plan.along == "m"
            and plan.target.masks
            and operand.order != "rows"
            and near >= panels.run
            and len(places) > 1
        ):
            return near, TapsPacking(source, dtype, width, places)
        order = "any" if plan.along == "n" else operand.order  # a few filters: not worth squares of vectors
        return panels.run, Packing(source, dtype, width, order)

    def _pack_evaluated(self, rows: Range, k: list[Range], steps: ir.Value, to: ir.Value) -> None:
        self._evaluate(rows, k, steps)
        order = "any" if self.plan.along == "n" else "k"
        packing = self._packing(Packing(self.kernel.accumulate, self.kernel.accumulate, self.plan.filters, order))
        stride = i64(self.plan.matrix_stride)
        self.b.call(packing, [rows.size, steps, self.matrix, stride, i64(1), to, i64(self.plan.filters)])

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

    def _packing(self, packing: Packing | TapsPacking) -> ir.Function:
        target = self.plan.tile_target

        def emit() -> ir.Module:
            return emit_packing(packing, target) if isinstance(packing, Packing) else emit_taps_packing(packing, target)

        return self.shared.depend(packing.name(target), PACK, emit)
