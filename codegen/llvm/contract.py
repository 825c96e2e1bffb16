"""Contractions: packed panels, the microkernel over register tiles, then the epilogue on each finished tile.

Loops, outermost first: cells of this task, groups of rows, blocks of n, blocks of k (b is packed), blocks of m (a is
packed), tiles. Every sum runs over k in order, in blocks that depend on k's extent only: neither the number of tasks
nor the blocks of m and n change a bit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import llvmlite.ir as ir

from tjit.codegen.kernel import Axis, ContractKernel, Expr
from tjit.codegen.llvm.contract_lanes import emit_epilogue, emit_fill, load_arguments
from tjit.codegen.llvm.contract_plan import FEW_ROWS, ColumnClass, Operand, Pack, Plan, RowClass, Style, plan_contract
from tjit.codegen.llvm.dot_kernel import DotTile, emit_dot_kernel
from tjit.codegen.llvm.indices import Integers
from tjit.codegen.llvm.microkernel import MICROKERNEL, Tile, emit_microkernel
from tjit.codegen.llvm.packing import PACK, Packing, emit_packing
from tjit.codegen.llvm.stream_kernel import StreamTile, emit_stream_kernel
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, declare, element_type, i64, while_loop
from tjit.dtypes import DType
from tjit.ir.dims import Dim

__all__ = ["Dependency", "contract_scratch_bytes", "contract_tasks", "emit_contract"]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A function that a kernel's module declares and that is joined with it by name.

    Attributes:
        name: unique to the function's text, for one target.
        emit: gives the module that defines it.
    """

    name: str
    emit: Callable[[], ir.Module]


def contract_tasks(kernel: ContractKernel, target: Target) -> Dim:
    """Into how many tasks `kernel` may be cut at most; any number from 1 to this gives the same bits."""
    return plan_contract(kernel, target).tasks


def contract_scratch_bytes(kernel: ContractKernel, target: Target) -> Dim:
    """Bytes of scratch memory for all tasks together."""
    plan = plan_contract(kernel, target)
    return plan.tasks * plan.slot_bytes


