"""Integer operations that neither trap nor give poison."""

from __future__ import annotations

from typing import TYPE_CHECKING

from llvmlite import ir

from tjit.codegen.llvm.floats import any_lane, constant, vector

if TYPE_CHECKING:
    from tjit.codegen.llvm.scalars import Lane, LlvmScalars

__all__ = ["floor_div", "floor_mod", "from_float", "power", "shift", "trunc_div", "trunc_mod"]


class _Freeze(ir.Instruction):
    """LLVM's freeze, which llvmlite's builder lacks: turns poison into some fixed value."""

    def __init__(self, parent: ir.Block, value: ir.Value) -> None:
        super().__init__(parent, value.type, "freeze", [value])

    def descr(self, buf: list[str]) -> None:
        (value,) = self.operands
        buf.append(f"freeze {value.type} {value.get_reference()}\n")


def _freeze(b: ir.IRBuilder, value: ir.Value) -> ir.Value:
    instruction = _Freeze(b.block, value)
    b._insert(instruction)
    return instruction


def from_float(b: ir.IRBuilder, x: ir.Value, kind: ir.Type) -> ir.Value:
    """Truncation; narrow integers wrap from i32. Out of range it is what the target's instruction gives."""
    element = kind.element if isinstance(kind, ir.VectorType) else kind
    wide = vector(ir.IntType(max(32, element.width)), kind.count if isinstance(kind, ir.VectorType) else 1)
    value = _freeze(b, b.fptosi(x, wide))
    return b.trunc(value, kind) if element.width < 32 else value


