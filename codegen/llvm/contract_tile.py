"""Which microkernel computes the tiles of a contraction, how large they are, and along which side the lanes run."""

from __future__ import annotations

from enum import Enum

from tjit.codegen.digits import Digits
from tjit.codegen.kernel import ContractKernel
from tjit.codegen.llvm.contract_operands import (
    Operand,
    exchanged,
    few_rows,
    operand_in_panels,
    plain_operands,
    results_along_n,
    results_in_memory,
)
from tjit.codegen.llvm.lane_dots import LaneDot, lane_dot
from tjit.codegen.llvm.microkernel import register_tile
from tjit.codegen.llvm.stream_kernel import STREAM_ROWS
from tjit.codegen.llvm.target import Target
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim

__all__ = [
    "FEW_COLUMNS",
    "NEAR_PERIOD",
    "Reads",
    "Style",
    "Tiled",
    "at_most",
    "crowds",
    "falls_together",
    "reads_of",
    "tiled",
]

FEW_COLUMNS = 256  # b's: packing a takes longer than reading it in tiles of so many rows
_M_EVEN = 128  # rows: of more, an edge is a small part
_STREAMED = 1 << 20  # elements of b: of more, two pieces of c are enough for two threads
NEAR_PERIOD = 4096  # bytes from line to line of one place in the first-level cache
_NEAR_WAYS = 8  # lines of one place that it keeps
_FEW_PRODUCTS = 8  # steps of k: adding up the lanes of a dot product would take longer
_NEAR = 8192  # elements of b: the first-level cache holds it, sums stay in registers
_ACROSS = 4  # steps of a vector, to read or write an element across memory
_DOT_COST = 9 / 8  # of a step of dot products
_GAIN = 15 / 16
_DOT_ROWS = 16  # of a: b is read once for 4 of them, and packing it would cost as much
_LONG_DOT_ROWS = 32  # with at least _LONG_DOT steps of k: adding up the lanes is then a small part
_LONG_DOT = 256
_LONG_RUN = 256  # steps of k: worth a block of their own
_STREAM_VECTORS = 128  # of c at most: a fourth of the first-level cache


class Style(Enum):
    """Which microkernel computes a tile."""

    TILES = "tiles"  # microkernel: any rows, packed or in place
    DOTS = "dots"  # dot_kernel: few rows, b contiguous along k
    STREAMS = "streams"  # stream_kernel: a row or two, b contiguous along n


@dataclass(frozen=True, slots=True)
class Reads:
    """What a kernel reads, on one target.

    Attributes:
        kernel: with a and b, m and n exchanged where the lanes run along m.
        a, b: the operands where they are plain reads, else None.
        digits: of k, the lowest of which a and b are strided in.
    """

    kernel: ContractKernel
    target: Target
    a: Operand | None
    b: Operand | None
    digits: Digits

    @property
    def lanes(self) -> int:
        return self.target.lanes(self.kernel.accumulate.itemsize)

    @property
    def run(self) -> int | None:
        """The extent of k's lowest digit where it is long: no block of k goes beyond its end."""
        return next((radix for radix in self.digits.radices[:1] if radix >= _LONG_RUN), None)

    @property
    def joins_runs(self) -> bool:
        """Whether a block of k is several whole runs, which panels hold one after the other."""
        return bool(self.digits.radices) and self.run is None


@dataclass(frozen=True, slots=True)
class Tiled(Reads):
    """A kernel with its register tile.

    Attributes:
        rows, vectors: of the register tile.
        style: which microkernel.
        dot: the instruction that multiplies groups of neighbours along k, which panels then hold in one lane.
    """

    rows: int
    vectors: int
    style: Style
    dot: LaneDot | None

    @property
    def columns(self) -> int:
        return self.vectors * self.lanes

    @property
    def group(self) -> int:
        """Elements along k in one lane of a panel."""
        return self.dot.group if self.dot else 1


def reads_of(kernel: ContractKernel, target: Target) -> Reads:
    """What `kernel` reads, once it is decided along which side the lanes run."""
    kernel = results_along_n(kernel)
    if not at_most(kernel.k.extent, _FEW_PRODUCTS):
        kernel = few_rows(kernel, target.lanes(kernel.accumulate.itemsize))
    digits, a, b = plain_operands(kernel)
    if _exchange_pays(kernel, a, b, target):
        kernel, a, b = exchanged(kernel), b, a
    if b is None and not digits.radices:
        b = _in_panels(kernel, target)
    return Reads(kernel, target, a, b, digits)


