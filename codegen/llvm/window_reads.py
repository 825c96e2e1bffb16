"""What a microkernel of contractions with windows reads of the image: lines of its tile, at each tap of a row of k."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property
from itertools import product
from math import prod

from tjit.codegen.llvm.window_blocks import Blocks, inside_of
from tjit.codegen.llvm.window_map import ImageAxis, WindowMap
from tjit.codegen.llvm.window_tile import Tap
from tjit.dataclass import dataclass

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
    def positions(self) -> tuple[int, ...]:
        """Of the tile, those that it reads first in each line: all where lanes are no positions."""
        run = self.tile.span_of(0) if self.along == "n" else 1
        return tuple(first + n for first in range(0, self.tile.size, run) for n in range(min(run, self.side_by_side)))

    @property
    def side_by_side(self) -> int:
        """How many lines hold a row of positions between them: every so many-th each."""
        if self.along != "n":
            return 1
        return min(self.tile.span_of(0), next((axis.spread for axis in self.windows.axes if axis.n == 0), 1))

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
                    total += self.tile.value_of(position, axis.n) * axis.scale_n // axis.spread * stride
            found.append(total)
        return tuple(found)

    @property
    def phases(self) -> tuple[tuple[int, int], ...]:
        """The digits of n above those of a tile by whose remainders its taps change, and their divisors."""
        return tuple(
            (axis.n, axis.spread)
            for axis in self.windows.axes
            if axis.spread > 1 and axis.n is not None and axis.n > self.tile.level
        )

    @property
    def taps(self) -> int:
        """Steps of k in a row."""
        return prod(self.k.span_of(digit) for digit in range(self.spelt))

    @cached_property
    def variants(self) -> tuple[tuple[tuple[Tap, ...], ...], ...]:
        """The taps of a row in the order of panels, for each place of a tile along `tile.level`; one: the same for all.

        Those for all remainders of `phases`, the first of which change first. They leave out padding, where that does
        not take too many microkernels.
        """
        digits, divisors = [digit for digit, _ in self.phases], [range(by) for _, by in self.phases]
        remainders = (reversed(found) for found in product(*reversed(divisors)))
        return tuple(self._variants(dict(zip(digits, found, strict=True))) for found in remainders)

    def _variants(self, outer: Mapping[int, int]) -> tuple[tuple[Tap, ...], ...]:
        """Those for values of the digits above a tile's."""
        starts = range(0, self.tile.digits[self.tile.level].extent, self.tile.span)
        steps = range(0, self.taps, self.k.span_of(0) if self.along == "k" else 1)
        found = tuple(tuple(self._tap(t, start, outer) for t in steps) for start in starts)
        if len(set(found)) == 1:
            return found[:1]
        return found if len(set(found)) <= _MOST_VARIANTS else (tuple(self._tap(t, None, outer) for t in steps),)

    def _tap(self, t: int, start: int | None, outer: Mapping[int, int]) -> Tap:
        values = [self._value(t, digit) for digit in range(self.spelt)]
        lines = [line for line in range(self.lines) if self._is_there(line, values, outer)]
        if start is not None:
            lines = [line for line in lines if self._counts(line, start, values)]
        place = 0
        for axis, stride in zip(self.windows.axes, self.strides, strict=True):
            place += stride * self._step(axis, values)
        return Tap(place, tuple(lines))

    def _step(self, axis: ImageAxis, values: Sequence[int]) -> int:
        """How far in an axis a tap is from a line that it counts for."""
        k = 0 if axis.k is None or axis.k >= self.spelt else values[axis.k]
        return -(-(k * axis.scale_k + axis.origin) // axis.spread)

    def _value(self, t: int, digit: int) -> int:
        value = self.k.value_of(t, digit)
        return self.k.span_of(digit) - 1 - value if self.backwards[digit] else value

    def _is_there(self, line: int, values: Sequence[int], outer: Mapping[int, int]) -> bool:
        """Whether the image has what a tap reads for a line: tiles start at multiples of what axes are spread by."""
        for axis in self.windows.axes:
            if axis.spread == 1:
                continue
            n = 0 if axis.n is None else outer.get(axis.n, self.tile.value_of(self.positions[line], axis.n))
            if not axis.has(n, 0 if axis.k is None else values[axis.k]):
                return False
        return True

    def _counts(self, line: int, start: int, values: Sequence[int]) -> bool:
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
