"""Relocatable ELF64 files, little-endian: what LLVM makes, read into tables, and written again."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import field

from tjit.dataclass import dataclass
from tjit.errors import CodegenError

__all__ = [
    "RELA",
    "SHF_ALLOC",
    "SHF_EXECINSTR",
    "SHN_UNDEF",
    "SHT_GROUP",
    "SHT_PROGBITS",
    "SHT_RELA",
    "STB_GLOBAL",
    "STB_LOCAL",
    "STT_SECTION",
    "ElfObject",
    "Relocation",
    "Section",
    "Symbol",
    "write_object",
]

_HEADER = struct.Struct("<16sHHIQQQIHHHHHH")
_SECTION = struct.Struct("<IIQQQQIIQQ")
_SYMBOL = struct.Struct("<IBBHQQ")
RELA = struct.Struct("<QQq")

_ET_REL = 1
SHT_PROGBITS, _SHT_SYMTAB, _SHT_STRTAB, SHT_RELA, SHT_GROUP = 1, 2, 3, 4, 17
SHF_ALLOC, SHF_EXECINSTR, _SHF_INFO_LINK = 2, 4, 0x40
SHN_UNDEF = 0
STB_LOCAL, STB_GLOBAL = 0, 1
STT_SECTION = 3


@dataclass(slots=True)
class Section:
    """A section's header, with its bytes.

    Attributes:
        link, info: what they mean depends on the type.
        entry: bytes of an entry, 0 where they are not of one size.
        place: its offset in an image, once a linker has laid it out.
    """

    name: str
    type: int
    flags: int
    data: memoryview
    size: int
    link: int
    info: int
    align: int
    entry: int
    place: int = -1


@dataclass(frozen=True, slots=True)
class Symbol:
    """A symbol: `section` is the index of the one that defines it, `value` its offset there."""

    name: str
    binding: int
    visibility: int
    type: int
    section: int
    value: int


# offset in the section, kind, symbol, addend
Relocation = tuple[int, int, Symbol, int]


class ElfObject:
    """The tables of one relocatable file.

    Raises:
        CodegenError: the bytes are no such file.
    """

    def __init__(self, data: bytes) -> None:
        if len(data) < _HEADER.size or data[:6] != b"\x7fELF\x02\x01":
            raise CodegenError("cannot link: not a little-endian ELF64 object")
        _, kind, self.machine, _, _, _, table, _, _, _, _, _, count, names = _HEADER.unpack_from(data)
        if kind != _ET_REL:
            raise CodegenError(f"cannot link: an ELF file of type {kind}, not a relocatable object")
        data = bytes(data)
        view = memoryview(data)
        headers = [_SECTION.unpack_from(data, table + i * _SECTION.size) for i in range(count)]
        strings = headers[names][4]
        self.sections = [
            Section(
                _text(data, strings + name), type_, flags, view[at : at + size], size, link, info, max(align, 1), entry
            )
            for name, type_, flags, _, at, size, link, info, align, entry in headers
        ]
        self.symbols: list[Symbol] = []
        for section in self.sections:
            if section.type == _SHT_SYMTAB:
                strings = headers[section.link][4]
                self.symbols = [
                    Symbol(_text(data, strings + name), info >> 4, other & 3, info & 15, index, value)
                    for name, info, other, index, value, _ in _SYMBOL.iter_unpack(section.data)
                ]

    def relocations(self, table: Section) -> Iterator[Relocation]:
        """Those of one section of type SHT_RELA."""
        for offset, info, addend in RELA.iter_unpack(table.data):
            yield offset, info & 0xFFFFFFFF, self.symbols[info >> 32], addend


def _text(data: bytes, at: int) -> str:
    return data[at : data.index(b"\0", at)].decode()


@dataclass
class _Strings:
    data: bytearray = field(default_factory=lambda: bytearray(1))

    def add(self, text: str) -> int:
        at = len(self.data)
        self.data += text.encode() + b"\0"
        return at


def write_object(
    machine: int,
    text: tuple[bytes, int],
    constants: tuple[bytes, int],
    functions: Sequence[Symbol],
    relocations: Sequence[tuple[int, int, str | None, int]],
) -> bytes:
    """A file of one section of code and one of constants.

    Args:
        machine: ELF's number of it.
        text, constants: bytes and alignment.
        functions: those that the code defines.
        relocations: of the code: offset, kind, a function's name or None for the constants, addend. A name that is
            not among `functions` is left to the linker.
    """
    strings = _Strings()
    symbols = [_SYMBOL.pack(0, 0, 0, 0, 0, 0), _SYMBOL.pack(0, STT_SECTION, 0, 3, 0, 0)]
    index: dict[str | None, int] = {None: 1}
    for f in functions:
        index[f.name] = len(symbols)
        symbols.append(_SYMBOL.pack(strings.add(f.name), f.binding << 4 | f.type, f.visibility, 1, f.value, 0))
    for _, _, name, _ in relocations:
        if name not in index:
            index[name] = len(symbols)
            assert name is not None
            symbols.append(_SYMBOL.pack(strings.add(name), STB_GLOBAL << 4, 0, SHN_UNDEF, 0, 0))
    table = b"".join(RELA.pack(at, index[name] << 32 | kind, addend) for at, kind, name, addend in relocations)
    sections = [
        (".text", SHT_PROGBITS, SHF_ALLOC | SHF_EXECINSTR, text[0], 0, 0, text[1], 0),
        (".rela.text", SHT_RELA, _SHF_INFO_LINK, table, 4, 1, 8, RELA.size),
        (".rodata", SHT_PROGBITS, SHF_ALLOC, constants[0], 0, 0, constants[1], 0),
        (".symtab", _SHT_SYMTAB, 0, b"".join(symbols), 5, 2, 8, _SYMBOL.size),
    ]
    names = [strings.add(name) for name, *_ in sections] + [strings.add(".strtab")]
    sections.append((".strtab", _SHT_STRTAB, 0, bytes(strings.data), 0, 0, 1, 0))
    return _laid_out(machine, names, sections)


def _laid_out(
    machine: int, names: Sequence[int], sections: Sequence[tuple[str, int, int, bytes, int, int, int, int]]
) -> bytes:
    out = bytearray(_HEADER.size)
    headers = [bytes(_SECTION.size)]
    for name, (_, type_, flags, data, link, info, align, entry) in zip(names, sections, strict=True):
        out.extend(bytes(-len(out) % align))
        headers.append(_SECTION.pack(name, type_, flags, 0, len(out), len(data), link, info, align, entry))
        out += data
    out.extend(bytes(-len(out) % 8))
    ident = b"\x7fELF\x02\x01\x01".ljust(16, b"\0")
    count = len(headers)
    _HEADER.pack_into(
        out, 0, ident, _ET_REL, machine, 1, 0, 0, len(out), 0, _HEADER.size, 0, 0, _SECTION.size, count, count - 1
    )
    return bytes(out) + b"".join(headers)
