"""A fixed share of the random functions with control flow; `python tests/random_control.py` draws more."""

from __future__ import annotations

from pathlib import Path

import pytest
from random_control import check


@pytest.mark.parametrize("seed", range(24))
def test_compiled_is_eager(seed: int, tmp_path: Path) -> None:
    problem = check(seed, tmp_path)

    assert problem is None, problem
