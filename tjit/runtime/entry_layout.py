"""Where the native entry finds things: offsets in the objects of CPython, NumPy and tjit, and the words of its records.

Offsets are looked up in real objects when the entry is first needed. Where one is not found as expected, there is no
entry and every call goes through Python.
"""

from __future__ import annotations

import ctypes
import sys
import sysconfig
import types
from dataclasses import astuple
from typing import Any

import numpy as np

from tjit.dataclass import dataclass
from tjit.tensor import Storage, Tensor

__all__ = [
    "ANY_GRAD", "GUARD", "HEAD", "INPUT", "KINDS", "NODE", "NODES", "OUTPUT", "RESULTS", "SPEC", "THREADS",
    "Layout", "Words", "find_layout",
]  # fmt: skip

_WORD = 8


class Words:
    """Names for the 8-byte words of a record."""

    def __init__(self, *names: str) -> None:
        self.offsets = {name: _WORD * i for i, name in enumerate(names)}
        self.size = _WORD * len(names)

    def __getitem__(self, name: str) -> int:
        """The offset in bytes of a word."""
        return self.offsets[name]


# One for each compiled function. `slow` is called where no spec fits; `hits` counts the calls that found one.
HEAD = Words("first", "slow", "buffers", "leaves", "hits", "threads")

# One for each kind of call. Lists are a pointer to equal records and their number; `x_arg` etc. are Python objects.
SPEC = Words(
    "next", "args", "grad",
    "names", "n_names",  # of the last arguments
    "nodes",  # where an argument is a container: the structure of all, each before its children; else 0
    "leaves",  # what the arguments hold; "argument" below is a position among these
    "words", "n_words",  # [address, expected]: a word of memory
    "dicts", "n_dicts",  # [dict, key, expected]
    "items", "n_items",  # [list, index, expected]
    "constants", "n_constants",  # [argument, expected]: a Python value
    "twins", "n_twins",  # [argument, argument]: one object
    "inputs", "n_inputs", "outputs", "n_outputs",
    "recheck",  # whether looking up a dict's key may run Python code
    "program", "pool", "symbols",
    "arena", "arenas", "take_arena",  # bytes; the program's list of free ones; makes one
    "release",  # whether to let other threads run Python meanwhile
    "hold",  # whether other Python code may run during the call
    "fail",  # raises for a return code
    "results", "n_results",  # [kind, value]; n_results < 0: one, bare
    "finish",  # from the tuple of the results to what the call returns, or 0
    "n_writes",
    "grads", "n_grads",  # [tensor, output or -1]
)  # fmt: skip

# kind: "array" and "tensor" are arguments, by position in `source`; "fixed" is a tensor, "grad" a tensor's .grad. Of
# numbers "leaf" is an argument, "number" in the dict `source` at the key `type`, "item" in a list at the index `type`,
# "cell" what the word at `source` points to. integer: whether a number is an int, not a float. requires: whether it
# requires grad. strides: 0: contiguous.
INPUT = Words(
    "kind", "source", "type", "requires", "descr", "dims", "strides", "nd", "flags", "bytes", "written", "integer",
)  # fmt: skip
KINDS = {"array": 0, "tensor": 1, "fixed": 2, "grad": 3, "number": 4, "leaf": 5, "cell": 6, "item": 7}

# kind: of `NODES`, 0 for a leaf. count: of children. keys: of a dict, in its order.
NODE = Words("kind", "count", "keys")
NODES = {"tuple": 1, "list": 2, "dict": 3}

# make: 0, or a callable that makes the array. tensor: whether the caller gets it as a Tensor; grad_fn: with this tape
# node, or 0.
OUTPUT = Words("descr", "dims", "nd", "make", "tensor", "grad_fn")
RESULTS = {"array": 0, "tensor": 1, "argument": 2, "object": 3, "input": 4}
ANY_GRAD = 0  # for a spec's `grad`: serve every thread, those too that capture
GUARD = {"words": 2, "dicts": 3, "items": 3, "constants": 2, "twins": 2, "results": 2, "grads": 2, "names": 1}

# The first words are looked up by the thread's number: [number, dict of `tjit.ops.apply.state`].
THREADS = 64


