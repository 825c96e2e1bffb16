"""A fixed share of the random functions; `python tests/random_control.py`, or `random_python.py`, draws more."""

from __future__ import annotations

from pathlib import Path

import pytest
import random_python
from random_control import check


@pytest.mark.parametrize("seed", [*range(24), 103312])
def test_compiled_is_eager(seed: int, tmp_path: Path) -> None:
    problem = check(seed, tmp_path)

    assert problem is None, problem


@pytest.mark.parametrize("seed", range(12))
def test_compiled_python_is_eager(seed: int, tmp_path: Path) -> None:
    problem = random_python.check(seed, tmp_path)

    assert problem is None, problem
