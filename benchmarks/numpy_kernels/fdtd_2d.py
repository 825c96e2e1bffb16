"""Maxwell's equations in two dimensions on Yee's grid: electric and magnetic fields advance in turn (FDTD)."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (5, 17, 21), "M": (100, 600, 700)}


def arguments(size: str) -> tuple[Any, ...]:
    steps, nx, ny = SIZES[size]
    rng = np.random.default_rng(16)
    pulse = np.sin(0.3 * np.arange(steps))
    return pulse, rng.random((nx, ny)), rng.random((nx, ny)), rng.random((nx, ny))


def kernel(pulse, ex, ey, hz):
    for t in range(pulse.shape[0]):
        ey[0, :] = pulse[t]
        ey[1:, :] -= 0.5 * (hz[1:, :] - hz[:-1, :])
        ex[:, 1:] -= 0.5 * (hz[:, 1:] - hz[:, :-1])
        hz[:-1, :-1] -= 0.7 * (ex[:-1, 1:] - ex[:-1, :-1] + ey[1:, :-1] - ey[:-1, :-1])
