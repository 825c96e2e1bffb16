"""Where a tensor's memory is."""

from __future__ import annotations

from typing import Any, NamedTuple

from tjit.errors import ArgumentError

__all__ = ["Device", "as_device", "cpu"]


class Device(NamedTuple):
    """A device: type "cpu" or "cuda", and the index of the GPU (None on the CPU)."""

    type: str
    index: int | None = None

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        tail = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{tail})"


cpu = Device("cpu")


def as_device(device: Any) -> Device:
    """The Device for a Device, "cpu", "cuda", "cuda:1", or None (the CPU).

    Raises:
        ArgumentError: no such device type.
    """
    if device is None:
        return cpu
    if isinstance(device, Device):
        return device
    name, _, index = str(device).partition(":")
    if name not in ("cpu", "cuda") or (index and not index.isdigit()):
        raise ArgumentError(f"no device {device!r}", hint="use 'cpu', 'cuda' or 'cuda:0'")
    if name == "cpu":
        return cpu
    return Device("cuda", int(index or 0))
