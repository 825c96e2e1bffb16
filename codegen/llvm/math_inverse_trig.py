"""Inverse circular functions."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import ASIN, ATAN, HALF_PI, QUARTER_PI
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.outlined import mended
from tjit.codegen.llvm.register_tables import ATAN_ANGLE, ATAN_COSINE, ATAN_SINE, ATAN_TAIL

__all__ = ["acos", "asin", "atan", "atan2"]

_TAN_EIGHTH = 0.41421356237309503


def _half_angle(f: Floats, x: ir.Value) -> tuple[ir.Value, Pair]:
    """Whether |x| > 1/2, and a sum: asin(|x|), but where it is acos(|x|) = 2 asin(sqrt((1 - |x|) / 2))."""
    a = f.abs(x)
    outer = f.gt(a, 0.5)
    z = f.select(outer, f.fma(a, -0.5, 0.5), f.mul(a, a))
    twice_root, low = _twice_root(f, z, f.sub(1.0, a))
    s = f.select(outer, twice_root, a)
    sz, p = f.mul(s, z), f.polynomial(z, ASIN[f.name])
    return outer, (s, f.fma(sz, p, f.select(outer, low, 0.0)) if f.precise else f.mul(sz, p))


def _twice_root(f: Floats, z: ir.Value, twice_z: ir.Value) -> Pair:
    """2 sqrt(z) and its rounding error, for z that is 0 or normal."""
    if f.precise and f.features.avx512:
        half = f.clamp_above(avx512.root_estimate(f, f.add(twice_z, twice_z)), 2.0**60)
        root = f.mul(twice_z, half)
        root = f.fma(f.sub_product(z, root, root), half, root)
        twice_root = f.add(root, root)
        return twice_root, f.mul(f.sub_product(twice_z, twice_root, root), half)
    root = f.sqrt(z)
    low = f.div(f.sub_product(z, root, root), root)
    return f.add(root, root), f.select(f.gt(root, 0.0), low, 0.0)


def asin(f: Floats, x: ir.Value) -> ir.Value:
    outer, (s, tail) = _half_angle(f, x)
    high, low, _ = HALF_PI[f.name]
    h, e = f.fast_two_sum(f.const(high), f.neg(s))
    folded = f.add(h, f.add(e, f.sub(low, tail)))
    return f.copysign(f.select(outer, folded, f.add(s, tail)), x)


def acos(f: Floats, x: ir.Value) -> ir.Value:
    """pi/2 - asin(x) inside; acos(|x|) for x > 1/2; pi - acos(|x|) for x < -1/2."""
    outer, (s, tail) = _half_angle(f, x)
    high, low, _ = HALF_PI[f.name]
    sign = f.sign_of(x)
    # the sign of s in the sum: minus inside for x > 0, and outside for x < 0
    flip = f.builder.select(outer, sign, f.builder.xor(sign, f.iconst(f.sign_bit)))
    # pi/2, or pi/2 minus or plus as much
    base, base_low = (f.sub(v, f.select(outer, f.flip(f.const(v), sign), 0.0)) for v in (high, low))
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


def _rotated(f: Floats, y: ir.Value, x: ir.Value, ratio: ir.Value, flip: ir.Value | None = None) -> Pair:
    """atan(y / x) = angle + rest for y, x >= 0 and `ratio` near y / x; both of the other sign where `flip` says so."""
    ratio = f.clamp_above(f.clamp_below(ratio, 2.0**-4), 15.5)
    i = f.builder.lshr(f.to_bits(ratio), f.iconst(f.mantissa - 2))
    c, s, angle = (avx512.lookup(f, i, table[f.name]) for table in (ATAN_COSINE, ATAN_SINE, ATAN_ANGLE))
    numerator, denominator = f.fnma(s, x, f.mul(c, y)), f.fma(s, y, f.mul(c, x))
    if flip is not None:
        numerator, angle = f.flip(numerator, flip), f.flip(angle, flip)
    reciprocal = f.near_reciprocal(denominator)
    near = f.mul(numerator, reciprocal)
    rest = f.fnma(near, denominator, numerator)
    d = f.fma(rest, reciprocal, near)
    z = f.mul(d, d)
    bend, p = f.mul(d, z), f.polynomial(z, ATAN_TAIL[f.name])
    if flip is None or not f.precise:  # if x is 1, then d is y next to 0, where its rounding would count
        return angle, f.fma(bend, p, d)
    return angle, f.add(d, f.fma(bend, p, f.fma(rest, reciprocal, f.sub(near, d))))


def atan(f: Floats, x: ir.Value) -> ir.Value:
    if f.features.avx512:
        a = f.clamp_above(f.abs(x), 2.0**64)
        return f.copysign(f.add(*_rotated(f, a, f.const(1.0), a)), x)
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
    return (_atan2_by_rotation if f.features.avx512 else _atan2_by_eighths)(f, y, x)


def _endless(f: Floats, ay: ir.Value, ax: ir.Value) -> Pair:
    """Two finite numbers that have the direction of any two; nan if one is."""
    b = f.builder
    endless = b.or_(f.eq(ay, float("inf")), f.eq(ax, float("inf")))
    # only which of the two are infinite matters; and 0/0 is 0/1
    y, x = (f.select(endless, f.select(f.eq(v, float("inf")), 1.0, 0.0), v) for v in (ay, ax))
    x = f.select(b.and_(f.eq(y, 0.0), f.eq(x, 0.0)), 1.0, x)
    return f.select(b.fcmp_unordered("uno", ax, ay), float("nan"), y), x


def _atan2_by_rotation(f: Floats, y: ir.Value, x: ir.Value) -> ir.Value:
    b = f.builder
    ay, ax = f.abs(y), f.abs(x)
    # where 0 < ay < tiny or the sum is no ordinary number, some product may be denormal or infinite
    tiny = 2.0 ** (f.mantissa + 4 - f.bias)
    special = b.or_(
        _is_outside(f, f.add(ay, ax), 2.0 ** -(f.bias // 2), 2.0 ** (f.bias - 27)),
        b.not_(_is_outside(f, ay, 2.0 ** (1 - f.bias - f.mantissa), tiny)),
    )
    ay, ax = mended(f, special, (ay, ax), lambda: _normalised(f, *_endless(f, ay, ax)))
    left = f.sign_of(x)
    angle, rest = _rotated(f, ay, ax, f.mul(ay, avx512.estimate(f, ax)), left)
    high, low, _ = HALF_PI[f.name]
    negative = b.icmp_unsigned("!=", left, f.iconst(0))
    half_turn, lost = f.fast_two_sum(f.select(negative, 2 * high, 0.0), angle)
    rest = f.add(f.add(lost, f.select(negative, 2 * low, 0.0)), rest)
    return f.copysign(f.add(half_turn, rest), y)


def _is_outside(f: Floats, x: ir.Value, low: float, high: float) -> ir.Value:
    """Whether x, positive or nan, is not in [low, high)."""
    least, most = f.bits_of(low), f.bits_of(high)
    above = f.builder.sub(f.to_bits(x), f.iconst(least))
    return f.builder.icmp_unsigned(">=", above, f.iconst(most - least))


def _atan2_by_eighths(f: Floats, y: ir.Value, x: ir.Value) -> ir.Value:
    b = f.builder
    m, rest = _arc(f, *_normalised(f, *_endless(f, f.abs(y), f.abs(x))))
    left = f.sign_of(x)
    m = f.select(b.icmp_unsigned("!=", left, f.iconst(0)), f.sub(4.0, m), m)
    return f.copysign(_plus_eighths(f, m, (f.flip(rest[0], left), f.flip(rest[1], left))), y)
