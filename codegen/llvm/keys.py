"""Integers that order as numbers do: what sort kernels compare."""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir

from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.vectors import I64, numbers, splat, stack
from tjit.dtypes import DType, bool_
from tjit.dtypes import i64 as int64

__all__ = ["Keys"]


class Keys:
    """The keys of one dtype, and elements made of a key and a place below it.

    -0 and 0 are one key where there is a place, which keeps their order; without, -0 comes first. Every nan is the
    greatest.

    Args:
        placed: elements have a place: 32 bits of it, and 64 beside a key of 64.
    """

    def __init__(self, dtype: DType, *, descending: bool, placed: bool) -> None:
        self.dtype = dtype
        self.descending = descending
        self.bits = dtype.itemsize * 8
        self.place_bits = 0 if not placed else 32 if self.bits <= 32 else 64
        self.key = ir.IntType(self.bits)
        self.element = ir.IntType(self.bits if not placed else 2 * self.place_bits)
        self.sign = 1 << (self.bits - 1)

    @property
    def part(self) -> ir.IntType:
        """Of an element that vectors hold: all of it, or its key and its place each where they are of 64 bits."""
        return self.element if self.element.width <= 64 else ir.IntType(64)

    @property
    def parts(self) -> int:
        return self.element.width // self.part.width

    def split(self, b: ir.IRBuilder, element: ir.Value) -> list[ir.Value]:
        """The key and the place of an element of two parts."""
        return [self.key_of(b, element), b.trunc(element, self.part)]

    def joined(self, b: ir.IRBuilder, parts: list[ir.Value]) -> ir.Value:
        """The element of its parts."""
        if len(parts) == 1:
            return parts[0]
        key, place = (b.zext(part, self.element) for part in parts)
        return b.or_(b.shl(key, self._number(key, self.place_bits)), place)

    @property
    def digits(self) -> int:
        """How many bytes of an element tell the order."""
        return self.bits // 8

    def _number(self, like: ir.Value, value: int) -> ir.Constant:
        kind = like.type
        if isinstance(kind, ir.VectorType):
            return ir.Constant(kind, [value] * kind.count)
        return ir.Constant(kind, value)

    def of(self, s: LlvmScalars, lane: Lane) -> ir.Value:
        """The keys of a lane's elements."""
        b = s.builder
        bits = s.to_memory(lane)
        if self.dtype.is_floating_point:
            bits = self._of_float(s, lane, bits)
        elif self.dtype.is_signed:
            bits = b.xor(bits, self._number(bits, self.sign))
        return b.not_(bits) if self.descending else bits

    def _of_float(self, s: LlvmScalars, lane: Lane, value: ir.Value) -> ir.Value:
        b = s.builder
        kind = ir.VectorType(self.key, s.width) if s.width > 1 else self.key
        bits = value if value.type == kind else b.bitcast(value, kind)
        sign = self._number(bits, self.sign)
        if self.place_bits:
            bits = b.select(b.icmp_unsigned("==", bits, sign), self._number(bits, 0), bits)
        mask = b.or_(b.ashr(bits, self._number(bits, self.bits - 1)), sign)
        return b.select(s.ne(lane, lane).value, self._number(bits, (1 << self.bits) - 1), b.xor(bits, mask))

    def elements(self, b: ir.IRBuilder, keys: ir.Value, start: ir.Value, width: int) -> ir.Value:
        """Keys with the places `start`, `start` + 1, ..."""
        if not self.place_bits:
            return keys
        kind = ir.VectorType(self.element, width) if width > 1 else self.element
        places = start if width == 1 else b.add(splat(b, start, width), numbers(range(width), I64))
        places = places if places.type == kind else b.zext(places, kind)
        wide = b.zext(keys, kind)
        return b.or_(b.shl(wide, self._number(wide, self.place_bits)), places)

    @property
    def signs_zero(self) -> bool:
        """Whether a key is that of a zero of either sign."""
        return self.dtype.is_floating_point and self.place_bits > 0

    def zeros(self, b: ir.IRBuilder, elements: ir.Value) -> ir.Value:
        """Which elements of a vector are zeros."""
        keys = self.key_of(b, elements)
        return b.icmp_unsigned("==", keys, self._number(keys, self.sign - 1 if self.descending else self.sign))

    def key_of(self, b: ir.IRBuilder, element: ir.Value) -> ir.Value:
        """The key of an element, or of each of a vector."""
        if not self.place_bits:
            return element
        return b.trunc(b.lshr(element, self._number(element, self.place_bits)), _of_shape(self.key, element))

    def place_of(self, b: ir.IRBuilder, element: ir.Value) -> Lane | None:
        """The place of an element, if it has one."""
        if not self.place_bits:
            return None
        place = b.trunc(element, _of_shape(ir.IntType(self.place_bits), element))
        return Lane(place if self.place_bits == 64 else b.zext(place, _of_shape(I64, element)), int64)

    def value_of(self, s: LlvmScalars, element: ir.Value, original: Callable[[], Lane]) -> Lane:
        """What an element's key was made of; one zero, whose sign the key does not tell, is looked up."""
        b = s.builder
        key = self.key_of(b, element)
        key = b.not_(key) if self.descending else key
        if self.dtype.is_floating_point:
            return self._float_of(s, key, original)
        if self.dtype.is_signed:
            key = b.xor(key, self._number(key, self.sign))
        return s.from_memory(key, bool_ if self.dtype is bool_ else self.dtype)

    def _float_of(self, s: LlvmScalars, key: ir.Value, original: Callable[[], Lane]) -> Lane:
        b = s.builder
        sign = self._number(key, self.sign)
        positive = b.icmp_unsigned(">=", key, sign)
        bits = b.xor(key, b.select(positive, sign, self._number(key, (1 << self.bits) - 1)))
        kind = s.memory_type(self.dtype)
        lane = s.from_memory(bits if bits.type == kind else b.bitcast(bits, kind), self.dtype)
        if not self.place_bits or s.width > 1:
            return lane
        slot = stack(b, lane.value.type, block=b.function.entry_basic_block)
        b.store(lane.value, slot)
        with b.if_then(b.icmp_unsigned("==", bits, self._number(bits, 0)), likely=False):
            b.store(original().value, slot)
        return Lane(b.load(slot, typ=lane.value.type), self.dtype)


def _of_shape(kind: ir.IntType, like: ir.Value) -> ir.Type:
    """`kind`, or a vector of as many of it as `like` is."""
    return ir.VectorType(kind, like.type.count) if isinstance(like.type, ir.VectorType) else kind
