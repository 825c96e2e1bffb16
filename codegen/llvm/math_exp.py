"""Exponentials: x = n log(2) + r with |r| <= log(2)/2, a polynomial in r, scaling by 2**n."""

from __future__ import annotations

import math
from collections.abc import Sequence

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.coefficients import COSH, EXP, EXP2, EXPM1, LN2, LOG2_E, SINH
from tjit.codegen.llvm.floats import Floats
from tjit.codegen.llvm.register_tables import TANH_PIECES, TANH_SCALE
from tjit.dataclass import dataclass

__all__ = ["cosh", "exp", "exp2", "expm1", "sigmoid", "sinh", "tanh"]


@dataclass(frozen=True, slots=True)
class Reduced:
    """exp(x) = 2**n * (1 + r + small), n an integer held as a float."""

    n: ir.Value
    r: ir.Value
    small: ir.Value


def _limit(f: Floats) -> float:
    """exp overflows from here."""
    return 89.0 if f.bits == 32 else 710.0


def _least(f: Floats) -> float:
    """exp is 0 below."""
    return -105.0 if f.bits == 32 else -746.0


def _reduce(f: Floats, x: ir.Value) -> tuple[ir.Value, ir.Value, ir.Value]:
    """n, r and the rounding error of r: x = n log(2) + r + error."""
    n = f.sub(f.fma(x, LOG2_E[f.name][0], f.magic), f.magic)
    high, low = LN2[f.name]
    exact = f.fma(n, -high, x)
    r = f.fma(n, -low, exact)
    return n, r, f.fma(n, -low, f.sub(exact, r))


def parts(f: Floats, x: ir.Value, coefficients: Sequence[float]) -> Reduced:
    """exp(x) before scaling, to more than the format's precision."""
    n = f.sub(f.fma(x, LOG2_E[f.name][0], f.magic), f.magic)
    high, low = LN2[f.name]
    r = f.fma(n, -high, x)  # exact
    rest = f.mul(n, -low)
    whole = f.add(r, rest)
    square = f.mul(whole, whole)
    return Reduced(n, r, f.fma(square, f.polynomial(whole, coefficients, square), rest))


def exp(f: Floats, x: ir.Value) -> ir.Value:
    p = parts(f, f.clamp_above(f.clamp_below(x, _least(f)), _limit(f)), EXP[f.name])
    return f.scale(f.add(f.add(p.r, p.small), 1.0), p.n)


def exp2(f: Floats, x: ir.Value) -> ir.Value:
    x = f.clamp_above(f.clamp_below(x, -f.bias - f.mantissa - 3.0), f.bias + 2.0)
    n = f.nearest(x)
    r = f.sub(x, n)
    return f.scale(f.fma(r, f.polynomial(r, EXP2[f.name]), 1.0), n)


def expm1(f: Floats, x: ir.Value) -> ir.Value:
    x = f.clamp_above(f.clamp_below(x, -0.75 * (f.mantissa + 3)), _limit(f))
    p = parts(f, x, EXPM1[f.name])
    s = f.power_of_two(p.n, -1)  # half of 2**n, which would overflow
    c, c_low = f.fast_two_sum(s, -0.5)
    high, low = f.fast_two_sum(c, f.mul(s, p.r))
    half = f.add(high, f.add(low, f.fma(s, p.small, c_low)))
    return f.copysign(f.select(f.eq(p.n, 0.0), f.add(p.r, p.small), f.add(half, half)), x)


