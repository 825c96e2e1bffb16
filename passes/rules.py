"""Identities of elementwise ops, each a pair of tjit functions. `simplify_algebra` applies them from left to right."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from functools import cached_property
from typing import Any

from tjit.capture.trace import trace_graph
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bool_, f32, i64
from tjit.ir.graph import Graph, Literal
from tjit.ir.op import OPS
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.ops.creation import full_like
from tjit.ops.elementwise import (
    abs,
    add,
    bitwise_and,
    bitwise_not,
    bitwise_or,
    bitwise_xor,
    div,
    eq,
    exp,
    log,
    maximum,
    minimum,
    mul,
    ne,
    neg,
    rsqrt,
    sqrt,
    sub,
    where,
)
from tjit.ops.operands import elementwise

__all__ = ["RULES", "Rule"]

NUMBERS = ("float", "int")
BITS = ("int", "bool")
ALL = ("float", "int", "bool")
_DTYPES: dict[str, DType] = {"float": f32, "int": i64, "bool": bool_}


@dataclass(frozen=True, eq=False)
class Rule:
    """`pattern` has the value of `replacement`.

    Parameters of both functions are called alike. One called `c` is a condition (bool); `k` and `m` are numbers that
    the compiler knows, and the replacement gets as Python numbers; all others are tensors or numbers of one dtype.

    Attributes:
        name: for tests and errors.
        exact: kinds of dtype for which the values are equal to the bit, up to which nan it is.
        fast: kinds for which they are equal only for real numbers: applied under `fast_math=True` alone.
        when: condition on the numbers and the DType.
    """

    name: str
    pattern: Callable[..., Any]
    replacement: Callable[..., Any]
    exact: tuple[str, ...] = ()
    fast: tuple[str, ...] = ()
    when: Callable[..., bool] | None = None

    @cached_property
    def parameters(self) -> tuple[str, ...]:
        return tuple(inspect.signature(self.pattern).parameters)

    @cached_property
    def numbers(self) -> tuple[str, ...]:
        """The parameters that are numbers."""
        return tuple(p for p in self.parameters if p in ("k", "m"))

    def graph(self, kind: str) -> Graph:
        """The pattern on 0-d operands of one dtype of `kind`."""
        types = [TensorType(bool_ if p == "c" else _DTYPES[kind], ()) for p in self.parameters]
        return trace_graph(self.name, self.pattern, types, self.parameters)


def _power(x: Any, k: Any) -> Any:
    """x ** k as an op, which `pow` of a number may not be."""
    return elementwise(OPS["pow"], x, k)


def _select(condition: bool, x: Any, y: Any) -> Any:
    """`where` of a number, for which `where` would make a tensor."""
    return apply(OPS["where"], Literal(condition, bool_), x, y)


def _divides_exactly(k: float, dtype: DType) -> bool:
    """Whether 1/k is a number of `dtype`, without rounding: k is a power of two, and not too extreme."""
    if not math.isfinite(k) or math.frexp(k)[0] not in (0.5, -0.5):
        return False
    low = {"f16": -14, "bf16": -126, "f32": -126}.get(dtype.name, -1022)  # the smallest normal exponents
    return low <= -math.frexp(k)[1] + 1 <= -low


def _idempotent(name: str) -> Rule:
    op = OPS[name]
    return Rule(f"{name}_twice", lambda x: apply(op, apply(op, x)), lambda x: apply(op, x), ("float",))


RULES: tuple[Rule, ...] = (
    # -0.0 and not 0.0 is what adds nothing: -0.0 + 0.0 is 0.0
    Rule("add_minus_zero", lambda x: add(x, -0.0), lambda x: x, ("float",)),
    Rule("add_zero", lambda x: add(x, 0), lambda x: x, ("int",), ("float",)),
    Rule("sub_zero", lambda x: sub(x, 0), lambda x: x, NUMBERS),
    Rule("sub_minus_zero", lambda x: sub(x, -0.0), lambda x: x, fast=("float",)),
    Rule("minus_zero_sub", lambda x: elementwise(OPS["sub"], -0.0, x), lambda x: neg(x), ("float",)),
    Rule("zero_sub", lambda x: elementwise(OPS["sub"], 0, x), lambda x: neg(x), ("int",), ("float",)),
    Rule("sub_self", lambda x: sub(x, x), lambda x: full_like(x, 0), ("int",), ("float",)),
    Rule("add_neg", lambda x, y: add(x, neg(y)), lambda x, y: sub(x, y), NUMBERS),
    Rule("sub_neg", lambda x, y: sub(x, neg(y)), lambda x, y: add(x, y), NUMBERS),
    Rule("neg_sub", lambda x, y: neg(sub(x, y)), lambda x, y: sub(y, x), ("int",), ("float",)),
    Rule("neg_neg", lambda x: neg(neg(x)), lambda x: x, NUMBERS),
    Rule("add_add", lambda x, k, m: add(add(x, k), m), lambda x, k, m: add(x, k + m), ("int",), ("float",)),
    Rule("mul_one", lambda x: mul(x, 1), lambda x: x, NUMBERS),
    Rule("mul_minus_one", lambda x: mul(x, -1), lambda x: neg(x), NUMBERS),
    Rule("mul_zero", lambda x: mul(x, 0), lambda x: full_like(x, 0), ("int",), ("float",)),
    Rule("mul_mul", lambda x, k, m: mul(mul(x, k), m), lambda x, k, m: mul(x, k * m), ("int",), ("float",)),
    Rule("mul_neg_neg", lambda x, y: mul(neg(x), neg(y)), lambda x, y: mul(x, y), NUMBERS),
    Rule("mul_neg_number", lambda x, k: mul(neg(x), k), lambda x, k: mul(x, -k), NUMBERS),
    Rule("div_one", lambda x: div(x, 1.0), lambda x: x, ("float",)),
    Rule("div_minus_one", lambda x: div(x, -1.0), lambda x: neg(x), ("float",)),
    Rule("div_neg_neg", lambda x, y: div(neg(x), neg(y)), lambda x, y: div(x, y), ("float",)),
    Rule("div_power", lambda x, k: div(x, k), lambda x, k: mul(x, 1 / k), ("float",), when=_divides_exactly),
    Rule("div_number", lambda x, k: div(x, k), lambda x, k: mul(x, 1 / k), fast=("float",), when=lambda k, _: k != 0),
    Rule("div_sqrt", lambda x, y: div(x, sqrt(y)), lambda x, y: mul(x, rsqrt(y)), fast=("float",)),
    Rule("sqrt_sqrt", lambda x: mul(sqrt(x), sqrt(x)), lambda x: x, fast=("float",)),
    Rule("pow_zero", lambda x: _power(x, 0), lambda x: full_like(x, 1), NUMBERS),
    Rule("pow_one", lambda x: _power(x, 1), lambda x: x, NUMBERS),
    Rule("pow_two", lambda x: _power(x, 2), lambda x: mul(x, x), NUMBERS),
    Rule("pow_three", lambda x: _power(x, 3), lambda x: mul(mul(x, x), x), ("int",), ("float",)),
    Rule("pow_minus_one", lambda x: _power(x, -1), lambda x: elementwise(OPS["div"], 1.0, x), ("float",)),
    Rule("pow_half", lambda x: _power(x, 0.5), lambda x: sqrt(x), ("float",)),
    Rule("exp_log", lambda x: exp(log(x)), lambda x: x, fast=("float",)),
    Rule("log_exp", lambda x: log(exp(x)), lambda x: x, fast=("float",)),
    Rule("abs_neg", lambda x: abs(neg(x)), lambda x: abs(x), NUMBERS, when=lambda t: t.is_signed),
    Rule("maximum_self", lambda x: maximum(x, x), lambda x: x, NUMBERS),
    Rule("minimum_self", lambda x: minimum(x, x), lambda x: x, NUMBERS),
    *(_idempotent(name) for name in ("abs", "ceil", "floor", "round", "trunc")),
    Rule("where_same", lambda c, x: where(c, x, x), lambda c, x: x, ALL),
    Rule("where_true", lambda x, y: _select(True, x, y), lambda x, y: x, ALL),
    Rule("where_false", lambda x, y: _select(False, x, y), lambda x, y: y, ALL),
    Rule("where_not", lambda c, x, y: where(bitwise_not(c), x, y), lambda c, x, y: where(c, y, x), ALL),
    Rule("not_not", lambda x: bitwise_not(bitwise_not(x)), lambda x: x, BITS),
    Rule("and_self", lambda x: bitwise_and(x, x), lambda x: x, BITS),
    Rule("or_self", lambda x: bitwise_or(x, x), lambda x: x, BITS),
    Rule("xor_self", lambda x: bitwise_xor(x, x), lambda x: full_like(x, 0), BITS),
    Rule("ne_false", lambda x: ne(x, False), lambda x: x, ("bool",)),
    Rule("ne_true", lambda x: ne(x, True), lambda x: bitwise_not(x), ("bool",)),
    Rule("eq_true", lambda x: eq(x, True), lambda x: x, ("bool",)),
    Rule("eq_false", lambda x: eq(x, False), lambda x: bitwise_not(x), ("bool",)),
    Rule("and_true", lambda x: bitwise_and(x, True), lambda x: x, ("bool",)),
    Rule("or_false", lambda x: bitwise_or(x, False), lambda x: x, ("bool",)),
)
