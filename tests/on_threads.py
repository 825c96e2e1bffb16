"""The promise that a result's bits do not depend on how many threads made it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from tolerances import assert_same

from tjit.runtime import threads


def assert_same_bits(fn: Callable[..., Any], *args: Any) -> list[np.ndarray]:
    """Check that fn(*args) gives the same bits on 1, 2 and 3 threads; its results as arrays."""
    before, found = threads.get_num_threads(), []
    try:
        for count in (1, 2, 3):
            threads.set_num_threads(count)
            results = fn(*args)
            found.append([np.array(y) for y in (results if isinstance(results, tuple) else (results,))])
    finally:
        threads.set_num_threads(before)
    for other in found[1:]:
        for actual, expected in zip(other, found[0], strict=True):
            assert_same(actual, expected)
    return found[0]
