"""Logarithms: x = 2**k (1 + f) with 1 + f in [sqrt(1/2), sqrt(2)), a polynomial in s = f / (2 + f)."""

from __future__ import annotations

import math

from llvmlite import ir

from tjit.codegen.llvm.coefficients import LN2, LOG, LOG2_E, LOG10_2, LOG10_E
from tjit.codegen.llvm.floats import Floats, Pair

__all__ = ["as_float", "log", "log1p", "log2", "log10", "scaled_up", "split", "with_limits"]


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


def log(f: Floats, x: ir.Value) -> ir.Value:
    up, undo = scaled_up(f, x)
    k, m = split(f, up)
    k, t = f.add(as_float(f, k), undo), f.sub(m, 1.0)
    ln2 = LN2[f.name]
    high, low = f.fast_two_sum(f.mul(k, ln2[0]), t)
    return with_limits(f, f.add(high, f.add(low, f.fma(k, ln2[1], _curve(f, t)[0]))), x)


def log1p(f: Floats, x: ir.Value) -> ir.Value:
    u, rest = f.two_sum(x, f.const(1.0))
    k, m = split(f, u)
    # twice 2**-k, for 2**-k may be too small
    down = f.from_bits(f.builder.shl(f.builder.sub(f.iconst(f.bias + 1), k), f.iconst(f.mantissa)))
    t, t_low = f.fast_two_sum(f.sub(m, 1.0), f.mul(f.mul(rest, down), 0.5))
    k = as_float(f, k)
    ln2 = LN2[f.name]
    high, low = f.fast_two_sum(f.mul(k, ln2[0]), t)
    low = f.add(low, f.fma(k, ln2[1], f.add(_curve(f, t)[0], t_low)))
    result = f.select(f.lt(u, float("inf")), f.add(high, low), x)
    result = f.select(f.gt(x, -1.0), result, f.select(f.eq(x, -1.0), float("-inf"), float("nan")))
    return f.select(f.eq(x, 0.0), x, result)


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
    return _log_of_base(f, x, LOG2_E[f.name], (1.0, 0.0))


def log10(f: Floats, x: ir.Value) -> ir.Value:
    return _log_of_base(f, x, LOG10_E[f.name], LOG10_2[f.name])
