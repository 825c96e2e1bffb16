"""The thread pool: every task runs once, whoever calls, however often, with any number of threads, also after fork."""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from tjit.codegen.llvm.objects import compile_modules
from tjit.codegen.llvm.target import host_target, named_target
from tjit.codegen.llvm.threads import emit_threads
from tjit.errors import ArgumentError
from tjit.runtime import threads as process_threads
from tjit.runtime.image import LoadedImage, load
from tjit.runtime.link import link

# count: args[0][task] += 1.  repeat: rounds times parallel_for.  nested: inside each task, 3 tasks of count on args[1].
NATIVE = """
declare void @"tjit.parallel_for"(ptr, ptr, ptr, i64, i64, i64)
define void @count(ptr %args, i64 %task, i64 %tasks) {
  %data = load ptr, ptr %args
  %p = getelementptr i64, ptr %data, i64 %task
  %x = load i64, ptr %p
  %y = add i64 %x, 1
  store i64 %y, ptr %p
  ret void }
define void @nested(ptr %args, i64 %task, i64 %tasks) {
  %at = mul i64 %task, 3
  %data = load ptr, ptr %args
  %slot = alloca ptr
  %p = getelementptr i64, ptr %data, i64 %at
  store ptr %p, ptr %slot
  %q = getelementptr ptr, ptr %args, i64 1
  %pool = load ptr, ptr %q
  call void @"tjit.parallel_for"(ptr %pool, ptr @count, ptr %slot, i64 3, i64 0, i64 0)
  ret void }
define void @repeat(ptr %pool, ptr %kernel, ptr %args, i64 %tasks, i64 %rounds) {
  br label %loop
loop:
  %i = phi i64 [ 0, %0 ], [ %next, %loop ]
  call void @"tjit.parallel_for"(ptr %pool, ptr %kernel, ptr %args, i64 %tasks, i64 0, i64 0)
  %next = add i64 %i, 1
  %more = icmp slt i64 %next, %rounds
  br i1 %more, label %loop, label %done
done:
  ret void }
"""


@pytest.fixture(scope="module")
def native() -> SimpleNamespace:
    target = host_target()
    loaded = load(link(compile_modules([emit_threads(target.architecture), NATIVE], target)))
    return SimpleNamespace(
        loaded=loaded,
        create=_function(loaded, "tjit.pool_create", ctypes.c_void_p, ctypes.c_int32),
        destroy=_function(loaded, "tjit.pool_destroy", None, ctypes.c_void_p),
        resize=_function(loaded, "tjit.pool_resize", None, ctypes.c_void_p, ctypes.c_int32),
        forked=_function(loaded, "tjit.pool_forked", None, ctypes.c_void_p),
        repeat=_function(loaded, "repeat", None, *[ctypes.c_void_p] * 3, ctypes.c_int64, ctypes.c_int64),
    )


def _function(loaded: LoadedImage, name: str, *types: Any) -> Callable:
    return ctypes.CFUNCTYPE(*types)(loaded.address(name))


@pytest.fixture(params=[1, 2, 3, 8])
def pool(request: pytest.FixtureRequest, native: SimpleNamespace) -> Iterator[int]:
    made = native.create(request.param)
    yield made
    native.destroy(made)


def count(native: SimpleNamespace, pool: int | None, tasks: int, rounds: int = 1, kernel: str = "count") -> np.ndarray:
    data = np.zeros(max(3 * tasks, 1), np.int64)
    args = (ctypes.c_void_p * 2)(data.ctypes.data, pool)
    native.repeat(pool, native.loaded.address(kernel), args, tasks, rounds)
    return data[: 3 * tasks if kernel == "nested" else tasks]


@pytest.mark.parametrize("tasks", [0, 1, 2, 3, 7, 64, 1000])
def test_every_task_runs_once(native, pool, tasks):
    assert count(native, pool, tasks).tolist() == [1] * tasks


@pytest.mark.parametrize("tasks", [2, 5])
def test_every_task_runs_once_in_many_rounds(native, pool, tasks):
    assert count(native, pool, tasks, rounds=20_000).tolist() == [20_000] * tasks


def test_workers_that_sleep_are_woken(native, pool):
    for _ in range(50):
        time.sleep(0.001)  # longer than workers spin
        assert count(native, pool, 16).tolist() == [1] * 16


