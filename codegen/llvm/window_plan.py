"""How a contraction with windows is cut: its tiles, blocks, tasks and scratch, as functions of shapes only.

Where there are many filters, lanes run along m (filters) and the rows of a tile along n (positions): an element of the
image is read as a scalar, so neither a stride nor a dilation nor the end of an image's row costs anything. Where there
are few, lanes run along the image's rows: along n, or along k, which are then summed. Where there is one filter for
each channel, channels are filters that each read an image of their own, whose elements are vectors in scratch.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from math import isqrt, prod

from tjit.codegen.digits import substitute_symbol
from tjit.codegen.grids import GridAxis, whole_pieces
from tjit.codegen.kernel import Axis, Blocking, ContractKernel, Expr, Load
from tjit.codegen.llvm.contract_operands import Operand, holds, operand_in_panels, plain_operand, results_along_n
from tjit.codegen.llvm.planned import once_a_kernel
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.window_blocks import (
    Blocks,
    blocks_of_k,
    blocks_of_n,
    dots_tile,
    even,
    filters_tile,
    outermost,
    round_up,
    rows_tile,
)
from tjit.codegen.llvm.window_map import ImageAxis, WindowMap, images_of, map_windows
from tjit.codegen.llvm.window_planes import Planes, filter_for_each, planes_of
from tjit.codegen.llvm.window_reads import TileReads
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, coefficient, maximum, minimum, product, substitute, symbols

__all__ = ["Panels", "WindowPlan", "plan_windows"]

_K_BLOCK = 768  # steps of k summed in registers
_M_BLOCK = 128  # filters of packed weights: with a block of k, half of a second-level cache
_N_BLOCK = 784  # positions: enough for weights packed once for all of them
_FEW_POSITIONS = 112
_KEPT = 256 << 10  # unfinished sums
_COPIED = 4  # filters are packed in the time that an element of the image takes to be copied
_SHARED = 128 << 10  # elements of weights: half of a second-level cache
_WHOLE = 96 << 10  # elements of weights that are packed once for a task
_LONG_K_BLOCK = 4096
_FEW_FILTERS = 8
_TURNED_STEPS = 6  # of k: in as long sums with lanes along filters are turned
_PLANES = 1 << 16  # elements of an image of planes side by side: a quarter of a second-level cache
_PLANES_BLOCK = 400  # positions, or steps of k, in such an image
_SPELT = 128  # steps of k, of images that are spread out
_MOST_STEP = 4  # from position to position: whole vectors are loaded and every so many elements taken
_CELL_FLOPS = 1 << 20
_MOVED_FLOPS = 32  # as many take as long as an element of the image or of the results takes to be copied
_CELLS = 16
_PIECES = 8  # of all images, where blocks of filters are no cells enough
_MOST_TASKS = 64


@dataclass(frozen=True, slots=True)
class Panels:
    """The operand a as strided reads: an element lies at base + m*row + (its digits of k)*steps.

    Attributes:
        run: the lowest digits of k that are one strided run together.
        reversed: the digits of k that are packed from their last value to their first, for ascending addresses.
    """

    operand: Operand
    steps: tuple[int, ...]
    run: int
    reversed: tuple[bool, ...]


@dataclass(frozen=True)
class WindowPlan:
    """The decisions for one kernel on one target.

    Attributes:
        tile_target: the target, with vectors as wide as those of tiles.
        along: the axis of the lanes, "m", "n" or "k".
        tile: the positions of one tile, as a block of n.
        filters: of one tile; a multiple of the lanes where those run along m.
        n, k: blocks of n, made of tiles, and of k.
        m_block: filters in a block.
        panels: where a is packed from; None: it is evaluated first.
        strides: of the image's axes in scratch.
        spelt: how many digits of k, the lowest, have values that are steps of one row of the table.
        outer: the axis whose digit of k a block goes through last, so that padding is at its ends; None: the highest.
        image_extents: of the part of the image that a block of n and one of k read.
        planes: where each filter reads an image of its own; a tile has a vector of filters then, and so has a block.
    """

    kernel: ContractKernel
    target: Target
    tile_target: Target
    windows: WindowMap
    along: str
    tile: Blocks
    filters: int
    n: Blocks
    k: Blocks
    m_block: int
    panels: Panels | None
    strides: tuple[int, ...]
    spelt: int
    outer: ImageAxis | None
    image_extents: tuple[int, ...]
    planes: Planes | None = None

    @property
    def lanes(self) -> int:
        return self.tile_target.lanes(self.kernel.accumulate.itemsize)

    @property
    def vectors(self) -> int:
        """Of lanes in a line of the tile: of filters, or of positions in a row of the image."""
        if self.along == "k":
            return 1
        if self.along == "m":
            return self.filters // self.lanes
        return -(-self.tile.span_of(0) // (self.lanes * self.reads.side_by_side))

    @property
    def sums(self) -> int:
        """Elements of the sums of one tile."""
        return self.reads.lines * self.vectors * self.lanes * (1 if self.along == "m" else self.filters)

    @property
    def step(self) -> int:
        """How far apart in the image neighbouring lanes are."""
        last = self.windows.axes[-1]
        return {"m": 1, "n": last.scale_n, "k": last.scale_k}[self.along]

    @property
    def in_place(self) -> bool:
        """Whether a lies in panels already, which tiles read."""
        return self.panels is not None and self.panels.operand.panels is not None

    @property
    def apart(self) -> int:
        """Elements from one step of k to the next in a panel."""
        if self.panels is not None and self.panels.operand.panels is not None:
            return self.panels.operand.panels.width
        return self.filters

    @cached_property
    def reads(self) -> TileReads:
        backwards = self.panels.reversed if self.panels is not None else (False,) * len(self.windows.k)
        return TileReads(self.windows, self.along, self.tile, self.k, self.strides, self.spelt, backwards)

    @property
    def rows(self) -> tuple[int, ...]:
        """The digits of k whose values are rows of the table, those first that change last."""
        outer = None if self.outer is None else self.outer.k
        return tuple(sorted(range(self.k.level, self.spelt - 1, -1), key=lambda digit: digit != outer))

    @property
    def m(self) -> int:
        extent = self.kernel.m.extent
        assert isinstance(extent, int)
        return extent

    @property
    def m_blocks(self) -> int:
        return -(-self.m // self.m_block)

    @property
    def groups(self) -> Dim:
        return product(axis.extent for axis in self.windows.batch)

    @property
    def cells(self) -> Dim:
        return self.groups * self.n.count * self.m_blocks

    @property
    def grid(self) -> tuple[GridAxis, ...]:
        """What tasks are equal ranges of: groups, then the images and positions that blocks of n begin at."""
        n, level = self.n, self.n.level
        pieces = [(axis, 1) for axis in self.windows.batch]
        pieces += [(Axis(d.symbol, d.extent), 1) for d in reversed(n.digits[level + 1 :])]
        return whole_pieces(*pieces, (Axis(n.digits[level].symbol, n.digits[level].extent), n.span))

    @property
    def tasks(self) -> Dim:
        results = self.m * prod(d.extent for d in self.windows.n)
        read = (1 if self.planes is None else self.m) * _image_size(self.windows)
        work = 2 * results * prod(d.extent for d in self.windows.k) + _MOVED_FLOPS * (results + read)
        return maximum(1, minimum(minimum(self.cells, _MOST_TASKS), self.groups * work // (_CELL_FLOPS // 2)))

    @property
    def keeps_sums(self) -> bool:
        return self.k.count > 1

    @property
    def group(self) -> int:
        """Blocks of filters that are finished before others are begun: they share images and kept sums."""
        if self.planes is not None:
            return 1
        if not self.keeps_sums or self.along != "m":
            return self.m_blocks
        return max(1, min(self.m_blocks, _KEPT // (self.n.size * self.m_block)))

    @property
    def packs_whole(self) -> bool:
        """Whether all filters are packed at once, for as many positions as a task has."""
        few = self.k.count == 1 and self.k.size * self.m <= _WHOLE
        return self.along != "k" and self.planes is None and few and not self.in_place

    @property
    def tiles(self) -> int:
        """In a block of n."""
        full = prod(d.extent for d in self.n.digits[self.tile.level + 1 : self.n.level])
        if self.n.level == self.tile.level:
            return -(-self.n.span // self.tile.span)
        return -(-self.n.digits[self.tile.level].extent // self.tile.span) * full * self.n.span

    @property
    def columns(self) -> int:
        """Of tiles, in a group of filters."""
        return -(-min(self.m, self.group * self.m_block) // self.filters)

    @property
    def turned(self) -> int:
        """Positions in a line of a tile that is transposed for the epilogue, which reads the target's vectors."""
        return round_up(self.reads.lines, self.target.lanes(self.kernel.accumulate.itemsize))

    def slots(self) -> tuple[int, ...]:
        """Elements of an image, panels, matrix to pack from, sums and one turned tile. The table follows."""
        packed = round_up(self.m if self.packs_whole else self.m_block, self.filters)
        packed = 0 if self.along == "k" or self.in_place else packed
        tiles = self.tiles * self.columns if self.keeps_sums else 1
        matrix = 0 if self.panels is not None else self.filters * self.matrix_stride + self.lanes
        image = self.image_extents[0] * self.strides[0] + 2 * self.lanes * self.step
        turned = 0 if self.along == "n" else self.filters * self.turned
        sizes = (image, self.k.size * packed + self.lanes, matrix, tiles * self.sums + turned, turned)
        return tuple(round_up(size, 16) for size in sizes)

    @property
    def matrix_stride(self) -> int:
        return round_up(self.k.size, 32) + 16

    @property
    def scratch_bytes(self) -> int:
        """Of one thread."""
        rows = self.k.size // self.reads.taps
        return round_up(sum(self.slots()) * self.kernel.accumulate.itemsize + rows * 16, 64)


