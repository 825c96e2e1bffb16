"""Remainders of floats, exact."""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.floats import Floats
from tjit.codegen.llvm.outlined import fmod_far

__all__ = ["floor_mod", "trunc_mod"]


def trunc_mod(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """C's fmod: exact for all ratios."""
    b, ax, ay = f.builder, f.abs(x), f.abs(y)
    q = f.trunc(f.div(ax, ay))
    # q is exact or one too large, and x - q * y exact, up to the limit
    rest = f.sub_product(ax, q, ay)
    rest = f.select(f.lt(rest, 0.0), f.add(rest, ay), rest)
    limit = 2.0**f.mantissa if f.features.fma else 2.0 ** (f.mantissa // 2)
    far = b.not_(b.fcmp_ordered("<", q, f.const(limit)))
    far = b.and_(far, b.and_(f.lt(ax, float("inf")), f.gt(ay, 0.0)))
    rest = fmod_far(f, far, ax, ay, rest)
    return f.copysign(f.select(f.lt(ax, ay), ax, rest), x)


def floor_mod(f: Floats, x: ir.Value, y: ir.Value) -> ir.Value:
    """Python's %: the sign of y, also for zero."""
    rest = trunc_mod(f, x, y)
    zero = f.eq(rest, 0.0)
    differ = f.builder.icmp_signed("<", f.builder.xor(f.to_bits(rest), f.to_bits(y)), f.iconst(0))
    moved = f.select(differ, f.add(rest, y), rest)
    return f.select(zero, f.copysign(f.const(0.0), y), moved)
