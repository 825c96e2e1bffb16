"""Numbers known while compiling."""

from __future__ import annotations

import math
from typing import Any

from tjit.ir.dims import DimExpr
from tjit.ir.graph import Literal, Node, Operand
from tjit.ir.op import OPS
from tjit.ir.types import TensorType
from tjit.passes.rewrite import Rewriter

__all__ = ["is_zero", "known_number", "make_full"]


def known_number(rewriter: Rewriter, operand: Operand) -> Literal | None:
    """The number that `operand` is, or that it is filled with."""
    if isinstance(operand, Literal):
        return operand
    node = rewriter.producer(operand)
    if node is None:
        return None
    if node.op.name == "full" and not isinstance(node.attrs["value"], DimExpr):
        return Literal(node.attrs["value"], node.attrs["dtype"])
    if node.op.name == "constant" and not node.attrs["shape"]:
        return Literal(node.op.reference(**node.attrs).item(), node.attrs["dtype"])
    return None


def is_zero(number: Literal | None) -> bool:
    """Whether it is 0, and not -0."""
    return number is not None and number.value == 0 and math.copysign(1.0, number.value) > 0


def make_full(rewriter: Rewriter, number: Literal, type: TensorType, node: Node) -> tuple[Operand, ...]:
    """A tensor of `type` filled with `number`, in place of `node`."""
    attrs: dict[str, Any] = {"value": number.value, "shape": type.shape, "dtype": type.dtype, "device": type.device}
    return tuple(rewriter.add(node, OPS["full"], [], [type], **attrs))
