"""Half-width floats as integers, for targets without instructions for them."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.floats import Floats, vector

__all__ = ["bf16_bits", "bf16_value", "f16_bits", "f16_value"]


def bf16_bits(f: Floats, x: ir.Value) -> ir.Value:
    """The bits of an f32 whose upper half is x rounded to bf16, ties to even, nan quiet."""
    b = f.builder
    return b.select(f.is_nan(x), b.or_(f.to_bits(x), f.iconst(0x400000)), _to_even(f, x))


def bf16_value(f: Floats, x: ir.Value) -> ir.Value:
    """x, computed of numbers of bf16, rounded to bf16, ties to even."""
    # a nan is one of those numbers or the processor's own: nothing below its upper half, so nothing is carried
    return f.from_bits(f.builder.and_(_to_even(f, x), f.iconst(0xFFFF0000)))


def _to_even(f: Floats, x: ir.Value) -> ir.Value:
    b, bits = f.builder, f.to_bits(x)
    # what is cut off goes up if it is more than half: the last bit that stays makes a half more than that
    odd = b.and_(b.lshr(bits, f.iconst(16)), f.iconst(1))
    return b.add(b.or_(bits, odd), f.iconst(0x7FFF))


def f16_bits(f: Floats, x: ir.Value) -> ir.Value:
    """An f32 as the bits of an f16: rounded to even, nan quiet."""
    b = f.builder
    a = f.abs(x)
    bits = f.to_bits(a)
    odd = b.and_(b.lshr(bits, f.iconst(13)), f.iconst(1))
    normal = b.lshr(b.add(bits, b.add(odd, f.iconst(0xFFF - (112 << 23) & 0xFFFFFFFF))), f.iconst(13))
    # adding 1/2 leaves the multiple of 2**-24, f16's least, in the low bits
    denormal = b.sub(f.to_bits(f.add(a, 0.5)), f.to_bits(f.const(0.5)))
    result = b.select(f.lt(a, 2.0**-14), denormal, normal)
    result = b.select(f.builder.fcmp_unordered(">=", a, f.const(65520.0)), f.iconst(0x7C00), result)
    result = b.select(f.is_nan(x), f.iconst(0x7E00), result)
    sign = b.lshr(f.sign_of(x), f.iconst(16))
    return b.trunc(b.or_(result, sign), vector(ir.IntType(16), f.width))


def f16_value(f: Floats, bits: ir.Value) -> ir.Value:
    """The f32 of the bits of an f16."""
    b = f.builder
    wide = b.zext(bits, f.int_type)
    magnitude = b.and_(wide, f.iconst(0x7FFF))
    moved = b.shl(magnitude, f.iconst(13))
    finite = f.mul(f.from_bits(moved), 2.0**112)  # moves the exponent, and makes denormals normal
    special = f.from_bits(b.or_(moved, f.iconst(0x7F800000)))
    value = b.select(b.icmp_unsigned("<", magnitude, f.iconst(0x7C00)), finite, special)
    return f.flip(value, b.shl(b.and_(wide, f.iconst(0x8000)), f.iconst(16)))
