"""The random stream that all sampling draws from: seeds and states."""

from __future__ import annotations

from tjit.ops.random import DEFAULT, Generator
from tjit.tensor import Tensor

__all__ = ["Generator", "default_generator", "get_rng_state", "initial_seed", "manual_seed", "seed", "set_rng_state"]

default_generator = DEFAULT


def manual_seed(seed: int) -> Generator:
    """Start the stream of `seed`: the same seed gives the same numbers, eager and compiled.

    Raises:
        TypeRuleError: the seed does not fit in 64 bits.
    """
    return DEFAULT.manual_seed(seed)


def seed() -> int:
    """Start a stream of unpredictable seed, and return the seed."""
    return DEFAULT.seed()


def initial_seed() -> int:
    """The seed of the stream."""
    return DEFAULT.initial_seed()


def get_rng_state() -> Tensor:
    """i64[2]: what `set_rng_state` takes to go on from here."""
    return DEFAULT.get_state()


def set_rng_state(new_state: Tensor) -> None:
    """Go on from where `get_rng_state` was called."""
    DEFAULT.set_state(new_state)
