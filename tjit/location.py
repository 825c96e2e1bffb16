"""Where in the user's program an op was called."""

from __future__ import annotations

import linecache
import os
import sys
from functools import cache
from types import TracebackType
from typing import Any, NamedTuple

__all__ = ["Location", "definition", "innermost", "is_internal", "is_raised_by_user", "is_users", "user_location"]

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__))) + os.sep
# Frames of these folders are tjit's own; bare checkouts reach passes and codegen through symlinks.
_INTERNAL = (_HERE, _ROOT + "passes" + os.sep, _ROOT + "codegen" + os.sep)


class Location(NamedTuple):
    """A line of the user's program."""

    file: str
    line: int

    @property
    def short(self) -> str:
        """`model.py:21`, as printed in dumps."""
        return f"{os.path.basename(self.file)}:{self.line}"

    def describe(self) -> str:
        """`model.py:21: return a @ b`, as printed in errors."""
        text = linecache.getline(self.file, self.line).strip()
        return f"{self.short}: {text}" if text else self.short


def is_internal(file: str) -> bool:
    """Whether a source file is tjit's own."""
    return file.startswith(_INTERNAL)


@cache
def is_users(file: str) -> bool:
    """Whether a source file is the user's: not tjit's, of the standard library, or NumPy's."""
    if is_internal(file) or file.startswith("<frozen "):
        return False
    inside = file.startswith(_standard_library()) and "-packages" + os.sep not in file
    return not inside and f"-packages{os.sep}numpy{os.sep}" not in file


@cache
def _standard_library() -> str:
    return os.path.dirname(os.path.abspath(os.__file__)) + os.sep


def definition(fn: Any) -> Location | None:
    """The line where a function, or the forward of a module, is defined; None where that is not Python."""
    code = getattr(getattr(fn, "forward", fn), "__code__", None)
    if code is None:
        return None
    line = code.co_firstlineno
    while linecache.getline(code.co_filename, line).lstrip().startswith("@"):
        line += 1
    return Location(code.co_filename, line)


def innermost(traceback: TracebackType | None) -> Location | None:
    """The user's line that a traceback passes last."""
    found = generated = None
    while traceback is not None:
        file = traceback.tb_frame.f_code.co_filename
        if is_users(file):
            generated = Location(file, traceback.tb_lineno)
            found = found if file.startswith("<") else generated  # a file says more than a dataclass's <string>
        traceback = traceback.tb_next
    return found or generated


def is_raised_by_user(error: BaseException) -> bool:
    """Whether an exception comes from a line of the user's, and not from what that line called."""
    traceback = error.__traceback__
    while traceback is not None and traceback.tb_next is not None:
        traceback = traceback.tb_next
    return traceback is not None and is_users(traceback.tb_frame.f_code.co_filename)


def user_location() -> Location | None:
    """The innermost frame of the user's code, or of any outside tjit; None when there is none."""
    frame = sys._getframe(1)
    outside = None
    while frame is not None:
        file = frame.f_code.co_filename
        if is_users(file):
            return Location(file, frame.f_lineno)
        if outside is None and not is_internal(file):
            outside = Location(file, frame.f_lineno)
        frame = frame.f_back
    return outside
