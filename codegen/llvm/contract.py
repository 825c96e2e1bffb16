"""Contractions: packed panels, the microkernel over register tiles, then the epilogue on each finished tile.

Tasks are ranges of the grid of cells along m; where their number is negative, along what the results of a task lie
together with. Loops, outermost first: cells of this task, groups of rows, blocks of n, blocks of k (b is packed),
blocks of m (a is packed), tiles. Every sum runs over k in order, in blocks that depend on k's extent only: neither the
number of tasks nor the blocks of m and n change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import TypeVar

import llvmlite.ir as ir

from tjit.codegen.grids import GridAxis
from tjit.codegen.kernel import ContractKernel
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.contract_lanes import bind_digits, emit_epilogue, load_arguments
from tjit.codegen.llvm.contract_operands import leads_with_m
from tjit.codegen.llvm.contract_plan import ColumnClass, Plan, RowClass, plan_contract
from tjit.codegen.llvm.contract_sides import Dependency, Emission, Range, Side, Strided
from tjit.codegen.llvm.contract_tile import Style
from tjit.codegen.llvm.dot_kernel import DotTile, emit_dot_kernel
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.microkernel import MICROKERNEL, Tile, emit_microkernel
from tjit.codegen.llvm.plain import plain_function
from tjit.codegen.llvm.stream_kernel import StreamTile, emit_stream_kernel
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, element_type, i64, while_loop
from tjit.codegen.llvm.window_plan import plan_windows
from tjit.codegen.llvm.windows import emit_windows
from tjit.ir.dims import Dim

__all__ = ["Dependency", "contract_grid", "contract_scratch_bytes", "contract_tasks", "emit_contract"]


def contract_tasks(kernel: ContractKernel, target: Target) -> Dim:
    """Into how many tasks `kernel` may be cut at most; any number from 1 to this gives the same bits."""
    return (plan_windows(kernel, target) or plan_contract(kernel, target)).tasks


def contract_scratch_bytes(kernel: ContractKernel, target: Target) -> Dim:
    """Bytes of a thread's scratch memory."""
    return (plan_windows(kernel, target) or plan_contract(kernel, target)).scratch_bytes


def contract_grid(kernel: ContractKernel, target: Target) -> tuple[GridAxis, ...]:
    """What tasks are equal ranges of, where it falls into equal pieces."""
    return (plan_windows(kernel, target) or plan_contract(kernel, target)).grid


