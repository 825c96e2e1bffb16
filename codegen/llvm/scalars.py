"""`Scalars` over llvmlite's IR builder: one lane, or vectors of lanes, written once for both."""

from __future__ import annotations

from collections.abc import Callable

from llvmlite import ir

from tjit.codegen.llvm import (
    integer_ops,
    math_error,
    math_exp,
    math_inverse_trig,
    math_log,
    math_pow,
    math_trig,
    remainders,
)
from tjit.codegen.llvm.floats import Features, Floats, constant, float_text, vector
from tjit.codegen.llvm.memory import bf16_bits, bf16_value, f16_bits, f16_value
from tjit.codegen.llvm.vectors import splat
from tjit.codegen.scalars import held
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bf16, bool_, f16, f32, f64
from tjit.ops.erf import erfinv_by_steps

__all__ = ["Features", "Lane", "LlvmScalars"]

_EXACT = 256  # f16 and bf16 hold all integers up to it


@dataclass(frozen=True, slots=True)
class Lane:
    """A value in a register: f16 and bf16 are held as f32, bool as i1.

    Attributes:
        known: the integer that it is in every lane; None: not known.
        rounded: an f16 or a bf16 that is one: computations leave more digits.
    """

    value: ir.Value
    dtype: DType
    known: int | None = None
    rounded: bool = False


def _wrapped(value: int, dtype: DType) -> int:
    """The number of `dtype` that an integer wraps to."""
    half = (1 << dtype.bits) >> dtype.is_signed
    return (value + half) % (1 << dtype.bits) - half if dtype.is_signed else value % (1 << dtype.bits)


