"""A fixed share of the random programs; more on request (see tests/random_programs.py)."""

from __future__ import annotations

import pytest
from random_programs import check


@pytest.mark.parametrize("seed", range(1000, 1036))
def test_compiled_equals_eager(seed):
    check(seed)
