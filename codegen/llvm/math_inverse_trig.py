"""Inverse circular functions."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.coefficients import ASIN, ATAN, HALF_PI, QUARTER_PI
from tjit.codegen.llvm.floats import Floats, Pair

__all__ = ["acos", "asin", "atan", "atan2"]

_TAN_EIGHTH = 0.41421356237309503


def _half_angle(f: Floats, x: ir.Value) -> tuple[ir.Value, Pair]:
    """Whether |x| > 1/2, and asin(s) as a sum with s = |x|, or s = sqrt((1 - |x|) / 2) where it is."""
    a = f.abs(x)
    outer = f.gt(a, 0.5)
    z = f.select(outer, f.fma(a, -0.5, 0.5), f.mul(a, a))
    root = f.sqrt(z)
    s = f.select(outer, root, a)
    tail = f.mul(f.mul(s, z), f.polynomial(z, ASIN[f.name]))
    if f.precise:
        root_low = f.div(f.fnma(root, root, z), f.add(root, root))
        tail = f.add(tail, f.select(f.builder.and_(outer, f.gt(root, 0.0)), root_low, 0.0))
    return outer, (s, tail)


def asin(f: Floats, x: ir.Value) -> ir.Value:
    outer, (s, tail) = _half_angle(f, x)
    high, low, _ = HALF_PI[f.name]
    h, e = f.fast_two_sum(f.const(high), f.mul(s, -2.0))
    folded = f.add(h, f.add(e, f.fma(tail, -2.0, low)))
    return f.copysign(f.select(outer, folded, f.add(s, tail)), x)


def acos(f: Floats, x: ir.Value) -> ir.Value:
    """pi/2 - asin(x) inside; 2 asin(s) for x > 1/2; pi - 2 asin(s) for x < -1/2."""
    outer, (s, tail) = _half_angle(f, x)
    high, low, _ = HALF_PI[f.name]
    sign = f.sign_of(x)
    negative = f.lt(x, 0.0)
    double = f.select(outer, 2.0, 1.0)
    s, tail = f.mul(s, double), f.mul(tail, double)
    # the sign of s in the sum: minus inside for x > 0, and outside for x < 0
    flip = f.builder.select(outer, sign, f.builder.xor(sign, f.iconst(f.sign_bit)))
    flip = f.builder.xor(flip, f.iconst(0))
    base = f.select(outer, f.select(negative, 2 * high, 0.0), high)
    base_low = f.select(outer, f.select(negative, 2 * low, 0.0), low)
    h, e = f.fast_two_sum(base, f.flip(s, flip))
    return f.add(h, f.add(e, f.add(base_low, f.flip(tail, flip))))


def _arc(f: Floats, y: ir.Value, x: ir.Value) -> tuple[ir.Value, Pair]:
    """atan(y / x) for y, x >= 0 as eighths of a turn, a float m, and a rest: m pi/4 + rest."""
    b = f.builder
    middle = b.and_(f.gt(y, f.mul(x, _TAN_EIGHTH)), f.gt(x, f.mul(y, _TAN_EIGHTH)))
    steep = f.gt(y, x)
    # y / x, or (y - x) / (y + x), or -x / y
    large, small = f.select(steep, y, x), f.select(steep, x, y)
    difference, difference_low = f.fast_two_sum(f.neg(large), small)
    total, total_low = f.fast_two_sum(large, small)
    numerator = f.select(middle, difference, small), f.select(middle, difference_low, 0.0)
    denominator = f.select(middle, total, large), f.select(middle, total_low, 0.0)
    reciprocal = f.div(1.0, denominator[0])
    q = f.mul(numerator[0], reciprocal)
    rest = f.sub_product(numerator[0], q, denominator[0])
    rest = f.fnma(q, denominator[1], f.add(rest, numerator[1]))
    z = f.mul(q, q)
    tail = f.fma(f.mul(q, z), f.polynomial(z, ATAN[f.name]), f.mul(rest, reciprocal))
    # all for y <= x; the other half is pi/2 minus that
    sign = b.select(steep, f.iconst(f.sign_bit), f.iconst(0))
    m = f.select(middle, 1.0, f.select(steep, 2.0, 0.0))
    return m, (f.flip(q, sign), f.flip(tail, sign))


def _plus_eighths(f: Floats, m: ir.Value, rest: Pair) -> ir.Value:
    high, low = QUARTER_PI[f.name]
    h, e = f.fast_two_sum(f.mul(m, high), rest[0])
    return f.add(h, f.add(e, f.fma(m, low, rest[1])))


def atan(f: Floats, x: ir.Value) -> ir.Value:
    # 1/x would be denormal, and without a good error term, beyond 2**64
    a = f.clamp_above(f.abs(x), 2.0**64)
    return f.copysign(_plus_eighths(f, *_arc(f, a, f.const(1.0))), x)


def _normalised(f: Floats, x: ir.Value, y: ir.Value) -> Pair:
    """x and y times the power of two that brings the larger near 2**60; both finite, not both 0."""
    b = f.builder
    largest = f.select(f.gt(x, y), x, y)
    exponent = b.and_(f.to_bits(largest), f.iconst((1 << (f.bits - 1)) - (1 << f.mantissa)))
    wanted = b.sub(f.iconst((2 * f.bias + 60) << f.mantissa), exponent)
    most = f.iconst((2 * f.bias) << f.mantissa)
    s = f.from_bits(b.select(b.icmp_unsigned("<", wanted, most), wanted, most))
    return f.mul(x, s), f.mul(y, s)


def atan2(f: Floats, y: ir.Value, x: ir.Value) -> ir.Value:
    b = f.builder
    ay, ax = f.abs(y), f.abs(x)
    endless = b.or_(f.eq(ay, float("inf")), f.eq(ax, float("inf")))
    # only which of the two are infinite matters; and 0/0 is 0/1
    ay, ax = (f.select(endless, f.select(f.eq(v, float("inf")), 1.0, 0.0), v) for v in (ay, ax))
    ax = f.select(b.and_(f.eq(ay, 0.0), f.eq(ax, 0.0)), 1.0, ax)
    m, rest = _arc(f, *_normalised(f, ay, ax))
    left = f.sign_of(x)
    m = f.select(b.icmp_unsigned("!=", left, f.iconst(0)), f.sub(4.0, m), m)
    result = f.copysign(_plus_eighths(f, m, (f.flip(rest[0], left), f.flip(rest[1], left))), y)
    return f.select(b.fcmp_unordered("uno", x, y), float("nan"), result)
