"""Bits of ints, and logic of truth values."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import bool_
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, elementwise
from tjit.ops.public import public
from tjit.ops.records import elementwise_op
from tjit.tensor import Tensor

__all__ = [
    "bitwise_and", "bitwise_left_shift", "bitwise_not", "bitwise_or", "bitwise_right_shift", "bitwise_xor",
    "logical_and", "logical_not", "logical_or", "logical_xor",
]  # fmt: skip


@public(inplace=True)
def bitwise_and(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The bits set in both; for bool, whether both hold."""
    return elementwise(BITWISE_AND, x, other)


BITWISE_AND = elementwise_op(
    "bitwise_and",
    arity=2,
    dtypes="integral",
    reference=np.bitwise_and,
    scalar=lambda b, x, y: b.bit_and(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True)
def bitwise_or(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The bits set in either; for bool, whether one holds."""
    return elementwise(BITWISE_OR, x, other)


BITWISE_OR = elementwise_op(
    "bitwise_or",
    arity=2,
    dtypes="integral",
    reference=np.bitwise_or,
    scalar=lambda b, x, y: b.bit_or(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True)
def bitwise_xor(x: Tensor | float, other: Tensor | float) -> Tensor:
    """The bits set in one only; for bool, whether they differ."""
    return elementwise(BITWISE_XOR, x, other)


BITWISE_XOR = elementwise_op(
    "bitwise_xor",
    arity=2,
    dtypes="integral",
    reference=np.bitwise_xor,
    scalar=lambda b, x, y: b.bit_xor(x, y),
    vjp=None,
    exact=True,
)


@public(inplace=True)
def bitwise_not(x: Tensor) -> Tensor:
    """Every bit flipped: -x - 1; for bool, the negation."""
    return elementwise(BITWISE_NOT, x)


BITWISE_NOT = elementwise_op(
    "bitwise_not", dtypes="integral", reference=np.bitwise_not, scalar=lambda b, x: b.bit_not(x), vjp=None, exact=True
)


@public(inplace=True)
def bitwise_left_shift(x: Tensor | float, other: Tensor | float) -> Tensor:
    """x * 2**other, wrapping; a shift by the width or more, or by a negative number, gives 0."""
    return elementwise(LEFT_SHIFT, x, other)


LEFT_SHIFT = elementwise_op(
    "bitwise_left_shift",
    arity=2,
    dtypes="int",
    reference=np.left_shift,
    scalar=lambda b, x, y: b.shift_left(x, y),
    vjp=None,
    exact=True,
    ranges=((-9, 9), (0, 9)),
)


@public(inplace=True)
def bitwise_right_shift(x: Tensor | float, other: Tensor | float) -> Tensor:
    """floor(x / 2**other); a shift by the width or more, or by a negative number, leaves only the sign."""
    return elementwise(RIGHT_SHIFT, x, other)


RIGHT_SHIFT = elementwise_op(
    "bitwise_right_shift", arity=2, dtypes="int", reference=np.right_shift, scalar=lambda b, x, y: b.shift_right(x, y),
    vjp=None, exact=True, ranges=((-99, 99), (0, 9)),
)  # fmt: skip


def _truth(x: Any) -> Any:
    return bool(x) if isinstance(x, (bool, int, float)) else cast(as_tensor_operand(x, "logical op"), bool_)


@public(inplace=True)
def logical_and(x: Tensor, other: Tensor) -> Tensor:
    """Whether both are not 0."""
    return bitwise_and(_truth(x), _truth(other))


@public(inplace=True)
def logical_or(x: Tensor, other: Tensor) -> Tensor:
    """Whether one is not 0."""
    return bitwise_or(_truth(x), _truth(other))


@public(inplace=True)
def logical_xor(x: Tensor, other: Tensor) -> Tensor:
    """Whether exactly one is not 0."""
    return bitwise_xor(_truth(x), _truth(other))


@public(inplace=True)
def logical_not(x: Tensor) -> Tensor:
    """Whether x is 0."""
    return bitwise_not(_truth(x))