@once_a_kernel
def plan_windows(kernel: ContractKernel, target: Target) -> WindowPlan | None:
    """Decide how `kernel` runs as one with windows, with filters that lie in panels or that many small images share.

    None where it is none of these.
    """
    kernel = results_along_n(kernel)
    lanes = target.lanes(kernel.accumulate.itemsize)
    if not isinstance(kernel.m.extent, int) or any(axis.extent == 0 for axis in (kernel.m, *kernel.batch)):
        return None
    in_panels = _in_panels(kernel, lanes)
    shares_filters = _shares_filters(kernel)
    if in_panels is None and not shares_filters and plain_operand(kernel, kernel.b, kernel.n) is not None:
        return None
    windows = map_windows(kernel)
    if windows is None:
        return None
    if windows.is_spread:
        return _plan_image(kernel, windows, "n", target) if _is_row_of_taps(kernel, windows) else None
    if not (windows.has_windows or in_panels is not None or shares_filters):
        return None
    if in_panels is not None or not windows.has_windows:
        return _plan_image(kernel, windows, "m", target, in_panels)
    along = _along(windows, kernel.m.extent, target, kernel.accumulate.itemsize)
    fills_rows = along == "n" and _fills_rows(windows, kernel.m.extent, target, lanes)
    planes = None if fills_rows else _plan_planes(kernel, target)
    return planes or _plan_image(kernel, windows, along, target)


