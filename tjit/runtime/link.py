"""A small static linker: ELF objects, as LLVM makes them, to one `Image` (docs/design/0001).

The objects are position independent (PIC, small code model) for x86-64 or AArch64. The image holds, in this order,
their text, their constants, one stub for each import that is called, and the 8-byte slots that stubs and address loads
read.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import field

from tjit.codegen.llvm.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_UNDEF,
    SHT_GROUP,
    SHT_PROGBITS,
    SHT_RELA,
    STB_GLOBAL,
    STB_LOCAL,
    ElfObject,
    Relocation,
    Section,
    Symbol,
)
from tjit.dataclass import dataclass
from tjit.errors import CodegenError
from tjit.runtime.image import AARCH64, X86_64, Image

__all__ = ["link"]

_SHT_NOTE, _SHT_REL = 7, 9
_SHT_X86_64_UNWIND = 0x70000001
_SHF_WRITE, _SHF_TLS = 1, 0x400
_SHN_LORESERVE = 0xFF00
_STV_DEFAULT = 0

_PAGE = 4096
_TEXT_ALIGN = 64

# Where a symbol ended up: its offset in the image, or the name of an import.
_Target = int | str


def link(objects: Sequence[bytes]) -> Image:
    """Join relocatable objects of one machine into an image.

    A symbol that no object defines becomes an import. Of weak definitions of one name (linkonce_odr, weak) the first
    is taken, or the strong one. Exported are all definitions with default visibility.

    Raises:
        CodegenError: two strong definitions of a name, writable data, a relocation that position independent code of
            the small code model does not have, objects of different machines, bytes that are no such object.
    """
    parsed = [_Object(data) for data in objects]
    machines = {o.machine for o in parsed}
    if len(machines) != 1:
        raise CodegenError(f"link takes one or more objects of one machine, not of {sorted(machines)}")
    (machine,) = machines
    if machine not in _MACHINES:
        raise CodegenError(f"cannot link objects of ELF machine {machine}: only x86-64 and AArch64")
    return _Linker(_MACHINES[machine], parsed).run()


class _Object(ElfObject):
    """One file, while it is linked."""

    def claim_groups(self, claimed: set[str]) -> set[int]:
        """Add the names of this object's COMDAT groups; the sections of those that were claimed before."""
        dropped: set[int] = set()
        for section in self.sections:
            if section.type == SHT_GROUP:
                name = self.symbols[section.info].name
                if name in claimed:
                    dropped.update(i for (i,) in struct.iter_unpack("<I", section.data[4:]))
                claimed.add(name)
        return dropped

    def placed_relocations(self) -> Iterator[Relocation]:
        """Place in the image, kind, symbol, addend, of the sections that were laid out."""
        for table in self.sections:
            if table.type not in (SHT_RELA, _SHT_REL) or self.sections[table.info].place < 0:
                continue
            if table.type == _SHT_REL:
                raise CodegenError(f"cannot link: {table.name} holds relocations without addends")
            base = self.sections[table.info].place
            for offset, kind, symbol, addend in self.relocations(table):
                yield base + offset, kind, symbol, addend


def _is_kept(section: Section) -> bool:
    """Text and constants; unwind tables and notes are of no use in an image."""
    if not section.flags & SHF_ALLOC or section.name.startswith((".eh_frame", ".gcc_except_table")):
        return False
    if section.type in (_SHT_NOTE, _SHT_X86_64_UNWIND) or (section.flags & _SHF_WRITE and section.size == 0):
        return False
    if section.flags & _SHF_TLS:
        raise CodegenError(f"an image cannot hold thread-local data: section {section.name} of {section.size} bytes")
    # .data.rel.ro is constant but for the addresses in it, which become rebases.
    if section.flags & _SHF_WRITE and not section.name.startswith(".data.rel.ro"):
        raise CodegenError(f"an image cannot hold writable data: section {section.name} of {section.size} bytes")
    if section.type != SHT_PROGBITS:
        raise CodegenError(f"cannot link section {section.name} of type {section.type}")
    if section.align > _PAGE:
        raise CodegenError(f"cannot align section {section.name} to {section.align} bytes, only up to {_PAGE}")
    return True


