"""Leaves of gradients that a compiled function makes itself."""

from __future__ import annotations

import numpy as np

import tjit


def test_a_function_that_differentiates_by_a_leaf_of_its_own_is_compiled_once():
    def slope(w, x):
        w = w.detach().requires_grad_()
        h = x
        for i in range(8):
            h = tjit.tanh(w @ h + 0.01 * i)
        h.sum().backward()
        return w.grad

    f = tjit.compile(slope)
    w, x = 0.3 * tjit.rand(3, 3), tjit.rand(3)
    for _ in range(3):
        np.testing.assert_allclose(f(w, x).numpy(), slope(w, x).numpy(), rtol=1e-5, atol=1e-7)

    assert f.cache_info().misses == 1
    assert w.grad is None
