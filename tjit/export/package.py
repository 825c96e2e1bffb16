"""The package file (.tjit): sections of bytes, each with its checksum. All integers are little endian.

    header, 64 bytes
      at  0  u8[8]  magic        "TJITPKG\\0"
      at  8  u32    version      1; a reader refuses one that it does not know
      at 12  u32    crc          CRC-32 (zlib's, polynomial 0xEDB88320) of the bytes from 16 up to the first section
      at 16  u64    total_size   of the file
      at 24  u32    n_sections
      at 28  zeros
    at 64: n_sections x 32 bytes
      u32 kind
      u32 entry    of graph and image: the entry point's number; of extra: the extra file's number; else 0
      u32 target   of image and pool: the target's number; else 0
      u32 crc      of the section and of the zeros behind it, up to the next multiple of 64
      u64 offset   a multiple of 64; sections follow each other in the order of the table without gaps
      u64 size     without the zeros behind it
    zeros up to a multiple of 64, then the sections

Every byte of the file lies under a checksum, or is one, or is the magic or the version, so no altered bit goes unseen.

    kind  section
    1     manifest   JSON, for people and Python (tjit/export/manifest.py)
    2     table      what C has to know of the manifest (tjit/export/table.py)
    3     weights    the state as a safetensors file; its data starts at a multiple of 64 in this file too
    4     graph      text of an entry point's graph (docs/ir.md)
    5     image      an entry point's machine code for a target (tjit/runtime/image.py): tjit.main and tjit.main.plan
    6     pool       an image with the thread pool for a target (codegen/llvm/threads.py)
    7     header     C header with a typed function for each entry point
    8     extra      a file of the user's

Writing state back replaces bytes of `weights` and two checksums; nothing else of the file changes.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import field
from typing import NamedTuple

from tjit.dataclass import dataclass
from tjit.errors import PackageError

__all__ = [
    "EXTRA", "GRAPH", "HEADER", "IMAGE", "MANIFEST", "POOL", "TABLE", "VERSION", "WEIGHTS", "Section", "pack", "unpack",
]  # fmt: skip

MANIFEST, TABLE, WEIGHTS, GRAPH, IMAGE, POOL, HEADER, EXTRA = range(1, 9)
VERSION = 1

_NAMES = ("", "manifest", "table", "weights", "graph", "image", "pool", "header", "extra file")
_MAGIC = b"TJITPKG\0"
_HEADER = struct.Struct("<8sIIQI36x")
_SECTION = struct.Struct("<IIIIQQ")
_CRC_START = 16


class Section(NamedTuple):
    """What a section is; `entry` and `target` are 0 where they do not apply."""

    kind: int
    entry: int = 0
    target: int = 0

    def __str__(self) -> str:
        name = _NAMES[self.kind] if 0 < self.kind < len(_NAMES) else f"section of kind {self.kind}"
        return f"{name} {self.entry}" if self.kind in (GRAPH, IMAGE, EXTRA) else name


@dataclass(frozen=True)
class _Row:
    section: Section
    crc: int
    offset: int
    size: int
    padded: int = field(default=0)


def _aligned(n: int) -> int:
    return -(-n // 64) * 64


def pack(sections: Sequence[tuple[Section, bytes]]) -> bytes:
    """The file's bytes; equal sections give equal bytes."""
    start = at = _aligned(_HEADER.size + _SECTION.size * len(sections))
    table = bytearray()
    body = bytearray()
    for section, data in sections:
        padded = data + bytes(-len(data) % 64)
        table += _SECTION.pack(*section, zlib.crc32(padded), at, len(data))
        body += padded
        at += len(padded)
    head = bytearray(_HEADER.pack(_MAGIC, VERSION, 0, at, len(sections))) + table
    head += bytes(start - len(head))
    struct.pack_into("<I", head, _CRC_START - 4, zlib.crc32(memoryview(head)[_CRC_START:]))
    return bytes(head + body)


def unpack(data: bytes, path: str) -> dict[Section, bytes]:
    """The sections of a file.

    Args:
        path: named in errors.

    Raises:
        PackageError: the bytes are no package, of a newer format, cut short, or altered.
    """
    result: dict[Section, bytes] = {}
    for row in _rows(data, path):
        if zlib.crc32(memoryview(data)[row.offset : row.offset + row.padded]) != row.crc:
            raise PackageError(f"{path} is damaged: the checksum of its {row.section} does not fit")
        result[row.section] = data[row.offset : row.offset + row.size]
    for kind in (MANIFEST, TABLE, WEIGHTS, HEADER):
        if Section(kind) not in result:
            raise PackageError(f"{path} is malformed: it has no {_NAMES[kind]}")
    return result


def _rows(data: bytes, path: str) -> list[_Row]:
    """The table of sections, whose places are sound."""
    if len(data) < _HEADER.size:
        raise PackageError(f"{path} is cut short: it has {len(data)} bytes, fewer than a package's header")
    magic, version, crc, total, count = _HEADER.unpack_from(data)
    if magic != _MAGIC:
        raise PackageError(f"{path} is no package: it does not start with a package's magic bytes")
    if version != VERSION:
        raise PackageError(
            f"{path} has format version {version}, this tjit reads version {VERSION}",
            hint="update tjit" if version > VERSION else None,
        )
    start = _aligned(_HEADER.size + _SECTION.size * count)
    if start > len(data):
        raise PackageError(f"{path} is damaged or cut short: its table of sections does not fit into {len(data)} bytes")
    if zlib.crc32(memoryview(data)[_CRC_START:start]) != crc:
        raise PackageError(f"{path} is damaged: the checksum of its header does not fit")
    if total != len(data):
        raise PackageError(f"{path} is cut short or too long: it should have {total} bytes and has {len(data)}")
    rows: list[_Row] = []
    at = start
    for kind, entry, target, section_crc, offset, size in _SECTION.iter_unpack(
        data[_HEADER.size : _HEADER.size + _SECTION.size * count]
    ):
        section = Section(kind, entry, target)
        if offset != at or size > total - at:
            raise PackageError(f"{path} is malformed: its {section} lies outside of the file")
        rows.append(_Row(section, section_crc, offset, size, _aligned(size)))
        at += _aligned(size)
    if at != total:
        raise PackageError(f"{path} is malformed: its sections do not fill it")
    return rows
