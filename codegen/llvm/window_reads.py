"""What a microkernel of contractions with windows reads of the image: lines of its tile, at each tap of a row of k."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod

from tjit.codegen.llvm.window_blocks import Blocks, inside_of
from tjit.codegen.llvm.window_map import WindowMap
from tjit.codegen.llvm.window_tile import Tap

__all__ = ["TileReads"]

_MOST_VARIANTS = 3


@dataclass(frozen=True)
class TileReads:
    """The reads of a tile.

    Attributes:
        along: the axis of the lanes, "m", "n" or "k".
        strides: of the image's axes in scratch.
        spelt: how many digits of k, the lowest, have values that make up a row: those spelt out, or along lanes.
        backwards: the digits of k that are packed from their last value to their first.
    """

    windows: WindowMap
    along: str
    tile: Blocks
    k: Blocks
    strides: tuple[int, ...]
    spelt: int
    backwards: tuple[bool, ...]

    @property
    def positions(self) -> range:
        """Of the tile, those that it reads first in each line: all where lanes are no positions."""
        return range(0, self.tile.size, self.tile.span_of(0) if self.along == "n" else 1)

    @property
    def lines(self) -> int:
        return len(self.positions)

    @property
    def offsets(self) -> tuple[int, ...]:
        """Where in the image the lines are, from the tile's first."""
        found = []
        for position in self.positions:
            total = 0
            for axis, stride in zip(self.windows.axes, self.strides, strict=True):
                if axis.n is not None and axis.n <= self.tile.level:
                    total += self.tile.value_of(position, axis.n) * axis.scale_n * stride
            found.append(total)
        return tuple(found)

    @property
    def taps(self) -> int:
        """Steps of k in a row."""
        return prod(self.k.span_of(digit) for digit in range(self.spelt))

    @cached_property
    def variants(self) -> tuple[tuple[Tap, ...], ...]:
        """The taps of a row in the order of panels, for each place of a tile along `tile.level`; one: the same for all.

        They leave out padding, where that does not take too many microkernels.
        """
        starts = range(0, self.tile.digits[self.tile.level].extent, self.tile.span)
        steps = range(0, self.taps, self.k.span_of(0) if self.along == "k" else 1)
        found = tuple(tuple(self._tap(t, start) for t in steps) for start in starts)
        if len(set(found)) == 1:
            return found[:1]
        return found if len(set(found)) <= _MOST_VARIANTS else (tuple(self._tap(t, None) for t in steps),)

    def _tap(self, t: int, start: int | None) -> Tap:
        values = [self._value(t, digit) for digit in range(self.spelt)]
        place = 0
        for axis, stride in zip(self.windows.axes, self.strides, strict=True):
            if axis.k is not None and axis.k < self.spelt:
                place += values[axis.k] * axis.scale_k * stride
        return Tap(
            place, tuple(line for line in range(self.lines) if start is None or self._counts(line, start, values))
        )

    def _value(self, t: int, digit: int) -> int:
        value = self.k.value_of(t, digit)
        return self.k.span_of(digit) - 1 - value if self.backwards[digit] else value

    def _counts(self, line: int, start: int, values: list[int]) -> bool:
        """Whether a tap reads more than padding at a line of a tile at `start` of the digit `tile.level`."""
        for axis in self.windows.axes:
            if axis.inside is None or axis.n is None or axis.k is None or axis.k >= self.spelt:
                continue
            are_lanes = (axis.n if self.along == "n" else axis.k if self.along == "k" else None) == 0
            if axis.n <= self.tile.level and not are_lanes:
                value = self.tile.value_of(self.positions[line], axis.n) + (start if axis.n == self.tile.level else 0)
                first, end = inside_of(axis, value, value)
                if not first <= values[axis.k] < end:
                    return False
        return True
