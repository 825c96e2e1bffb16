"""Tensors that a compiled function leaves in attributes and variables from outside: every call sets them."""

from __future__ import annotations

from typing import Any

import pytest

import tjit
from tjit import nn


class Box:
    value: tjit.Tensor | None = None


def test_attributes_of_objects_are_set_by_every_call():
    box = Box()

    @tjit.compile
    def f(x):
        while x.sum() < 100:
            x = x * 2
            box.value = x
        return x + 0

    y = f(tjit.ones(3))

    assert box.value is not None
    assert y.tolist() == box.value.tolist() == [64, 64, 64]
    assert f(tjit.full((3,), 3.0)).tolist() == box.value.tolist() == [48, 48, 48]


def test_a_module_keeps_its_state_and_the_history_of_it():
    class Running(nn.Module):
        def __init__(self):
            super().__init__()
            self.linear = nn.Linear(2, 2)
            self.last: Any = None

        def forward(self, x):
            self.last = self.linear(x)
            return self.last * 2

    m = Running()
    f = tjit.compile(m)
    x = tjit.rand(3, 2)
    y = f(x)
    m.last.sum().backward()

    assert tjit.allclose(y, m.last * 2)
    assert tjit.allclose(m.linear.bias.grad, tjit.full((2,), 3.0))


def test_a_state_that_is_read_back():
    class Counter(nn.Module):
        def __init__(self):
            super().__init__()
            self.total = tjit.zeros(2)

        def forward(self, x):
            self.total = self.total + x
            return self.total * 10

    m = Counter()
    f = tjit.compile(m)

    assert [f(tjit.ones(2)).tolist() for _ in range(4)] == [[10, 10], [20, 20], [30, 30], [40, 40]]
    assert m.total.tolist() == [4, 4]


def test_closure_variables_are_set():
    total = tjit.zeros(2)

    @tjit.compile
    def f(x):
        nonlocal total
        total = total + x
        return x

    for _ in range(3):
        f(tjit.ones(2))

    assert total.tolist() == [3, 3]


def test_a_capture_that_fails_leaves_nothing():
    box = Box()

    @tjit.compile
    def f(x):
        box.value = x * 2
        raise KeyError("no")

    with pytest.raises(KeyError):
        f(tjit.ones(2))

    assert box.value is None
