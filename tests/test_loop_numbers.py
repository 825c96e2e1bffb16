"""Loops over numbers that start from a counter."""

from __future__ import annotations

import numpy as np
import pytest

import tjit


def collatz(out):
    for i in range(1, out.shape[0]):
        x = i
        steps = 0
        while x != 1:
            x = x // 2 if x % 2 == 0 else 3 * x + 1
            steps += 1
        out[i] = steps


def test_the_test_of_a_while_is_asked_before_its_first_trip():
    wanted, found = np.zeros(30), np.zeros(30)
    collatz(wanted)
    f = tjit.compile(collatz)
    f(found)

    np.testing.assert_array_equal(found, wanted)
    assert [n.op.name for n in f.lower(found).graph.nodes] == ["for"]


def _python_counts(x):
    k = 0
    while k < 2000:
        k += 1
    return x * k


def _counter_is_asked(x):
    for i in range(x.shape[0]):
        if x.max() > 10:
            return x
        t = 0
        while t < 3 and i % 3 == 1:
            t += 1
            if x.shape[0] == 2:
                return 2 * x
    return 3 * x


def _counters_of_loops_that_break(x):
    s = x[0]
    for k in range(2):
        for i in range(x.shape[0]):
            if x[i] > 3 - k:
                break
            s = s + x[i:].sum()
    return s


@pytest.mark.parametrize("f", [_python_counts, _counter_is_asked, _counters_of_loops_that_break])
@pytest.mark.parametrize("dynamic", [True, False])
def test_loops_whose_tests_are_of_numbers(f, dynamic):
    compiled = tjit.compile(f, dynamic=dynamic)

    for start in (0.0, 6.0, 11.0):
        x, y = (tjit.arange(start, start + 6).requires_grad_() for _ in range(2))
        wanted, found = f(x), compiled(y)
        wanted.sum().backward()
        found.sum().backward()

        np.testing.assert_allclose(np.asarray(found.detach()), np.asarray(wanted.detach()), rtol=1e-6)
        np.testing.assert_allclose(np.asarray(y.grad), np.asarray(x.grad), rtol=1e-6)
