"""Circular functions: reduction by pi/2, polynomials on [-pi/4, pi/4]."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llvmlite import ir

from tjit.codegen.llvm.coefficients import COS, HALF_PI, HALF_PI_SHORT, SIN, SIN_LONG
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.outlined import reduce_huge

__all__ = ["cos", "sin", "tan"]


@dataclass(frozen=True, slots=True)
class Angle:
    """quadrant * pi/2 + high + low; the quadrant's lower two bits count."""

    quadrant: ir.Value
    high: ir.Value
    low: ir.Value


def _reduce_with_fma(f: Floats, n: ir.Value, a: ir.Value) -> Pair:
    first, second, third = HALF_PI[f.name]
    p, p_low = f.two_product(n, -second)
    high, low = f.two_sum(f.fma(n, -first, a), p)
    return high, f.add(low, f.fma(n, -third, p_low))


def _reduce_without_fma(f: Floats, n: ir.Value, a: ir.Value) -> Pair:
    first, second, third, fourth = HALF_PI_SHORT[f.name]
    high, low = f.two_sum(f.sub(a, f.mul(n, first)), f.mul(n, -second))
    high, lower = f.two_sum(high, f.mul(n, -third))
    return f.fast_two_sum(high, f.add(low, f.fma(n, -fourth, lower)))


def _reduce(f: Floats, a: ir.Value) -> Angle:
    """For a >= 0."""
    t = f.fma(a, 0.6366197723675814, f.magic)
    n = f.sub(t, f.magic)
    high, low = (_reduce_with_fma if f.features.fma else _reduce_without_fma)(f, n, a)
    limit = 2.0**16 if f.bits == 32 else (2.0**30 if f.features.fma else 2.0**20)
    return Angle(*reduce_huge(f, f.gt(a, limit), a, (f.to_bits(t), high, low)))


def _sin_tail(f: Floats, high: ir.Value, low: ir.Value, z: ir.Value, coefficients: Sequence[float]) -> ir.Value:
    """sin(high) - high + low."""
    return f.fma(f.mul(high, z), f.polynomial(z, coefficients), low)


def _cos(f: Floats, angle: Angle, z: ir.Value) -> Pair:
    """cos(high + low)."""
    high, low = f.fast_two_sum(f.const(1.0), f.mul(z, -0.5))
    return high, f.fma(f.mul(z, z), f.polynomial(z, COS[f.name]), f.fnma(angle.high, angle.low, low))


def _odd(f: Floats, quadrant: ir.Value) -> ir.Value:
    return f.builder.icmp_unsigned("!=", f.builder.and_(quadrant, f.iconst(1)), f.iconst(0))


def _wave(f: Floats, angle: Angle, quadrant: ir.Value) -> ir.Value:
    """sin(quadrant * pi/2 + high + low)."""
    b, z = f.builder, f.mul(angle.high, angle.high)
    sin = f.add(angle.high, _sin_tail(f, angle.high, angle.low, z, SIN[f.name]))
    cos = f.add(*_cos(f, angle, z))
    sign = b.and_(b.shl(quadrant, f.iconst(f.bits - 2)), f.iconst(f.sign_bit))
    return f.flip(f.select(_odd(f, quadrant), cos, sin), sign)


def sin(f: Floats, x: ir.Value) -> ir.Value:
    angle = _reduce(f, f.abs(x))
    return f.flip(_wave(f, angle, angle.quadrant), f.sign_of(x))


def cos(f: Floats, x: ir.Value) -> ir.Value:
    angle = _reduce(f, f.abs(x))
    return _wave(f, angle, f.builder.add(angle.quadrant, f.iconst(1)))


def tan(f: Floats, x: ir.Value) -> ir.Value:
    angle = _reduce(f, f.abs(x))
    z, z_low = f.two_product(angle.high, angle.high)
    cos, cos_low = _cos(f, angle, z)
    cos, cos_low = f.fast_two_sum(cos, f.fma(z_low, -0.5, cos_low))
    # sin and cos of the same angle: the slope of sin tells in the last bit
    tail = _sin_tail(f, angle.high, f.mul(angle.low, cos), z, SIN_LONG[f.name])
    sin, sin_low = f.fast_two_sum(angle.high, tail)
    odd = _odd(f, angle.quadrant)
    numerator = f.select(odd, cos, sin), f.select(odd, cos_low, sin_low)
    denominator = f.select(odd, sin, cos), f.select(odd, sin_low, cos_low)
    result = f.quotient(numerator, denominator)
    result = f.flip(result, f.builder.shl(angle.quadrant, f.iconst(f.bits - 1)))
    return f.flip(result, f.sign_of(x))
