"""Stars under their own gravity by leapfrog steps, forces of all pairs by broadcasting, and the energies of each."""

from __future__ import annotations

from typing import Any

import numpy as np

prange = range  # where Numba compiles in parallel, its own

SIZES = {"S": (3, 7), "M": (100, 200)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, n = SIZES[size]
    rng = np.random.default_rng(13)
    velocity = rng.standard_normal((n, 3))
    mass = rng.random(n) / n
    return steps, 0.01, 0.1, mass, rng.standard_normal((n, 3)), velocity - velocity.mean(axis=0)


def accelerations(position, mass, softening):
    apart = position[np.newaxis, :, :] - position[:, np.newaxis, :]  # apart[i, j] points from i to j
    squared = (apart * apart).sum(axis=2) + softening**2
    pull = mass * squared**-1.5
    return (apart * pull[:, :, np.newaxis]).sum(axis=1)


def energies(position, velocity, mass, softening):
    kinetic = 0.5 * np.sum(mass * np.sum(velocity**2, axis=1))
    apart = position[np.newaxis, :, :] - position[:, np.newaxis, :]
    distance = np.sqrt(np.sum(apart**2, axis=2) + softening**2)
    pairs = mass * mass[:, np.newaxis] / distance
    potential = -0.5 * (pairs.sum() - np.trace(pairs))
    return kinetic, potential


def kernel(steps, dt, softening, mass, position, velocity):
    kinetic = np.zeros(steps + 1)
    potential = np.zeros(steps + 1)
    kinetic[0], potential[0] = energies(position, velocity, mass, softening)
    force = accelerations(position, mass, softening)
    for n in range(1, steps + 1):
        velocity += 0.5 * dt * force
        position += dt * velocity
        force = accelerations(position, mass, softening)
        velocity += 0.5 * dt * force
        kinetic[n], potential[n] = energies(position, velocity, mass, softening)
    return kinetic, potential


def loop_accelerations(position, mass, softening):
    n = mass.shape[0]
    result = np.zeros((n, 3))
    for i in prange(n):
        for j in range(n):
            x = position[j, 0] - position[i, 0]
            y = position[j, 1] - position[i, 1]
            z = position[j, 2] - position[i, 2]
            pull = mass[j] * (x * x + y * y + z * z + softening * softening) ** -1.5
            result[i, 0] += x * pull
            result[i, 1] += y * pull
            result[i, 2] += z * pull
    return result


def loop_energies(position, velocity, mass, softening):
    n = mass.shape[0]
    kinetic = 0.0
    potential = 0.0
    for i in prange(n):
        kinetic += 0.5 * mass[i] * (velocity[i, 0] ** 2 + velocity[i, 1] ** 2 + velocity[i, 2] ** 2)
        for j in range(i):
            x = position[j, 0] - position[i, 0]
            y = position[j, 1] - position[i, 1]
            z = position[j, 2] - position[i, 2]
            potential -= mass[i] * mass[j] / np.sqrt(x * x + y * y + z * z + softening * softening)
    return kinetic, potential


def numba_kernel(steps, dt, softening, mass, position, velocity):
    """Numba in parallel has no such broadcasts: loops over the pairs."""
    kinetic = np.zeros(steps + 1)
    potential = np.zeros(steps + 1)
    kinetic[0], potential[0] = loop_energies(position, velocity, mass, softening)
    force = loop_accelerations(position, mass, softening)
    for n in range(1, steps + 1):
        velocity += 0.5 * dt * force
        position += dt * velocity
        force = loop_accelerations(position, mass, softening)
        velocity += 0.5 * dt * force
        kinetic[n], potential[n] = loop_energies(position, velocity, mass, softening)
    return kinetic, potential
