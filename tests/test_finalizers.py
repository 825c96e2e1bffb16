"""The collector may run finalizers wherever Python code is, and a fork may come at any time: nothing waits for ever."""

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
    dropped = [buffers.empty((1 << 23,), np.dtype(np.float32))]  # large enough to give itself back

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
from tjit.runtime import buffers, collector, threads

threads._PATIENCE = 0.2
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


_FORK_WHILE_BUILDING = """
import os, signal, sys, threading, time, warnings
import tjit
from tjit.runtime import collector

held, built, more = threading.Event(), [], []

def build(result, seconds):
    with collector.paused_collection():
        held.set()
        time.sleep(seconds)
        result.append(len(result))

other = threading.Thread(target=build, args=(built, 0.5))
other.start()
held.wait()
warnings.simplefilter("ignore")  # Python 3.12 warns of every fork of a process with threads
child = os.fork()
if child == 0:
    signal.alarm(20)
    os._exit(built != [0])
status = os.waitpid(child, 0)[1]
build(more, 0)  # the parent goes on
other.join()
sys.exit(status or more != [0])
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
def test_a_fork_waits_for_what_other_threads_build():
    done = subprocess.run([sys.executable, "-c", _FORK_WHILE_BUILDING], capture_output=True, text=True)

    assert (done.returncode, done.stderr) == (0, "")
