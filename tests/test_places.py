"""Comparisons of places: a count of lanes, whatever the dtype of what they choose between."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tjit.codegen.llvm.target import TARGETS

QUESTIONS = {
    "le": (lambda i, j: j <= i, lambda i, j: i <= j),
    "lt": (lambda i, j: j < i, lambda i, j: i < j),
    "ge": (lambda i, j: j >= i, lambda i, j: j <= 3),
    "gt": (lambda i, j: j > i + 2, lambda i, j: 40 - j > i),
    "sums": (lambda i, j: j - i <= 5, lambda i, j: i + j >= 30),
    "steps": (lambda i, j: 2 * j <= i, lambda i, j: i - 3 * j > -20),
    "both": (lambda i, j: (j <= i) & (j > 4), lambda i, j: (j < i) | (i >= 31)),
}


def _chosen(question, arange, where):
    def choose(x):
        rows, columns = x.shape
        return where(question(arange(rows)[:, None], arange(columns)), x, x * 0)

    return choose


@pytest.mark.parametrize("name", QUESTIONS)
@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int16, np.float32, np.float64])
def test_choices_by_place_are_numpys(name, dtype, rng):
    for shape in ((7, 5), (33, 64), (65, 131)):
        x = rng.integers(0, 2 if dtype == np.bool_ else 100, shape).astype(dtype)
        for question in QUESTIONS[name]:
            got = tjit.compile(_chosen(question, tjit.arange, tjit.where), dynamic=False)(tjit.from_numpy(x))

            np.testing.assert_array_equal(got.numpy(), _chosen(question, np.arange, np.where)(x))


@pytest.mark.parametrize("name", ["int8", "uint8", "int16", "int32"])
def test_places_in_narrow_integers_wrap_as_they_do(name, rng):
    x = rng.standard_normal((3, 600), np.float32)
    dtype = getattr(tjit, name)

    got = tjit.compile(lambda x: tjit.where(tjit.arange(600).to(dtype) < 100, x, -x))(tjit.from_numpy(x))

    np.testing.assert_array_equal(got.numpy(), np.where(np.arange(600).astype(name) < 100, x, -x))


def test_places_that_are_numbers_too_are_both(rng):
    x = rng.standard_normal((9, 70))
    i, j = np.arange(9)[:, None], np.arange(70)

    def both(x):
        i, j = tjit.arange(9)[:, None], tjit.arange(70)
        return tjit.where(j - i <= 3, x * (j - i), x + j), (x * (j >= i)).sum(1), (j > i).sum(0)

    chosen, total, count = tjit.compile(both)(tjit.from_numpy(x))

    np.testing.assert_array_equal(chosen.numpy(), np.where(j - i <= 3, x * (j - i), x + j))
    np.testing.assert_allclose(total.numpy(), (x * (j >= i)).sum(1), rtol=1e-12)
    np.testing.assert_array_equal(count.numpy(), (j > i).sum(0))


@pytest.mark.parametrize("name", sorted(TARGETS))
def test_triangles_are_numpys_on_every_target(name, rng, compile_for):
    compile_for(name)
    for dtype in (np.uint8, np.float64):
        x = rng.integers(0, 100, (35, 77)).astype(dtype)

        lower, upper = tjit.compile(lambda x: (tjit.tril(x, -1), tjit.triu(x, 2)))(tjit.from_numpy(x))

        np.testing.assert_array_equal(lower.numpy(), np.tril(x, -1))
        np.testing.assert_array_equal(upper.numpy(), np.triu(x, 2))


def test_sizes_may_be_symbols(rng):
    fn = tjit.compile(lambda x: tjit.tril(x))

    for n in (5, 64, 1, 131):
        x = rng.integers(0, 100, (n, n + 3)).astype(np.uint8)

        np.testing.assert_array_equal(fn(tjit.from_numpy(x)).numpy(), np.tril(x))
