"""Gauss and Seidel's iteration in two dimensions: the mean over 3 by 3 points, in place, so that each point waits for
its left neighbour. What does not wait is computed a row at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (3, 19), "M": (10, 500)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    return steps, np.random.default_rng(3).random((n, n))


def kernel(steps, a):
    n = a.shape[0]
    for _ in range(steps):
        for i in range(1, n - 1):
            above = a[i - 1, :-2] + a[i - 1, 1:-1] + a[i - 1, 2:]
            below = a[i + 1, :-2] + a[i + 1, 1:-1] + a[i + 1, 2:]
            row = above + below + a[i, 1:-1] + a[i, 2:]
            for j in range(1, n - 1):
                a[i, j] = (a[i, j - 1] + row[j - 1]) / 9
