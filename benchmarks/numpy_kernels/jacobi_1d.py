"""Jacobi's iteration in one dimension: the mean of three neighbours, to and fro between two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (6, 61), "M": (8000, 20000)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    rng = np.random.default_rng(1)
    return steps, rng.random(n), rng.random(n)


def kernel(steps, a, b):
    for _ in range(steps):
        b[1:-1] = (a[:-2] + a[1:-1] + a[2:]) / 3
        a[1:-1] = (b[:-2] + b[1:-1] + b[2:]) / 3
