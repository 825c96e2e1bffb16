"""Which operands of a contraction are packed, and which are read in place."""

from __future__ import annotations

from enum import Enum
from math import gcd

from tjit.codegen.llvm.contract_operands import Operand
from tjit.codegen.llvm.contract_tile import FEW_COLUMNS, NEAR_PERIOD, Style, Tiled, at_most, crowds, falls_together
from tjit.ir.dims import Dim

__all__ = ["CACHE_BYTES", "FEW_ROWS", "M_CELL", "Pack", "pack_a", "pack_b", "wastes"]

FEW_ROWS = 64
M_CELL = 256
CACHE_BYTES = 16 << 20  # of b: more is read from memory each time
_FAR_PERIOD = 128 << 10  # bytes from line to line of one place in the second-level cache
_FAR_WAYS = 8  # lines of one place that it keeps
_FAR_SETS = 64  # places, or more: all steps of a block of k have room in so many
_SHORT = 512  # steps of k: of a that two columns of tiles read
_B_BYTES = 2 << 20  # of b: more is worth packing
_PASSES = 2  # over b, for fewer tiles of rows packing never pays


class Pack(Enum):
    """Which panels of an operand are packed; the others are read in place."""

    ALL = "all"
    FILL = "fill"  # all: evaluated into a matrix; where its lanes run along k and the operand is b, packed from there
    LAST = "last"  # the one that is not full
    TALL = "tall"  # all, where there are many rows
    NONE = "none"

    @property
    def is_whole(self) -> bool:
        """Whether every panel is packed, whatever the number of rows."""
        return self in (Pack.ALL, Pack.FILL)


def pack_a(tiled: Tiled) -> Pack:
    """The microkernel takes any strides of a: pack only what it cannot read, or what would evict itself."""
    kernel, a = tiled.kernel, tiled.a
    if tiled.dot:
        return _in_place(tiled) if _lies_in_lanes(tiled) else Pack.ALL
    if tiled.joins_runs:
        return Pack.FILL  # as it lies in a matrix
    if tiled.style is not Style.TILES:
        return _fill_a(tiled)
    if a is None:
        return Pack.FILL
    if a.buffer.dtype is not kernel.accumulate or a.order == "any" or kernel.blocking.packs_a:
        return Pack.ALL
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if crowds(a, kernel) and not at_most(n, FEW_COLUMNS):
        return Pack.ALL
    # one column of tiles reads each line but once or twice, two of them not much more often
    once = at_most(n, tiled.columns) and at_most(m * k * a.buffer.dtype.itemsize, CACHE_BYTES)
    twice = at_most(n, 2 * tiled.columns) and at_most(k, _SHORT)
    if a.order == "rows" and not once and not twice and not _keeps_steps(a, k):
        return Pack.ALL
    return _in_place(tiled)


def _in_place(tiled: Tiled) -> Pack:
    """No panels but for an edge that has no tile of its own."""
    m, rows = tiled.kernel.m.extent, tiled.rows
    if isinstance(m, int) and (m % rows == 0 or wastes(m % rows, m, rows)):
        return Pack.NONE
    return Pack.LAST


def _lies_in_lanes(tiled: Tiled) -> bool:
    """Whether a, in place, is whole lanes of a dot instruction, row by row, and its rows do not evict one another."""
    a, dot, k = tiled.a, tiled.dot, tiled.kernel.k.extent
    if a is None or dot is None or dot.unsigned_a or a.buffer.dtype is not dot.element or tiled.joins_runs:
        return False
    even = isinstance(a.row_stride, int) and a.row_stride % dot.group == 0 and isinstance(k, int) and k % dot.group == 0
    return a.k_stride == 1 and even and not falls_together(a.row_stride, NEAR_PERIOD, a)


def _keeps_steps(a: Operand, k: Dim) -> bool:
    """Whether the second-level cache keeps the lines of all steps of k until the next tile reads their neighbours."""
    if not falls_together(a.k_stride, _FAR_PERIOD // _FAR_SETS, a):
        return True
    assert isinstance(a.k_stride, int)
    apart = gcd(_FAR_PERIOD, a.k_stride * a.buffer.dtype.itemsize)
    return at_most(k, _FAR_WAYS * _FAR_PERIOD // apart - 1)


def _fill_a(tiled: Tiled) -> Pack:
    """The kernels for few rows read a in place or from a matrix; dots want it contiguous."""
    a = tiled.a
    if a is None or a.buffer.dtype is not tiled.kernel.accumulate:
        return Pack.FILL
    return Pack.NONE if tiled.style is Style.STREAMS or a.k_stride == 1 else Pack.FILL


def pack_b(tiled: Tiled) -> Pack:
    """A row of b must be contiguous for the microkernel; packing pays where many rows of a use it."""
    kernel, b = tiled.kernel, tiled.b
    if tiled.dot:
        return Pack.ALL
    if tiled.style is not Style.TILES:
        return Pack.NONE
    if b is None:
        return Pack.FILL
    if tiled.joins_runs:
        return Pack.ALL
    if b.panels is not None:
        return Pack.NONE
    if b.buffer.dtype is not kernel.accumulate or b.order != "rows":
        return Pack.ALL
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if not tiled.target.masks and not (isinstance(n, int) and n % tiled.lanes == 0):
        return Pack.ALL
    if kernel.blocking.packs_b is not None:
        return Pack.ALL if kernel.blocking.packs_b else Pack.NONE
    is_low = at_most(m, FEW_ROWS) and not falls_together(b.k_stride, NEAR_PERIOD, b)
    if is_low or at_most(m, _PASSES * tiled.rows):
        return Pack.NONE
    if not isinstance(m, int):
        return Pack.TALL
    return Pack.NONE if m <= M_CELL * 2 and at_most(k * n * kernel.accumulate.itemsize, _B_BYTES) else Pack.ALL


def wastes(edge: int, extent: int, rows: int) -> bool:
    """Whether a full tile for the last `edge` rows would spend more than 1 % of all work on rows that are not there."""
    return (rows - edge) * 100 > extent
