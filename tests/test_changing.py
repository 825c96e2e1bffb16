"""Clocks and global generators that a compiled function reads: a warning says that the first result stays."""

import random
import time

import numpy as np
import pytest

import tjit

DRAWS = {
    "random": lambda x: x * random.random(),
    "uniform": lambda x: x * random.uniform(1, 2),
    "rand": lambda x: x * float(np.random.rand()),
    "normal": lambda x: x * float(np.random.normal()),
}


@pytest.mark.parametrize("name", DRAWS)
def test_draws_from_global_generators_are_warned_of(name):
    f = tjit.compile(DRAWS[name])

    with pytest.warns(UserWarning, match="runs while the function is captured") as caught:
        f(tjit.ones(2))

    text = str(caught[0].message)
    assert text.startswith(f"{name}() runs while the function is captured: later calls have the result of this one\n")
    assert "  at test_changing.py:" in text
    assert text.endswith(
        "hint: draw with tjit.rand, tjit.randn or tjit.randint, or outside of the function and pass it"
    )


def test_a_clock_is_warned_of():
    f = tjit.compile(lambda x: x * time.time())

    with pytest.warns(UserWarning, match="read the clock outside of the compiled function"):
        f(tjit.ones(2))


def test_a_seeded_generator_is_not():
    f = tjit.compile(lambda x: x * float(np.random.default_rng(3).random()) * random.Random(4).random())

    assert f(tjit.ones(1)).tolist() == f(tjit.ones(1)).tolist()
