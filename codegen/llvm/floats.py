"""IEEE arithmetic of one float format over llvmlite's builder: what the vector math is written with.

Everything takes and gives `ir.Value`s of the type `Floats.type`: f32 or f64, one lane or a vector of lanes. There are
no fast-math flags, and nothing here becomes a call of a math library.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from functools import lru_cache

from llvmlite import ir

from tjit.codegen.llvm import avx512
from tjit.codegen.llvm.vectors import TextConstant
from tjit.dataclass import dataclass

__all__ = ["Features", "Floats", "Pair", "any_lane", "call_intrinsic", "constant", "float_text", "vector"]

Pair = tuple[ir.Value, ir.Value]  # an unevaluated sum, the second far smaller


@dataclass(frozen=True, slots=True)
class Features:
    """What the target does in one instruction.

    Attributes:
        fma: fused multiply-add (x86: FMA3).
        rounding: floor, ceil, trunc and round to even (x86: SSE4.1).
        half: f16 to and from f32 (x86: F16C).
        avx512: what `codegen.llvm.avx512` is made of (x86: AVX-512F, VL, BW and DQ).
    """

    fma: bool = True
    rounding: bool = True
    half: bool = True
    avx512: bool = False


def vector(element: ir.Type, width: int) -> ir.Type:
    """The type of `width` lanes; one lane is a plain scalar."""
    return element if width == 1 else ir.VectorType(element, width)


def _mangled(t: ir.Type) -> str:
    return f"v{t.count}{t.element.intrinsic_name}" if isinstance(t, ir.VectorType) else t.intrinsic_name


def call_intrinsic(
    b: ir.IRBuilder, name: str, result: ir.Type, operands: Sequence[ir.Value], overloaded: bool = True
) -> ir.Value:
    """Call the LLVM intrinsic `name`, usually overloaded on its result."""
    full = f"{name}.{_mangled(result)}" if overloaded else name
    function = b.module.globals.get(full)
    if function is None:
        function = ir.Function(b.module, ir.FunctionType(result, [x.type for x in operands]), full)
    return b.call(function, operands)


def constant(t: ir.Type, text: str) -> ir.Value:
    """A constant of one element's text in every lane."""
    return TextConstant(t, f"splat ({t.element} {text})" if isinstance(t, ir.VectorType) else text)


def float_text(value: float) -> str:
    return f"0x{struct.unpack('>Q', struct.pack('>d', value))[0]:016X}"


@lru_cache(maxsize=256)
def _constants(element: ir.Type, packed: bytes) -> ir.Value:
    """A vector of numbers of 8 bytes each; made once, for its text is long. As numbers, 0 and -0 would be one key."""
    values = [f"{element} {float_text(v)}" for (v,) in struct.iter_unpack("d", packed)]
    return TextConstant(ir.VectorType(element, len(values)), f"<{', '.join(values)}>")


def any_lane(b: ir.IRBuilder, mask: ir.Value) -> ir.Value:
    """Whether any lane of a bool is set, as one i1."""
    if not isinstance(mask.type, ir.VectorType):
        return mask
    bits = ir.IntType(mask.type.count)
    return b.icmp_unsigned("!=", b.bitcast(mask, bits), ir.Constant(bits, 0))


