"""Index expressions in the lanes of a vector."""

from __future__ import annotations

from functools import lru_cache

import llvmlite.ir as ir

from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.vectors import I64, numbers, splat
from tjit.codegen.run_on import RunOn
from tjit.dtypes import i64 as int64
from tjit.ir.dims import Dim, Symbol, apart, coefficient, fold, substitute

__all__ = ["Lanes", "Positions", "in_every_lane"]


class Lanes:
    """Which axes run along the lanes, how many there are, and which of them are active.

    Attributes:
        symbol: the axis; lane j stands for its value plus j. None: one lane.
        mask: i1 vector of active lanes; None: all.
        run: the lanes run on over more axes: lane j is element first + j, counted from the values that these have.
        aligned: the axis is at a multiple of the width.
    """

    __slots__ = ("aligned", "first", "mask", "run", "symbol", "width")

    def __init__(
        self,
        symbol: Symbol | None,
        width: int,
        mask: ir.Value | None = None,
        run: RunOn | None = None,
        first: int = 0,
        *,
        aligned: bool = False,
    ) -> None:
        self.symbol = symbol
        self.width = width if symbol is not None else 1
        self.mask = mask
        self.run = run
        self.first = first
        self.aligned = aligned

    @property
    def symbols(self) -> frozenset[Symbol]:
        """The axes that differ from lane to lane."""
        if self.symbol is None or self.width == 1:
            return frozenset()
        return frozenset((self.symbol,) if self.run is None else (a.symbol for a in self.run.axes))

    def steps(self, d: Dim) -> tuple[int, ...] | None:
        """How much more `d` is in each lane than where the axes are; None: that is not constant."""
        if self.run is not None:
            return self.run.steps(d, self.first, self.width)
        k = 0 if self.symbol is None else coefficient(d, self.symbol)
        if k is None and self.aligned:
            assert self.symbol is not None
            return _steps_from_multiple(d, self.symbol, self.width)
        return tuple(range(0, k * self.width, k)) if isinstance(k, int) and k else (0,) * self.width if k == 0 else None


@lru_cache(4096)
def _steps_from_multiple(d: Dim, symbol: Symbol, width: int) -> tuple[int, ...] | None:
    """How much more `d` is where `symbol` is 1, 2, ... more than a multiple of `width`; None: that is not constant."""
    start = Symbol(f"{symbol.name}.start", 0, None).dim * width
    first = substitute(d, {symbol: start})
    steps = [substitute(d, {symbol: start + j}) - first for j in range(width)]
    numbers = tuple(step for step in steps if isinstance(step, int))
    return numbers if len(numbers) == width else None


def in_every_lane(b: ir.IRBuilder, lane: Lane, width: int) -> Lane:
    """A one-lane value in each of `width` lanes; one that is a vector already as it is."""
    if width == 1 or isinstance(lane.value.type, ir.VectorType):
        return lane
    return Lane(splat(b, lane.value, width), lane.dtype, rounded=lane.rounded)


class Positions:
    """Computes index expressions in every lane, each once.

    Args:
        ints: index arithmetic; its `symbols` hold the present value of every axis (of lane 0 for the lane axis).
        scalars: of as many lanes.

    Attributes:
        known: the values of expressions that were asked for.
    """

    def __init__(self, b: ir.IRBuilder, lanes: Lanes, ints: Integers, scalars: LlvmScalars) -> None:
        self.b = b
        self.lanes = lanes
        self.ints = ints
        self.scalars = scalars
        self.known: dict[Dim, ir.Value] = {}

    def __call__(self, d: Dim) -> ir.Value:
        """The value of an index expression in every lane, as i64."""
        known = self.known.get(d)
        if known is None:
            known = self.known[d] = self._position(d)
        return known

    def _position(self, d: Dim) -> ir.Value:
        width, lane = self.lanes.width, self.lanes.symbol
        if width == 1:
            return self.ints.dim(d)
        steps = self.lanes.steps(d)
        if steps is not None:
            start = splat(self.b, self.ints.dim(d), width)
            return self.b.add(start, numbers(steps, I64)) if any(steps) else start
        k = coefficient(d, lane) if lane is not None else 0
        if k is not None and self.lanes.run is None:
            start = splat(self.b, self.ints.dim(d), width)
            step = splat(self.b, self.ints.dim(k), width)
            return self.b.add(start, self.b.mul(step, numbers(range(width), I64)))
        return self.folded(d, self.lane_vectors())

    def folded(self, d: Dim, vectors: dict[Symbol, ir.Value]) -> ir.Value:
        """A dim in each lane; `vectors` are symbols with a value of their own in each lane."""
        same, own = apart(d, vectors.keys())
        if self.lanes.width == 1 or same == 0:
            return self._vector(d, vectors)
        start = splat(self.b, self.ints.dim(same), self.lanes.width)
        return self.b.add(start, self._vector(own, vectors)) if own != 0 else start

    def _vector(self, d: Dim, vectors: dict[Symbol, ir.Value]) -> ir.Value:
        """A dim in vector arithmetic."""
        width, s = self.lanes.width, self.scalars

        def symbol(x: Symbol) -> Lane:
            if x in vectors:
                return Lane(vectors[x], int64)
            return in_every_lane(self.b, Lane(self.ints.symbols[x.name], int64), width)

        def apply(name: str, x: Lane, y: Lane) -> Lane:
            operations = {
                "+": s.add,
                "*": s.mul,
                "//": s.floor_div,
                "%": s.floor_mod,
                "min": s.minimum,
                "max": s.maximum,
            }
            return operations[name](x, y)

        value = fold(d, constant=lambda c: s.constant(c, int64), symbol=symbol, apply=apply).value
        assert width == 1 or isinstance(value.type, ir.VectorType)
        return value

    def lane_vectors(self) -> dict[Symbol, ir.Value]:
        """The values of the lanes' axes in each lane."""
        return {symbol: self(symbol.dim) for symbol in sorted(self.lanes.symbols)}
