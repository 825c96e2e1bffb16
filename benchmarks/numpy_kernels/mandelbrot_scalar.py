"""The Mandelbrot set point by point: a while loop that ends when the point escapes."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (9, 7, 20), "M": (200, 160, 200)}


def arguments(size: str) -> tuple[Any, ...]:
    width, height, most = SIZES[size]
    return np.linspace(-2.25, 0.75, width), np.linspace(-1.25, 1.25, height), most


def kernel(x, y, most):
    count = np.zeros((y.shape[0], x.shape[0]), dtype=np.int64)
    for i in range(y.shape[0]):
        for j in range(x.shape[0]):
            re = 0.0
            im = 0.0
            n = 0
            while n < most and re * re + im * im <= 4.0:
                re, im = re * re - im * im + x[j], 2.0 * re * im + y[i]
                n += 1
            count[i, j] = n
    return count
