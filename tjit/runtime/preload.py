"""LLVM's library loaded on another thread, while this one imports the Python around it.

Loading takes 20 to 50 ms, most of it relocations. Python's own loader holds the interpreter's lock for as long; the
system's, called as a foreign function, does not, and who loads a library that is loaded gets it at once.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import sys
import threading
from functools import cache
from importlib.util import find_spec

__all__ = ["preload_llvm"]


@cache
def preload_llvm() -> threading.Thread | None:
    """Have the library of llvmlite loaded, where the system has `dlopen`. Once; where it fails, llvmlite says so.

    Returns:
        Who loads it: another thread that imports llvmlite before that has ended holds up all threads.
    """
    spec = find_spec("llvmlite") if "llvmlite.binding" not in sys.modules and hasattr(os, "RTLD_NOW") else None
    if spec is not None and spec.submodule_search_locations:
        name = "libllvmlite.dylib" if sys.platform == "darwin" else "libllvmlite.so"
        path = os.path.join(spec.submodule_search_locations[0], "binding", name)
        loader = threading.Thread(target=_load, args=(path,), daemon=True)
        loader.start()
        return loader
    return None


def _load(path: str) -> None:
    with contextlib.suppress(OSError, AttributeError):
        load = ctypes.CDLL(None).dlopen
        load.argtypes, load.restype = (ctypes.c_char_p, ctypes.c_int), ctypes.c_void_p
        load(os.fsencode(path), os.RTLD_NOW)
