"""TorchScript's names: compiled functions and modules that can be looked at, saved, and loaded without their source."""

from __future__ import annotations

from typing import Final, TypeVar

from tjit.jit.annotations import isinstance
from tjit.jit.files import LoadedModule, load, save
from tjit.jit.marks import export, freeze, ignore, is_scripting, is_tracing, optimize_for_inference, unused
from tjit.jit.script import (
    ScriptFunction,
    ScriptModule,
    script,
    script_if_tracing,
    script_method,
    trace,
    trace_module,
)
from tjit.jit.tasks import Future, fork, wait
from tjit.jit.warning import TracerWarning

__all__ = [
    "Attribute", "Final", "Future", "LoadedModule", "ScriptFunction", "ScriptModule", "TracerWarning", "annotate",
    "export", "fork", "freeze", "ignore", "is_scripting", "is_tracing", "isinstance", "load", "optimize_for_inference",
    "save", "script", "script_if_tracing", "script_method", "trace", "trace_module", "unused", "wait",
]  # fmt: skip

T = TypeVar("T")


def annotate(the_type: object, the_value: T) -> T:
    """`the_value`: types come from values."""
    return the_value


def Attribute(value: T, type: object) -> T:
    """The value of an attribute with a declared type."""
    return value
