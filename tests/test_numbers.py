"""Python numbers that change: the second value makes them inputs of the program, which then serves all others."""

from __future__ import annotations

import copy
import json
import math
import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from typed_text import plain

import tjit
from tjit import nn

X = tjit.tensor([1.5, -2.0, 0.25])
N = tjit.tensor([1, -2, 3])
VALUES = (0.1, 0.2, -3.7, 0.0, -0.0, 1e30, float("inf"), 0.3)
SCALE = 0.5


# -- arguments ---------------------------------------------------------------------------------------------------------

# what eager tjit makes of x and s, bit for bit
LIFTED: dict[str, Callable[[float], Any]] = {
    "times": lambda s: X * s,
    "reflected": lambda s: s - X,
    "divided": lambda s: X / s,
    "compared": lambda s: s < X,
    "ints": lambda s: N * s + 1,
    "doubles": lambda s: X.double() * s,
    "a 0-d tensor": lambda s: X.sum() * s,
    "in place": lambda s: X.clone().add_(1).__imul__(s),
    "arithmetic of numbers": lambda s: X * (1 - s * 2 + abs(s) / 3 - (-s)),
    "a function": lambda s: tjit.mul(X, s),
    "a choice": lambda s: tjit.where(X > 0, X, s),
    "returned": lambda s: (X + s, s, s * 2),
    "known to be a float": lambda s: X * s if isinstance(s, (float, int)) else -X,
    "in containers": lambda s: [X * v for v in (s, s + 1)],
}


@pytest.mark.parametrize("name", LIFTED)
def test_a_float_argument_is_captured_twice_at_most(name):
    fn = LIFTED[name]
    f = tjit.compile(fn)

    got = [plain(f(s)) for s in VALUES * 3]

    assert got == [plain(fn(s)) for s in VALUES * 3]
    assert f.cache_info().misses == 2
    assert f.cache_info().hits == 3 * len(VALUES) - 2


# what asks a number is compiled for each answer; captures for 0.1, 0.2 and 0.3
ASKED: dict[str, tuple[int, Callable[[float], Any]]] = {
    "a branch": (2, lambda s: X if s > 0.15 else -X),
    "a truth value": (2, lambda s: X if s else -X),
    "an int": (2, lambda s: X * int(s * 10)),
    "text": (3, lambda s: (X, f"{s}")),
    "json": (3, lambda s: (X, json.dumps(s))),
    "math": (2, lambda s: X * math.exp(s)),
    "a power": (2, lambda s: X * 2**s),
    "its class": (2, lambda s: X if isinstance(s, np.floating) else -X),
    "its type": (3, lambda s: X if type(s) is float else -X),
    "a key": (3, lambda s: X * {0.1: 2, 0.2: 3}.get(s, 4)),
    "a method": (2, lambda s: X if s.is_integer() else -X),
    "rounding": (2, lambda s: X * round(s)),
    "copying": (2, lambda s: X * copy.deepcopy({"s": [s]})["s"][0] if s == 0.1 else X),
    "NumPy": (3, lambda s: X * float(np.exp(s))),
    "caught": (2, lambda s: X * _caught(s)),
    "a maximum": (2, lambda s: X * max(s, 0.15)),
}


def _caught(s: float) -> float:
    try:
        return 1.0 if s > 0.15 else 2.0
    except Exception:
        return 3.0


@pytest.mark.parametrize("name", ASKED)
def test_a_float_that_is_asked_is_captured_for_each_answer(name):
    captures, fn = ASKED[name]
    f = tjit.compile(fn)

    for s in (0.1, 0.2, 0.3, 0.1, 0.2, 0.3):
        assert plain(f(s)) == plain(fn(s))

    assert f.cache_info().misses == captures


def test_one_float_is_fixed_and_another_an_input():
    f = tjit.compile(lambda s, t: X * s if t > 0 else X + s)

    for t in (1.0, -1.0):
        for s in (0.1, 0.2, 0.3, 0.4):
            assert f(s, t).tolist() == (X * s if t > 0 else X + s).tolist()

    assert f.cache_info().misses <= 4


def test_division_by_a_number_that_is_zero_raises_as_python_does():
    f = tjit.compile(lambda s: X * (1 / s))

    for s in (0.5, 0.25):
        assert f(s).tolist() == (X * (1 / s)).tolist()
    with pytest.raises(ZeroDivisionError):
        f(0.0)


def test_numpys_floats_are_numbers_too():
    f = tjit.compile(lambda s: X * s)

    for s in np.linspace(0, 1, 5):
        assert f(s).tolist() == (X * s).tolist()

    assert f.cache_info().misses == 2


def test_keyword_and_nested_floats():
    f = tjit.compile(lambda x, options, *, bias: x * options["scale"][0] + bias)

    for s in (0.1, 0.2, 0.3, 0.4):
        assert f(X, {"scale": [s]}, bias=2 * s).tolist() == (X * s + 2 * s).tolist()

    assert f.cache_info().misses == 2


def test_native_calls_take_floats_of_any_value():
    f = tjit.compile(lambda x, s: x * s)
    for s in (0.1, 0.2, 0.3, 0.4, 0.5):
        f(X, s)
    python = f._hits

    for k in range(100):
        assert f(X, k / 7).tolist() == (X * (k / 7)).tolist()

    assert f._hits == python  # none of them went through Python
    assert f(X, 2).tolist() == (X * 2).tolist()  # an int is no float
    assert f(X, True).tolist() == X.tolist()
    with pytest.raises(tjit.errors.TjitError):
        f(X, "2")


