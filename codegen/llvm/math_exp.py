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
    """n, an exact r and a rest: x = n log(2) + r + rest."""
    n = f.sub(f.fma(x, LOG2_E[f.name][0], f.magic), f.magic)
    high, low = LN2[f.name]
    return n, f.fma(n, -high, x), f.mul(n, -low)


def parts(f: Floats, x: ir.Value, coefficients: Sequence[float]) -> Reduced:
    """exp(x) before scaling, to more than the format's precision."""
    n, r, rest = _reduce(f, x)
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
    """2**n (1 - q + r + small), q = 2**-n."""
    clamped = f.clamp_above(f.clamp_below(x, -0.75 * (f.mantissa + 3)), _limit(f))
    p = parts(f, clamped, EXPM1[f.name])
    q = _down(f, p.n)
    w = f.sub(1.0, q)
    w_low = f.sub(f.sub(1.0, w), q)
    high, low = f.fast_two_sum(w, p.r)  # 1 - q is 0 or as large as r
    return f.copysign(f.scale(f.add(high, f.add(f.add(low, w_low), p.small)), p.n), x)


def _down(f: Floats, n: ir.Value, times: int = 1, more: int = 0) -> ir.Value:
    """2**(more - times n) for an integer n held as a float, 0 where that is too small; it is not too large."""
    t = f.fma(f.clamp_above(n, (f.bias + more) // times), -float(times), f.magic + f.bias + more)
    return f.from_bits(f.builder.shl(f.to_bits(t), f.iconst(f.mantissa)))


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
    reciprocal = f.near_reciprocal(f.fma(s, small, f.add(high, 2.0)))  # sooner known than d
    return f.copysign(f.quotient((e, e_low), (d, f.add(d_low, e_low)), reciprocal), x)


def sigmoid(f: Floats, x: ir.Value) -> ir.Value:
    """1 / (1 + exp(-x)) = 2**-n / (q + 1 + r + small), q = 2**-n."""
    clamped = f.clamp_above(f.clamp_below(f.neg(x), -0.75 * (f.mantissa + 3)), -_least(f))
    p = parts(f, clamped, EXP[f.name])
    q = _down(f, p.n)
    d, lost = f.fast_two_sum(f.const(1.0), q)  # nothing matters of what a q > 1 loses
    d, d_low = f.fast_two_sum(d, p.r)
    d_low = f.add(f.add(d_low, lost), p.small)
    one = f.const(1.0), f.const(0.0)
    return f.scale(f.quotient(one, (d, d_low), f.near_reciprocal(f.add(d, d_low))), f.neg(p.n))


@dataclass(frozen=True, slots=True)
class Hyperbolic:
    """|x| = n log(2) + r + tiny, sinh(r + tiny) = r + s, cosh(r + tiny) = 1 + c; q = 2**(-2n) / 2, v, w = 1/2 +- q.

    exp(|x|) / 2 +- exp(-|x|) / 2 are 2**n (v (1 + c) + w (r + s)) and 2**n (w (1 + c) + v (r + s)).
    """

    n: ir.Value
    r: ir.Value
    s: ir.Value
    c: ir.Value
    q: ir.Value
    v: ir.Value
    w: ir.Value


def _hyperbolic(f: Floats, x: ir.Value) -> Hyperbolic:
    x = f.clamp_above(f.abs(x), _limit(f) + 0.625)
    n, r, rest = _reduce(f, x)
    whole = f.add(r, rest)
    z = f.mul(whole, whole)
    s = f.fma(f.mul(whole, z), f.polynomial(z, SINH[f.name]), rest)
    c = f.mul(z, f.polynomial(z, COSH[f.name]))
    q = _down(f, n, times=2, more=-1)
    return Hyperbolic(n, r, s, c, q, f.add(q, 0.5), f.sub(0.5, q))


def sinh(f: Floats, x: ir.Value) -> ir.Value:
    h = _hyperbolic(f, x)
    high = f.fma(h.v, h.r, h.w)
    lost = f.fma(h.v, h.r, f.sub(h.w, high))  # w is 0 or larger than v r
    low = f.fma(h.v, h.s, f.fma(h.w, h.c, lost))
    return f.copysign(f.scale(f.add(high, low), h.n), x)


def cosh(f: Floats, x: ir.Value) -> ir.Value:
    h = _hyperbolic(f, x)
    return f.scale(f.add(f.fma(h.w, h.r, f.fma(h.w, h.s, f.fma(h.v, h.c, h.q))), 0.5), h.n)


def rsqrt(f: Floats, x: ir.Value) -> ir.Value:
    """One step of Newton's from 1 / sqrt(x), or from an estimate, on 1 - x y**2 computed without loss."""
    if not f.precise and not f.features.avx512:
        return f.div(1.0, f.sqrt(x))
    y = avx512.root_estimate(f, x) if f.features.avx512 else f.div(1.0, f.sqrt(x))
    better = y if f.precise else _nearer(f, x, y)
    p, p_low = f.two_product(x, better)
    better = f.fma(f.mul(better, 0.5), f.fnma(p_low, better, f.fnma(p, better, 1.0)), better)
    return f.select(f.is_nan(better), y, better)


def _nearer(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """1 / sqrt(x) to twice the digits that y has."""
    return f.fma(f.mul(y, 0.5), f.fnma(f.mul(x, y), y, 1.0), y)
