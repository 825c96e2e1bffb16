"""Rows of a table that integers number."""

from __future__ import annotations

from tjit.errors import ArgumentError, TypeRuleError
from tjit.location import user_location
from tjit.ops.elementwise import where
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand
from tjit.tensor import Tensor

__all__ = ["embedding"]


def embedding(
    input: Tensor,
    weight: Tensor,
    padding_idx: int | None = None,
    max_norm: None = None,
    norm_type: float = 2.0,
    scale_grad_by_freq: bool = False,
    sparse: bool = False,
) -> Tensor:
    """The rows of `weight` that `input` numbers.

    Args:
        input: i[*s].
        weight: n[rows, n].
        padding_idx: a row that gets no gradient.

    Returns:
        n[*s, n].

    Raises:
        ArgumentError: max_norm or scale_grad_by_freq is asked for.
    """
    from tjit.ops.index import take_dim

    if max_norm is not None or scale_grad_by_freq:
        raise ArgumentError("embedding supports neither max_norm nor scale_grad_by_freq", user_location())
    t = as_tensor_operand(input, "embedding")
    if t.dtype.kind != "int" or weight.ndim != 2:
        raise TypeRuleError(f"embedding needs int rows and a matrix, not {t.type_} and {weight.type_}", user_location())
    rows = take_dim(weight, t, 0)
    if padding_idx is not None:
        padding_idx = padding_idx if padding_idx >= 0 else padding_idx + weight.shape[0]
        rows = where(reshape(t, (*t.shape, 1)) == padding_idx, rows.detach(), rows)
    return rows
