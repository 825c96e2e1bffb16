"""Logarithms: x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), a polynomial in s = f / (2 + f)."""

from __future__ import annotations

import math

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import LN2, LOG, LOG2_E, LOG10_2, LOG10_E
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.register_tables import (
    LOG2_HIGH,
    LOG2_LOW,
    LOG2_SLOPE,
    LOG2_TAIL,
    LOG2_UNIT,
    LOG10_HIGH,
    LOG10_LOW,
    LOG10_SLOPE,
    LOG10_TAIL,
    LOG10_UNIT,
    LOG_HIGH,
    LOG_LOW,
    LOG_SLOPE,
    LOG_TAIL,
    LOG_UNIT,
    RECIPROCAL,
)
from tjit.dataclass import dataclass

__all__ = ["as_float", "log", "log1p", "log2", "log10", "parts_by_table", "scaled_up", "split", "with_limits"]

Table = dict[str, tuple[float, ...]]


def scaled_up(f: Floats, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """x made normal, and the power of two that undoes it."""
    small = f.lt(x, f.least_normal)
    by = f.mantissa + 1
    return f.select(small, f.mul(x, 2.0**by), x), f.select(small, float(-by), 0.0)


def split(f: Floats, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """k as an integer of the lanes' width, and 1 + f, for normal x > 0."""
    b, bits = f.builder, f.to_bits(x)
    root = f.iconst((f.bias << f.mantissa) + round((math.sqrt(0.5) * 2 - 2) * 2.0**f.mantissa))
    above = b.sub(bits, root)
    mask = f.iconst((1 << f.bits) - (1 << f.mantissa))
    return b.ashr(above, f.iconst(f.mantissa)), f.from_bits(b.sub(bits, b.and_(above, mask)))


def as_float(f: Floats, k: ir.Value) -> ir.Value:
    """A small integer as a float, without a conversion of 64-bit integers, which few targets have."""
    t = f.builder.add(k, f.to_bits(f.const(f.magic)))
    return f.sub(f.from_bits(t), f.magic)


def _curve(f: Floats, x: ir.Value) -> Pair:
    """log(1 + x) - x, and the largest part of its rounding error."""
    s = f.div(x, f.add(x, 2.0))
    z = f.mul(s, s)
    half_square, low = f.two_product(f.mul(x, 0.5), x)
    # log(1 + x) = x - x**2/2 + s (x**2/2 + z p(z))
    return f.fma(s, f.fma(z, f.polynomial(z, LOG[f.name]), half_square), f.neg(half_square)), f.neg(low)


def with_limits(f: Floats, result: ir.Value, x: ir.Value) -> ir.Value:
    """`result`, the logarithm of a finite x > 0, or what the other x have."""
    result = f.select(f.lt(x, float("inf")), result, x)
    return f.select(f.gt(x, 0.0), result, f.select(f.eq(x, 0.0), float("-inf"), float("nan")))


@dataclass(frozen=True, slots=True)
class _Base:
    """Of one base, by format: log(2), logarithms of 1 / `RECIPROCAL`, both in two parts, and log(1 + r) near 1."""

    unit: Table
    high: Table
    low: Table
    slope: Table
    tail: Table


_NATURAL = _Base(LOG_UNIT, LOG_HIGH, LOG_LOW, LOG_SLOPE, LOG_TAIL)
_TWO = _Base(LOG2_UNIT, LOG2_HIGH, LOG2_LOW, LOG2_SLOPE, LOG2_TAIL)
_TEN = _Base(LOG10_UNIT, LOG10_HIGH, LOG10_LOW, LOG10_SLOPE, LOG10_TAIL)


def _table_parts(
    f: Floats, x: ir.Value, base: _Base, rest: ir.Value | None = None
) -> tuple[ir.Value, ir.Value, ir.Value]:
    """high, r, low: log(x + rest) = high + r slope + low, the first two without loss."""
    k, m = avx512.exponent(f, x), avx512.fraction(f, x)
    scale = RECIPROCAL[f.name]
    i = f.builder.lshr(f.to_bits(m), f.iconst(f.mantissa + 1 - len(scale).bit_length()))
    reciprocal = avx512.lookup(f, i, scale)
    r = f.fma(m, reciprocal, -1.0)  # exact
    (unit, unit_low), (slope, slope_low) = base.unit[f.name], base.slope[f.name]
    high, low = (avx512.lookup(f, i, table[f.name]) for table in (base.high, base.low))
    high = f.fma(k, unit, high)  # exact
    low = f.fma(k, unit_low, low) if unit_low else low
    whole = r
    if rest is not None:
        rest = f.mul(f.mul(rest, _inverse_power(f, x)), reciprocal)
        whole, low = f.add(r, rest), f.fma(rest, slope, low)
    tail = f.polynomial(whole, base.tail[f.name])
    low = f.fma(whole, f.fma(whole, tail, slope_low), low) if slope_low else f.fma(f.mul(whole, whole), tail, low)
    return high, r, low


def _inverse_power(f: Floats, x: ir.Value) -> ir.Value:
    """2**-k of 2**k <= x < 2**(k+1), or 0 where that is not normal; of 0 any number."""
    b = f.builder
    exponent = b.and_(f.to_bits(x), f.iconst((1 << (f.bits - 1)) - (1 << f.mantissa)))
    return f.from_bits(b.sub(f.iconst((2 * f.bias) << f.mantissa), exponent))


def parts_by_table(f: Floats, x: ir.Value) -> Pair:
    """log(x) as a multiple of 2**-16 (f32) or 2**-42, and a rest below 1/16."""
    high, r, low = _table_parts(f, x, _NATURAL)
    return high, f.add(r, low)


def _by_table(f: Floats, x: ir.Value, base: _Base, rest: ir.Value | None = None) -> ir.Value:
    """log(x + rest), by tables in registers; what is not finite or not positive needs nothing of its own."""
    high, r, low = _table_parts(f, x, base, rest)
    slope = base.slope[f.name][0]
    if slope != 1 or not f.precise:
        return f.add(high, f.fma(r, slope, low))
    total, lost = f.fast_two_sum(high, r)  # what r + low would lose may be as much as the last rounding
    low = f.add(f.select(f.is_nan(lost), 0.0, lost), low)  # inf - inf where k is infinite
    return f.add(total, low)


def log(f: Floats, x: ir.Value) -> ir.Value:
    if f.features.avx512:
        return _by_table(f, x, _NATURAL)
    up, undo = scaled_up(f, x)
    k, m = split(f, up)
    k, t = f.add(as_float(f, k), undo), f.sub(m, 1.0)
    ln2 = LN2[f.name]
    high, low = f.fast_two_sum(f.mul(k, ln2[0]), t)
    return with_limits(f, f.add(high, f.add(low, f.fma(k, ln2[1], _curve(f, t)[0]))), x)


def log1p(f: Floats, x: ir.Value) -> ir.Value:
    u = f.add(x, 1.0)
    rest = f.sub(x, f.sub(u, 1.0))  # the rounding error of u; of a u that is too large to be exact it does not matter
    if f.features.avx512:
        result = _by_table(f, u, _NATURAL, rest)
        return f.copysign(f.select(f.lt(u, float("inf")), result, x), x)
    result = f.select(f.lt(u, float("inf")), _of_sum(f, u, rest), x)
    result = f.select(f.gt(x, -1.0), result, f.select(f.eq(x, -1.0), float("-inf"), float("nan")))
    return f.select(f.eq(x, 0.0), x, result)


def _of_sum(f: Floats, u: ir.Value, rest: ir.Value) -> ir.Value:
    """log(u + rest) for finite u > 0."""
    k, m = split(f, u)
    # twice 2**-k, for 2**-k may be too small
    down = f.from_bits(f.builder.shl(f.builder.sub(f.iconst(f.bias + 1), k), f.iconst(f.mantissa)))
    t, t_low = f.fast_two_sum(f.sub(m, 1.0), f.mul(f.mul(rest, down), 0.5))
    k = as_float(f, k)
    ln2 = LN2[f.name]
    high, low = f.fast_two_sum(f.mul(k, ln2[0]), t)
    low = f.add(low, f.fma(k, ln2[1], f.add(_curve(f, t)[0], t_low)))
    return f.add(high, low)


def _log_of_base(f: Floats, x: ir.Value, factor: tuple[float, ...], of_two: tuple[float, ...]) -> ir.Value:
    up, undo = scaled_up(f, x)
    k, m = split(f, up)
    k, t = f.add(as_float(f, k), undo), f.sub(m, 1.0)
    p, p_low = f.two_product(t, factor[0])
    high, low = f.fast_two_sum(f.mul(k, of_two[0]), p)
    low = f.add(low, f.fma(t, factor[1], f.fma(k, of_two[1], p_low)))
    curve, curve_low = _curve(f, t)
    low = f.fma(curve, factor[0], f.fma(curve_low, factor[0], low))
    return with_limits(f, f.add(high, low), x)


def log2(f: Floats, x: ir.Value) -> ir.Value:
    if f.features.avx512:
        return _by_table(f, x, _TWO)
    return _log_of_base(f, x, LOG2_E[f.name], (1.0, 0.0))


def log10(f: Floats, x: ir.Value) -> ir.Value:
    if f.features.avx512:
        return _by_table(f, x, _TEN)
    return _log_of_base(f, x, LOG10_E[f.name], LOG10_2[f.name])
