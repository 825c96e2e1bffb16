"""Several short rows sorted at once: each lane of a vector has a row, and elements are exchanged between vectors.

`Columns` are such rows in scratch: element i of all of them is one vector, or two where keys and places are apart. A
comparison takes the smaller elements of two vectors to one and the larger ones to the other, with no branch: so a few
rows together cost what one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.llvm.keys import Keys
from tjit.codegen.llvm.transpose import transposed
from tjit.codegen.llvm.vectors import I64, counted_loop, declare, i64, least, stack, while_loop

__all__ = ["Columns", "lanes_of"]

_MOST_LANES = 16

Parts = list[ir.Value]  # a vector of elements; or of their keys, and of their places


def lanes_of(keys: Keys) -> int:
    """How many rows are sorted at once: 64 bytes of elements, which any processor works on at its own width."""
    return min(_MOST_LANES, 512 // keys.part.width)


class Columns:
    """Rows of up to `length` elements in scratch, side by side.

    Args:
        base: the scratch, of `length` vectors of each part.
    """

    def __init__(self, b: ir.IRBuilder, keys: Keys, base: ir.Value, length: int) -> None:
        self.b, self.keys, self.length = b, keys, length
        self.lanes = lanes_of(keys)
        self.vector = ir.VectorType(keys.part, self.lanes)
        self.bases = [base]
        if keys.parts == 2:
            self.bases.append(b.gep(base, [i64(length)], source_etype=self.vector))

    # -- elements ------------------------------------------------------------------------------------------------------

    def _pointers(self, i: ir.Value) -> Parts:
        return [self.b.gep(base, [i], source_etype=self.vector) for base in self.bases]

    def load(self, i: ir.Value) -> Parts:
        return [self.b.load(p, typ=self.vector, align=16) for p in self._pointers(i)]

    def store(self, i: ir.Value, parts: Parts) -> None:
        for pointer, part in zip(self._pointers(i), parts, strict=True):
            self.b.store(part, pointer, align=16)

    def element(self, i: ir.Value, lane: ir.Value) -> ir.Value:
        """Element i of a lane's row."""
        at = self.b.add(self.b.mul(i, i64(self.lanes)), lane)
        parts = [self.b.load(self.b.gep(p, [at], source_etype=self.keys.part), typ=self.keys.part) for p in self.bases]
        return self.keys.joined(self.b, parts)

    # -- rows into columns ---------------------------------------------------------------------------------------------

    def fill(self, rows: ir.Value, pitch: int, count: ir.Value) -> None:
        """Take in `count` elements of each of as many rows as there are lanes; row n is at rows + n*pitch elements."""
        if self.keys.parts == 2:
            self._fill_one_by_one(rows, pitch, count)
            return
        b, width = self.b, self.lanes
        with counted_loop(b, i64(0), count, i64(width)) as i:
            places = [b.add(i, i64(n * pitch)) for n in range(width)]
            found = [b.load(b.gep(rows, [at], source_etype=self.keys.part), typ=self.vector, align=1) for at in places]
            for n, column in enumerate(transposed(b, found)):
                self.store(b.add(i, i64(n)), [column])

    def _fill_one_by_one(self, rows: ir.Value, pitch: int, count: ir.Value) -> None:
        b = self.b
        with (
            counted_loop(b, i64(0), i64(self.lanes), i64(1)) as lane,
            counted_loop(b, i64(0), count, i64(1)) as i,
        ):
            at = b.add(b.mul(lane, i64(pitch)), i)
            element = b.load(b.gep(rows, [at], source_etype=self.keys.element), typ=self.keys.element, align=16)
            to = b.add(b.mul(i, i64(self.lanes)), lane)
            for base, part in zip(self.bases, self.keys.split(b, element), strict=True):
                b.store(part, b.gep(base, [to], source_etype=self.keys.part))

    # -- order ---------------------------------------------------------------------------------------------------------

    def _ordered(self, x: Parts, y: Parts) -> tuple[Parts, Parts]:
        """(the smaller elements, the larger ones) of each lane."""
        b = self.b
        if len(x) == 1:
            low, high = (self._extreme(name, x[0], y[0]) for name in ("umin", "umax"))
            return [low], [high]
        swap = self._is_before(y, x)
        pairs = list(zip(x, y, strict=True))
        return [b.select(swap, q, p) for p, q in pairs], [b.select(swap, p, q) for p, q in pairs]

    def _extreme(self, name: str, x: ir.Value, y: ir.Value) -> ir.Value:
        kind = ir.FunctionType(self.vector, [self.vector, self.vector])
        function = declare(self.b, f"llvm.{name}.v{self.lanes}i{self.keys.part.width}", kind)
        return self.b.call(function, [x, y])

    def _is_before(self, x: Parts, y: Parts) -> ir.Value:
        b = self.b
        before = b.icmp_unsigned("<", x[0], y[0])
        if len(x) == 1:
            return before
        same, earlier = b.icmp_unsigned("==", x[0], y[0]), b.icmp_unsigned("<", x[1], y[1])
        return b.or_(before, b.and_(same, earlier))

    def sort(self, n: ir.Value) -> None:
        """Order the first n elements by Batcher's merge exchange (Knuth, volume 3, algorithm 5.2.2 M)."""
        b = self.b
        top, p, q, r, d = (stack(b, I64, block=b.function.entry_basic_block) for _ in range(5))
        b.store(i64(1), top)
        with while_loop(b, lambda: b.icmp_signed("<", b.shl(b.load(top, typ=I64), i64(1)), n)):
            b.store(b.shl(b.load(top, typ=I64), i64(1)), top)
        b.store(b.select(b.icmp_signed("<", n, i64(2)), i64(0), b.load(top, typ=I64)), p)
        with while_loop(b, lambda: b.icmp_signed(">", b.load(p, typ=I64), i64(0))):
            step = b.load(p, typ=I64)
            for value, slot in ((b.load(top, typ=I64), q), (i64(0), r), (step, d)):
                b.store(value, slot)
            with while_loop(b, lambda: b.icmp_signed(">", b.load(d, typ=I64), i64(0))):
                distance, reach = b.load(d, typ=I64), b.load(q, typ=I64)
                self._exchange(n, step, b.load(r, typ=I64), distance)
                b.store(b.sub(reach, step), d)  # 0 after the last
                b.store(b.lshr(reach, i64(1)), q)
                b.store(step, r)
            b.store(b.lshr(step, i64(1)), p)

    def _exchange(self, n: ir.Value, run: ir.Value, first: ir.Value, distance: ir.Value) -> None:
        """Order the pairs (i, i + distance) of runs of `run` elements, which begin at `first` and two runs apart."""
        b = self.b
        stop = b.sub(n, distance)
        with (
            counted_loop(b, first, stop, b.shl(run, i64(1))) as start,
            counted_loop(b, start, least(b, b.add(start, run), stop), i64(1)) as i,
        ):
            other = b.add(i, distance)
            low, high = self._ordered(self.load(i), self.load(other))
            self.store(i, low)
            self.store(other, high)

    def select(self, n: ir.Value, count: int) -> None:
        """Make the first `count` elements what they are among the first n in order; the rest is lost."""
        b = self.b
        entry = b.function.entry_basic_block
        kept = [[stack(b, self.vector, block=entry, align=64) for _ in self.bases] for _ in range(count)]
        nothing = ir.Constant(self.vector, [(1 << self.keys.part.width) - 1] * self.lanes)
        for slots in kept:
            for slot in slots:
                b.store(nothing, slot)
        with counted_loop(b, i64(0), n, i64(1)) as i:
            new = self.load(i)
            closer = self._is_before(new, self._loaded(kept[-1]))
            bits = b.bitcast(closer, ir.IntType(self.lanes))
            with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0))):
                for slots in kept:
                    low, new = self._ordered(self._loaded(slots), new)
                    for slot, part in zip(slots, low, strict=True):
                        b.store(part, slot)
        for j, slots in enumerate(kept):
            self.store(i64(j), self._loaded(slots))

    def _loaded(self, slots: Sequence[ir.Value]) -> Parts:
        return [self.b.load(slot, typ=self.vector) for slot in slots]