def _plan_image(
    kernel: ContractKernel, windows: WindowMap, along: str, target: Target, in_panels: Operand | None = None
) -> WindowPlan:
    """The plan with lanes along an axis of a kernel whose filters all read one image; `in_panels`: a, where it is."""
    m = kernel.m.extent
    assert isinstance(m, int)
    tiles = _narrowed(target, m * kernel.accumulate.itemsize) if along == "m" else target
    lanes = tiles.lanes(kernel.accumulate.itemsize)
    k = blocks_of_k(windows.k, _K_BLOCK if along == "m" else _LONG_K_BLOCK)
    width, spelt = m, 1
    if along == "n":
        spelt, tile = rows_tile(windows, m, k, target, lanes)
    elif along == "k":
        spelt, tile = dots_tile(windows, m, k, target)
    else:
        panel = None if in_panels is None or in_panels.panels is None else in_panels.panels.width // lanes
        tile, vectors = filters_tile(windows, m, k, tiles, kernel.accumulate.itemsize, _apart(kernel), panel)
        width, spelt = vectors * lanes, int(k.taps > 1)
    m_block = even(m, _M_BLOCK, width)
    n = blocks_of_n(windows.n, tile, _positions(windows, m, k, along))
    n, m_block = _cells(windows, m, n, tile, m_block, width)
    n = _equal_images(windows, n, tile, max(1, min(_PIECES, _CELLS * m_block // m)))
    extents = _image_extents(windows, tile, n, k)
    strides = _strides(extents, kernel.accumulate.itemsize, lanes)
    panels = None if along == "k" else _panels(kernel, windows)
    if in_panels is not None:
        panels = _whole_panels(windows, in_panels)
    outer = outermost(windows, tile, k) if along == "m" else None
    return WindowPlan(
        kernel, target, tiles, windows, along, tile, width, n, k, m_block, panels, strides, spelt, outer, extents
    )


def _positions(windows: WindowMap, m: int, k: Blocks, along: str) -> int:
    """About how many are in a block of n.

    Where sums are kept, filters are packed for each block of n, and its image is copied for each group of filters.
    """
    most = _KEPT // prod(d.extent for d in k.digits[: k.level + 1]) * 4 if along == "n" else _N_BLOCK
    if k.count == 1:
        return most
    if along != "m":
        return min(most, _KEPT // m)
    read = prod(d.extent for d in windows.k) * prod(d.extent for d in windows.n) // _image_size(windows)
    return min(most, max(_KEPT // m, isqrt(_KEPT * read // _COPIED)))


def _narrowed(target: Target, bytes_: int) -> Target:
    """`target` with vectors of 256 bits where filters fill no more: two of them are multiplied in the time of one."""
    return replace(target, vector_bytes=32) if target.vector_bytes == 64 and bytes_ <= 32 else target


def _shares_filters(kernel: ContractKernel) -> bool:
    """Whether there are many filters for images of so few positions that each would read or pack all filters again."""
    images = prod(axis.extent for axis in images_of(kernel) if isinstance(axis.extent, int))
    filters, positions, steps = kernel.m.extent, kernel.n.extent, kernel.k.extent
    if images < 2 or not isinstance(filters, int) or not isinstance(positions, int) or not isinstance(steps, int):
        return False
    plain = all(isinstance(x, Load) and x.dtype is kernel.accumulate for x in (kernel.a, kernel.b))
    many = filters > _FEW_FILTERS and filters * steps >= _SHARED
    return kernel.blocking == Blocking() and plain and many and positions < _FEW_POSITIONS


def _is_row_of_taps(kernel: ContractKernel, windows: WindowMap) -> bool:
    """Whether all steps of k can be spelt out for few filters: positions differ in which of them count."""
    few = isinstance(kernel.m.extent, int) and kernel.m.extent <= _FEW_FILTERS
    return few and windows.axes[-1].n == 0 and prod(d.extent for d in windows.k) <= _SPELT


def _fills_rows(windows: WindowMap, m: int, target: Target, lanes: int) -> bool:
    """Whether lanes along n leave little for planes to gain: neighbours in long rows, read once for all taps."""
    spelt, _ = rows_tile(windows, m, blocks_of_k(windows.k, _LONG_K_BLOCK), target, lanes)
    row = windows.n[0].extent
    return windows.axes[-1].scale_n == 1 and spelt == len(windows.k) and row > round_up(row, lanes) * 3 // 4


def _plan_planes(kernel: ContractKernel, target: Target) -> WindowPlan | None:
    """The plan with lanes along filters that each read an image of their own; None where it is not for `kernel`."""
    found = filter_for_each(kernel)
    windows = None if found is None else map_windows(found)
    planes = None if found is None or windows is None else planes_of(found, windows)
    if found is None or windows is None or planes is None:
        return None
    size = found.accumulate.itemsize
    lanes = target.lanes(size)
    k = blocks_of_k(windows.k, max(_PLANES_BLOCK, planes.steps(windows)))
    tile, _ = filters_tile(windows, lanes, k, target, size, _apart(found))
    n = blocks_of_n(windows.n, tile, max(_PLANES_BLOCK, planes.positions(windows)))
    extents = planes.hold(windows.axes, _image_extents(windows, tile, n, k))
    many = isinstance(found.m.extent, int) and min(found.m.extent, planes.length) >= lanes
    if not many or not planes.are_whole(n, k) or prod(extents) * lanes > _PLANES:
        return None
    strides = tuple(stride * lanes for stride in _strides(extents, size * lanes, 1))
    panels, spelt, outer = _panels(found, windows), int(k.taps > 1), outermost(windows, tile, k)
    return WindowPlan(
        found, target, target, windows, "m", tile, lanes, n, k, lanes, panels, strides, spelt, outer, extents, planes
    )


def _cells(windows: WindowMap, m: int, n: Blocks, tile: Blocks, m_block: int, width: int) -> tuple[Blocks, int]:
    """Finer blocks of n and m, for enough cells; what is larger, image or filters, is to be copied less often."""
    steps, places = prod(d.extent for d in windows.k), prod(d.extent for d in windows.n)
    groups = product(axis.extent for axis in windows.batch)
    wanted = max(1, min(_CELLS // groups if isinstance(groups, int) else 1, 2 * m * places * steps // _CELL_FLOPS))
    image = _image_size(windows)

    def cells() -> int:
        return n.count * -(-m // m_block)

    def narrow() -> None:
        nonlocal m_block
        while cells() < wanted and m_block > width:
            m_block = round_up(m_block // 2, width)

    if m * steps > image:
        narrow()
    while cells() < wanted and n.size > _FEW_POSITIONS and n.size > tile.size:
        n = blocks_of_n(windows.n, tile, n.size // 2)
    narrow()
    return n, m_block


def _image_size(windows: WindowMap) -> int:
    """About how many elements the image has."""
    return prod((windows.n[a.n] if a.n is not None else windows.k[a.k or 0]).extent for a in windows.axes)


def _equal_images(windows: WindowMap, n: Blocks, tile: Blocks, pieces: int) -> Blocks:
    """Blocks of several images as equal pieces of all, at least `pieces`, so many that tasks are too.

    No more than these: filters are packed for every one of them.
    """
    if n.level < max(windows.own, tile.level + 1):
        return n
    images = n.digits[n.level].extent
    most = max(1, min(n.span, images // pieces))
    return replace(n, span=next(span for span in range(most, 0, -1) if images % span == 0))


def _image_extents(windows: WindowMap, tile: Blocks, n: Blocks, k: Blocks) -> tuple[int, ...]:
    """Of the part of the image that a block of n and one of k read; tiles may reach beyond."""
    found = []
    for axis in windows.axes:
        places, taps = 1, 1
        if axis.n is not None:
            places = n.span_of(axis.n)
            if axis.n == tile.level:
                places = round_up(places, tile.span)
        if axis.k is not None:
            taps = k.span_of(axis.k)
        found.append(axis.reach(places, taps))
    return tuple(found)


def _strides(extents: tuple[int, ...], itemsize: int, lanes: int) -> tuple[int, ...]:
    strides: list[int] = []
    step = 1
    for extent in reversed(extents):
        strides.insert(0, step)
        step *= extent
        if step > lanes and step * itemsize % 2048 == 0:
            step += lanes  # lines this far apart would fall on the same few lines of the caches
    return tuple(strides)


def _along(windows: WindowMap, m: int, target: Target, size: int) -> str:
    """The axis of the lanes: where filters are few, the one that fills them best of those that neighbours lie along."""
    first = windows.axes[-1]
    if m > _FEW_FILTERS:
        return "m"
    lanes = target.lanes(size)
    filled = {"m": m / round_up(m, _narrowed(target, m * size).lanes(size))}
    steps = prod(d.extent for d in windows.k)
    filled["m"] *= steps / (steps + _TURNED_STEPS)
    if first.n == 0 and first.scale_n <= _MOST_STEP:
        filled["n"] = windows.n[0].extent / round_up(windows.n[0].extent, lanes)
    if first.k == 0 and first.scale_k <= _MOST_STEP and windows.k[0].extent <= _LONG_K_BLOCK:
        filled["k"] = windows.k[0].extent / round_up(windows.k[0].extent, lanes)
    return max(sorted(filled, reverse=True), key=filled.__getitem__)


def _apart(kernel: ContractKernel) -> int:
    """How many bytes apart results of neighbouring filters are, by the first of them."""
    store = kernel.epilogue[0]
    step = coefficient(store.buffer.offset(store.index), kernel.m.symbol)
    return abs(step) * store.buffer.dtype.itemsize if isinstance(step, int) else 0


def _panels(kernel: ContractKernel, windows: WindowMap) -> Panels | None:
    """The operand a as strided reads; None where it is more than that."""
    a = kernel.a
    if not isinstance(a, Load) or a.bindings or a.conditions or not holds(kernel.accumulate, a.dtype):
        return None
    offset = _offset(substitute_symbol(a, kernel.k.symbol, windows.k_value))
    steps: list[int] = []
    for digit in windows.k:
        step = coefficient(offset, digit.symbol)
        if not isinstance(step, int):
            return None
        steps.append(step)
        offset = substitute(offset, {digit.symbol: 0})
    row = coefficient(offset, kernel.m.symbol)
    base = substitute(offset, {kernel.m.symbol: 0})
    inner: set[object] = {x.symbol for x in _inner_axes(kernel, windows)}
    if row is None or inner.intersection((*symbols(row), *symbols(base))):
        return None
    backwards = tuple(step < 0 for step in steps)
    steps = [abs(step) for step in steps]
    run = 1
    while run < len(steps) and steps[run] == steps[run - 1] * windows.k[run - 1].extent:
        run += 1
    return Panels(Operand(a.buffer, base, row, steps[0]), tuple(steps), run, backwards)


def _in_panels(kernel: ContractKernel, lanes: int) -> Operand | None:
    """The operand a as panels of whole vectors."""
    a = operand_in_panels(kernel, kernel.a, kernel.m)
    return a if a is not None and a.panels is not None and a.panels.width % lanes == 0 else None


def _whole_panels(windows: WindowMap, in_panels: Operand) -> Panels:
    """Panels in memory: all of k is one run."""
    assert isinstance(in_panels.k_stride, int)
    below = (prod(d.extent for d in windows.k[:i]) for i in range(len(windows.k)))
    steps = tuple(in_panels.k_stride * n for n in below)
    return Panels(in_panels, steps, len(steps), (False,) * len(steps))


def _inner_axes(kernel: ContractKernel, windows: WindowMap) -> tuple[Axis, ...]:
    return (kernel.m, kernel.n, kernel.k, *(x for x in kernel.batch if x not in windows.batch))


def _offset(load: Expr) -> Dim:
    assert isinstance(load, Load)
    return load.buffer.offset(load.index)
