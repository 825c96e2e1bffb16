"""The functions that take turns in a row: NumPy's, Numba's two and tjit's."""

from __future__ import annotations

from collections.abc import Callable
from types import FunctionType
from typing import Any

from benchmarks.numpy_kernels import Kernel

__all__ = ["VARIANTS", "jitted"]


def jitted(function: Any, *, parallel: bool) -> Callable[..., Any]:
    """The function and those of its file that it may call, compiled by Numba.

    Its source stays as it is: where it says `prange`, it gets Numba's, and helpers are compiled as it is.
    """
    import numba

    names = dict(function.__globals__)
    for name, value in function.__globals__.items():
        if isinstance(value, FunctionType) and value.__module__ == function.__module__ and name in _called(function):
            names[name] = jitted(value, parallel=parallel)
    names["prange"] = numba.prange
    copy = FunctionType(function.__code__, names, function.__name__, function.__defaults__)
    return numba.njit(copy, parallel=parallel)


def _called(function: FunctionType) -> tuple[str, ...]:
    return function.__code__.co_names


def _tjit(kernel: Kernel) -> Callable[..., Any]:
    import tjit

    return tjit.compile(kernel.function)


VARIANTS: dict[str, Callable[[Kernel], Callable[..., Any]]] = {
    "numpy": lambda kernel: kernel.function,
    "numba": lambda kernel: jitted(kernel.numba_function, parallel=False),
    "numba parallel": lambda kernel: jitted(kernel.numba_function, parallel=True),
    "tjit": _tjit,
}
