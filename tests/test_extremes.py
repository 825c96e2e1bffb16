"""Extremes and where they are, and any and all: rows short and long, in chunks, decided early; against NumPy."""

from __future__ import annotations

import numpy as np
import pytest
from on_threads import assert_same_bits

import tjit

DTYPES = (np.float32, np.float64, np.uint8, np.int16, np.int64)
# rows of parts of a vector, of one chunk, of several with and without a rest; rows that are lanes; one long row
SHAPES = ((3, 5), (2, 100), (300, 17), (300, 64), (2, 4099), (1, 16384), (2, 20011), (70001,), (40, 2000))


def _values(rng, shape, dtype):
    x = rng.standard_normal(shape) * 9
    return x.astype(dtype) if np.issubdtype(dtype, np.floating) else np.abs(x).astype(dtype)


def _hardest(dtype, shape):
    """Rows in which every element is what a running extreme begins with, and rows of nan."""
    if np.issubdtype(dtype, np.floating):
        return [np.full(shape, v, dtype) for v in (-np.inf, np.inf, np.nan, 0.0)]
    return [np.full(shape, v, dtype) for v in (np.iinfo(dtype).min, np.iinfo(dtype).max)]


def _check_places(x):
    for name in ("argmax", "argmin"):
        result = tjit.compile(lambda x, name=name: (getattr(x, name)(-1), getattr(x, name)()))(tjit.from_numpy(x))

        np.testing.assert_array_equal(result[0].numpy(), getattr(np, name)(x, -1))
        assert result[1].numpy() == getattr(np, name)(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_the_first_of_equal_extremes_is_found(rng, dtype, shape):
    for x in (_values(rng, shape, dtype), *_hardest(dtype, shape)):
        _check_places(x)


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=lambda t: t.__name__)
def test_the_first_nan_is_an_extreme_wherever_it_is(rng, dtype, shape):
    for place in (0, 1, shape[-1] // 2, shape[-1] - 1):
        x = _values(rng, shape, dtype)
        x[..., place:] = np.where(rng.random(x[..., place:].shape) < 0.3, np.nan, x[..., place:])
        x[..., place] = np.nan

        _check_places(x)
        extremes = tjit.compile(lambda x: (x.amax(-1), x.amin(-1)))(tjit.from_numpy(x))

        for extreme in extremes:
            np.testing.assert_array_equal(extreme.numpy(), np.full(shape[:-1], np.nan, dtype))


@pytest.mark.parametrize("shape", [(4099,), (2, 20011), (3, 70001), (1009, 7), (300, 17, 3)], ids=str)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.float32], ids=lambda t: t.__name__)
def test_any_and_all_are_decided_by_one_element_wherever_it_is(dtype, shape):
    n = int(np.prod(shape))
    for name, usual in (("any", 0), ("all", 1)):
        for place in (None, 0, 63, n // 2, n - 1):
            x = np.full(n, usual, dtype)
            if place is not None:
                x[place] = 1 - usual
            x = x.reshape(shape)
            result = tjit.compile(lambda x, name=name: (getattr(x, name)(), getattr(x, name)(-1)))(tjit.from_numpy(x))

            assert result[0].numpy() == getattr(x, name)()
            np.testing.assert_array_equal(result[1].numpy(), getattr(x, name)(-1))


def test_a_wrong_index_is_reported_where_any_is_decided_before(rng):
    x, places = tjit.ones(100), tjit.zeros(100_000, dtype=tjit.int64)
    places[99_999] = 100

    with pytest.raises(IndexError):
        tjit.compile(lambda x, i: (x[i] > 0).any())(x, places)


def test_places_of_computed_elements_and_of_several_dims(rng):
    x = _values(rng, (7, 60, 70), np.float32)

    result = tjit.compile(lambda x: ((x * 2 - 1).abs().argmax(), (-x).reshape(7, -1).argmin(1)))(tjit.from_numpy(x))

    assert result[0].numpy() == np.abs(x * np.float32(2) - 1).argmax()
    np.testing.assert_array_equal(result[1].numpy(), (-x).reshape(7, -1).argmin(1))


def test_places_are_the_same_on_any_number_of_threads(rng):
    x = _values(rng, (64, 5003), np.float32)

    fn = tjit.compile(lambda x: (x.argmax(1), x.argmax(), x.sum(), (x > 30).any()))

    assert_same_bits(fn, tjit.from_numpy(x))
