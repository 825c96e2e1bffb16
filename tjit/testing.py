"""Comparing tensors in tests."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit import dtypes
from tjit.ops.creation import as_tensor
from tjit.tensor import Tensor

__all__ = ["assert_close"]

_TOLERANCE = {
    dtypes.f16: (1e-3, 1e-5),
    dtypes.bf16: (1.6e-2, 1e-5),
    dtypes.f32: (1.3e-6, 1e-5),
    dtypes.f64: (1e-7, 1e-7),
}


def assert_close(
    actual: Any,
    expected: Any,
    *,
    rtol: float | None = None,
    atol: float | None = None,
    equal_nan: bool = False,
    check_dtype: bool = True,
    check_device: bool = True,
    check_stride: bool = False,
    msg: str | None = None,
) -> None:
    """Check that tensors, numbers, or structures of them agree: |actual - expected| <= atol + rtol |expected|.

    Args:
        rtol, atol: by default PyTorch's for the wider dtype.

    Raises:
        AssertionError: they do not; the message says where and by how much.
        ValueError: only one of rtol and atol is given.
    """
    if (rtol is None) != (atol is None):
        raise ValueError("assert_close needs both rtol and atol, or neither")
    options = {
        "rtol": rtol, "atol": atol, "equal_nan": equal_nan,
        "check_dtype": check_dtype, "check_device": check_device, "msg": msg,
    }  # fmt: skip
    if isinstance(expected, dict):
        _check(actual.keys() == expected.keys(), msg, f"keys {list(actual)} are not {list(expected)}")
        for key in expected:
            assert_close(actual[key], expected[key], **options)
    elif isinstance(expected, (list, tuple)):
        _check(len(actual) == len(expected), msg, f"{len(actual)} items are not {len(expected)}")
        for a, b in zip(actual, expected, strict=True):
            assert_close(a, b, **options)
    else:
        _assert_tensors_close(as_tensor(actual).detach(), as_tensor(expected).detach(), options)


def _assert_tensors_close(actual: Tensor, expected: Tensor, options: dict[str, Any]) -> None:
    msg = options["msg"]
    _check(tuple(actual.shape) == tuple(expected.shape), msg, f"shape: {actual.type_} is not {expected.type_}")
    if options["check_dtype"]:
        _check(actual.dtype is expected.dtype, msg, f"dtype: {actual.type_} is not {expected.type_}")
    if options["check_device"]:
        _check(actual.device == expected.device, msg, f"device: {actual.type_} is not {expected.type_}")
    rtol, atol = options["rtol"], options["atol"]
    if rtol is None:
        pairs = [_TOLERANCE.get(t.dtype, (0.0, 0.0)) for t in (actual, expected)]
        rtol, atol = (max(p[i] for p in pairs) for i in (0, 1))
    a, b = actual.array.astype(np.float64), expected.array.astype(np.float64)
    wrong = ~np.isclose(a, b, rtol, atol, options["equal_nan"])
    if wrong.any():
        at = tuple(int(i) for i in np.argwhere(wrong)[np.nanargmax(np.abs(a - b)[wrong])])
        _check(
            False,
            msg,
            f"tensors are not close: {wrong.sum()} of {wrong.size} elements differ\n"
            f"  the most at index {at}: {a[at]:.9g} is not {b[at]:.9g} (rtol {rtol:g}, atol {atol:g})",
        )


def _check(holds: bool, msg: str | None, text: str) -> None:
    if not holds:
        raise AssertionError(text if msg is None else msg)
