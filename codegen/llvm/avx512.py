"""AVX-512's instructions for vector math: exponents, fractions, powers of two, estimates, tables held in registers.

Everything takes and gives lanes of f32 or f64, of any width: what is not whole registers is padded or split.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from llvmlite import ir

from tjit.codegen.llvm.vectors import TextConstant, numbers, zeros

if TYPE_CHECKING:
    from tjit.codegen.llvm.floats import Floats

__all__ = ["estimate", "exponent", "fraction", "lookup", "odd_by_pieces", "root_estimate", "scale"]

_I32 = ir.IntType(32)
_AS_THE_MODE_SAYS = ir.Constant(_I32, 4)  # rounding


def scale(f: Floats, x: ir.Value, n: ir.Value) -> ir.Value:
    """x * 2**floor(n), rounded once."""
    return _in_registers(f, lambda x, n: _masked(f, "scalef", [x, n], x), x, n)


def exponent(f: Floats, x: ir.Value) -> ir.Value:
    """floor(log2|x|): of 0 -inf, of an infinity inf, of nan nan."""
    return _in_registers(f, lambda x: _masked(f, "getexp", [x], x), x)


def fraction(f: Floats, x: ir.Value) -> ir.Value:
    """x / 2**exponent(x), in [1, 2): of 0 and of inf 1, of less than 0 and of nan nan."""
    negative_is_nan = ir.Constant(_I32, 2 << 2)
    return _in_registers(f, lambda x: _masked(f, "getmant", [x, negative_is_nan], x), x)


def estimate(f: Floats, x: ir.Value) -> ir.Value:
    """1 / x within 2**-14 of it; 0 where that is denormal."""
    return _in_registers(f, lambda x: _masked(f, "rcp14", [x], x, rounds=False), x)


def root_estimate(f: Floats, x: ir.Value) -> ir.Value:
    """1 / sqrt(x) within 2**-14 of it, of denormals too; of 0 inf, of inf 0, of less than 0 nan."""
    return _in_registers(f, lambda x: _masked(f, "rsqrt14", [x], x, rounds=False), x)


def lookup(f: Floats, index: ir.Value, table: Sequence[float]) -> ir.Value:
    """The element of a table that the lowest bits of integer lanes count: of one, two or four registers."""
    lanes = 512 // f.bits
    parts = [f.constants(table[i : i + lanes]) for i in range(0, len(table), lanes)]
    kind = "ps" if f.bits == 32 else "pd"

    def of_two(low: ir.Value, high: ir.Value, index: ir.Value) -> ir.Value:
        return _call(f, f"llvm.x86.avx512.vpermi2var.{kind}.512", low.type, [low, index, high])

    def of_register(index: ir.Value) -> ir.Value:
        if len(parts) == 1:
            name = f"llvm.x86.avx512.permvar.{'sf' if f.bits == 32 else 'df'}.512"
            return _call(f, name, parts[0].type, [parts[0], index])
        if len(parts) == 2:
            return of_two(parts[0], parts[1], index)
        bit = TextConstant(index.type, f"splat ({index.type.element} {2 * lanes})")
        upper = f.builder.icmp_unsigned("!=", f.builder.and_(index, bit), zeros(index.type))
        return f.builder.select(upper, of_two(parts[2], parts[3], index), of_two(parts[0], parts[1], index))

    return _in_registers(f, of_register, index, least=512)


def odd_by_pieces(f: Floats, x: ir.Value, scale: float, columns: Sequence[Sequence[float]]) -> ir.Value:
    """An odd function of f32 that ends at 1, by 32 polynomials.

    Args:
        scale: 3 / where it has come to 1.
        columns: of each piece its middle, the function there, then coefficients of the slope from there, by the
            distance; in the two next to 0, of f(a) / a - 1, by a**2.
    """
    a = f.clamp_above(f.abs(x), 2.99 / scale)
    u = f.fma(a, scale, 1.0)
    i = f.builder.lshr(f.to_bits(u), f.iconst(f.mantissa - 4))
    middle, value, *coefficients = (lookup(f, i, column) for column in columns)
    first, d = f.lt(u, 1.125), f.sub(a, middle)
    by = f.select(first, f.mul(a, a), d)
    slope = coefficients[-1]
    for c in reversed(coefficients[:-1]):
        slope = f.fma(slope, by, c)
    return f.copysign(f.fma(slope, d, f.select(first, a, value)), x)


def _masked(f: Floats, name: str, operands: Sequence[ir.Value], kept: ir.Value, *, rounds: bool = True) -> ir.Value:
    """An instruction that takes a mask, here of all lanes of one register."""
    lanes = kept.type.count
    bits = lanes * f.bits
    all_lanes = ir.Constant(ir.IntType(max(8, lanes)), (1 << lanes) - 1)
    mode = [_AS_THE_MODE_SAYS] if rounds and bits == 512 else []
    masked = "mask." if rounds else ""
    name = f"llvm.x86.avx512.{masked}{name}.p{'s' if f.bits == 32 else 'd'}.{bits}"
    return _call(f, name, kept.type, [*operands, kept, all_lanes, *mode])


def _call(f: Floats, name: str, result: ir.Type, operands: Sequence[ir.Value]) -> ir.Value:
    function = f.builder.module.globals.get(name)
    if function is None:
        function = ir.Function(f.builder.module, ir.FunctionType(result, [x.type for x in operands]), name)
    return f.builder.call(function, operands)


def _in_registers(f: Floats, function: Callable[..., ir.Value], *operands: ir.Value, least: int = 128) -> ir.Value:
    """`function` of registers of at least `least` bits, on lanes of any width."""
    lanes = max(least, min(512, _power_of_two_above(f.width * f.bits))) // f.bits
    parts = [function(*(_lanes(f, x, first, lanes) for x in operands)) for first in range(0, f.width, lanes)]
    if f.width == 1:
        return f.builder.extract_element(parts[0], ir.Constant(_I32, 0))
    while len(parts) > 1:
        both = range(2 * parts[0].type.count)
        pairs = [parts[i : i + 2] for i in range(0, len(parts), 2)]
        parts = [_shuffle(f, pair[0], pair[-1], both) for pair in pairs]
    return parts[0] if parts[0].type.count == f.width else _shuffle(f, parts[0], parts[0], range(f.width))


def _power_of_two_above(n: int) -> int:
    return 1 << (n - 1).bit_length()


def _lanes(f: Floats, x: ir.Value, first: int, count: int) -> ir.Value:
    """`count` lanes of x; those past its end are any."""
    if f.width == 1:
        undefined = ir.Constant(ir.VectorType(x.type, count), ir.Undefined)
        return f.builder.insert_element(undefined, x, ir.Constant(_I32, 0))
    if f.width == count:
        return x
    return _shuffle(f, x, x, [i % f.width for i in range(first, first + count)])


def _shuffle(f: Floats, x: ir.Value, y: ir.Value, index: Iterable[int]) -> ir.Value:
    return f.builder.shuffle_vector(x, y, numbers(tuple(index)))