def test_work_is_shared_between_threads(native):
    def threads_of(pool: int) -> int:
        seen: set[int] = set()

        def task(args: int, index: int, tasks: int) -> None:
            seen.add(threading.get_native_id())
            time.sleep(0.02)

        kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(task)
        native.repeat(pool, ctypes.cast(kernel, ctypes.c_void_p), None, 9, 1)
        return len(seen)

    pool = native.create(3)
    first = threads_of(pool)
    time.sleep(0.01)  # longer than workers spin
    assert threads_of(pool) == first
    native.resize(pool, 2)
    second = threads_of(pool)
    native.resize(pool, 1)
    third = threads_of(pool)
    native.destroy(pool)

    assert (first, second, third) == (3, 2, 1)


def test_threads_take_their_own_part_first_and_help_from_the_back(native):
    order: list[int] = []

    def task(args: int, index: int, tasks: int) -> None:
        if threading.get_native_id() == caller:
            time.sleep(0.5)  # held up in its first
        else:
            order.append(index)

    caller = threading.get_native_id()
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(task)
    pool = native.create(2)
    native.repeat(pool, ctypes.cast(kernel, ctypes.c_void_p), None, 9, 1)
    native.destroy(pool)

    assert order == [4, 5, 6, 7, 8, 3, 2, 1]


def test_each_thread_has_scratch_memory_of_its_own(native):
    """A task fills its scratch with its number, waits, and finds it there still."""
    caller = ctypes.create_string_buffer(1 << 20)
    args = (ctypes.c_void_p * 5)(1, 2, ctypes.addressof(caller), 4, 5)
    places: dict[int, set[int]] = {}
    kept: list[bool] = []

    def task(address: int, index: int, tasks: int) -> None:
        found = (ctypes.c_void_p * 5).from_address(address)
        size = sizes[-1]
        memory = (ctypes.c_char * size).from_address(found[2])
        memory[:] = bytes([index + 1]) * size
        time.sleep(0.005)
        others = [found[n] for n in (0, 1, 3, 4)] == [1, 2, 4, 5]
        kept.append(others and bytes(memory) == bytes([index + 1]) * size)
        places.setdefault(threading.get_native_id(), set()).add(found[2])

    types = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
    run = types(native.loaded.address("tjit.parallel_for"))
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(task)
    pool = native.create(3)
    sizes = []
    for size in (64, 1000, 1 << 20, 64):
        sizes.append(size)
        run(pool, ctypes.cast(kernel, ctypes.c_void_p), args, 9, len(args), size)
    native.destroy(pool)

    assert kept == [True] * 36
    assert places.pop(threading.get_native_id()) == {ctypes.addressof(caller)}
    assert len(places) == 2
    assert len(set.union(*places.values())) == sum(map(len, places.values()))
    assert args[2] == ctypes.addressof(caller)


def test_without_a_pool_the_caller_runs_everything(native):
    assert count(native, None, 10, rounds=3).tolist() == [3] * 10


def test_nested_calls_run_on_the_caller(native, pool):
    assert count(native, pool, 20, rounds=500, kernel="nested").tolist() == [500] * 60


