"""`Scalars` on NumPy arrays: runs the scalar bodies of ops without a compiler. f16 and bf16 come widened to f32."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit import dtypes
from tjit.dtypes import DType
from tjit.ir.op import OPS

__all__ = ["NumpyScalars"]

_UFUNCS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide, "floor_div": np.floor_divide,
    "floor_mod": np.remainder, "trunc_mod": np.fmod, "neg": np.negative, "abs": np.abs, "maximum": np.maximum,
    "minimum": np.minimum, "floor": np.floor, "ceil": np.ceil, "trunc": np.trunc, "round": np.rint, "sqrt": np.sqrt,
    "copysign": np.copysign, "exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2,
    "log10": np.log10, "log1p": np.log1p, "sin": np.sin, "cos": np.cos, "tan": np.tan, "asin": np.arcsin,
    "acos": np.arccos, "atan": np.arctan, "atan2": np.arctan2, "sinh": np.sinh, "cosh": np.cosh, "tanh": np.tanh,
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
    "select": np.where, "bit_and": np.bitwise_and, "bit_or": np.bitwise_or, "bit_xor": np.bitwise_xor,
    "bit_not": np.bitwise_not, "shift_left": np.left_shift, "shift_right": np.right_shift,
}  # fmt: skip
_REFERENCES = ("erf", "erfc", "erfinv", "sigmoid", "pow", "rsqrt")


class NumpyScalars:
    """One array stands for a vector of lanes."""

    def __getattr__(self, name: str) -> Any:
        if name in _REFERENCES:
            return OPS[name].reference
        return _UFUNCS[name]

    def dtype(self, x: Any) -> DType:
        return dtypes.from_numpy(x.dtype)

    def const(self, value: bool | int | float, like: Any) -> Any:
        return like.dtype.type(value)

    def cast(self, x: Any, dtype: DType) -> Any:
        return OPS["cast"].reference(x, dtype=dtype)

    def fma(self, x: Any, y: Any, z: Any) -> Any:
        return x * y + z

    def trunc_div(self, x: Any, y: Any) -> Any:
        return OPS["trunc_divide"].reference(x, y)