def emit_contract(kernel: ContractKernel, target: Target) -> tuple[ir.Module, tuple[Dependency, ...]]:
    """The module that defines `kernel.name`, and the functions it is joined with."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    windows = plan_windows(kernel, target)
    if windows is not None:
        return module, tuple(emit_windows(module, windows).dependencies.values())
    emitter = _Contract(module, plan_contract(kernel, target))
    emitter.emit()
    return module, tuple(emitter.shared.dependencies.values())


T = TypeVar("T", RowClass, ColumnClass)


class _Contract:
    """The one emission of a kernel."""

    def __init__(self, module: ir.Module, plan: Plan) -> None:
        self.plan, self.kernel = plan, plan.kernel
        # these loops only call: optimising them doubles LLVM's time and gains nothing
        function = plain_function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), self.kernel.name)
        args, self.task, tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.ints = Integers(self.b)
        in_order = self.b.icmp_signed("<", tasks, i64(0))
        self.along_n = in_order if leads_with_m(plan.kernel) else ir.Constant(ir.IntType(1), 0)
        self.tasks = self.b.select(in_order, self.b.neg(tasks), tasks)
        self.element = element_type(self.kernel.accumulate)
        pointers = load_arguments(self.b, self.ints, args, self.kernel)
        self.shared = Emission(plan.kernel, plan.target, module, self.b, self.ints, args, pointers)
        self._place_scratch(self.b.load(self.b.gep(args, [i64(2)], source_etype=PTR), typ=PTR))

    def _place_scratch(self, scratch: ir.Value) -> None:
        """Share out the scratch memory."""
        plan = self.plan
        places = []
        for size in plan.slots():
            places.append(scratch)
            scratch = self.shared.at(scratch, self.ints.dim(size))
        a, b, matrix, self.sums = places
        k = self.kernel
        a_block, b_block = (plan.rows, plan.m_block), (plan.columns, plan.n_block)
        self.side_a = Side(self.shared, plan, "a", k.a, k.m, plan.a, plan.pack_a, plan.order_a, *a_block, a, matrix)
        self.side_b = Side(self.shared, plan, "b", k.b, k.n, plan.b, plan.pack_b, plan.order_b, *b_block, b, matrix)

    def emit(self) -> None:
        ints, plan = self.ints, self.plan
        cells = ints.dim(plan.cells)
        first = ints.div(ints.mul(self.task, cells), self.tasks)
        last = ints.div(ints.mul(ints.add(self.task, i64(1)), cells), self.tasks)
        if plan.m_cells == 1 and plan.n_cells == 1:
            with ints.loop(first, last) as batch:
                self._bind_batch(batch)
                self._rectangle(*(Range(i64(0), ints.dim(x.extent)) for x in (self.kernel.m, self.kernel.n)))
        else:
            self._cells(first, last)
        self.b.ret_void()

    def _cells(self, first: ir.Value, last: ir.Value) -> None:
        ints, plan = self.ints, self.plan
        m_cells, n_cells = ints.dim(plan.m_cells), ints.dim(plan.n_cells)
        # cells run along m or along n, then the other one, then batch: whole lines of cells are joined to one rectangle
        line, lines = (self._select(*x) for x in ((n_cells, m_cells), (m_cells, n_cells)))
        cell = self._variable(first)
        with while_loop(self.b, lambda: self.b.icmp_signed("<", self.b.load(cell, typ=I64), last)):
            c = self.b.load(cell, typ=I64)
            at, number = ints.mod(c, line), ints.div(c, line)
            place, batch = ints.mod(number, lines), ints.div(number, lines)
            left = ints.sub(last, c)
            whole = self.b.and_(self.b.icmp_signed("==", at, i64(0)), self.b.icmp_signed(">=", left, line))
            wide = self.b.select(whole, ints.min(ints.div(left, line), ints.sub(lines, place)), i64(1))
            long = self.b.select(whole, line, ints.min(ints.sub(line, at), left))
            self._bind_batch(batch)
            m = self._span(self._select(place, at), self._select(wide, long), plan.m_cell, self.kernel.m.extent)
            n = self._span(self._select(at, place), self._select(long, wide), plan.n_cell, self.kernel.n.extent)
            self._rectangle(m, n)
            self.b.store(ints.add(c, ints.mul(wide, long)), cell)

    def _select(self, along_n: ir.Value, along_m: ir.Value) -> ir.Value:
        return self.b.select(self.along_n, along_n, along_m)

    def _bind_batch(self, linear: ir.Value) -> None:
        for axis in reversed(self.kernel.batch[1:]):
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(linear, extent)
            linear = self.ints.div(linear, extent)
        for axis in self.kernel.batch[:1]:
            self.ints.symbols[axis.symbol.name] = linear
        self.shared.batch = [self.ints.symbols[axis.symbol.name] for axis in self.kernel.batch]

    def _span(self, cell: ir.Value, count: ir.Value, size: Dim, extent: Dim) -> Range:
        ints = self.ints
        unit = ints.dim(size)
        start = ints.mul(cell, unit)
        stop = ints.min(ints.mul(ints.add(cell, count), unit), ints.dim(extent))
        return Range(start, ints.sub(stop, start))

    def _rectangle(self, m: Range, n: Range) -> None:
        ints, plan = self.ints, self.plan
        group = ints.dim(plan.m_group) if plan.keeps_sums else m.size
        with ints.loop(i64(0), m.size, group) as g, ints.loop(i64(0), n.size, ints.dim(plan.n_block)) as j:
            rows = Range(ints.add(m.start, g), ints.min(group, ints.sub(m.size, g)))
            block_n = self._block(n, j, plan.n_block)
            with self._blocks_of_k() as block_k:
                self.side_b.prepare(block_n, block_k, m.size)
                with ints.loop(i64(0), rows.size, ints.dim(plan.m_block)) as i:
                    block_m = self._block(rows, i, plan.m_block)
                    self.side_a.prepare(block_m, block_k, m.size)
                    self._tiles(block_m, block_n, block_k, ints.sub(block_m.start, rows.start), m.size)

    @contextmanager
    def _blocks_of_k(self) -> Iterator[Range]:
        """Block after block of k, none across the end of a long run."""
        ints, plan = self.ints, self.plan
        end, size = ints.dim(self.kernel.k.extent), ints.dim(plan.k_block)
        with ExitStack() as loops:
            # k = 0 has one empty block: the epilogue runs on zeros
            start, stop = i64(0), ints.max(end, i64(1))
            if plan.run is not None:
                start = loops.enter_context(ints.loop(start, stop, plan.run))
                stop = ints.min(ints.add(start, i64(plan.run)), stop)
                end = ints.min(stop, end)
            p = loops.enter_context(ints.loop(start, stop, size))
            self.shared.lowest = bind_digits(ints, plan.digits, p)
            yield Range(p, ints.min(size, ints.sub(end, p)))

    def _block(self, whole: Range, offset: ir.Value, size: Dim) -> Range:
        ints = self.ints
        return Range(ints.add(whole.start, offset), ints.min(ints.dim(size), ints.sub(whole.size, offset)))

    def _tiles(self, m: Range, n: Range, k: Range, kept_row: ir.Value, m_size: ir.Value) -> None:
        """Every register tile of a block; `kept_row` is the block's first row among the kept sums."""
        ints, plan, b = self.ints, self.plan, self.b
        later = b.icmp_signed(">", k.start, i64(0))
        final = b.icmp_signed(">=", ints.add(k.start, k.size), ints.dim(self.kernel.k.extent))
        outer, inner = (m.size, plan.rows), (n.size, plan.columns)
        if not plan.along_n:
            outer, inner = inner, outer
        with ints.loop(i64(0), *outer) as x, ints.loop(i64(0), *inner) as y:
            i, j = (x, y) if plan.along_n else (y, x)
            rows = Range(ints.add(m.start, i), ints.min(i64(plan.rows), ints.sub(m.size, i)))
            columns = Range(ints.add(n.start, j), ints.min(i64(plan.columns), ints.sub(n.size, j)))
            a = self.side_a.panel(i, rows, k, m_size)
            panel = self.side_b.panel(j, columns, k, m_size)
            if plan.direct is None:
                c, c_row = self.sums, i64(plan.columns)
                if plan.keeps_sums:
                    c_row = ints.dim(plan.n_block)
                    c = self.shared.at(self.sums, ints.add(ints.mul(ints.add(kept_row, i), c_row), j))
                self._run_microkernel(k, a, panel, (c, c_row), rows, columns, later)
                with b.if_then(final):
                    self._epilogue(c, c_row, rows, columns)
            else:
                self._direct_tile(k, a, panel, rows, columns, later)

    def _direct_tile(self, k: Range, a: Strided, panel: Strided, rows: Range, columns: Range, later: ir.Value) -> None:
        """A tile whose sums go to the output as they are; by way of scratch where the microkernel's tile is larger."""
        ints, b, direct = self.ints, self.b, self.plan.direct
        assert direct is not None
        row_stride = ints.dim(direct.row_stride)
        offset = ints.add(ints.dim(direct.base), ints.add(ints.mul(rows.start, row_stride), columns.start))
        output = self.shared.at(self.shared.pointers[direct.buffer.name], offset, self._stored)
        if self.plan.is_exact:
            self._run_microkernel(k, a, panel, (output, row_stride), rows, columns, later)
            return
        fits = b.icmp_signed("==", rows.size, i64(self.plan.rows))
        if not all(c.exact for c in self.plan.column_classes):
            fits = b.and_(fits, b.icmp_signed("==", columns.size, i64(self.plan.columns)))
        c = b.select(fits, output, self.sums), b.select(fits, row_stride, i64(self.plan.columns))
        self._run_microkernel(k, a, panel, c, rows, columns, b.and_(later, fits))
        with b.if_then(b.not_(fits)):
            self._copy_tile(output, row_stride, rows.size, columns.size, later)

    def _copy_tile(
        self, output: ir.Value, row_stride: ir.Value, rows: ir.Value, columns: ir.Value, later: ir.Value
    ) -> None:
        ints, b, element = self.ints, self.b, self._stored
        with ints.loop(i64(0), rows) as i, ints.loop(i64(0), columns) as j:
            place = ints.add(ints.mul(i, i64(self.plan.columns)), j)
            x = b.load(self.shared.at(self.sums, place, element), typ=element)
            target = self.shared.at(output, ints.add(ints.mul(i, row_stride), j), element)
            if self.plan.stored is None:
                y = b.load(target, typ=element)
                total = b.add(x, y) if isinstance(element, ir.IntType) else b.fadd(x, y)
                x = b.select(later, total, x)
            b.store(x, target)

    def _run_microkernel(
        self,
        k: Range,
        a: Strided,
        panel: Strided,
        c: tuple[ir.Value, ir.Value],
        rows: Range,
        columns: Range,
        add: ir.Value,
    ) -> None:
        """Call the microkernel of the tile's class of rows and of columns."""
        b_step = panel.row if self.plan.style is Style.DOTS else panel.k
        operands = [
            self.side_b.steps(k.size),
            a.pointer,
            a.row,
            a.k,
            panel.pointer,
            b_step,
            *c,
            columns.size,
            self.b.zext(add, I64),
        ]

        def call(height: RowClass, width: ColumnClass) -> None:
            self.b.call(self._microkernel(height, width), operands)

        self._choose(
            rows.size,
            self.plan.row_classes,
            lambda height: self._choose(columns.size, self.plan.column_classes, lambda width: call(height, width)),
        )

    def _choose(self, size: ir.Value, classes: Sequence[T], body: Callable[[T], None]) -> None:
        """Emit `body` for the first of `classes` that `size` is not beyond."""
        first, *others = classes
        if isinstance(size, ir.Constant):
            first, others = next(c for c in classes if int(size.constant) <= c.most), []
        if not others:
            body(first)
            return
        with self.b.if_else(self.b.icmp_signed("<=", size, i64(first.most))) as (within, beyond):
            with within:
                body(first)
            with beyond:
                self._choose(size, others, body)

    def _epilogue(self, c: ir.Value, c_row: ir.Value, rows: Range, columns: Range) -> None:
        e = self.shared
        function = e.parts.get("epilogue")
        if function is None:
            function = e.parts["epilogue"] = emit_epilogue(e.module, self.kernel, self.plan.target)
        self.b.call(function, [e.args, *e.batch, c, c_row, rows.start, rows.size, columns.start, columns.size])

    def _microkernel(self, height: RowClass, width: ColumnClass) -> ir.Function:
        dtype, target = self.kernel.accumulate, self.plan.target
        if self.plan.style is not Style.TILES:
            assert self.plan.b is not None
            source = self.plan.b.buffer.dtype
            if self.plan.style is Style.DOTS:
                dots = DotTile(dtype, source, height.rows, self.plan.in_order)
                return self.shared.depend(dots.name(target), MICROKERNEL, lambda: emit_dot_kernel(dots, target))
            stream = StreamTile(dtype, source, height.rows, self.plan.is_far, self.plan.in_order)
            return self.shared.depend(stream.name(target), MICROKERNEL, lambda: emit_stream_kernel(stream, target))
        tile = Tile(dtype, height.rows, width.vectors, width.masked, self.plan.dot, width.half, self.plan.stored)
        return self.shared.depend(tile.name(target), MICROKERNEL, lambda: emit_microkernel(tile, target))

    @property
    def _stored(self) -> ir.Type:
        """Of an element of the output that sums go to directly."""
        return element_type(self.plan.stored or self.kernel.accumulate)

    def _variable(self, start: ir.Value) -> ir.Value:
        variable = self.b.alloca(I64)
        self.b.store(start, variable)
        return variable