@dataclass(slots=True)
class _Linker:
    machine: _Machine
    objects: list[_Object]
    code: bytearray = field(default_factory=bytearray)
    definitions: dict[str, tuple[_Object, Symbol]] = field(default_factory=dict)
    stubs: dict[str, int] = field(default_factory=dict)
    slots: dict[_Target, int] = field(default_factory=dict)
    imports: list[tuple[str, int]] = field(default_factory=list)
    rebases: list[tuple[int, int]] = field(default_factory=list)

    def run(self) -> Image:
        self.place_sections()
        self.define_symbols()
        fixes = [
            (at, kind, self.resolve(owner, symbol), addend)
            for owner in self.objects
            for at, kind, symbol, addend in owner.placed_relocations()
        ]
        self.place_stubs_and_slots(fixes)
        for at, kind, target, addend in fixes:
            self.machine.relocate(self, at, kind, target, addend)
        exports = {
            name: owner.sections[symbol.section].place + symbol.value
            for name, (owner, symbol) in self.definitions.items()
            if symbol.visibility == _STV_DEFAULT
        }
        return Image(self.machine.number, bytes(self.code), tuple(self.imports), tuple(self.rebases), exports)

    def place_sections(self) -> None:
        groups: set[str] = set()
        kept: list[Section] = []
        for owner in self.objects:
            dropped = owner.claim_groups(groups)
            kept += [s for i, s in enumerate(owner.sections) if i not in dropped and _is_kept(s)]
        for section in sorted(kept, key=lambda s: not s.flags & SHF_EXECINSTR):
            is_text = bool(section.flags & SHF_EXECINSTR)
            section.place = self.reserve(section.size, max(section.align, _TEXT_ALIGN if is_text else 1))
            self.code[section.place : section.place + section.size] = section.data

    def define_symbols(self) -> None:
        for owner in self.objects:
            for symbol in owner.symbols:
                if symbol.binding == STB_LOCAL or symbol.section == SHN_UNDEF:
                    continue
                if symbol.section >= _SHN_LORESERVE:
                    raise CodegenError(f"cannot link {symbol.name}: an absolute or common symbol")
                if owner.sections[symbol.section].place >= 0:
                    self.define(owner, symbol)

    def define(self, owner: _Object, symbol: Symbol) -> None:
        other = self.definitions.get(symbol.name)
        is_strong = symbol.binding == STB_GLOBAL
        if other is not None and is_strong and other[1].binding == STB_GLOBAL:
            raise CodegenError(f"cannot link: two objects define {symbol.name}")
        if other is None or (is_strong and other[1].binding != STB_GLOBAL):
            self.definitions[symbol.name] = (owner, symbol)

    def resolve(self, owner: _Object, symbol: Symbol) -> _Target:
        if symbol.binding != STB_LOCAL:
            if symbol.name not in self.definitions:
                return symbol.name
            owner, symbol = self.definitions[symbol.name]
        section = owner.sections[symbol.section] if symbol.section < _SHN_LORESERVE else None
        if section is None or section.place < 0:
            raise CodegenError(f"cannot link: code refers to {symbol.name or 'a section'} which is not in the image")
        return section.place + symbol.value

    def place_stubs_and_slots(self, fixes: list[tuple[int, int, _Target, int]]) -> None:
        machine = self.machine
        for _, kind, target, _ in fixes:
            if kind in machine.slot_kinds:
                self.slots.setdefault(target, -1)
            elif isinstance(target, str) and kind != machine.absolute_kind:
                self.stubs.setdefault(target, -1)
                self.slots.setdefault(target, -1)
        for name in self.stubs:
            self.stubs[name] = self.reserve(machine.stub_size, 16)
        for target in self.slots:
            self.slots[target] = self.reserve(8, 8)
            self.point(self.slots[target], target, 0)
        for name, place in self.stubs.items():
            self.code[place : place + machine.stub_size] = machine.stub(self.slots[name], place)

    def reserve(self, size: int, align: int) -> int:
        place = -(-len(self.code) // align) * align
        self.code.extend(bytes(place + size - len(self.code)))
        return place

    def point(self, at: int, target: _Target, addend: int) -> None:
        """Have the loader write the target's address at `at`."""
        if at % 8:
            raise CodegenError(f"cannot link: an address at offset {at}, which is no multiple of 8")
        if isinstance(target, int):
            self.rebases.append((at, target + addend))
        elif addend == 0:
            self.imports.append((target, at))
        else:
            raise CodegenError(f"cannot link: the address {target} + {addend} in constant data")

    def address(self, target: _Target) -> int:
        """The target's offset; an import's is its stub's."""
        return target if isinstance(target, int) else self.stubs[target]


@dataclass(frozen=True, slots=True)
class _Machine:
    """What the linker needs to know of one machine.

    Attributes:
        absolute_kind: the relocation that stores a whole address.
        slot_kinds: relocations that read an address from a slot.
    """

    number: int
    absolute_kind: int
    slot_kinds: frozenset[int]
    stub_size: int
    stub: Callable[[int, int], bytes]
    relocate: Callable[[_Linker, int, int, _Target, int], None]


def _store(linker: _Linker, layout: str, at: int, value: int, what: str) -> None:
    try:
        struct.pack_into(layout, linker.code, at, value)
    except struct.error:
        raise CodegenError(f"cannot link: {what} at offset {at} is out of range ({value})") from None


# x86-64: System V psABI, table 4.10.


def _relocate_x86_64(linker: _Linker, at: int, kind: int, target: _Target, addend: int) -> None:
    match kind:
        case 1:  # R_X86_64_64
            linker.point(at, target, addend)
        case 2 | 4:  # PC32, PLT32
            _store(linker, "<i", at, linker.address(target) + addend - at, "R_X86_64_PC32")
        case 9 | 41 | 42:  # GOTPCREL, GOTPCRELX, REX_GOTPCRELX
            _store(linker, "<i", at, linker.slots[target] + addend - at, "R_X86_64_GOTPCREL")
        case 24:  # PC64
            _store(linker, "<q", at, linker.address(target) + addend - at, "R_X86_64_PC64")
        case _:
            name = _X86_64_NAMES.get(kind, str(kind))
            raise CodegenError(f"cannot link x86-64 relocation {name} against {target}: the code is not PIC and small")


_X86_64_NAMES = {
    10: "R_X86_64_32",
    11: "R_X86_64_32S",
    17: "R_X86_64_DTPOFF64",
    19: "R_X86_64_TLSGD",
    20: "R_X86_64_TLSLD",
    22: "R_X86_64_GOTTPOFF",
    23: "R_X86_64_TPOFF32",
    25: "R_X86_64_GOTOFF64",
    26: "R_X86_64_GOTPC32",
    27: "R_X86_64_GOT64",
}


def _stub_x86_64(slot: int, place: int) -> bytes:
    return b"\xff\x25" + struct.pack("<i", slot - (place + 6)) + b"\xcc\xcc"  # jmp *slot(%rip)


# AArch64: ELF for the Arm 64-bit Architecture (AAELF64), 5.7. The image lies at a multiple of 4096, so offsets have
# the low 12 bits and the page distances of the addresses.


def _page_field(linker: _Linker, at: int, address: int) -> None:
    """The 21 bits of adrp: pages between the instruction and the address."""
    pages = (address >> 12) - (at >> 12)
    if not -(1 << 20) <= pages < 1 << 20:
        raise CodegenError(f"cannot link: R_AARCH64_ADR_PREL_PG_HI21 at offset {at} is out of range ({pages} pages)")
    _insert(linker, at, 0x60FFFFE0, (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5)


def _low_field(linker: _Linker, at: int, address: int, scale: int) -> None:
    """The low 12 bits of an address, in units of the access's 2**scale bytes."""
    low = address & 0xFFF
    if low & ((1 << scale) - 1):
        raise CodegenError(f"cannot link: access of {1 << scale} bytes at offset {at} to unaligned {address:#x}")
    _insert(linker, at, 0xFFF << 10, low >> scale << 10)


def _branch_field(linker: _Linker, at: int, distance: int, bits: int, shift: int) -> None:
    if distance & 3 or not -(1 << bits + 1) <= distance < 1 << bits + 1:
        raise CodegenError(f"cannot link: branch at offset {at} is out of range ({distance})")
    mask = (1 << bits) - 1
    _insert(linker, at, mask << shift, (distance >> 2 & mask) << shift)


def _insert(linker: _Linker, at: int, mask: int, bits: int) -> None:
    (word,) = struct.unpack_from("<I", linker.code, at)
    struct.pack_into("<I", linker.code, at, word & ~mask | bits)


_AARCH64_SCALES = {277: 0, 278: 0, 284: 1, 285: 2, 286: 3, 299: 4}  # ADD, LDST8, 16, 32, 64, 128: _ABS_LO12_NC
_AARCH64_BRANCHES = {279: (14, 5), 280: (19, 5), 282: (26, 0), 283: (26, 0)}  # TSTBR14, CONDBR19, JUMP26, CALL26


def _relocate_aarch64(linker: _Linker, at: int, kind: int, target: _Target, addend: int) -> None:
    match kind:
        case 257:  # R_AARCH64_ABS64
            linker.point(at, target, addend)
        case 260:  # PREL64
            _store(linker, "<q", at, linker.address(target) + addend - at, "R_AARCH64_PREL64")
        case 261 | 314:  # PREL32, PLT32
            _store(linker, "<i", at, linker.address(target) + addend - at, "R_AARCH64_PREL32")
        case 275 | 276:  # ADR_PREL_PG_HI21, ADR_PREL_PG_HI21_NC
            _page_field(linker, at, linker.address(target) + addend)
        case 311:  # ADR_GOT_PAGE
            _page_field(linker, at, linker.slots[target] + addend)
        case 312:  # LD64_GOT_LO12_NC
            _low_field(linker, at, linker.slots[target] + addend, 3)
        case _ if kind in _AARCH64_SCALES:
            _low_field(linker, at, linker.address(target) + addend, _AARCH64_SCALES[kind])
        case _ if kind in _AARCH64_BRANCHES:
            _branch_field(linker, at, linker.address(target) + addend - at, *_AARCH64_BRANCHES[kind])
        case _:
            raise CodegenError(f"cannot link AArch64 relocation {kind} against {target}: the code is not PIC and small")


def _stub_aarch64(slot: int, place: int) -> bytes:
    pages = (slot >> 12) - (place >> 12)
    adrp = 0x90000010 | (pages & 3) << 29 | (pages >> 2 & 0x7FFFF) << 5  # adrp x16, slot
    ldr = 0xF9400210 | (slot & 0xFFF) >> 3 << 10  # ldr x16, [x16, slot's low 12 bits]
    return struct.pack("<III", adrp, ldr, 0xD61F0200)  # br x16


_MACHINES = {
    X86_64: _Machine(X86_64, 1, frozenset({9, 41, 42}), 8, _stub_x86_64, _relocate_x86_64),
    AARCH64: _Machine(AARCH64, 257, frozenset({311, 312}), 12, _stub_aarch64, _relocate_aarch64),
}
