"""Writes to every other element: places are digits by the step, and lanes run on from one to the next."""

from __future__ import annotations

import numpy as np
import pytest

import tjit

SLICES = [
    slice(None, None, 2),
    slice(1, None, 2),
    slice(None, -1, 2),
    slice(5, 60, 2),
    slice(7, 8, 2),
    slice(3, 3, 2),
    slice(None, None, 3),
    slice(2, None, 3),
    slice(4, -7, 5),
    slice(None, None, 70),
]


def _written(part):
    def write(x, y):
        z = x.clone() if isinstance(x, tjit.Tensor) else x.copy()
        z[part] = y[part]
        return z

    return write


def _filled(shape, dtype, rng):
    return rng.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)


@pytest.mark.parametrize("part", SLICES, ids=str)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
def test_stepped_columns_are_written(part, dtype, rng):
    for shape in ((5, 61), (33, 64), (3, 129)):
        x, y = (_filled(shape, dtype, rng) for _ in range(2))
        write = _written((slice(None), part))

        got = tjit.compile(write, dynamic=False)(tjit.from_numpy(x), tjit.from_numpy(y))

        np.testing.assert_array_equal(got.numpy(), write(x, y))


@pytest.mark.parametrize("rows", [slice(None, None, 2), slice(1, None, 3)], ids=str)
@pytest.mark.parametrize("columns", SLICES[:4], ids=str)
def test_stepped_rows_and_columns_are_written(rows, columns, rng):
    x, y = (_filled((7, 67), np.float32, rng) for _ in range(2))
    write = _written((rows, columns))

    got = tjit.compile(write, dynamic=False)(tjit.from_numpy(x), tjit.from_numpy(y))

    np.testing.assert_array_equal(got.numpy(), write(x, y))


@pytest.mark.parametrize("part", SLICES[:5], ids=str)
def test_what_is_written_may_be_any_view_and_a_change(part, rng):
    x, y = rng.standard_normal((9, 61)), rng.standard_normal((61, 9))

    def change(x, y):
        z = x.clone() if isinstance(x, tjit.Tensor) else x.copy()
        z[:, part] += y.T[:, part] * 2
        return z

    for given in (y, y[::-1, ::-1], np.broadcast_to(y[:1], y.shape)):
        got = tjit.compile(change, dynamic=False)(tjit.from_numpy(x), tjit.from_numpy(given.copy()))

        np.testing.assert_array_equal(got.numpy(), change(x, given))


def test_sizes_may_be_symbols(rng):
    write = _written((slice(None), slice(1, None, 2)))
    fn = tjit.compile(write)

    for n in (5, 61, 64, 1, 2):
        x, y = (_filled((4, n), np.float32, rng) for _ in range(2))

        np.testing.assert_array_equal(fn(tjit.from_numpy(x), tjit.from_numpy(y)).numpy(), write(x, y))


@pytest.mark.parametrize("step", [2, 3, 4])
def test_lanes_run_on_over_what_is_written_and_what_is_not(step):
    x, y = tjit.zeros(16, 16 * step * step), tjit.ones(16, 16 * step * step)

    text = str(tjit.compile(_written((slice(None), slice(1, None, step))), dynamic=False).lower(x, y).schedule())

    assert "on over" in text
    assert f": {step}) tasks" in text
