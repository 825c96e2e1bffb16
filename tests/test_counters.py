"""Python ints that vary: counters, schedules and positions that a compiled function reads, sets and asks."""

from __future__ import annotations

import math
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import random_numbers
from typed_text import plain

import tjit

X = tjit.tensor([1.5, -2.0, 0.25], dtype=tjit.float64)
TABLE = tjit.arange(24.0).reshape(8, 3)


def state() -> SimpleNamespace:
    return SimpleNamespace(steps=0, best=3, rate=1.0, log={"n": 0, "seen": 0}, row=[0, 1.0], on=False, name="a")


def _counter(s, x):
    s.steps += 1
    return x * s.steps


def _counter_alone(s, x):
    s.steps = s.steps + 1
    return x + 1


def _every_fourth(s, x):
    s.steps += 1
    return x + s.steps if s.steps % 4 == 0 else x - 1


def _warm_up(s, x):
    s.steps += 1
    rate = min(1.0, s.steps / 10) * 0.5 * (1 + math.cos(math.pi * s.steps / 40))
    return x * rate, rate


def _decay(s, x):
    s.rate *= 0.9
    return x * s.rate


def _toggled(s, x):
    s.on = not s.on
    return x if s.on else -x


def _in_containers(s, x):
    s.log["n"] += 2
    s.row[0] -= 1
    return x / s.log["n"], s.log["n"] // 4, s.row[0] ** 2


def _named(s, x):
    s.name = "b" if s.name == "a" else "a"
    return x + len(s.name)


def _huge(s, x):
    s.steps = s.steps * 2**40 + 1
    return x + s.steps % 1000, s.steps


def _patience(s, x):
    s.steps += 1
    s.best = 0 if s.steps % 6 == 0 else s.best + 1
    return x * s.best, s.best >= 5


def _row_by_row(s, x):
    s.steps += 1
    return TABLE[s.steps % 2] + x


def _averaged(s, x):
    s.steps += 1
    decay = min(0.99, (1 + s.steps) / (10 + s.steps))
    return x * decay + (1 - decay)


def _in_loops(s, x):
    for i in range(3):
        s.steps += i
        x = x + s.steps
    return x, s.steps


def _compared_with_tensors(s, x):
    s.steps += 1
    return tjit.where(x < s.steps, x, s.steps), tjit.full((2,), s.steps), tjit.tensor(s.steps)


# captures for twelve calls
PROGRAMS: dict[Callable[[Any, Any], Any], int] = {
    _counter: 2,
    _counter_alone: 2,
    _every_fourth: 3,
    _warm_up: 2,
    _decay: 2,
    _toggled: 2,
    _in_containers: 2,
    _named: 2,
    _huge: 2,
    _patience: 4,
    _row_by_row: 2,
    _averaged: 2,
    _in_loops: 2,
    _compared_with_tensors: 2,
}


@pytest.mark.parametrize("fn", PROGRAMS, ids=lambda fn: fn.__name__.strip("_"))
def test_what_the_function_counts_is_counted_by_every_call(fn):
    ours, theirs = state(), state()
    f = tjit.compile(lambda x: fn(ours, x))

    for _ in range(12):
        assert plain(f(X)) == plain(fn(theirs, X))
        assert repr(ours) == repr(theirs)
    assert f.cache_info().misses == PROGRAMS[fn]


