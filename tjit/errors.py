"""Every exception tjit raises on purpose.

TjitError                      (message, location, hint)
├── TypeRuleError              RuntimeError   an op refuses the types of its operands
├── DTypeError                 TypeError      a dtype or a Python type that does not fit
├── DimensionError             IndexError     a dim or index out of range
├── ArgumentError              ValueError     an argument's value does not fit
├── AutogradError              RuntimeError   backward() cannot do what was asked
├── CaptureError               RuntimeError   a function cannot be captured as a graph
├── ParseError                 ValueError     IR text that does not parse
├── VerifyError                RuntimeError   a graph breaks the IR's rules: a bug in tjit
├── CodegenError               RuntimeError   a schedule or kernel that a backend cannot spell
├── CacheError                 RuntimeError   the disk cache cannot be used
└── PackageError               ValueError     an exported file is damaged, altered or of another target
"""

from __future__ import annotations

import builtins
import functools
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from tjit.location import Location, user_location

__all__ = [
    "ArgumentError",
    "AutogradError",
    "CacheError",
    "CaptureError",
    "CheckError",
    "CodegenError",
    "DTypeError",
    "DimensionError",
    "PackageError",
    "ParseError",
    "TjitError",
    "TypeRuleError",
    "VerifyError",
    "located",
]

_P = ParamSpec("_P")
_R = TypeVar("_R")


class TjitError(Exception):
    """Base of all: prints the message, then the user's line with its text, then the fix."""

    def __init__(self, message: str, location: Location | None = None, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.location = location
        self.hint = hint

    def __str__(self) -> str:
        lines = [self.message]
        if self.location is not None:
            lines.append(f"  at {self.location.describe()}")
        if self.hint is not None:
            lines.append(f"  hint: {self.hint}")
        return "\n".join(lines)


class TypeRuleError(TjitError, RuntimeError):
    """An op refuses the types of its operands."""


class DTypeError(TjitError, TypeError):
    """A dtype, or the Python type of an argument, does not fit."""


class DimensionError(TjitError, IndexError):
    """A dim or an index is out of range."""


class ArgumentError(TjitError, ValueError):
    """The value of an argument does not fit."""


class AutogradError(TjitError, RuntimeError):
    """`backward` or `grad` cannot do what was asked."""


class CaptureError(TjitError, RuntimeError):
    """A function cannot be captured as a graph."""


class CheckError(TjitError, AssertionError):
    """An `assert` of a compiled function does not hold."""


class ParseError(TjitError, ValueError):
    """IR text does not parse; the message names line and column."""


class VerifyError(TjitError, RuntimeError):
    """A graph breaks a rule of the IR. Always a bug in tjit."""


class CodegenError(TjitError, RuntimeError):
    """A backend cannot spell a schedule or a kernel."""


class CacheError(TjitError, RuntimeError):
    """The disk cache cannot be used."""


class PackageError(TjitError, ValueError):
    """An exported file is damaged, altered, or made for another target."""


def located(fn: Callable[_P, _R]) -> Callable[_P, _R]:
    """`fn`, whose errors that name no line name that of the user's call."""

    @functools.wraps(fn)
    def call(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        try:
            return fn(*args, **kwargs)
        except TjitError as error:
            error.location = error.location or user_location()
            raise

    return call


def failed_check(text: str, location: Location | None) -> Exception:
    """The error of a check that does not hold, where `text` says "<class>: <message>" of a built-in class."""
    name, _, message = text.partition(": ")
    if name == "AssertionError":
        return CheckError(message or "the assertion failed", location)
    kind = getattr(builtins, name, None)
    if not isinstance(kind, type) or not issubclass(kind, Exception):
        return CheckError(text, location)
    error = kind(message)
    if location is not None:
        error.add_note(f"  at {location.describe()}")
    return error
