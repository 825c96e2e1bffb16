"""Element types, and the promotion between them.

Source of the promotion rules: PyTorch 2.13, "Tensor Attributes: torch.dtype", reproduced as a table-free rule.
"""

from __future__ import annotations

from typing import Any

import ml_dtypes
import numpy as np

from tjit.errors import DTypeError
from tjit.location import user_location

__all__ = [
    "DTYPES",
    "DType",
    "as_dtype",
    "bf16",
    "bool_",
    "default_dtype",
    "f16",
    "f32",
    "f64",
    "finfo",
    "from_numpy",
    "i8",
    "i16",
    "i32",
    "i64",
    "iinfo",
    "promote",
    "promote_types",
    "scalar_dtype",
    "set_default_dtype",
    "u8",
]


class DType:
    """One element type. There is one object per type: compare with `is`.

    Attributes:
        name: short name, as printed in IR: `f32`.
        long_name: PyTorch's name: `float32`.
        numpy: the NumPy dtype.
        kind: "bool", "int" (signed or not) or "float".
        itemsize: bytes of one element.
    """

    __slots__ = ("itemsize", "kind", "long_name", "name", "numpy", "rank")

    def __init__(self, name: str, long_name: str, numpy: Any, kind: str, rank: int) -> None:
        self.name = name
        self.long_name = long_name
        self.numpy = np.dtype(numpy)
        self.kind = kind
        self.itemsize = self.numpy.itemsize
        self.rank = rank

    @property
    def is_floating_point(self) -> bool:
        return self.kind == "float"

    @property
    def is_signed(self) -> bool:
        return self is not u8 and self is not bool_

    @property
    def bits(self) -> int:
        """Bits of one element in memory (8 for bool)."""
        return 8 * self.itemsize

    def __repr__(self) -> str:
        return f"torch.{self.long_name}"  # the printed form is PyTorch's (DESIGN 5)

    def __format__(self, spec: str) -> str:
        return format(self.name, spec)  # dumps and messages say f32

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


bool_ = DType("bool", "bool", np.bool_, "bool", 0)
u8 = DType("u8", "uint8", np.uint8, "int", 1)
i8 = DType("i8", "int8", np.int8, "int", 1)
i16 = DType("i16", "int16", np.int16, "int", 2)
i32 = DType("i32", "int32", np.int32, "int", 3)
i64 = DType("i64", "int64", np.int64, "int", 4)
f16 = DType("f16", "float16", np.float16, "float", 5)
bf16 = DType("bf16", "bfloat16", ml_dtypes.bfloat16, "float", 5)
f32 = DType("f32", "float32", np.float32, "float", 6)
f64 = DType("f64", "float64", np.float64, "float", 7)

DTYPES: tuple[DType, ...] = (bool_, u8, i8, i16, i32, i64, f16, bf16, f32, f64)

_BY_NAME = {name: t for t in DTYPES for name in (t.name, t.long_name)}
_BY_NUMPY = {t.numpy: t for t in DTYPES}
_BY_PYTHON = {bool: bool_, int: i64}
_KINDS = {"bool": 0, "int": 1, "float": 2}

_default = f32


def default_dtype() -> DType:
    """The dtype of new float tensors: f32 unless `set_default_dtype` changed it."""
    return _default


def set_default_dtype(dtype: DType) -> None:
    """Make `dtype`, a float type, the dtype of new float tensors."""
    global _default
    dtype = as_dtype(dtype)
    if not dtype.is_floating_point:
        raise DTypeError(f"set_default_dtype takes a float dtype, not {dtype}", user_location())
    _default = dtype


def as_dtype(dtype: Any) -> DType:
    """The DType for a DType, a name ("f32", "float32"), `bool`, `int`, `float` or a NumPy dtype.

    Raises:
        DTypeError: there is none.
    """
    if isinstance(dtype, DType):
        return dtype
    if isinstance(dtype, str) and dtype in _BY_NAME:
        return _BY_NAME[dtype]
    if dtype is float:
        return _default
    if dtype in _BY_PYTHON:
        return _BY_PYTHON[dtype]
    return from_numpy(dtype)


