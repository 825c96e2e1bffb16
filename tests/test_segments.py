"""Where a condition holds all along a part of the lanes' axis, that part has code without it."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tjit.codegen.kernel import Load
from tjit.codegen.segments import segments

WIDTHS = (65, 200, 1000, 2049)


def _array(rng, *shape):
    return rng.standard_normal(shape).astype(np.float32)


def _compiled(function, *arrays):
    return tjit.compile(function)(*map(tjit.tensor, arrays)).numpy()


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("by", [1, 64, 70])
def test_rolled_rows_and_columns_are_numpys(rng, width, by):
    x = _array(rng, 7, width)

    for dim in (0, 1):
        np.testing.assert_array_equal(_compiled(lambda x, d=dim: tjit.roll(x, by, d) * 2, x), np.roll(x, by, dim) * 2)
    both = _compiled(lambda x: tjit.roll(x, 1, 0) + tjit.roll(x, -1, 1) - x, x)
    np.testing.assert_array_equal(both, np.roll(x, 1, 0) + np.roll(x, -1, 1) - x)


@pytest.mark.parametrize("widths", [(100, 100), (3, 300), (64, 1, 1, 500), (20,) * 7, (100,) * 20], ids=len)
def test_concatenated_columns_are_numpys(rng, widths):
    arrays = [_array(rng, 5, w) for w in widths]

    np.testing.assert_array_equal(_compiled(lambda *a: tjit.cat(a, 1) + 1, *arrays), np.concatenate(arrays, 1) + 1)
    np.testing.assert_array_equal(
        _compiled(lambda *a: tjit.cat([x.flip(1) for x in a], 1), *arrays),
        np.concatenate([x[:, ::-1] for x in arrays], 1),
    )


@pytest.mark.parametrize("width", WIDTHS)
def test_padded_columns_have_their_filling(rng, width):
    x, pad = _array(rng, 6, width), tjit.nn.functional.pad

    for left, right in ((0, 3), (70, 1), (-2, 5), (-1, -60)):
        got = _compiled(lambda x, a=left, b=right: pad(x, (a, b, 1, 2), value=7.0) * 2, x)
        inner = x[:, max(0, -left) : width - max(0, -right)]
        wanted = np.pad(inner, ((1, 2), (max(0, left), max(0, right))), constant_values=7) * 2
        np.testing.assert_array_equal(got, wanted)


@pytest.mark.parametrize("width", WIDTHS)
def test_choices_by_place_are_numpys(rng, width):
    x, i = _array(rng, 4, width), np.arange(width)

    got = _compiled(lambda x: tjit.where(tjit.arange(width) < 64, x, -x), x)

    np.testing.assert_array_equal(got, np.where(i < 64, x, -x))


@pytest.mark.parametrize("dtype", ["uint8", "int8", "int16", "int32", "float16"])
def test_places_that_wrap_in_their_dtype_are_compared_wrapped(rng, dtype):
    x = _array(rng, 70_000)

    def choose(x):
        return tjit.where(tjit.arange(x.shape[0], dtype=getattr(tjit, dtype)) < 100, x, -x)

    np.testing.assert_array_equal(_compiled(choose, x[:300]), choose(tjit.tensor(x[:300])).numpy())
    np.testing.assert_array_equal(_compiled(choose, x), choose(tjit.tensor(x)).numpy())


def test_every_second_element_of_rows_that_may_be_outside(rng):
    x, pad = _array(rng, 5, 600), tjit.nn.functional.pad

    for step in (2, 3, 4):
        got = _compiled(lambda x, s=step: pad(x[:, ::s], (0, 0, 1, 1)) + 1, x)
        np.testing.assert_array_equal(got, np.pad(x[:, ::step], ((1, 1), (0, 0))) + 1)


def test_large_results_in_segments_are_written_whole(rng):
    x, y = _array(rng, 1 << 21), _array(rng, (1 << 21) + 37)

    np.testing.assert_array_equal(_compiled(lambda x, y: tjit.cat((x, y)), x, y), np.concatenate((x, y)))
    np.testing.assert_array_equal(_compiled(lambda x, y: tjit.cat((y, x)), x, y), np.concatenate((y, x)))


def test_a_long_segment_of_a_rolled_row_is_a_copy():
    plan = tjit.compile(lambda x: tjit.roll(x, 8, 1)).lower(tjit.zeros(3, 1000)).schedule()

    (kernel,) = (step.kernel for step in plan.steps)
    parts = segments(kernel)

    assert [(part.first, part.stop) for part in parts] == [(0, 8), (8, 1000)]
    assert isinstance(value := parts[1].loops[0].body[0].value, Load)
    assert value.conditions == ()


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int16, np.int64, np.float16], ids=lambda t: t.__name__)
@pytest.mark.parametrize("shape", [(5, 7), (33, 64), (3, 130), (40, 1), (9, 331)], ids=str)
def test_choices_by_place_of_elements_of_any_size(rng, shape, dtype):
    """Positions are i64 beside lanes of bytes."""
    x, y = (rng.integers(0, 90, shape).astype(dtype) for _ in range(2))
    chosen = np.arange(shape[1]) % 3 == 0

    def choose(x, y):
        down = x.clone()
        down[1:] = y[:-1]
        return down, tjit.roll(x, 3, 1), tjit.tril(x), tjit.where(tjit.arange(shape[1]) % 3 == 0, x, y)

    found = tjit.compile(choose)(tjit.from_numpy(x), tjit.from_numpy(y))

    below = np.concatenate((x[:1], y[:-1]))
    for result, expected in zip(found, (below, np.roll(x, 3, 1), np.tril(x), np.where(chosen, x, y)), strict=True):
        np.testing.assert_array_equal(result.numpy(), expected)
