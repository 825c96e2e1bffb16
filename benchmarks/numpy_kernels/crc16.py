"""The check sum CRC-16 of a message (X.25: the reflected polynomial 0x8408), bit by bit."""

from __future__ import annotations

from typing import Any

import numpy as np

SIZES = {"S": (37,), "M": (600_000,)}


def arguments(size: str) -> tuple[Any, ...]:
    (n,) = SIZES[size]
    return np.random.default_rng(15).integers(0, 256, n, dtype=np.uint8), 0x8408


def kernel(message, polynomial):
    crc = 0xFFFF
    for byte in message:
        crc ^= int(byte)
        for _ in range(8):
            if crc & 1:
                crc = (crc >> 1) ^ polynomial
            else:
                crc >>= 1
    return crc ^ 0xFFFF
