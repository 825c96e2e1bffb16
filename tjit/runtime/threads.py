"""The process's thread pool: one pointer for its whole life, given to every program that runs.

The pool (codegen/llvm/threads.py) is made at the first `pool()` and never destroyed, so a pointer taken from it stays
valid: its number of threads changes under it. `set_num_threads` waits for the parallel loop that runs at that moment;
calls of other threads meanwhile run on their own thread. A forked child keeps the pointer and gets threads of its own.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import threading
from collections.abc import Callable
from typing import Any

from tjit.errors import ArgumentError
from tjit.runtime.cache import default_cache
from tjit.runtime.collector import hold_builds, paused_collection, release_builds
from tjit.runtime.image import AARCH64, X86_64, Image, LoadedImage, host_machine, immortal, load
from tjit.runtime.preload import preload_llvm
from tjit.runtime.version import compiler_version

__all__ = ["get_num_threads", "pool", "prepare", "set_num_threads", "symbols", "usable_cores"]

_PATIENCE = 10.0  # seconds that a fork waits for what other threads build
_TARGETS = {X86_64: "x86-64", AARCH64: "aarch64"}


def pool() -> int:
    """The address of the process's pool."""
    return _pointer or _create()


def prepare() -> None:
    """Have the pool made on another thread, for a program that will want it: that takes as long as a small program.

    LLVM is loaded first, which whoever asks is about to need too.
    """
    global _maker
    if not _pointer and _maker is None:
        _maker = threading.Thread(target=_try_pool, daemon=True)
        _maker.start()


def _try_pool() -> None:
    if (loader := preload_llvm()) is not None:
        loader.join()
    with contextlib.suppress(Exception):  # who wants the pool tries again, and hears of it
        pool()


def get_num_threads() -> int:
    """How many threads a program uses at most: the last `set_num_threads`, TJIT_NUM_THREADS, or the usable cores.

    Raises:
        ArgumentError: TJIT_NUM_THREADS is no positive number.
    """
    global _threads
    if _threads == 0:
        _threads = _default_threads()
    return _threads


def set_num_threads(threads: int) -> None:
    """Have programs use at most `threads` threads. Results do not depend on it.

    Raises:
        ArgumentError: threads is below 1.
    """
    global _threads
    if threads < 1:
        raise ArgumentError(f"set_num_threads takes a number of threads from 1 on, not {threads}")
    with _lock:
        _threads = threads
        if _pointer:
            _function("tjit.pool_resize", None, ctypes.c_void_p, ctypes.c_int32)(_pointer, threads)


def usable_cores() -> int:
    """The processors that this process may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def symbols() -> dict[str, int]:
    """Addresses of the pool's functions, for images that import them."""
    pool()
    return {name: _loaded.base + offset for name, offset in _loaded.image.exports.items()} if _loaded else {}


_lock = threading.RLock()
_threads = 0
_pointer = 0
_maker: threading.Thread | None = None
_loaded: LoadedImage | None = None


def _default_threads() -> int:
    text = os.environ.get("TJIT_NUM_THREADS", "").strip()
    if not text:
        return usable_cores()
    if not text.isdecimal() or int(text) < 1:
        raise ArgumentError(f"TJIT_NUM_THREADS should be a number of threads from 1 on, not {text!r}")
    return int(text)


@paused_collection()  # no finalizer asks for the pool while it is made
def _create() -> int:
    global _pointer, _loaded
    with _lock:
        if not _pointer:
            _loaded = load(_pool_image())
            immortal(_loaded.memory)  # its threads go on to the end of the process
            create = _function("tjit.pool_create", ctypes.c_void_p, ctypes.c_int32)
            _pointer = create(get_num_threads()) or 0
    return _pointer


def _before_fork() -> None:
    hold_builds(_PATIENCE)  # before the lock, which they may need
    _lock.acquire()


def _after_fork_here() -> None:
    _lock.release()
    release_builds()


def _after_fork() -> None:
    _lock.release()
    if _pointer:
        _function("tjit.pool_forked", None, ctypes.c_void_p)(_pointer)


if hasattr(os, "register_at_fork"):  # no child gets a lock that is taken, or a pool that is half made
    os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_here, after_in_child=_after_fork)


def _function(name: str, *types: Any) -> Callable[..., int | None]:
    assert _loaded is not None
    return ctypes.CFUNCTYPE(*types)(_loaded.address(name))


def _pool_image() -> Image:
    """From the disk cache, else compiled, which needs LLVM."""
    cache, key = default_cache(), f"threads {host_machine()} {compiler_version()}"
    data = cache.get(key, "image")
    if data is None:
        data = _compile_image().to_bytes()
        cache.put(key, "image", data, label="the thread pool")
    return Image.from_bytes(data)


def _compile_image() -> Image:
    from tjit.codegen.llvm.objects import compile_module
    from tjit.codegen.llvm.target import named_target
    from tjit.codegen.llvm.threads import emit_threads
    from tjit.runtime.link import link

    if host_machine() not in _TARGETS:
        raise ArgumentError("tjit runs native code on x86-64 and AArch64 only")
    # The oldest processor of its kind: the image may be cached on a disk that other computers share.
    target = named_target(_TARGETS[host_machine()])
    return link([compile_module(emit_threads(target.architecture), target)])
