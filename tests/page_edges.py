"""Arrays at the end of a page after which there is no memory: who reads or writes beyond them crashes."""

from __future__ import annotations

import ctypes
import mmap

import numpy as np

__all__ = ["at_edge"]

_protect = ctypes.CDLL(None, use_errno=True).mprotect


def at_edge(array: np.ndarray) -> np.ndarray:
    """A contiguous copy whose last byte is the last one of a page; the next page can be neither read nor written."""
    if array.nbytes == 0:
        return array.copy()
    size = -(-array.nbytes // mmap.PAGESIZE) * mmap.PAGESIZE
    memory = mmap.mmap(-1, size + mmap.PAGESIZE)
    result = np.frombuffer(memory, array.dtype, array.size, size - array.nbytes).reshape(array.shape)
    result[...] = array
    end = ctypes.c_void_p(result.ctypes.data + array.nbytes)
    assert _protect(end, ctypes.c_size_t(mmap.PAGESIZE), 0) == 0
    return result
