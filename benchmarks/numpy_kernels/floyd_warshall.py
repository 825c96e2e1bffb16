"""Shortest paths between all pairs (Floyd and Warshall), a whole matrix at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

prange = range  # where Numba compiles in parallel, its own

SIZES = {"S": (17,), "M": (500,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    path = np.random.default_rng(10).integers(1, 1000, (n, n))
    np.fill_diagonal(path, 0)
    return (path,)


def kernel(path):
    for k in range(path.shape[0]):
        path[:] = np.minimum(path, np.add.outer(path[:, k], path[k, :]))


def numba_kernel(path):
    """Numba has no ufunc.outer, and in parallel no broadcast of a column and a row: a row at a time."""
    n = path.shape[0]
    for k in range(n):
        for i in prange(n):
            path[i, :] = np.minimum(path[i, :], path[i, k] + path[k, :])