def test_many_threads_may_call_one_pool(native, pool):
    results: list[np.ndarray] = []

    def call() -> None:
        results.append(count(native, pool, 6, rounds=5_000))

    threads = [threading.Thread(target=call) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert [r.tolist() for r in results] == [[5_000] * 6] * 6


def test_resizing_while_others_call(native):
    pool = native.create(2)
    results: list[np.ndarray] = []
    threads = [threading.Thread(target=lambda: results.append(count(native, pool, 4, rounds=30_000))) for _ in range(3)]
    for thread in threads:
        thread.start()
    for size in [1, 4, 2, 8, 1, 3] * 5:
        native.resize(pool, size)
        time.sleep(0.001)
    for thread in threads:
        thread.join()
    native.destroy(pool)

    assert [r.tolist() for r in results] == [[30_000] * 4] * 3


def test_destroy_ends_all_threads(native):
    before = _thread_count()
    pools = [native.create(4) for _ in range(10)]
    for pool in pools:
        count(native, pool, 8)
    during = _thread_count()
    for pool in pools:
        native.destroy(pool)
    native.destroy(None)

    assert during == before + 30
    assert _thread_count() == before


def _thread_count() -> int:
    return len(os.listdir("/proc/self/task"))


@pytest.mark.parametrize("announced", [True, False])
def test_a_forked_child_can_use_the_pool(native, pool, announced):
    count(native, pool, 8)
    with warnings.catch_warnings():  # Python 3.12 warns of every fork of a process with threads, jax where it is loaded
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        if announced:
            native.forked(pool)
        fine = count(native, pool, 8, rounds=1000).tolist() == [1000] * 8
        os._exit(0 if fine else 1)
    _, status = os.waitpid(child, 0)

    assert status == 0
    assert count(native, pool, 8).tolist() == [1] * 8


def test_the_text_of_the_pool_is_always_the_same():
    for target in (named_target("x86-64"), named_target("aarch64")):
        assert str(emit_threads(target.architecture)) == str(emit_threads(target.architecture))


# The process's pool.

SCRIPT = """
import ctypes, os, sys
import numpy as np
from tjit.runtime import threads
from tjit.errors import ArgumentError
from tjit.runtime import threads as process_threads
from tjit.runtime.image import load

def run(tasks):
    seen = []
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)(lambda a, i, n: seen.append(i))
    types = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * 3, *[ctypes.c_int64] * 3)
    parallel_for = types(threads.symbols()["tjit.parallel_for"])
    parallel_for(threads.pool(), ctypes.cast(kernel, ctypes.c_void_p), None, tasks, 0, 0)
    return sorted(seen) == list(range(tasks))
"""


def run_script(code: str, tmp_path: Path, **environment: str) -> str:
    variables = os.environ | {"TJIT_CACHE_DIR": str(tmp_path), "PYTHONPATH": os.pathsep.join(p for p in sys.path if p)}
    command = [sys.executable, "-W", "error", "-c", SCRIPT + code]
    result = subprocess.run(command, env=variables | environment, capture_output=True, text=True, check=False)
    assert result.stderr == ""
    return result.stdout.strip()


def test_the_pool_comes_from_the_disk_cache_without_llvm(tmp_path):
    code = "print(run(50), 'llvmlite' in sys.modules)"

    assert run_script(code, tmp_path) == "True True"
    assert run_script(code, tmp_path) == "True False"


def test_the_pool_survives_a_damaged_cache(tmp_path):
    run_script("run(2)", tmp_path)
    for path in tmp_path.rglob("*"):
        if path.is_file():
            path.write_bytes(path.read_bytes()[:-1])

    assert run_script("print(run(50))", tmp_path) == "True"


def test_the_pool_stays_where_it_is(tmp_path):
    code = """
first = threads.pool()
threads.set_num_threads(4)
print(run(50), threads.pool() == first, threads.get_num_threads(), len(os.listdir("/proc/self/task")))
threads.set_num_threads(1)
print(run(50), threads.pool() == first, threads.get_num_threads(), len(os.listdir("/proc/self/task")))
"""

    assert run_script(code, tmp_path, OPENBLAS_NUM_THREADS="1") == "True True 4 4\nTrue True 1 1"


def test_a_forked_child_gets_threads_of_its_own(tmp_path):
    code = """
import warnings
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of every fork of a process with threads
threads.set_num_threads(3)
run(50)
child = os.fork()
if child:
    os.waitpid(child, 0)
print(run(50), len(os.listdir("/proc/self/task")), flush=True)
if not child:
    os._exit(0)
"""

    assert run_script(code, tmp_path, OPENBLAS_NUM_THREADS="1").split("\n") == ["True 3"] * 2


def test_the_number_of_threads_follows_the_environment(tmp_path):
    assert run_script("print(threads.get_num_threads())", tmp_path, TJIT_NUM_THREADS="3") == "3"
    expected = str(len(os.sched_getaffinity(0)))
    assert run_script("print(threads.get_num_threads())", tmp_path, TJIT_NUM_THREADS="") == expected


@pytest.mark.parametrize("text", ["0", "-1", "two"])
def test_a_wrong_number_in_the_environment_is_named(monkeypatch, text):
    monkeypatch.setattr(process_threads, "_threads", 0)
    monkeypatch.setenv("TJIT_NUM_THREADS", text)

    with pytest.raises(ArgumentError, match=f"TJIT_NUM_THREADS should be a number of threads from 1 on, not '{text}'"):
        process_threads.get_num_threads()


def test_a_wrong_number_of_threads_is_named():
    with pytest.raises(ArgumentError, match="set_num_threads takes a number of threads from 1 on, not 0"):
        process_threads.set_num_threads(0)
