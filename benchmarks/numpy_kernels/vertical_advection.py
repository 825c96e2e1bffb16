"""Vertical advection as weather models do it: half implicit, a tridiagonal system for every column of the atmosphere,
solved by a sweep up and a sweep down over the levels."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (5, 6, 7), "M": (160, 160, 100)}


def arguments(size: str) -> tuple[Any, ...]:
    nx, ny, nz = SIZES[size]
    rng = np.random.default_rng(18)
    w = rng.standard_normal((nx + 1, ny, nz + 1))  # wind at the faces of the cells
    return 0.1, w, rng.random((nx, ny, nz)), rng.random((nx, ny, nz))


def kernel(dt, w, u, tendency):
    levels = u.shape[2]
    upper = np.zeros_like(u)
    right = np.zeros_like(u)

    above = 0.25 * (w[1:, :, 1] + w[:-1, :, 1])
    c = 0.5 * dt * above
    b = 1.0 - c
    change = -above * (u[:, :, 1] - u[:, :, 0])
    upper[:, :, 0] = c / b
    right[:, :, 0] = (u[:, :, 0] + 0.5 * dt * change + dt * tendency[:, :, 0]) / b

    for k in range(1, levels - 1):
        below = 0.25 * (w[1:, :, k] + w[:-1, :, k])
        above = 0.25 * (w[1:, :, k + 1] + w[:-1, :, k + 1])
        a = -0.5 * dt * below
        c = 0.5 * dt * above
        b = 1.0 - a - c
        change = -below * (u[:, :, k] - u[:, :, k - 1]) - above * (u[:, :, k + 1] - u[:, :, k])
        given = u[:, :, k] + 0.5 * dt * change + dt * tendency[:, :, k]
        pivot = b - a * upper[:, :, k - 1]
        upper[:, :, k] = c / pivot
        right[:, :, k] = (given - a * right[:, :, k - 1]) / pivot

    k = levels - 1
    below = 0.25 * (w[1:, :, k] + w[:-1, :, k])
    a = -0.5 * dt * below
    b = 1.0 - a
    change = -below * (u[:, :, k] - u[:, :, k - 1])
    given = u[:, :, k] + 0.5 * dt * change + dt * tendency[:, :, k]
    solution = (given - a * right[:, :, k - 1]) / (b - a * upper[:, :, k - 1])
    tendency[:, :, k] = (solution - u[:, :, k]) / dt

    for k in range(levels - 2, -1, -1):
        solution = right[:, :, k] - upper[:, :, k] * solution
        tendency[:, :, k] = (solution - u[:, :, k]) / dt
