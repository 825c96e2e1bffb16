"""A loaded program: machine code with what is needed to call it. Importing and running it does not need LLVM."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Callable, Sequence
from dataclasses import field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from tjit import dtypes, recording
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError, CacheError, DimensionError, failed_check
from tjit.ir.dims import Dim, evaluate
from tjit.ir.parser import parse_dim
from tjit.ir.types import TensorType
from tjit.runtime import buffers, threads
from tjit.runtime.image import Image, LoadedImage, load

if TYPE_CHECKING:
    from tjit.runtime.profiled import ProfiledProgram

__all__ = ["Program", "ProgramInfo"]


@dataclass(frozen=True)
class ProgramInfo:
    """What a caller of a program has to know.

    Attributes:
        symbols: names, in the order in which their values are passed.
        inputs, outputs: types; an output that is written back is not among `outputs`.
        strides: of each input in elements, None where it is contiguous.
        writes: positions of inputs that the program writes.
        arena: bytes.
        checks: for each step that can fail at run time, its number, file and line of the user's program, and what a
            `check` says, "<class>: <message>" (of others None: an index is out of range). A kernel that checks indices
            of several lines has an entry for each.
        laid: of inputs that are laid out before the first call, the position, and as text the graph that makes the
            input of what the caller has.
    """

    symbols: tuple[str, ...]
    inputs: tuple[TensorType, ...]
    outputs: tuple[TensorType, ...]
    strides: tuple[tuple[Dim, ...] | None, ...]
    writes: tuple[int, ...]
    arena: Dim
    checks: tuple[tuple[int, str, int, str | None], ...] = field(default=())
    laid: tuple[tuple[int, str], ...] = field(default=())

    def to_json(self) -> str:
        def one(t: TensorType) -> list[Any]:
            return [t.dtype.name, [str(d) for d in t.shape]]

        return json.dumps(
            {
                "symbols": self.symbols,
                "inputs": [one(t) for t in self.inputs],
                "outputs": [one(t) for t in self.outputs],
                "strides": [None if s is None else [str(d) for d in s] for s in self.strides],
                "writes": self.writes,
                "arena": str(self.arena),
                "checks": self.checks,
                "laid": self.laid,
            }
        )

    @staticmethod
    def from_json(text: str) -> ProgramInfo:
        """
        Raises:
            CacheError: the text is not what `to_json` writes.
        """

        def one(pair: Any) -> TensorType:
            return TensorType(dtypes.as_dtype(pair[0]), tuple(map(parse_dim, pair[1])))

        try:
            d = json.loads(text)
            return ProgramInfo(
                tuple(d["symbols"]),
                tuple(map(one, d["inputs"])),
                tuple(map(one, d["outputs"])),
                tuple(None if s is None else tuple(map(parse_dim, s)) for s in d["strides"]),
                tuple(d["writes"]),
                parse_dim(d["arena"]),
                tuple(map(_check, d["checks"])),
                tuple((int(i), str(text)) for i, text in d.get("laid", ())),  # packages of before have none
            )
        except (KeyError, TypeError, ValueError) as error:
            raise CacheError(f"a program's description does not read: {error}") from error


def _check(fields: list[Any]) -> tuple[int, str, int, str | None]:
    number, file, line, *text = fields  # packages of the first format have no text
    return int(number), str(file), int(line), text[0] if text else None


class Program:
    """Callable machine code. Safe to call from several threads at once; releases the GIL while it runs.

    Attributes:
        profiled: gives the same program with notes of when its kernels run, which serves runs while a profile is open.
    """

    def __init__(self, image: Image, info: ProgramInfo, name: str = "tjit.main") -> None:
        self.profiled: Callable[[], ProfiledProgram] | None = None
        self.image = image
        self.info = info
        # The pool takes as long to compile as a small program, many of which have nothing to share out.
        is_parallel = any(wanted.startswith("tjit.") for wanted, _ in image.imports)
        self.pool = threads.pool() if is_parallel else 0
        self.loaded: LoadedImage = load(image, threads.symbols() if is_parallel else None)
        self.address = self.loaded.address(name)
        pointer = ctypes.c_void_p
        self._call = ctypes.CFUNCTYPE(ctypes.c_int32, pointer, pointer, pointer)(self.address)
        self.arenas: list[np.ndarray] = []  # free ones
        self._native: dict[tuple[int, ...], Callable[..., Any] | None] = {}
        self._sizes: dict[tuple[int, ...], tuple[Any, int, Any]] = {}

    @cached_property
    def output_dtypes(self) -> tuple[np.dtype, ...]:
        return tuple(t.dtype.numpy for t in self.info.outputs)

    @cached_property
    def _binders(self) -> tuple[tuple[str, int, int, bool], ...]:
        """For each symbol: the input and the dim that give it, and whether by its stride."""
        return tuple(self._binder(name) for name in self.info.symbols)

    def _binder(self, name: str) -> tuple[str, int, int, bool]:
        for i, t in enumerate(self.info.inputs):
            for is_stride, dims in ((False, t.shape), (True, self.info.strides[i] or ())):
                for d, extent in enumerate(dims):
                    if not isinstance(extent, int) and str(extent) == name:
                        return name, i, d, is_stride
        raise ArgumentError(f"the symbol {name} is not bound by any input")

    def bind(self, inputs: Sequence[np.ndarray]) -> tuple[int, ...] | None:
        """The symbols' values for these inputs; None where their shapes do not fit."""
        values: dict[str, int] = {}
        for name, i, d, is_stride in self._binders:
            a = inputs[i]
            if a.ndim != self.info.inputs[i].ndim:
                return None
            values[name] = a.strides[d] // a.dtype.itemsize if is_stride else a.shape[d]
        for array, t in zip(inputs, self.info.inputs, strict=True):
            if array.ndim != t.ndim or array.dtype != t.dtype.numpy:
                return None
            for extent, d in zip(array.shape, t.shape, strict=True):
                if extent != (d if isinstance(d, int) else evaluate(d, values)):
                    return None
        return tuple(values.values())

    def sizes(self, symbols: tuple[int, ...]) -> tuple[Any, int, Any]:
        """Shapes of the outputs, bytes of the arena, and the symbols as C numbers, for the symbols' values."""
        known = self._sizes.get(symbols)
        if known is None:
            values = dict(zip(self.info.symbols, symbols, strict=True))
            shapes = tuple(tuple(evaluate(d, values) for d in t.shape) for t in self.info.outputs)
            numbers = (ctypes.c_int64 * max(1, len(symbols)))(*symbols)
            if len(self._sizes) > 4096:
                self._sizes.clear()
            known = self._sizes[symbols] = (shapes, evaluate(self.info.arena, values), numbers)
        return known

    def run(self, inputs: Sequence[np.ndarray], symbols: tuple[int, ...] = ()) -> Sequence[np.ndarray]:
        """The outputs. Inputs must have the types (and strides) of `info`: nothing is checked here.

        Raises:
            DimensionError: an index computed by the program is out of range.
        """
        native = self._native.get(symbols)
        if native is not None:
            return native(*inputs)
        self._make_native(symbols)
        return self._run(symbols, *inputs)

    def _make_native(self, symbols: tuple[int, ...]) -> None:
        """Have the native entry serve runs with these symbols, when they come a second time."""
        from tjit.runtime.entry_spec import native_program  # needs tensors, which a program by itself does not

        if len(self._native) > 256:
            self._native.clear()
        is_second = symbols in self._native
        self._native[symbols] = native_program(self, symbols, partial(self._run_slow, symbols)) if is_second else None

    def _run_slow(self, symbols: tuple[int, ...], *inputs: np.ndarray) -> list[np.ndarray]:
        from tjit.runtime.entry import register_thread

        register_thread()
        return self._run(symbols, *inputs)

    def _run(self, symbols: tuple[int, ...], *inputs: np.ndarray) -> list[np.ndarray]:
        if recording.active is not None and self.profiled is not None:
            return self.profiled().run_recorded(inputs, symbols, recording.active)
        return self.execute(inputs, symbols)

    def execute(self, inputs: Sequence[np.ndarray], symbols: tuple[int, ...], *more: np.ndarray) -> list[np.ndarray]:
        """The outputs, by way of Python. The program is given `more` memory behind its arena."""
        shapes, arena_bytes, numbers = self.sizes(symbols)
        outputs = [buffers.empty(s, d) for s, d in zip(shapes, self.output_dtypes, strict=True)]
        arena = self.take_arena(arena_bytes)
        pointers = [a.ctypes.data for a in (*inputs, *outputs, arena, *more)]
        packed = (ctypes.c_void_p * len(pointers))(*pointers)
        code = self._call(self.pool, packed, numbers)
        self.arenas.append(arena)
        if code:
            self.fail(code)
        return outputs

    def take_arena(self, nbytes: int) -> np.ndarray:
        """Memory for the intermediates of one call, 64-byte aligned."""
        try:
            arena = self.arenas.pop()
            if arena.nbytes >= nbytes:
                return arena
        except IndexError:
            pass
        block = buffers.empty((nbytes + 64,), np.dtype(np.uint8))
        return block[-block.ctypes.data % 64 :][: max(nbytes, 1)]

    def fail(self, code: int) -> None:
        """Raise what a program's return code stands for."""
        from tjit.location import Location

        if code < 0:
            raise MemoryError("there is no memory for an array whose size the program computes")
        failed = [check for check in self.info.checks if check[0] == code - 1]
        places = [Location(file, line) for _, file, line, _ in failed if file]
        where, text = places[0] if places else None, failed[0][3] if failed else None
        if text is not None:
            raise failed_check(text, where)
        hint = "an index must be in [-n, n) for a dim of extent n"
        if others := ", ".join(other.short for other in places[1:]):
            hint += f"; one kernel checks the indices of this line and of {others}"
        raise DimensionError("index out of range", where, hint=hint)
