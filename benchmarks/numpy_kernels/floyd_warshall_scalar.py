"""Shortest paths between all pairs (Floyd and Warshall), an element at a time."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (12,), "M": (150,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    path = np.random.default_rng(11).random((n, n))
    np.fill_diagonal(path, 0)
    return (path,)


def kernel(path):
    n = path.shape[0]
    for k in range(n):
        for i in range(n):
            for j in range(n):
                if path[i, k] + path[k, j] < path[i, j]:
                    path[i, j] = path[i, k] + path[k, j]
