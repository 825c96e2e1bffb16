"""Planets under their own gravity, pair by pair, with scalars."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (4, 5), "M": (12_000, 5)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    rng = np.random.default_rng(14)
    return steps, 0.001, rng.random(n), rng.standard_normal((n, 3)), rng.standard_normal((n, 3))


def kernel(steps, dt, mass, position, velocity):
    n = mass.shape[0]
    for _ in range(steps):
        for i in range(n):
            for j in range(i + 1, n):
                dx = position[i, 0] - position[j, 0]
                dy = position[i, 1] - position[j, 1]
                dz = position[i, 2] - position[j, 2]
                squared = dx * dx + dy * dy + dz * dz
                magnitude = dt / (squared * np.sqrt(squared))
                velocity[i, 0] -= dx * mass[j] * magnitude
                velocity[i, 1] -= dy * mass[j] * magnitude
                velocity[i, 2] -= dz * mass[j] * magnitude
                velocity[j, 0] += dx * mass[i] * magnitude
                velocity[j, 1] += dy * mass[i] * magnitude
                velocity[j, 2] += dz * mass[i] * magnitude
        for i in range(n):
            position[i, 0] += dt * velocity[i, 0]
            position[i, 1] += dt * velocity[i, 1]
            position[i, 2] += dt * velocity[i, 2]
    energy = 0.0
    for i in range(n):
        energy += 0.5 * mass[i] * (velocity[i, 0] ** 2 + velocity[i, 1] ** 2 + velocity[i, 2] ** 2)
        for j in range(i + 1, n):
            dx = position[i, 0] - position[j, 0]
            dy = position[i, 1] - position[j, 1]
            dz = position[i, 2] - position[j, 2]
            energy -= mass[i] * mass[j] / np.sqrt(dx * dx + dy * dy + dz * dz)
    return energy
