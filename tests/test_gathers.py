"""What indices pick inside of kernels: whole rows as vectors, single elements, both under conditions."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tjit

WIDTHS = (1, 3, 16, 40, 257)


@pytest.fixture
def table(rng):
    return lambda rows, width: rng.standard_normal((rows, width)).astype(np.float32)


def _picks(rng, rows, *shape):
    return rng.integers(-rows, rows, shape)


def _compiled(function, *arrays):
    return tjit.compile(function)(*map(tjit.tensor, arrays)).numpy()


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_that_an_index_picks_are_numpys(rng, table, width):
    x, i = table(50, width), _picks(rng, 50, 67)

    np.testing.assert_array_equal(_compiled(lambda x, i: x[i] * 2, x, i), x[i] * 2)
    np.testing.assert_allclose(_compiled(lambda x, i: x[i].sum(1), x, i), x[i].sum(1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(_compiled(lambda x, i: x[i].sum(0), x, i), x[i].sum(0), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("width", WIDTHS)
def test_rows_picked_by_picked_indices_are_numpys(rng, table, width):
    x, i, j = table(50, width), _picks(rng, 50, 30), _picks(rng, 30, 67)

    np.testing.assert_array_equal(_compiled(lambda x, i, j: x[i[j]] + 1, x, i, j), x[i[j]] + 1)


@pytest.mark.parametrize("width", WIDTHS)
def test_picked_rows_beside_others_are_numpys(rng, table, width):
    x, y, i = table(50, width), table(9, width), _picks(rng, 50, 21)

    rows = _compiled(lambda x, y, i: tjit.cat((y, x[i], y)) * 3, x, y, i)
    padded = _compiled(lambda x, y, i: tjit.nn.functional.pad(x[i], (2, 1, 1, 2)) + 1, x, y, i)

    np.testing.assert_array_equal(rows, np.concatenate((y, x[i], y)) * 3)
    np.testing.assert_array_equal(padded, np.pad(x[i], ((1, 2), (2, 1))) + 1)


@pytest.mark.parametrize("function", [lambda x, i: x[i] * 2, lambda x, i: tjit.cat((x, x[i])), lambda x, i: x[i].sum()])
@pytest.mark.parametrize("place", [0, 20])
def test_an_index_out_of_range_is_an_error(table, function, place):
    x, i = table(50, 40), np.arange(21)
    i[place] = 50

    with pytest.raises(IndexError):
        _compiled(function, x, i)


def test_the_index_of_a_row_is_checked_once(table):
    x, i = table(50, 1024), np.arange(21)

    text = tjit.compile(lambda x, i: x[i]).lower(tjit.tensor(x), tjit.tensor(i)).text("llvm")

    blocks = re.split(r"\n(?=\S+:\n)", text)
    copying = [b for b in blocks if re.search(r"load <\d+ x float>", b)]
    assert copying
    assert not any("store i32 1" in b for b in copying)
