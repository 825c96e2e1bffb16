"""Inverse circular functions."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.coefficients import ASIN, ATAN, HALF_PI
from tjit.codegen.llvm.floats import Floats, Pair

__all__ = ["acos", "asin", "atan", "atan2"]


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


def _ratio(f: Floats, x: ir.Value, y: ir.Value) -> Pair:
    """x / y with its rounding error, for normal y."""
    if not f.precise:
        return f.div(x, y), f.const(0.0)
    reciprocal = f.div(1.0, y)
    q = f.mul(x, reciprocal)
    return q, f.mul(f.fnma(q, y, x), reciprocal)


def _tail(f: Floats, q: Pair) -> ir.Value:
    """atan(q) - q[0]."""
    z = f.mul(q[0], q[0])
    return f.fma(f.mul(q[0], z), f.polynomial(z, ATAN[f.name]), q[1])


def atan(f: Floats, x: ir.Value) -> ir.Value:
    a = f.abs(x)
    outer = f.gt(a, 1.0)
    # 1/x would be denormal, and without a good error term, beyond 2**64
    q = _ratio(f, f.select(outer, 1.0, a), f.select(outer, f.clamp_above(a, 2.0**64), 1.0))
    tail = _tail(f, q)
    high, low, _ = HALF_PI[f.name]
    h, e = f.fast_two_sum(f.const(high), f.neg(q[0]))
    folded = f.add(h, f.add(e, f.sub(low, tail)))
    return f.copysign(f.select(outer, folded, f.add(q[0], tail)), x)


def _normalised(f: Floats, x: ir.Value, y: ir.Value) -> Pair:
    """x and y times the power of two that brings y near 2**60; x <= y, y finite and not 0."""
    b = f.builder
    exponent = b.and_(f.to_bits(y), f.iconst(((1 << f.bits) - (1 << f.mantissa)) & ~f.sign_bit))
    wanted = b.sub(f.iconst((2 * f.bias + 60) << f.mantissa), exponent)
    most = f.iconst((2 * f.bias) << f.mantissa)
    s = f.from_bits(b.select(b.icmp_unsigned("<", wanted, most), wanted, most))
    return f.mul(x, s), f.mul(y, s)


def atan2(f: Floats, y: ir.Value, x: ir.Value) -> ir.Value:
    b = f.builder
    ay, ax = f.abs(y), f.abs(x)
    steep = f.gt(ay, ax)
    small, large = f.select(steep, ax, ay), f.select(steep, ay, ax)
    degenerate = b.or_(f.eq(large, 0.0), f.eq(large, float("inf")))
    both = f.eq(small, float("inf"))
    small = f.select(degenerate, f.select(both, 1.0, 0.0), small)
    q = _ratio(f, *_normalised(f, small, f.select(degenerate, 1.0, large)))
    tail = _tail(f, q)
    left = b.icmp_signed("<", f.to_bits(x), f.iconst(0))
    # atan, pi/2 - atan, pi/2 + atan or pi - atan
    sign = b.select(b.xor(left, steep), f.iconst(f.sign_bit), f.iconst(0))
    high, low, _ = HALF_PI[f.name]
    base = f.select(steep, high, f.select(left, 2 * high, 0.0))
    base_low = f.select(steep, low, f.select(left, 2 * low, 0.0))
    h, e = f.fast_two_sum(base, f.flip(q[0], sign))
    result = f.copysign(f.add(h, f.add(e, f.add(base_low, f.flip(tail, sign)))), y)
    return f.select(b.fcmp_unordered("uno", x, y), float("nan"), result)