class Floats:
    """Arithmetic on lanes of one float format.

    Attributes:
        name: "f32" or "f64", the key in the tables of `coefficients`.
        precise: the math aims at 1 ulp (f32), not at 2 (f64): worth the correction of a quotient.
    """

    def __init__(self, builder: ir.IRBuilder, width: int, bits: int, features: Features) -> None:
        self.builder = builder
        self.width = width
        self.bits = bits
        self.features = features
        self.name = f"f{bits}"
        self.precise = bits == 32
        self.element = ir.FloatType() if bits == 32 else ir.DoubleType()
        self.type = vector(self.element, width)
        self.int_type = vector(ir.IntType(bits), width)
        self.mantissa = 23 if bits == 32 else 52
        self.bias = 127 if bits == 32 else 1023
        self.least_normal = 2.0 ** (1 - self.bias)
        self.greatest = (2 - 2.0**-self.mantissa) * 2.0**self.bias
        self.magic = 1.5 * 2.0**self.mantissa  # x + magic is rounded to an integer, held in the low bits
        self.sign_bit = 1 << (bits - 1)

    # constants

    def const(self, value: float) -> ir.Value:
        return constant(self.type, float_text(self._rounded(value)))

    def _rounded(self, value: float) -> float:
        return struct.unpack("f", struct.pack("f", value))[0] if self.bits == 32 else value

    def bits_of(self, value: float) -> int:
        """The bits of a number of the format."""
        kind = "f" if self.bits == 32 else "d"
        return int.from_bytes(struct.pack(f"<{kind}", value), "little")

    def constants(self, values: Sequence[float]) -> ir.Value:
        """A vector of these numbers, of the format, whatever the width."""
        return _constants(self.element, struct.pack(f"{len(values)}d", *values))

    def iconst(self, value: int) -> ir.Value:
        return constant(self.int_type, str(value))

    @property
    def inf(self) -> ir.Value:
        return self.const(float("inf"))

    @property
    def nan(self) -> ir.Value:
        return self.const(float("nan"))

    # arithmetic; a Python number is a constant

    def _value(self, x: ir.Value | float) -> ir.Value:
        return x if isinstance(x, ir.Value) else self.const(x)

    def add(self, x: ir.Value | float, y: ir.Value | float) -> ir.Value:
        return self.builder.fadd(self._value(x), self._value(y))

    def sub(self, x: ir.Value | float, y: ir.Value | float) -> ir.Value:
        return self.builder.fsub(self._value(x), self._value(y))

    def mul(self, x: ir.Value | float, y: ir.Value | float) -> ir.Value:
        return self.builder.fmul(self._value(x), self._value(y))

    def div(self, x: ir.Value | float, y: ir.Value | float) -> ir.Value:
        x, y = self._value(x), self._value(y)
        if not isinstance(x, ir.Constant) and not isinstance(y, ir.Constant):
            # LLVM 22 takes 0 / 0 for 0 in lanes of which it knows that they are 0
            y = self.intrinsic("llvm.arithmetic.fence", y)
        return self.builder.fdiv(x, y)

    def neg(self, x: ir.Value) -> ir.Value:
        return self.builder.fneg(x)

    def fma(self, x: ir.Value | float, y: ir.Value | float, z: ir.Value | float) -> ir.Value:
        """x*y + z, rounded once if the target can, else twice."""
        if y == 1.0:  # LLVM would multiply
            return self.add(x, z)
        x, y, z = self._value(x), self._value(y), self._value(z)
        if self.features.fma:
            return self.intrinsic("llvm.fma", x, y, z)
        return self.builder.fadd(self.builder.fmul(x, y), z)

    def fnma(self, x: ir.Value, y: ir.Value | float, z: ir.Value | float) -> ir.Value:
        """z - x*y."""
        return self.fma(self.neg(x), y, z) if isinstance(y, ir.Value) else self.fma(x, -y, z)

    def polynomial(self, x: ir.Value, coefficients: Sequence[float], square: ir.Value | None = None) -> ir.Value:
        """The polynomial in x, lowest coefficient first; `square` is x*x where known.

        Long ones are split in two halves of half the latency, but for the last step, whose rounding counts.
        """
        first, *rest = coefficients
        if len(rest) < 4 or (square is None and len(rest) < 6):
            return self._horner(x, coefficients)
        square = square or self.mul(x, x)
        inner = self.fma(self._horner(square, rest[1::2]), x, self._horner(square, rest[::2]))
        return self.fma(inner, x, first)

    def _horner(self, x: ir.Value, coefficients: Sequence[float]) -> ir.Value:
        result = self.const(coefficients[-1])
        for c in reversed(coefficients[:-1]):
            result = self.fma(result, x, c)
        return result

    def intrinsic(self, name: str, *operands: ir.Value) -> ir.Value:
        return call_intrinsic(self.builder, name, self.type, operands)

    def abs(self, x: ir.Value) -> ir.Value:
        return self.intrinsic("llvm.fabs", x)

    def sqrt(self, x: ir.Value) -> ir.Value:
        return self.intrinsic("llvm.sqrt", x)

    def copysign(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.intrinsic("llvm.copysign", x, y)

    # comparison

    def lt(self, x: ir.Value, y: ir.Value | float) -> ir.Value:
        return self.builder.fcmp_ordered("<", x, self._value(y))

    def gt(self, x: ir.Value, y: ir.Value | float) -> ir.Value:
        return self.builder.fcmp_ordered(">", x, self._value(y))

    def eq(self, x: ir.Value, y: ir.Value | float) -> ir.Value:
        return self.builder.fcmp_ordered("==", x, self._value(y))

    def ne(self, x: ir.Value, y: ir.Value | float) -> ir.Value:
        return self.builder.fcmp_unordered("!=", x, self._value(y))

    def is_nan(self, x: ir.Value) -> ir.Value:
        return self.builder.fcmp_unordered("uno", x, x)

    def select(self, condition: ir.Value, x: ir.Value | float, y: ir.Value | float) -> ir.Value:
        return self.builder.select(condition, self._value(x), self._value(y))

    def clamp_below(self, x: ir.Value, low: float) -> ir.Value:
        """max(x, low); nan stays."""
        return self.select(self.builder.fcmp_ordered(">", self.const(low), x), low, x)

    def clamp_above(self, x: ir.Value, high: float) -> ir.Value:
        """min(x, high); nan stays."""
        return self.select(self.builder.fcmp_ordered("<", self.const(high), x), high, x)

    # bits

    def to_bits(self, x: ir.Value) -> ir.Value:
        return self.builder.bitcast(x, self.int_type)

    def from_bits(self, x: ir.Value) -> ir.Value:
        return self.builder.bitcast(x, self.type)

    def sign_of(self, x: ir.Value) -> ir.Value:
        """The sign bit of x, an integer with only this bit."""
        return self.builder.and_(self.to_bits(x), self.iconst(self.sign_bit))

    def flip(self, x: ir.Value, sign: ir.Value) -> ir.Value:
        """x with its sign flipped where `sign` has the sign bit."""
        return self.from_bits(self.builder.xor(self.to_bits(x), sign))

    def power_of_two(self, n: ir.Value, more: int = 0) -> ir.Value:
        """2**(n + more) for an integer n held as a float; the sum in -bias (which gives 0) to bias."""
        t = self.to_bits(self.add(n, self.magic + self.bias + more))
        return self.from_bits(self.builder.shl(t, self.iconst(self.mantissa)))

    def scale(self, x: ir.Value, n: ir.Value) -> ir.Value:
        """x * 2**n, rounded once, for an integer |n| < 2 bias held as a float."""
        if self.features.avx512:
            return avx512.scale(self, x, n)
        t = self.fma(n, 0.5, self.magic + self.bias)
        half = self.sub(t, self.magic + self.bias)
        first = self.from_bits(self.builder.shl(self.to_bits(t), self.iconst(self.mantissa)))
        return self.mul(self.mul(x, first), self.power_of_two(self.sub(n, half)))

    # rounding

    def nearest(self, x: ir.Value) -> ir.Value:
        """x rounded to an integer, for |x| < 2**(mantissa - 1)."""
        return self.sub(self.add(x, self.magic), self.magic)

    def round(self, x: ir.Value) -> ir.Value:
        """To nearest, ties to even; keeps -0, inf, nan."""
        if self.features.rounding:
            return self.intrinsic("llvm.roundeven", x)
        a = self.abs(x)
        t = self.sub(self.add(a, 2.0**self.mantissa), 2.0**self.mantissa)
        return self.select(self.lt(a, 2.0**self.mantissa), self.copysign(t, x), x)

    def floor(self, x: ir.Value) -> ir.Value:
        if self.features.rounding:
            return self.intrinsic("llvm.floor", x)
        r = self.round(x)
        return self.copysign(self.sub(r, self.select(self.gt(r, x), 1.0, 0.0)), x)

    def ceil(self, x: ir.Value) -> ir.Value:
        if self.features.rounding:
            return self.intrinsic("llvm.ceil", x)
        return self.neg(self.floor(self.neg(x)))

    def trunc(self, x: ir.Value) -> ir.Value:
        if self.features.rounding:
            return self.intrinsic("llvm.trunc", x)
        return self.copysign(self.floor(self.abs(x)), x)

    # exact and compensated arithmetic

    def fast_two_sum(self, x: ir.Value | float, y: ir.Value | float) -> Pair:
        """x + y and its rounding error, for |x| >= |y| or x = 0."""
        s = self.add(x, y)
        return s, self.add(self.sub(x, s), y)

    def two_sum(self, x: ir.Value, y: ir.Value) -> Pair:
        """x + y and its rounding error (Knuth)."""
        s = self.add(x, y)
        t = self.sub(s, x)
        return s, self.add(self.sub(x, self.sub(s, t)), self.sub(y, t))

    def two_difference(self, x: ir.Value, y: ir.Value) -> Pair:
        """d, the rounded x - y, and d - (x - y)."""
        d = self.sub(x, y)
        t = self.sub(x, d)
        return d, self.sub(self.sub(y, t), self.sub(x, self.add(d, t)))

    def two_product(self, x: ir.Value, y: ir.Value | float) -> Pair:
        """x * y and its rounding error (nearly, without fma)."""
        y = self._value(y)
        p = self.mul(x, y)
        if self.features.fma:
            return p, self.fma(x, y, self.neg(p))
        (xh, xl), (yh, yl) = self._halves(x), self._halves(y)
        e = self.sub(self.mul(xh, yh), p)
        e = self.add(self.add(e, self.mul(xh, yl)), self.mul(xl, yh))
        return p, self.add(e, self.mul(xl, yl))

    def _halves(self, x: ir.Value) -> Pair:
        """Two parts of x of half its digits each."""
        low = self.mantissa // 2 + 1
        high = self.from_bits(self.builder.and_(self.to_bits(x), self.iconst((1 << self.bits) - (1 << low))))
        return high, self.sub(x, high)

    def quotient(self, x: Pair, y: Pair, reciprocal: ir.Value | None = None) -> ir.Value:
        """(x[0] + x[1]) / (y[0] + y[1]), within 0.6 ulp; `reciprocal` is near 1 / y[0] if that is known.

        y[0] and 1 / y[0] are normal, or what comes out is not used; that of 0 has the sign of x[0].
        """
        reciprocal = reciprocal or self.near_reciprocal(y[0])
        q = self.mul(x[0], reciprocal)
        excess = self.fma(q, y[1], self.sub(self.product_less(q, y[0], x[0]), x[1]))
        return self.fnma(excess, reciprocal, q)

    def near_reciprocal(self, x: ir.Value) -> ir.Value:
        """1 / x to at least half of the digits, for normal x and 1 / x."""
        if not self.features.avx512:
            return self.div(1.0, x)
        y = avx512.estimate(self, x)
        return y if self.bits == 32 else self.fma(self.fnma(x, y, 1.0), y, y)

    def product_less(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x*y - z where they nearly cancel, rounded once (nearly, without fma)."""
        if self.features.fma:
            return self.fma(x, y, self.neg(z))
        p, e = self.two_product(x, y)
        return self.add(self.sub(p, z), e)

    def sub_product(self, x: ir.Value, y: ir.Value, z: ir.Value) -> ir.Value:
        """x - y*z where they nearly cancel, rounded once (nearly, without fma)."""
        if self.features.fma:
            return self.fnma(y, z, x)
        p, e = self.two_product(y, z)
        return self.sub(self.sub(x, p), e)
