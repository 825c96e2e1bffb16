"""The error function, its complement and its inverse."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import ERF, ERF_TAIL, ERFC, ERFC_OF_F32, ERFC_SLOPE, EXP, LOG2_E, POW_EXP2
from tjit.codegen.llvm.floats import Floats, Pair
from tjit.codegen.llvm.math_exp import parts
from tjit.codegen.llvm.math_log import parts_by_table
from tjit.codegen.llvm.register_tables import ERF_PIECES, ERF_SCALE, ERFINV_PIECES

__all__ = ["erf", "erfc", "erfc_of_f32", "erfinv"]


def erf(f: Floats, x: ir.Value) -> ir.Value:
    """x + x p(x**2 - 1/2) up to 1, then 1 - exp(-x q(x)); in f32 by pieces where tables are in registers."""
    if f.features.avx512 and f.bits == 32:
        return avx512.odd_by_pieces(f, x, ERF_SCALE, ERF_PIECES)
    a = f.abs(x)
    u = f.fma(x, x, -0.5)
    inner = f.fma(a, f.polynomial(u, ERF[f.name]), a)
    a = f.clamp_above(a, 4.0 if f.bits == 32 else 6.0)
    q, q_low = f.two_product(a, f.polynomial(a, ERF_TAIL[f.name]))
    p = parts(f, f.neg(q), EXP[f.name])
    s = f.power_of_two(p.n)
    outer = f.sub(1.0, f.fma(s, f.add(p.r, f.sub(p.small, q_low)), s))
    return f.copysign(f.select(f.gt(u, 0.5), outer, inner), x)


def erfc(f: Floats, x: ir.Value) -> ir.Value:
    """In f64: 1 - erf(x) near 0; else exp(-x**2) y p(t) for x > 0, with y = 1/(x + 4) and t = 1 - 8 y."""
    a = f.clamp_above(f.abs(x), 27.5)
    w, w_low = _scaled(f, a)
    square, square_low = f.two_product(a, a)
    p = parts(f, f.neg(square), EXP["f64"])
    e, e_low = f.fast_two_sum(f.const(1.0), p.r)
    e, e_low = f.fast_two_sum(e, f.add(e_low, p.small))
    high, low = f.two_product(e, w)
    low = f.add(low, f.fma(e, w_low, f.mul(e_low, w)))
    right = f.scale(f.add(high, f.fnma(high, square_low, low)), p.n)
    outer = f.select(f.lt(x, 0.0), f.sub(2.0, right), right)
    inner, inner_low = f.fast_two_sum(f.const(1.0), f.neg(x))
    inner = f.add(inner, f.fnma(x, f.polynomial(f.fma(x, x, -0.5), ERF["f64"]), inner_low))
    return f.select(f.gt(a, 0.5), outer, f.select(f.is_nan(x), x, inner))


def _scaled(f: Floats, a: ir.Value) -> Pair:
    """exp(a**2) erfc(a)."""
    d, d_low = f.two_sum(a, f.const(4.0))
    y = f.div(1.0, d)
    y_low = f.mul(y, f.fnma(y, d_low, f.sub_product(f.const(1.0), y, d)))
    t = f.fma(y, -8.0, 1.0)
    t_low = f.fma(y_low, -8.0, f.fma(y, -8.0, f.sub(1.0, t)))
    c = ERFC["f64"]
    slope = f.polynomial(t, ERFC_SLOPE["f64"])
    p, p_low = f.two_product(t, f.polynomial(t, c[1:]))
    g, g_low = f.two_sum(f.const(c[0]), p)
    g_low = f.fma(slope, t_low, f.add(g_low, p_low))
    w, w_low = f.two_product(g, y)
    return w, f.fma(g, y_low, f.fma(g_low, y, w_low))


def erfc_of_f32(f: Floats, x: ir.Value) -> ir.Value:
    """The same formula for f32 operands held in f64, good to f32's last bit; y = 1/(x + 3)."""
    a = f.clamp_above(f.abs(x), 10.5)
    y = f.div(1.0, f.add(a, 3.0))
    e = f.mul(f.mul(a, a), -LOG2_E["f64"][0])
    n = f.nearest(e)
    r = f.sub(e, n)
    g = f.mul(y, f.polynomial(f.fma(y, -6.0, 1.0), ERFC_OF_F32["f64"]))
    right = f.mul(f.mul(g, f.fma(r, f.polynomial(r, POW_EXP2["f64"]), 1.0)), f.power_of_two(n))
    return f.select(f.lt(x, 0.0), f.sub(2.0, right), right)


def erfinv(f: Floats, x: ir.Value) -> ir.Value:
    """x g(w), w = -log(1 - x**2), g by pieces; with tables in registers."""
    square = f.sub_product(f.const(1.0), x, x)
    high, rest = parts_by_table(f, square)
    w = f.neg(f.add(high, rest))
    columns = ERFINV_PIECES[f.name]
    digits = (len(columns[0]) // 4).bit_length() - 1
    i = f.builder.lshr(f.to_bits(f.add(w, 4.0)), f.iconst(f.mantissa - digits))
    middle, value, *coefficients = (avx512.lookup(f, i, column) for column in columns)
    d = f.sub(f.sub(f.neg(high), middle), rest)
    slope = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        slope = f.fma(slope, d, c)
    larger = f.mul(x, 2.0**64)  # the smaller product would be denormal, and rounded, where y is not
    y = f.mul(f.fma(larger, value, f.mul(larger, f.mul(d, slope))), 2.0**-64)
    return f.copysign(f.select(f.eq(square, 0.0), float("inf"), y), x)
