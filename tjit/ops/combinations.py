"""Sums of scaled tensors: lerp, addcmul, addcdiv."""

from __future__ import annotations

import math

from tjit.dtypes import default_dtype
from tjit.errors import DTypeError, TypeRuleError
from tjit.location import user_location
from tjit.ops.arithmetic import add, div, mul, sub
from tjit.ops.compare import lt, where
from tjit.ops.operands import common_dtype
from tjit.ops.public import public
from tjit.ops.rounding import abs
from tjit.tensor import Tensor

__all__ = ["addcdiv", "addcmul", "lerp"]


@public(inplace=True)
def lerp(x: Tensor, end: Tensor, weight: Tensor | float) -> Tensor:
    """x + weight * (end - x), computed from the nearer end so that weight 1 gives `end` exactly.

    Raises:
        TypeRuleError: the tensors are not float.
    """
    if not common_dtype(x, end).is_floating_point:
        raise TypeRuleError(f"lerp wants float tensors, not {x.type_}", user_location())
    step = sub(end, x)
    if not isinstance(weight, Tensor):
        return add(x, mul(step, weight)) if math.fabs(weight) < 0.5 else sub(end, mul(step, 1 - weight))
    near = lt(abs(weight), 0.5)
    return where(near, add(x, mul(step, weight)), sub(end, mul(step, sub(1, weight))))


@public(inplace=True)
def addcmul(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """x + value * tensor1 * tensor2."""
    product = mul(tensor1, tensor2)
    return add(x, product if value == 1 else mul(product, value))


@public(inplace=True)
def addcdiv(x: Tensor, tensor1: Tensor, tensor2: Tensor, *, value: float = 1) -> Tensor:
    """x + value * tensor1 / tensor2.

    Raises:
        DTypeError: both tensors are ints.
    """
    if not common_dtype(tensor1, tensor2).is_floating_point:
        raise DTypeError("addcdiv does not divide ints", user_location(), hint=f"convert one to {default_dtype()}")
    quotient = div(tensor1, tensor2)
    return add(x, quotient if value == 1 else mul(quotient, value))