def tanh(f: Floats, x: ir.Value) -> ir.Value:
    """expm1(2x) / (expm1(2x) + 2); in f32 by pieces where tables are in registers."""
    if f.features.avx512 and f.bits == 32:
        return avx512.odd_by_pieces(f, x, TANH_SCALE, TANH_PIECES)
    a = f.clamp_above(f.abs(x), 0.375 * (f.mantissa + 3))
    n = f.sub(f.fma(a, 2 * LOG2_E[f.name][0], f.magic), f.magic)
    # expm1(2a) = s (r + small) + s/2 - 1; that log(2) has more digits does not matter where n is not 0
    r = f.fma(n, -0.5 * math.log(2), a)
    square = f.mul(r, r)
    small = f.mul(square, f.polynomial(r, [c * 2 ** (k + 1) for k, c in enumerate(EXP[f.name])], square))
    s = f.power_of_two(n, 1)
    c = f.fma(s, 0.5, -1.0)  # inexact only where the result is 1
    high = f.fma(s, r, c)
    low = f.fma(s, r, f.sub(c, high))
    e, e_low = f.fast_two_sum(high, f.fma(s, small, low))
    d, d_low = f.fast_two_sum(f.const(2.0), e)
    reciprocal = f.div(1.0, f.fma(s, small, f.add(high, 2.0)))  # sooner known than d
    return f.copysign(f.quotient((e, e_low), (d, f.add(d_low, e_low)), reciprocal), x)


def sigmoid(f: Floats, x: ir.Value) -> ir.Value:
    """With e = exp(-|x|): 1 / (1 + e), or e / (1 + e) for negative x."""
    p = parts(f, f.clamp_below(f.neg(f.abs(x)), _least(f)), EXP[f.name])
    e, e_low = (f.scale(v, p.n) for v in f.fast_two_sum(f.const(1.0), f.add(p.r, p.small)))
    d, d_low = f.fast_two_sum(f.const(1.0), e)
    negative = f.lt(x, 0.0)
    numerator = f.select(negative, e, 1.0), f.select(negative, e_low, 0.0)
    return f.quotient(numerator, (d, f.add(d_low, e_low)))


@dataclass(frozen=True, slots=True)
class Hyperbolic:
    """|x| = n log(2) + r, sinh(r) = r + s, cosh(r) = 1 + c, a = 2**(n-2), b = 2**(-n-2)."""

    n: ir.Value
    r: ir.Value
    s: ir.Value
    c: ir.Value
    a: ir.Value
    b: ir.Value


def _hyperbolic(f: Floats, x: ir.Value) -> Hyperbolic:
    x = f.clamp_above(f.abs(x), _limit(f) + 0.625)
    n, r, error = _reduce(f, x)
    z = f.mul(r, r)
    s = f.fma(f.mul(r, z), f.polynomial(z, SINH[f.name]), error)
    c = f.mul(z, f.polynomial(z, COSH[f.name]))
    a = f.power_of_two(n, -2)
    b = f.power_of_two(f.clamp_below(f.sub(-2.0, n), -f.bias))
    return Hyperbolic(n, r, s, c, a, b)


def _twice(f: Floats, h: Hyperbolic, even: ir.Value, odd: ir.Value) -> ir.Value:
    """2 ((a + even) cosh(r) + odd sinh(r)); the largest term of each product is summed without loss."""
    even, even_low = f.fast_two_sum(h.a, even)
    p, p_low = f.two_product(odd, h.r)
    high, low = f.fast_two_sum(even, p)
    rest = f.fma(even, h.c, f.fma(odd, h.s, f.add(p_low, even_low)))
    half = f.add(high, f.add(low, rest))
    return f.add(half, half)


def sinh(f: Floats, x: ir.Value) -> ir.Value:
    h = _hyperbolic(f, x)
    outer = _twice(f, h, f.neg(h.b), f.add(h.a, h.b))
    return f.copysign(f.select(f.eq(h.n, 0.0), f.add(h.r, h.s), outer), x)


def cosh(f: Floats, x: ir.Value) -> ir.Value:
    h = _hyperbolic(f, x)
    return _twice(f, h, h.b, f.sub(h.a, h.b))


def rsqrt(f: Floats, x: ir.Value) -> ir.Value:
    y = f.div(1.0, f.sqrt(x))
    if not f.precise:
        return y
    # one step of Newton's on 1 - x y**2, computed without loss
    p, p_low = f.two_product(x, y)
    rest = f.fnma(p_low, y, f.fnma(p, y, 1.0))
    better = f.fma(f.mul(y, 0.5), rest, y)
    return f.select(f.is_nan(better), y, better)
