"""The axes of a contraction with windows in tiles and blocks, and which of their products read padding only."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from math import gcd, prod

from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.window_map import Digit, ImageAxis, WindowMap
from tjit.dataclass import dataclass

__all__ = [
    "Blocks", "blocks_of_k", "blocks_of_n", "dots_tile", "even", "filters_tile", "inside_of", "outermost", "round_up",
    "rows_tile",
]  # fmt: skip

_MOST_TAPS = 8  # steps of k that are spelt out in a microkernel
_MOST_PRODUCTS = 256  # of vectors, in a microkernel with lanes along k
_MOST_ROWS = 32
_LINE, _PERIOD, _WAYS = 64, 4096, 8  # bytes of a line of the first-level cache and to one on the same set; lines there
_WEIGHTS = 6  # registers for weights and elements of an image, where sums have all others
_NEAR_STORE, _FAR_STORE = 4, 24  # cycles for a line
_LONG = 256  # values of a digit: its padding is less than a hundredth


@dataclass(frozen=True, slots=True)
class Blocks:
    """An axis in blocks: `span` values of the digit `level`, all of the digits below it, one of each above."""

    digits: tuple[Digit, ...]
    level: int
    span: int

    @property
    def below(self) -> int:
        return prod(d.extent for d in self.digits[: self.level])

    @property
    def size(self) -> int:
        return self.below * self.span

    @property
    def each(self) -> int:
        """Blocks for one value of the digits above."""
        return -(-self.digits[self.level].extent // self.span)

    @property
    def count(self) -> int:
        return self.each * prod(d.extent for d in self.digits[self.level + 1 :])

    @property
    def taps(self) -> int:
        """Of an axis k: how many steps a row of them has that are spelt out, all of the lowest digit."""
        lowest = self.digits[0].extent
        return lowest if self.level > 0 and lowest <= _MOST_TAPS else 1

    def span_of(self, digit: int) -> int:
        return self.digits[digit].extent if digit < self.level else self.span if digit == self.level else 1

    def value_of(self, position: int, digit: int) -> int:
        """Of a digit, at a position in a block that begins at zero."""
        return position // prod(d.extent for d in self.digits[:digit]) % self.span_of(digit)


def round_up(x: int, unit: int) -> int:
    return -(-x // unit) * unit


def even(extent: int, most: int, unit: int) -> int:
    """Parts of about `most`, as equal as multiples of `unit` allow."""
    count = max(1, -(-extent // max(most, unit)))
    return round_up(-(-extent // count), unit)


def blocks_of_k(digits: tuple[Digit, ...], most: int) -> Blocks:
    """Blocks of about `most` steps."""
    level, below = _level(digits, most)
    return Blocks(digits, level, even(digits[level].extent, max(1, most // below), 1))


def blocks_of_n(digits: tuple[Digit, ...], tile: Blocks, most: int) -> Blocks:
    """Blocks of about `most` positions, made of tiles."""
    level, below = _level(digits, most)
    if level <= tile.level:
        unit = tile.span
        return Blocks(digits, tile.level, even(digits[tile.level].extent, max(unit, most // tile.below), unit))
    return Blocks(digits, level, even(digits[level].extent, max(1, most // below), 1))


def _level(digits: tuple[Digit, ...], most: int) -> tuple[int, int]:
    """The highest digit whose values have at most `most` elements below, and how many those are."""
    level, below = 0, 1
    while level + 1 < len(digits) and below * digits[level].extent <= most:
        below *= digits[level].extent
        level += 1
    return level, below


# -- tiles -------------------------------------------------------------------------------------------------------------


def filters_tile(
    windows: WindowMap, m: int, k: Blocks, target: Target, size: int, apart: int, panel: int | None = None
) -> tuple[Blocks, int]:
    """The tile with lanes along filters that takes the least time for all, by the cycles of its parts; its vectors.

    size: bytes of an element; apart: how many bytes apart results of neighbouring filters are; panel: vectors of those
    that lie side by side in memory, where they are read in place.
    """
    lanes = target.lanes(size)
    best: tuple[float, Blocks, int] | None = None
    for vectors in range(1, 5):
        if vectors > 1 and (vectors - 1) * lanes >= m:
            break
        if panel is not None and panel % vectors:
            continue
        most = min(_MOST_ROWS, (target.registers - 1 - vectors) // vectors)
        for tile in _tiles(windows.n, windows.own, most):
            # fewer sums than 8 would wait for each other
            step = max(tile.size * vectors, 8) + 1 / k.taps
            turned = -(-tile.size // lanes) * vectors * lanes * 8
            stored = _store_cycles(vectors * lanes, tile, size, apart)
            spent = k.size * step * _read(windows, tile, k) + 100 + turned + stored
            cost = tile.count * -(-m // (vectors * lanes)) * spent
            if best is None or cost < best[0]:
                best = cost, tile, vectors
    assert best is not None
    return best[1], best[2]


def _store_cycles(filters: int, tile: Blocks, size: int, apart: int) -> float:
    """Of a tile's results: lines on few sets of the first-level cache are gone before another part is stored."""
    run, line = tile.size * size, _LINE
    whole = run % line == 0 and tile.digits[tile.level].extent * tile.below * size % line == 0
    lines = filters * (run / line if whole else (run - size) / line + 1)
    kept = max(1, _PERIOD // max(line, gcd(apart, _PERIOD))) * _WAYS
    return lines * (_FAR_STORE if lines > kept else _NEAR_STORE)


def rows_tile(windows: WindowMap, filters: int, k: Blocks, target: Target, lanes: int) -> tuple[int, Blocks]:
    """How many of k's lowest digits are spelt out, and a tile of whole lines of the image, or of a part of one.

    Spelt out, a vector of the image is read once for several taps, whose weights stay in registers.
    """
    free = target.registers - 3
    if windows.is_spread:
        return len(windows.k), _spread_rows(windows, filters, free, lanes)
    whole = k.level + (k.span == k.digits[k.level].extent)
    taps = [filters * prod(d.extent for d in k.digits[:spelt]) for spelt in range(1, whole + 1)]
    spelt = sum(1 for weights in taps if weights <= free - target.registers * 5 // 8)
    most = max(1, (free - (taps[spelt - 1] if spelt else 1)) // filters)
    vectors = -(-windows.n[0].extent // lanes)
    if vectors > most or windows.own == 1:
        return spelt, Blocks(windows.n, 0, even(windows.n[0].extent, most * lanes, lanes))
    return spelt, Blocks(windows.n, 1, even(windows.n[1].extent, most // vectors, 1))


def _spread_rows(windows: WindowMap, filters: int, free: int, lanes: int) -> Blocks:
    """A tile of whole lines, as many as the phases of the next digit or a multiple, or of a part of a line."""
    spread = {axis.n: axis.spread for axis in windows.axes}
    across, down = spread.get(0, 1), spread.get(1, 1)
    most = max(1, (free - _WEIGHTS) // (filters * across))
    vectors = -(-windows.n[0].extent // (lanes * across))
    if vectors * down > most or windows.own == 1:
        return Blocks(windows.n, 0, even(windows.n[0].extent, most * lanes * across, lanes * across))
    return Blocks(windows.n, 1, even(windows.n[1].extent, most // vectors, down))


def dots_tile(windows: WindowMap, filters: int, k: Blocks, target: Target) -> tuple[int, Blocks]:
    """How many of k's lowest digits are spelt out, lanes included, and the tile with the least columns not there."""
    found = _tiles(windows.n, windows.own, (target.registers - 4) // filters)
    tile = min(found, key=lambda tile: (tile.count * (tile.size + 1), tile.count))
    rows = k.span_of(1) if k.level > 1 or (k.level == 1 and k.span == k.digits[1].extent) else _MOST_PRODUCTS
    return 1 + (rows * tile.size * filters < _MOST_PRODUCTS), tile


def _tiles(digits: tuple[Digit, ...], own: int, most: int) -> list[Blocks]:
    """Tiles of at most `most` positions; of one image, for results of several are not neighbours."""
    found, below = [], 1
    for level, digit in enumerate(digits[:own]):
        if below > most:
            break
        found += [Blocks(digits, level, span) for span in range(1, min(digit.extent, most // below) + 1)]
        below *= digit.extent
    return found


# -- padding -----------------------------------------------------------------------------------------------------------


def outermost(windows: WindowMap, tile: Blocks, k: Blocks) -> ImageAxis | None:
    """The axis whose digit of k a block goes through last: a tile then reads padding only at its first or last values.

    None where no axis has so much padding that whole tiles read.
    """
    part, axis = min(_parts_read(windows, tile, k), key=lambda found: found[0], default=(1.0, None))
    return axis if part < 1 else None


def _read(windows: WindowMap, tile: Blocks, k: Blocks) -> float:
    """The part of its products that a tile has to compute, on average: what reads padding may be left out."""
    read = min((part for part, _ in _parts_read(windows, tile, k)), default=1.0)
    for axis in windows.axes:
        if axis.k == 0 and k.taps > 1 and axis.n is not None and axis.n <= tile.level:
            read *= _part_inside(axis, windows.n[axis.n].extent, k.taps, 1)
    return read


def _parts_read(windows: WindowMap, tile: Blocks, k: Blocks) -> Iterator[tuple[float, ImageAxis]]:
    """The axes of windows whose digit of k a block may go through last; what part of it tiles read then."""
    first = 1 if k.taps > 1 else 0
    for axis in windows.axes:
        if axis.n is not None and axis.k is not None and first <= axis.k <= k.level:
            taps = windows.k[axis.k].extent
            yield _part_inside(axis, windows.n[axis.n].extent, taps, tile.span_of(axis.n)), axis


@lru_cache(maxsize=256)
def _part_inside(axis: ImageAxis, extent: int, taps: int, group: int) -> float:
    """The part of the pairs of `taps` values of k and groups of neighbours in n that read more than padding."""
    if axis.inside is None or extent > _LONG:
        return 1.0
    starts = range(0, extent, group)
    read = 0
    for n in starts:
        first, end = inside_of(axis, n, min(n + group, extent) - 1)
        read += max(0, min(end, taps) - max(first, 0))
    return read / (len(starts) * taps)


def inside_of(axis: ImageAxis, first: int, last: int) -> tuple[int, int]:
    """The range of the axis's digit of k where one of the values `first` to `last` of its digit of n reads inside."""
    assert axis.inside is not None
    low, end = axis.inside
    return -((axis.scale_n * last - low) // axis.scale_k), (end - 1 - axis.scale_n * first) // axis.scale_k + 1
