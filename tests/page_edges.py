"""Arrays beside a page that is no memory: who reads or writes beyond them crashes."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

__all__ = ["after_edge", "at_edge"]

_protect = ctypes.CDLL(None, use_errno=True).mprotect


def at_edge(array: np.ndarray) -> np.ndarray:
    """A contiguous copy whose last byte is the last one of a page; the next page can be neither read nor written."""
    if array.nbytes == 0:
        return array.copy()
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    result = _copied(array, size + mmap.PAGESIZE, size - array.nbytes)
    _close(result.ctypes.data + array.nbytes)
    return result


def after_edge(array: np.ndarray) -> np.ndarray:
    """A contiguous copy whose first byte is the first one of a page; nor can the page before."""
    if array.nbytes == 0:
        return array.copy()
    result = _copied(array, array.nbytes + mmap.PAGESIZE, mmap.PAGESIZE)
    _close(result.ctypes.data - mmap.PAGESIZE)
    return result


def _copied(array: np.ndarray, size: int, start: int) -> np.ndarray:
    result = np.frombuffer(mmap.mmap(-1, size), array.dtype, array.size, start).reshape(array.shape)
    result[...] = array
    return result


def _close(page: int) -> None:
    assert _protect(ctypes.c_void_p(page), ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
