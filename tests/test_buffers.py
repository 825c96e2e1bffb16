"""Memory of results: kept and given again, and a process's own."""

import os
import sys
import threading
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


@pytest.mark.parametrize("size", [300_017, 3_000_017])
def test_freed_memory_is_given_again(size):
    make = buffers.maker((size,), np.dtype(np.float32))
    first = make()
    address = first.ctypes.data
    view = first[5:]
    del first
    other = make()
    assert other.ctypes.data != address, "a view still uses it"
    del view
    assert make().ctypes.data == address


@pytest.mark.parametrize("size", [300_017, 3_000_017])
def test_memory_in_use_is_given_to_nobody(size, rng):
    kept: dict[int, np.ndarray] = {}
    for n in rng.integers(0, 12, 300).tolist():
        kept.pop(n, None)
        kept[n] = buffers.empty((size + n,), np.dtype(np.float32))[n:]
        places = {array.ctypes.data & ~4095 for array in kept.values()}
        assert len(places) == len(kept)


def test_threads_get_memory_of_their_own():
    make = buffers.maker((300_017,), np.dtype(np.float32))
    wrong: list[int] = []

    def work(number: int) -> None:
        for _ in range(300):
            array = make()
            array[::1000] = number
            if not (array[::1000] == number).all():
                wrong.append(number)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