def test_gradients_of_functions_with_floats():
    w = tjit.tensor([1.0, 2.0], requires_grad=True)
    f = tjit.compile(lambda s: ((w * s) ** 2).sum())

    for s in (0.5, 0.25, 3.0, 4.0, 5.0, 6.0):
        w.grad = None
        f(s).backward()
        np.testing.assert_allclose(np.asarray(w.grad), 2 * s * s * w.detach().numpy(), rtol=1e-6)

    assert f.cache_info().misses == 2


def test_dynamic_says_whether_floats_are_inputs():
    always, never = (tjit.compile(lambda s: X * s, dynamic=d) for d in (True, False))

    for s in (0.1, 0.2, 0.3):
        assert always(s).tolist() == never(s).tolist() == (X * s).tolist()

    assert (always.cache_info().misses, never.cache_info().misses) == (1, 3)


def test_sizes_and_floats_change_at_once():
    f = tjit.compile(lambda x, s: x * s)

    for n in range(1, 8):
        assert f(tjit.ones(n), n / 7).tolist() == (tjit.ones(n) * (n / 7)).tolist()

    assert f.cache_info().misses == 2


# -- what the function reads -------------------------------------------------------------------------------------------


class Holder:
    level = 0.5

    def __init__(self) -> None:
        self.scale = 0.5
        self.levels = [0.5, 2.0]
        self.deep = {"a": 0.5}


HOLDER = Holder()

PLACES: dict[str, tuple[Callable[[], Any], Callable[[float], Any]]] = {
    "a global": (lambda: X * SCALE, lambda v: globals().__setitem__("SCALE", v)),
    "an attribute": (lambda: X * HOLDER.scale, lambda v: setattr(HOLDER, "scale", v)),
    "an item of a list": (lambda: X * HOLDER.levels[0], lambda v: HOLDER.levels.__setitem__(0, v)),
    "an entry of a dict": (lambda: X * HOLDER.deep["a"], lambda v: HOLDER.deep.__setitem__("a", v)),
}


@pytest.mark.parametrize("name", PLACES)
def test_a_float_that_the_function_reads_is_captured_twice(name):
    fn, put = PLACES[name]
    f = tjit.compile(fn)

    for v in (0.1, 0.2, 0.3, -0.0, 7.0, 8.0):
        put(v)
        assert plain(f()) == plain(fn())

    assert f.cache_info().misses == 2


def test_a_closure_variable_is_captured_twice():
    scale = 0.5

    def fn():
        return X * scale

    f = tjit.compile(fn)
    for v in (0.1, 0.2, 0.3, 0.4, 0.5, 0.6):
        scale = v
        assert f().tolist() == (X * v).tolist()
    assert f.cache_info().misses == 2
    assert scale == 0.6


def test_class_attributes_are_fixed(monkeypatch):
    f = tjit.compile(lambda: X * HOLDER.level)

    for v in (0.1, 0.2, 0.3):
        monkeypatch.setattr(Holder, "level", v)
        assert f().tolist() == (X * v).tolist()

    assert f.cache_info().misses == 3


def test_a_lifted_place_may_come_to_hold_something_else():
    holder = Holder()
    f = tjit.compile(lambda: X * holder.scale)

    for v in (0.1, 0.2, 0.3, 2, 0.4, tjit.tensor(2.0), 0.5):
        holder.scale = v
        assert f().tolist() == (X * v).tolist()


def test_a_number_that_the_function_itself_writes_is_written_by_every_call():
    ours, theirs = Holder(), Holder()

    def fn(holder):
        y = X * holder.scale
        holder.scale = holder.scale * 0.5
        return y

    f = tjit.compile(lambda: fn(ours))
    for v in (None, 3.0, None, 2.0, 7.0, None):
        for holder in (ours, theirs):
            holder.scale = holder.scale if v is None else v
        assert f().tolist() == fn(theirs).tolist()
        assert ours.scale == theirs.scale


def test_a_number_that_is_kept_is_a_float():
    kept: list[Any] = []

    def fn(x, s):
        kept.append(s * 2)
        return x * s

    f = tjit.compile(fn)
    for s in (0.1, 0.2, 0.3):
        assert f(X, s).tolist() == (X * s).tolist()
    assert all(type(v) is float for v in kept[-1:])


def test_a_modules_number_is_lifted_with_its_gradients():
    class Scaled(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.w = nn.Parameter(tjit.tensor([1.0, 2.0]))
            self.temperature = 1.0

        def forward(self, x):
            return (x * self.w / self.temperature).sum()

    module = Scaled()
    f = tjit.compile(module)
    for t in (1.0, 0.5, 0.25, 4.0, 5.0, 6.0):
        module.temperature = t
        module.w.grad = None
        f(tjit.tensor([3.0, 4.0])).backward()
        np.testing.assert_allclose(np.asarray(module.w.grad), np.array([3.0, 4.0]) / t, rtol=1e-6)
    assert f.cache_info().misses == 2


def test_an_error_in_the_function_leaves_the_place_as_it_was():
    holder = Holder()

    def fn(x):
        y = x * holder.scale
        if x.shape[0] == 3:
            raise KeyError("three")
        return y

    f = tjit.compile(fn)
    f(tjit.ones(2))
    holder.scale = 0.25
    with pytest.raises(KeyError, match="three"):
        f(tjit.ones(3))

    assert holder.scale == 0.25
    assert f(tjit.ones(2)).tolist() == [0.25, 0.25]


def test_threads_with_floats_of_their_own():
    f, wrong = tjit.compile(lambda x, s: x * s), []

    def work(seed: int) -> None:
        for s in np.random.default_rng(seed).random(50).tolist():
            wrong.extend([] if f(X, s).tolist() == (X * s).tolist() else [s])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert not wrong
    assert f.cache_info().misses <= 3
