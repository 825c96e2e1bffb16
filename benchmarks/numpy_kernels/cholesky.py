"""Cholesky's decomposition in place, row by row: the lower triangle becomes the factor, the upper one is left."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (13,), "M": (800,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    root = np.random.default_rng(7).random((n, n))
    return (root @ root.T + n * np.eye(n),)


def kernel(a):
    n = a.shape[0]
    for i in range(n):
        for j in range(i):
            a[i, j] -= np.dot(a[i, :j], a[j, :j])
            a[i, j] /= a[j, j]
        a[i, i] -= np.dot(a[i, :i], a[i, :i])
        a[i, i] = np.sqrt(a[i, i])
