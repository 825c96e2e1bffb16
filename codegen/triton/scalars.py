"""The protocol `Scalars` with Triton text.

A `Scalar` is the text of an expression with its dtype and the lanes it varies over. f16 and bf16 are held in f32. What
tl.math only approximates (exp, log, division, square root in f32) is asked of libdevice or in its rounded form: no fast
math unless asked for.
"""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.scalars import held
from tjit.codegen.triton.source import Source, literal, strip_parentheses, type_name
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bf16, bool_, f16, f32, f64, i32

__all__ = ["Scalar", "TritonScalars"]

_LONG = 72  # a longer text gets a line of its own


@dataclass(frozen=True, slots=True)
class Scalar:
    """The text of a value.

    Attributes:
        lanes: names of the lane variables it varies over: empty for one number.
        value: the number, where it is a constant.
    """

    text: str
    dtype: DType
    lanes: frozenset[str] = frozenset()
    value: bool | int | float | None = None


def _wrap(value: bool | int | float, dtype: DType) -> bool | int | float:
    if dtype.kind == "bool":
        return bool(value)
    if dtype.kind == "float":
        return float(value)
    bits = dtype.bits
    value = int(value) & ((1 << bits) - 1)
    return value - (1 << bits) if dtype.is_signed and value >> (bits - 1) else value