# captures for n = 0, 1, 2, 3, 0, 1, 2, 3, -1, -1
ARGUMENTS: dict[str, tuple[int, Callable[[Any], Any]]] = {
    "times": (2, lambda n: X * n),
    "reflected": (2, lambda n: n - X),
    "bits": (2, lambda n: tjit.tensor([5, 6, 7]) & n),
    "Python's arithmetic": (2, lambda n: (X + (n * 7 // 3 - n % 5) ** 2, n**3, -n, ~n, n << 3, n | 1)),
    "a branch": (3, lambda n: X if n > 1 else X * n),
    "an index": (2, lambda n: TABLE[n]),
    "a slice": (5, lambda n: TABLE[: n + 1]),
    "a shape": (5, lambda n: tjit.ones(n + 2) * n),
    "a dim": (3, lambda n: TABLE.sum(n % 2)),
    "a loop": (5, lambda n: sum(([X] * n), X)),
    "text": (5, lambda n: (X, f"{n}")),
    "a key": (5, lambda n: X * {0: 2, 1: 3}.get(n, 4)),
    "a list": (5, lambda n: X * [1, 2, 3, 4][n]),
    "its truth": (2, lambda n: X if n else -X),
    "a bool": (2, lambda n: X * bool(n)),
    "methods": (2, lambda n: X * n.bit_length()),
}


@pytest.mark.parametrize("name", ARGUMENTS)
def test_an_int_argument_is_captured_for_each_answer_alone(name):
    captures, fn = ARGUMENTS[name]
    f = tjit.compile(fn)

    for n in (0, 1, 2, 3, 0, 1, 2, 3, -1, -1):
        assert plain(f(n)) == plain(fn(n))

    assert f.cache_info().misses <= captures


def test_an_int_beyond_64_bits_is_what_it_is_outside():
    f = tjit.compile(lambda x, n: (x + n % 7, n + 1))

    for n in (1, 2, 2**63 - 1, 2**63, -(2**63), 2**100):
        assert plain(f(X, n)) == plain((X + n % 7, n + 1))
    assert f.cache_info().misses == 2


def test_a_product_beyond_64_bits_is_not_cut_off():
    def fn(x, n):
        return x * (n * n)

    f = tjit.compile(fn)
    for n in (1, 2, 3, 2**31, 2**33, 2**40):
        try:
            want = plain(fn(X, n))
        except Exception as error:
            with pytest.raises(type(error)):
                f(X, n)
        else:
            assert plain(f(X, n)) == want


def test_bools_ints_and_floats_are_three_kinds():
    f = tjit.compile(lambda x, n: (x * n, n))

    for n in (1, 2, True, 1.0, 3, False, 2.0, 0, 4.0):
        assert plain(f(X, n)) == plain((X * n, n))


def test_division_by_an_int_that_is_zero_raises_as_python_does():
    f = tjit.compile(lambda x, n: x * (7 // n))

    assert [f(X, n).tolist() for n in (1, 2, 3)] == [(X * (7 // n)).tolist() for n in (1, 2, 3)]
    with pytest.raises(ZeroDivisionError):
        f(X, 0)
    assert f(X, 4).tolist() == X.tolist()


def test_what_the_function_had_set_when_it_raised_is_set():
    s = state()

    @tjit.compile
    def f(x):
        s.steps += 1
        return x / (10 // (3 - s.steps))

    for _ in range(2):
        f(X)
    with pytest.raises(ZeroDivisionError):
        f(X)
    assert s.steps == 3
    assert f(X).tolist() == (X / -10).tolist()


def test_native_calls_take_ints_of_any_value():
    f = tjit.compile(lambda x, n: x * n)
    for n in range(5):
        f(X, n)
    python = f._hits

    for n in (*range(100), -5, 2**40, -(2**62), 2**63 - 1, -(2**63)):
        assert f(X, n).tolist() == (X * n).tolist()

    assert f._hits == python  # none of them went through Python
    assert f(X, 2**64).tolist() == (X * 2**64).tolist()


def test_gradients_with_ints():
    w = tjit.tensor([1.0, 2.0], requires_grad=True)
    f = tjit.compile(lambda n: ((w * n) ** 2).sum() / (n + 1))

    for n in range(6):
        w.grad = None
        f(n).backward()
        np.testing.assert_allclose(np.asarray(w.grad), 2 * n * n / (n + 1) * w.detach().numpy(), rtol=1e-6)
    assert f.cache_info().misses == 2


def test_counters_in_arguments():
    def fn(x, state):
        state["step"] += 1
        state["seen"][0] += x.shape[0]
        return x * state["step"]

    f, ours, theirs = tjit.compile(fn), {"step": 0, "seen": [0]}, {"step": 0, "seen": [0]}
    for _ in range(6):
        assert plain(f(X, ours)) == plain(fn(X, theirs))
        assert ours == theirs
    assert f.cache_info().misses == 2


def test_a_cache_that_is_written_at_a_position():
    def fn(cache, x, position):
        cache[position] = x
        return cache[:, 0] * position, cache[position, 1]

    f, ours, theirs = tjit.compile(fn), tjit.zeros(6, 3), tjit.zeros(6, 3)
    for position in (0, 1, 2, 3, 4, 5, -1, -6):
        x = tjit.full((3,), float(position))
        assert plain(f(ours, x, position)) == plain(fn(theirs, x, position))
        assert ours.tolist() == theirs.tolist()
    assert f.cache_info().misses == 2
    with pytest.raises(IndexError):
        f(ours, X, 6)


def test_many_captures_are_warned_of_with_the_line():
    s = state()

    @tjit.compile
    def f(x):
        s.steps += 1
        return x.new_zeros(s.steps)

    for _ in range(16):
        f(X)
    with pytest.warns(UserWarning, match=r"captured for the 17th time") as found:
        f(X)
    for _ in range(4):
        f(X)  # once is enough

    assert "x.new_zeros(s.steps)" in str(found[0].message)


@pytest.mark.parametrize("seed", range(60))
@pytest.mark.filterwarnings("ignore:.*is captured for the")
def test_random_programs_of_numbers(seed):
    problem = random_numbers.check(seed)

    assert problem is None, problem


def _training(kind):
    """A training step that goes by numbers it counts itself, and all that it keeps."""
    tjit.manual_seed(0)
    net = tjit.nn.Sequential(tjit.nn.Linear(3, 4), tjit.nn.ReLU(), tjit.nn.Linear(4, 1))
    average = [p.detach().clone() for p in net.parameters()]
    o = tjit.optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    schedule = {
        "cosine": lambda: tjit.optim.lr_scheduler.CosineAnnealingLR(o, 20),
        "steps": lambda: tjit.optim.lr_scheduler.StepLR(o, 5, 0.5),
        "exponential": lambda: tjit.optim.lr_scheduler.ExponentialLR(o, 0.9),
    }.get(kind, lambda: None)()
    s = SimpleNamespace(t=0, good=0, scale=8.0)

    def step(x):
        s.t += 1
        if kind == "warm-up":
            for group in o.param_groups:
                group["lr"] = 0.1 * s.t / 5 if s.t < 5 else 0.05 * (1 + math.cos(math.pi * (s.t - 5) / 20))
        n = min(6, 2 + s.t // 4) if kind == "curriculum" else 6
        loss = (net(x[:n]) ** 2).mean() / (4 if kind == "accumulation" else 1)
        loss.backward()
        if kind == "clipping":
            tjit.nn.utils.clip_grad_norm_(net.parameters(), 0.5**s.t)
        if kind != "accumulation" or s.t % 4 == 0:
            o.step()
            o.zero_grad()
        if schedule is not None:
            schedule.step()
        if kind == "average":
            decay = min(0.99, (1 + s.t) / (10 + s.t))
            with tjit.no_grad():
                for a, p in zip(average, net.parameters(), strict=True):
                    a.mul_(decay).add_(p, alpha=1 - decay)
        return loss

    def kept():
        return [p.detach().numpy() for p in (*net.parameters(), *average)], s, o.param_groups[0]["lr"]

    return step, kept


# captures for sixteen steps
TRAINING = {
    "cosine": 2, "steps": 5, "exponential": 2, "warm-up": 3, "curriculum": 6, "accumulation": 6, "clipping": 2,
    "average": 2,
}  # fmt: skip


@pytest.mark.parametrize("kind", TRAINING)
def test_training_steps_that_count_are_captured_for_each_answer(kind):
    (step, ours), (plain, theirs) = _training(kind), _training(kind)
    compiled = tjit.compile(step)

    for i in range(16):
        x = tjit.linspace(-1, 1, 18).reshape(6, 3) * (1 + i % 3) / 3
        np.testing.assert_allclose(compiled(x).item(), plain(x).item(), rtol=1e-4)
        for a, b in zip(ours()[0], theirs()[0], strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-6)
        assert ours()[1:] == theirs()[1:]

    assert compiled.cache_info().misses <= TRAINING[kind]
