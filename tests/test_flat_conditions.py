"""Conditions on rows: rows that lie one after the other are one axis, and what differs is where its segments end."""

from __future__ import annotations

import numpy as np
import pytest

import tjit

F = tjit.nn.functional
SHAPES = [(1000, 7), (300, 1), (1, 300), (65, 64), (10, 31, 7), (2, 3, 5, 40)]


def _equal(fn, reference, *arrays):
    got = tjit.compile(fn, dynamic=False)(*map(tjit.from_numpy, arrays))

    np.testing.assert_array_equal(got.numpy(), reference(*arrays))


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
def test_rows_that_move_are_numpys(shape, dtype, rng):
    x, y = (rng.integers(0, 100, shape).astype(dtype) for _ in range(2))
    for dim in range(x.ndim):
        _equal(lambda x, d=dim: tjit.roll(x, 3, d), lambda x, d=dim: np.roll(x, 3, d), x)
        _equal(
            lambda x, y, d=dim: tjit.cat((x, y, x), d) == 1,
            lambda x, y, d=dim: np.concatenate((x, y, x), d) == 1,
            x,
            y,
        )
        widths = [(2, 5) if d == dim else (0, 0) for d in range(x.ndim)]
        flat = [n for pair in reversed(widths) for n in pair]
        _equal(lambda x, p=flat: F.pad(x, p) == 0, lambda x, p=widths: np.pad(x, p) == 0, x)
    every = tuple(range(x.ndim))
    _equal(lambda x: tjit.roll(x, every, every), lambda x: np.roll(x, every, every), x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_that_are_written_are_numpys(shape, rng):
    x, y = (rng.standard_normal(shape) for _ in range(2))

    def shift(x, y):
        z = x.clone() if isinstance(x, tjit.Tensor) else x.copy()
        z[1:] = y[:-1] * 2
        z[-2:] += y[:2]
        z[3:1] = 5
        return z

    def both(x, y):
        z = x.clone() if isinstance(x, tjit.Tensor) else x.copy()
        z[1:, :-1] = y[:-1, 1:]
        z[::2] -= y[::2]
        return z

    _equal(shift, shift, x, y)
    _equal(both, both, x, y)


def test_places_beside_conditions_are_of_rows(rng):
    x = rng.standard_normal((50, 7))

    _equal(
        lambda x: tjit.roll(x, 3, 0) * tjit.arange(50).unsqueeze(1) + tjit.arange(7),
        lambda x: np.roll(x, 3, 0) * np.arange(50)[:, None] + np.arange(7),
        x,
    )
    _equal(lambda x: tjit.tril(tjit.roll(x, 1, 0)), lambda x: np.tril(np.roll(x, 1, 0)), x)
    rows = tjit.compile(lambda x: tjit.where(tjit.arange(50).unsqueeze(1) < 9, tjit.roll(x, 3, 0), x), dynamic=False)
    np.testing.assert_array_equal(
        rows(tjit.from_numpy(x)).numpy(), np.where(np.arange(50)[:, None] < 9, np.roll(x, 3, 0), x)
    )


@pytest.mark.parametrize("fn", [lambda x: tjit.roll(x, 3, 0), lambda x: F.pad(x, (0, 0, 3, 4))], ids=["roll", "pad"])
def test_rows_one_after_the_other_are_one_axis(fn):
    text = str(tjit.compile(fn, dynamic=False).lower(tjit.zeros(1000, 7)).schedule())

    assert "7000) tasks" in text or "7049) tasks" in text


def test_sizes_may_be_symbols(rng):
    fn = tjit.compile(lambda x: tjit.cat((tjit.roll(x, 1, 0), x), 0))

    for rows in (3, 8, 1, 40):
        x = rng.standard_normal((rows, 5))

        np.testing.assert_array_equal(fn(tjit.from_numpy(x)).numpy(), np.concatenate((np.roll(x, 1, 0), x)))