@dataclass(frozen=True, slots=True)
class Layout:
    """Offsets in bytes of what the entry reads.

    Attributes:
        immortal: None, False and small ints have no reference count to keep.
        tensor_size, storage_size: of the objects, for the key of the entry's code.
    """

    immortal: bool
    pointer: int  # in a ctypes object: its memory
    array_data: int
    array_nd: int
    array_dims: int
    array_strides: int
    array_descr: int
    array_flags: int
    float_value: int
    tuple_items: int
    list_items: int
    cell_value: int
    dict_size: int
    set_size: int
    tensor_data: int
    tensor_requires_grad: int
    tensor_grad: int
    tensor_grad_fn: int
    tensor_index: int
    tensor_storage: int
    tensor_view: int
    tensor_seen: int
    storage_version: int

    def text(self) -> str:
        return f"{sys.version_info[:2]} {astuple(self)}"


def _word(address: int) -> int:
    return ctypes.c_int64.from_address(address).value


def _slots(kind: type, names: tuple[str, ...]) -> list[int]:
    """The offset of each slot of a class: where an object of it holds what was put there."""
    thing: Any = object.__new__(kind)
    marks = [object() for _ in names]
    for name, mark in zip(names, marks, strict=True):
        setattr(thing, name, mark)
    words = [_word(id(thing) + at) for at in range(0, kind.__basicsize__, _WORD)]
    if any(words.count(id(m)) != 1 for m in marks):
        raise LookupError(kind.__name__)
    return [_WORD * words.index(id(m)) for m in marks]


def _check(holds: bool) -> None:
    if not holds:
        raise LookupError("an object is not laid out as expected")


def _check_array(array: np.ndarray) -> None:
    """The header of an array, as every NumPy 2 has it on a 64-bit machine."""
    at = id(array)
    _check(_word(at + 8) == id(np.ndarray))
    _check(_word(at + 16) == array.__array_interface__["data"][0])
    _check(ctypes.c_int.from_address(at + 24).value == array.ndim)
    _check(_word(at + 56) == id(array.dtype))
    flags = ctypes.c_int.from_address(at + 64).value
    wanted = (array.flags.c_contiguous, array.flags.aligned, array.flags.writeable)
    _check((bool(flags & 1), bool(flags & 0x100), bool(flags & 0x400)) == wanted)
    for d in range(array.ndim):
        _check(_word(_word(at + 32) + _WORD * d) == array.shape[d])
        _check(_word(_word(at + 40) + _WORD * d) == array.strides[d])


def _check_python() -> None:
    for number in (0.0, -1.5, 3.25e100):  # every object here is held by a name while its memory is read
        _check(ctypes.c_double.from_address(id(number) + 16).value == number)
    for size in (1, 3, 50):
        things: list[object] = [object() for _ in range(size)]
        frozen, table, some = tuple(things), dict.fromkeys(range(size)), set(range(size))
        for sized in (things, frozen, table):
            _check(_word(id(sized) + 16) == size)
        _check(_word(id(some) + 24) == size)
        for i, thing in enumerate(things):
            _check(_word(_word(id(things) + 24) + _WORD * i) == id(thing))
            _check(_word(id(frozen) + 24 + _WORD * i) == id(thing))
        cell = types.CellType(things)
        _check(_word(id(cell) + 16) == id(things))
    empty = types.CellType()
    _check(_word(id(empty) + 16) == 0)
    block = (ctypes.c_int64 * 4)()
    _check(_word(id(block) + 16) == ctypes.addressof(block))


def find_layout() -> Layout | None:
    """The layout of this process's objects; None where it is not one that the entry knows."""
    if sys.implementation.name != "cpython" or ctypes.sizeof(ctypes.c_void_p) != _WORD:
        return None
    if sysconfig.get_config_var("Py_GIL_DISABLED") or hasattr(sys, "gettotalrefcount"):
        return None
    try:
        read_only = np.zeros((2, 3), np.float64)
        read_only.flags.writeable = False
        strided = np.zeros((4, 6), np.float32)[::2, ::3].T
        for array in (np.zeros(()), np.zeros((0, 5), np.int8), np.zeros((2, 3, 4), np.int64), strided, read_only):
            _check_array(array)
        _check_python()
        names = ("_data", "_requires_grad", "_grad", "_grad_fn", "_index", "_storage", "_view", "_seen")
        tensor, storage = _slots(Tensor, names), _slots(Storage, ("version",))
    except LookupError:
        return None
    immortal = sys.version_info >= (3, 12)
    return Layout(immortal, 16, 16, 24, 32, 40, 56, 64, 16, 24, 24, 16, 16, 24, *tensor, *storage)
