"""Results larger than the caches are written past them, where they are aligned."""

from __future__ import annotations

import re

import numpy as np
import pytest

import tjit

N = (1 << 22) + 5


def test_large_results_of_light_kernels_go_past_the_caches(rng):
    x = rng.standard_normal(N).astype(np.float32)
    double = tjit.compile(lambda x: x * 2 + 1)

    got, text = double(tjit.tensor(x)), str(double.lower(tjit.tensor(x)).schedule())

    assert "past the caches" in text
    np.testing.assert_array_equal(got.numpy(), x * 2 + 1)


@pytest.mark.parametrize("function", [lambda x: x[:1000] * 2, lambda x: tjit.exp(x), lambda x: x.add_(1)])
def test_small_heavy_and_updating_kernels_keep_to_the_caches(function):
    assert "past the caches" not in str(tjit.compile(function).lower(tjit.zeros(N)).schedule())


@pytest.mark.parametrize("offset", [0, 1, 16])
def test_memory_at_any_address_is_written(rng, offset):
    memory = np.zeros(N + 32, np.float32)
    x, y = rng.standard_normal(N).astype(np.float32), tjit.from_numpy(memory[offset : offset + N])

    tjit.compile(lambda y, x: y.copy_(x * 3 - 1))(y, tjit.tensor(x))

    np.testing.assert_array_equal(memory[offset : offset + N], x * 3 - 1)
    assert not memory[:offset].any()
    assert not memory[offset + N :].any()


def test_rows_that_start_between_lines_are_written_whole(rng):
    x, y = (rng.standard_normal(s).astype(np.float32) for s in ((2050, 1), (1, 2051)))

    got = tjit.compile(lambda x, y: x * y)(tjit.tensor(x), tjit.tensor(y))

    np.testing.assert_array_equal(got.numpy(), x * y)


def test_no_store_claims_more_than_a_line_of_alignment():
    text = tjit.compile(lambda x: x.long()).lower(tjit.zeros(N)).text("llvm")

    aligned = [int(n) for n in re.findall(r"align (\d+), !nontemporal", text)]
    assert aligned
    assert max(aligned) <= 64


@pytest.mark.parametrize("shape", [(2112, 2048), (2049, 2100)], ids=str)
def test_large_transposed_copies_are_written_whole(rng, shape):
    x = rng.standard_normal(shape).astype(np.float32)
    transpose = tjit.compile(lambda x: x.T.contiguous())

    got, text = transpose(tjit.tensor(x)), str(transpose.lower(tjit.tensor(x)).schedule())

    assert ("past the caches" in text) == (shape[0] % 16 == 0)
    np.testing.assert_array_equal(got.numpy(), x.T)


@pytest.mark.parametrize("offset", [0, 1])
def test_transposes_to_memory_at_any_address_are_written(rng, offset):
    memory = np.zeros((1 << 22) + 32, np.float32)
    x, y = rng.standard_normal((2048, 2048)).astype(np.float32), tjit.from_numpy(memory[offset : offset + (1 << 22)])

    tjit.compile(lambda y, x: y.copy_(x.T))(y.reshape(2048, 2048), tjit.tensor(x))

    np.testing.assert_array_equal(memory[offset : offset + (1 << 22)].reshape(2048, 2048), x.T)
    assert not memory[offset + (1 << 22) :].any()


ROWS = {
    "centred": (lambda x: x - x.mean(1, keepdim=True), lambda x: x - x.mean(1, keepdims=True)),
    "summed": (lambda x: x.cumsum(1), lambda x: x.cumsum(1)),
    "summed from the end": (lambda x: x.flip(1).cumsum(1).flip(1), lambda x: x[:, ::-1].cumsum(1)[:, ::-1]),
}


@pytest.mark.parametrize(("function", "reference"), ROWS.values(), ids=ROWS)
@pytest.mark.parametrize("offset", [0, 1])
def test_rows_that_fill_the_caches_with_what_they_read_go_past_them(function, reference, offset, rng):
    shape, size = (4800, 784), 4800 * 784
    x, memory = rng.standard_normal(shape).astype(np.float32), np.zeros(size + 32, np.float32)
    y = tjit.from_numpy(memory[offset : offset + size]).reshape(*shape)
    write = tjit.compile(lambda y, x: y.copy_(function(x)), dynamic=False)

    write(y, tjit.tensor(x))

    assert "past the caches" in str(write.lower(y, tjit.tensor(x)).schedule())
    np.testing.assert_allclose(y.numpy(), reference(x.astype(np.float64)), rtol=1e-4, atol=1e-4)
    assert not memory[:offset].any()
    assert not memory[offset + size :].any()


@pytest.mark.parametrize("columns", [400, 780])
def test_rows_between_lines_and_smaller_ones_keep_to_the_caches(columns):
    x = tjit.zeros(4800, columns)

    assert "past the caches" not in str(tjit.compile(lambda x: x - x.mean(1, keepdim=True)).lower(x).schedule())


def test_rows_that_a_later_kernel_reads_keep_to_the_caches():
    @tjit.compile(dynamic=False)
    def sums(x):
        return (x - x.mean(1, keepdim=True)).cumsum(1).sum(0)

    assert "past the caches" not in str(sums.lower(tjit.zeros(4800, 784)).schedule())
