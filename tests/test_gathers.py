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


def _picked(table: np.ndarray, index: np.ndarray) -> tuple[np.ndarray, str]:
    fn = tjit.compile(lambda t, i: t[i], dynamic=False)
    arguments = tjit.from_numpy(table), tjit.from_numpy(index)
    return fn(*arguments).numpy(), fn.lower(*arguments).text("llvm")


@pytest.mark.parametrize("width", [16, 17, 100, 256, 1000])
@pytest.mark.parametrize("count", [1, 256, 777])
def test_rows_of_large_tables_are_asked_for_ahead(width, count, rng):
    table = rng.standard_normal((200_000 // width + 3000, width)).astype(np.float32)
    index = rng.integers(-len(table), len(table), count)

    found, text = _picked(table, index)

    assert np.array_equal(found, table[index])
    assert ("llvm.prefetch" in text) == (count > 1)


@pytest.mark.parametrize(("rows", "width"), [(100, 256), (50_000, 3), (300, 2000)], ids=["cached", "narrow", "long"])
def test_other_rows_are_not_asked_for(rows, width, rng):
    table = rng.standard_normal((rows, width)).astype(np.float32)

    _, text = _picked(table, rng.integers(0, rows, 500))

    assert "llvm.prefetch" not in text


def test_an_index_outside_of_rows_asked_for_ahead_is_reported(rng):
    table, index = rng.standard_normal((5000, 64)).astype(np.float32), np.zeros(3000, np.int64)
    index[-1] = 1 << 60

    with pytest.raises(IndexError):
        _picked(table, index)


@pytest.mark.parametrize("shape", [(1,), (1, 1), (5, 3)])
def test_picks_of_a_sum_wait_for_it(rng, shape):
    def f(x, i):
        total = x.sum(tuple(range(x.ndim)), keepdim=True)
        return total, total[i].sum() + (total * total).sum()

    x, i = rng.standard_normal(shape), np.zeros(4, np.int64)
    total, picked = tjit.compile(f)(tjit.tensor(x), tjit.tensor(i))

    np.testing.assert_allclose(total.numpy(), x.sum(keepdims=True))
    np.testing.assert_allclose(picked.numpy(), 4 * x.sum() + x.sum() ** 2)


def _steps(function, *arrays):
    lowered = tjit.compile(function, dynamic=False).lower(*map(tjit.tensor, arrays))
    return lowered.schedule().steps


def test_elements_of_rows_are_picked_out_of_the_matrix_itself(rng, table):
    x, i = table(50, 30), _picks(rng, 30, 50)

    def pick(x, i, place=np.arange):
        return x[place(50), i] * 2

    def on_tensors(x, i):
        return pick(x, i, tjit.arange)

    assert len(_steps(on_tensors, x, i)) == 1
    np.testing.assert_array_equal(_compiled(on_tensors, x, i), pick(x, i))
    np.testing.assert_array_equal(_compiled(on_tensors, x.T.copy().T, i), pick(x, i))
    np.testing.assert_array_equal(_compiled(lambda x, i: on_tensors(x.T + 1, i), x.T.copy(), i), pick(x + 1, i))


def test_what_is_stored_reshaped_is_stored_once(rng, table):
    x, i = table(20, 30), rng.integers(0, 600, 77)

    def flat(x, i):
        y = (x + 1).reshape(-1)
        return y, y[i]

    assert sum(len(step.kernel.outputs) for step in _steps(flat, x, i)) == 2
    np.testing.assert_array_equal(tjit.compile(flat)(tjit.tensor(x), tjit.tensor(i))[1].numpy(), (x + 1).reshape(-1)[i])


def test_a_reshaped_matrix_that_changes_is_picked_from_as_it_was(rng, table):
    x, i = table(20, 30), rng.integers(0, 600, 77)

    def step(x, i):
        picked = x.reshape(-1)[i] * 2
        x += 1
        return picked, x.reshape(-1)[i]

    before, after = tjit.compile(step)(tjit.tensor(x), tjit.tensor(i))

    np.testing.assert_array_equal(before.numpy(), x.reshape(-1)[i] * 2)
    np.testing.assert_array_equal(after.numpy(), x.reshape(-1)[i] + 1)


@pytest.mark.parametrize("width", [8, 40, 257])
def test_sums_of_picked_rows_run_along_the_rows(rng, table, width):
    x, i = table(50, width), _picks(rng, 50, 300, 7)

    (step,) = _steps(lambda x, i: x[i].sum(1), x, i)

    assert step.kernel.vector is step.kernel.parallel[-1]
    np.testing.assert_allclose(_compiled(lambda x, i: x[i].sum(1), x, i), x[i].sum(1), rtol=1e-4, atol=1e-4)


def test_an_index_out_of_range_is_reported_at_the_line_that_picks():
    def scaled(table, i):
        rows = table[i]
        return rows * 2 + 1

    with pytest.raises(IndexError, match="rows = table"):
        tjit.compile(scaled)(tjit.ones(4, 3), tjit.tensor([1, 4]))


def test_lines_whose_indices_one_kernel_checks_are_all_named():
    def added(x, y, i):
        a = x[i]
        b = y[i + 1]
        return a + b

    with pytest.raises(
        IndexError, match=r"one kernel checks the indices of this line and of test_gathers\.py:\d+"
    ) as error:
        tjit.compile(added)(tjit.ones(4, 3), tjit.ones(4, 3), tjit.tensor([1, 3]))

    assert "a = x[i]" in str(error.value)


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.float16, np.int32, np.float32, np.float64])
@pytest.mark.parametrize("dim", [0, 1])
def test_elements_picked_from_afar_are_numpys(rng, dim, dtype):
    x = rng.integers(0, 200, (1201, 501)).astype(dtype)
    i = rng.integers(0, x.shape[dim], (301, 501) if dim == 0 else (1201, 103))
    flat = rng.integers(-x.size, x.size, 1003)
    fn = tjit.compile(lambda x, i, j: (tjit.gather(x, dim, i), x.reshape(-1)[j], x[i % 7, i % 5] if dim else x[i]))

    found = fn(*map(tjit.from_numpy, (x, i, flat)))

    expected = np.take_along_axis(x, i, dim), x.ravel()[flat], x[i % 7, i % 5] if dim else x[i]
    for got, wanted in zip(found, expected, strict=True):
        np.testing.assert_array_equal(got.numpy(), wanted)


@pytest.mark.parametrize("place", [0, 1, 2, 3, 4, 1000, 1002])
@pytest.mark.parametrize("wrong", [-1, 300_000])
def test_an_index_out_of_range_among_those_from_afar_is_reported(rng, place, wrong):
    x, i = tjit.from_numpy(rng.standard_normal((300_000, 1), np.float32)), np.zeros((1003, 1), np.int64)
    fn = tjit.compile(lambda x, i: tjit.gather(x, 0, i))
    fn(x, tjit.from_numpy(i))
    i[place] = wrong

    with pytest.raises(IndexError, match="index out of range"):
        fn(x, tjit.from_numpy(i))
