"""Python's operators on tensors."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.ir.dims import DimExpr
from tjit.ir.graph import Literal
from tjit.ops import arithmetic, bitwise, compare, powers, rounding
from tjit.ops.numbers import Number, number_tensor
from tjit.ops.public import before_write, write_into
from tjit.tensor import Tensor

__all__: list[str] = []

_OPERANDS = (Tensor, bool, int, float, np.ndarray, np.generic, Literal, DimExpr)


def _matmul(x: Any, other: Any) -> Tensor:
    from tjit.ops.contract import matmul

    return matmul(x, other)


_BINARY: dict[str, Callable[..., Tensor]] = {
    "add": arithmetic.add,
    "sub": arithmetic.sub,
    "mul": arithmetic.mul,
    "truediv": arithmetic.div,
    "floordiv": arithmetic.floor_divide,
    "mod": arithmetic.remainder,
    "pow": powers.pow,
    "matmul": _matmul,
    "and": bitwise.bitwise_and,
    "or": bitwise.bitwise_or,
    "xor": bitwise.bitwise_xor,
    "lshift": bitwise.bitwise_left_shift,
    "rshift": bitwise.bitwise_right_shift,
}
_COMPARISONS: dict[str, Callable[..., Tensor]] = {
    "eq": compare.eq,
    "ne": compare.ne,
    "lt": compare.lt,
    "le": compare.le,
    "gt": compare.gt,
    "ge": compare.ge,
}
_UNARY: dict[str, Callable[..., Tensor]] = {
    "neg": arithmetic.neg,
    "pos": arithmetic.positive,
    "abs": rounding.abs,
    "invert": bitwise.bitwise_not,
}


def _operand(self: Tensor, other: Any) -> Any:
    """What the ops take for the other operand; NotImplemented where it is none, or is NumPy's to combine."""
    if type(other) is Number:
        return number_tensor(other)
    is_numpys = self._number and isinstance(other, Tensor) and other._is_numpy
    return other if isinstance(other, _OPERANDS) and not is_numpys else NotImplemented


def _forward(fn: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    return lambda self, other: o if (o := _operand(self, other)) is NotImplemented else fn(self, o)


def _reflected(fn: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    return lambda self, other: o if (o := _operand(self, other)) is NotImplemented else fn(o, self)


def _in_place(fn: Callable[..., Tensor]) -> Callable[[Tensor, Any], Any]:
    def method(self: Tensor, other: Any) -> Any:
        operand = _operand(self, other)
        return operand if operand is NotImplemented else write_into(self, fn(before_write(self, operand), operand))

    return method


def _unary(fn: Callable[..., Tensor]) -> Callable[[Tensor], Tensor]:
    return lambda self: fn(self)


def _attach(name: str, method: Callable[..., Any]) -> None:
    method.__name__ = method.__qualname__ = name
    setattr(Tensor, name, method)


for _name, _fn in _BINARY.items():
    _attach(f"__{_name}__", _forward(_fn))
    _attach(f"__r{_name}__", _reflected(_fn))
    _attach(f"__i{_name}__", _in_place(_fn))
for _name, _fn in _COMPARISONS.items():
    _attach(f"__{_name}__", _forward(_fn))
for _name, _fn in _UNARY.items():
    _attach(f"__{_name}__", _unary(_fn))
_attach("__hash__", lambda self: id(self))
