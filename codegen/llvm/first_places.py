"""Arg reductions along the lanes: the extreme alone, and then the first place where it is.

A place beside every running extreme is five instructions for a vector and a hundred to join the lanes; an extreme alone
is one to three and twenty, and to look for it a comparison. Long rows go chunk by chunk, so that only the chunk where
the extreme came first is read again, out of the first-level cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Axis, Compute, Load, Loop, Reduce, walk
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.reductions import Accumulation, is_better_later, neutral, running_dtype
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.vectors import I64, declare, i64, lanes_below, splat, stack, while_loop
from tjit.dtypes import bool_
from tjit.dtypes import i64 as int64
from tjit.passes.costs import EXPENSIVE

__all__ = ["FirstPlaces", "are_looked_for", "decides_early"]

_LIGHT = 8  # computations of an element: it is computed twice
_AT_ONCE = 128  # lanes that are compared without a branch

LanesAt = Callable[[ir.Value, "ir.Value | None"], ExprEmitter]  # given a position, and a mask


def are_looked_for(loop: Loop) -> bool:
    """Whether places of extremes are looked for once the extremes are known."""
    if not any(isinstance(s, Reduce) and s.kind.startswith("arg") for s in loop.body) or not _may_stop(loop):
        return False
    computed = [e for s in loop.body for e in walk(s.value) if isinstance(e, Compute)]
    return len(computed) <= _LIGHT and not any(e.op.name in EXPENSIVE for e in computed)


def decides_early(loop: Loop) -> bool:
    """Whether nothing but any or all is asked, which elements after the first that decides it do not change."""
    return _may_stop(loop) and all(isinstance(s, Reduce) and s.kind in ("any", "all") for s in loop.body)


def _may_stop(loop: Loop) -> bool:
    """Whether points may be left out, or come twice: none stores anything, or reports an index."""
    if len(loop.axes) != 1 or loop.reverse or not all(isinstance(s, Reduce) for s in loop.body):
        return False
    return not any(isinstance(e, Load) and e.bindings for s in loop.body for e in walk(s.value))


class FirstPlaces:
    """The places of one loop's arg reductions, whose extremes `accumulation` keeps.

    Args:
        scalar: the emitter of what is the same in all lanes.
        width: lanes.
        chunked: the loop's points come chunk by chunk, each followed by a call of `end_chunk`.
        entry: the function's first block.
    """

    def __init__(
        self, scalar: ExprEmitter, loop: Loop, accumulation: Accumulation, width: int, *, chunked: bool, entry: ir.Block
    ) -> None:
        self.b, self.ints, self.scalar = scalar.b, scalar.ints, scalar
        self.axis, self.width, self.chunked, self.entry = loop.axes[0], width, chunked, entry
        self.accumulation = accumulation
        self.reduces = [s for s in loop.body if isinstance(s, Reduce) and s.kind.startswith("arg")]
        self.best = {id(r): self._begin(r) for r in self.reduces} if chunked else {}

    def _begin(self, reduce: Reduce) -> tuple[ir.Value, ir.Value]:
        """Where the extreme so far is kept, and where its chunk begins."""
        dtype = running_dtype(reduce)
        start = self.scalar.scalars.constant(neutral(reduce.kind, dtype), dtype).value
        slots = stack(self.b, start.type, block=self.entry), stack(self.b, I64, block=self.entry)
        self.b.store(start, slots[0])
        self.b.store(i64(0), slots[1])
        return slots

    def end_chunk(self, start: ir.Value) -> None:
        """Take in what the chunk from `start` on has come to."""
        b, s = self.b, self.scalar.scalars
        for reduce, new in zip(self.reduces, self.accumulation.take_extremes(), strict=True):
            extreme, place = self.best[id(reduce)]
            known = Lane(b.load(extreme, typ=new.value.type), new.dtype)
            better = is_better_later(s, reduce.kind, known, new)
            b.store(s.select(better, new, known).value, extreme)
            b.store(b.select(better.value, start, b.load(place, typ=I64)), place)

    def find(self, lanes_at: LanesAt) -> Mapping[int, Lane]:
        """The place of each, after the loop."""
        found = {}
        for reduce, extreme, start in self._extremes():
            search = _Search(self.b, self.ints, reduce, extreme, self.axis, self.width, lanes_at, self.entry)
            with self.scalar.scope():
                found[id(reduce)] = Lane(search.emit(start), int64)
        return found

    def _extremes(self) -> Sequence[tuple[Reduce, Lane, ir.Value]]:
        """Each reduction's extreme, and where it is looked for first."""
        if not self.chunked:
            zero = i64(0)
            return [(r, v, zero) for r, v in zip(self.reduces, self.accumulation.take_extremes(), strict=True)]
        found = []
        for reduce in self.reduces:
            extreme, start = self.best[id(reduce)]
            dtype = running_dtype(reduce)
            value = Lane(self.b.load(extreme, typ=self.scalar.scalars.register_type(dtype)), dtype)
            found.append((reduce, value, self.b.load(start, typ=I64)))
        return found


