"""Tensors that a compiled function leaves in attributes and variables from outside: every call sets them."""

from __future__ import annotations

from types import SimpleNamespace
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


def _recurrent(kind):
    """A cell that keeps its state in an attribute, and what it does with it."""
    tjit.manual_seed(0)
    cell, box = nn.Linear(3, 3), SimpleNamespace(value=None)

    def step(x):
        if box.value is None:
            box.value = tjit.zeros(2, 3)
        if kind == "detached":
            box.value = box.value.detach()
        if kind == "written":
            box.value.add_(x)
            return box.value.sum()
        if kind == "returned":
            old, box.value = box.value, x + 1
            return old
        if kind == "asked":
            box.value = x + 2
            return x * len(box.value)
        box.value = tjit.tanh(cell(x) + box.value)
        return (box.value**2).sum()

    return step, box, cell


# captures for eight calls; the state is taken away after the fifth
STATES = {"carried": 4, "detached": 4, "written": 4, "asked": 8, "returned": 8}


@pytest.mark.parametrize("kind", STATES)
def test_a_state_that_every_call_replaces_is_read_where_it_is(kind):
    (step, ours, a), (plain, theirs, b) = _recurrent(kind), _recurrent(kind)
    compiled = tjit.compile(step)

    for i in range(8):
        if i == 5:
            ours.value = theirs.value = None
        x = tjit.full((2, 3), i / 4)
        got, want = compiled(x), plain(x)
        assert tjit.allclose(got, want)
        assert ours.value is not None
        assert tjit.allclose(ours.value, theirs.value)
        assert ours.value.requires_grad == theirs.value.requires_grad
        if want.requires_grad:
            cells = [cell.weight for cell in (a, b)]
            for w, loss in zip(cells, (got, want), strict=True):
                w.grad = None
                loss.backward(retain_graph=True)
            assert tjit.allclose(cells[0].grad, cells[1].grad, atol=1e-6)

    assert compiled.cache_info().misses <= STATES[kind]


def test_a_state_of_another_shape_or_class_takes_another_capture():
    box = SimpleNamespace(value=None)
    f = tjit.compile(lambda x: x + box.value if isinstance(box.value, tjit.Tensor) else x * 2)

    for value in (tjit.ones(3), tjit.zeros(3), tjit.ones(1), None, tjit.ones(3), tjit.ones(3, dtype=tjit.float64), 2.0):
        box.value = value
        want = [2.0] * 3 if not isinstance(value, tjit.Tensor) else (tjit.ones(3) + value).tolist()

        assert f(tjit.ones(3)).tolist() == want
