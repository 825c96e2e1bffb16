"""NumPy as the oracle of functions written with it: a compiled function against the same function run by NumPy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tjit

SINGLE = (np.float16, np.float32, np.complex64)


def data(dtype: str, shape: tuple[int, ...], seed: int = 0) -> np.ndarray:
    """Numbers away from 0 and from ties, in the range where all functions of the table are smooth."""
    rng = np.random.default_rng([seed, *shape])
    kind = np.dtype(dtype)
    if kind.kind == "b":
        return rng.random(shape) < 0.5
    if kind.kind in "iu":
        signs = 1 if kind.kind == "u" else rng.choice([1, -1], shape)
        return (rng.integers(1, 9, shape) * signs).astype(kind)
    values = rng.uniform(0.2, 0.9, shape) * rng.choice([1.0, -1.0], shape)
    if kind.kind == "c":
        values = values + 1j * rng.uniform(0.2, 0.9, shape) * rng.choice([1.0, -1.0], shape)
    return values.astype(kind)


def leaves(value: Any) -> list[Any]:
    return [leaf for v in value for leaf in leaves(v)] if isinstance(value, (tuple, list)) else [value]


def assert_same(found: Any, wanted: Any, what: str, single: bool = False) -> None:
    """One result: the same class (array, NumPy scalar or Python's), dtype and values within the rounding of sums."""
    assert type(found) is type(wanted), (what, found, wanted)
    if not isinstance(wanted, (np.ndarray, np.generic)):
        assert found == wanted or found == pytest.approx(wanted, rel=1e-12), what
        return
    assert found.dtype == wanted.dtype, what
    exact: Any = np.asarray(wanted)
    single = single or np.result_type(wanted) in SINGLE
    tolerance = 2e-3 if exact.dtype == np.float16 else 2e-6 if single else 1e-13
    scale = np.max(np.abs(exact[np.isfinite(exact)]), initial=0) if np.result_type(wanted).kind in "fc" else 0
    np.testing.assert_allclose(found, exact, rtol=tolerance, atol=tolerance * float(scale), err_msg=what)


def check(fn: Callable[..., Any], *args: Any) -> None:
    """Compiled equals NumPy: results, and the arguments afterwards.

    What comes of single precision anywhere is compared as such.
    """
    expected_args = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    given = [a.copy() if isinstance(a, np.ndarray) else a for a in args]
    with np.errstate(all="ignore"):
        wanted = fn(*expected_args)

    found = tjit.compile(fn)(*given)

    wanted_leaves, found_leaves = leaves(wanted), leaves(found)
    single = any(isinstance(a, np.ndarray) and a.dtype in SINGLE for a in args)
    assert len(found_leaves) == len(wanted_leaves)
    for i, (f, w) in enumerate(zip(found_leaves, wanted_leaves, strict=True)):
        assert_same(f, w, f"result {i}", single)
    for i, (f, w) in enumerate(zip(given, expected_args, strict=True)):
        assert_same(f, w, f"argument {i}")
