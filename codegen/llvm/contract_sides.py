"""The operands of a contraction while it is emitted: where a tile reads its rows, and how they come to lie there."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field

import llvmlite.ir as ir

from tjit.codegen.kernel import Axis, ContractKernel, Expr
from tjit.codegen.llvm.contract_lanes import emit_fill, runs
from tjit.codegen.llvm.contract_operands import Operand
from tjit.codegen.llvm.contract_packing import FEW_ROWS, Pack
from tjit.codegen.llvm.contract_plan import Plan
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.packing import PACK, Packing, emit_packing
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import declare, element_type, i64
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim

__all__ = ["Dependency", "Emission", "Range", "Side", "Strided"]


@dataclass(frozen=True, slots=True)
class Dependency:
    """A function that a kernel's module declares and that is joined with it by name.

    Attributes:
        name: unique to the function's text, for one target.
        emit: gives the module that defines it.
    """

    name: str
    emit: Callable[[], ir.Module]


@dataclass(frozen=True, slots=True)
class Range:
    """A range of m, n or k."""

    start: ir.Value
    size: ir.Value


@dataclass(frozen=True, slots=True)
class Strided:
    """What a tile reads: a pointer to its first element, the strides of its rows and of k."""

    pointer: ir.Value
    row: ir.Value
    k: ir.Value


@dataclass
class Emission:
    """What the parts of one emission share.

    Attributes:
        batch: values of the batch axes.
        lowest: that digit of the first step of the block of k; the higher ones are bound in `ints`.
        parts: internal functions of the module, by what they are for.
        dependencies: of the module, by name.
    """

    kernel: ContractKernel
    target: Target
    module: ir.Module
    b: ir.IRBuilder
    ints: Integers
    args: ir.Value
    pointers: dict[str, ir.Value]
    batch: list[ir.Value] = field(default_factory=list)
    lowest: ir.Value = field(default_factory=lambda: i64(0))
    parts: dict[str, ir.Function] = field(default_factory=dict)
    dependencies: dict[str, Dependency] = field(default_factory=dict)

    def at(self, pointer: ir.Value, offset: ir.Value, element: ir.Type | None = None) -> ir.Value:
        """The address of an element, by default of the sums' type."""
        element = element or element_type(self.kernel.accumulate)
        return self.b.gep(pointer, [offset], source_etype=element)

    def depend(self, name: str, type_: ir.FunctionType, emit: Callable[[], ir.Module]) -> ir.Function:
        """Declare a function that another module defines."""
        self.dependencies.setdefault(name, Dependency(name, emit))
        return declare(self.b, name, type_)


