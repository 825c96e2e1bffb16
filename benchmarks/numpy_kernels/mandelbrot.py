"""The Mandelbrot set with complex arrays: points that are still inside are read and written through a mask."""

from __future__ import annotations

from typing import Any

import numpy as np

prange = range  # where Numba compiles in parallel, its own

SIZES = {"S": (21, 17, 9), "M": (1000, 1000, 40)}  # deeper, and points at the border amplify NumPy's own rounding


def arguments(size: str) -> tuple[Any, ...]:
    width, height, most = SIZES[size]
    return -2.25, 0.75, width, -1.25, 1.25, height, most, 2.0


def kernel(x_min, x_max, width, y_min, y_max, height, most, horizon):
    x = np.linspace(x_min, x_max, width)
    y = np.linspace(y_min, y_max, height)
    c = x + y[:, np.newaxis] * 1j
    z = np.zeros(c.shape, dtype=np.complex128)
    count = np.zeros(c.shape, dtype=np.int64)
    for n in range(most):
        inside = np.abs(z) < horizon
        count[inside] = n
        z[inside] = z[inside] ** 2 + c[inside]
    count[count == most - 1] = 0
    return z, count


def numba_kernel(x_min, x_max, width, y_min, y_max, height, most, horizon):
    """Numba has no masks of two dims: what the masks mean, written as loops."""
    x = np.linspace(x_min, x_max, width)
    y = np.linspace(y_min, y_max, height)
    z = np.zeros((height, width), dtype=np.complex128)
    count = np.zeros((height, width), dtype=np.int64)
    for n in range(most):
        for i in prange(height):
            for j in range(width):
                if abs(z[i, j]) < horizon:
                    count[i, j] = n
                    z[i, j] = z[i, j] * z[i, j] + complex(x[j], y[i])
    for i in prange(height):
        for j in range(width):
            if count[i, j] == most - 1:
                count[i, j] = 0
    return z, count
