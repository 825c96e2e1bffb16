"""The register tiles of contractions with windows: scalars of an image times lanes of filters, or the other way round.

A microkernel's text depends on its dtype, its tile and where the tile's rows lie: kernels share it by name.
"""

from __future__ import annotations

import hashlib
from typing import Literal

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import function_module
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import (
    I32,
    I64,
    PTR,
    byte_gep,
    counted_loop,
    element_type,
    i64,
    least,
    multiply_add,
    numbers,
    poison,
    prefetch,
    splat,
    stack,
    zeros,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = [
    "DOTS_TILE", "TABLE_ROW", "WINDOW_TILE", "DotsTile", "RowsTile", "Tap", "WindowTile", "emit_dots_tile",
    "emit_rows_tile", "emit_window_tile",
]  # fmt: skip

# (rows, image, table, panel, sums, add): the table holds how many bytes from `image` and from `panel` each row of steps
# of k is.
# sums[i, j] = (add ? sums[i, j] : 0) + sum over p < rows and taps t that count for i
#     of image[table[p].image + taps[t].place + offsets[i]] * panel[table[p].panel + t, j]
WINDOW_TILE = ir.FunctionType(ir.VoidType(), [I64, PTR, PTR, PTR, PTR, I64])
TABLE_ROW = ir.LiteralStructType([I64, I64])
TABLE_FIELDS = ("image", "panel")
_NAMES = ("rows", "image", "table", "panel", "sums", "add")
_AHEAD = 8  # steps of k
_LINE = 64


@dataclass(frozen=True, slots=True)
class Tap:
    """A step of k in a row of them.

    Attributes:
        place: where in the image it is, in elements from the row.
        lines: of the tile that it counts for: to the others it is padding.
    """

    place: int
    lines: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class WindowTile:
    """A microkernel: a line for each offset (in elements), `vectors` of lanes in each, `taps` in each row of k.

    Attributes:
        apart: elements from one step of k to the next in a panel.
        planes: whether each filter has an image of its own: what a tap reads is a vector, not one element for all.
    """

    dtype: DType
    offsets: tuple[int, ...]
    vectors: int
    taps: tuple[Tap, ...]
    apart: int
    planes: bool = False

    def name(self, target: Target) -> str:
        shape = f"{len(self.taps)}x{len(self.offsets)}x{self.vectors}x{target.lanes(self.dtype.itemsize)}"
        where = hashlib.sha256(f"{self.offsets}{self.taps}{self.apart}".encode()).hexdigest()[:12]
        return f"tjit.{'planes' if self.planes else 'window'}.{self.dtype}.{shape}.{where}"


def emit_window_tile(tile: WindowTile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `WINDOW_TILE`."""
    with function_module(tile.name(target), WINDOW_TILE, target.triple) as (module, b, function):
        _WindowTile(b, function, tile, target).emit()
    return module


def places_read(taps: tuple[Tap, ...], offsets: tuple[int, ...]) -> dict[int, list[tuple[int, int]]]:
    """The pairs of a tap and a line that read at a place of the image, by place."""
    found: dict[int, list[tuple[int, int]]] = {}
    for t, tap in enumerate(taps):
        for line in tap.lines:
            found.setdefault(tap.place + offsets[line], []).append((t, line))
    return found


class _Accumulating:
    """A microkernel under construction: a loop over k around sums in registers."""

    def __init__(self, b: ir.IRBuilder, function: ir.Function, tile: WindowTile | RowsTile, target: Target) -> None:
        self.b, self.tile, self.target = b, tile, target
        self.lanes = target.lanes(tile.dtype.itemsize)
        self.element = element_type(tile.dtype)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.args = dict(zip(_NAMES, function.args, strict=True))

    def _products(
        self, image: ir.Value, panel: ir.Value, later: ir.Value, sums: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:
        """The sums with those of one row of k; `later` is the panel of a row to come."""
        raise NotImplementedError

    def _loop(self, lines: int, vectors: int, ahead: int) -> None:
        """lines x vectors sums over the rows of k, of which there is at least one."""
        b = self.b
        last = b.sub(self.args["rows"], i64(1))
        entry, loop, done = b.block, b.append_basic_block("loop"), b.append_basic_block("done")
        b.branch(loop)

        b.position_at_end(loop)
        p = b.phi(I64, "p")
        sums = [[b.phi(self.vector) for _ in range(vectors)] for _ in range(lines)]
        later = self._place("panel", least(b, b.add(p, i64(ahead)), last))
        updated = self._products(self._place("image", p), self._place("panel", p), later, sums)
        following = b.add(p, i64(1))
        b.cbranch(b.icmp_signed("<", p, last), loop, done)
        p.add_incoming(i64(0), entry)
        p.add_incoming(following, loop)
        zero = zeros(self.vector)
        for line, values in zip(sums, updated, strict=True):
            for phi, value in zip(line, values, strict=True):
                phi.add_incoming(zero, entry)
                phi.add_incoming(value, loop)

        b.position_at_end(done)
        self._write([s for line in updated for s in line])

    def _place(self, what: Literal["image", "panel"], row: ir.Value) -> ir.Value:
        """Where a row of k is."""
        field = I32(TABLE_FIELDS.index(what))
        at = self.b.gep(self.args["table"], [row, field], source_etype=TABLE_ROW)
        return byte_gep(self.b, self.args[what], self.b.load(at, typ=I64))

    def _multiply_add(self, x: ir.Value, y: ir.Value, s: ir.Value) -> ir.Value:
        return multiply_add(self.b, x, y, s, fused=self.target.fma)

    def _vector(self, pointer: ir.Value, j: int) -> ir.Value:
        at = self.b.gep(pointer, [i64(j * self.lanes)], source_etype=self.element)
        return self.b.load(at, typ=self.vector, align=self.tile.dtype.itemsize)

    def _write(self, sums: list[ir.Value]) -> None:
        b = self.b
        add = b.add if isinstance(self.element, ir.IntType) else b.fadd
        with b.if_else(b.icmp_signed("!=", self.args["add"], i64(0))) as (adding, storing):
            for branch, adds in ((adding, True), (storing, False)):
                with branch:
                    for n, value in enumerate(sums):
                        total = add(self._vector(self.args["sums"], n), value) if adds else value
                        at = b.gep(self.args["sums"], [i64(n * self.lanes)], source_etype=self.element)
                        b.store(total, at, align=self.tile.dtype.itemsize)


class _WindowTile(_Accumulating):
    """The one emission of a microkernel with lanes along filters."""

    tile: WindowTile

    def emit(self) -> None:
        self._loop(len(self.tile.offsets), self.tile.vectors, -(-_AHEAD // len(self.tile.taps)))

    def _products(
        self, image: ir.Value, panel: ir.Value, later: ir.Value, sums: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:
        b = self.b
        for t, tap in enumerate(self.tile.taps):
            step = b.gep(panel, [i64(t * self.tile.apart)], source_etype=self.element)
            filters = [self._vector(step, j) for j in range(self.tile.vectors)]
            self._prefetch(later, t * self.tile.apart)
            sums = list(sums)
            for line in tap.lines:
                wide = self._pixel(b.gep(image, [i64(self.tile.offsets[line] + tap.place)], source_etype=self.element))
                sums[line] = [self._multiply_add(wide, y, s) for y, s in zip(filters, sums[line], strict=True)]
        return sums

    def _pixel(self, pointer: ir.Value) -> ir.Value:
        """What each filter reads of an image."""
        if self.tile.planes:
            return self._vector(pointer, 0)
        return splat(self.b, self.b.load(pointer, typ=self.element), self.lanes)

    def _prefetch(self, panel: ir.Value, first: int) -> None:
        """Ask for the filters of a later step: a panel is larger than the first-level cache."""
        width = self.tile.vectors * self.lanes
        for j in range(first, first + width, max(1, _LINE // self.tile.dtype.itemsize)):
            prefetch(self.b, self.b.gep(panel, [i64(j)], source_etype=self.element))


@dataclass(frozen=True, slots=True)
class RowsTile:
    """A microkernel with lanes along lines of the image: `filters` of them, a line for each offset, `vectors` in each.

    Attributes:
        step: how far apart in the image neighbouring lanes are.
        taps: in each row of k.
        side_by_side: so many lines are one in the sums, whose elements they hold in turn.
    """

    dtype: DType
    filters: int
    offsets: tuple[int, ...]
    vectors: int
    step: int
    taps: tuple[Tap, ...]
    side_by_side: int = 1

    def name(self, target: Target) -> str:
        where = hashlib.sha256(f"{self.offsets}{self.taps}{self.side_by_side}".encode()).hexdigest()[:12]
        shape = f"{self.filters}x{len(self.offsets)}x{self.vectors}x{target.lanes(self.dtype.itemsize)}"
        return f"tjit.rows.{self.dtype}.{len(self.taps)}x{shape}.{self.step}x{where}"


def emit_rows_tile(tile: RowsTile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `WINDOW_TILE`: sums by filter, line and position."""
    with function_module(tile.name(target), WINDOW_TILE, target.triple) as (module, b, function):
        _RowsTile(b, function, tile, target).emit()
    return module


class _RowsTile(_Accumulating):
    """The one emission of a microkernel with lanes along lines: each vector of the image is read once for all taps."""

    tile: RowsTile

    def emit(self) -> None:
        self._loop(self.tile.filters, len(self.tile.offsets) * self.tile.vectors, 0)

    def _products(
        self, image: ir.Value, panel: ir.Value, later: ir.Value, sums: list[list[ir.Value]]
    ) -> list[list[ir.Value]]:
        b, filters, vectors = self.b, self.tile.filters, self.tile.vectors
        sums = [list(line) for line in sums]
        for place, uses in sorted(places_read(self.tile.taps, self.tile.offsets).items()):
            for v in range(vectors):
                at = i64(place + v * self.lanes * self.tile.step)
                pixels = self._lanes_at(b.gep(image, [at], source_etype=self.element))
                for t, line in uses:
                    for f in range(filters):
                        at = b.gep(panel, [i64(t * filters + f)], source_etype=self.element)
                        weight = splat(b, b.load(at, typ=self.element), self.lanes)
                        n = line * vectors + v
                        sums[f][n] = self._multiply_add(weight, pixels, sums[f][n])
        return sums

    def _write(self, sums: list[ir.Value]) -> None:
        vectors, lines = self.tile.vectors, self.tile.side_by_side
        if lines > 1:
            groups = (sums[i : i + lines * vectors] for i in range(0, len(sums), lines * vectors))
            sums = [v for group in groups for n in range(vectors) for v in self._in_turn(group[n::vectors])]
        super()._write(sums)

    def _in_turn(self, lines: list[ir.Value]) -> list[ir.Value]:
        """Vectors whose elements come from one of `lines` after the other."""
        b, lanes, count = self.b, self.lanes, len(lines)
        found = []
        for first in range(0, count * lanes, lanes):
            places = [divmod(first + lane, count) for lane in range(lanes)]
            vector = b.shuffle_vector(lines[0], lines[1], numbers(tuple(at + lanes * (n == 1) for at, n in places)))
            for n in range(2, count):
                own = numbers(tuple(lanes + at if line == n else lane for lane, (at, line) in enumerate(places)))
                vector = b.shuffle_vector(vector, lines[n], own)
            found.append(vector)
        return found

    def _lanes_at(self, pointer: ir.Value) -> ir.Value:
        """A vector of every `step`-th element."""
        b, step, size = self.b, self.tile.step, self.tile.dtype.itemsize
        if step == 1:
            return b.load(pointer, typ=self.vector, align=size)
        wide = ir.VectorType(self.element, step * self.lanes)
        loaded = b.load(pointer, typ=wide, align=size)
        undefined = poison(wide)
        return b.shuffle_vector(loaded, undefined, numbers(tuple(range(0, step * self.lanes, step))))


@dataclass(frozen=True, slots=True)
class DotsTile:
    """A microkernel with lanes along runs of k: for `filters` and each offset a vector of sums.

    Attributes:
        length: steps of k in a run.
        step: how far apart in the image neighbouring lanes are.
        taps: the runs in each row of the table.
    """

    dtype: DType
    filters: int
    offsets: tuple[int, ...]
    length: int
    step: int
    taps: tuple[Tap, ...]

    def name(self, target: Target) -> str:
        where = hashlib.sha256(f"{self.offsets}{self.taps}".encode()).hexdigest()[:12]
        shape = f"{self.filters}x{len(self.offsets)}x{self.length}x{target.lanes(self.dtype.itemsize)}"
        return f"tjit.dots.{self.dtype}.{len(self.taps)}x{shape}.{self.step}x{where}"


# (rows, image, table, a, a_row, sums, add): the table has a place in the image and in a for each row of k
DOTS_TILE = ir.FunctionType(ir.VoidType(), [I64, PTR, PTR, PTR, I64, PTR, I64])


def emit_dots_tile(tile: DotsTile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `DOTS_TILE`: vectors of sums by filter and offset."""
    with function_module(tile.name(target), DOTS_TILE, target.triple) as (module, b, function):
        _DotsTile(b, function, tile, target).emit()
    return module


class _DotsTile:
    """The one emission of a microkernel with lanes along k."""

    def __init__(self, b: ir.IRBuilder, function: ir.Function, tile: DotsTile, target: Target) -> None:
        self.b, self.tile, self.target = b, tile, target
        self.lanes = target.lanes(tile.dtype.itemsize)
        self.element = element_type(tile.dtype)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.rows, self.image, self.table, self.a, self.a_row, self.sums, self.add = function.args

    def emit(self) -> None:
        b, tile = self.b, self.tile
        count = tile.filters * len(tile.offsets)
        slots = [stack(b, self.vector) for _ in range(count)]  # registers, once LLVM has seen them
        zero = zeros(self.vector)
        for slot in slots:
            b.store(zero, slot)
        whole = tile.length // self.lanes * self.lanes
        with counted_loop(b, i64(0), self.rows, i64(1)) as row:
            image, a = (
                byte_gep(b, start, b.load(b.gep(self.table, [row, I32(n)], source_etype=TABLE_ROW), typ=I64))
                for n, start in enumerate((self.image, self.a))
            )
            if whole:
                with counted_loop(b, i64(0), i64(whole), i64(self.lanes)) as x:
                    self._products(image, a, x, slots, self.lanes)
            if whole < tile.length:
                self._products(image, a, i64(whole), slots, tile.length - whole)
        add = b.add if isinstance(self.element, ir.IntType) else b.fadd
        later = b.icmp_signed("!=", self.add, i64(0))
        for n, slot in enumerate(slots):
            at = b.gep(self.sums, [i64(n * self.lanes)], source_etype=self.element)
            value, size = b.load(slot, typ=self.vector), tile.dtype.itemsize
            before = b.load(at, typ=self.vector, align=size)
            b.store(b.select(later, add(before, value), value), at, align=size)

    def _products(self, image: ir.Value, a: ir.Value, x: ir.Value, slots: list[ir.Value], valid: int) -> None:
        """Of `valid` steps from x on of each run: each vector of the image is read once for all of them."""
        b, tile = self.b, self.tile
        pixels = b.gep(image, [b.mul(x, i64(tile.step))], source_etype=self.element)
        lefts: dict[tuple[int, int], ir.Value] = {}
        for place, uses in sorted(places_read(tile.taps, tile.offsets).items()):
            right = self._load(b.gep(pixels, [i64(place)], source_etype=self.element), tile.step, valid)
            for t, line in uses:
                for f in range(tile.filters):
                    left = lefts.get((t, f))
                    if left is None:
                        row = b.add(b.add(x, i64(t * tile.length)), b.mul(i64(f), self.a_row))
                        left = lefts[t, f] = self._load(b.gep(a, [row], source_etype=self.element), 1, valid)
                    slot = slots[f * len(tile.offsets) + line]
                    total = multiply_add(b, left, right, b.load(slot, typ=self.vector), fused=self.target.fma)
                    b.store(total, slot)

    def _load(self, pointer: ir.Value, step: int, valid: int) -> ir.Value:
        """`valid` lanes `step` apart; zeros in the others, whatever is in memory."""
        b, size = self.b, self.tile.dtype.itemsize
        span = step * (self.lanes - 1) + 1
        wide = ir.VectorType(self.element, span)
        picks = numbers(tuple(range(0, span, step)))
        loaded = b.load(pointer, typ=wide, align=size)
        vector = b.shuffle_vector(loaded, poison(wide), picks) if step > 1 else loaded
        if valid == self.lanes:
            return vector
        keep = numbers(tuple(i if i < valid else self.lanes for i in range(self.lanes)))
        return b.shuffle_vector(vector, zeros(self.vector), keep)
