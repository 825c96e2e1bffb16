"""Where a tensor's memory is."""

from __future__ import annotations

from typing import Any, NamedTuple

from tjit.dtypes import DTYPES
from tjit.errors import ArgumentError
from tjit.location import user_location

__all__ = ["Device", "as_device", "cpu"]


class _Fields(NamedTuple):
    type: str
    index: int | None  # pyright: ignore[reportIncompatibleMethodOverride]  # PyTorch's name, over tuple.index


class Device(_Fields):
    """A device: type "cpu" or "cuda", and the index of the GPU (None on the CPU). `Device("cuda:1")` works too.

    Raises:
        ArgumentError: no such device type.
    """

    __slots__ = ()

    def __new__(cls, type: Any, index: int | None = None) -> Device:
        if isinstance(type, int) and not isinstance(type, bool):
            type, index = "cuda", type
        name, _, number = str(type).partition(":")
        if name not in ("cpu", "cuda") or (number and not number.isdigit()):
            is_dtype = any(name in (t.name, t.long_name) for t in DTYPES)
            hint = f"a dtype is given as tjit.{name}" if is_dtype else "use 'cpu', 'cuda' or 'cuda:0'"
            raise ArgumentError(f"no device {type!r}", user_location(), hint=hint)
        if name == "cuda" and index is None:
            index = int(number or 0)
        return _Fields.__new__(cls, name, index if name == "cuda" else None)

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        tail = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{tail})"


cpu = Device("cpu")


def as_device(device: Any) -> Device:
    """The Device for a Device, "cpu", "cuda", "cuda:1", a GPU's number, or None (the CPU).

    Raises:
        ArgumentError: no such device type.
    """
    if device is None:
        return cpu
    return device if isinstance(device, Device) else Device(device)
