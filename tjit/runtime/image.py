"""Images: flat machine code that Python, the disk cache and the C loader load alike (docs/design/0001).

The bytes of an image, all integers little endian, no padding besides what is listed:

    header, 64 bytes
      at  0  u8[8]  magic           "TJITIMG\\0"
      at  8  u32    version         1
      at 12  u32    crc             CRC-32 (zlib's, polynomial 0xEDB88320) of the bytes from 16 to the end
      at 16  u32    machine         ELF's e_machine: 62 x86-64, 183 AArch64
      at 20  u32    n_imports
      at 24  u32    n_rebases
      at 28  u32    n_exports
      at 32  u64    total_size      of these bytes
      at 40  u64    strings_offset  where the names start
      at 48  u64    code_offset     a multiple of 64; strings_offset <= code_offset
      at 56  u64    code_size       code_offset + code_size == total_size
    at 64: n_imports x 16 bytes
      u64 offset    in the code: where the address of the imported function goes
      u32 name      where its name starts, from strings_offset; the name is UTF-8 and ends with a NUL
      u32 zero
    then: n_rebases x 16 bytes
      u64 offset    in the code: where base + addend goes
      u64 addend
    then: n_exports x 16 bytes, sorted by the bytes of the name
      u64 offset    in the code: the address of the function is base + offset
      u32 name
      u32 zero
    at strings_offset: the names
    zeros up to code_offset
    at code_offset: the code

Every offset of imports and rebases is a multiple of 8 and at most code_size - 8; of exports, at most code_size.

To load: check magic, version, machine, total_size and crc; map code_size bytes at an address that is a multiple of
4096, readable and writable; copy the code; store the 8-byte address of every import and rebase; make the mapping
readable and executable (and flush the instruction cache where the machine needs it).
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import platform
import struct
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import field
from functools import cache
from typing import TypeVar

from tjit.dataclass import dataclass
from tjit.errors import ArgumentError, CodegenError

__all__ = ["AARCH64", "X86_64", "Image", "LoadedImage", "host_machine", "immortal", "load"]

_T = TypeVar("_T")

X86_64 = 62
AARCH64 = 183

_MAGIC = b"TJITIMG\0"
_VERSION = 1
_HEADER = struct.Struct("<8sIIIIIIQQQQ")
_NAMED = struct.Struct("<QII")
_REBASE = struct.Struct("<QQ")
_CRC_START = 16
_MACHINE_NAMES = {X86_64: "x86-64", AARCH64: "AArch64"}
_HOST_MACHINES = {"x86_64": X86_64, "amd64": X86_64, "aarch64": AARCH64, "arm64": AARCH64}


@dataclass(frozen=True, slots=True)
class Image:
    """Machine code at its final distances: text, read-only data, stubs and import slots.

    Attributes:
        machine: ELF's e_machine.
        imports: name and offset of each 8-byte slot that takes the address of an imported function.
        rebases: offset and addend of each 8-byte slot that takes base + addend.
        exports: the offset of each function and constant that can be asked for by name.
    """

    machine: int
    code: bytes = field(repr=False)
    imports: tuple[tuple[str, int], ...] = ()
    rebases: tuple[tuple[int, int], ...] = ()
    exports: Mapping[str, int] = field(default_factory=dict)

    def to_bytes(self) -> bytes:
        """The format above; equal images give equal bytes."""
        strings = bytearray()
        places: dict[str, int] = {}

        def name(text: str) -> int:
            if text not in places:
                places[text] = len(strings)
                strings.extend(text.encode() + b"\0")
            return places[text]

        exports = sorted(self.exports.items(), key=lambda item: item[0].encode())
        tables = bytearray()
        for text, offset in self.imports:
            tables += _NAMED.pack(offset, name(text), 0)
        for offset, addend in self.rebases:
            tables += _REBASE.pack(offset, addend)
        for text, offset in exports:
            tables += _NAMED.pack(offset, name(text), 0)
        strings_offset = _HEADER.size + len(tables)
        code_offset = -(-(strings_offset + len(strings)) // 64) * 64
        counts = (len(self.imports), len(self.rebases), len(exports))
        sizes = (code_offset + len(self.code), strings_offset, code_offset, len(self.code))
        data = bytearray(_HEADER.pack(_MAGIC, _VERSION, 0, self.machine, *counts, *sizes))
        data += tables + strings
        data += bytes(code_offset - len(data)) + self.code
        struct.pack_into("<I", data, _CRC_START - 4, zlib.crc32(memoryview(data)[_CRC_START:]))
        return bytes(data)

    @classmethod
    def from_bytes(cls, data: bytes) -> Image:
        """The inverse of `to_bytes`.

        Raises:
            ArgumentError: the bytes are no image, of another version, damaged or cut short.
        """
        if len(data) < _HEADER.size or data[:8] != _MAGIC:
            raise ArgumentError("these bytes are no image: they do not start with an image's header")
        _, version, crc, machine, n_imports, n_rebases, n_exports, *sizes = _HEADER.unpack_from(data)
        if version != _VERSION:
            raise ArgumentError(f"the image has format version {version}, this tjit reads {_VERSION}")
        total, strings_offset, code_offset, code_size = sizes
        if total != len(data):
            raise ArgumentError(f"the image should have {total} bytes and has {len(data)}")
        if crc != zlib.crc32(memoryview(data)[_CRC_START:]):
            raise ArgumentError("the image is damaged: its checksum does not fit its bytes")
        rebases_at = _HEADER.size + 16 * n_imports
        exports_at = rebases_at + 16 * n_rebases
        end = exports_at + 16 * n_exports
        if not end <= strings_offset <= code_offset <= total or code_offset + code_size != total:
            raise ArgumentError("the image is malformed: its tables overlap")
        strings = data[strings_offset:code_offset]

        def name(at: int) -> str:
            return strings[at : strings.index(b"\0", at)].decode()

        try:
            image = cls(
                machine,
                data[code_offset:],
                tuple((name(n), o) for o, n, _ in _NAMED.iter_unpack(data[_HEADER.size : rebases_at])),
                tuple(_REBASE.iter_unpack(data[rebases_at:exports_at])),
                {name(n): o for o, n, _ in _NAMED.iter_unpack(data[exports_at:end])},
            )
        except ValueError:
            raise ArgumentError("the image is malformed: a name lies outside its strings") from None
        slots = [o for _, o in image.imports] + [o for o, _ in image.rebases]
        if any(o % 8 or o + 8 > code_size for o in slots) or any(o > code_size for o in image.exports.values()):
            raise ArgumentError("the image is malformed: an offset lies outside its code")
        return image


class LoadedImage:
    """An image in executable `memory`, which is unmapped when this object dies: keep it while its functions may run."""

    def __init__(self, image: Image, memory: mmap.mmap, base: int) -> None:
        self.image = image
        self.base = base
        self.memory = memory

    def address(self, name: str) -> int:
        """The address of an exported function.

        Raises:
            ArgumentError: the image has no such export.
        """
        if name not in self.image.exports:
            raise ArgumentError(f"the image exports no {name!r}; it exports {', '.join(sorted(self.image.exports))}")
        return self.base + self.image.exports[name]

    def __contains__(self, name: str) -> bool:
        return name in self.image.exports


def immortal(thing: _T) -> _T:
    """`thing`, which is never freed now: code and data that finalizers and threads use when modules are gone."""
    _add_reference(thing)
    return thing


_add_reference = ctypes.PYFUNCTYPE(None, ctypes.py_object)(("Py_IncRef", ctypes.pythonapi))


def host_machine() -> int:
    """ELF's number of the machine this process runs on; 0 for one that tjit does not know."""
    return _HOST_MACHINES.get(platform.machine().lower(), 0)


