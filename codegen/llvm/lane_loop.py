"""The innermost loop of a row: whole vectors, several at once, and what is left after them under a mask."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import llvmlite.ir as ir

from tjit.codegen.kernel import Loop, Scan, Store
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.first_places import FirstPlaces, decides_early
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.reductions import Accumulation, counted
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.scans import Running
from tjit.codegen.llvm.vectors import I64, counted_loop, i64, lanes_below, stack, while_loop
from tjit.ir.dims import Dim

__all__ = ["LaneLoop", "backwards", "emit_statements", "place_in"]

_SEARCHED = 64  # steps of a chunk in which a place is looked for
_UNDECIDED = 8  # steps after which a loop that may end early is asked whether it does


def backwards(ints: Integers, i: ir.Value, extent: ir.Value, step: int) -> ir.Value:
    """Where the `step` points begin that a loop from the end has come to after i of `extent`."""
    return ints.sub(ints.sub(extent, i64(step)), i)


def place_in(loop: Loop) -> Dim:
    """The row-major position within the loop's axes, for the arg reductions."""
    linear: Dim = 0
    for axis in loop.axes:
        linear = linear * axis.extent + axis.index
    return linear


def emit_statements(loop: Loop, emitter: ExprEmitter, running: Running) -> None:
    """Stores, scans, what reductions take in: in order, since a store may write over what was to be read before."""
    for statement in loop.body:
        if isinstance(statement, Store):
            emitter.store(statement)
        elif isinstance(statement, Scan):
            emitter.scanned[id(statement)] = running.step(statement, emitter)
        else:
            emitter.emit(counted(statement) or statement.value)


class LaneLoop:
    """The lanes run along the last axis of `loop`.

    Args:
        width: lanes.
        unroll: vectors side by side.
        scalar: the emitter of what is the same in all lanes.
        reduced: what finished reductions are, by id; places that are looked for here are added.
        entry: the function's first block.
    """

    def __init__(
        self,
        loop: Loop,
        width: int,
        unroll: int,
        scalar: ExprEmitter,
        reduced: dict[int, Lane],
        accumulation: Accumulation,
        running: Running,
        entry: ir.Block,
    ) -> None:
        self.b, self.ints, self.scalar = scalar.b, scalar.ints, scalar
        self.loop, self.axis, self.width, self.unroll = loop, loop.axes[-1], width, unroll
        self.step = width * unroll
        self.reduced, self.accumulation, self.running, self.entry = reduced, accumulation, running, entry
        self.linear = place_in(loop)

    def emit(self) -> None:
        extent = self.ints.dim(self.axis.extent)
        self.places = self._places()
        whole, left = self._split(extent)
        if left and self.loop.reverse:
            self._rest(whole, extent)
        if whole is not None:
            self._steps(whole)
        if left and not self.loop.reverse:
            self._rest(whole, extent)
        if self.places is not None:
            self.reduced.update(self.places.find(self._lanes_at))

    def _places(self) -> FirstPlaces | None:
        """Where arg reductions look for places, if they keep none."""
        if self.accumulation.placed:
            return None
        n = self.axis.extent
        long = not isinstance(n, int) or n > _SEARCHED * self.step
        return FirstPlaces(self.scalar, self.loop, self.accumulation, self.width, chunked=long, entry=self.entry)

    def _split(self, extent: ir.Value) -> tuple[ir.Value | None, bool]:
        """Where the whole steps end (None: there are none), and whether anything is left after them."""
        n, step = self.axis.extent, self.step
        if isinstance(n, int):
            whole = n // step * step
            return (i64(whole) if whole else None), whole != n
        return self.ints.whole_steps(i64(0), extent, step), step > 1

    def _steps(self, whole: ir.Value) -> None:
        with self._chunks(whole) as (first, stop):
            with counted_loop(self.b, first, stop, i64(self.step)) as i, self.scalar.scope():
                at = backwards(self.ints, i, whole, self.step) if self.loop.reverse else i
                self._vectors(at, self.unroll, None)
            self._end_chunk(first)

    def _rest(self, whole: ir.Value | None, extent: ir.Value) -> None:
        ints, width, start = self.ints, self.width, i64(0) if whole is None else whole
        stop = ints.add(start, self._round_up(ints.sub(extent, start))) if self.loop.reverse else extent
        with counted_loop(self.b, start, stop, i64(width)) as i, self.scalar.scope():
            at = ints.add(backwards(ints, i, stop, width), start) if self.loop.reverse else i
            self._vectors(at, 1, lanes_below(self.b, ints.sub(extent, at), width) if width > 1 else None)
        self._end_chunk(start)

    def _round_up(self, n: ir.Value) -> ir.Value:
        width = i64(self.width)
        return self.ints.mul(self.ints.ceil_div(n, width), width)

    def _vectors(self, start: ir.Value, count: int, mask: ir.Value | None) -> None:
        for n in reversed(range(count)) if self.loop.reverse else range(count):
            emitter = self._lanes_at(self.ints.add(start, i64(n * self.width)), mask)
            emit_statements(self.loop, emitter, self.running)
            self.accumulation.update(n, emitter, self.linear)
        self.accumulation.end_points()

    def _lanes_at(self, at: ir.Value, mask: ir.Value | None) -> ExprEmitter:
        self.ints.symbols[self.axis.symbol.name] = at
        scalar, lanes = self.scalar, Lanes(self.axis.symbol, self.width, mask, aligned=True)
        return ExprEmitter(
            self.b,
            scalar.target,
            lanes,
            self.ints,
            scalar.pointers,
            error=scalar.error,
            reduced=self.reduced,
            scalar=scalar,
        )

    def _end_chunk(self, start: ir.Value) -> None:
        if self.places is not None and self.places.chunked:
            self.places.end_chunk(start)

    @contextmanager
    def _chunks(self, whole: ir.Value) -> Iterator[tuple[ir.Value, ir.Value]]:
        """Where the whole steps begin and end, or those of each chunk of them, until nothing can change any more."""
        accumulation, n = self.accumulation, self.axis.extent
        stops = accumulation.width > 1 and decides_early(self.loop)
        size = self.step * (_UNDECIDED if stops else _SEARCHED)
        if not (stops or not accumulation.placed) or (isinstance(n, int) and n < 2 * size):
            yield i64(0), whole
            return
        b, at = self.b, stack(self.b, I64, block=self.entry)
        b.store(i64(0), at)

        def goes_on() -> ir.Value:
            left = b.icmp_signed("<", b.load(at, typ=I64), whole)
            return b.and_(left, b.not_(accumulation.decided())) if stops else left

        with while_loop(b, goes_on):
            start = b.load(at, typ=I64)
            stop = self.ints.min(self.ints.add(start, i64(size)), whole)
            yield start, stop
            b.store(stop, at)
