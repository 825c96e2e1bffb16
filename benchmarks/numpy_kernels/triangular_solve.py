"""Forward substitution: the solution of a lower triangular system."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (17,), "M": (4000,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    rng = np.random.default_rng(8)
    return np.tril(rng.random((n, n)) / n) + np.eye(n), rng.random(n)


def kernel(lower, b):
    x = np.zeros_like(b)
    for i in range(lower.shape[0]):
        x[i] = (b[i] - lower[i, :i] @ x[:i]) / lower[i, i]
    return x
