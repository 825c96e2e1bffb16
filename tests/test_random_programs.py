"""A fixed share of the random programs; more on request (see tests/random_programs.py)."""

from __future__ import annotations

import pytest
from random_programs import check

# seeds that once failed, each for a reason of its own
FOUND = (14, 15, 25, 46, 133)


@pytest.mark.parametrize("seed", [*FOUND, *range(1000, 1030)])
def test_compiled_equals_eager(seed):
    check(seed)