def from_numpy(dtype: Any) -> DType:
    """The DType of a NumPy dtype.

    Raises:
        DTypeError: tjit has no such dtype.
    """
    try:
        return _BY_NUMPY[np.dtype(dtype)]
    except (KeyError, TypeError):
        names = ", ".join(t.long_name for t in DTYPES)
        name = dtype.name if isinstance(dtype, np.dtype) else repr(dtype)
        raise DTypeError(f"tjit has no dtype {name}", user_location(), hint=f"convert to one of {names}") from None


def scalar_dtype(value: Any) -> DType:
    """The dtype a Python scalar has on its own.

    Raises:
        DTypeError: `value` is not a bool, int or float.
    """
    if isinstance(value, (bool, np.bool_)):
        return bool_
    if isinstance(value, (int, np.integer)):
        return i64
    if isinstance(value, (float, np.floating)):
        return _default
    raise DTypeError(f"expected a number or a tensor, not {type(value).__name__} {value!r}", user_location())


def promote_types(a: Any, b: Any) -> DType:
    """The dtype of a result of tensors of two dtypes."""
    return _promote_two(as_dtype(a), as_dtype(b))


class finfo:
    """The range and precision of a float dtype: bits, eps, max, min, tiny, smallest_normal, resolution.

    Raises:
        DTypeError: the dtype is not float.
    """

    def __init__(self, dtype: Any = None) -> None:
        kind = _default if dtype is None else as_dtype(dtype)
        if not kind.is_floating_point:
            raise DTypeError(f"finfo takes a float dtype, not {kind}", hint="use iinfo")
        info = ml_dtypes.finfo(kind.numpy)
        self.dtype = kind.long_name
        self.bits = kind.bits
        self.eps, self.max, self.min = float(info.eps), float(info.max), float(info.min)
        self.tiny = self.smallest_normal = float(info.smallest_normal)
        self.resolution = float(info.resolution)

    def __repr__(self) -> str:
        fields = ("resolution", "min", "max", "eps", "smallest_normal", "tiny")
        return f"finfo({', '.join(f'{f}={getattr(self, f):g}' for f in fields)}, dtype={self.dtype})"


class iinfo:
    """The range of an integer dtype: bits, min, max.

    Raises:
        DTypeError: the dtype is not an integer.
    """

    def __init__(self, dtype: Any) -> None:
        kind = as_dtype(dtype)
        if kind.kind != "int":
            raise DTypeError(f"iinfo takes an integer dtype, not {kind}", hint="use finfo")
        info = np.iinfo(kind.numpy)
        self.dtype = kind.long_name
        self.bits, self.min, self.max = kind.bits, int(info.min), int(info.max)

    def __repr__(self) -> str:
        return f"iinfo(min={self.min}, max={self.max}, dtype={self.dtype})"


def _promote_two(a: DType, b: DType) -> DType:
    if a is b:
        return a
    if a.kind == b.kind == "float" and a.rank == b.rank:
        return f32  # f16 with bf16: neither holds the other
    if {a, b} == {u8, i8}:
        return i16
    return a if a.rank > b.rank else b


def promote(*operands: tuple[DType, int]) -> DType:
    """The common dtype of operands given as (dtype, priority).

    Priority 2 is a tensor with dims, 1 a 0-d tensor, 0 a Python number. Operands of lower priority
    matter only where their kind (bool < int < float) is higher than that of all above them.
    """
    result: DType | None = None
    for level in (2, 1, 0):
        group = [dtype for dtype, priority in operands if priority == level]
        if not group:
            continue
        own = group[0]
        for dtype in group[1:]:
            own = _promote_two(own, dtype)
        if result is None:
            result = own
        elif _KINDS[own.kind] > _KINDS[result.kind]:
            result = _default if level == 0 and own.kind == "float" else own
    if result is None:
        raise DTypeError("promote needs at least one operand")
    return result
