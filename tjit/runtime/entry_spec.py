"""Specs of the native entry: the part that follows from a program, and programs called with arrays alone."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tjit.ir.dims import evaluate
from tjit.runtime import buffers
from tjit.runtime.entry import NativeCalls, Spec, layout, records
from tjit.runtime.entry_layout import ANY_GRAD, INPUT, KINDS, OUTPUT, RESULTS, Words

if TYPE_CHECKING:
    from tjit.runtime.program import Program

__all__ = ["SpecBuilder", "native_program", "row"]

_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400  # NumPy's flags
# Bytes of an output from which `buffers`, which takes 1 us, has memory: below, the C library reuses its own as well.
_LARGE = 1 << 20
_LONG = 1 << 14  # bytes read and written from which other threads may run Python
_STACK_ARENA = 4096


def row(names: Words, **values: int) -> list[int]:
    """The words of a record."""
    words = [0] * (names.size // 8)
    for name, value in values.items():
        words[names[name] // 8] = value
    return words


class SpecBuilder:
    """A spec under construction; `keep` holds the objects and memory that it points at."""

    def __init__(self, program: Program, symbols: tuple[int, ...]) -> None:
        self.program = program
        self.shapes, self.arena, self.symbols = program.sizes(symbols)
        self.values = dict(zip(program.info.symbols, symbols, strict=True))
        self.keep: list[Any] = [program]
        self.bytes: int = self.arena

    def id(self, thing: Any) -> int:
        """The address of an object that is kept."""
        self.keep.append(thing)
        return id(thing)

    def address(self, memory: Any) -> int:
        """The address of ctypes memory that is kept."""
        self.keep.append(memory)
        return ctypes.addressof(memory)

    def records(self, rows: Sequence[Sequence[int]]) -> int:
        """The address of equal records."""
        return self.address(records(rows)) if rows else 0

    def array(self, i: int, dtype: np.dtype, **place: int) -> list[int]:
        """The record of the i-th input of the program, whose array has `dtype` and is found at `place`."""
        info = self.program.info
        shape = tuple(evaluate(d, self.values) for d in info.inputs[i].shape)
        nbytes = dtype.itemsize
        for extent in shape:
            nbytes *= extent
        self.bytes += nbytes
        strides, written = info.strides[i], i in info.writes
        flags = _ALIGNED | (_CONTIGUOUS if strides is None else 0) | (_WRITEABLE if written else 0)
        steps = None if strides is None else [evaluate(s, self.values) * dtype.itemsize for s in strides]
        return row(
            INPUT,
            **place,
            descr=self.id(dtype),
            dims=self.records([shape]),
            strides=0 if steps is None else self.records([steps]),
            nd=len(shape),
            flags=flags,
            bytes=nbytes,
            written=int(written),
        )

    def output(self, i: int, is_tensor: bool, grad_fn: object = None) -> list[int]:
        """The record of the i-th output."""
        shape, dtype = self.shapes[i], self.program.output_dtypes[i]
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        self.bytes += size
        make = self.id(buffers.maker(shape, dtype)) if size >= _LARGE else 0
        words = {"descr": self.id(dtype), "dims": self.records([shape]), "nd": len(shape), "make": make}
        return row(OUTPUT, **words, tensor=int(is_tensor), grad_fn=0 if grad_fn is None else self.id(grad_fn))

    def build(self, lists: dict[str, list[list[int]]], *, long: bool = False, **words: int) -> Spec:
        """The spec with these lists of records and further words.

        Args:
            long: the program may take long, whatever its bytes say.
        """
        program = self.program
        release = long or self.bytes >= _LONG
        large = self.arena > _STACK_ARENA or any(o[OUTPUT["make"] // 8] for o in lists["outputs"])
        words["hold"] = words.get("hold", 0) or int(release or large)
        return Spec(
            self.keep,
            len(lists["inputs"]) + len(lists["outputs"]) + 1,
            **{name: self.records(rows) for name, rows in lists.items()},
            **{f"n_{name}": len(rows) for name, rows in lists.items()} | words,
            program=program.address,
            pool=program.pool,
            symbols=self.address(self.symbols),
            arena=self.arena,
            arenas=self.id(program.arenas),
            take_arena=self.id(partial(program.take_arena, self.arena)),
            release=int(release),
            fail=self.id(program.fail),
        )


def native_program(
    program: Program, symbols: tuple[int, ...], slow: Callable[..., Any]
) -> Callable[..., Sequence[np.ndarray]] | None:
    """The program as a native callable: from arrays of its inputs' types to its outputs. None where there is no entry.

    Args:
        slow: does the same for the arrays that the entry does not take.
    """
    if layout() is None:
        return None
    builder = SpecBuilder(program, symbols)
    info = program.info
    inputs = [builder.array(i, t.dtype.numpy, kind=KINDS["array"], source=i) for i, t in enumerate(info.inputs)]
    outputs = [builder.output(i, is_tensor=False) for i in range(len(info.outputs))]
    results = [[RESULTS["array"], i] for i in range(len(outputs))]
    calls = NativeCalls(slow)
    lists = {"inputs": inputs, "outputs": outputs, "results": results}
    calls.add(builder.build(lists, args=len(inputs), leaves=len(inputs), grad=ANY_GRAD))
    return calls.callable()