def _divisor(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    """y, but 1 where x / y traps: for y = 0, and y = -1 under the least integer."""
    b = s.builder
    bad = s.eq(y, s.const(0, y)).value
    if y.dtype.is_signed:
        least = s.const(-(1 << (x.dtype.bits - 1)), x)
        bad = b.or_(bad, b.and_(s.eq(x, least).value, s.eq(y, s.const(-1, y)).value))
    return b.select(bad, s.const(1, y).value, y.value)


def _quotient(s: LlvmScalars, x: Lane, divisor: ir.Value) -> ir.Value:
    """x / divisor, to zero. Vectors of up to 32 bits divide as f64, which is exact and is an instruction."""
    b, kind = s.builder, x.value.type
    if x.dtype.bits == 64 or s.width == 1:
        return (b.sdiv if x.dtype.is_signed else b.udiv)(x.value, divisor)
    convert = b.sitofp if x.dtype.is_signed else b.uitofp
    f = s.f64 if x.dtype.bits == 32 else s.f32
    quotient = b.fdiv(convert(x.value, f.type), convert(divisor, f.type))
    return from_float(b, quotient, kind)


def _by_constant(s: LlvmScalars, x: Lane, d: int, *, down: bool) -> ir.Value:
    """x / d for a constant d > 0, to zero or down: a multiplication by about 2**k / d.

    Source: Granlund and Montgomery (1994), "Division by invariant integers using multiplication", theorem 4.2.
    """
    b, bits, kind = s.builder, x.dtype.bits, x.value.type
    if not x.dtype.is_signed:
        return b.udiv(x.value, s.const(d, x).value)
    log = (d - 1).bit_length()
    sign = b.ashr(x.value, constant(kind, str(bits - 1)))
    # down: ~(~x / d) for x < 0, else -(-x / d); what is divided is in [0, 2**(bits - 1)]
    n = b.xor(x.value, sign) if down else b.sub(b.xor(x.value, sign), sign)
    if d == 1 << log:
        quotient = b.lshr(n, constant(kind, str(log)))
    else:
        high = _high_product(s, n, (1 << (bits - 1 + log)) // d + 1, bits)
        quotient = b.lshr(high, constant(kind, str(log - 1)))
    quotient = b.xor(quotient, sign)
    return quotient if down else b.sub(quotient, sign)


def _high_product(s: LlvmScalars, n: ir.Value, factor: int, bits: int) -> ir.Value:
    """The upper half of the product of n and a constant, unsigned."""
    b, kind = s.builder, n.type
    if bits == 64 and s.width > 1:
        return _high_product_by_halves(b, n, factor)
    wide = vector(ir.IntType(2 * bits), s.width)
    product = b.mul(b.zext(n, wide), constant(wide, str(factor)))
    return b.trunc(b.lshr(product, constant(wide, str(bits))), kind)


def _high_product_by_halves(b: ir.IRBuilder, n: ir.Value, factor: int) -> ir.Value:
    """Of 64 bits: no target multiplies vectors of them to 128, but halves of them to 64."""
    mask, half = constant(n.type, str(0xFFFFFFFF)), constant(n.type, "32")
    low, high = (constant(n.type, str(f)) for f in (factor & 0xFFFFFFFF, factor >> 32))
    n_low, n_high = b.and_(n, mask), b.lshr(n, half)
    middle = b.add(b.mul(n_high, low), b.lshr(b.mul(n_low, low), half))
    other = b.add(b.mul(n_low, high), b.and_(middle, mask))
    return b.add(b.mul(n_high, high), b.add(b.lshr(middle, half), b.lshr(other, half)))


def _positive(y: Lane) -> int:
    """The number that y is known to be where that is more than 0; else 0."""
    return max(0, y.known or 0)


def trunc_div(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    if d := _positive(y):
        return _by_constant(s, x, d, down=False)
    return _quotient(s, x, _divisor(s, x, y))


def trunc_mod(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    if _positive(y):
        return _rest(s, x, y, trunc_div(s, x, y))
    b, divisor = s.builder, _divisor(s, x, y)
    return b.sub(x.value, b.mul(_quotient(s, x, divisor), divisor))


def _remainder_differs(s: LlvmScalars, rest: ir.Value, divisor: ir.Value) -> ir.Value:
    """Whether the remainder is not 0 and has the other sign."""
    b, zero = s.builder, constant(rest.type, "0")
    return b.and_(b.icmp_signed("<", b.xor(rest, divisor), zero), b.icmp_signed("!=", rest, zero))


def _rest(s: LlvmScalars, x: Lane, y: Lane, quotient: ir.Value) -> ir.Value:
    return s.builder.sub(x.value, s.builder.mul(quotient, y.value))


def floor_div(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    if d := _positive(y):
        return _by_constant(s, x, d, down=True)
    if not x.dtype.is_signed:
        return trunc_div(s, x, y)
    b, divisor = s.builder, _divisor(s, x, y)
    quotient = _quotient(s, x, divisor)
    rest = b.sub(x.value, b.mul(quotient, divisor))
    return b.add(quotient, b.sext(_remainder_differs(s, rest, divisor), rest.type))


def floor_mod(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    if _positive(y):
        return _rest(s, x, y, floor_div(s, x, y))
    if not x.dtype.is_signed:
        return trunc_mod(s, x, y)
    b, divisor = s.builder, _divisor(s, x, y)
    rest = b.sub(x.value, b.mul(_quotient(s, x, divisor), divisor))
    return b.select(_remainder_differs(s, rest, divisor), b.add(rest, divisor), rest)


def shift(s: LlvmScalars, name: str, x: Lane, y: Lane) -> ir.Value:
    """x shifted by y, as if by many shifts of one where y is the width or more."""
    b, last = s.builder, x.dtype.bits - 1
    inside = b.icmp_unsigned("<=", y.value, s.const(last, y).value)
    by = b.select(inside, y.value, s.const(last, y).value)
    shifted = getattr(b, name)(x.value, by)
    return shifted if name == "ashr" else b.select(inside, shifted, s.const(0, x).value)


def power(s: LlvmScalars, x: Lane, y: Lane) -> ir.Value:
    """x**y by squaring; for y < 0, what of 1 / x**-y is an integer."""
    b, one, zero = s.builder, s.const(1, x).value, s.const(0, x).value
    entry, loop, end = b.block, b.append_basic_block("power"), b.append_basic_block("power.end")
    b.branch(loop)
    b.position_at_end(loop)
    result, base, left = (b.phi(x.value.type) for _ in range(3))
    odd = b.icmp_unsigned("!=", b.and_(left, one), zero)
    product = b.select(odd, b.mul(result, base), result)
    square, rest = b.mul(base, base), b.lshr(left, one)
    for phi, first, following in ((result, one, product), (base, x.value, square), (left, y.value, rest)):
        phi.add_incoming(first, entry)
        phi.add_incoming(following, loop)
    b.cbranch(any_lane(b, b.icmp_unsigned("!=", rest, zero)), loop, end)
    b.position_at_end(end)
    if not x.dtype.is_signed:
        return product
    minus = s.const(-1, x)
    unit = b.or_(s.eq(x, s.const(1, x)).value, s.eq(x, minus).value)
    parity = b.select(b.icmp_unsigned("!=", b.and_(y.value, one), zero), x.value, one)
    return b.select(s.lt(y, s.const(0, y)).value, b.select(unit, parity, zero), product)
