"""How a contraction is cut: its tiles, blocks, tasks and scratch, as functions of shapes only."""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.grids import GridAxis, whole_pieces
from tjit.codegen.kernel import ContractKernel
from tjit.codegen.llvm.contract_blocks import CELL_FLOPS, blocks_of, ceil_div, in_strips, round_up
from tjit.codegen.llvm.contract_lanes import lane_order
from tjit.codegen.llvm.contract_operands import Direct, direct_output, leads_with_m
from tjit.codegen.llvm.contract_packing import CACHE_BYTES, Pack, pack_a, pack_b, wastes
from tjit.codegen.llvm.contract_tile import Style, Tiled, at_most, reads_of, tiled
from tjit.codegen.llvm.planned import once_a_kernel
from tjit.codegen.llvm.target import Target
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, maximum, minimum, product, symbols

__all__ = ["ColumnClass", "Plan", "RowClass", "plan_contract"]

_STORED_FLOPS = 16  # as many take as long as a result takes to be stored
_SHORT_ROW = 4096  # bytes: a page, beyond which no prefetcher looks
_FEW_STEPS = 256
_MOST_TASKS = 64


@dataclass(frozen=True, slots=True)
class RowClass:
    """Tiles of at most `most` rows, and how many rows the microkernel for them has; `exact`: always just these."""

    most: int
    rows: int
    exact: bool


@dataclass(frozen=True, slots=True)
class ColumnClass:
    """Tiles of at most `most` columns, and the microkernel for them; `exact`: it touches no other column."""

    most: int
    vectors: int
    masked: bool
    exact: bool
    half: bool = False


