"""Powers: 2**(y log2|x|), then C's rules for signs and limits."""

from __future__ import annotations

import math

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import EXP2, LN2, LOG2_E, LOG_TAIL, POW_EXP2, POW_LOG, TWO_THIRDS
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.math_log import as_float, scaled_up, split, with_limits
from tjit.codegen.llvm.outlined import mended
from tjit.codegen.llvm.register_tables import (
    POW_LOG2,
    POW_LOG2_LOW,
    POW_LOG_TAIL,
    POW_RECIPROCAL,
    SIXTEENTHS,
    SIXTEENTHS_LOW,
    SIXTEENTHS_TAIL,
)

__all__ = ["power", "power_of_f32"]


def power(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y in f64."""
    if f.features.avx512:
        return _by_tables(f, x, y)
    a = f.abs(x)
    return _with_sign(f, _magnitude(f, a, y), a, x, y)


def power_of_f32(f: Floats, wide: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y in f32, by tables or by f64 that is good to f32's last bit.

    Args:
        wide: f64 of as many lanes.
    """
    if f.features.avx512:
        return _by_tables(f, x, y)
    a = f.abs(x)
    result = _magnitude_of_f32(wide, *(f.builder.fpext(v, wide.type) for v in (a, y)))
    return _with_sign(f, f.builder.fptrunc(result, f.type), a, x, y)


def _with_sign(f: Floats, result: ir.Value, a: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """C's pow, from `result` = a**y of a = |x|, which may be nan where C's is 1."""
    b = f.builder
    result = f.select(b.or_(f.eq(a, 1.0), f.eq(y, 0.0)), 1.0, result)
    half = f.mul(y, 0.5)
    integer = f.eq(f.trunc(y), y)
    odd = b.and_(integer, f.ne(f.trunc(half), half))
    result = f.select(odd, f.copysign(result, x), result)
    negative = b.and_(f.lt(x, 0.0), f.gt(x, float("-inf")))
    return f.select(b.and_(negative, b.not_(integer)), float("nan"), result)


def _by_tables(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y; that of positive finite x and finite y at once, the rest in a branch."""
    b, a = f.builder, f.abs(x)
    log_a, low = _log2_by_table(f, a)
    result = _exp2_of_product(f, y, log_a, low)
    # nan where y is not finite, else x; less 1, the bits of what is not positive and finite are the greatest
    above = b.sub(f.to_bits(f.fma(y, 0.0, x)), f.iconst(1))
    special = b.icmp_unsigned(">=", above, f.iconst(f.bits_of(math.inf) - 1))
    return mended(f, special, [result], lambda: [_with_sign(f, _with_limits(f, result, log_a, a, y), a, x, y)])[0]


def _with_limits(f: Floats, result: ir.Value, log_a: ir.Value, a: ir.Value, y: ir.Value) -> ir.Value:
    """a**y, which is `result` where a is positive and both are finite."""
    log_a = f.select(f.eq(a, 0.0), -math.inf, f.select(f.lt(a, math.inf), log_a, a))
    e = f.mul(y, log_a)
    limit = f.select(f.gt(e, 0.0), math.inf, f.select(f.lt(e, 0.0), 0.0, math.nan))
    return f.select(f.lt(f.abs(e), math.inf), result, limit)


def _log2_by_table(f: Floats, a: ir.Value) -> Pair:
    """log2(a) for positive finite a, within 2**-33 (f32) or 2**-61 of its size."""
    m, scale = avx512.fraction(f, a), POW_RECIPROCAL[f.name]
    i = f.builder.lshr(f.to_bits(m), f.iconst(f.mantissa + 1 - len(scale).bit_length()))
    r = f.fma(m, avx512.lookup(f, i, scale), -1.0)  # exact
    whole = f.add(avx512.exponent(f, a), avx512.lookup(f, i, POW_LOG2[f.name]))  # exact
    half = f.mul(r, -0.5)
    high = f.fma(half, r, r)
    low = f.fma(half, r, f.sub(r, high))
    low = f.fma(f.mul(f.mul(half, r), r), f.polynomial(r, POW_LOG_TAIL[f.name]), low)
    unit, unit_low = LOG2_E[f.name]
    p, p_low = f.two_product(high, unit)
    p_low = f.fma(low, unit, f.fma(high, unit_low, p_low))
    total, lost = f.fast_two_sum(whole, p)
    return total, f.add(f.add(lost, avx512.lookup(f, i, POW_LOG2_LOW[f.name])), p_low)


def _exp2_of_product(f: Floats, y: ir.Value, high: ir.Value, low: ir.Value) -> ir.Value:
    """2**(y (high + low)), by sixteenths of the exponent."""
    t = f.add(f.mul(y, f.add(high, low)), f.magic / 16)
    n = f.sub(t, f.magic / 16)
    r = f.fma(y, low, f.fma(y, high, f.neg(n)))
    r = f.select(f.gt(r, -1.0), r, -1.0)  # beyond all limits it has no meaning, or is nan
    r = f.select(f.lt(r, 1.0), r, 1.0)
    root, root_low = (avx512.lookup(f, f.to_bits(t), table[f.name]) for table in (SIXTEENTHS, SIXTEENTHS_LOW))
    more = f.fma(root, f.mul(r, f.polynomial(r, SIXTEENTHS_TAIL[f.name])), root_low)
    return avx512.scale(f, f.add(root, more), n)


def _magnitude_of_f32(f: Floats, a: ir.Value, y: ir.Value) -> ir.Value:
    k, m = split(f, a)
    s = f.div(f.sub(m, 1.0), f.add(m, 1.0))
    z = f.mul(s, s)
    log_m = f.fma(s, 2.0, f.mul(f.mul(s, z), f.polynomial(z, POW_LOG["f64"])))
    log_a = with_limits(f, f.fma(log_m, LOG2_E["f64"][0], as_float(f, k)), a)
    e = f.clamp_above(f.clamp_below(f.mul(y, log_a), -200.0), 200.0)
    n = f.nearest(e)
    r = f.sub(e, n)
    return f.mul(f.fma(r, f.polynomial(r, POW_EXP2["f64"]), 1.0), f.power_of_two(n))


def _times(f: Floats, x: Pair, y: Pair) -> Pair:
    """The product of two sums, to about twice the precision."""
    p, e = f.two_product(x[0], y[0])
    return f.fast_two_sum(p, f.fma(x[0], y[1], f.fma(x[1], y[0], e)))


def _log2(f: Floats, a: ir.Value) -> Pair:
    """log2(a) for finite a > 0, within 2**-65 of its size."""
    up, undo = scaled_up(f, a)
    k, m = split(f, up)
    t, d = f.sub(m, 1.0), f.two_sum(m, f.const(1.0))
    reciprocal = f.div(1.0, d[0])
    s = f.mul(t, reciprocal)
    p, e = f.two_product(s, d[0])
    rest = f.fnma(s, d[1], f.sub(f.sub(t, p), e))
    s = f.fast_two_sum(s, f.mul(rest, reciprocal))
    z = _times(f, s, s)
    # log(m) = 2 s + s z (2/3 + z p(z))
    w, w_low = f.fast_two_sum(f.const(TWO_THIRDS["f64"][0]), f.mul(z[0], f.polynomial(z[0], LOG_TAIL["f64"])))
    cubic = _times(f, s, _times(f, z, (w, f.add(w_low, TWO_THIRDS["f64"][1]))))
    high, low = f.fast_two_sum(f.add(s[0], s[0]), cubic[0])
    low = f.add(low, f.fma(s[1], 2.0, cubic[1]))
    high, low = _times(f, (high, low), (f.const(LOG2_E["f64"][0]), f.const(LOG2_E["f64"][1])))
    total, error = f.fast_two_sum(f.add(as_float(f, k), undo), high)
    return f.fast_two_sum(total, f.add(error, low))


def _magnitude(f: Floats, a: ir.Value, y: ir.Value) -> ir.Value:
    log_a, log_low = _log2(f, a)
    high = f.mul(y, with_limits(f, log_a, a))
    e = f.clamp_above(f.clamp_below(high, -1100.0), 1100.0)
    p, p_low = f.two_product(y, log_a)
    # beyond the clamp, and where y or the logarithm is infinite, the low part is meaningless
    low = f.select(f.eq(e, p), f.fma(y, log_low, p_low), 0.0)
    n = f.nearest(e)
    r, r_low = f.two_sum(f.sub(e, n), low)
    p = f.fma(r, f.polynomial(r, EXP2["f64"]), f.mul(r_low, LN2["f64"][0]))
    return f.scale(f.add(p, 1.0), n)
