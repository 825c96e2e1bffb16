"""Dropout of elements and of channels."""

from __future__ import annotations

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.ops.elementwise import where
from tjit.ops.operands import as_tensor_operand
from tjit.ops.public import public, write_into
from tjit.tensor import Tensor

__all__ = ["dropout"]


@public(method=False)
def dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """In training, x with each element zero with probability p, and the others divided by 1 - p.

    Raises:
        ArgumentError: p is not in [0, 1].
    """
    y = _dropped(as_tensor_operand(input, "dropout"), p, training, per_channel=False)
    return write_into(input, y) if inplace else y


@public(method=False, aliases=("dropout1d", "dropout2d", "dropout3d"))
def feature_dropout(input: Tensor, p: float = 0.5, training: bool = True, inplace: bool = False) -> Tensor:
    """`dropout` of whole channels of x[n, c, *s]."""
    y = _dropped(as_tensor_operand(input, "feature_dropout"), p, training, per_channel=True)
    return write_into(input, y) if inplace else y


def _dropped(x: Tensor, p: float, training: bool, per_channel: bool) -> Tensor:
    from tjit.ops.random import rand

    if not 0 <= p <= 1:
        raise ArgumentError(f"dropout probability has to be between 0 and 1, but got {p}", user_location())
    if not training or p == 0:
        return x
    if p == 1:
        return x * 0.0
    shape = (*x.shape[:2], *(1,) * (x.ndim - 2)) if per_channel else x.shape
    keep = rand(shape, device=x.device) >= p
    return where(keep, x * (1 / (1 - p)), 0.0)
