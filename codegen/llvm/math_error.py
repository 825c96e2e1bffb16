"""The error function and its complement."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.coefficients import ERF, ERF_TAIL, ERFC
from tjit.codegen.llvm.floats import Floats
from tjit.codegen.llvm.math_exp import parts

__all__ = ["erf", "erfc"]


def erf(f: Floats, x: ir.Value) -> ir.Value:
    """x + x p(x**2) up to 1, then 1 - exp(-q(x))."""
    a = f.abs(x)
    z = f.mul(x, x)
    inner = f.fma(a, f.polynomial(z, ERF[f.name]), a)
    a = f.clamp_above(a, 4.0 if f.bits == 32 else 6.0)
    p = parts(f, f.neg(f.polynomial(a, ERF_TAIL[f.name])))
    s = f.power_of_two(p.n)
    outer = f.sub(1.0, f.fma(s, f.add(p.r, p.small), s))
    return f.copysign(f.select(f.gt(z, 1.0), outer, inner), x)


def erfc(f: Floats, x: ir.Value) -> ir.Value:
    """exp(-x**2) y p(t) for x >= 0, with y = 1/(x + k) and t = 1 - 2 k y; 2 minus that for x < 0."""
    k = 3.0 if f.bits == 32 else 4.0
    a = f.clamp_above(f.abs(x), 10.5 if f.bits == 32 else 27.5)
    d, d_low = f.two_sum(a, f.const(k))
    y = f.div(1.0, d)
    y_low = f.mul(y, f.fnma(y, d_low, f.fnma(y, d, 1.0))) if f.precise else f.const(0.0)
    t = f.fma(y, -2.0 * k, 1.0)
    c = ERFC[f.name]
    g, g_low = f.fast_two_sum(f.const(c[0]), f.mul(t, f.polynomial(t, c[1:])))
    w, w_low = f.two_product(g, y)
    w_low = f.fma(g, y_low, f.fma(g_low, y, w_low))
    square, square_low = f.two_product(a, a)
    p = parts(f, f.neg(square), f.neg(square_low))
    e, e_low = f.fast_two_sum(f.const(1.0), p.r)
    e, e_low = f.fast_two_sum(e, f.add(e_low, p.small))
    high, low = f.two_product(e, w)
    low = f.add(low, f.fma(e, w_low, f.mul(e_low, w)))
    right = f.scale(f.add(high, low), p.n)
    # below 0 the result is 2 - right, whose last bit is coarse
    return f.select(f.lt(x, 0.0), f.sub(2.0, right), right)
