"""Kernels whose accesses run along different dims: tiles are transposed, and lanes close together picked out."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest

import tjit
from tjit.codegen.llvm.module import print_assembly
from tjit.codegen.llvm.target import TARGETS, host_target

HOST = host_target()
SIZES = ((200, 300), (67, 131), (1, 5), (64, 64), (257, 129))
DTYPES = (np.float32, np.float64, np.float16, np.uint8, np.int16, np.int64)


def _array(rng, shape, dtype=np.float32):
    return (rng.standard_normal(shape) * 9).astype(dtype)


def _compiled(function, *arrays):
    return tjit.compile(function)(*map(tjit.tensor, arrays)).numpy()


@pytest.mark.parametrize(("size", "dtype"), [*((s, np.float32) for s in SIZES), *(((67, 131), d) for d in DTYPES[1:])])
def test_a_transposed_operand_is_read_as_numpy_reads_it(rng, size, dtype):
    x, y = _array(rng, size, dtype), _array(rng, size[::-1], dtype)

    np.testing.assert_array_equal(_compiled(lambda x, y: x.T + y, x, y), x.T + y)
    np.testing.assert_array_equal(_compiled(lambda x: x.T.contiguous(), x), x.T)


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_several_transposed_operands_leave_through_one_transposed_store(rng, size):
    x, y = _array(rng, size), _array(rng, size)

    np.testing.assert_array_equal(_compiled(lambda x, y: (x + y).T.contiguous(), x, y), (x + y).T)
    np.testing.assert_array_equal(_compiled(lambda x, y: (x.T * y.T, x + y)[0], x, y), (x * y).T)


@pytest.mark.parametrize(("shape", "every"), [((17, 33, 65), 1), ((3, 17, 5, 33), 5), ((2, 3, 4, 5, 6), 23)], ids=str)
def test_permutations_are_numpys(rng, shape, every):
    x = _array(rng, shape)

    for dims in list(itertools.permutations(range(len(shape))))[1::every]:
        got = _compiled(lambda x, dims=dims: x.permute(dims) * 2, x)
        np.testing.assert_array_equal(got, x.transpose(dims) * 2)


@pytest.mark.parametrize(
    ("n", "dtype"), [*((n, np.float32) for n in (1, 7, 16, 1001)), *((101, d) for d in DTYPES[1:])]
)
def test_lanes_a_few_elements_apart_are_picked_out(rng, n, dtype):
    x = _array(rng, 4 * n + 3, dtype)
    table = x[: 4 * n].reshape(n, 4)

    for start, step in ((1, 2), (0, 3), (3, 4)):
        got = _compiled(lambda x, start=start, step=step: x[start::step] + 1, x)
        np.testing.assert_array_equal(got, x[start::step] + np.array(1, dtype))
    np.testing.assert_array_equal(_compiled(lambda x: tjit.flip(x, (0,)) + x, x), x[::-1] + x)
    np.testing.assert_array_equal(_compiled(lambda t: t[:, 0] + t[:, 3], table), table[:, 0] + table[:, 3])


def test_guarded_transposed_loads_touch_no_memory_outside(rng):
    x, y = _array(rng, (67, 129)), _array(rng, (129, 67))

    np.testing.assert_array_equal(_compiled(lambda x, y: tjit.cat([x.T, y], 1), x, y), np.concatenate([x.T, y], 1))
    padded = _compiled(lambda x: tjit.nn.functional.pad(x.T, (3, 2, 1, 4)) + 1, x)
    np.testing.assert_array_equal(padded, np.pad(x.T, ((1, 4), (3, 2))) + 1)


def test_sizes_known_only_at_the_call(rng):
    function = tjit.compile(lambda x, y: x.T * 2 + y, dynamic=True)

    for n, m in ((5, 9), (130, 67), (64, 128), (1, 300)):
        x, y = _array(rng, (n, m)), _array(rng, (m, n))
        np.testing.assert_array_equal(function(tjit.tensor(x), tjit.tensor(y)).numpy(), x.T * 2 + y)


def test_an_update_in_place_reads_a_transposed_operand(rng):
    x, y = _array(rng, (70, 133)), _array(rng, (133, 70))
    written = tjit.tensor(y.copy())

    tjit.compile(lambda y, x: y.add_(x.T))(written, tjit.tensor(x))

    np.testing.assert_array_equal(written.numpy(), y + x.T)


def test_the_schedule_says_across_which_axis_tiles_lie():
    x = tjit.zeros(200, 300)

    text = str(tjit.compile(lambda x: x.T + 1).lower(x).schedule())

    assert "vector p0 across p1" in text or "vector p1 across p0" in text


@pytest.mark.parametrize("target", TARGETS.values(), ids=str)
def test_transposed_tiles_are_generated_for_every_target(target):
    plan = tjit.compile(lambda x: x.T * 2).lower(tjit.zeros(67, 129)).schedule()

    assert print_assembly(plan, target)


def _has_scratch(function, *arrays) -> bool:
    text = tjit.compile(function, dynamic=False).lower(*map(tjit.tensor, arrays)).text("llvm")
    return re.search(r"alloca \[\d+ x i8\]", text) is not None


@pytest.mark.skipif(HOST.vector_bytes != 64, reason="tiles of whole lines are those of 64-byte vectors")
def test_one_transposed_operand_needs_no_scratch(rng):
    x, y, half = _array(rng, (67, 131)), _array(rng, (131, 67)), _array(rng, (67, 131)).astype(np.float16)

    assert not _has_scratch(lambda x: x.T.contiguous(), x)
    assert not _has_scratch(lambda x, y: x.T * 2 + y, x, y)
    assert _has_scratch(lambda x: x.T + x.T.flip(1), x)
    assert _has_scratch(lambda x: x.T.contiguous(), half)


@pytest.mark.parametrize("shape", [(16, 16), (17, 16), (16, 31), (1040, 17), (33, 2065), (3, 50, 40)], ids=str)
@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int32])
def test_tiles_at_the_edges_of_blocks_are_transposed(rng, shape, dtype):
    x = _array(rng, shape, dtype)

    got = _compiled(lambda x: x.transpose(-1, -2).contiguous(), x)

    np.testing.assert_array_equal(got, np.swapaxes(x, -1, -2))


def test_what_a_transposed_operand_updates_is_updated_once(rng):
    x, y = _array(rng, (67, 131)), _array(rng, (131, 67))
    updated = tjit.tensor(y)

    tjit.compile(lambda y, x: y.add_(x.T))(updated, tjit.tensor(x))

    np.testing.assert_array_equal(updated.numpy(), y + x.T)
