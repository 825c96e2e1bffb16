"""Slow paths of the vector math, for rare lanes: mended in place, or by one scalar function, called lane by lane.

A call ends the builder's block: afterwards the builder stands in a new one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from llvmlite import ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.coefficients import HALF_PI, TWO_OVER_PI
from tjit.codegen.llvm.floats import Floats, any_lane, call_intrinsic

__all__ = ["fmod_far", "mended", "reduce_huge"]

_F64, _I64, _I32 = ir.DoubleType(), ir.IntType(64), ir.IntType(32)
Emit = Callable[[Sequence[ir.Value]], Sequence[ir.Value]]


def _i64(value: int) -> ir.Constant:
    return ir.Constant(_I64, value)


def mended(
    f: Floats, mask: ir.Value, results: Sequence[ir.Value], emit: Callable[[], Sequence[ir.Value]]
) -> list[ir.Value]:
    """`results`, but what `emit` makes instead of all lanes if `mask` is set in any, which is rare."""
    b, before = f.builder, f.builder.block
    slow, done = b.append_basic_block("rare"), b.append_basic_block("common")
    b.cbranch(any_lane(b, mask), slow, done).set_weights([1, 4000])
    b.position_at_end(slow)
    replaced = emit()
    after = b.block
    b.branch(done)
    b.position_at_end(done)
    merged = []
    for result, other in zip(results, replaced, strict=True):
        phi = b.phi(result.type)
        phi.add_incoming(result, before)
        phi.add_incoming(other, after)
        merged.append(phi)
    return merged


def _replace(
    f: Floats, mask: ir.Value, operands: Sequence[ir.Value], results: Sequence[ir.Value], emit: Emit
) -> list[ir.Value]:
    """`results`, but where `mask` is set what `emit` makes of the operands, one lane at a time."""
    if f.width == 1:
        return mended(f, mask, results, lambda: emit(operands))
    return mended(f, mask, results, lambda: _each_lane(f, mask, operands, results, emit))


def _each_lane(
    f: Floats, mask: ir.Value, operands: Sequence[ir.Value], results: Sequence[ir.Value], emit: Emit
) -> list[ir.Value]:
    b, before = f.builder, f.builder.block
    loop, lane, following, end = (b.append_basic_block(f"rare.{n}") for n in ("loop", "lane", "next", "end"))
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(_I32)
    i.add_incoming(ir.Constant(_I32, 0), before)
    current = [b.phi(r.type) for r in results]
    for phi, r in zip(current, results, strict=True):
        phi.add_incoming(r, before)
    b.cbranch(b.extract_element(mask, i), lane, following)
    b.position_at_end(lane)
    values = emit([b.extract_element(x, i) for x in operands])
    inserted = [b.insert_element(phi, v, i) for phi, v in zip(current, values, strict=True)]
    lane_end = b.block
    b.branch(following)
    b.position_at_end(following)
    merged = []
    for phi, v in zip(current, inserted, strict=True):
        merged.append(b.phi(phi.type))
        merged[-1].add_incoming(phi, loop)
        merged[-1].add_incoming(v, lane_end)
        phi.add_incoming(merged[-1], following)
    step = b.add(i, ir.Constant(_I32, 1))
    i.add_incoming(step, following)
    b.cbranch(b.icmp_unsigned("<", step, ir.Constant(_I32, f.width)), loop, end)
    b.position_at_end(end)
    return merged


def _function(f: Floats, name: str, result: ir.Type, operands: Sequence[ir.Type], body: Callable[[Floats], None]):
    """The module's function `name`, written by `body` on first use."""
    module = f.builder.module
    known = module.globals.get(name)
    if known is not None:
        return known
    function = ir.Function(module, ir.FunctionType(result, operands), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    function.attributes.add("nounwind")
    body(Floats(Builder(function.append_basic_block("entry")), 1, 64, f.features))
    return function


def _wide(f: Floats, x: ir.Value) -> ir.Value:
    return x if f.bits == 64 else f.builder.fpext(x, _F64)


def _narrow(f: Floats, x: ir.Value) -> ir.Value:
    return x if f.bits == 64 else f.builder.fptrunc(x, f.element)


def reduce_huge(f: Floats, mask: ir.Value, x: ir.Value, results: Sequence[ir.Value]) -> list[ir.Value]:
    """(quadrant, high, low): `results`, but where `mask` is set those of |x| >= 2**10, inf or nan, of any size.

    x is quadrant * pi/2 + high - low.
    """
    b = f.builder
    kind = ir.LiteralStructType([_I64, _F64, _F64])
    reduce = _function(f, "tjit.reduce_half_pi", kind, [_F64], _reduce_body)

    def emit(operands: Sequence[ir.Value]) -> list[ir.Value]:
        parts = b.call(reduce, [_wide(f, operands[0])])
        quadrant, high, low = (b.extract_value(parts, i) for i in range(3))
        if f.bits == 64:
            return [quadrant, high, low]
        narrow = _narrow(f, high)
        rest = b.fadd(b.fsub(_wide(f, narrow), high), low)
        return [b.trunc(quadrant, _I32), narrow, _narrow(f, rest)]

    return _replace(f, mask, [x], results, emit)


def _high_product(b: ir.IRBuilder, x: ir.Value, y: ir.Value) -> ir.Value:
    """The upper half of the 128-bit product: by halves, for i128 would be a library call on 32-bit targets."""
    low, half = _i64(2**32 - 1), _i64(32)
    x0, x1, y0, y1 = b.and_(x, low), b.lshr(x, half), b.and_(y, low), b.lshr(y, half)
    middle = b.add(b.mul(x1, y0), b.lshr(b.mul(x0, y0), half))
    other = b.add(b.mul(x0, y1), b.and_(middle, low))
    return b.add(b.add(b.mul(x1, y1), b.lshr(middle, half)), b.lshr(other, half))


def _funnel(b: ir.IRBuilder, x: ir.Value, y: ir.Value, n: ir.Value) -> ir.Value:
    return call_intrinsic(b, "llvm.fshl", _I64, [x, y, n])


def _reduce_body(f: Floats) -> None:
    """Payne and Hanek: the product with the bits of 2/pi that matter, modulo 4, in 128-bit fixed point."""
    b = f.builder
    x = b.function.args[0]
    bits = f.to_bits(x)
    exponent = b.and_(b.lshr(bits, _i64(52)), _i64(2047))
    m = b.or_(b.and_(bits, _i64(2**52 - 1)), _i64(2**52))
    # x = m 2**e; bit i of 2/pi (1 is a half) gives a multiple of 4 where i <= e - 2; the table starts with 64 zeros
    start = b.add(b.sub(exponent, _i64(1075)), _i64(62))
    a2, a1, a0 = _window(f, start)
    low = b.mul(m, a1)
    high = b.add(b.mul(m, a2), _high_product(b, m, a1))
    total = b.add(low, _high_product(b, m, a0))
    high = b.add(high, b.zext(b.icmp_unsigned("<", total, low), _I64))
    quadrant = b.lshr(b.add(b.lshr(high, _i64(61)), _i64(1)), _i64(1))  # to nearest
    high, low = _funnel(b, high, total, _i64(2)), b.shl(total, _i64(2))
    # now a signed fraction of a quadrant
    sign = b.ashr(high, _i64(63))
    low = b.xor(low, sign)  # off by one in the last of 128 bits
    high = b.xor(high, sign)
    zeros = call_intrinsic(b, "llvm.ctlz", _I64, [high, ir.Constant(ir.IntType(1), 0)])
    high, low = _funnel(b, high, low, zeros), b.shl(low, zeros)
    scale = f.from_bits(b.shl(b.sub(_i64(1023), zeros), _i64(52)))
    y = f.mul(b.sitofp(b.lshr(high, _i64(11)), _F64), 2.0**-53)
    y_low = f.mul(b.sitofp(b.lshr(_funnel(b, high, low, _i64(53)), _i64(1)), _F64), 2.0**-116)
    first, second, _ = HALF_PI["f64"]
    r, r_low = f.two_product(y, first)
    r_low = f.fma(y, second, f.fma(y_low, first, r_low))
    negative = b.ashr(bits, _i64(63))
    quadrant = b.sub(b.xor(quadrant, negative), negative)
    scale = f.flip(scale, b.and_(b.xor(sign, negative), _i64(f.sign_bit)))
    r, r_low = f.fast_two_sum(r, r_low)
    r = f.add(f.mul(r, scale), f.sub(x, x))  # nan for inf
    result: ir.Value = ir.Constant(b.function.ftype.return_type, ir.Undefined)
    for i, v in enumerate((quadrant, r, f.mul(f.neg(r_low), scale))):
        result = b.insert_value(result, v, i)
    b.ret(result)


def _window(f: Floats, start: ir.Value) -> list[ir.Value]:
    """Three words of the table of 2/pi from bit `start`."""
    b = f.builder
    kind = ir.ArrayType(_I64, len(TWO_OVER_PI))
    table = ir.GlobalVariable(b.module, kind, "tjit.two_over_pi")
    table.linkage = "internal"
    table.global_constant = True
    table.initializer = ir.Constant(kind, list(TWO_OVER_PI))
    first = b.lshr(start, _i64(6))
    words = [b.load(b.gep(table, [_i64(0), b.add(first, _i64(i))], source_etype=kind), typ=_I64) for i in range(4)]
    return [_funnel(b, words[i], words[i + 1], b.and_(start, _i64(63))) for i in range(3)]


def fmod_far(f: Floats, mask: ir.Value, x: ir.Value, y: ir.Value, result: ir.Value) -> ir.Value:
    """`result`, but where `mask` is set fmod(x, y) of finite x >= y > 0."""
    function = _function(f, "tjit.fmod", _F64, [_F64, _F64], _fmod_body)

    def emit(operands: Sequence[ir.Value]) -> list[ir.Value]:
        return [_narrow(f, f.builder.call(function, [_wide(f, v) for v in operands]))]

    return _replace(f, mask, [x, y], [result], emit)[0]


def _fields(f: Floats, x: ir.Value) -> tuple[ir.Value, ir.Value]:
    """Exponent and mantissa of x > 0, with x = mantissa * 2**(exponent - 1075)."""
    b, bits = f.builder, f.to_bits(x)
    exponent = b.lshr(bits, _i64(52))
    denormal = b.icmp_unsigned("==", exponent, _i64(0))
    mantissa = b.or_(b.and_(bits, _i64(2**52 - 1)), b.select(denormal, _i64(0), _i64(2**52)))
    return b.select(denormal, _i64(1), exponent), mantissa


def _fmod_body(f: Floats) -> None:
    """Long division, eleven bits at a time."""
    b = f.builder
    (ex, mx), (ey, my) = (_fields(f, v) for v in b.function.args)
    entry, loop, step, end = b.block, *(b.append_basic_block(n) for n in ("loop", "step", "end"))
    distance = b.sub(ex, ey)
    b.branch(loop)
    b.position_at_end(loop)
    left, m = b.phi(_I64), b.phi(_I64)
    left.add_incoming(distance, entry)
    m.add_incoming(mx, entry)
    rest = b.urem(m, my)
    b.cbranch(b.icmp_signed(">", left, _i64(0)), step, end)
    b.position_at_end(step)
    by = b.select(b.icmp_signed("<", left, _i64(11)), left, _i64(11))
    m.add_incoming(b.shl(rest, by), step)
    left.add_incoming(b.sub(left, by), step)
    b.branch(loop)
    b.position_at_end(end)
    scale = f.from_bits(b.shl(ey, _i64(52)))
    b.ret(f.mul(f.mul(b.sitofp(rest, _F64), 2.0**-52), scale))
