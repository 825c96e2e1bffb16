"""Where code reads a name: for what is said of values that changed."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterator, Sequence

from tjit.location import Location

__all__ = ["reading"]

_READS = frozenset({"LOAD_GLOBAL", "LOAD_NAME", "LOAD_DEREF", "LOAD_CLASSDEREF", "LOAD_ATTR", "LOAD_METHOD"})


def reading(name: str, codes: Sequence[types.CodeType]) -> Location | None:
    """The first line of these functions that reads a variable or an attribute called `name`."""
    for code in codes:
        for found, line in _reads(code):
            if found == name:
                return Location(code.co_filename, line)
    return None


def _reads(code: types.CodeType) -> Iterator[tuple[str, int]]:
    line = code.co_firstlineno
    for instruction in dis.get_instructions(code):
        if instruction.positions is not None and instruction.positions.lineno is not None:
            line = instruction.positions.lineno
        if instruction.opname in _READS:
            yield str(instruction.argval), line
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _reads(constant)
