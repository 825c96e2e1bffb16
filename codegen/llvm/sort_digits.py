"""Functions that sort distinct unsigned integers in memory: digit by digit, and by insertion."""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.keys import Keys
from tjit.codegen.llvm.vectors import I32, I64, PTR, counted_loop, i64, stack, while_loop

__all__ = ["COUNTS_BYTES", "emit_digit_sort", "emit_insertion_sort"]

_VALUES = 256  # of a digit, which is a byte
COUNTS_BYTES = 8 * _VALUES * 4  # of eight digits at most


def emit_digit_sort(module: ir.Module, name: str, keys: Keys) -> ir.Function:
    """(one, other, counts, n): sort the n elements at `one` by their keys' digits, the last digit first.

    Elements go back and forth between the two buffers; the result is the one where they are in the end. Elements of
    equal keys keep their order, and a digit that is the same everywhere takes no time.
    """
    function = ir.Function(module, ir.FunctionType(PTR, [PTR, PTR, PTR, I64]), name)
    function.linkage = "internal"
    _DigitSort(function, keys).emit()
    return function


class _DigitSort:
    def __init__(self, function: ir.Function, keys: Keys) -> None:
        self.one, self.other, self.counts, self.n = function.args
        self.keys, self.element = keys, keys.element
        self.b = Builder(function.append_basic_block("entry"))
        self.total = stack(self.b, I32)

    def emit(self) -> None:
        b = self.b
        source, target = stack(b, PTR), stack(b, PTR)
        b.store(self.one, source)
        b.store(self.other, target)
        self._count()
        for digit in range(self.keys.digits):
            first = self._digit(self._load(self.one, i64(0)), digit)
            same = b.icmp_signed("==", self._counted(digit, first), b.trunc(self.n, I32))
            with b.if_then(b.not_(same)):
                here, there = b.load(source, typ=PTR), b.load(target, typ=PTR)
                self._place(digit)
                self._move(digit, here, there)
                b.store(there, source)
                b.store(here, target)
        b.ret(b.load(source, typ=PTR))

    def _load(self, base: ir.Value, i: ir.Value) -> ir.Value:
        return self.b.load(self.b.gep(base, [i], source_etype=self.element), typ=self.element)

    def _digit(self, element: ir.Value, digit: int) -> ir.Value:
        """A digit of an element's key, the last being 0."""
        b = self.b
        shifted = b.lshr(element, ir.Constant(self.element, self.keys.place_bits + 8 * digit))
        byte = shifted if self.element.width == 8 else b.trunc(shifted, ir.IntType(8))
        return b.zext(byte, I64)

    def _slot(self, digit: int, value: ir.Value) -> ir.Value:
        return self.b.gep(self.counts, [self.b.add(i64(digit * _VALUES), value)], source_etype=I32)

    def _counted(self, digit: int, value: ir.Value) -> ir.Value:
        return self.b.load(self._slot(digit, value), typ=I32)

    def _count(self) -> None:
        """How many elements have each value of each digit."""
        b, lanes = self.b, ir.VectorType(I32, 16)
        with counted_loop(b, i64(0), i64(self.keys.digits * _VALUES), i64(16)) as i:
            b.store(ir.Constant(lanes, None), b.gep(self.counts, [i], source_etype=I32), align=4)
        with counted_loop(b, i64(0), self.n, i64(1)) as i:
            element = self._load(self.one, i)
            for digit in range(self.keys.digits):
                slot = self._slot(digit, self._digit(element, digit))
                b.store(b.add(b.load(slot, typ=I32), ir.Constant(I32, 1)), slot)

    def _place(self, digit: int) -> None:
        """From how many there are of each value to where the first of them goes."""
        b = self.b
        b.store(ir.Constant(I32, 0), self.total)
        with counted_loop(b, i64(0), i64(_VALUES), i64(1)) as value:
            slot = self._slot(digit, value)
            before, count = b.load(self.total, typ=I32), b.load(slot, typ=I32)
            b.store(before, slot)
            b.store(b.add(before, count), self.total)

    def _move(self, digit: int, here: ir.Value, there: ir.Value) -> None:
        b = self.b
        with counted_loop(b, i64(0), self.n, i64(1)) as i:
            element = self._load(here, i)
            slot = self._slot(digit, self._digit(element, digit))
            at = b.load(slot, typ=I32)
            b.store(b.add(at, ir.Constant(I32, 1)), slot)
            b.store(element, b.gep(there, [b.zext(at, I64)], source_etype=self.element))


def emit_insertion_sort(module: ir.Module, name: str, element: ir.IntType) -> ir.Function:
    """(elements, n): sort in place, each by moving up what is larger before it."""
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64]), name)
    function.linkage = "internal"
    base, n = function.args
    b = Builder(function.append_basic_block("entry"))
    place = stack(b, I64)

    def at(i: ir.Value) -> ir.Value:
        return b.gep(base, [i], source_etype=element)

    with counted_loop(b, i64(1), n, i64(1)) as i:
        new = b.load(at(i), typ=element)
        b.store(i, place)

        def larger() -> ir.Value:
            j = b.load(place, typ=I64)
            inside = b.icmp_signed(">", j, i64(0))
            before = b.load(at(b.select(inside, b.sub(j, i64(1)), i64(0))), typ=element)
            return b.and_(inside, b.icmp_unsigned(">", before, new))

        with while_loop(b, larger):
            j = b.load(place, typ=I64)
            before = b.sub(j, i64(1))
            b.store(b.load(at(before), typ=element), at(j))
            b.store(before, place)
        b.store(new, at(b.load(place, typ=I64)))
    b.ret_void()
    return function
