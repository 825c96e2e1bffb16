"""Durbin's algorithm: the Yule-Walker equations, whose matrix is symmetric, Toeplitz and of unit diagonal."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (19,), "M": (16000,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    return (np.random.default_rng(12).random(n) / n,)  # small beside the diagonal, so positive definite


def kernel(r):
    n = r.shape[0]
    y = np.zeros_like(r)
    y[0] = -r[0]
    alpha = -r[0]
    beta = 1.0
    for k in range(1, n):
        beta *= 1 - alpha * alpha
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        y[:k] += alpha * y[k - 1 :: -1]
        y[k] = alpha
    return y


def numba_kernel(r):
    """Numba in parallel overwrites what the reversed view has yet to read: a copy of it."""
    n = r.shape[0]
    y = np.zeros_like(r)
    y[0] = -r[0]
    alpha = -r[0]
    beta = 1.0
    for k in range(1, n):
        beta *= 1 - alpha * alpha
        alpha = -(r[k] + np.dot(np.flip(r[:k]), y[:k])) / beta
        turned = y[k - 1 :: -1].copy()
        y[:k] += alpha * turned
        y[k] = alpha
    return y
