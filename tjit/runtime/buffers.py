"""Memory for results and intermediates: kept when freed, as fresh pages cost more than the kernel that fills them."""

from __future__ import annotations

import ctypes
import mmap
import os
import threading
from collections import deque
from collections.abc import Callable
from functools import cache, partial
from sys import getrefcount
from typing import Any

import numpy as np

__all__ = ["empty", "maker"]

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


def _references(blocks: deque[Any]) -> int:
    block = blocks.pop()
    return getrefcount(block)


_POOL = _Pool()
# The first blocks of a size stay here: whether an array uses one shows in its references, which takes a tenth of the
# time of a lease, with its finalizer.
_WATCHED: dict[int, deque[mmap.mmap]] = {}
_WATCHED_COUNT = 4
_WATCHED_SIZE = 1 << 23  # bytes: for more the time is nothing beside the kernel's
_WATCHED_BYTES = 1 << 27  # of all
_UNUSED = _references(deque([object()]))  # of a block just taken, as this Python counts
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
    nbytes = _nbytes(shape, dtype)
    return np.empty(shape, dtype) if nbytes < _SMALL else _large(_size_class(nbytes), shape, dtype)


def maker(shape: tuple[int, ...], dtype: np.dtype) -> Callable[[], np.ndarray]:
    """What makes new arrays as `empty` does."""
    nbytes = _nbytes(shape, dtype)
    return partial(np.empty, shape, dtype) if nbytes < _SMALL else partial(_large, _size_class(nbytes), shape, dtype)


def _nbytes(shape: tuple[int, ...], dtype: np.dtype) -> int:
    nbytes = dtype.itemsize
    for d in shape:
        nbytes *= d
    return nbytes


def _large(size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in a block of `size` bytes: a watched one that no array uses, else one that gives itself back."""
    watched = _WATCHED.get(size, deque())
    for _ in range(len(watched)):
        try:
            block = watched.pop()  # other threads do not see it
        except IndexError:
            break
        if getrefcount(block) == _UNUSED:
            result = np.ndarray(shape, dtype, block)
            watched.append(block)
            return result
        watched.appendleft(block)
    return _watch(size, shape, dtype) if size <= _WATCHED_SIZE else _leased(size, shape, dtype)


def _watch(size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in a block that is watched from now on, if there may be more of them."""
    watched = _WATCHED.setdefault(size, deque())
    total = sum(len(blocks) * n for n, blocks in [*_WATCHED.items()])
    if len(watched) >= _WATCHED_COUNT or total + size > _WATCHED_BYTES:
        return _leased(size, shape, dtype)
    block = _POOL.take(size)
    result = np.ndarray(shape, dtype, block)
    watched.append(block)
    return result


def _leased(size: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An array in a block that goes back to the pool with the last array that uses it."""
    block = _POOL.take(size)
    lease = _lease_type(size).from_buffer(block)
    lease.block = block
    return np.ndarray(shape, dtype, buffer=lease)
