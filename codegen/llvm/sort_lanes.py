"""Several short rows sorted at once: each lane of a vector has a row, and elements are exchanged between vectors.

`Columns` are such rows in scratch: element i of all of them is one vector, or two where keys and places are apart. A
comparison takes the smaller elements of two vectors to one and the larger ones to the other, with no branch: so a few
rows together cost what one does.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.llvm.keys import Keys
from tjit.codegen.llvm.sort_network import Network
from tjit.codegen.llvm.transpose import transposed
from tjit.codegen.llvm.vectors import counted_loop, declare, i64, stack

__all__ = ["Columns", "lanes_of"]

_MOST_LANES = 16
_LEAST_BLOCK = 4  # elements that are sorted in registers

Parts = list[ir.Value]  # a vector of elements; or of their keys, and of their places


def lanes_of(keys: Keys) -> int:
    """How many rows are sorted at once: 64 bytes of elements, which any processor works on at its own width."""
    return min(_MOST_LANES, 512 // keys.part.width)


class Columns:
    """Rows of up to `length` elements in scratch, side by side.

    Args:
        base: the scratch, of `length` vectors of each part.
        registers: how many vectors of 64 bytes the processor holds.
    """

    def __init__(self, b: ir.IRBuilder, keys: Keys, base: ir.Value, length: int, registers: int) -> None:
        self.b, self.keys, self.length, self.registers = b, keys, length, registers
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

    def _element(self, i: ir.Value, lane: ir.Value) -> ir.Value:
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

    def drain(self, rows: ir.Value, pitch: int, count: ir.Value) -> None:
        """Put the first `count` elements of each row where `fill` found them, and some of no meaning after them."""
        if self.keys.parts == 2:
            self._drain_one_by_one(rows, pitch, count)
            return
        b, width = self.b, self.lanes
        with counted_loop(b, i64(0), count, i64(width)) as i:
            kept = [self.load(b.add(i, i64(n)))[0] for n in range(width)]
            for n, row in enumerate(transposed(b, kept)):
                at = b.add(i, i64(n * pitch))
                b.store(row, b.gep(rows, [at], source_etype=self.keys.part), align=1)

    def _drain_one_by_one(self, rows: ir.Value, pitch: int, count: ir.Value) -> None:
        b, element = self.b, self.keys.element
        with (
            counted_loop(b, i64(0), i64(self.lanes), i64(1)) as lane,
            counted_loop(b, i64(0), count, i64(1)) as i,
        ):
            at = b.add(b.mul(lane, i64(pitch)), i)
            b.store(self._element(i, lane), b.gep(rows, [at], source_etype=element), align=16)

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

    def sort(self, n: int) -> None:
        """Order the first n elements."""
        greatest = [self._greatest() for _ in self.bases]
        block = max(_LEAST_BLOCK, self.registers // (2 * self.keys.parts))
        Network(self.b, self.load, self.store, self._ordered, greatest, block).sort(n)

    def _greatest(self) -> ir.Constant:
        return ir.Constant(self.vector, [(1 << self.keys.part.width) - 1] * self.lanes)

    def select(self, n: ir.Value, count: int) -> None:
        """Make the first `count` elements what they are among the first n in order; the rest is lost."""
        b = self.b
        entry = b.function.entry_basic_block
        kept = [[stack(b, self.vector, block=entry, align=64) for _ in self.bases] for _ in range(count)]
        nothing = self._greatest()
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
