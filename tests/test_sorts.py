"""Sorts: the kernel's ways to sort a row agree with NumPy's stable sort, places and signs of zeros included."""

from __future__ import annotations

import numpy as np
import pytest
from on_threads import assert_same_bits
from tolerances import assert_same

import tjit
from tjit.codegen.llvm.sort_network import merge_exchange
from tjit.codegen.llvm.target import TARGETS
from tjit.ops.sort import SORT, in_order

SHAPES = [
    ((0,), 0),
    ((1,), 0),
    ((5,), 0),
    ((24,), 0),
    ((25,), 0),
    ((3, 1000), 1),
    ((300, 3), 0),
    ((2, 37, 3), 1),
    ((9, 5), 1),
    ((21, 300), 1),
    ((33, 65), 0),
    ((3, 5, 17), 2),
    ((5, 1025), 1),
    ((70_001,), 0),
]
DTYPES = ("float32", "float64", "float16", "int8", "int32", "int64", "uint8", "bool")


def _array(shape, dtype, rng) -> np.ndarray:
    x = np.floor(rng.standard_normal(shape) * 9)
    if dtype.startswith("float"):
        x[rng.random(shape) < 0.05] = np.nan
        x[rng.random(shape) < 0.1] = -0.0
        x[rng.random(shape) < 0.02] = -np.inf
    with np.errstate(invalid="ignore"):
        return x.astype(dtype)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("shape", "dim"), SHAPES, ids=str)
@pytest.mark.parametrize("descending", [False, True])
def test_values_and_places_are_those_of_a_stable_sort(shape, dim, dtype, descending, rng):
    x = _array(shape, dtype, rng)

    found = tjit.compile(lambda x: in_order(x, dim, descending=descending))(x)

    expected = SORT.reference(x, dim=dim, descending=descending, count=shape[dim])
    for actual, wanted in zip(found, expected, strict=True):
        assert_same(actual, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [0, 1, 7, 100])
@pytest.mark.parametrize("order", ["random", "rising", "falling", "equal"])
def test_the_first_few_are_those_of_the_whole_order(count, order, dtype, rng):
    x = _array((3, 5003), dtype, rng)
    if order != "random":
        x = np.sort(x, 1) if order == "rising" else np.sort(x, 1)[:, ::-1].copy()
        x[:] = x[0, 0] if order == "equal" else x

    found = tjit.compile(lambda x: (*tjit.topk(x, count), *tjit.topk(x, count, largest=False)))(x)

    expected = [SORT.reference(x, dim=1, descending=d, count=count) for d in (True, False)]
    for actual, wanted in zip(found, (*expected[0], *expected[1]), strict=True):
        assert_same(actual, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("count", [1, 3, 4, 8, 9])
def test_the_first_few_of_short_rows_are_those_of_the_whole_order(count, dtype, rng):
    for shape in ((19, 33), (8, 100), (17, 9), (5, 700)):
        x = _array(shape, dtype, rng)

        found = tjit.compile(lambda x: (*tjit.topk(x, count), *tjit.topk(x, count, largest=False)))(x)

        expected = [SORT.reference(x, dim=1, descending=d, count=count) for d in (True, False)]
        for actual, wanted in zip(found, (*expected[0], *expected[1]), strict=True):
            assert_same(actual, wanted)


@pytest.mark.parametrize("dtype", DTYPES)
def test_short_rows_of_values_alone_are_sorted(dtype, rng):
    for shape in ((40, 3), (17, 50), (9, 128)):
        x = _array(shape, dtype, rng)

        found = tjit.compile(lambda x: tjit.sort(x, 1)[0])(x)

        np.testing.assert_array_equal(found, SORT.reference(x, 1, False, shape[1])[0])


def _sorted_by(pairs, elements):
    elements = list(elements)
    for i, j in pairs:
        elements[i], elements[j] = sorted((elements[i], elements[j]))
    return elements


@pytest.mark.parametrize("n", range(17))
def test_the_network_of_a_block_sorts_every_order_of_two_values(n):
    """Which is to say every order (Knuth, volume 3, theorem 5.3.4 Z)."""
    for ones in range(1 << min(n, 12)):
        bits = [ones >> i & 1 for i in range(n)]

        assert _sorted_by(merge_exchange(n), bits) == sorted(bits)


# runs of whole blocks and parts of them, where the last run to be merged ends in each quarter of a pair of runs
@pytest.mark.parametrize("n", [15, 17, 47, 64, 97, 113, 225, 300])
@pytest.mark.parametrize("target", sorted(TARGETS))
def test_rows_are_merged_from_blocks_of_every_target(n, target, rng, compile_for):
    compile_for(target)
    x = _array((9, n), "float32", rng)

    values, *ordered = tjit.compile(lambda x: (tjit.sort(x, 1)[0], *in_order(x, 1)))(tjit.tensor(x))

    assert_same(ordered[1].numpy(), np.argsort(x, 1, kind="stable"))
    assert_same(ordered[0].numpy(), np.take_along_axis(x, np.argsort(x, 1, kind="stable"), 1))
    np.testing.assert_array_equal(values.numpy(), np.sort(x, 1))


def test_values_alone_have_no_places_in_scratch(rng):
    x = rng.standard_normal((4, 1000)).astype(np.float32)
    fn = tjit.compile(lambda x: tjit.msort(x.T).T)

    assert_same(fn(x), np.sort(x, 1))
    assert "= place" not in fn.lower(x).text("schedule")


def test_what_leads_to_a_sort_is_computed_by_its_kernel(rng):
    x = rng.standard_normal((4, 1000)).astype(np.float32)
    fn = tjit.compile(lambda x: tjit.argsort(-x * 2, 1))

    assert_same(fn(x), np.argsort(-x * 2, 1, kind="stable"))
    assert fn.lower(x).text("schedule").count("parallel (") == 1


def test_sizes_that_change_need_no_second_compilation(rng):
    fn = tjit.compile(lambda x: (*tjit.sort(x, 1), *tjit.topk(x, 2)), dynamic=True)

    for rows, columns in ((1, 2), (3, 16), (2, 1000), (65, 3), (0, 4)):
        x = rng.standard_normal((rows, columns)).astype(np.float32)
        expected = (*SORT.reference(x, 1, False, columns), *SORT.reference(x, 1, True, 2))
        for actual, wanted in zip(fn(x), expected, strict=True):
            assert_same(actual, wanted)


def test_a_tensor_may_be_written_over_by_its_own_order():
    x = tjit.tensor([0.0, -0.0, 3.0, -1.0, 0.0])

    @tjit.compile
    def put(x):
        x[:], places = tjit.sort(x)
        return places

    places = put(x)

    assert places.tolist() == [3, 0, 1, 4, 2]
    assert_same(x.array, np.array([-1.0, 0.0, -0.0, 0.0, 3.0], np.float32))


def test_rows_are_shared_among_threads(rng):
    for shape in ((50, 3000), (700, 30)):
        x = rng.standard_normal(shape).astype(np.float32)

        assert_same_bits(tjit.compile(lambda x: (*tjit.sort(x), *tjit.topk(x, 20))), x)
