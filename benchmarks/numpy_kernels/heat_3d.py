"""The heat equation in three dimensions by explicit steps, to and fro between two arrays."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (3, 11), "M": (15, 100)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    rng = np.random.default_rng(4)
    return steps, 0.125, rng.random((n, n, n)), rng.random((n, n, n))


def advance(ratio, u, v):
    """The step from u to the inner points of v."""
    centre = u[1:-1, 1:-1, 1:-1]
    v[1:-1, 1:-1, 1:-1] = (
        centre
        + ratio * (u[2:, 1:-1, 1:-1] - 2.0 * centre + u[:-2, 1:-1, 1:-1])
        + ratio * (u[1:-1, 2:, 1:-1] - 2.0 * centre + u[1:-1, :-2, 1:-1])
        + ratio * (u[1:-1, 1:-1, 2:] - 2.0 * centre + u[1:-1, 1:-1, :-2])
    )


def kernel(steps, ratio, a, b):
    for _ in range(steps):
        advance(ratio, a, b)
        advance(ratio, b, a)