def tiled(reads: Reads) -> Tiled:
    """The microkernel for `reads`, and its tile."""
    kernel, target, a, b = reads.kernel, reads.target, reads.a, reads.b
    dot = _dot(kernel, a, b, target, reads.digits.radices[0] if reads.joins_runs else None)
    style = _style(kernel, None if reads.joins_runs else b, target, dot)
    rows, vectors = _tile(reads, style)
    if b is not None and b.panels is not None:
        vectors = _vectors_in_panel(vectors, b.panels.width // reads.lanes)
    return Tiled(kernel, target, a, b, reads.digits, rows, vectors, style, dot if style is Style.TILES else None)


def _exchange_pays(kernel: ContractKernel, a: Operand | None, b: Operand | None, target: Target) -> bool:
    """Whether to let the lanes run along m, though results are then written across memory.

    b's neighbours along k are transposed into panels: better those of the side that has less of them. Dot products,
    which read b as it lies, load a vector for each that they multiply, or two.
    """
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if a is None or b is None or not (isinstance(m, int) and isinstance(n, int) and isinstance(k, int)) or not k:
        return False
    is_read = b.order == "k" and b.buffer.dtype is kernel.accumulate and not (crowds(b, kernel) and m > FEW_COLUMNS)
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


def _style(kernel: ContractKernel, b: Operand | None, target: Target, dot: LaneDot | None) -> Style:
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    is_long = isinstance(k, int) and k >= _LONG_DOT and target.registers >= 32 and dot is None
    most = _LONG_DOT_ROWS if is_long else _DOT_ROWS
    if b is not None and b.panels is not None:
        return Style.TILES
    if b is not None and b.order == "k" and at_most(m, most) and not at_most(k, _FEW_PRODUCTS):
        return Style.DOTS
    if b is not None and b.order == "rows" and at_most(m, STREAM_ROWS) and not at_most(k * n, _NEAR):
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


def _tile(reads: Reads, style: Style) -> tuple[int, int]:
    """Rows and vectors of a tile: fewer rows leave registers to more vectors, which read longer pieces of b's rows."""
    kernel, target, lanes = reads.kernel, reads.target, reads.lanes
    m, n = kernel.m.extent, kernel.n.extent
    rows, vectors = register_tile(target)
    if crowds(reads.a, kernel) and at_most(n, FEW_COLUMNS):
        rows = min(rows, _NEAR_WAYS)
    if style is not Style.TILES:
        assert isinstance(m, int)
        return max(1, min(m, 4)), _stream_vectors(kernel, lanes) if style is Style.STREAMS else 8
    if at_most(n, lanes):
        vectors = 1
    if isinstance(m, int) and rows <= m <= _M_EVEN:
        return _even_rows(m, rows), vectors
    if not isinstance(m, int) or m >= rows or not isinstance(n, int):
        return rows, vectors
    m = max(1, m)
    useful = max(1, -(-n // lanes))
    # sums, one row of b, one element of a
    return m, min(useful, 8, (target.registers - 1) // (m + 1))


def _vectors_in_panel(vectors: int, panel: int) -> int:
    """At most `vectors`, of which a whole number is a panel of `panel` vectors."""
    return next(v for v in range(min(vectors, panel), 0, -1) if panel % v == 0)


def _stream_vectors(kernel: ContractKernel, lanes: int) -> int:
    """Long pieces, but two of them where that is enough for two threads."""
    n = kernel.n.extent
    if not isinstance(n, int) or at_most(kernel.k.extent * n, _STREAMED):
        return _STREAM_VECTORS // 2
    return max(16, min(_STREAM_VECTORS, -(-n // (2 * lanes))))


def _even_rows(m: int, rows: int) -> int:
    """Rows of tiles that leave no edge, if that takes away less than half: one microkernel does, no tile is low."""
    return next((r for r in range(rows, rows // 2, -1) if m % r == 0), rows)


def at_most(d: Dim, most: int) -> bool:
    return isinstance(d, int) and d <= most


def crowds(a: Operand | None, kernel: ContractKernel) -> bool:
    """Whether all rows of a tile of a, in place, share a few lines of the first-level cache."""
    if a is None or a.order != "k" or a.buffer.dtype is not kernel.accumulate:
        return False
    return falls_together(a.row_stride, NEAR_PERIOD, a)


def falls_together(stride: Dim, period: int, operand: Operand) -> bool:
    """Whether lines so many elements apart fall on the same few of a cache, in which all lines recur by `period`."""
    return isinstance(stride, int) and stride != 0 and stride * operand.buffer.dtype.itemsize % period == 0
