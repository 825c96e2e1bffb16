"""The type of a value."""

from __future__ import annotations

from tjit.dataclass import dataclass
from tjit.devices import Device, cpu
from tjit.dtypes import DType
from tjit.ir.dims import Dim, product

__all__ = ["TensorType"]


@dataclass(frozen=True, slots=True)
class TensorType:
    """dtype, shape (each extent an int or a `DimExpr`) and device. Prints as `f32[B, 784]`."""

    dtype: DType
    shape: tuple[Dim, ...]
    device: Device = cpu

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def size(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    @property
    def static_shape(self) -> tuple[int, ...]:
        """The shape, which has no symbols."""
        found = tuple(d for d in self.shape if isinstance(d, int))
        assert len(found) == self.ndim, self
        return found

    @property
    def nbytes(self) -> Dim:
        return self.size * self.dtype.itemsize

    @property
    def is_float(self) -> bool:
        return self.dtype.kind == "float"

    def with_shape(self, shape: tuple[Dim, ...]) -> TensorType:
        return TensorType(self.dtype, tuple(shape), self.device)

    def with_dtype(self, dtype: DType) -> TensorType:
        return TensorType(dtype, self.shape, self.device)

    def __str__(self) -> str:
        text = f"{self.dtype}[{', '.join(str(d) for d in self.shape)}]"
        return text if self.device.type == "cpu" else f"{text}@{self.device}"
