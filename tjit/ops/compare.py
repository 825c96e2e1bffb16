"""Comparisons, what floats are, and selection by a condition."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import bool_, u8
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.graph import Literal
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.bitwise import bitwise_and, bitwise_or
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, elementwise
from tjit.ops.public import public
from tjit.ops.records import all_bool, elementwise_op, is_number, listed, shape_and_device
from tjit.tensor import Tensor

__all__ = [
    "eq", "ge", "gt", "isclose", "isfinite", "isinf", "isnan", "isneginf", "isposinf", "le", "lt",
    "masked_fill", "ne", "where",
]  # fmt: skip


def _as_bools(x: Any, other: Any) -> tuple[Any, Any]:
    """0 and 1 beside a bool are bools too: nothing is made wider to compare them."""
    if isinstance(other, Tensor) and not isinstance(x, Tensor):
        return _as_bools(other, x)[::-1]
    plain = type(other) in (int, float) and other in (0, 1)
    return x, bool(other) if plain and isinstance(x, Tensor) and x.dtype is bool_ else other


@public(inplace=True)
def eq(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x == other, as bool. nan equals nothing."""
    return elementwise(EQ, *_as_bools(x, other))


EQ = elementwise_op(
    "eq",
    arity=2,
    dtypes="any",
    result=bool_,
    reference=np.equal,
    scalar=lambda b, x, y: b.eq(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True, aliases=("not_equal",))
def ne(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x != other, as bool."""
    return elementwise(NE, *_as_bools(x, other))


NE = elementwise_op(
    "ne",
    arity=2,
    dtypes="any",
    result=bool_,
    reference=np.not_equal,
    scalar=lambda b, x, y: b.ne(x, y),
    vjp=None,
    exact=True,
)


def _ordered(op: Op, x: Any, other: Any) -> Tensor:
    """Bools are compared as 0 and 1."""
    if all_bool(x, other):
        x, other = cast(x, u8), cast(other, u8)
    return elementwise(op, x, other)


@public(inplace=True, aliases=("less",))
def lt(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x < other, as bool."""
    return _ordered(LT, x, other)


LT = elementwise_op(
    "lt",
    arity=2,
    dtypes="number",
    result=bool_,
    reference=np.less,
    scalar=lambda b, x, y: b.lt(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True, aliases=("less_equal",))
def le(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x <= other, as bool."""
    return _ordered(LE, x, other)


LE = elementwise_op(
    "le",
    arity=2,
    dtypes="number",
    result=bool_,
    reference=np.less_equal,
    scalar=lambda b, x, y: b.le(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True, aliases=("greater",))
def gt(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x > other, as bool."""
    return _ordered(GT, x, other)


GT = elementwise_op(
    "gt",
    arity=2,
    dtypes="number",
    result=bool_,
    reference=np.greater,
    scalar=lambda b, x, y: b.gt(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True, aliases=("greater_equal",))
def ge(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x >= other, as bool."""
    return _ordered(GE, x, other)


GE = elementwise_op(
    "ge",
    arity=2,
    dtypes="number",
    result=bool_,
    reference=np.greater_equal,
    scalar=lambda b, x, y: b.ge(x, y),
    vjp=None,
    exact=True,
)


@public()
def isnan(x: Tensor) -> Tensor:
    """Whether each element is nan; False for ints and bools."""
    return elementwise(ISNAN if x.dtype.is_floating_point else NE, *((x,) if x.dtype.is_floating_point else (x, x)))


ISNAN = elementwise_op("isnan", result=bool_, reference=np.isnan, scalar=lambda b, x: b.ne(x, x), vjp=None, exact=True)


@public()
def isinf(x: Tensor) -> Tensor:
    """Whether each element is inf or -inf; False for ints and bools."""
    return elementwise(ISINF, x) if x.dtype.is_floating_point else ne(x, x)


ISINF = elementwise_op(
    "isinf",
    result=bool_,
    reference=np.isinf,
    scalar=lambda b, x: b.eq(b.abs(x), b.const(float("inf"), x)),
    vjp=None,
    exact=True,
)


@public()
def isfinite(x: Tensor) -> Tensor:
    """Whether each element is neither infinite nor nan; True for ints and bools."""
    return elementwise(ISFINITE, x) if x.dtype.is_floating_point else eq(x, x)


ISFINITE = elementwise_op(
    "isfinite",
    result=bool_,
    reference=np.isfinite,
    scalar=lambda b, x: b.lt(b.abs(x), b.const(float("inf"), x)),
    vjp=None,
    exact=True,
)


@public()
def isposinf(x: Tensor) -> Tensor:
    """Whether each element is inf."""
    return eq(x, float("inf")) if x.dtype.is_floating_point else ne(x, x)


@public()
def isneginf(x: Tensor) -> Tensor:
    """Whether each element is -inf."""
    return eq(x, float("-inf")) if x.dtype.is_floating_point else ne(x, x)


@public()
def isclose(x: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> Tensor:
    """|x - other| <= atol + rtol * |other|, or x == other, as bool; nan is close to nan where `equal_nan`.

    Raises:
        TypeRuleError: the dtypes differ.
    """
    from tjit.ops.arithmetic import add, mul, sub
    from tjit.ops.rounding import abs

    if x.dtype is not other.dtype:
        raise TypeRuleError(f"isclose wants two tensors of one dtype, not {x.type_} and {other.type_}", user_location())
    close = eq(x, other)
    if equal_nan:
        close = bitwise_or(close, bitwise_and(isnan(x), isnan(other)))
    if x.dtype is bool_ or (rtol == 0 and atol == 0):
        return close
    distance = abs(sub(x, other))
    near = le(distance, add(mul(abs(other), rtol), atol))
    return bitwise_or(
        close, bitwise_and(isfinite(distance), near)
    )  # an infinite bound does not make inf close to a number


@public()
def where(condition: Tensor, x: Tensor | Literal | float, other: Tensor | Literal | float) -> Tensor:
    """x where `condition` holds, `other` elsewhere, broadcast together.

    Args:
        condition: bool[*s].
        x, other: [*s], of dtypes that promote.

    Raises:
        TypeRuleError: the condition is not bool.
    """
    condition = as_tensor_operand(condition, "where")
    return elementwise(WHERE, condition, x, other, keep=(0,))


def _where_infer(condition: TensorType, x: TensorType, other: TensorType) -> TensorType:
    types = (condition, x, other)
    if condition.dtype is not bool_:
        raise TypeRuleError(f"where wants a bool condition, not {listed(types)}", hint="compare first: x != 0")
    if x.dtype is not other.dtype:
        raise TypeRuleError(f"where wants two tensors of one dtype to choose from, not {x} and {other}")
    return shape_and_device("where", types).with_dtype(x.dtype)


def _where_vjp(g: Tensor, y: Tensor, condition: Tensor, x: Any, other: Any) -> tuple[Any, ...]:
    chosen = None if is_number(x) else where(condition, g, 0)
    return None, chosen, None if is_number(other) else where(condition, 0, g)


WHERE = register(
    Op(
        name="where",
        kind="elementwise",
        infer=_where_infer,
        reference=np.where,
        vjp=_where_vjp,
        scalar=lambda b, condition, x, y: b.select(condition, x, y),
        samples=(Sample(((3, 5),) * 3, dtypes=("bool", None, None)),),
        dtypes="any",
        exact=True,
    )
)


@public(inplace=True)
def masked_fill(x: Tensor, mask: Tensor, value: float | Tensor) -> Tensor:
    """x with `value` where `mask` holds.

    Args:
        mask: bool, broadcasts with x.
        value: a number or a 0-d tensor; converted to x's dtype.

    Raises:
        TypeRuleError: the mask is not bool.
        ArgumentError: the value has dims.
    """
    if mask.dtype is not bool_:
        raise TypeRuleError(f"masked_fill wants a bool mask, not {mask.type_}", user_location())
    if isinstance(value, Tensor):
        if value.ndim:
            raise ArgumentError(f"masked_fill wants a number or a 0-d value, not {value.type_}", user_location())
        value = cast(value, x.dtype)
    return elementwise(WHERE, mask, value, x, to=x.dtype, keep=(0,))
