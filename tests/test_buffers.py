"""Memory of results: kept and given again, and a process's own."""

import os
import sys
import warnings

import numpy as np
import pytest

import tjit
from tjit.runtime import buffers


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_what_a_child_writes_stays_its_own():
    add = tjit.compile(lambda x: x + 1.0)
    y = add(tjit.zeros(1 << 20))
    sys.stdout.flush()
    with warnings.catch_warnings():  # Python 3.12 warns of every fork of a process with threads
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        y.numpy()[:] = 7.0
        os._exit(0 if y.numpy()[-1] == 7.0 else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert (y.numpy() == 1.0).all()


def test_freed_memory_is_given_again():
    shape = (3_000_017,)
    first = buffers.empty(shape, np.dtype(np.float32))
    address = first.ctypes.data
    view = first[5:]
    del first
    assert buffers.empty(shape, np.dtype(np.float32)).ctypes.data != address, "a view still uses it"
    del view
    assert buffers.empty(shape, np.dtype(np.float32)).ctypes.data == address
