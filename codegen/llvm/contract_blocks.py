"""Into which strips, cells and blocks a contraction is cut, as functions of shapes only."""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.kernel import Blocking
from tjit.codegen.llvm.contract_operands import leads_with_m
from tjit.codegen.llvm.contract_packing import M_CELL, Pack, pack_b
from tjit.codegen.llvm.contract_tile import Style, Tiled, at_most
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, maximum, minimum, product

__all__ = ["CELL_FLOPS", "Blocks", "blocks_of", "ceil_div", "in_strips", "round_up"]

CELL_FLOPS = 1 << 20
_K_BLOCK = 768  # steps of k summed in registers: panels of a and b stay in the second-level cache
_LONG_K_BLOCK = 4096
_N_BLOCK = 512
_A_BYTES = 512 << 10  # of packed a: half a second-level cache
_SPLIT_TASKS = 16  # smaller than a cell of M_CELL x _N_BLOCK: only to feed this many
_STRIP_FLOPS = 1 << 26  # of a contraction cut into strips of rows: of more, a fork-join is a small part
_PACKING_ROWS = 64  # of a strip that packs b: that takes a tenth of its time
_PACKED = 1 << 15  # elements of b that each strip packs: of more, that takes longer than a fork-join
_STRIP_ROWS = 16
_EQUAL_CELLS = 8  # or more
_STRIP_BYTES = 512 << 10  # of b, which each strip reads whole: half a second-level cache


@dataclass(frozen=True, slots=True)
class Blocks:
    """Extents of blocks and cells, as of `Plan`."""

    k: Dim
    m: Dim
    n: Dim
    m_cell: Dim
    n_cell: Dim
    m_group: Dim


def in_strips(tiled: Tiled) -> tuple[Tiled, int]:
    """Into how many strips of whole tiles, all equal, a small contraction is cut along m; `tiled` with rows for it.

    So it can go on part by part with what row-wise kernels before it have made (`launches`).
    """
    kernel, rows = tiled.kernel, tiled.rows
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    single = product(axis.extent for axis in kernel.batch) == 1 and kernel.blocking == Blocking()
    small = at_most(k * n * kernel.accumulate.itemsize, _STRIP_BYTES) and at_most(m * n * k * 2, _STRIP_FLOPS)
    if tiled.joins_runs or tiled.dot or not (leads_with_m(kernel) and single and small and isinstance(m, int)):
        return tiled, 1
    in_place = pack_b(tiled) is Pack.NONE  # else each strip packs all of it
    if not in_place and not at_most(k * n, _PACKED):
        return tiled, 1
    if tiled.style is not Style.TILES:
        return tiled, _even_parts(m, rows, _SPLIT_TASKS)
    most = min(_SPLIT_TASKS, m // _STRIP_ROWS if in_place else max(2, m // _PACKING_ROWS))
    found = [(_even_parts(m, r, most), r) for r in range(rows, rows // 2, -1)]
    parts, rows = max(found, key=lambda pair: pair[0])
    return replace(tiled, rows=rows), parts


def blocks_of(tiled: Tiled, strips: int, *, packs_both: bool) -> Blocks:
    """Blocks and cells of `tiled`, cut into `strips`."""
    m, n, rows, columns = tiled.kernel.m.extent, tiled.kernel.n.extent, tiled.rows, tiled.columns
    chosen = tiled.kernel.blocking
    m_most, n_most = _even_blocks(m, chosen.m or M_CELL, rows), _even_blocks(n, chosen.n or _N_BLOCK, columns)
    m_cell, n_cell = _finer_cells(tiled, m_most, n_most, packs_both=packs_both)
    m_cell, m_block = (m // strips, m_most) if strips > 1 else (m_cell, m_cell)
    panels = max(1, _A_BYTES // (_steps(tiled) // tiled.group * tiled.kernel.accumulate.itemsize * rows))
    return Blocks(
        k=_block_of_k(tiled),
        m=_even_blocks(m_block, panels * rows, rows),
        n=maximum(columns, n_most),
        m_cell=maximum(rows, m_cell),
        n_cell=maximum(columns, n_cell),
        m_group=minimum(round_up(m, rows), 4 * round_up(M_CELL, rows)),
    )


def _steps(tiled: Tiled) -> int:
    """Of k in a block of panels, about."""
    return (tiled.kernel.blocking.k or _K_BLOCK) * tiled.group


def _block_of_k(tiled: Tiled) -> Dim:
    # without panels only the sums' rounding asks for blocks
    most = _steps(tiled) if tiled.style is Style.TILES else _LONG_K_BLOCK
    unit = tiled.digits.radices[0] if tiled.joins_runs else tiled.group
    return maximum(1, _even_blocks(tiled.run or tiled.kernel.k.extent, most, unit))


def _finer_cells(tiled: Tiled, m_cell: Dim, n_cell: Dim, *, packs_both: bool) -> tuple[Dim, Dim]:
    """Cells of at most m_cell x n_cell, so small that there are enough for all threads."""
    kernel = tiled.kernel
    m, n, k = kernel.m.extent, kernel.n.extent, kernel.k.extent
    batch = product(axis.extent for axis in kernel.batch)
    wanted = maximum(1, minimum(_SPLIT_TASKS, batch * m * n * k * 2 // CELL_FLOPS))
    cells = maximum(1, batch * ceil_div(m, m_cell) * ceil_div(n, n_cell))
    finer = maximum(1, wanted // cells)
    if packs_both:
        return round_up(m_cell // finer, tiled.rows), n_cell  # nearly squares, which pack least
    n_cell = round_up(n_cell // finer, tiled.columns)
    return m_cell, n_cell if leads_with_m(kernel) else _equal_cells(n, n_cell, tiled.columns)


def _even_parts(m: int, rows: int, most: int) -> int:
    """The most parts that `m` rows fall into, each of whole tiles."""
    return next((parts for parts in range(most, 1, -1) if m % (parts * rows) == 0), 1)


def _equal_cells(n: Dim, cell: Dim, columns: int) -> Dim:
    """Cells of at most `cell` columns that `n` falls into equally, many of them; `cell` where it is no whole tiles."""
    if not isinstance(n, int) or not isinstance(cell, int) or n % columns:
        return cell
    most = max(1, min(cell, n // _EQUAL_CELLS) // columns)
    return next(c for c in range(most * columns, 0, -columns) if n % c == 0)


def _even_blocks(extent: Dim, most: int, unit: int) -> Dim:
    """Blocks of about `most`, as equal as multiples of `unit` allow."""
    count = maximum(1, (extent + most // 2) // most)
    return maximum(unit, round_up(ceil_div(extent, count), unit))


def ceil_div(x: Dim, y: Dim) -> Dim:
    return (x + (y - 1)) // y


def round_up(x: Dim, unit: int) -> Dim:
    return ceil_div(x, unit) * unit
