"""How a contraction is cut: its tiles, blocks, tasks and scratch, as functions of shapes only."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum
from functools import lru_cache

from tjit.codegen.digits import Digits
from tjit.codegen.grids import GridAxis, whole_pieces
from tjit.codegen.kernel import Blocking, ContractKernel
from tjit.codegen.llvm.contract_lanes import lane_order
from tjit.codegen.llvm.contract_operands import (
    Direct,
    Operand,
    direct_output,
    exchanged,
    few_rows,
    leads_with_m,
    operand_in_panels,
    plain_operands,
    results_along_n,
    results_in_memory,
)
from tjit.codegen.llvm.lane_dots import LaneDot, lane_dot
from tjit.codegen.llvm.microkernel import register_tile
from tjit.codegen.llvm.stream_kernel import STREAM_ROWS
from tjit.codegen.llvm.target import Target
from tjit.ir.dims import Dim, maximum, minimum, product, symbols

__all__ = ["FEW_ROWS", "ColumnClass", "Pack", "Plan", "RowClass", "Style", "plan_contract"]

_K_BLOCK = 768  # steps of k summed in registers: panels of a and b stay in the second-level cache
_N_BLOCK = 512
_M_CELL = 256
_M_EVEN = 128  # rows: of more, an edge is a small part
_A_BYTES = 512 << 10  # of packed a: half a second-level cache
_CELL_FLOPS = 1 << 20
_STORED_FLOPS = 16  # as many take as long as a result takes to be stored
_NEAR_PERIOD = 4096  # bytes from line to line of one place in the first-level cache
_NEAR_WAYS = 8  # lines of one place that it keeps
_FEW_COLUMNS = 256  # b's: packing a takes longer than reading it in tiles of so many rows
_FAR_PERIOD = 2048  # ... of which a second-level cache keeps _FAR_LINES
_FAR_LINES = 512
_CACHE_BYTES = 16 << 20  # of b: more is read from memory each time
_SHORT_ROW = 4096  # bytes: a page, beyond which no prefetcher looks
_B_BYTES = 2 << 20  # of b: more is worth packing
FEW_ROWS = 64
_PASSES = 2  # over b, for fewer tiles of rows packing never pays
_FEW_PRODUCTS = 8  # steps of k: adding up the lanes of a dot product would take longer
_NEAR = 8192  # elements of b: the first-level cache holds it, sums stay in registers
_ACROSS = 4  # steps of a vector, to read or write an element across memory
_DOT_COST = 9 / 8  # of a step of dot products
_GAIN = 15 / 16
_DOT_ROWS = 16  # of a: b is read once for 4 of them, and packing it would cost as much
_LONG_DOT_ROWS = 32  # with at least _LONG_DOT steps of k: adding up the lanes is then a small part
_LONG_DOT = 256
_LONG_K_BLOCK = 4096
_LONG_RUN = 256  # steps of k: worth a block of their own
_STREAM_VECTORS = 128  # of c at most: a fourth of the first-level cache
_FEW_STEPS = 256
_MOST_TASKS = 64
_SPLIT_TASKS = 16  # smaller than a cell of _M_CELL x _N_BLOCK: only to feed this many
_STRIP_FLOPS = 1 << 26  # of a contraction cut into strips of rows: of more, a fork-join is a small part
_PACKING_ROWS = 64  # of a strip that packs b: that takes a tenth of its time
_PACKED = 1 << 15  # elements of b that each strip packs: of more, that takes longer than a fork-join
_STRIP_ROWS = 16
_EQUAL_CELLS = 8  # or more
_STRIP_BYTES = 512 << 10  # of b, which each strip reads whole: half a second-level cache


class Style(Enum):
    """Which microkernel computes a tile."""

    TILES = "tiles"  # microkernel: any rows, packed or in place
    DOTS = "dots"  # dot_kernel: few rows, b contiguous along k
    STREAMS = "streams"  # stream_kernel: a row or two, b contiguous along n


class Pack(Enum):
    """Which panels of an operand are packed; the others are read in place."""

    ALL = "all"
    FILL = "fill"  # all: evaluated into a matrix; where its lanes run along k and the operand is b, packed from there
    LAST = "last"  # the one that is not full
    TALL = "tall"  # all, where there are many rows
    NONE = "none"


_WHOLE = frozenset({Pack.ALL, Pack.FILL})


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
class Plan:
    """The decisions for one kernel on one target.

    Attributes:
        kernel: with a and b, m and n exchanged where its results lie along m.
        rows, columns: of the register tile.
        a, b: the operands where they are plain reads, else None.
        digits: of k, the lowest of which a and b are strided in.
        run: the extent of that digit where it is long: no block of k goes beyond its end; else
            blocks are of whole runs.
        direct: the output, where the epilogue only writes the sum there.
        k_block, m_block, n_block: of packed panels.
        m_cell, n_cell: the grid that tasks are ranges of; m_cell is a multiple of rows, n_cell of columns.
        m_group: rows that are finished before others are begun, for which unfinished sums are kept.
        style: which microkernel.
        dot: the instruction that multiplies groups of neighbours along k, which panels then hold in one lane.
        order_a, order_b: axis of the lanes, "rows" or "k", of operands that are filled.
        along_n: whether neighbouring tiles of a row are computed one after the other, rather than those of a column.
    """

    kernel: ContractKernel
    target: Target
    rows: int
    vectors: int
    a: Operand | None
    b: Operand | None
    digits: Digits
    run: int | None
    direct: Direct | None
    k_block: Dim
    m_block: Dim
    n_block: Dim
    m_cell: Dim
    n_cell: Dim
    m_group: Dim
    pack_a: Pack
    pack_b: Pack
    style: Style
    dot: LaneDot | None
    order_a: str
    order_b: str
    along_n: bool

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.kernel.accumulate.itemsize)

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def group(self) -> int:
        """Elements along k in one lane of a panel."""
        return self.dot.group if self.dot else 1

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
        own = self.pack_a is Pack.NONE or _wastes(edge, extent, self.rows)
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
        """The class of tiles with just so many columns."""
        vectors, half = -(-columns // self.lanes), self.lanes // 2
        last = columns - (vectors - 1) * self.lanes
        is_half = last <= half and self.target.vector_bytes == 64 and self.dot is None
        exact = last == (half if is_half else self.lanes)
        masked = self.target.masks and not exact
        return ColumnClass(columns, vectors, masked, exact or masked, is_half)

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
        return isinstance(size, int) and size > _CACHE_BYTES

    @property
    def in_order(self) -> bool:
        """Whether rows of b are read one after the other, as they lie in memory: prefetchers follow no short ones that
        are read side by side."""
        if self.style is Style.DOTS:
            row, most = self.kernel.k.extent, _SHORT_ROW
        else:  # which ask for later rows themselves
            row, most = self.kernel.n.extent, _SHORT_ROW // 4
        return self.is_far and _at_most(row * self.kernel.b.dtype.itemsize, most)

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
        return maximum(1, minimum(minimum(self.cells, _MOST_TASKS), flops // (_CELL_FLOPS // 2)))

    @property
    def blocks_of_k(self) -> Dim:
        return ceil_div(self.kernel.k.extent, self.k_block)

    @property
    def joins_runs(self) -> bool:
        """Whether a block of k is several runs, which panels hold one after the other."""
        return bool(self.digits.radices) and self.run is None

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


def ceil_div(x: Dim, y: Dim) -> Dim:
    return (x + (y - 1)) // y


def round_up(x: Dim, unit: int) -> Dim:
    return ceil_div(x, unit) * unit


@lru_cache(maxsize=8)
def plan_contract(kernel: ContractKernel, target: Target) -> Plan:
    """Decide how `kernel` runs on `target`."""
    kernel = results_along_n(kernel)
    if not _at_most(kernel.k.extent, _FEW_PRODUCTS):
        kernel = few_rows(kernel, target.lanes(kernel.accumulate.itemsize))
    digits, a, b = plain_operands(kernel)
    if _exchange_pays(kernel, a, b, target):
        kernel, a, b = exchanged(kernel), b, a
    if b is None and not digits.radices:
        b = _in_panels(kernel, target)
    run = next((radix for radix in digits.radices[:1] if radix >= _LONG_RUN), None)
    joins = bool(digits.radices) and run is None
    dot = _dot(kernel, a, b, target, digits.radices[0] if joins else None)
    style = _style(kernel, None if joins else b, target, dot)
    dot = dot if style is Style.TILES else None
    group = dot.group if dot else 1
    rows, vectors = _tile(kernel, a, target, style)
    if b is not None and b.panels is not None:
        vectors = _vectors_in_panel(vectors, b.panels.width // target.lanes(kernel.accumulate.itemsize))
    strips, leads = 1, leads_with_m(kernel)
    if not joins and dot is None and leads:
        strips, rows = _strips(kernel, rows, style, _pack_b(kernel, b, target, style, rows) is Pack.NONE)
    columns = vectors * target.lanes(kernel.accumulate.itemsize)
    batch = product(axis.extent for axis in kernel.batch)
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    # without panels only the sums' rounding asks for blocks
    chosen = kernel.blocking
    k_most = (chosen.k or _K_BLOCK) * group
    k_block = _even_blocks(
        run or k, k_most if style is Style.TILES else _LONG_K_BLOCK, digits.radices[0] if joins else group
    )
    m_cell = _even_blocks(m, chosen.m or _M_CELL, rows)
    n_cell = n_block = _even_blocks(n, chosen.n or _N_BLOCK, columns)
    flops = batch * m * n * k * 2
    wanted = maximum(1, minimum(_SPLIT_TASKS, flops // _CELL_FLOPS))
    cells = maximum(1, batch * ceil_div(m, m_cell) * ceil_div(n, n_cell))
    if joins:  # a as it lies in a matrix, b across
        pack_a, pack_b = Pack.ALL if dot else Pack.FILL, Pack.FILL if b is None else Pack.ALL
    else:
        pack_a = Pack.ALL if dot else _pack_a(kernel, a, rows, columns, style)
        pack_b = Pack.ALL if dot else _pack_b(kernel, b, target, style, rows)
    finer = maximum(1, wanted // cells)
    m_most = m_cell
    if pack_a in _WHOLE and pack_b in _WHOLE:
        m_cell = m // strips if strips > 1 else round_up(m_cell // finer, rows)  # nearly squares, which pack least
    else:
        n_cell = round_up(n_cell // finer, columns)
        n_cell = n_cell if leads else _equal_cells(n, n_cell, columns)
        m_cell = m // strips if strips > 1 else m_cell
    panels = max(1, _A_BYTES // (k_most // group * kernel.accumulate.itemsize * rows))
    plan = Plan(
        kernel=kernel,
        target=target,
        rows=rows,
        vectors=vectors,
        a=a,
        b=b,
        digits=digits,
        run=run,
        direct=direct_output(kernel),
        k_block=maximum(1, k_block),
        m_block=_even_blocks(m_most if strips > 1 else m_cell, panels * rows, rows),
        n_block=maximum(n_block, columns),
        m_cell=maximum(rows, m_cell),
        n_cell=maximum(columns, n_cell),
        m_group=minimum(round_up(m, rows), 4 * round_up(_M_CELL, rows)),
        pack_a=pack_a,
        pack_b=pack_b,
        style=style,
        dot=dot,
        order_a="k" if style is Style.DOTS else lane_order(kernel, kernel.a, kernel.m.symbol, "k"),
        order_b=lane_order(kernel, kernel.b, kernel.n.symbol, "rows"),
        # with few steps of k the results are most of the memory: write them in order
        along_n=isinstance(k, int) and k <= _FEW_STEPS,
    )
    if plan.pack_b is Pack.NONE and not plan.keeps_sums and not plan.along_n:
        # nothing of n is kept in scratch: then a is packed or evaluated once for all of it
        return replace(plan, n_block=maximum(columns, round_up(n, columns)))
    return plan


def _exchange_pays(kernel: ContractKernel, a: Operand | None, b: Operand | None, target: Target) -> bool:
    """Whether to let the lanes run along m, though results are then written across memory.

    b's neighbours along k are transposed into panels: better those of the side that has less of them. Dot products,
    which read b as it lies, load a vector for each that they multiply, or two.
    """
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if a is None or b is None or not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)) or not k:
        return False
    is_read = b.order == "k" and b.buffer.dtype is kernel.accumulate and not (_crowds(b, kernel) and m > _FEW_COLUMNS)
    style = _style(kernel, b, target, None)
    if not is_read or a.order == "any" or style is Style.STREAMS:
        return False
    lanes = target.lanes(kernel.accumulate.itemsize)
    dots = m * n / lanes * _DOT_COST + m * (a.order != "k")
    now = dots if style is Style.DOTS else m * _vectors_of(n, lanes) + n
    across = _ACROSS * results_in_memory(kernel) * m * n / k
    return n * _vectors_of(m, lanes) + m * (a.order == "k") + across < now * _GAIN


def _vectors_of(columns: int, lanes: int) -> float:
    """Vectors that a row of so many columns takes; a half beside a whole one is half the work."""
    pairs, edge = divmod(columns, 2 * lanes)
    return 2 * pairs + (max(1, -(-edge // (lanes // 2)) / 2) if edge else 0)


def _in_panels(kernel: ContractKernel, target: Target) -> Operand | None:
    """The operand b as panels of which a whole number of tiles is one."""
    b = operand_in_panels(kernel, kernel.b, kernel.n)
    unit = 2 * target.lanes(kernel.accumulate.itemsize)
    return b if b is not None and b.panels is not None and b.panels.width % unit == 0 else None


def _strips(kernel: ContractKernel, rows: int, style: Style, in_place: bool) -> tuple[int, int]:
    """Into how many strips of whole tiles, all equal, a small contraction is cut along m, and the rows of a tile.

    So it can go on part by part with what row-wise kernels before it have made (`launches`).

    Args:
        in_place: b is not packed; else each strip packs all of it.
    """
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    single = product(axis.extent for axis in kernel.batch) == 1 and kernel.blocking == Blocking()
    small = _at_most(k * n * kernel.accumulate.itemsize, _STRIP_BYTES) and _at_most(m * n * k * 2, _STRIP_FLOPS)
    if not (single and small and isinstance(m, int)) or not (in_place or _at_most(k * n, _PACKED)):
        return 1, rows
    if style is not Style.TILES:
        return _even_parts(m, rows, _SPLIT_TASKS), rows
    most = min(_SPLIT_TASKS, m // _STRIP_ROWS if in_place else max(2, m // _PACKING_ROWS))
    found = [(_even_parts(m, r, most), r) for r in range(rows, rows // 2, -1)]
    return max(found, key=lambda pair: pair[0])


def _even_parts(m: int, rows: int, most: int) -> int:
    """The most parts that `m` rows fall into, each of whole tiles."""
    return next((parts for parts in range(most, 1, -1) if m % (parts * rows) == 0), 1)


def _style(kernel: ContractKernel, b: Operand | None, target: Target, dot: LaneDot | None) -> Style:
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    is_long = isinstance(k, int) and k >= _LONG_DOT and target.registers >= 32 and dot is None
    most = _LONG_DOT_ROWS if is_long else _DOT_ROWS
    if b is not None and b.panels is not None:
        return Style.TILES
    if b is not None and b.order == "k" and _at_most(m, most) and not _at_most(k, _FEW_PRODUCTS):
        return Style.DOTS
    if b is not None and b.order == "rows" and _at_most(m, STREAM_ROWS) and not _at_most(k * n, _NEAR):
        return Style.STREAMS
    return Style.TILES


def _dot(
    kernel: ContractKernel, a: Operand | None, b: Operand | None, target: Target, run: int | None
) -> LaneDot | None:
    """The dot instruction for the operands as they lie in memory; floats are rounded as the program says.

    Of `run` steps each that panels hold one after the other, a group must not go beyond the end.
    """
    if a is None or b is None or (kernel.accumulate.is_floating_point and kernel.a.dtype is kernel.accumulate):
        return None
    dot = lane_dot(a.buffer.dtype, b.buffer.dtype, kernel.accumulate, target)
    if dot and run and (run % dot.group or dot.unsigned_a):
        return None
    return dot


def _tile(kernel: ContractKernel, a: Operand | None, target: Target, style: Style) -> tuple[int, int]:
    """Rows and vectors of a tile: fewer rows leave registers to more vectors, which read longer pieces of b's rows."""
    m = kernel.m.extent
    rows, vectors = register_tile(target)
    if _crowds(a, kernel) and _at_most(kernel.n.extent, _FEW_COLUMNS):
        rows = min(rows, _NEAR_WAYS)
    if style is not Style.TILES:
        assert isinstance(m, int)
        return max(1, min(m, 4)), _stream_vectors(kernel, target) if style is Style.STREAMS else 8
    if _at_most(kernel.n.extent, target.lanes(kernel.accumulate.itemsize)):
        vectors = 1
    if isinstance(m, int) and rows <= m <= _M_EVEN:
        return _even_rows(m, rows), vectors
    if not isinstance(m, int) or m >= rows or not isinstance(kernel.n.extent, int):
        return rows, vectors
    m = max(1, m)
    lanes = target.lanes(kernel.accumulate.itemsize)
    useful = max(1, -(-kernel.n.extent // lanes))
    # sums, one row of b, one element of a
    return m, min(useful, 8, (target.registers - 1) // (m + 1))


def _vectors_in_panel(vectors: int, panel: int) -> int:
    """At most `vectors`, of which a whole number is a panel of `panel` vectors."""
    return next(v for v in range(min(vectors, panel), 0, -1) if panel % v == 0)


def _stream_vectors(kernel: ContractKernel, target: Target) -> int:
    """Long pieces, but two of them where that is enough for two threads."""
    n, lanes = kernel.n.extent, target.lanes(kernel.accumulate.itemsize)
    if not isinstance(n, int) or _at_most(kernel.k.extent * n, _CELL_FLOPS):
        return _STREAM_VECTORS // 2
    return max(16, min(_STREAM_VECTORS, -(-n // (2 * lanes))))


def _even_rows(m: int, rows: int) -> int:
    """Rows of tiles that leave no edge, if that takes away less than half: one microkernel does, no tile is low."""
    return next((r for r in range(rows, rows // 2, -1) if m % r == 0), rows)


def _fill_a(kernel: ContractKernel, a: Operand | None, style: Style) -> Pack:
    """The kernels for few rows read a in place or from a matrix; dots want it contiguous."""
    fits = a is not None and a.buffer.dtype is kernel.accumulate and (style is Style.STREAMS or a.k_stride == 1)
    return Pack.NONE if fits else Pack.FILL


def _pack_a(kernel: ContractKernel, a: Operand | None, rows: int, columns: int, style: Style) -> Pack:
    """The microkernel takes any strides of a: pack only what it cannot read, or what would evict itself."""
    if style is not Style.TILES:
        return _fill_a(kernel, a, style)
    if a is None:
        return Pack.FILL
    if a.buffer.dtype is not kernel.accumulate or a.order == "any" or kernel.blocking.packs_a:
        return Pack.ALL
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if _crowds(a, kernel) and not _at_most(n, _FEW_COLUMNS):
        return Pack.ALL
    # one column of tiles reads each line but once or twice
    once = _at_most(n, columns) and _at_most(m * k * a.buffer.dtype.itemsize, _CACHE_BYTES)
    if a.order == "rows" and not once and not _at_most(k, _FAR_LINES) and _falls_together(a.k_stride, _FAR_PERIOD, a):
        return Pack.ALL
    if isinstance(m, int) and (m % rows == 0 or _wastes(m % rows, m, rows)):
        return Pack.NONE
    return Pack.LAST


def _pack_b(kernel: ContractKernel, b: Operand | None, target: Target, style: Style, rows: int) -> Pack:
    """A row of b must be contiguous for the microkernel; packing pays where many rows of a use it."""
    if style is not Style.TILES:
        return Pack.NONE
    if b is None:
        return Pack.FILL
    if b.panels is not None:
        return Pack.NONE
    if b.buffer.dtype is not kernel.accumulate or b.order != "rows":
        return Pack.ALL
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if not target.masks and not (isinstance(n, int) and n % target.lanes(kernel.accumulate.itemsize) == 0):
        return Pack.ALL
    if kernel.blocking.packs_b is not None:
        return Pack.ALL if kernel.blocking.packs_b else Pack.NONE
    if _at_most(m, _PASSES * rows) or (_at_most(m, FEW_ROWS) and not _falls_together(b.k_stride, _NEAR_PERIOD, b)):
        return Pack.NONE
    if not isinstance(m, int):
        return Pack.TALL
    return Pack.NONE if m <= _M_CELL * 2 and _at_most(k * n * kernel.accumulate.itemsize, _B_BYTES) else Pack.ALL


def _equal_cells(n: Dim, cell: Dim, columns: int) -> Dim:
    """Cells of at most `cell` columns that `n` falls into equally, many of them; `cell` where it is no whole tiles."""
    if not isinstance(n, int) or not isinstance(cell, int) or n % columns:
        return cell
    most = max(1, min(cell, n // _EQUAL_CELLS) // columns)
    return next(c for c in range(most * columns, 0, -columns) if n % c == 0)


def _at_most(d: Dim, most: int) -> bool:
    return isinstance(d, int) and d <= most


def _crowds(a: Operand | None, kernel: ContractKernel) -> bool:
    """Whether all rows of a tile of a, in place, share a few lines of the first-level cache."""
    if a is None or a.order != "k" or a.buffer.dtype is not kernel.accumulate:
        return False
    return _falls_together(a.row_stride, _NEAR_PERIOD, a)


def _falls_together(stride: Dim, period: int, operand: Operand) -> bool:
    """Whether lines so many elements apart fall on the same few of a cache, in which all lines recur by `period`."""
    return isinstance(stride, int) and stride != 0 and stride * operand.buffer.dtype.itemsize % period == 0


def _wastes(edge: int, extent: int, rows: int) -> bool:
    """Whether a full tile for the last `edge` rows would spend more than 1 % of all work on rows that are not there."""
    return (rows - edge) * 100 > extent


def _even_blocks(extent: Dim, most: int, unit: int) -> Dim:
    """Blocks of about `most`, as equal as multiples of `unit` allow."""
    count = maximum(1, (extent + most // 2) // most)
    return maximum(unit, round_up(ceil_div(extent, count), unit))
