"""The table: what the C loader has to know of a package, in binary, so that it needs no JSON.

A stream of little-endian u32, i64 and strings (u32 length, the UTF-8 bytes, a NUL that the length does not count):

    u32 n_targets, then for each     string name; u32 machine (ELF's e_machine); u32 level, the higher the better
    u32 n_states, then for each      string name; string type, as in f32[10, 64]; type; u32 flags: 1 number, 2 written;
                                     i64 offset in the section of weights; i64 bytes
    u32 n_extra, then for each       string name
    u32 n_entries, then for each
        string name
        u32 n_symbols, then for each     string name; i64 minimum; i64 maximum (2^63 - 1: none); u32 argument; u32 dim:
                                         the extent that gives its value
        u32 n_arguments, then for each   string name; string type; type; u32 flags: 2 written
        u32 n_outputs, then for each     string name; string type; type; u32 flags: 0
        u32 n_inputs, then for each      u32 kind: 0 argument, 1 state, 2 state that it writes; u32 number of it
        u32 n_checks, then for each      u32 number; string "file:line" of the user's program,
                                         or "!" and what an assert says

    type is    u32 DLPack's type code; u32 bits; u32 rank; for each dim: u32 kind, i64 value:
               kind 0 an extent; 1 a symbol, value its number; 2 known only from the program's plan, value 0

A call passes the program its symbols in the order of the table.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Any

from tjit import dtypes
from tjit.dtypes import DType
from tjit.errors import CaptureError
from tjit.export import weights
from tjit.export.entry import Entry, Field
from tjit.export.manifest import entry_symbols, input_names
from tjit.export.state import State
from tjit.export.targets import LEVELS
from tjit.ir.dims import Dim, DimExpr, Symbol
from tjit.ir.types import TensorType
from tjit.runtime.program import ProgramInfo

__all__ = ["dlpack_code", "write_table"]

_CODES: dict[DType, int] = {
    dtypes.bool_: 6, dtypes.u8: 1, dtypes.i8: 0, dtypes.i16: 0, dtypes.i32: 0, dtypes.i64: 0,
    dtypes.f16: 2, dtypes.bf16: 4, dtypes.f32: 2, dtypes.f64: 2,
}  # fmt: skip
_NUMBER, _WRITTEN = 1, 2
_NO_MAXIMUM = (1 << 63) - 1


def dlpack_code(dtype: DType) -> tuple[int, int]:
    """DLPack's type code, and the bits of an element."""
    return _CODES[dtype], dtype.bits


def write_table(
    targets: Sequence[str],
    state: State,
    weight_bytes: bytes,
    extra: Sequence[str],
    entries: Sequence[Entry],
    infos: Sequence[ProgramInfo],
) -> bytes:
    """The bytes of the table.

    Raises:
        CaptureError: a dim of an entry point is known only from data.
    """
    out = _Writer()
    out.count(targets)
    for name in targets:
        out.string(name)
        out.u32(*LEVELS[name])
    places = weights.offsets(weight_bytes)
    names = list(state.types)
    out.count(names)
    for name, type in state.types.items():
        out.string(name)
        out.type(type, ())
        out.u32(_NUMBER * (name in state.numbers) | _WRITTEN * (name in state.written))
        out.i64(*places[name])
    out.count(extra)
    for name in extra:
        out.string(name)
    out.count(entries)
    for entry, info in zip(entries, infos, strict=True):
        _entry(out, entry, info, [f"state:{n}" for n in names], state)
    return bytes(out.data)


def _entry(out: _Writer, entry: Entry, info: ProgramInfo, states: list[str], state: State) -> None:
    symbols = entry_symbols(entry)
    if tuple(s.name for s in symbols) != info.symbols:
        raise CaptureError(f"{entry.name} has sizes that depend on data: {', '.join(info.symbols)}")
    out.string(entry.name)
    out.count(symbols)
    for symbol in symbols:
        out.string(symbol.name)
        maximum = symbol.maximum if isinstance(symbol.maximum, int) else _NO_MAXIMUM
        out.i64(symbol.minimum, maximum)
        out.u32(*_binding(entry, symbol))
    numbers = {s.name: i for i, s in enumerate(symbols)}
    for fields in (entry.arguments, entry.outputs):
        out.count(fields)
        for f in fields:
            out.field(f, tuple(numbers))
    inputs = input_names(entry, state)
    out.count(inputs)
    for i, name in enumerate(inputs):
        kind, _, rest = name.partition(":")
        out.u32(*((0, int(rest)) if kind == "argument" else (2 if i in info.writes else 1, states.index(name))))
    out.count(info.checks)
    for number, file, line, text in info.checks:
        out.u32(number)
        where = f"{file.rpartition('/')[2]}:{line}"
        out.string(where if text is None else f"!{text or 'an assertion failed'}, at {where}")


def _binding(entry: Entry, symbol: Symbol) -> tuple[int, int]:
    for i, f in enumerate(entry.arguments):
        for d, extent in enumerate(f.type.shape):
            if extent == symbol.dim:
                return i, d
    raise CaptureError(f"{entry.name} has no argument with the dim {symbol}")


class _Writer:
    def __init__(self) -> None:
        self.data = bytearray()

    def u32(self, *numbers: int) -> None:
        self.data += struct.pack(f"<{len(numbers)}I", *numbers)

    def i64(self, *numbers: int) -> None:
        self.data += struct.pack(f"<{len(numbers)}q", *numbers)

    def count(self, items: Any) -> None:
        self.u32(len(items))

    def string(self, text: str) -> None:
        data = text.encode().replace(b"\0", b"?")
        self.u32(len(data))
        self.data += data + b"\0"

    def field(self, f: Field, symbols: tuple[str, ...]) -> None:
        self.string(f.name)
        self.type(f.type, symbols)
        self.u32(_WRITTEN * f.written)

    def type(self, type: TensorType, symbols: tuple[str, ...]) -> None:
        self.string(str(type))
        self.u32(*dlpack_code(type.dtype), type.ndim)
        for d in type.shape:
            kind, value = _dim(d, symbols)
            self.u32(kind)
            self.i64(value)


def _dim(d: Dim, symbols: tuple[str, ...]) -> tuple[int, int]:
    if not isinstance(d, DimExpr):
        return 0, int(d)
    return (1, symbols.index(str(d))) if str(d) in symbols else (2, 0)
