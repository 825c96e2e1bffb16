"""What is stored narrower than it was computed: nothing behind the last element is written."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tests.tolerances import assert_same

PAIRS = [
    (tjit.int32, tjit.int8),
    (tjit.int64, tjit.int16),
    (tjit.int64, tjit.int32),
    (tjit.float32, tjit.bfloat16),
    (tjit.float64, tjit.uint8),
    (tjit.bfloat16, tjit.bfloat16),
]


@pytest.mark.parametrize("pair", PAIRS, ids=lambda pair: f"{pair[0]}-{pair[1]}")
@pytest.mark.parametrize("width", [1, 9, 17, 33, 65, 66, 2049])
def test_what_stands_behind_a_row_stays(width, pair, rng):
    wide, narrow = pair

    def write(x, y):
        x[:, 1 : width + 1] = (y + 1).to(narrow)

    x = tjit.tensor(rng.integers(1, 15, (5, width + 8))).to(narrow)
    y = tjit.tensor(rng.integers(1, 15, (5, width))).to(wide)
    expected = x.clone()

    write(expected, y)
    tjit.compile(write, dynamic=False)(x, y)

    assert_same(x, expected)


@pytest.mark.parametrize("width", [17, 33, 49])
def test_the_first_of_a_row_is_its_own(width, rng):
    x = rng.integers(-9, 9, (3000, width)).astype(np.int32)  # tasks write rows that lie behind those of others

    found = tjit.compile(lambda x: (x * 2).to(tjit.int8), dynamic=False)(x)

    np.testing.assert_array_equal(found, (x * 2).astype(np.int8))