class TritonScalars:
    """`Scalars[Scalar]`: each operation gives a text; long texts become lines of `source`."""

    def __init__(self, source: Source) -> None:
        self.source = source

    def dtype(self, x: Scalar) -> DType:
        return x.dtype

    def const(self, value: bool | int | float, like: Scalar) -> Scalar:
        return self.constant(value, like.dtype)

    def constant(self, value: bool | int | float, dtype: DType) -> Scalar:
        """A constant of `dtype`."""
        value = _wrap(value, dtype)
        return Scalar(literal(value, held(dtype)), dtype, value=value)

    def typed(self, x: Scalar) -> str:
        """The text of `x` where Triton must not guess a literal's type."""
        if x.value is None:
            return x.text
        return f"tl.full((), {x.text}, {type_name(held(x.dtype))})"

    def _operand(self, x: Scalar, *others: Scalar) -> str:
        """A literal takes the type of the operand beside it."""
        if x.value is not None and any(other.value is None for other in others):
            return f"({x.text})" if x.text.startswith("-") else x.text
        return self.typed(x)

    def emit(self, text: str, dtype: DType, *operands: Scalar) -> Scalar:
        """A value computed from `operands` by `text`."""
        lanes = frozenset().union(*(x.lanes for x in operands))
        return Scalar(self.source.bind(text) if len(text) > _LONG else text, dtype, lanes)

    def _infix(self, operator: str, x: Scalar, y: Scalar, dtype: DType | None = None) -> Scalar:
        text = f"({self._operand(x, y)} {operator} {self._operand(y, x)})"
        return self.emit(text, x.dtype if dtype is None else dtype, x, y)

    def _call(self, function: str, *operands: Scalar, extra: str = "") -> Scalar:
        mixed = any(x.value is None for x in operands)
        texts = (strip_parentheses(x.text) if mixed and _is_plain(x) else self.typed(x) for x in operands)
        return self.emit(f"{function}({', '.join(texts)}{extra})", operands[0].dtype, *operands)

    def _helper(self, name: str, *operands: Scalar, extra: str = "") -> Scalar:
        return self._call(self.source.helper(name), *operands, extra=extra)

    def cast(self, x: Scalar, dtype: DType) -> Scalar:
        if x.dtype is dtype and dtype not in (f16, bf16):
            return x
        if x.value is not None and x.value == x.value and abs(x.value) != float("inf"):
            value = bool(x.value) if dtype is bool_ else x.value
            if dtype not in (f16, bf16):
                return self.constant(value, dtype)
        text = self.typed(x)
        if dtype is bool_:
            return self.emit(f"({text} != 0)", dtype, x)
        if dtype in (f16, bf16):
            return self.emit(f"{self._narrow(x, dtype)}.to(tl.float32)", dtype, x)
        if x.dtype.is_floating_point and dtype.kind == "int" and dtype.bits < 64:
            text = f"{text}.to(tl.int64)"  # wraps, where a conversion to a narrow int is undefined
        if held(x.dtype) is dtype:
            return replace(x, dtype=dtype)
        return self.emit(f"{text}.to({type_name(dtype)})", dtype, x)

    def stored(self, x: Scalar, dtype: DType) -> str:
        """The text of `x` as an element of `dtype` in memory."""
        if dtype in (f16, bf16):
            return self._narrow(x, dtype)
        return self.typed(self.cast(x, dtype))

    def _narrow(self, x: Scalar, dtype: DType) -> str:
        """f16 or bf16, by way of f32: Triton converts ints and f64 to bf16 no other way."""
        by = "" if held(x.dtype) is f32 else ".to(tl.float32)"
        return f"{self.typed(x)}{by}.to({type_name(dtype)})"

    # arithmetic
    def add(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("+", x, y)

    def sub(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("-", x, y)

    def mul(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("*", x, y)

    def div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("/", x, y) if x.dtype is f64 else self._call("tl.div_rn", x, y)

    def floor_div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._helper("floor_div", x, y) if x.dtype.is_signed else self._infix("//", x, y)

    def floor_mod(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_floating_point:
            return self._helper("floor_fmod", x, y)
        return self._helper("floor_mod", x, y) if x.dtype.is_signed else self._infix("%", x, y)

    def trunc_div(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("//", x, y)

    def trunc_mod(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("libdevice.fmod", x, y) if x.dtype.is_floating_point else self._infix("%", x, y)

    def neg(self, x: Scalar) -> Scalar:
        return self.emit(f"(-{self.typed(x)})", x.dtype, x)

    def abs(self, x: Scalar) -> Scalar:
        return self._call("tl.abs", x)

    def fma(self, x: Scalar, y: Scalar, z: Scalar) -> Scalar:
        return self._call("tl.fma", x, y, z) if x.dtype.is_floating_point else self.add(self.mul(x, y), z)

    def maximum(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype is bool_:
            return self.bit_or(x, y)
        return self._call("tl.maximum", x, y, extra=_propagate(x))

    def minimum(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype is bool_:
            return self.bit_and(x, y)
        return self._call("tl.minimum", x, y, extra=_propagate(x))

    # floats
    def floor(self, x: Scalar) -> Scalar:
        return self._call("tl.floor", x)

    def ceil(self, x: Scalar) -> Scalar:
        return self._call("tl.ceil", x)

    def trunc(self, x: Scalar) -> Scalar:
        return self._call("libdevice.trunc", x)

    def round(self, x: Scalar) -> Scalar:
        return self._call("libdevice.rint", x)

    def sqrt(self, x: Scalar) -> Scalar:
        return self._call("tl.sqrt" if x.dtype is f64 else "tl.sqrt_rn", x)

    def rsqrt(self, x: Scalar) -> Scalar:
        return self._call("libdevice.rsqrt", x)

    def copysign(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("libdevice.copysign", x, y)

    def exp(self, x: Scalar) -> Scalar:
        return self._call("libdevice.exp", x)

    def exp2(self, x: Scalar) -> Scalar:
        return self._call("libdevice.exp2", x)

    def expm1(self, x: Scalar) -> Scalar:
        return self._call("libdevice.expm1", x)

    def log(self, x: Scalar) -> Scalar:
        return self._call("libdevice.log", x)

    def log2(self, x: Scalar) -> Scalar:
        return self._call("libdevice.log2", x)

    def log10(self, x: Scalar) -> Scalar:
        return self._call("libdevice.log10", x)

    def log1p(self, x: Scalar) -> Scalar:
        return self._call("libdevice.log1p", x)

    def sin(self, x: Scalar) -> Scalar:
        return self._call("libdevice.sin", x)

    def cos(self, x: Scalar) -> Scalar:
        return self._call("libdevice.cos", x)

    def tan(self, x: Scalar) -> Scalar:
        return self._call("libdevice.tan", x)

    def asin(self, x: Scalar) -> Scalar:
        return self._call("libdevice.asin", x)

    def acos(self, x: Scalar) -> Scalar:
        return self._call("libdevice.acos", x)

    def atan(self, x: Scalar) -> Scalar:
        return self._call("libdevice.atan", x)

    def atan2(self, x: Scalar, y: Scalar) -> Scalar:
        return self._call("libdevice.atan2", x, y)

    def sinh(self, x: Scalar) -> Scalar:
        return self._call("libdevice.sinh", x)

    def cosh(self, x: Scalar) -> Scalar:
        return self._call("libdevice.cosh", x)

    def tanh(self, x: Scalar) -> Scalar:
        return self._call("libdevice.tanh", x)

    def erf(self, x: Scalar) -> Scalar:
        return self._call("libdevice.erf", x)

    def erfc(self, x: Scalar) -> Scalar:
        return self._call("libdevice.erfc", x)

    def erfinv(self, x: Scalar) -> Scalar:
        return self._call("libdevice.erfinv", x)

    def sigmoid(self, x: Scalar) -> Scalar:
        one = self.const(1.0, x)
        return self.div(one, self.add(one, self.exp(self.neg(x))))

    def pow(self, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype.is_floating_point:
            return self._call("libdevice.pow", x, y)
        return self._helper("int_pow" if x.dtype.is_signed else "uint_pow", x, y, extra=f", {x.dtype.bits}")

    # comparisons
    def _compare(self, operator: str, x: Scalar, y: Scalar) -> Scalar:
        if x.dtype is bool_ and operator not in ("==", "!="):
            x, y = self.cast(x, i32), self.cast(y, i32)  # True is -1 where one bit is signed
        return self._infix(operator, x, y, bool_)

    def eq(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("==", x, y)

    def ne(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("!=", x, y)

    def lt(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("<", x, y)

    def le(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare("<=", x, y)

    def gt(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare(">", x, y)

    def ge(self, x: Scalar, y: Scalar) -> Scalar:
        return self._compare(">=", x, y)

    def select(self, condition: Scalar, x: Scalar, y: Scalar) -> Scalar:
        c, a, b = self.typed(condition), self._operand(x, y), self._operand(y, x)
        texts = ", ".join(map(strip_parentheses, (c, a, b)))
        return self.emit(f"tl.where({texts})", x.dtype, condition, x, y)

    # bool and ints
    def bit_and(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("&", x, y)

    def bit_or(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("|", x, y)

    def bit_xor(self, x: Scalar, y: Scalar) -> Scalar:
        return self._infix("^", x, y)

    def bit_not(self, x: Scalar) -> Scalar:
        return self.emit(f"(~{self.typed(x)})", x.dtype, x)

    def shift_left(self, x: Scalar, y: Scalar) -> Scalar:
        return self._shift(x, y, "<<")

    def shift_right(self, x: Scalar, y: Scalar) -> Scalar:
        if not x.dtype.is_signed:
            return self._shift(x, y, ">>")
        return self._infix(">>", x, self.minimum(y, self.const(x.dtype.bits - 1, y)))

    def _shift(self, x: Scalar, y: Scalar, operator: str) -> Scalar:
        inside = self.lt(y, self.const(x.dtype.bits, y))
        return self.select(inside, self._infix(operator, x, y), self.const(0, x))


def _is_plain(x: Scalar) -> bool:
    """Whether the text of `x` has the type of `x` on its own: Triton takes a float of f32's normal range for one."""
    if x.value is None:
        return True
    size = abs(x.value)
    return held(x.dtype) is f32 and (size == 0 or size != size or size == float("inf") or 2.0**-126 <= size < 2.0**127)


def _propagate(x: Scalar) -> str:
    return ", propagate_nan=tl.PropagateNan.ALL" if x.dtype.is_floating_point else ""
