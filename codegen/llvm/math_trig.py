"""Circular functions: reduction by pi/2, polynomials on [-pi/4, pi/4]; f32 tangents by pi/32 and one of 32 angles."""

from __future__ import annotations

import math

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import COS, HALF_PI, HALF_PI_SHORT, SIN, TAN
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.outlined import mended, reduce_huge
from tjit.codegen.llvm.register_tables import TAN_COSINE, TAN_EXCESS, TAN_SINE, TAN_STEP, TAN_TAIL
from tjit.dataclass import dataclass

__all__ = ["cos", "sin", "tan"]


@dataclass(frozen=True, slots=True)
class Angle:
    """quadrant * pi/2 + high - low; the quadrant's lower two bits count. Of -0: high is -0 and low is 0."""

    quadrant: ir.Value
    high: ir.Value
    low: ir.Value


def _reduce_with_fma(f: Floats, n: ir.Value, x: ir.Value) -> Pair:
    first, second, third = HALF_PI[f.name]
    p, p_low = f.two_product(n, second)
    high, low = f.two_difference(f.fma(n, -first, x), p)
    return high, f.add(low, f.fma(n, third, p_low))


def _reduce_without_fma(f: Floats, n: ir.Value, x: ir.Value) -> Pair:
    first, second, third, fourth = HALF_PI_SHORT[f.name]
    high, low = f.two_difference(f.sub(x, f.mul(n, first)), f.mul(n, second))
    high, lower = f.two_difference(high, f.mul(n, third))
    low = f.add(low, f.fma(n, fourth, lower))
    total = f.sub(high, low)
    return total, f.sub(low, f.sub(high, total))


def _reduce(f: Floats, x: ir.Value) -> Angle:
    t = f.fma(x, 0.6366197723675814, f.magic)
    n = f.sub(t, f.magic)
    high, low = (_reduce_with_fma if f.features.fma else _reduce_without_fma)(f, n, x)
    limit = 2.0**16 if f.bits == 32 else (2.0**30 if f.features.fma else 2.0**20)
    return Angle(*reduce_huge(f, f.gt(f.abs(x), limit), x, (f.to_bits(t), high, low)))


def _cos(f: Floats, angle: Angle, z: ir.Value) -> ir.Value:
    """cos(high - low)."""
    high, low = f.fast_two_sum(f.const(1.0), f.mul(z, -0.5))
    low = f.fma(angle.high, angle.low, low)
    return f.add(high, f.fma(f.mul(z, z), f.polynomial(z, COS[f.name]), low))


def _sin(f: Floats, angle: Angle, z: ir.Value) -> ir.Value:
    """sin(high - low)."""
    cubic = [-c for c in SIN[f.name]]
    return f.sub(angle.high, f.fma(f.mul(angle.high, z), f.polynomial(z, cubic), angle.low))


def _odd(f: Floats, quadrant: ir.Value) -> ir.Value:
    return f.builder.icmp_unsigned("!=", f.builder.and_(quadrant, f.iconst(1)), f.iconst(0))


def _wave(f: Floats, angle: Angle, quadrant: ir.Value) -> ir.Value:
    """sin(quadrant * pi/2 + high - low)."""
    b, z = f.builder, f.mul(angle.high, angle.high)
    sign = b.and_(b.shl(quadrant, f.iconst(f.bits - 2)), f.iconst(f.sign_bit))
    return f.flip(f.select(_odd(f, quadrant), _cos(f, angle, z), _sin(f, angle, z)), sign)


def sin(f: Floats, x: ir.Value) -> ir.Value:
    angle = _reduce(f, x)
    return _wave(f, angle, angle.quadrant)


def cos(f: Floats, x: ir.Value) -> ir.Value:
    angle = _reduce(f, x)
    return _wave(f, angle, f.builder.add(angle.quadrant, f.iconst(1)))


def tan(f: Floats, x: ir.Value) -> ir.Value:
    """tan(high - low), or -1 / that in odd quadrants; in f32 by rotation where tables are in registers."""
    if f.features.avx512 and f.bits == 32:
        return _tan_by_rotation(f, x)
    angle = _reduce(f, x)
    high, (first, *others) = angle.high, TAN[f.name]
    z, z_low = f.two_product(high, high)
    # tan(r) = r + r (z/3 + z**2 p(z)), z = r**2
    smaller = f.mul(f.mul(z, z), f.polynomial(z, others))
    ratio = f.fma(z, first, smaller)
    near = f.fma(high, ratio, high)
    low = f.mul(angle.low, f.fma(near, near, 1.0))  # the slope is 1 + tan**2
    if f.precise:
        lost = f.fma(z_low, first, f.add(f.fma(z, first, f.neg(ratio)), smaller))
        low = f.fnma(high, lost, low)
    tail = f.fma(high, ratio, f.neg(low))
    t, t_low = f.fast_two_sum(high, tail)
    cotangent = f.quotient((f.const(-1.0), f.const(0.0)), (t, t_low))
    return f.select(_odd(f, angle.quadrant), cotangent, t)


def _to_32nds(f: Floats, x: ir.Value) -> Angle:
    """x by pi/32, for |x| < 3200."""
    first, second, *others = TAN_STEP
    t = f.fma(x, 32 / math.pi, f.magic)
    n = f.sub(t, f.magic)
    near = f.fma(n, -first, x)  # exact
    high = f.fma(n, -second, near)
    low = f.fma(n, second, f.sub(high, near))
    for step in others:
        low = f.fma(n, step, low)
    return Angle(f.to_bits(t), high, low)


def _far_to_32nds(f: Floats, x: ir.Value, far: ir.Value, near: Angle) -> list[ir.Value]:
    """`near`, but where x is `far` its reduction by pi/2, and then by pi/32."""
    b = f.builder
    quadrant, high, low = reduce_huge(f, far, x, (near.quadrant, near.high, near.low))
    rest = _to_32nds(f, high)
    i = b.add(b.shl(quadrant, f.iconst(4)), rest.quadrant)
    there, here = (i, rest.high, f.add(low, rest.low)), (near.quadrant, near.high, near.low)
    return [b.select(far, v, w) for v, w in zip(there, here, strict=True)]


def _tan_by_rotation(f: Floats, x: ir.Value) -> ir.Value:
    near = _to_32nds(f, x)
    far = f.builder.not_(f.lt(f.abs(x), 3200.0))
    i, d, low = mended(f, far, (near.quadrant, near.high, near.low), lambda: _far_to_32nds(f, x, far, near))
    c, s, excess = (avx512.lookup(f, i, table) for table in (TAN_COSINE, TAN_SINE, TAN_EXCESS))
    z = f.mul(d, d)
    tail = f.fnma(f.mul(d, z), f.polynomial(z, TAN_TAIL), f.add(low, excess))
    t = f.sub(d, tail)
    t_low = f.sub(f.sub(d, t), tail)
    numerator, denominator = f.fma(c, t, s), f.fnma(s, t, c)
    # the first summand is the larger, or 0
    numerator_low = f.fma(c, t_low, f.fma(c, t, f.sub(s, numerator)))
    denominator_low = f.fnma(s, t_low, f.fnma(s, t, f.sub(c, denominator)))
    return f.quotient((numerator, numerator_low), (denominator, denominator_low))
