"""GPUs: whether tensors can live on one."""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

__all__ = ["current_device", "device_count", "empty_cache", "is_available", "synchronize"]


def device_count() -> int:
    """How many GPUs tensors can live on. Holding tensors on a GPU needs CuPy."""
    if find_spec("cupy") is None:
        return 0
    try:
        cupy = import_module("cupy")

        return int(cupy.cuda.runtime.getDeviceCount())
    except Exception:  # no driver, or no device: CuPy says so in several ways
        return 0


def is_available() -> bool:
    """Whether there is a GPU that tensors can live on."""
    return device_count() > 0


def current_device() -> int:
    """The number of the GPU that "cuda" names."""
    return 0


def synchronize(device: object = None) -> None:
    """Wait until the GPU has finished what it was given."""
    if is_available():
        cupy = import_module("cupy")

        cupy.cuda.runtime.deviceSynchronize()


def empty_cache() -> None:
    """Give back memory of the GPU that is not in use."""
    if is_available():
        cupy = import_module("cupy")

        cupy.get_default_memory_pool().free_all_blocks()