class LlvmScalars:
    """The operations of `codegen.scalars.Scalars` on `Lane`s.

    A call may end the builder's block (rare lanes branch): ask the builder for its block afterwards.

    Args:
        builder: where instructions go.
        width: lanes of a vector; 1 gives plain scalars.
        features: what the target has.
    """

    def __init__(self, builder: ir.IRBuilder, width: int, features: Features | None = None) -> None:
        self.builder = builder
        self.width = width
        self.features = features or Features()
        self.f32 = Floats(builder, width, 32, self.features)
        self.f64 = Floats(builder, width, 64, self.features)

    # types and memory

    def register_type(self, dtype: DType) -> ir.Type:
        if dtype.is_floating_point:
            return (self.f64 if dtype is f64 else self.f32).type
        return vector(ir.IntType(1 if dtype is bool_ else dtype.bits), self.width)

    def memory_type(self, dtype: DType) -> ir.Type:
        if dtype is f32 or dtype is f64:
            return self.register_type(dtype)
        if dtype is f16 and self.features.half:
            return vector(ir.HalfType(), self.width)
        return vector(ir.IntType(dtype.bits), self.width)

    def from_memory(self, value: ir.Value, dtype: DType) -> Lane:
        """A lane from a loaded `memory_type`."""
        b = self.builder
        if dtype is bool_:
            value = b.icmp_unsigned("!=", value, constant(value.type, "0"))
        elif dtype is f16:
            value = b.fpext(value, self.f32.type) if self.features.half else f16_value(self.f32, value)
        elif dtype is bf16:
            wide = b.zext(value, self.f32.int_type)
            value = self.f32.from_bits(b.shl(wide, self.f32.iconst(16)))
        return Lane(value, dtype, rounded=True)

    def to_memory(self, lane: Lane) -> ir.Value:
        """The `memory_type` to store, rounded to the lane's dtype."""
        b, kind = self.builder, self.memory_type(lane.dtype)
        if lane.dtype is bool_:
            return b.zext(lane.value, kind)
        if lane.dtype is f16:
            return b.fptrunc(lane.value, kind) if self.features.half else f16_bits(self.f32, lane.value)
        if lane.dtype is bf16:
            bits = self.f32.to_bits(self.rounded(lane).value)
            return b.trunc(b.lshr(bits, self.f32.iconst(16)), kind)
        return lane.value

    # constants

    def dtype(self, x: Lane) -> DType:
        return x.dtype

    def const(self, value: bool | int | float, like: Lane) -> Lane:
        wide = self.constant(value, held(like.dtype))  # a body's constants are as wide as its registers
        return Lane(wide.value, like.dtype, wide.known, rounded=abs(value) <= _EXACT and value == int(value))

    def constant(self, value: bool | int | float, dtype: DType) -> Lane:
        """A constant of `dtype`, rounded to it; integers wrap."""
        if dtype.is_floating_point:
            rounded = float(dtype.numpy.type(value))
            return Lane(constant(self.register_type(dtype), float_text(rounded)), dtype, rounded=True)
        if dtype is bool_:
            return Lane(constant(self.register_type(dtype), "true" if value else "false"), dtype)
        number = _wrapped(int(value), dtype)
        return Lane(constant(self.register_type(dtype), str(number & ((1 << dtype.bits) - 1))), dtype, number)

    def splat(self, value: ir.Value, dtype: DType) -> Lane:
        """One scalar register in every lane."""
        if self.width == 1:
            return Lane(value, dtype)
        return Lane(splat(self.builder, value, self.width), dtype)

    # casts

    def cast(self, x: Lane, dtype: DType) -> Lane:
        if x.dtype is dtype:
            return x
        if dtype is bool_:
            return self.ne(x, self.const(0, x))
        if x.dtype.is_floating_point:
            return self._cast_float(x, dtype)
        return self._cast_int(x, dtype)

    def _cast_int(self, x: Lane, dtype: DType) -> Lane:
        b, kind = self.builder, self.register_type(dtype)
        signed = x.dtype.is_signed
        if dtype.is_floating_point:
            value = (b.sitofp if signed else b.uitofp)(x.value, kind)
            return Lane(self._rounded(value, dtype), dtype, rounded=True)
        if dtype.bits > x.dtype.bits or x.dtype is bool_:
            return Lane((b.sext if signed else b.zext)(x.value, kind), dtype)
        return Lane(b.trunc(x.value, kind) if dtype.bits < x.dtype.bits else x.value, dtype)

    def _cast_float(self, x: Lane, dtype: DType) -> Lane:
        b, value = self.builder, x.value
        if not dtype.is_floating_point:
            return Lane(integer_ops.from_float(b, value, self.register_type(dtype)), dtype)
        if x.dtype is f64:
            value = b.fptrunc(self._odd(value) if dtype is f16 else value, self.f32.type)
        elif dtype is f64:
            value = b.fpext(value, self.f64.type)
        return Lane(self._rounded(value, dtype), dtype, rounded=True)

    def _odd(self, x: ir.Value) -> ir.Value:
        """An f64 cut to f32's digits, with a last bit that tells if anything was lost: it may be rounded again."""
        b, f = self.builder, self.f64
        bits = f.to_bits(x)
        lost = b.icmp_unsigned("!=", b.and_(bits, f.iconst((1 << 29) - 1)), f.iconst(0))
        cut = b.and_(bits, f.iconst((1 << 64) - (1 << 29)))
        return f.from_bits(b.or_(cut, b.select(lost, f.iconst(1 << 29), f.iconst(0))))

    def rounded(self, x: Lane) -> Lane:
        """The value that memory of the lane's dtype would hold, of one computed of lanes of this dtype."""
        if x.rounded or x.dtype not in (f16, bf16):
            return x
        if x.dtype is bf16:
            return Lane(bf16_value(self.f32, x.value), bf16, rounded=True)
        return Lane(self._rounded(x.value, x.dtype), x.dtype, rounded=True)

    def _rounded(self, value: ir.Value, dtype: DType) -> ir.Value:
        """An f32 register rounded to f16 or bf16; others as they are."""
        if dtype is bf16:
            high = self.builder.and_(bf16_bits(self.f32, value), self.f32.iconst(0xFFFF0000))
            return self.f32.from_bits(high)
        if dtype is f16:
            return self.from_memory(self.to_memory(Lane(value, f16)), f16).value
        return value

    # arithmetic

    def _floats(self, x: Lane) -> Floats:
        return self.f64 if x.dtype is f64 else self.f32

    def _binary(self, x: Lane, y: Lane, floating: str, integer: str, boolean: str) -> Lane:
        name = floating if x.dtype.is_floating_point else boolean if x.dtype is bool_ else integer
        return Lane(getattr(self.builder, name)(x.value, y.value), x.dtype)

    def add(self, x: Lane, y: Lane) -> Lane:
        return self._binary(x, y, "fadd", "add", "or_")

    def sub(self, x: Lane, y: Lane) -> Lane:
        return self._binary(x, y, "fsub", "sub", "xor")

    def mul(self, x: Lane, y: Lane) -> Lane:
        return self._binary(x, y, "fmul", "mul", "and_")

    def div(self, x: Lane, y: Lane) -> Lane:
        return self._float2(Floats.div, x, y)

    def floor_div(self, x: Lane, y: Lane) -> Lane:
        return Lane(integer_ops.floor_div(self, x, y), x.dtype)

    def trunc_div(self, x: Lane, y: Lane) -> Lane:
        return Lane(integer_ops.trunc_div(self, x, y), x.dtype)

    def floor_mod(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.is_floating_point:
            return self._float2(remainders.floor_mod, x, y)
        return Lane(integer_ops.floor_mod(self, x, y), x.dtype)

    def trunc_mod(self, x: Lane, y: Lane) -> Lane:
        if x.dtype.is_floating_point:
            return self._float2(remainders.trunc_mod, x, y)
        return Lane(integer_ops.trunc_mod(self, x, y), x.dtype)

    def neg(self, x: Lane) -> Lane:
        if x.dtype.is_floating_point:
            return Lane(self.builder.fneg(x.value), x.dtype, rounded=x.rounded)
        return Lane(self.builder.neg(x.value), x.dtype)

    def abs(self, x: Lane) -> Lane:
        if x.dtype.is_floating_point:
            return Lane(self._floats(x).abs(x.value), x.dtype, rounded=x.rounded)
        return self.select(self.lt(x, self.const(0, x)), self.neg(x), x) if x.dtype.is_signed else x

    def fma(self, x: Lane, y: Lane, z: Lane) -> Lane:
        if x.dtype.is_floating_point:
            return Lane(self._floats(x).fma(x.value, y.value, z.value), x.dtype)
        return self.add(self.mul(x, y), z)

    def maximum(self, x: Lane, y: Lane) -> Lane:
        return self._extreme(x, y, ">", "or_")

    def minimum(self, x: Lane, y: Lane) -> Lane:
        return self._extreme(x, y, "<", "and_")

    def _extreme(self, x: Lane, y: Lane, sign: str, boolean: str) -> Lane:
        b = self.builder
        if x.dtype is bool_:
            return Lane(getattr(b, boolean)(x.value, y.value), x.dtype)
        chosen = self.select(self._compare(sign, x, y), x, y)  # y if either is nan
        if not x.dtype.is_floating_point:
            return chosen
        return self.select(Lane(self._floats(x).is_nan(x.value), bool_), x, chosen)

    # floats

    def _float1(self, function: Callable[[Floats, ir.Value], ir.Value], x: Lane) -> Lane:
        return Lane(function(self._floats(x), x.value), x.dtype)

    def _float2(self, function: Callable[[Floats, ir.Value, ir.Value], ir.Value], x: Lane, y: Lane) -> Lane:
        return Lane(function(self._floats(x), x.value, y.value), x.dtype)

    def _math(self, function: Callable[..., ir.Value], *operands: Lane) -> Lane:
        """The error terms of the f32 functions need fma: without, they are computed in f64 and rounded."""
        dtype, values = operands[0].dtype, [x.value for x in operands]
        if dtype is f64 or self.features.fma:
            return Lane(function(self._floats(operands[0]), *values), dtype)
        return self._in_f64(function, operands)

    def _in_f64(self, function: Callable[..., ir.Value], operands: tuple[Lane, ...]) -> Lane:
        wide = [self.builder.fpext(x.value, self.f64.type) for x in operands]
        return Lane(self.builder.fptrunc(function(self.f64, *wide), self.f32.type), operands[0].dtype)

    def floor(self, x: Lane) -> Lane:
        return self._float1(Floats.floor, x)

    def ceil(self, x: Lane) -> Lane:
        return self._float1(Floats.ceil, x)

    def trunc(self, x: Lane) -> Lane:
        return self._float1(Floats.trunc, x)

    def round(self, x: Lane) -> Lane:
        return self._float1(Floats.round, x)

    def sqrt(self, x: Lane) -> Lane:
        return self._float1(Floats.sqrt, x)

    def copysign(self, x: Lane, y: Lane) -> Lane:
        return self._float2(Floats.copysign, x, y)

    def rsqrt(self, x: Lane) -> Lane:
        return self._math(math_exp.rsqrt, x)

    def exp(self, x: Lane) -> Lane:
        return self._math(math_exp.exp, x)

    def exp2(self, x: Lane) -> Lane:
        return self._math(math_exp.exp2, x)

    def expm1(self, x: Lane) -> Lane:
        return self._math(math_exp.expm1, x)

    def log(self, x: Lane) -> Lane:
        return self._math(math_log.log, x)

    def log2(self, x: Lane) -> Lane:
        return self._math(math_log.log2, x)

    def log10(self, x: Lane) -> Lane:
        return self._math(math_log.log10, x)

    def log1p(self, x: Lane) -> Lane:
        return self._math(math_log.log1p, x)

    def sin(self, x: Lane) -> Lane:
        return self._math(math_trig.sin, x)

    def cos(self, x: Lane) -> Lane:
        return self._math(math_trig.cos, x)

    def tan(self, x: Lane) -> Lane:
        return self._math(math_trig.tan, x)

    def asin(self, x: Lane) -> Lane:
        return self._math(math_inverse_trig.asin, x)

    def acos(self, x: Lane) -> Lane:
        return self._math(math_inverse_trig.acos, x)

    def atan(self, x: Lane) -> Lane:
        return self._math(math_inverse_trig.atan, x)

    def atan2(self, x: Lane, y: Lane) -> Lane:
        return self._math(math_inverse_trig.atan2, x, y)

    def sinh(self, x: Lane) -> Lane:
        return self._math(math_exp.sinh, x)

    def cosh(self, x: Lane) -> Lane:
        return self._math(math_exp.cosh, x)

    def tanh(self, x: Lane) -> Lane:
        return self._math(math_exp.tanh, x)

    def erf(self, x: Lane) -> Lane:
        return self._math(math_error.erf, x)

    def erfc(self, x: Lane) -> Lane:
        if x.dtype is f64:
            return self._float1(math_error.erfc, x)
        return self._in_f64(math_error.erfc_of_f32, (x,))

    def erfinv(self, x: Lane) -> Lane:
        if self.features.avx512:
            return self._math(math_error.erfinv, x)
        if x.dtype is f64:
            return erfinv_by_steps(self, x, 2)
        return self._in_f64(lambda _, wide: erfinv_by_steps(self, Lane(wide, f64), 1).value, (x,))

    def sigmoid(self, x: Lane) -> Lane:
        return self._math(math_exp.sigmoid, x)

    def pow(self, x: Lane, y: Lane) -> Lane:
        if not x.dtype.is_floating_point:
            return Lane(integer_ops.power(self, x, y), x.dtype)
        if x.dtype is f64:
            return self._float2(math_pow.power, x, y)
        return Lane(math_pow.power_of_f32(self.f32, self.f64, x.value, y.value), x.dtype)

    # comparisons

    def _compare(self, sign: str, x: Lane, y: Lane) -> Lane:
        b = self.builder
        if not x.dtype.is_floating_point:
            value = (b.icmp_signed if x.dtype.is_signed else b.icmp_unsigned)(sign, x.value, y.value)
        elif sign == "!=":
            value = b.fcmp_unordered(sign, x.value, y.value)
        else:
            value = b.fcmp_ordered(sign, x.value, y.value)
        return Lane(value, bool_)

    def eq(self, x: Lane, y: Lane) -> Lane:
        return self._compare("==", x, y)

    def ne(self, x: Lane, y: Lane) -> Lane:
        return self._compare("!=", x, y)

    def lt(self, x: Lane, y: Lane) -> Lane:
        return self._compare("<", x, y)

    def le(self, x: Lane, y: Lane) -> Lane:
        return self._compare("<=", x, y)

    def gt(self, x: Lane, y: Lane) -> Lane:
        return self._compare(">", x, y)

    def ge(self, x: Lane, y: Lane) -> Lane:
        return self._compare(">=", x, y)

    def select(self, condition: Lane, x: Lane, y: Lane) -> Lane:
        chosen = self.builder.select(condition.value, x.value, y.value)
        return Lane(chosen, x.dtype, rounded=x.rounded and y.rounded)

    # bits

    def bit_and(self, x: Lane, y: Lane) -> Lane:
        return Lane(self.builder.and_(x.value, y.value), x.dtype)

    def bit_or(self, x: Lane, y: Lane) -> Lane:
        return Lane(self.builder.or_(x.value, y.value), x.dtype)

    def bit_xor(self, x: Lane, y: Lane) -> Lane:
        return Lane(self.builder.xor(x.value, y.value), x.dtype)

    def bit_not(self, x: Lane) -> Lane:
        return self.bit_xor(x, self.const(True if x.dtype is bool_ else -1, x))

    def shift_left(self, x: Lane, y: Lane) -> Lane:
        return Lane(integer_ops.shift(self, "shl", x, y), x.dtype)

    def shift_right(self, x: Lane, y: Lane) -> Lane:
        return Lane(integer_ops.shift(self, "ashr" if x.dtype.is_signed else "lshr", x, y), x.dtype)
