"""Gram and Schmidt's orthogonalisation in its stable order: QR decomposition, which consumes its argument."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (14, 9), "M": (400, 320)}


def arguments(size: str) -> tuple[Any, ...]:
    m, n = SIZES[size]
    return (np.random.default_rng(9).random((m, n)),)


def kernel(a):
    n = a.shape[1]
    q = np.zeros_like(a)
    r = np.zeros((n, n), dtype=a.dtype)
    for k in range(n):
        r[k, k] = np.sqrt(a[:, k] @ a[:, k])
        q[:, k] = a[:, k] / r[k, k]
        for j in range(k + 1, n):
            r[k, j] = q[:, k] @ a[:, j]
            a[:, j] -= q[:, k] * r[k, j]
    return q, r
