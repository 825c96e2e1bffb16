"""Scans: the kernel's ways through rows, columns and blocks agree with NumPy, whatever is fused with them."""

from __future__ import annotations

import numpy as np
import pytest
from on_threads import assert_same_bits
from tolerances import assert_close, assert_same

import tjit

SHAPES = [(0,), (1,), (7,), (16,), (300_001,), (3, 0), (5, 129), (2, 100_003), (70_000, 3), (2500, 40), (3, 65, 17)]
LINES = [(shape, dim) for shape in SHAPES for dim in range(len(shape))]


def _schedule(fn, *args) -> str:
    return fn.lower(*args).text("schedule")


@pytest.mark.parametrize(("shape", "dim"), LINES, ids=str)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "bool"])
def test_cumulative_sum_agrees_with_numpy(shape, dim, dtype, rng):
    x = np.abs(rng.standard_normal(shape) * 3).astype(dtype)  # sums near 0 would be mostly rounding

    y = tjit.compile(lambda x: tjit.cumsum(x, dim))(x)

    wide = np.float64 if dtype.startswith("float") else np.int64
    expected = np.cumsum(x, axis=dim, dtype=wide)
    assert_close(y, expected.astype(dtype) if dtype.startswith("float") else expected, factor=8)


@pytest.mark.parametrize(("shape", "dim"), LINES, ids=str)
def test_running_extremes_agree_with_eager(shape, dim, rng):
    x = np.floor(rng.standard_normal(shape) * 3).astype(np.float32)
    x[rng.random(shape) < 0.02] = np.nan

    found = tjit.compile(lambda x: (*tjit.cummax(x, dim), *tjit.cummin(x, dim)))(x)

    for actual, expected in zip(
        found, (*tjit.cummax(tjit.tensor(x), dim), *tjit.cummin(tjit.tensor(x), dim)), strict=True
    ):
        assert_same(actual, expected.array)


@pytest.mark.parametrize("dim", [0, 1])
def test_logarithms_of_sums_keep_small_terms(dim, rng):
    x = (rng.standard_normal((300, 50)) * 100).astype(np.float32)
    x[:2, :2] = -np.inf

    y = tjit.compile(lambda x: tjit.logcumsumexp(x, dim))(x)

    assert_close(y, np.logaddexp.accumulate(x.astype(np.float64), axis=dim).astype(np.float32))


def test_what_leads_to_a_scan_and_what_follows_share_its_kernel(rng):
    x = rng.standard_normal((40, 70)).astype(np.float32)
    fn = tjit.compile(lambda x: tjit.cumsum(tjit.softmax(x * 2, 1), 1).clamp(max=0.5) + x)

    y = fn(x)

    assert _schedule(fn, x).count("parallel (") == 1
    e = np.exp(2 * x - (2 * x).max(1, keepdims=True))
    assert_close(y, np.minimum(np.cumsum(e / e.sum(1, keepdims=True), 1), np.float32(0.5)) + x)


def test_scans_of_both_directions_share_a_kernel(rng):
    x = rng.standard_normal((40, 70)).astype(np.float32)

    def both(x):
        forward = tjit.cumsum(x, 1)
        return forward + tjit.flip(tjit.cumsum(tjit.flip(x, 1), 1), 1) * forward, forward.sum(1)

    y, total = tjit.compile(both)(x)

    forward = np.cumsum(x, 1)
    assert_close(y, forward + np.cumsum(x[:, ::-1], 1)[:, ::-1] * forward, factor=8)
    assert_close(total, forward.sum(1), factor=8)


@pytest.mark.parametrize("dim", [0, 1])
def test_gradient_is_the_scan_backwards(dim, rng):
    x = tjit.tensor(rng.standard_normal((33, 70)).astype(np.float32), requires_grad=True)
    w = rng.standard_normal((33, 70)).astype(np.float32)

    @tjit.compile
    def slope(x, w):
        return tjit.autograd.grad((tjit.cumsum(x, dim) * w).sum(), x)[0]

    assert "backwards" in _schedule(slope, x, w)
    assert_close(slope(x, w), np.flip(np.cumsum(np.flip(w, dim), dim), dim), factor=8)


def test_products_past_zeros_have_exact_gradients():
    x = tjit.tensor([2.0, 0.0, 3.0, 0.0, 4.0], requires_grad=True)

    tjit.cumprod(x, 0).sum().backward()

    # 2 + 2*0*3..., the products after the first zero without it, and nothing after the second
    assert x.grad.tolist() == [1.0, 8.0, 0.0, 0.0, 0.0]


def test_sizes_that_change_need_no_second_compilation(rng):
    fn = tjit.compile(lambda x: tjit.cumsum(x, 1), dynamic=True)

    for rows, columns in ((1, 1), (3, 16), (2, 1000), (65, 3), (0, 4), (4, 0)):
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        assert_close(fn(x), np.cumsum(x, 1, dtype=np.float64).astype(np.float32), factor=8)


def test_bits_do_not_depend_on_threads(rng):
    x = rng.standard_normal(1_000_000).astype(np.float32)
    fn = tjit.compile(lambda x: (tjit.cumsum(x, 0), tjit.cumsum(x.reshape(-1, 10), 0)))

    assert_same_bits(fn, x)


def test_rows_are_written_over_in_place(rng):
    array = np.abs(rng.standard_normal((3, 100))).astype(np.float32)
    expected = np.cumsum(array, 1, dtype=np.float64).astype(np.float32)
    x = tjit.tensor(array)

    tjit.compile(lambda x: x.cumsum_(1))(x)

    assert_close(x.array, expected)
