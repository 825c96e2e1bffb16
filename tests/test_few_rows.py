"""Products with few rows: what is read from memory once is read in its order."""

from __future__ import annotations

import numpy as np
import pytest
from tolerances import assert_same

import tjit
from tjit.codegen.steps import kernel_steps


@pytest.mark.parametrize("dtype", [tjit.float32, tjit.float64, tjit.bfloat16], ids=str)
@pytest.mark.parametrize("width", [64, 101])
@pytest.mark.parametrize("rows_of_a", [1, 3])
def test_rows_of_an_operand_past_the_caches_give_the_sums_of_those_within(dtype, width, rows_of_a, rng):
    rows = (17 << 20) // (width * dtype.itemsize)
    many = tjit.from_numpy(rng.standard_normal((rows, width), np.float32)).to(dtype)
    few = tjit.from_numpy(rng.standard_normal((rows_of_a, width), np.float32)).to(dtype)
    product = tjit.compile(lambda few, many: few @ many.T)

    whole = product(few, many)

    for start in (0, rows // 2, rows - 999):
        part = product(few, many[start : start + 999].clone())
        assert_same(whole[:, start : start + 999], part)


def test_columns_of_an_operand_past_the_caches_are_summed(rng):
    many, few = rng.standard_normal((70001, 61), np.float32), rng.standard_normal((2, 70001), np.float32)

    found = tjit.compile(lambda few, many: few @ many)(few, many)

    np.testing.assert_allclose(found, few.astype("f8") @ many, atol=2e-3)


def test_long_rows_are_split_only_where_they_are_too_few_for_all_threads():
    def kernels(few: tuple[int, ...], many: tuple[int, ...]) -> int:
        return len(
            list(kernel_steps(tjit.compile(lambda a, b: a @ b).lower(tjit.ones(few), tjit.ones(many)).schedule()))
        )

    assert kernels((4096, 4096), (4096,)) == 1
    assert kernels((8, 65536), (65536,)) == 2
    assert kernels((65536,), (65536, 64)) == 2
