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


def _quotients(x):
    s, k = 0.3, 0
    for i in range(x.shape[0]):
        s = s / (i + 1) + 0.1 * i
        k = (k + i // -2) % 5
        x[i] = s
    return s, k, x


def _first_of(x):
    k, n, found = 0, 0, False
    for i in range(x.shape[0]):
        k = k + (i or 3)
        n = (x[i] > 4 and k) + n
        found = found or x[i] > 4
        x[i] = (x[i] > 2 or i + 1) * 1.0
    return k, n, found, x


@pytest.mark.parametrize("f", [_quotients, _first_of])
@pytest.mark.parametrize("wrap", [np.copy, tjit.tensor])
def test_numbers_that_a_loop_computes_are_pythons(f, wrap):
    wanted, found = f(wrap(np.arange(7.0))), tjit.compile(f)(wrap(np.arange(7.0)))

    assert [type(v) for v in found] == [type(v) for v in wanted]
    for a, b in zip(found, wanted, strict=True):
        np.testing.assert_allclose(np.asarray(a), np.asarray(b), rtol=1e-14)


def _negative_divisors(x):
    for i in range(x.shape[0]):
        x[i] = i // -2 + 10 * (i % -3) + 100 * (7 // (2 * i - 5)) + 1000 * (9 % (2 * i - 5))
    return x


@pytest.mark.parametrize("dynamic", [True, False])
def test_counters_divide_by_negative_numbers_as_in_python(dynamic):
    found = tjit.compile(_negative_divisors, dynamic=dynamic)(np.zeros(7))

    np.testing.assert_array_equal(found, _negative_divisors(np.zeros(7)))
