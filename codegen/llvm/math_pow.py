"""Powers: 2**(y log2|x|), then C's rules for signs and limits."""

from __future__ import annotations

from collections.abc import Sequence

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import EXP2, LN2, LOG2_E, LOG_TAIL, POW_EXP2, POW_LOG, TWO_THIRDS
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.math_log import as_float, scaled_up, split, with_limits
from tjit.codegen.llvm.register_tables import (
    POW_EXP2_TAIL,
    POW_LOG2,
    POW_LOG2_LOW,
    POW_LOG2_TAIL,
    POW_RECIPROCAL,
    SIXTEENTHS,
    SIXTEENTHS_LOW,
)

__all__ = ["power", "power_of_f32"]


def power(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y in f64."""
    a = f.abs(x)
    magnitude = _by_tables if f.features.avx512 else _magnitude
    return _with_sign(f, magnitude(f, a, y), a, x, y)


def power_of_f32(f: Floats, wide: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """x**y in f32, by f64 that is good to f32's last bit.

    Args:
        wide: f64 of as many lanes.
    """
    a = f.abs(x)
    magnitude = _of_f32_by_tables if f.features.avx512 else _magnitude_of_f32
    result = magnitude(wide, *(f.builder.fpext(v, wide.type) for v in (a, y)))
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


def _fraction(f: Floats, a: ir.Value, scale: Sequence[float]) -> Pair:
    """An index i and r of a = 2**exponent(a) (1 + r) / scale[i], without loss."""
    m = avx512.fraction(f, a)
    i = f.builder.lshr(f.to_bits(m), f.iconst(f.mantissa + 1 - len(scale).bit_length()))
    return i, f.fma(m, avx512.lookup(f, i, scale), -1.0)


def _sixteenths(f: Floats, e: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """e to the next sixteenth, an index i that counts them, and the rest of e."""
    t = f.add(e, f.magic / 16)
    n = f.sub(t, f.magic / 16)
    return n, f.to_bits(t), f.sub(e, n)


def _of_f32_by_tables(f: Floats, a: ir.Value, y: ir.Value) -> ir.Value:
    """a**y to f32's last bit, for a >= 0."""
    i, r = _fraction(f, a, POW_RECIPROCAL["f32"])
    whole = f.add(avx512.exponent(f, a), avx512.lookup(f, i, POW_LOG2["f32"]))
    e = f.mul(y, f.fma(r, f.polynomial(r, POW_LOG2_TAIL["f32"]), whole))
    n, i, r = _sixteenths(f, f.clamp_above(f.clamp_below(e, -200.0), 200.0))
    root = avx512.lookup(f, i, SIXTEENTHS["f64"])
    return avx512.scale(f, f.fma(root, f.mul(r, f.polynomial(r, POW_EXP2_TAIL["f32"])), root), n)


def _log2_by_table(f: Floats, a: ir.Value) -> Pair:
    """log2(a) within 2**-61 of its size; the second is nan where the first is infinite."""
    i, r = _fraction(f, a, POW_RECIPROCAL["f64"])
    half_square, square_low = f.two_product(f.mul(r, 0.5), r)
    high, low = f.fast_two_sum(r, f.neg(half_square))
    cubic = f.polynomial(r, POW_LOG2_TAIL["f64"])
    low = f.fma(f.mul(r, half_square), cubic, f.sub(low, square_low))
    high, low = _times(f, f.fast_two_sum(high, low), (f.const(LOG2_E["f64"][0]), f.const(LOG2_E["f64"][1])))
    whole = f.add(avx512.exponent(f, a), avx512.lookup(f, i, POW_LOG2["f64"]))  # exact
    total, lost = f.fast_two_sum(whole, high)
    return total, f.add(f.add(lost, avx512.lookup(f, i, POW_LOG2_LOW["f64"])), low)


def _by_tables(f: Floats, a: ir.Value, y: ir.Value) -> ir.Value:
    """a**y in f64, for a >= 0."""
    log_a, log_low = _log2_by_table(f, a)
    high, low = f.two_product(y, log_a)
    e = f.clamp_above(f.clamp_below(high, -1100.0), 1100.0)
    # beyond the clamp, and where y or the logarithm is infinite, the low part is meaningless
    low = f.select(f.eq(e, high), f.fma(y, log_low, low), 0.0)
    n, i, r = _sixteenths(f, e)
    r = f.add(r, low)
    root, root_low = (avx512.lookup(f, i, table["f64"]) for table in (SIXTEENTHS, SIXTEENTHS_LOW))
    more = f.fma(root, f.mul(r, f.polynomial(r, POW_EXP2_TAIL["f64"])), root_low)
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
