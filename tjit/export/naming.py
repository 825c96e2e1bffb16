"""Names in packages: unique ones, and the full names of parameters that a function can see."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

from tjit.nn.module import Module
from tjit.tensor import Tensor

__all__ = ["tensor_names", "unique"]


def unique(name: str, taken: set[str]) -> str:
    """`name`, with a number behind it where it is taken; taken from now on."""
    found, n = name, 1
    while found in taken:
        found, n = f"{name}_{n}", n + 1
    taken.add(found)
    return found


def tensor_names(functions: list[Any]) -> dict[int, str]:
    """Names by id of the tensors in modules and optimizers that the functions can see, as their state_dicts call them.

    A tensor of one of several modules with equal names has the variable's name in front.
    """
    seen: dict[int, tuple[str, Any]] = {}
    for function in functions:
        for variable, value in _visible(function):
            seen.setdefault(id(value), (variable, value))
    modules = [(v, m) for v, m in seen.values() if isinstance(m, Module)]
    found: dict[int, str] = {}
    taken: set[str] = set()
    for variable, module in modules:
        _add_module(variable, module, found, taken)
    for _, value in seen.values():
        _add_optimizer(value, found)
    return found


def _add_module(variable: str, module: Module, found: dict[int, str], taken: set[str]) -> None:
    tensors = [*module.named_parameters(), *module.named_buffers()]
    clash = any(name in taken for name, tensor in tensors if id(tensor) not in found)
    for name, tensor in tensors:
        if id(tensor) not in found:
            found[id(tensor)] = unique(f"{variable}.{name}" if clash else name, taken)


def _add_optimizer(value: Any, found: dict[int, str]) -> None:
    from tjit.optim import Optimizer

    if not isinstance(value, Optimizer):
        return
    for parameter, state in value.state.items():
        for key, tensor in state.items():
            if isinstance(tensor, Tensor) and id(parameter) in found:
                found.setdefault(id(tensor), f"{found[id(parameter)]}.{key}")


def _visible(function: Any) -> Iterator[tuple[str, Any]]:
    """Variables that a function names and their values: itself, `self`, closure and globals; one level deep."""
    if isinstance(function, Module):
        yield "model", function
        return
    bound = getattr(function, "__self__", None)
    if bound is not None:
        yield "self", bound
        yield from getattr(bound, "__dict__", {}).items()
    if not inspect.isfunction(getattr(function, "__func__", function)):
        return
    found = inspect.getclosurevars(function)
    for name, value in (*found.nonlocals.items(), *found.globals.items()):
        yield name, value
        if inspect.isfunction(value) or hasattr(value, "_tjit_function"):
            yield from _visible_inner(value)


def _visible_inner(value: Any) -> Iterator[tuple[str, Any]]:
    inner = getattr(value, "_tjit_function", value)
    if inspect.isfunction(inner):
        found = inspect.getclosurevars(inner)
        yield from (*found.nonlocals.items(), *found.globals.items())
