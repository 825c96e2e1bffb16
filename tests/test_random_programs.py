"""A fixed share of the random programs; more on request (see tests/random_programs.py)."""

from __future__ import annotations

import pytest
from random_programs import MANY, check


@pytest.mark.parametrize("seed", range(1000, 1036))
def test_compiled_equals_eager(seed):
    check(seed)


@pytest.mark.parametrize("seed", range(2000, 2012))
def test_compiled_equals_eager_for_many_rows(seed):
    check(seed, MANY)
