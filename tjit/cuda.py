"""GPUs: whether tensors can live on one. They cannot yet, so that programs that ask stay on the CPU."""

from __future__ import annotations

__all__ = ["current_device", "device_count", "empty_cache", "is_available", "synchronize"]


def device_count() -> int:
    """How many GPUs tensors can live on."""
    return 0


def is_available() -> bool:
    """Whether there is a GPU that tensors can live on."""
    return device_count() > 0


def current_device() -> int:
    """The number of the GPU that "cuda" names."""
    return 0


def synchronize(device: object = None) -> None:
    """Wait until the GPU has finished what it was given."""


def empty_cache() -> None:
    """Give back memory of the GPU that is not in use."""
