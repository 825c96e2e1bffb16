"""Write through a view: the base with the view's elements replaced, for each movement op that makes views."""

from __future__ import annotations

from typing import Any

from tjit.errors import TypeRuleError
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops import movement
from tjit.tensor import Tensor

__all__ = ["write_through"]


def write_through(op: Op, attrs: dict[str, Any], base: Tensor, value: Tensor) -> Tensor:
    """`base` such that applying `op` with `attrs` to it gives `value`, and all else is as before.

    Raises:
        TypeRuleError: several elements of the view are one element of the base (an expanded tensor).
    """
    if op.name in ("alias", "detach"):
        return value
    if op is movement.RESHAPE:
        return movement.reshape(value, base.shape)
    if op is movement.FLIP:  # a view of NumPy's arrays only
        return movement.flip(value, *attrs["dims"])
    if op is movement.PERMUTE:
        return movement.permute(value, movement._inverse(attrs["dims"]))
    if op is movement.SLICE:
        from tjit.ops.index import slice_update

        return slice_update(base, value, **attrs)
    if op is movement.DIAGONAL:
        return _diagonal_written(base, value)
    raise TypeRuleError(
        f"more than one element of the written-to {value.type_} tensor refers to a single memory location",
        user_location(),
        hint="clone() it before the in-place operation",
    )


def _diagonal_written(base: Tensor, value: Tensor) -> Tensor:
    from tjit.ops.index import slice_update

    *lead, n = value.shape
    none, ones = (0,) * len(lead), (1,) * len(lead)
    flat = movement.reshape(base, (*lead, n * n))
    flat = slice_update(flat, value, (*none, 0), (*lead, n * n), (*ones, n + 1))
    return movement.reshape(flat, base.shape)
