"""The heat equation in two dimensions by alternating directions (Peaceman and Rachford): each half of a step is
implicit along one axis, a tridiagonal system for every line, solved by elimination for all lines at once."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (3, 17), "M": (20, 600)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    return steps, 0.8, np.random.default_rng(5).random((n, n))


def kernel(steps, ratio, u):
    n = u.shape[0]
    half = ratio / 2
    p = np.empty_like(u)  # after elimination x[i] = p[i] x[i + 1] + q[i]
    q = np.empty_like(u)
    v = u.copy()
    for _ in range(steps):
        p[0, 1:-1] = 0
        q[0, 1:-1] = u[0, 1:-1]
        for i in range(1, n - 1):
            pivot = 1 + ratio - half * p[i - 1, 1:-1]
            given = u[i, 1:-1] + half * (u[i, :-2] - 2 * u[i, 1:-1] + u[i, 2:])
            p[i, 1:-1] = half / pivot
            q[i, 1:-1] = (given + half * q[i - 1, 1:-1]) / pivot
        for i in range(n - 2, 0, -1):
            v[i, 1:-1] = p[i, 1:-1] * v[i + 1, 1:-1] + q[i, 1:-1]

        p[1:-1, 0] = 0
        q[1:-1, 0] = v[1:-1, 0]
        for j in range(1, n - 1):
            pivot = 1 + ratio - half * p[1:-1, j - 1]
            given = v[1:-1, j] + half * (v[:-2, j] - 2 * v[1:-1, j] + v[2:, j])
            p[1:-1, j] = half / pivot
            q[1:-1, j] = (given + half * q[1:-1, j - 1]) / pivot
        for j in range(n - 2, 0, -1):
            u[1:-1, j] = p[1:-1, j] * u[1:-1, j + 1] + q[1:-1, j]
