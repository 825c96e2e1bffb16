"""Small tables that each lane picks an entry of: permutations of registers, by indices as narrow as they came."""

from __future__ import annotations

import ml_dtypes
import numpy as np
import pytest

import tjit
from tjit.codegen.llvm.target import host_target

ENTRIES = (1, 2, 5, 16, 17, 33, 64, 100, 128, 129, 256, 300)
DTYPES = (np.uint8, np.int8, np.int16, np.int32, np.int64, np.float16, np.float32, np.float64, ml_dtypes.bfloat16)
INDICES = (np.uint8, np.int8, np.int16, np.int32, np.int64)
permutes = pytest.mark.skipif(host_target().vector_bytes != 64, reason="registers of 64 bytes are permuted")


def _picks(rng, entries, dtype, count):
    """Indices from both ends, as far as the dtype reaches."""
    limits = np.iinfo(dtype)
    low, high = max(-entries, limits.min), min(entries - 1, limits.max)
    return rng.integers(low, high + 1, count).astype(dtype)


def _lookup(t, i):
    return t[i.long()]


def _compiled(function, *arrays):
    return tjit.compile(function, dynamic=False)(*map(tjit.tensor, arrays)).numpy()


@pytest.mark.parametrize("dtype", DTYPES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("index", INDICES, ids=lambda d: np.dtype(d).name)
def test_entries_are_numpys_whatever_the_dtypes(rng, dtype, index):
    table, i = (rng.standard_normal(100) * 50).astype(dtype), _picks(rng, 100, index, 333)

    np.testing.assert_array_equal(_compiled(_lookup, table, i), table[i.astype(np.int64)])


@pytest.mark.parametrize("entries", ENTRIES)
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float32, np.float64], ids=lambda d: np.dtype(d).name)
def test_entries_of_tables_of_any_size_are_numpys(rng, entries, dtype):
    table, i = (rng.standard_normal(entries) * 50).astype(dtype), _picks(rng, entries, np.int32, 200)

    np.testing.assert_array_equal(_compiled(_lookup, table, i), table[i])


@pytest.mark.parametrize("count", [1, 3, 16, 65, 5000])
def test_entries_are_computed_with_where_they_are_picked(rng, count):
    low, high = rng.standard_normal(16).astype(np.float32), rng.standard_normal(40).astype(np.float32)
    packed, x = rng.integers(0, 256, count).astype(np.uint8), rng.standard_normal(count).astype(np.float32)

    def unpack(low, high, packed, x):
        return low[(packed & 15).long()] * x + high[(packed >> 4).long()]

    want = low[packed & 15] * x + high[packed >> 4]
    np.testing.assert_allclose(_compiled(unpack, low, high, packed, x), want, rtol=1e-6, atol=1e-6)
    total = _compiled(lambda *a: unpack(*a).sum(), low, high, packed, x)
    np.testing.assert_allclose(total, want.sum(dtype=np.float64), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("dtype", INDICES, ids=lambda d: np.dtype(d).name)
@pytest.mark.parametrize("wrong", [50, 127, -51, -128])
def test_an_index_outside_of_a_table_is_an_error_in_each_dtype(rng, dtype, wrong):
    table, i = rng.standard_normal(50).astype(np.float32), np.zeros(40, dtype)
    i[-1] = wrong if wrong > 0 or dtype is not np.uint8 else 255

    with pytest.raises(IndexError):
        _compiled(_lookup, table, i)


def test_a_table_that_is_written_is_read_as_it_is(rng):
    table, i = tjit.tensor(rng.standard_normal(64).astype(np.float32)), rng.permutation(64)
    want = table.numpy()[i] + 1

    tjit.compile(lambda t, i: t.copy_(t[i] + 1))(table, tjit.tensor(i))

    np.testing.assert_array_equal(table.numpy(), want)


@permutes
@pytest.mark.parametrize(("entries", "permuted"), [(16, True), (256, True), (257, False)])
def test_tables_of_a_few_registers_are_permuted(rng, entries, permuted):
    table, i = tjit.zeros(entries), tjit.zeros(1000, dtype=tjit.int32)

    text = tjit.compile(_lookup, dynamic=False).lower(table, i).text("llvm")

    assert ("llvm.x86.avx512.vperm" in text or "permvar" in text) == permuted
