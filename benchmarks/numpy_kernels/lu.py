"""LU decomposition in place, without pivoting."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (13,), "M": (500,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    return (np.random.default_rng(6).random((n, n)) + n * np.eye(n),)


def kernel(a):
    n = a.shape[0]
    for i in range(n):
        for j in range(i):
            a[i, j] -= a[i, :j] @ a[:j, j]
            a[i, j] /= a[j, j]
        for j in range(i, n):
            a[i, j] -= a[i, :i] @ a[:i, j]
