"""NumPy programs with loops, slice writes and scalar code, as a scientist writes them, one a file.

A file has SIZES ("S" for tests, "M" to be timed, where NumPy takes some tenths of a second), `arguments(size)`,
`kernel`, which knows neither tjit nor Numba, and where Numba refuses it a `numba_kernel` that computes the same.
`python -m benchmarks.numpy_kernels` times them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from typing import Any

__all__ = ["NAMES", "Kernel", "load"]

NAMES = (
    "jacobi_1d",
    "jacobi_2d",
    "seidel_2d",
    "heat_3d",
    "adi",
    "lu",
    "cholesky",
    "triangular_solve",
    "gram_schmidt",
    "floyd_warshall",
    "floyd_warshall_scalar",
    "durbin",
    "nbody",
    "nbody_scalar",
    "mandelbrot",
    "mandelbrot_scalar",
    "crc16",
    "fdtd_2d",
    "nussinov",
    "vertical_advection",
    "spmv",
)


@dataclass(frozen=True)
class Kernel:
    """One program.

    Attributes:
        arguments: makes the arguments of a size, the same ones each time.
        function: in plain NumPy; may write to its arguments.
        numba_function: what Numba compiles, mostly the same one.
    """

    name: str
    arguments: Callable[[str], tuple[Any, ...]]
    function: Callable[..., Any]
    numba_function: Callable[..., Any]


def load(name: str) -> Kernel:
    module = import_module(f"benchmarks.numpy_kernels.{name}")
    return Kernel(name, module.arguments, module.kernel, getattr(module, "numba_kernel", module.kernel))
