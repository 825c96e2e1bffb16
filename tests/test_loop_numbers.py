"""Loops over numbers that start from a counter."""

from __future__ import annotations

import numpy as np

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
