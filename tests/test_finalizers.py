"""The collector may run finalizers wherever Python code is, and a fork may come at any time: no lock is waited for."""

from __future__ import annotations

import os
import subprocess
import sys
import threading

import numpy as np
import pytest

from tjit.codegen.llvm import objects
from tjit.runtime import buffers, collector, entry, threads

LOCKS = {
    "memory of results": buffers._POOL.lock,
    "pauses of the collector": collector._lock,
    "threads that the entry knows": entry._threads_lock,
    "the thread pool": threads._lock,
    "turns of compiling threads": objects._turns,
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_finalizer_may_need_the_lock_that_its_thread_holds(name):
    lock = LOCKS[name]

    with lock:
        again = lock.acquire(timeout=1)
        assert again
        lock.release()


def test_results_may_be_freed_while_memory_is_taken(monkeypatch):
    dropped = [buffers.empty((1 << 20,), np.dtype(np.float32))]

    class Collecting(dict):
        def get(self, *key):
            dropped.clear()
            return super().get(*key)

    monkeypatch.setattr(buffers._POOL, "free", Collecting())
    made = threading.Thread(target=buffers.empty, args=((1 << 18,), np.dtype(np.float32)), daemon=True)
    made.start()
    made.join(timeout=10)

    assert not made.is_alive()
    assert buffers._POOL.free


_FORK = """
import gc, os, signal, sys, threading, warnings
import numpy as np
import tjit
from tjit.runtime import buffers, collector

held, done = threading.Event(), threading.Event()

def hold():
    with collector.paused_collection(), buffers._POOL.lock, collector._lock:
        held.set()
        done.wait()

other = threading.Thread(target=hold)
other.start()
held.wait()
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork of a process with threads
child = os.fork()
if child == 0:
    signal.alarm(20)
    assert gc.isenabled()
    assert tjit.compile(lambda x: x + 1)(np.zeros(1 << 20, np.float32))[-1] == 1
    assert gc.isenabled()
    os._exit(0)
status = os.waitpid(child, 0)[1]
assert not gc.isenabled()
done.set()
other.join()
assert gc.isenabled()
sys.exit(status)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_child_does_not_wait_for_threads_that_it_does_not_have():
    done = subprocess.run([sys.executable, "-c", _FORK], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
