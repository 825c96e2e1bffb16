"""Conversion of the dtype."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype
from tjit.ir.op import Op, Sample, register
from tjit.ops.apply import apply
from tjit.ops.operands import as_tensor_operand
from tjit.tensor import Tensor

__all__ = ["cast"]


def cast(x: Tensor, dtype: DType | str) -> Tensor:
    """x in another dtype; x itself if it has that dtype.

    Floats to ints truncate (nan and what is out of range give an unspecified int), narrower ints wrap, and bool is
    x != 0.
    """
    x, dtype = as_tensor_operand(x, "cast"), as_dtype(dtype)
    return x if x.dtype is dtype else apply(CAST, x, dtype=dtype)


def _cast_reference(x: Any, dtype: DType) -> Any:
    if dtype.kind == "int" and dtype.itemsize < 4 and x.dtype.kind not in "biu":
        x = x.astype(np.int32)  # a float out of range of a narrow int wraps, as in PyTorch and in compiled code
    return x.astype(dtype.numpy)


CAST = register(
    Op(
        name="cast",
        kind="elementwise",
        infer=lambda x, dtype: x.with_dtype(dtype),
        reference=_cast_reference,
        vjp=lambda g, y, x, dtype: (cast(g, x.dtype),),
        scalar=lambda b, x, dtype: b.cast(x, dtype),
        samples=tuple(
            Sample(((3, 5),), attrs={"dtype": as_dtype(t)}) for t in ("f64", "f32", "bf16", "i32", "i8", "bool")
        ),
        dtypes="any",
        exact=True,
    )
)
