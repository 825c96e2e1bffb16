"""Columns in order by a network of comparisons, most of which find both elements in registers.

Blocks are sorted in registers, and then merged, two of p elements to one of 2p: the first is compared with the second
turned round, (i, 2p - 1 - i), and then what lies p/2 apart, p/4, ... 1. The first two of these steps are done on four
elements at once, and all below a block's length on a whole block: storing is what limits a network. Every comparison
leaves the smaller element at the smaller place: places beyond the last, which would hold the greatest, need none.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial

import llvmlite.ir as ir

from tjit.codegen.llvm.vectors import I64, counted_loop, i64, least, stack, while_loop

__all__ = ["Network", "merge_exchange"]

Parts = list[ir.Value]
Pairs = Sequence[tuple[int, int]]
Place = Callable[[ir.Value], ir.Value]  # of an element, given the loop's counter


@lru_cache(maxsize=64)
def merge_exchange(n: int) -> tuple[tuple[int, int], ...]:
    """The comparisons that sort n elements (Batcher; Knuth, volume 3, algorithm 5.2.2 M)."""
    top = 1 << max(0, (n - 1).bit_length() - 1)
    found = []
    p = top if n > 1 else 0
    while p:
        q, r, d = top, 0, p
        while d:
            found += [(i, i + d) for i in range(n - d) if i & p == r]
            d, q, r = q - p, q >> 1, p
        p >>= 1
    return tuple(found)


class Network:
    """Sorts the first n of `columns`, whose scratch has whole blocks.

    Args:
        load, store: of an element of every row, at a place.
        ordered: the smaller elements of two, and the larger ones.
        greatest: what no element comes after.
        block: elements that are kept in registers, a power of 2 from 4 on.
    """

    def __init__(
        self,
        b: ir.IRBuilder,
        load: Callable[[ir.Value], Parts],
        store: Callable[[ir.Value, Parts], None],
        ordered: Callable[[Parts, Parts], tuple[Parts, Parts]],
        greatest: Parts,
        block: int,
    ) -> None:
        self.b, self.load, self.store, self.ordered = b, load, store, ordered
        self.greatest, self.block = greatest, block

    def sort(self, n: int) -> None:
        """Order elements 0 to n."""
        b, block = self.b, self.block
        if n <= block:
            self._compare([i64(i) for i in range(n)], merge_exchange(n))
            return
        whole = -(-n // block) * block
        for i in range(n, whole):
            self.store(i64(i), self.greatest)
        self._each_block(whole, merge_exchange(block))
        length = stack(b, I64, block=b.function.entry_basic_block)
        b.store(i64(block), length)
        with while_loop(b, lambda: b.icmp_signed("<", b.load(length, typ=I64), i64(whole))):
            p = b.load(length, typ=I64)
            self._merge(p, whole)
            b.store(b.shl(p, i64(1)), length)

    def _merge(self, p: ir.Value, n: int) -> None:
        """Make runs of p elements runs of 2p; a shorter one at the end is of more than p, or nothing is to be done."""
        b = self.b
        self._turned(p, n)
        apart = stack(b, I64, block=b.function.entry_basic_block)
        b.store(b.lshr(p, i64(2)), apart)
        with while_loop(b, lambda: b.icmp_signed(">=", b.load(apart, typ=I64), i64(self.block))):
            distance = b.load(apart, typ=I64)
            self._apart(distance, n)
            b.store(b.lshr(distance, i64(1)), apart)
        steps = [self.block >> k for k in range(1, self.block.bit_length())]
        self._each_block(n, [(i, i + d) for d in steps for i in range(self.block) if not i & d])

    def _turned(self, p: ir.Value, n: int) -> None:
        """(i, 2p - 1 - i) and then (i, i + p/2), of runs of 2p."""
        b, half, both = self.b, self.b.lshr(p, i64(1)), self.b.shl(p, i64(1))
        pairs = ((0, 3), (1, 2), (0, 1), (2, 3))

        def at(start: ir.Value) -> list[Place]:
            last = b.add(start, b.sub(both, i64(1)))
            up = [partial(b.add, first) for first in (start, b.add(start, half))]
            return [*up, *(partial(b.sub, first) for first in (b.sub(last, half), last))]

        whole, rest = self._runs(n, both)
        with counted_loop(b, i64(0), whole, both) as start:
            self._groups(at(start), pairs, i64(0), half)
        with b.if_then(b.icmp_signed(">", rest, p)):
            # the third is there from 3p/2 - rest on, the fourth from 2p - rest on
            third, fourth = b.sub(b.add(p, half), rest), least(b, half, b.sub(both, rest))
            third = b.select(b.icmp_signed("<", third, i64(0)), i64(0), third)
            places = at(whole)
            self._groups(places[:2], pairs, i64(0), third)
            self._groups(places[:3], pairs, third, fourth)
            self._groups(places, pairs, fourth, half)

    def _apart(self, distance: ir.Value, n: int) -> None:
        """(i, i + distance), of runs of twice the distance."""
        b, both = self.b, self.b.shl(distance, i64(1))

        def at(start: ir.Value) -> list[Place]:
            return [partial(b.add, start), partial(b.add, b.add(start, distance))]

        whole, rest = self._runs(n, both)
        with counted_loop(b, i64(0), whole, both) as start:
            self._groups(at(start), ((0, 1),), i64(0), distance)
        self._groups(at(whole), ((0, 1),), i64(0), b.sub(rest, distance))

    def _runs(self, n: int, length: ir.Value) -> tuple[ir.Value, ir.Value]:
        """Where whole runs of a power of 2 end, and what is left after them."""
        rest = self.b.and_(i64(n), self.b.sub(length, i64(1)))
        return self.b.sub(i64(n), rest), rest

    def _groups(self, places: Sequence[Place], pairs: Pairs, first: ir.Value, stop: ir.Value) -> None:
        """Compare groups of elements, given by their places as functions of a counter from `first` to before `stop`."""
        with counted_loop(self.b, first, stop, i64(1)) as i:
            self._compare([place(i) for place in places], [p for p in pairs if max(p) < len(places)])

    def _each_block(self, n: int, pairs: Pairs) -> None:
        with counted_loop(self.b, i64(0), i64(n), i64(self.block)) as start:
            self._compare([self.b.add(start, i64(k)) for k in range(self.block)], pairs)

    def _compare(self, places: Sequence[ir.Value], pairs: Pairs) -> None:
        """The comparisons `pairs` of the elements at `places`, in registers."""
        elements = [self.load(place) for place in places]
        for i, j in pairs:
            elements[i], elements[j] = self.ordered(elements[i], elements[j])
        for place, element in zip(places, elements, strict=True):
            self.store(place, element)