class _Search:
    """Looks for the first element of a row that is the extreme, or nan: one of them is there."""

    def __init__(
        self,
        b: ir.IRBuilder,
        ints: Integers,
        reduce: Reduce,
        extreme: Lane,
        axis: Axis,
        width: int,
        lanes_at: LanesAt,
        entry: ir.Block,
    ) -> None:
        self.b, self.ints, self.reduce, self.axis = b, ints, reduce, axis
        self.width, self.lanes_at, self.entry = width, lanes_at, entry
        self.wanted = Lane(splat(b, extreme.value, width), extreme.dtype)

    def emit(self, start: ir.Value) -> ir.Value:
        """The place, at `start` or after it."""
        n = self.axis.extent
        if isinstance(n, int) and -(-n // self.width) * self.width <= _AT_ONCE:
            return self._at_once(n)
        return self._vector_by_vector(start)

    def _hits(self, at: ir.Value, mask: ir.Value | None) -> ir.Value:
        """A bit for each lane of the vector at a position: whether it is the extreme, or nan."""
        emitter = self.lanes_at(at, mask)
        s, value = emitter.scalars, emitter.emit(self.reduce.value)
        hits = s.eq(value, self.wanted)
        if value.dtype.is_floating_point:
            hits = s.bit_or(hits, s.ne(value, value))
        if mask is not None:
            hits = s.bit_and(hits, Lane(mask, bool_))
        return self.b.bitcast(hits.value, ir.IntType(self.width))

    def _first(self, bits: ir.Value) -> ir.Value:
        """The number of the first bit that is set."""
        kind = bits.type
        count = declare(self.b, f"llvm.cttz.i{kind.width}", ir.FunctionType(kind, [kind, ir.IntType(1)]))
        first = self.b.call(count, [bits, ir.IntType(1)(1)])
        if kind.width == 64:
            return first
        return self.b.zext(first, I64) if kind.width < 64 else self.b.trunc(first, I64)

    def _at_once(self, n: int) -> ir.Value:
        b, width = self.b, self.width
        kind = ir.IntType(-(-n // width) * width)
        bits = ir.Constant(kind, 0)
        for start in range(0, n, width):
            left = n - start
            hits = self._hits(i64(start), lanes_below(b, i64(left), width) if left < width else None)
            hits = b.zext(hits, kind) if kind.width > width else hits
            bits = b.or_(bits, b.shl(hits, ir.Constant(kind, start))) if start else hits
        return self._first(bits)

    def _vector_by_vector(self, start: ir.Value) -> ir.Value:
        b, ints, width = self.b, self.ints, self.width
        extent = ints.dim(self.axis.extent)
        whole = ints.whole_steps(i64(0), extent, width)
        kind = ir.IntType(width)
        at, found = stack(b, I64, block=self.entry), stack(b, kind, block=self.entry)
        b.store(start, at)
        b.store(ir.Constant(kind, 0), found)

        def look(mask: ir.Value | None) -> None:
            i = b.load(at, typ=I64)
            b.store(self._hits(i, mask), found)
            b.store(b.add(i, i64(width)), at)

        def missing() -> ir.Value:
            return b.icmp_unsigned("==", b.load(found, typ=kind), ir.Constant(kind, 0))

        with while_loop(b, lambda: b.and_(missing(), b.icmp_signed("<", b.load(at, typ=I64), whole))):
            look(None)
        if not isinstance(self.axis.extent, int) or self.axis.extent % width:
            with b.if_then(missing()):
                look(lanes_below(b, ints.sub(extent, whole), width))
        last = b.sub(b.load(at, typ=I64), i64(width))
        return b.add(last, self._first(b.load(found, typ=kind)))
