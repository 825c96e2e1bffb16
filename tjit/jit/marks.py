"""Decorators that say how scripting treats a function, and `freeze`."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any

from tjit.capture.trace import Trace
from tjit.errors import ArgumentError
from tjit.frozen import freeze_tensor
from tjit.jit.script import _MARK, ScriptModule
from tjit.location import user_location
from tjit.nn.module import Module
from tjit.ops.apply import state

__all__ = ["export", "freeze", "ignore", "is_scripting", "is_tracing", "optimize_for_inference", "unused"]


def export(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Mark a method to be compiled besides `forward`."""
    setattr(fn, _MARK, "export")
    return fn


def ignore(drop: Any = False, **_: Any) -> Any:
    """Leave a function as a Python call: it runs when its caller is captured, as Python runs it.

    Args:
        drop: True has it raise where it is called in a compiled function, as `unused` does.
    """
    if callable(drop):
        return _python_call(drop)
    return unused if drop else _python_call


def _python_call(fn: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        tracer = state.trace
        if not isinstance(tracer, Trace):
            return fn(*args, **kwargs)
        before, tracer.converts = tracer.converts, False
        try:
            return fn(*args, **kwargs)
        finally:
            tracer.converts = before

    setattr(wrapper, _MARK, "ignore")
    return wrapper


def unused(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Have a function raise where it is called in a compiled function; called by Python it runs.

    Raises:
        ArgumentError: at such a call.
    """

    @functools.wraps(fn)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        if state.trace is not None:
            raise ArgumentError(
                f"{fn.__name__} is marked @tjit.jit.unused, and a compiled function calls it", user_location()
            )
        return fn(*args, **kwargs)

    setattr(wrapper, _MARK, "unused")
    return wrapper


def freeze(mod: Any, preserved_attrs: Sequence[str] | None = None, optimize_numerics: bool = True) -> ScriptModule:
    """A copy of a scripted module in eval mode whose parameters are constants: it has none, and nothing changes them.

    Args:
        preserved_attrs: names of methods, besides forward, that it keeps.

    Raises:
        ArgumentError: not a scripted module, or one in training mode.
    """
    if not isinstance(mod, ScriptModule):
        raise ArgumentError(
            "freeze takes what tjit.jit.script or trace makes of a module", user_location(), hint="script it first"
        )
    if mod.training:
        raise ArgumentError(
            "Freezing is currently only implemented for modules in eval mode", user_location(), hint="call .eval()"
        )
    original = copy.deepcopy(mod._original)
    for parameter in original.parameters():
        freeze_tensor(parameter.requires_grad_(False))
    result = ScriptModule(original)
    forward = mod._methods.get("forward")
    if forward is not None:
        result._methods["forward"].compiled._converts = forward.compiled._converts
        result._methods["forward"].examples = forward.examples
    kept = {"forward", *(preserved_attrs or ())}
    for name in [n for n in result._methods if n not in kept]:
        del result._methods[name]
    for name in ("_parameters", "_buffers", "_modules"):  # of the copy alone: its methods still reach them
        object.__setattr__(result, name, type(getattr(result, name))())
    return result


def optimize_for_inference(mod: Any, other_methods: Sequence[str] | None = None) -> ScriptModule:
    """`freeze`, for a module in eval mode."""
    return freeze(mod.eval() if isinstance(mod, Module) else mod, other_methods)


def is_tracing() -> bool:
    """Whether `tjit.jit.trace` is capturing."""
    return isinstance(state.trace, Trace) and not state.trace.converts


def is_scripting() -> bool:
    """Whether a function is captured with its control flow."""
    return isinstance(state.trace, Trace) and state.trace.converts
