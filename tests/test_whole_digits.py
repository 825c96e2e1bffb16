"""Axes that indices divide and that are no multiple of the divisor: most points and the last ones apart."""

from __future__ import annotations

import numpy as np
import pytest

import tjit

F = tjit.nn.functional


def _gradient(kernel_size, stride, padding):
    def gradient(x, g):
        x = x.detach()
        x.requires_grad_(True)
        F.max_pool2d(x, kernel_size, stride, padding).backward(g)
        return x.grad

    return gradient


@pytest.mark.parametrize("size", [7, 8, 9, 13, 27, 61])
@pytest.mark.parametrize("window", [(2, 2, 0), (3, 2, 0), (3, 3, 0), (3, 2, 1)], ids=str)
def test_gradients_of_pooling_of_odd_sizes_are_the_eager_ones(rng, size, window):
    x = tjit.tensor(rng.permutation(2 * 3 * size * (size + 2)).reshape(2, 3, size, size + 2).astype(np.float32))
    g = F.max_pool2d(x, *window)  # any gradient of that shape

    got = tjit.compile(_gradient(*window), dynamic=False)(x, g)

    np.testing.assert_allclose(got.numpy(), _gradient(*window)(x, g).numpy(), rtol=1e-5)


@pytest.mark.parametrize("size", [8, 9, 41, 64])
@pytest.mark.parametrize("divisor", [2, 3, 4])
def test_repeated_elements_are_numpys(rng, size, divisor):
    x = rng.standard_normal((5, size)).astype(np.float32)

    def repeat(x, place=np.arange):
        i = place(size)
        return x[:, i // divisor] * 2 + i % divisor

    got = tjit.compile(lambda x: repeat(x, tjit.arange), dynamic=False)(tjit.tensor(x))

    np.testing.assert_array_equal(got.numpy(), repeat(x).astype(np.float32))


def test_the_last_points_have_a_kernel_of_their_own(rng):
    fn = tjit.compile(_gradient(2, 2, 0), dynamic=False)

    def kernels(size):
        x = tjit.zeros(4, 3, size, size)
        return len(fn.lower(x, F.max_pool2d(x, 2, 2)).schedule().steps)

    assert kernels(27) == kernels(28) + 1
