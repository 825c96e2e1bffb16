"""Scatters: lanes and tasks among points that never meet, order within an element, bits on any number of threads."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from on_threads import assert_same_bits
from tolerances import assert_same

import tjit
import tjit.nn.functional as F
from tjit import dtypes
from tjit.codegen.kernel import ScatterKernel
from tjit.codegen.steps import kernel_steps
from tjit.errors import TjitError


def scatter_of(fn: Any, *xs: Any) -> ScatterKernel:
    plan = fn.lower(*xs).schedule()
    (found,) = [step.kernel for step in kernel_steps(plan) if isinstance(step.kernel, ScatterKernel)]
    return found


def in_order(target: np.ndarray, dim: int, index: np.ndarray, source: np.ndarray) -> np.ndarray:
    """`target` with the sources added one after the other, as they lie."""
    y = target.copy()
    for at in np.ndindex(index.shape):
        place = (*at[:dim], index[at], *at[dim + 1 :])
        y[place] = y[place] + source[at]
    return y


@pytest.mark.parametrize("shape", [(1, 1), (7, 3), (40, 8), (33, 77), (5, 130)])
@pytest.mark.parametrize("dim", [0, 1])
@pytest.mark.parametrize("dtype", [dtypes.f32, dtypes.f64, dtypes.i32], ids=str)
def test_scatter_add_is_in_order(shape, dim, dtype, rng):
    x, source = ((rng.standard_normal(shape) * 9).astype(dtype.numpy) for _ in range(2))
    index = rng.integers(0, max(1, shape[dim] // 2), shape)

    found = tjit.compile(lambda x, i, s: tjit.scatter_add(x, dim, i, s))(*map(tjit.tensor, (x, index, source)))

    assert_same(found, in_order(x, dim, index, source))


@pytest.mark.parametrize("width", [1, 2, 3, 7, 8, 20, 96, 131])
def test_rows_are_added_in_lanes(width, rng):
    x, source = rng.standard_normal((2, 50, width)).astype(np.float32)
    index = rng.integers(0, 9, 50)
    xs = tuple(map(tjit.tensor, (x, index, source)))
    fn = tjit.compile(lambda x, i, s: tjit.index_add(x, 0, i, s))

    kernel = scatter_of(fn, *xs)

    assert (kernel.vector is not None) == (width > 1)
    assert_same(fn(*xs), in_order(x, 0, np.repeat(index[:, None], width, 1), source))


def test_the_same_bits_on_any_number_of_threads(rng):
    weight, index = rng.standard_normal((300, 96)).astype(np.float32), rng.integers(0, 300, (40, 50))
    g = rng.standard_normal((40, 50, 96)).astype(np.float32)
    xs = tuple(map(tjit.tensor, (index, weight, g)))

    @tjit.compile
    def gradient(index, weight, g):
        weight = weight.detach().requires_grad_()
        return tjit.autograd.grad(F.embedding(index, weight, padding_idx=3), weight, g)[0]

    (found,) = assert_same_bits(gradient, *xs)

    kernel = scatter_of(gradient, *xs)
    assert kernel.tasks != 1
    wanted = in_order(np.zeros_like(weight), 0, np.repeat(index.reshape(-1, 1), 96, 1), g.reshape(-1, 96))
    wanted[3] = 0
    np.testing.assert_array_equal(found, wanted)


def test_an_index_outside_is_an_error_on_every_task(rng):
    x, s = rng.standard_normal((2, 600, 96)).astype(np.float32)
    index = rng.integers(0, 600, 600)
    index[-1] = 600
    fn = tjit.compile(lambda x, i, s: tjit.index_add(x, 0, i, s))

    with pytest.raises((TjitError, IndexError)):
        fn(*map(tjit.tensor, (x, index, s)))


def test_sizes_known_late_are_cut_too(rng):
    fn = tjit.compile(lambda x, i, s: tjit.index_add(x, 0, i, s))

    for rows, width in ((5, 3), (9, 20), (70, 33), (300, 200)):
        x, s = rng.standard_normal((2, rows, width))
        index = rng.integers(0, rows, rows)
        found = fn(*map(tjit.tensor, (x, index, s)))
        assert_same(found, in_order(x, 0, np.repeat(index[:, None], width, 1), s))


@pytest.mark.parametrize(("rows", "asked"), [(3000, True), (30, False)])
@pytest.mark.parametrize("width", [64, 100, 256])
def test_rows_of_large_targets_are_asked_for_ahead(rng, rows, width, asked):
    target = rng.standard_normal((rows, width)).astype(np.float32)
    index, source = rng.integers(0, rows, 900), rng.standard_normal((900, width)).astype(np.float32)
    add = tjit.compile(lambda t, i, s: tjit.index_add(t, 0, i, s), dynamic=False)
    arguments = [tjit.tensor(a) for a in (target, index, source)]

    got, text = add(*arguments).numpy(), add.lower(*arguments).text("llvm")

    want = target.copy()
    np.add.at(want, index, source)
    np.testing.assert_array_equal(got, want)
    assert ("llvm.prefetch" in text) == asked