@dataclass(frozen=True, slots=True)
class Side:
    """a or b.

    Attributes:
        row: the axis beside k: m or n.
        panels: its place in scratch; `width` rows in each panel, `block` rows in all.
        matrix: where the rows of one panel are evaluated that are then packed.
    """

    emission: Emission
    plan: Plan
    name: str
    expr: Expr
    row: Axis
    operand: Operand | None
    pack: Pack
    order: str
    width: int
    block: Dim
    panels: ir.Value
    matrix: ir.Value

    def prepare(self, rows: Range, k: Range, m_size: ir.Value) -> None:
        """Fill the panels that tiles of this block will read."""
        e = self.emission
        if self.pack is Pack.TALL:
            with e.b.if_then(self._is_tall(m_size)):
                self._pack(rows, k)
        elif self.pack is Pack.LAST:
            edge = e.ints.mod(rows.size, i64(self.width))
            with e.b.if_then(e.b.icmp_signed(">", edge, i64(0))):
                whole = e.ints.sub(rows.size, edge)
                self._pack(Range(e.ints.add(rows.start, whole), edge), k)
        elif self.pack is Pack.ALL:
            self._pack(rows, k)
        elif self.pack is Pack.FILL:
            self._fill(rows, k)

    def panel(self, offset: ir.Value, rows: Range, k: Range, m_size: ir.Value) -> Strided:
        """Where a tile, `offset` rows into the block, reads its rows: in a panel, or in place."""
        e, b, width = self.emission, self.emission.b, i64(self.width)
        if self._is_matrix:
            stride = e.ints.dim(self._stride)
            row, step = (i64(1), stride) if self.order == "rows" else (stride, i64(1))
            return Strided(e.at(self.panels, e.ints.mul(offset, row)), row, step)
        first = i64(0) if self.pack is Pack.LAST else offset
        steps = e.ints.add(self.steps(k.size), i64(int(self.plan.has_offsets and self.name == "b")))
        packed = Strided(e.at(self.panels, e.ints.mul(first, steps)), i64(1), width)
        if self.pack.is_whole:
            return packed
        placed = self._in_place(rows, e.lowest)
        if self.plan.dot is not None:  # whose steps are groups of neighbours
            placed = Strided(placed.pointer, e.ints.div(placed.row, i64(self.plan.group)), i64(1))
        if self.pack is Pack.NONE:
            return placed
        is_packed = self._is_tall(m_size) if self.pack is Pack.TALL else b.icmp_signed("<", rows.size, width)
        return Strided(
            b.select(is_packed, packed.pointer, placed.pointer),
            b.select(is_packed, packed.row, placed.row),
            b.select(is_packed, packed.k, placed.k),
        )

    def steps(self, count: ir.Value) -> ir.Value:
        """How many steps of the microkernel so many of k are."""
        return self.emission.ints.ceil_div(count, i64(self.plan.group))

    @property
    def _is_matrix(self) -> bool:
        """Whether tiles read what was evaluated as it lies; b with lanes along k is packed from there."""
        return self.pack is Pack.FILL and (self.name == "a" or self.order == "rows")

    @property
    def _stride(self) -> Dim:
        return self.plan.fill_stride(self.order, self.block)

    def _is_tall(self, m_size: ir.Value) -> ir.Value:
        return self.emission.b.icmp_signed(">", m_size, i64(FEW_ROWS))

    def _in_place(self, rows: Range, lowest: ir.Value) -> Strided:
        """Memory from the first of `rows` on, and of k from the step on whose lowest digit is given."""
        assert self.operand is not None
        e, ints, operand = self.emission, self.emission.ints, self.operand
        row, step = ints.dim(operand.row_stride), ints.dim(operand.k_stride)
        offset, first = ints.add(ints.dim(operand.base), ints.mul(lowest, step)), rows.start
        if operand.panels is not None:  # which no tile straddles
            width = i64(operand.panels.width)
            offset = ints.add(offset, ints.mul(ints.div(first, width), ints.dim(operand.panels.stride)))
            first = ints.mod(first, width)
        offset = ints.add(offset, ints.mul(first, row))
        element = ir.IntType(operand.buffer.dtype.bits)
        return Strided(e.at(e.pointers[operand.buffer.name], offset, element), row, step)

    def _pack(self, rows: Range, k: Range) -> None:
        if self.plan.joins_runs:
            self._pack_runs(rows, k)
        else:
            self._pack_block(rows, Range(self.emission.lowest, k.size), self.panels)

    def _pack_runs(self, rows: Range, k: Range) -> None:
        """Panel by panel, each from the runs of a block of k."""
        e, ints, width = self.emission, self.emission.ints, i64(self.width)
        with ints.loop(i64(0), rows.size, self.width) as j:
            panel = Range(ints.add(rows.start, j), ints.min(width, ints.sub(rows.size, j)))
            with runs(e.b, ints, self.plan.digits, k.start, k.size) as (start, lowest, size):
                before = ints.add(ints.mul(j, self.steps(k.size)), ints.mul(self.steps(start), width))
                self._pack_block(panel, Range(lowest, size), e.at(self.panels, before))

    def _pack_block(self, rows: Range, k: Range, to: ir.Value) -> None:
        """Panels from within a run of k: `k` is a range of the lowest digit."""
        assert self.operand is not None
        source_dtype, order, dot = self.operand.buffer.dtype, self.operand.order, self.plan.dot
        if dot is None:
            packing = self._packing(Packing(source_dtype, self._dtype, self.width, order))
        else:
            flips, offsets = (self.plan.has_offsets and self.name == side for side in "ab")
            packing = self._packing(Packing(source_dtype, dot.element, self.width, order, dot.group, flips, offsets))
        source = self._in_place(rows, k.start)
        self.emission.b.call(packing, [rows.size, k.size, source.pointer, source.row, source.k, to, i64(self.width)])

    def _packing(self, packing: Packing) -> ir.Function:
        target = self.emission.target
        return self.emission.depend(packing.name(target), PACK, lambda: emit_packing(packing, target))

    @property
    def _dtype(self) -> DType:
        return self.emission.kernel.accumulate

    def _fill(self, rows: Range, k: Range) -> None:
        """Evaluate the operand into a matrix, or panel by panel into one that is packed."""
        e, ints = self.emission, self.emission.ints
        if self._is_matrix:
            self._evaluate(self.panels, rows, k)
            return
        with ints.loop(i64(0), rows.size, self.width) as j:
            panel = Range(ints.add(rows.start, j), ints.min(i64(self.width), ints.sub(rows.size, j)))
            self._evaluate(self.matrix, panel, k)
            packing = self._packing(Packing(self._dtype, self._dtype, self.width, "k"))
            to = e.at(self.panels, ints.mul(j, k.size))
            e.b.call(packing, [panel.size, k.size, self.matrix, ints.dim(self._stride), i64(1), to, i64(self.width)])

    def _evaluate(self, to: ir.Value, rows: Range, k: Range) -> None:
        e = self.emission
        fill = e.parts.get(self.name)
        if fill is None:
            name = f"fill_{self.name}"
            fill = emit_fill(e.module, e.kernel, e.target, name, self.expr, self.row.symbol, self.order)
            e.parts[self.name] = fill
        stride = e.ints.dim(self._stride)
        e.b.call(fill, [e.args, *e.batch, to, stride, rows.start, rows.size, k.start, k.size])