def emit_contract(kernel: ContractKernel, target: Target) -> tuple[ir.Module, tuple[Dependency, ...]]:
    """The module that defines `kernel.name`, and the functions it is joined with."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    emitter = _Contract(module, plan_contract(kernel, target))
    emitter.emit()
    return module, tuple(emitter.dependencies.values())


@dataclass(frozen=True, slots=True)
class _Range:
    """A range [start, stop) of m, n or k while the code for it is emitted."""

    start: ir.Value
    size: ir.Value


@dataclass(frozen=True, slots=True)
class _Side:
    """a or b: what it reads along which axis; its panels in scratch, of `width` rows each, and which of them are used."""

    name: str
    expr: Expr
    row: Axis
    operand: Operand | None
    pack: Pack
    order: str
    panels: ir.Value
    width: int
    block: Dim


@dataclass(frozen=True, slots=True)
class _Strided:
    """What a tile reads: a pointer to its first element, the strides of its rows and of k."""

    pointer: ir.Value
    row: ir.Value
    k: ir.Value


T = TypeVar("T", RowClass, ColumnClass)


class _Contract:
    """The one emission of a kernel."""

    def __init__(self, module: ir.Module, plan: Plan) -> None:
        self.module, self.plan, self.kernel = module, plan, plan.kernel
        self.dependencies: dict[str, Dependency] = {}
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), self.kernel.name)
        # these loops only call: optimising them doubles LLVM's time and gains nothing
        function.attributes.add("optnone")
        function.attributes.add("noinline")
        self.args, self.task, self.tasks = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.ints = Integers(self.b)
        self.element = element_type(self.kernel.accumulate)

    def emit(self) -> None:
        self._load_arguments()
        ints, plan = self.ints, self.plan
        cells, m_cells, n_cells = ints.dim(plan.cells), ints.dim(plan.m_cells), ints.dim(plan.n_cells)
        first = ints.div(ints.mul(self.task, cells), self.tasks)
        last = ints.div(ints.mul(ints.add(self.task, i64(1)), cells), self.tasks)
        # cells run along m, then n, then batch: whole columns of cells are joined to one rectangle
        cell = self._variable(first)
        with while_loop(self.b, lambda: self.b.icmp_signed("<", self.b.load(cell, typ=I64), last)):
            c = self.b.load(cell, typ=I64)
            i, column = ints.mod(c, m_cells), ints.div(c, m_cells)
            j, batch = ints.mod(column, n_cells), ints.div(column, n_cells)
            left = ints.sub(last, c)
            whole = self.b.and_(
                self.b.icmp_signed("==", i, i64(0)), self.b.icmp_signed(">=", left, m_cells)
            )
            wide = self.b.select(whole, ints.min(ints.div(left, m_cells), ints.sub(n_cells, j)), i64(1))
            tall = self.b.select(whole, m_cells, ints.min(ints.sub(m_cells, i), left))
            self._bind_batch(batch)
            m = self._span(i, tall, plan.m_cell, self.kernel.m.extent)
            n = self._span(j, wide, plan.n_cell, self.kernel.n.extent)
            self._rectangle(m, n)
            self.b.store(ints.add(c, ints.mul(wide, tall)), cell)
        self.b.ret_void()

    def _load_arguments(self) -> None:
        b, plan = self.b, self.plan
        self.pointers = load_arguments(b, self.ints, self.args, self.kernel)
        scratch = b.load(b.gep(self.args, [i64(2)], source_etype=PTR), typ=PTR)
        slot = self._at(scratch, self.ints.mul(self.task, self.ints.dim(plan.slot_bytes)), ir.IntType(8))
        places = []
        for size in plan.slots():
            places.append(slot)
            slot = self._at(slot, self.ints.dim(size))
        a, panels, self.matrix, self.sums = places
        self.side_a = _Side("a", self.kernel.a, self.kernel.m, plan.a, plan.pack_a, plan.order_a, a, plan.rows, plan.m_block)
        self.side_b = _Side(
            "b", self.kernel.b, self.kernel.n, plan.b, plan.pack_b, plan.order_b, panels, plan.columns, plan.n_block
        )
        self.batch: list[ir.Value] = []
        self.parts: dict[str, ir.Function] = {}

    def _bind_batch(self, linear: ir.Value) -> None:
        for axis in reversed(self.kernel.batch):
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(linear, extent)
            linear = self.ints.div(linear, extent)
        self.batch = [self.ints.symbols[axis.symbol.name] for axis in self.kernel.batch]

    def _span(self, cell: ir.Value, count: ir.Value, size: Dim, extent: Dim) -> _Range:
        ints = self.ints
        unit = ints.dim(size)
        start = ints.mul(cell, unit)
        stop = ints.min(ints.mul(ints.add(cell, count), unit), ints.dim(extent))
        return _Range(start, ints.sub(stop, start))

    def _rectangle(self, m: _Range, n: _Range) -> None:
        ints, plan = self.ints, self.plan
        group = ints.dim(plan.m_group) if plan.keeps_sums else m.size
        extent = ints.dim(self.kernel.k.extent)
        with ints.loop(i64(0), m.size, group) as g, ints.loop(i64(0), n.size, ints.dim(plan.n_block)) as j:
            rows = _Range(ints.add(m.start, g), ints.min(group, ints.sub(m.size, g)))
            block_n = self._block(n, j, plan.n_block)
            # k = 0 has one empty block: the epilogue runs on zeros
            with ints.loop(i64(0), ints.max(extent, i64(1)), ints.dim(plan.k_block)) as p:
                block_k = _Range(p, ints.min(ints.dim(plan.k_block), ints.sub(extent, p)))
                self._pack(self.side_b, block_n, block_k, m.size)
                with ints.loop(i64(0), rows.size, ints.dim(plan.m_block)) as i:
                    block_m = self._block(rows, i, plan.m_block)
                    self._pack(self.side_a, block_m, block_k, m.size)
                    self._tiles(block_m, block_n, block_k, ints.sub(block_m.start, rows.start), m.size)

    def _block(self, whole: _Range, offset: ir.Value, size: Dim) -> _Range:
        ints = self.ints
        return _Range(ints.add(whole.start, offset), ints.min(ints.dim(size), ints.sub(whole.size, offset)))

    def _pack(self, side: _Side, rows: _Range, k: _Range, m_size: ir.Value) -> None:
        """Fill the panels that tiles of this block will read."""
        ints, b = self.ints, self.b
        if side.pack is Pack.TALL:
            with b.if_then(self._is_tall(m_size)):
                self._pack_rows(side, rows, k)
        elif side.pack is Pack.LAST:
            edge = ints.mod(rows.size, i64(side.width))
            with b.if_then(b.icmp_signed(">", edge, i64(0))):
                whole = ints.sub(rows.size, edge)
                self._pack_rows(side, _Range(ints.add(rows.start, whole), edge), k)
        elif side.pack is Pack.ALL:
            self._pack_rows(side, rows, k)
        elif side.pack is Pack.FILL:
            self._fill(side, rows, k)

    def _pack_rows(self, side: _Side, rows: _Range, k: _Range) -> None:
        assert side.operand is not None
        self._call_packing(side, side.operand.buffer.dtype, side.operand.order, rows, k, self._in_place(side.operand, rows, k))

    def _call_packing(
        self, side: _Side, dtype: DType, order: str, rows: _Range, k: _Range, source: _Strided, to: ir.Value | None = None
    ) -> None:
        packing = Packing(dtype, self.kernel.accumulate, side.width, order)
        function = self._depend(packing.name(self.plan.target), PACK, lambda: emit_packing(packing, self.plan.target))
        self.b.call(function, [rows.size, k.size, source.pointer, source.row, source.k, to or side.panels])

    def _fill(self, side: _Side, rows: _Range, k: _Range) -> None:
        """Evaluate an operand into a matrix; b with lanes along k is packed from there, panel by panel."""
        ints = self.ints
        stride = ints.dim(self.plan.fill_stride(side.order, side.block))
        if side.name == "a" or side.order == "rows":
            self._call_fill(side, side.panels, stride, rows, k)
            return
        with ints.loop(i64(0), rows.size, side.width) as j:
            panel = _Range(ints.add(rows.start, j), ints.min(i64(side.width), ints.sub(rows.size, j)))
            self._call_fill(side, self.matrix, stride, panel, k)
            source = _Strided(self.matrix, stride, i64(1))
            self._call_packing(
                side, self.kernel.accumulate, "k", panel, k, source, self._at(side.panels, ints.mul(j, k.size))
            )

    def _call_fill(self, side: _Side, to: ir.Value, stride: ir.Value, rows: _Range, k: _Range) -> None:
        fill = self.parts.get(side.name)
        if fill is None:
            row = side.row.symbol
            fill = emit_fill(self.module, self.kernel, self.plan.target, f"fill_{side.name}", side.expr, row, side.order)
            self.parts[side.name] = fill
        self.b.call(fill, [self.args, *self.batch, to, stride, rows.start, rows.size, k.start, k.size])

    def _is_tall(self, m_size: ir.Value) -> ir.Value:
        return self.b.icmp_signed(">", m_size, i64(FEW_ROWS))

    def _tiles(self, m: _Range, n: _Range, k: _Range, kept_row: ir.Value, m_size: ir.Value) -> None:
        """Every register tile of a block; `kept_row` is the block's first row among the kept sums."""
        ints, plan, b = self.ints, self.plan, self.b
        later = b.icmp_signed(">", k.start, i64(0))
        final = b.icmp_signed(">=", ints.add(k.start, k.size), ints.dim(self.kernel.k.extent))
        outer, inner = (m.size, plan.rows), (n.size, plan.columns)
        if not plan.along_n:
            outer, inner = inner, outer
        with ints.loop(i64(0), *outer) as x, ints.loop(i64(0), *inner) as y:
            i, j = (x, y) if plan.along_n else (y, x)
            rows = _Range(ints.add(m.start, i), ints.min(i64(plan.rows), ints.sub(m.size, i)))
            columns = _Range(ints.add(n.start, j), ints.min(i64(plan.columns), ints.sub(n.size, j)))
            a = self._panel(self.side_a, i, rows, k, m_size)
            panel = self._panel(self.side_b, j, columns, k, m_size)
            if plan.direct is None:
                c, c_row = self.sums, i64(plan.columns)
                if plan.keeps_sums:
                    c_row = ints.dim(plan.n_block)
                    c = self._at(self.sums, ints.add(ints.mul(ints.add(kept_row, i), c_row), j))
                self._run_microkernel(k, a, panel, (c, c_row), rows, columns, later)
                with b.if_then(final):
                    self._epilogue(c, c_row, rows, columns)
            else:
                self._direct_tile(k, a, panel, rows, columns, later)

    def _direct_tile(
        self, k: _Range, a: _Strided, panel: _Strided, rows: _Range, columns: _Range, later: ir.Value
    ) -> None:
        """A tile whose sums go to the output as they are; by way of scratch where the microkernel's tile is larger."""
        ints, b, direct = self.ints, self.b, self.plan.direct
        assert direct is not None
        row_stride = ints.dim(direct.row_stride)
        offset = ints.add(ints.dim(direct.base), ints.add(ints.mul(rows.start, row_stride), columns.start))
        output = self._at(self.pointers[direct.buffer.name], offset)
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
        ints, b = self.ints, self.b
        with ints.loop(i64(0), rows) as i, ints.loop(i64(0), columns) as j:
            x = b.load(self._at(self.sums, ints.add(ints.mul(i, i64(self.plan.columns)), j)), typ=self.element)
            target = self._at(output, ints.add(ints.mul(i, row_stride), j))
            y = b.load(target, typ=self.element)
            total = b.add(x, y) if isinstance(self.element, ir.IntType) else b.fadd(x, y)
            b.store(b.select(later, total, x), target)

    def _panel(self, side: _Side, offset: ir.Value, rows: _Range, k: _Range, m_size: ir.Value) -> _Strided:
        """Where a tile, `offset` rows into the block, reads its rows: in a packed panel, or in place."""
        b, width = self.b, i64(side.width)
        first = i64(0) if side.pack is Pack.LAST else offset
        packed = _Strided(self._at(side.panels, self.ints.mul(first, k.size)), i64(1), width)
        if side.pack is Pack.FILL and (side.name == "a" or side.order == "rows"):
            stride = self.ints.dim(self.plan.fill_stride(side.order, side.block))
            row, step = (i64(1), stride) if side.order == "rows" else (stride, i64(1))
            return _Strided(self._at(side.panels, self.ints.mul(offset, row)), row, step)
        if side.operand is None or side.pack is Pack.ALL:
            return packed
        placed = self._in_place(side.operand, rows, k)
        if side.pack is Pack.NONE:
            return placed
        is_packed = self._is_tall(m_size) if side.pack is Pack.TALL else b.icmp_signed("<", rows.size, width)
        return _Strided(
            b.select(is_packed, packed.pointer, placed.pointer),
            b.select(is_packed, packed.row, placed.row),
            b.select(is_packed, packed.k, placed.k),
        )

    def _in_place(self, operand: Operand, rows: _Range, k: _Range) -> _Strided:
        ints = self.ints
        row, step = ints.dim(operand.row_stride), ints.dim(operand.k_stride)
        offset = ints.add(ints.dim(operand.base), ints.add(ints.mul(rows.start, row), ints.mul(k.start, step)))
        element = ir.IntType(operand.buffer.dtype.bits)
        return _Strided(self._at(self.pointers[operand.buffer.name], offset, element), row, step)

    def _run_microkernel(
        self,
        k: _Range,
        a: _Strided,
        panel: _Strided,
        c: tuple[ir.Value, ir.Value],
        rows: _Range,
        columns: _Range,
        add: ir.Value,
    ) -> None:
        """Call the microkernel of the tile's class of rows and of columns."""
        b_step = panel.row if self.plan.style is Style.DOTS else panel.k
        operands = [k.size, a.pointer, a.row, a.k, panel.pointer, b_step, *c, columns.size, self.b.zext(add, I64)]

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
        if not others:
            body(first)
            return
        with self.b.if_else(self.b.icmp_signed("<=", size, i64(first.most))) as (within, beyond):
            with within:
                body(first)
            with beyond:
                self._choose(size, others, body)

    def _epilogue(self, c: ir.Value, c_row: ir.Value, rows: _Range, columns: _Range) -> None:
        function = self.parts.get("epilogue")
        if function is None:
            function = self.parts["epilogue"] = emit_epilogue(self.module, self.kernel, self.plan.target)
        self.b.call(function, [self.args, *self.batch, c, c_row, rows.start, rows.size, columns.start, columns.size])

    def _microkernel(self, height: RowClass, width: ColumnClass) -> ir.Function:
        dtype, target = self.kernel.accumulate, self.plan.target
        if self.plan.style is not Style.TILES:
            assert self.plan.b is not None
            source = self.plan.b.buffer.dtype
            if self.plan.style is Style.DOTS:
                dots = DotTile(dtype, source, height.rows)
                return self._depend(dots.name(target), MICROKERNEL, lambda: emit_dot_kernel(dots, target))
            stream = StreamTile(dtype, source, height.rows)
            return self._depend(stream.name(target), MICROKERNEL, lambda: emit_stream_kernel(stream, target))
        tile = Tile(dtype, height.rows, width.vectors, width.masked)
        return self._depend(tile.name(target), MICROKERNEL, lambda: emit_microkernel(tile, target))

    def _depend(self, name: str, type_: ir.FunctionType, emit: Callable[[], ir.Module]) -> ir.Function:
        self.dependencies.setdefault(name, Dependency(name, emit))
        return declare(self.b, name, type_)

    def _at(self, pointer: ir.Value, offset: ir.Value, element: ir.Type | None = None) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=element or self.element)

    def _variable(self, start: ir.Value) -> ir.Value:
        variable = self.b.alloca(I64)
        self.b.store(start, variable)
        return variable
