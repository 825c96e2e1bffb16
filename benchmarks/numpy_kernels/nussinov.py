"""Nussinov's algorithm: how many bases of an RNA sequence can pair without crossing, for every part of it."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (13,), "M": (200,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    return (np.random.default_rng(17).integers(0, 4, n),)  # 0 and 3, 1 and 2 pair


def paired(a, b):
    return 1 if a + b == 3 else 0


def kernel(sequence):
    n = sequence.shape[0]
    table = np.zeros((n, n), dtype=np.int64)
    for i in range(n - 1, -1, -1):
        for j in range(i + 1, n):
            best = max(table[i, j - 1], table[i + 1, j])
            inner = table[i + 1, j - 1]
            if i < j - 1:
                inner += paired(sequence[i], sequence[j])
            best = max(best, inner)
            for k in range(i + 1, j):
                best = max(best, table[i, k] + table[k + 1, j])
            table[i, j] = best
    return table
