"""Several modules compiled as one, whose object is then taken apart (docs/design/0018).

What LLVM takes for a module whatever is in it, and for starting each of its passes, is a sixth of its time for modules
of the size of kernels. The parts are to the byte those of the modules compiled one at a time: a disk cache keeps them
one by one, and what they are linked to does not depend on which were compiled together.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field

from tjit.codegen.llvm.elf import (
    SHF_ALLOC,
    SHF_EXECINSTR,
    SHN_UNDEF,
    SHT_PROGBITS,
    SHT_RELA,
    STB_LOCAL,
    STT_SECTION,
    ElfObject,
    Section,
    Symbol,
    write_object,
)
from tjit.codegen.llvm.text import Printed
from tjit.dataclass import dataclass

__all__ = ["join", "take_apart"]

_VECTOR = 64  # bytes of the largest: constants of that size have a section without entries
_X86_64, _AARCH64 = 62, 183  # ELF's numbers
_ADD_LOW = 277  # R_AARCH64_ADD_ABS_LO12_NC: the rest of an address goes into a register


def join(modules: Sequence[Printed]) -> str:
    """A module with the functions of all, those of `modules[i]` in the section `.text.i`. No two have one name."""
    defined: list[str] = []
    declared: dict[str, str] = {}
    for i, module in enumerate(modules):
        declared |= module.declared
        section = f' section ".text.{i}"\n{{\n'
        defined += [text.replace("\n{\n", section, 1) for text in module.defined.values()]
    for module in modules:
        for name in module.defined:
            declared.pop(name, None)
    return "\n".join((modules[0].header, *declared.values(), *defined))


def take_apart(data: bytes, count: int) -> list[bytes] | None:
    """The objects of the modules that were joined; None where it cannot be told which constants are whose."""
    joined = ElfObject(data)
    sections = joined.sections
    if joined.machine not in (_X86_64, _AARCH64) or not all(map(_is_known, sections)):
        return None
    codes = {section.name: i for i, section in enumerate(sections) if section.flags & SHF_EXECINSTR}
    tables = {section.info: section for section in sections if section.type == SHT_RELA}
    found: list[bytes] = []
    for i in range(count):
        code = codes[f".text.{i}"]
        piece = _Piece(joined, code)
        if code in tables and not piece.relocate(tables[code]):
            return None
        found.append(piece.object())
    return found


def _is_known(section: Section) -> bool:
    """Whether a section is code, constants without addresses in them, or nothing that is loaded."""
    if not section.flags & SHF_ALLOC or section.size == 0:
        return not (section.type == SHT_RELA and section.name.startswith((".rela.rodata", ".rela.data")))
    if section.type != SHT_PROGBITS:
        return section.name == ".eh_frame"
    return section.name.startswith((".text", ".eh_frame")) or section.flags == SHF_ALLOC or section.entry > 0


def _is_lea(code: memoryview | bytes, offset: int) -> bool:
    """Whether the instruction of x86-64 whose address is at `offset` gives that address: `lea register, [rip + x]`."""
    rex, operation, operand = code[offset - 3 : offset] if offset >= 3 else bytes(3)
    return rex & 0xF8 == 0x48 and operation == 0x8D and operand & 0xC7 == 0x05


@dataclass
class _Piece:
    """The part of one module.

    Attributes:
        constants: by section and offset there, the offset among this piece's.
    """

    joined: ElfObject
    code: int
    constants: dict[tuple[int, int], int] = field(default_factory=dict)
    data: bytearray = field(default_factory=bytearray)
    align: int = 1
    relocations: list[tuple[int, int, str | None, int]] = field(default_factory=list)

    def relocate(self, table: Section) -> bool:
        """Take the relocations of the code; False where one does not say which constant it means."""
        for offset, kind, symbol, addend in self.joined.relocations(table):
            if symbol.binding != STB_LOCAL:
                self.relocations.append((offset, kind, symbol.name, addend))
                continue
            at = self._constant_at(symbol, addend)
            if at is None or self._is_table(offset, kind):
                return False
            start = self._place(symbol.section, at)
            self.relocations.append((offset, kind, None, start + symbol.value + addend - at))
        return True

    def _is_table(self, offset: int, kind: int) -> bool:
        """Whether code takes a constant's address, behind which it may read more; else it reads a vector at most.

        Not all constants are read: LLVM leaves those in the object for which it has found smaller ones.
        """
        if self.joined.machine != _X86_64:
            return kind == _ADD_LOW
        return _is_lea(self.joined.sections[self.code].data, offset)

    def _constant_at(self, symbol: Symbol, addend: int) -> int | None:
        """Where the constant starts that a relocation means."""
        section = self.joined.sections[symbol.section]
        if symbol.section in (SHN_UNDEF, self.code) or not section.name.startswith(".rodata"):
            return None
        size = section.entry or _VECTOR
        if symbol.type != STT_SECTION:
            return symbol.value if section.entry and symbol.value % size == 0 else None
        if self.joined.machine != _X86_64:
            return addend // size * size
        # relative to the instruction's end: 4 bytes on, or 5 where a byte of it follows the address
        at = (addend + 5) // size * size
        return at if addend + 5 - at <= 1 else None

    def _place(self, section: int, at: int) -> int:
        """The place of a constant among this piece's, where it is put if it is not yet there."""
        if (section, at) not in self.constants:
            source = self.joined.sections[section]
            size = source.entry or _VECTOR
            self.data.extend(bytes(-len(self.data) % size))
            self.constants[section, at] = len(self.data)
            self.data += bytes(source.data[at : at + size]).ljust(size, b"\0")
            self.align = max(self.align, size)
        return self.constants[section, at]

    def object(self) -> bytes:
        """This piece as a file of its own."""
        section = self.joined.sections[self.code]
        functions = [s for s in self.joined.symbols if s.section == self.code and s.binding != STB_LOCAL]
        code = (bytes(section.data), section.align)
        return write_object(self.joined.machine, code, (bytes(self.data), self.align), functions, self.relocations)
