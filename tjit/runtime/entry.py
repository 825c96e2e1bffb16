"""The native entry in this process: its code, its callables, and the threads that it knows (docs/design/0002)."""

from __future__ import annotations

import ctypes
import importlib
import os
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np

from tjit import recording
from tjit.errors import TjitError
from tjit.ops.apply import state
from tjit.runtime.cache import default_cache
from tjit.runtime.collector import paused_collection
from tjit.runtime.entry_layout import HEAD, SPEC, THREADS, Layout, Words, find_layout
from tjit.runtime.image import AARCH64, X86_64, Image, LoadedImage, host_machine, immortal, load
from tjit.runtime.version import compiler_version
from tjit.tensor import Storage, Tensor

__all__ = ["NativeCalls", "Spec", "forget_threads", "layout", "records", "register_thread"]

_NEW_FROM_DESCR = 94  # in NumPy's table of C functions
_METH_FASTCALL_KEYWORDS = 0x80 | 0x02
_MOST_SPECS = 256

_api = ctypes.pythonapi


class _Head(ctypes.c_int64 * (HEAD.size // 8)):
    """The memory of a HEAD: the `self` of the entry. Its attributes keep what it and the entry point at."""

    slow: Callable[..., Any]
    specs: list[Spec]
    objects: tuple[Any, ...]


class _MethodDef(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p),
        ("method", ctypes.c_void_p),
        ("flags", ctypes.c_int),
        ("doc", ctypes.c_char_p),
    )


def records(rows: Sequence[Sequence[int]]) -> ctypes.Array[ctypes.c_int64]:
    """Equal records, one after the other."""
    words = [word for row in rows for word in row]
    return (ctypes.c_int64 * max(1, len(words)))(*words)


class Spec:
    """A SPEC in memory, with what it points at."""

    def __init__(self, keep: Sequence[Any], buffers: int, **words: int) -> None:
        self.keep = keep
        self.leaves = words["leaves"]
        self.buffers = buffers
        self.memory = _filled(SPEC, words)

    @property
    def address(self) -> int:
        return ctypes.addressof(self.memory)


def _filled(names: Words, values: dict[str, int]) -> ctypes.Array[ctypes.c_int64]:
    memory = (ctypes.c_int64 * (names.size // 8))()
    for name, value in values.items():
        memory[names[name] // 8] = value
    return memory


class NativeCalls:
    """The native entry of one compiled function. `slow` serves the calls that no spec fits."""

    def __init__(self, slow: Callable[..., Any]) -> None:
        self._head = _Head()
        self._head.slow = slow
        self._head.specs = []
        self._head.objects = (_known_threads, _thread_states, *_objects().values())
        self._set("slow", id(slow))
        self._set("threads", ctypes.addressof(_known_threads))

    def _set(self, name: str, value: int) -> None:
        self._head[HEAD[name] // 8] = value

    def _get(self, name: str) -> int:
        return self._head[HEAD[name] // 8]

    @property
    def hits(self) -> int:
        """Calls that a spec served."""
        return self._get("hits")

    @property
    def full(self) -> bool:
        """Whether no more specs are taken: none is freed while the function lives."""
        return len(self._head.specs) >= _MOST_SPECS

    def add(self, spec: Spec) -> None:
        """Serve the calls that fit `spec`; it is tried first."""
        self._head.specs.append(spec)
        spec.memory[SPEC["next"] // 8] = self._get("first")
        self._set("buffers", max(self._get("buffers"), spec.buffers))
        self._set("leaves", max(self._get("leaves"), spec.leaves))
        self._set("first", spec.address)

    def callable(self) -> Callable[..., Any]:
        """The entry as a Python callable."""
        definition = _definition()
        assert definition is not None
        return _new_function(ctypes.addressof(definition), self._head, None)


@cache
def layout() -> Layout | None:
    """How objects are laid out here; None: the native entry is off."""
    if os.environ.get("TJIT_NATIVE_CALLS", "1").strip().lower() in ("0", "off", "false", "no"):
        return None
    found = find_layout()
    return found if found is not None and _definition_for(found) is not None else None


@cache
def _definition_for(found: Layout) -> _MethodDef | None:
    try:
        loaded = _load(found)
        address = loaded.address("tjit.entry")
    except (TjitError, OSError, AttributeError):  # calls then go through Python
        return None
    immortal(loaded.memory)
    return immortal(_MethodDef(b"compiled", address, _METH_FASTCALL_KEYWORDS, b"A compiled function's native entry."))


def _definition() -> _MethodDef | None:
    found = layout()
    return None if found is None else _definition_for(found)


@cache
def _load(found: Layout) -> LoadedImage:
    cache, key = default_cache(), f"entry {host_machine()} {compiler_version()} {found.text()}"
    data = cache.get(key, "image")
    if data is None:
        data = _compile_image(found).to_bytes()
        cache.put(key, "image", data, label="the native entry")
    return load(Image.from_bytes(data), _symbols())


@paused_collection()
def _compile_image(found: Layout) -> Image:
    from tjit.codegen.llvm.entry import emit_entry
    from tjit.codegen.llvm.objects import compile_module
    from tjit.codegen.llvm.target import named_target
    from tjit.runtime.link import link

    # The oldest processor of its kind: the image may be cached on a disk that other computers share.
    target = named_target({X86_64: "x86-64", AARCH64: "aarch64"}[host_machine()])
    return link([compile_module(emit_entry(found), target)])


_trace_key, _grad_key = "trace", "grad"  # interned, as the attributes' names are


def _objects() -> dict[str, Any]:
    """The objects of Python that the entry knows."""
    return {
        "None": None, "True": True, "False": False, "zero": 0, "trace": _trace_key, "grad": _grad_key,
        "int": int, "float": float, "tuple": tuple, "list": list, "dict": dict,
        "ndarray": np.ndarray, "Tensor": Tensor, "Storage": Storage,
    }  # fmt: skip


def _symbols() -> dict[str, int]:
    """Addresses of all that the entry imports."""
    found = {f"object {name}": id(value) for name, value in _objects().items()}
    found["PyArray_NewFromDescr"] = _numpy_function(_NEW_FROM_DESCR)
    for name in _PYTHON_FUNCTIONS:
        found[name] = ctypes.cast(_api[name], ctypes.c_void_p).value or 0
    return found


_PYTHON_FUNCTIONS = (
    "Py_IncRef", "Py_DecRef", "PyErr_Clear", "PyErr_Occurred",
    "PyThreadState_Get", "PyThreadState_GetID", "PyEval_SaveThread", "PyEval_RestoreThread",
    "PyDict_GetItemWithError", "PyDict_Next", "PyList_GetItem", "PyList_SetSlice", "PyList_Append",
    "PyTuple_New", "PyTuple_SetItem", "PyTuple_GetItem", "PyTuple_Size", "PyLong_AsSsize_t", "PyLong_FromSsize_t",
    "PyObject_Vectorcall", "PyObject_CallNoArgs", "PyObject_CallOneArg", "PyType_GenericAlloc",
)  # fmt: skip


def _numpy_function(number: int) -> int:
    table = _capsule_pointer(importlib.import_module("numpy._core._multiarray_umath")._ARRAY_API, None)
    return ctypes.c_void_p.from_address(table + 8 * number).value or 0


# Own prototypes: the functions of ctypes.pythonapi are shared with whoever else uses them.
_pointer, _object = ctypes.c_void_p, ctypes.py_object
_capsule_pointer = ctypes.PYFUNCTYPE(_pointer, _object, ctypes.c_char_p)(("PyCapsule_GetPointer", _api))
_new_function = ctypes.PYFUNCTYPE(_object, _pointer, _object, _pointer)(("PyCFunction_NewEx", _api))
_current_thread = ctypes.PYFUNCTYPE(_pointer)(("PyThreadState_Get", _api))
_thread_number = ctypes.PYFUNCTYPE(ctypes.c_uint64, _pointer)(("PyThreadState_GetID", _api))


# -- threads -----------------------------------------------------------------------------------------------------------

_known_threads = (ctypes.c_int64 * (2 * THREADS))(*(-1, 0) * THREADS)
_thread_states: list[dict[str, Any] | None] = [None] * THREADS
_threads_lock = threading.RLock()  # a finalizer may call a compiled function for the first time on this thread
# what threading does for its own locks
os.register_at_fork(after_in_child=_threads_lock._at_fork_reinit)  # pyright: ignore[reportAttributeAccessIssue]


class _Thread(threading.local):
    """The interpreter's number of this thread, which no later thread gets."""

    def __init__(self) -> None:
        self.number = _thread_number(_current_thread())


_thread = _Thread()


def register_thread() -> None:
    """Let the native entry see this thread's grad mode and trace; not while a profile sees to it that Python serves."""
    number = _thread.number
    place = number % THREADS
    if _known_threads[2 * place] == number or recording.active is not None:
        return
    with _threads_lock:
        _known_threads[2 * place] = -1  # nobody may see the number with another thread's dict
        _thread_states[place] = state.__dict__
        _known_threads[2 * place + 1] = id(_thread_states[place])
        _known_threads[2 * place] = number


def forget_threads() -> None:
    """Have every thread go through Python once more, and as long as a profile is open."""
    with _threads_lock:
        for place in range(THREADS):
            _known_threads[2 * place] = -1