def load(image: Image, symbols: Mapping[str, int] | None = None) -> LoadedImage:
    """Map an image executable.

    Args:
        symbols: addresses of imports; the others come from the C library.

    Raises:
        ArgumentError: the image is for another machine.
        CodegenError: an import is not found, or the system gives no executable memory.
    """
    if image.machine != host_machine():
        wanted = _MACHINE_NAMES.get(image.machine, f"machine {image.machine}")
        raise ArgumentError(f"the image is made for {wanted}, this computer is {platform.machine()}")
    size = max(len(image.code), 1)
    memory = mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ | mmap.PROT_WRITE)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    memory[: len(image.code)] = image.code
    for name, offset in image.imports:
        struct.pack_into("<Q", memory, offset, _resolve(name, symbols or {}))
    for offset, addend in image.rebases:
        struct.pack_into("<Q", memory, offset, base + addend)
    # On AArch64 Linux, mprotect of freshly written pages to executable also synchronises the instruction cache.
    if _libc().mprotect(ctypes.c_void_p(base), ctypes.c_size_t(size), mmap.PROT_READ | mmap.PROT_EXEC) != 0:
        reason = os.strerror(ctypes.get_errno())
        raise CodegenError(f"the system gives no executable memory: {reason}")
    return LoadedImage(image, memory, base)


@cache
def _libc() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _libraries() -> Iterator[ctypes.CDLL]:
    yield _libc()
    with contextlib.suppress(OSError):  # musl and macOS have libm in libc
        yield ctypes.CDLL("libm.so.6")


def _resolve(name: str, symbols: Mapping[str, int]) -> int:
    if name in symbols:
        return symbols[name]
    for library in _libraries():
        with contextlib.suppress(AttributeError):
            return ctypes.cast(library[name], ctypes.c_void_p).value or 0
    raise CodegenError(f"native code needs the function {name!r}, which the C library does not have")
