"""A sparse matrix in compressed rows times a vector."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (11, 9, 3), "M": (100_000, 100_000, 20)}


def arguments(size: str) -> tuple[Any, ...]:
    m, n, per_row = SIZES[size]
    rng = np.random.default_rng(19)
    starts = np.zeros(m + 1, dtype=np.int64)
    starts[1:] = np.cumsum(rng.integers(0, 2 * per_row, m))  # some rows are empty
    count = int(starts[-1])
    return starts, rng.integers(0, n, count), rng.random(count), rng.random(n)


def kernel(starts, columns, values, x):
    y = np.empty(starts.size - 1, dtype=values.dtype)
    for i in range(y.size):
        row = columns[starts[i] : starts[i + 1]]
        y[i] = values[starts[i] : starts[i + 1]] @ x[row]
    return y
