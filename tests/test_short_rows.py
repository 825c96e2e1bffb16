"""Rows shorter than a vector: lanes run on from the end of one into the next."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import tjit
from tjit.codegen.llvm.module import print_assembly
from tjit.codegen.llvm.target import TARGETS

SHAPES = ((0, 3), (3, 0), (1, 3), (5, 3), (16, 3), (1000, 3), (67, 5), (33, 7), (40, 16), (21, 17), (9, 63))
DTYPES = (np.float64, np.float16, np.uint8, np.int16, np.int64, np.bool_)


def _array(rng, shape, dtype=np.float32):
    return (rng.standard_normal(shape) * 9).astype(dtype)


def _compiled(function, *arrays):
    return tjit.compile(function)(*map(tjit.tensor, arrays)).numpy()


def _schedule(function, *arrays):
    return tjit.compile(function).lower(*map(tjit.tensor, arrays)).text("schedule")


@pytest.mark.parametrize("shape", SHAPES, ids=str)
def test_rows_and_columns_are_broadcast_as_by_numpy(rng, shape):
    x, row, column = _array(rng, shape), _array(rng, shape[1:]), _array(rng, (shape[0], 1))

    np.testing.assert_array_equal(_compiled(lambda x, y: x * y, x, row), x * row)
    np.testing.assert_array_equal(_compiled(lambda x, y: x * y, x, column), x * column)
    np.testing.assert_array_equal(_compiled(lambda x, y: x * y, column, row), column * row)


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda t: t.__name__)
def test_short_rows_of_any_dtype_are_numpys(rng, dtype):
    x, column = _array(rng, (131, 5), dtype), _array(rng, (131, 1), dtype)

    np.testing.assert_array_equal(_compiled(lambda x, y: x == y, x, column), x == column)
    np.testing.assert_array_equal(_compiled(lambda x, y: tjit.where(y != 0, x, y), x, column), np.where(column, x, 0))


@pytest.mark.parametrize("shape", [(3, 20, 7), (2, 5, 3), (1, 1, 40), (4, 21, 1)], ids=str)
def test_short_rows_of_several_axes_are_numpys(rng, shape):
    n, k, m = shape
    x, y, z = _array(rng, (n, k, 1)), _array(rng, (n, 1, m)), _array(rng, (k, m))

    np.testing.assert_array_equal(_compiled(lambda x, y, z: x * y + z, x, y, z), x * y + z)


@pytest.mark.parametrize("shape", [(6, 7, 5), (3, 50, 3), (2, 3, 40), (17, 2, 2)], ids=str)
def test_permutations_to_short_rows_are_numpys(rng, shape):
    x = _array(rng, shape)

    for dims in itertools.permutations(range(3)):
        np.testing.assert_array_equal(_compiled(lambda x, d=dims: x.permute(d) * 2, x), x.transpose(dims) * 2)


@pytest.mark.parametrize("n", [1, 16, 37, 1000])
def test_interleaved_arrays_are_numpys(rng, n):
    x, y, z = (_array(rng, n) for _ in range(3))
    a, b = _array(rng, (n, 3)), _array(rng, (n, 4))

    np.testing.assert_array_equal(_compiled(lambda *x: tjit.stack(x, -1), x, y, z), np.stack((x, y, z), -1))
    np.testing.assert_array_equal(_compiled(lambda *x: tjit.cat(x, 1) + 1, a, b), np.concatenate((a, b), 1) + 1)
    np.testing.assert_array_equal(
        _compiled(lambda x: tjit.nn.functional.pad(x, (1, 2), value=5.0) * 2, a),
        np.pad(a, ((0, 0), (1, 2)), constant_values=5) * 2,
    )


@pytest.mark.parametrize("shape", [(4, 6), (7, 30), (3, 100)], ids=str)
def test_repeated_elements_are_numpys(rng, shape):
    x = _array(rng, shape)

    np.testing.assert_array_equal(_compiled(lambda x: x.repeat(3, 2) + 1, x), np.tile(x, (3, 2)) + 1)
    np.testing.assert_array_equal(_compiled(lambda x: x.repeat_interleave(3, 1), x), np.repeat(x, 3, 1))
    np.testing.assert_array_equal(_compiled(lambda x: x.repeat_interleave(2, 0), x), np.repeat(x, 2, 0))


@pytest.mark.parametrize("n", [1, 20, 333])
def test_short_rows_that_an_index_picks_are_numpys(rng, n):
    x, i = _array(rng, (50, 3)), rng.integers(0, 50, n)

    np.testing.assert_array_equal(_compiled(lambda x, i: x[i] * 2, x, i), x[i] * 2)


def test_nothing_is_written_beyond_the_last_row(rng):
    memory, x, column = np.zeros(37 * 3 + 64, np.float32), _array(rng, (37, 3)), _array(rng, (37, 1))

    tjit.compile(lambda out, x, y: out.copy_(x * y))(
        tjit.from_numpy(memory[:111].reshape(37, 3)), tjit.tensor(x), tjit.tensor(column)
    )

    np.testing.assert_array_equal(memory[:111].reshape(37, 3), x * column)
    assert not memory[111:].any()


def test_rows_of_any_number_are_numpys(rng):
    scaled = tjit.compile(lambda x, y: x * y, dynamic=True)

    for n in (5, 16, 33, 4099):
        x, column = _array(rng, (n, 3)), _array(rng, (n, 1))
        np.testing.assert_array_equal(scaled(tjit.tensor(x), tjit.tensor(column)).numpy(), x * column)


@pytest.mark.parametrize(("dtype", "columns", "runs_on"), [("f4", 12, True), ("f4", 14, False), ("f8", 14, True)])
def test_rows_that_fill_most_of_a_vector_take_one_under_a_mask(rng, dtype, columns, runs_on):
    x = _array(rng, (50, columns + 3), dtype)

    def together(x):
        return x[:, 1:-2] * x[:, :-3]

    assert ("on over (p0)" in _schedule(together, x)) == runs_on
    np.testing.assert_array_equal(_compiled(together, x), x[:, 1:-2] * x[:, :-3])


def test_lanes_run_on_over_short_rows_alone(rng):
    for width, short in ((3, True), (40, True), (500, False)):
        text = _schedule(lambda x, y: x * y, _array(rng, (70, width)), _array(rng, (70, 1)))

        assert ("on over (p0)" in text) == short


def test_short_rows_compile_for_every_target(rng):
    plan = (
        tjit.compile(lambda x, y: tjit.cat((x * y, y), 1))
        .lower(tjit.tensor(_array(rng, (70, 3))), tjit.tensor(_array(rng, (70, 1))))
        .schedule()
    )

    for target in TARGETS.values():
        assert print_assembly(plan, target)


@pytest.mark.parametrize("shape", [(5, 0, 3), (5, 3, 0), (0, 5, 3)], ids=str)
def test_no_rows_at_all(rng, shape):
    x = _array(rng, shape)

    assert _compiled(lambda x: x.permute(2, 0, 1).contiguous() * 2, x).shape == (shape[2], *shape[:2])


@pytest.mark.parametrize("columns", [5, 6, 7, 13, 15, 16])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_rows_that_nearly_fill_a_vector_and_are_repeated_are_numpys(columns, dtype, rng):
    x = rng.integers(0, 100, (33, columns)).astype(dtype)

    got = tjit.compile(lambda x: x.repeat(2, 3), dynamic=False)(tjit.from_numpy(x))

    np.testing.assert_array_equal(got.numpy(), np.tile(x, (2, 3)))


def test_digits_of_rows_that_fill_a_vector_are_axes():
    text = str(tjit.compile(lambda x: x.repeat(2, 2), dynamic=False).lower(tjit.zeros(50, 7).double()).schedule())

    assert "%" not in text
