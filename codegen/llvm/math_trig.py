"""Circular functions: reduction by pi/2, polynomials on [-pi/4, pi/4]."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.coefficients import COS, HALF_PI, HALF_PI_SHORT, SIN, TAN
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.outlined import reduce_huge
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
    """tan(high - low), or -1 / that in odd quadrants."""
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