@dataclass(frozen=True, slots=True)
class Plan(Tiled):
    """The decisions for one kernel on one target.

    Attributes:
        direct: the output, where the epilogue only writes the sum there.
        k_block, m_block, n_block: of packed panels.
        m_cell, n_cell: the grid that tasks are ranges of; m_cell is a multiple of rows, n_cell of columns.
        m_group: rows that are finished before others are begun, for which unfinished sums are kept.
        order_a, order_b: axis of the lanes, "rows" or "k", of operands that are filled.
    """

    direct: Direct | None
    k_block: Dim
    m_block: Dim
    n_block: Dim
    m_cell: Dim
    n_cell: Dim
    m_group: Dim
    pack_a: Pack
    pack_b: Pack
    order_a: str
    order_b: str

    @property
    def row_classes(self) -> tuple[RowClass, ...]:
        """The heights of tiles that occur, rising."""
        full = RowClass(self.rows, self.rows, exact=True)
        extent = self.kernel.m.extent
        if not isinstance(extent, int):
            small = 4  # a few rows of a batch
            return (RowClass(small, small, exact=False), RowClass(self.rows - 1, self.rows, exact=False), full)
        edge = extent % self.rows
        if not edge:
            return (full,)
        own = self.pack_a is Pack.NONE or wastes(edge, extent, self.rows)
        return (RowClass(edge, edge if own else self.rows, exact=own), *((full,) if extent > edge else ()))

    @property
    def column_classes(self) -> tuple[ColumnClass, ...]:
        """The widths of tiles that occur, rising."""
        full = ColumnClass(self.columns, self.vectors, masked=False, exact=True)
        if self.style is not Style.TILES:
            return (full,)
        extent = self.kernel.n.extent
        if not isinstance(extent, int):
            edges = [min(v * self.lanes, self.columns - 1) for v in range(1, self.vectors + 1)]
            return (*map(self._edge_columns, edges), full)
        edge = extent % self.columns
        if not edge:
            return (full,)
        return (self._known_edge(edge), *((full,) if extent > edge else ()))

    def _edge_columns(self, most: int) -> ColumnClass:
        return ColumnClass(most, -(-most // self.lanes), masked=self.target.masks, exact=self.target.masks)

    def _known_edge(self, columns: int) -> ColumnClass:
        """The class of tiles with just so many columns; masks cost nothing, and one function does for any edge."""
        vectors, half = -(-columns // self.lanes), self.lanes // 2
        last = columns - (vectors - 1) * self.lanes
        is_half = last <= half and self.target.vector_bytes == 64 and self.dot is None
        exact = last == (half if is_half else self.lanes)
        return ColumnClass(columns, vectors, self.target.masks, exact or self.target.masks, is_half)

    @property
    def is_exact(self) -> bool:
        """Whether no microkernel touches memory beyond its tile."""
        return all(c.exact for c in (*self.row_classes, *self.column_classes))

    @property
    def has_offsets(self) -> bool:
        """Whether panels of b have a step more."""
        return self.dot is not None and self.dot.unsigned_a

    @property
    def is_far(self) -> bool:
        """Whether b, that of all batches together, is known to be larger than caches."""
        used = () if self.b is None else symbols(self.b.base)
        batch = product(axis.extent for axis in self.kernel.batch if axis.symbol in used)
        size = batch * self.kernel.k.extent * self.kernel.n.extent * self.kernel.b.dtype.itemsize
        return isinstance(size, int) and size > CACHE_BYTES

    @property
    def in_order(self) -> bool:
        """Whether rows of b are read one after the other, as they lie in memory: prefetchers follow no short ones that
        are read side by side."""
        if self.style is Style.DOTS:
            row, most = self.kernel.k.extent, _SHORT_ROW
        else:  # which ask for later rows themselves
            row, most = self.kernel.n.extent, _SHORT_ROW // 4
        return self.is_far and at_most(row * self.kernel.b.dtype.itemsize, most)

    @property
    def m_cells(self) -> Dim:
        return ceil_div(self.kernel.m.extent, self.m_cell)

    @property
    def n_cells(self) -> Dim:
        return ceil_div(self.kernel.n.extent, self.n_cell)

    @property
    def cells(self) -> Dim:
        return product(axis.extent for axis in self.kernel.batch) * self.m_cells * self.n_cells

    @property
    def grid(self) -> tuple[GridAxis, ...]:
        """What tasks in order are equal ranges of, up to the first axis that does not fall into equal pieces."""
        first, cell = (self.kernel.m, self.m_cell) if leads_with_m(self.kernel) else (self.kernel.n, self.n_cell)
        batch = [(axis, 1) for axis in self.kernel.batch]
        return whole_pieces(*batch, *([(first, cell)] if isinstance(cell, int) else []))

    @property
    def tasks(self) -> Dim:
        k = self.kernel
        results = product(axis.extent for axis in k.batch) * k.m.extent * k.n.extent
        flops = results * (k.k.extent * 2 + _STORED_FLOPS)
        return maximum(1, minimum(minimum(self.cells, _MOST_TASKS), flops // (CELL_FLOPS // 2)))

    @property
    def blocks_of_k(self) -> Dim:
        return ceil_div(self.kernel.k.extent, self.k_block)

    @property
    def along_n(self) -> bool:
        """Whether neighbouring tiles of a row are computed one after the other, rather than those of a column."""
        # with few steps of k the results are most of the memory: write them in order
        return at_most(self.kernel.k.extent, _FEW_STEPS)

    @property
    def stored(self) -> DType | None:
        """What the sums are rounded to by the microkernel; None: they stay as they are."""
        direct = self.direct
        return None if direct is None or direct.buffer.dtype is self.kernel.accumulate else direct.buffer.dtype

    @property
    def keeps_sums(self) -> bool:
        """Whether unfinished sums may have to be kept in scratch between blocks of k."""
        return self.direct is None and self.blocks_of_k != 1 and self.kernel.k.extent != 0

    def slots(self) -> tuple[Dim, ...]:
        """Elements of panels of a and of b, a matrix to fill, and kept sums or one tile."""
        fill: Dim = 0
        if self.pack_b is Pack.FILL and self.order_b == "k":
            fill = self.columns * self.fill_stride("k", 0) + self.lanes
        sums: Dim = self.rows * self.columns
        if self.keeps_sums:
            sums = round_up(self.m_group, self.rows) * round_up(self.n_block, self.columns)
        a = self._packed(self.pack_a, self.order_a, self.m_block, self.rows)
        b = self._packed(self.pack_b, self.order_b if fill == 0 else "panels", self.n_block, self.columns)
        return tuple(round_up(size, 16) for size in (a, b, fill, sums))

    def _packed(self, pack: Pack, order: str, block: Dim, width: int) -> Dim:
        if pack is Pack.NONE:
            return 0
        rows = width if pack is Pack.LAST else round_up(block, width)
        if pack is Pack.FILL and order != "panels":
            lines = self.k_block if order == "rows" else rows
            return lines * self.fill_stride(order, block) + self.lanes + width
        steps = ceil_div(self.k_block, self.group) + self.has_offsets
        return steps * rows + self.lanes  # packing may write one vector too much

    def fill_stride(self, order: str, block: Dim) -> Dim:
        """Elements from line to line of a filled matrix: room for the last vector, and never a power of two."""
        length = self.k_block if order == "k" else block
        return round_up(length, 32) + 16

    @property
    def scratch_bytes(self) -> Dim:
        """Of one thread."""
        return round_up(sum(self.slots()) * self.kernel.accumulate.itemsize, 64)


@once_a_kernel
def plan_contract(kernel: ContractKernel, target: Target) -> Plan:
    """Decide how `kernel` runs on `target`."""
    tile, strips = in_strips(tiled(reads_of(kernel, target)))
    kernel, packs_a, packs_b = tile.kernel, pack_a(tile), pack_b(tile)
    blocks = blocks_of(tile, strips, packs_both=packs_a.is_whole and packs_b.is_whole)
    plan = Plan(
        kernel=kernel,
        target=target,
        a=tile.a,
        b=tile.b,
        digits=tile.digits,
        rows=tile.rows,
        vectors=tile.vectors,
        style=tile.style,
        dot=tile.dot,
        direct=direct_output(kernel, rounds=_rounds(tile, blocks.k)),
        k_block=blocks.k,
        m_block=blocks.m,
        n_block=blocks.n,
        m_cell=blocks.m_cell,
        n_cell=blocks.n_cell,
        m_group=blocks.m_group,
        pack_a=packs_a,
        pack_b=packs_b,
        order_a="k" if tile.style is Style.DOTS else lane_order(kernel, kernel.a, kernel.m.symbol, "k"),
        order_b=lane_order(kernel, kernel.b, kernel.n.symbol, "rows"),
    )
    if plan.pack_b is Pack.NONE and not plan.keeps_sums and not plan.along_n:
        # nothing of n is kept in scratch: then a is packed or evaluated once for all of it
        return replace(plan, n_block=maximum(plan.columns, round_up(kernel.n.extent, plan.columns)))
    return plan


def _rounds(tile: Tiled, k_block: Dim) -> bool:
    """Whether the microkernel has whole sums, and may store them narrower: under masks, that takes AVX-512."""
    whole = ceil_div(tile.kernel.k.extent, k_block) == 1
    return whole and tile.style is Style.TILES and tile.target.vector_bytes == 64
