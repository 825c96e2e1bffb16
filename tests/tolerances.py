"""How far two results of one dtype may be apart: one table for the whole suite."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit import dtypes
from tjit.dtypes import DType

# (relative, absolute), in multiples of what sums of a few dozen terms and functions of a few ulp leave
TOLERANCE: dict[DType, tuple[float, float]] = {
    dtypes.f64: (1e-12, 1e-13),
    dtypes.f32: (4e-6, 1e-6),
    dtypes.f16: (2e-3, 1e-3),
    dtypes.bf16: (1.6e-2, 8e-3),
}


def assert_close(actual: Any, expected: Any, factor: float = 1.0) -> None:
    """Check dtype, shape and elements, by the table times `factor`; nan equals nan, and ints and bools are exact."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{actual.dtype} is not {expected.dtype}"
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    dtype = dtypes.from_numpy(expected.dtype)
    if dtype not in TOLERANCE:
        np.testing.assert_array_equal(actual, expected)
        return
    relative, absolute = TOLERANCE[dtype]
    np.testing.assert_allclose(
        actual.astype(np.float64), expected.astype(np.float64), rtol=relative * factor, atol=absolute * factor
    )


def assert_same(actual: Any, expected: Any) -> None:
    """Check dtype, shape and elements bit for bit, all nans being one."""
    actual, expected = np.asarray(actual), np.asarray(expected)
    assert actual.dtype == expected.dtype, f"{actual.dtype} is not {expected.dtype}"
    assert actual.shape == expected.shape, f"{actual.shape} is not {expected.shape}"
    if dtypes.from_numpy(expected.dtype).is_floating_point:
        actual, expected = actual.astype(np.float64), expected.astype(np.float64)
        np.testing.assert_array_equal(
            np.signbit(actual) & ~np.isnan(actual), np.signbit(expected) & ~np.isnan(expected)
        )
    np.testing.assert_array_equal(actual, expected)
