"""What a kernel computes, and whether two computed the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

__all__ = ["check", "fresh", "outcome"]


def fresh(arguments: Sequence[Any]) -> tuple[Any, ...]:
    """The arguments with arrays of their own: a kernel may write to them."""
    return tuple(a.copy() if isinstance(a, np.ndarray) else a for a in arguments)


def outcome(function: Callable[..., Any], arguments: Sequence[Any]) -> dict[str, np.ndarray]:
    """What a call returns and what it leaves in the arrays it was given, by name."""
    given = fresh(arguments)
    returned = function(*given)
    results = () if returned is None else returned if isinstance(returned, tuple) else (returned,)
    named = {f"result {i}": np.asarray(r) for i, r in enumerate(results)}
    named.update({f"argument {i}": a for i, a in enumerate(given) if isinstance(a, np.ndarray)})
    return named


def check(found: dict[str, np.ndarray], expected: dict[str, np.ndarray], tolerance: float) -> None:
    """Compare two outcomes: integers and dtypes exactly, floats relative to the largest magnitude of the array.

    Raises:
        AssertionError: they differ, and where.
    """
    assert list(found) == list(expected), f"{list(found)} came instead of {list(expected)}"
    for name, array in expected.items():
        assert found[name].dtype == array.dtype, f"{name} is {found[name].dtype} instead of {array.dtype}"
        atol = tolerance * float(np.abs(array).max(initial=0)) if array.dtype.kind in "fc" else 0
        np.testing.assert_allclose(found[name], array, rtol=0, atol=atol, err_msg=name)
