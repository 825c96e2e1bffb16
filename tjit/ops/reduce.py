"""Reductions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, i64
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, normalize_dims
from tjit.ops.public import public
from tjit.tensor import Tensor
from tjit.ops.movement import broadcast_to, reshape


def _reduced(x: TensorType, dims: tuple[int, ...], keepdim: bool) -> tuple[Any, ...]:
    if keepdim:
        return tuple(1 if i in dims else d for i, d in enumerate(x.shape))
    return tuple(d for i, d in enumerate(x.shape) if i not in dims)


@public()
def sum(x: Tensor, dim: Any = None, keepdim: bool = False, *, dtype: DType | None = None) -> Tensor:
    """The sum over `dim`; ints and bools give i64, f16 and bf16 accumulate in f32."""
    x = as_tensor_operand(x, "sum")
    if dtype is not None:
        x = cast(x, as_dtype(dtype))
    elif not x.dtype.is_floating_point:
        x = cast(x, i64)
    return apply(SUM, x, dims=normalize_dims(dim, x.ndim), keepdim=keepdim)


def _sum_reference(x: np.ndarray, dims: tuple[int, ...], keepdim: bool) -> Any:
    wide = np.float32 if x.dtype.itemsize == 2 and x.dtype.kind not in "iu" else x.dtype
    return np.sum(x, axis=dims, keepdims=keepdim, dtype=wide).astype(x.dtype)


def _sum_vjp(g: Tensor, y: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool) -> tuple[Tensor]:
    return (broadcast_to(reshape(g, _reduced(x.type_, dims, True)), x.shape),)


SUM = register(
    Op(
        name="sum",
        kind="reduce",
        infer=lambda x, dims, keepdim: x.with_shape(_reduced(x, dims, keepdim)),
        reference=_sum_reference,
        vjp=_sum_vjp,
        samples=(Sample(((3, 5),), attrs={"dims": (1,), "keepdim": False}),),
        dtypes="number",
    )
)
