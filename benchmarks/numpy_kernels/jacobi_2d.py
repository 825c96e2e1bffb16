"""Jacobi's iteration in two dimensions: the mean of a point and its four neighbours, between two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (5, 23), "M": (60, 1000)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    rng = np.random.default_rng(2)
    return steps, rng.random((n, n)), rng.random((n, n))


def kernel(steps, a, b):
    for _ in range(steps):
        b[1:-1, 1:-1] = 0.2 * (a[1:-1, 1:-1] + a[1:-1, :-2] + a[1:-1, 2:] + a[2:, 1:-1] + a[:-2, 1:-1])
        a[1:-1, 1:-1] = 0.2 * (b[1:-1, 1:-1] + b[1:-1, :-2] + b[1:-1, 2:] + b[2:, 1:-1] + b[:-2, 1:-1])
