"""Memory for results and intermediates: kept when freed, as fresh pages cost more than the kernel that fills them."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from functools import cache
from typing import Any

import numpy as np

__all__ = ["empty"]

_SMALL = 1 << 16  # below, NumPy's own allocator is as good
_HUGE_PAGE = 1 << 21
_KEEP = 1 << 30  # bytes of free memory that are kept
# A child of fork gets copies of arrays, as of everything else; and shared memory seldom has huge pages.
_PRIVATE = {"flags": mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS} if hasattr(mmap, "MAP_PRIVATE") else {}


class _Pool:
    """Free blocks by size class, the most recently freed first."""

    def __init__(self) -> None:
        self.free: dict[int, list[mmap.mmap]] = {}
        self.bytes = 0
        self.lock = threading.RLock()  # a collection may begin under it, and give blocks

    def take(self, size: int) -> mmap.mmap:
        with self.lock:
            blocks = self.free.get(size)
            if blocks:
                self.bytes -= size
                return blocks.pop()
        block = mmap.mmap(-1, size, **_PRIVATE)
        if size >= _HUGE_PAGE and hasattr(mmap, "MADV_HUGEPAGE"):
            block.madvise(mmap.MADV_HUGEPAGE)
        return block

    def give(self, size: int, block: mmap.mmap) -> None:
        with self.lock:
            if self.bytes + size <= _KEEP:
                self.free.setdefault(size, []).append(block)
                self.bytes += size


_POOL = _Pool()
# what threading does for its own locks
os.register_at_fork(after_in_child=_POOL.lock._at_fork_reinit)  # pyright: ignore[reportAttributeAccessIssue]


def _size_class(nbytes: int) -> int:
    """nbytes rounded up to one of eight sizes between powers of two."""
    step = 1 << max(12, nbytes.bit_length() - 4)
    return -(-nbytes // step) * step


@cache
def _lease_type(size: int) -> type:
    """A ctypes array over a block; when the last array that uses it dies, the block goes back."""

    def __del__(self: Any, give: Any = _POOL.give) -> None:
        block = self.__dict__.pop("block", None)
        if block is not None:
            give(size, block)

    return type("Lease", (ctypes.c_char * size,), {"__del__": __del__})


def empty(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """A new array with unspecified elements, aligned to a page where it is large."""
    nbytes = dtype.itemsize
    for d in shape:
        nbytes *= d
    if nbytes < _SMALL:
        return np.empty(shape, dtype)
    size = _size_class(nbytes)
    block = _POOL.take(size)
    kind = _lease_type(size)
    lease = kind.from_buffer(block)
    lease.block = block
    return np.ndarray(shape, dtype, buffer=lease)
