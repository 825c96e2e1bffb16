"""Captured functions call the user's own as eager code does: helpers, methods, modules, objects, Python's functions."""

# Python's functions take tensors here, which their stubs do not know.
# pyright: reportArgumentType=false, reportCallIssue=false

from __future__ import annotations

import functools
import itertools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.errors import CaptureError
from tjit.jit.warning import TracerWarning

POSITIVE, NEGATIVE = [1.0, 2.0, 3.5], [-1.0, -2.0, -4.5]


def tensor(values: Any) -> tjit.Tensor:
    return tjit.tensor(values)


def sign(x):
    if x.sum() > 0:
        return x
    return -x


def scaled(x, by=2.0, *rest, **named):
    if x.sum() > 0:
        x = x * by
    for r in rest:
        x = x + r
    return x + named.get("extra", 0.0)


def twice(fn):
    @functools.wraps(fn)
    def wrapper(*args):
        return fn(fn(*args))

    return wrapper


@twice
def decorated(x):
    if x.sum() > 0:
        return x * 3
    return x - 1


class Scale:
    factor = 2.0

    def __init__(self, x):
        if x.sum() > 0:
            self.offset = x
        else:
            self.offset = x * 10

    def __call__(self, x):
        if x.sum() > 0:
            return x * self.factor
        return x / self.factor

    def method(self, x):
        return self(x) + self.offset

    @classmethod
    def made(cls, x):
        return cls(x).method(x) if x.sum() > 1 else x

    @staticmethod
    def free(x):
        return x if x.max() > 1 else -x


class Sub(Scale):
    def method(self, x):
        if x.sum() > 0:
            return super().method(x) + 1
        return super().method(x) - 1


@dataclass
class Pair:
    a: Any
    b: Any

    def larger(self):
        if self.a.sum() > self.b.sum():
            return self.a
        return self.b


class Gate(nn.Module):
    def __init__(self):
        super().__init__()
        self.inner = nn.Sequential(Branch(), nn.ReLU(), Branch())

    def forward(self, x):
        y = self.inner(x)
        if y.sum() > 2:
            return y / 2
        return y


class Branch(nn.Module):
    def forward(self, x):
        if x.sum() > 0:
            return x + 1
        y = -x
        return y


gate = Gate()
hooked = Branch()
hooked.register_forward_hook(lambda module, args, result: result * 2 if result.sum() > 3 else result)
hooked.register_forward_pre_hook(lambda module, args: (args[0] + 1 if args[0].sum() > 0 else args[0],))
compiled_helper = tjit.compile(sign)


def first_above(x, limit):
    for i in range(3):
        if x[i] > limit:
            return x[i]
    return x[0] - 100


def count_above(x, limit):
    n = 0
    for i in range(3):
        if x[i] <= limit:
            continue
        n += 1
    return n * x


def generator(x):
    for i in range(3):
        yield x * i


CASES: dict[str, Callable[[tjit.Tensor], Any]] = {
    "helper": lambda x: sign(x) + 1,
    "keywords": lambda x: scaled(x, 3.0, 1.0, 2.0, extra=x),
    "stars": lambda x: scaled(*(x, 2.0), **{"extra": 1.0}),
    "decorated": lambda x: decorated(x),
    "partial": lambda x: functools.partial(scaled, by=4.0)(x),
    "object": lambda x: Scale(x)(x),
    "method": lambda x: Scale(x).method(x),
    "super": lambda x: Sub(x).method(x),
    "classmethod": lambda x: Scale.made(x),
    "staticmethod": lambda x: Scale.free(x),
    "bound": lambda x: [m(x) for m in (Scale(x).method, Sub(x).method)],
    "dataclass": lambda x: Pair(x, x * x).larger(),
    "module": lambda x: gate(x),
    "hooks": lambda x: hooked(x),
    "compiled": lambda x: compiled_helper(x) * 2,
    "map": lambda x: list(map(sign, [x, -x])),
    "filter": lambda x: list(filter(lambda v: v is not None, [x, None])),
    "reduce": lambda x: functools.reduce(lambda a, b: a if a.sum() > b.sum() else b, [x, x * 2, x - 1]),
    "sorted": lambda x: [x + v for v in sorted([3, 1, 2], key=lambda v: -v)],
    "accumulate": lambda x: list(itertools.accumulate([x, x], lambda a, b: sign(a) + b)),
    "generator": lambda x: sum(generator(x)),
    "comprehension": lambda x: [sign(x * i) for i in range(3) if i],
    "dict comprehension": lambda x: {str(i): sign(x - i) for i in range(2)},
    "lambda": lambda x: (lambda y: y * 2 if y.sum() > 0 else y * 3)(x),
    "first above": lambda x: first_above(x, 1.5),
    "first above none": lambda x: first_above(x, 100.0),
    "count above": lambda x: count_above(x, 1.5),
    # numbers
    "int": lambda x: int(x[2]) * x,
    "float": lambda x: float(x[1]) * x,
    "bool": lambda x: x * (2.0 if bool(x[0] > 0) else 3.0),
    "abs": lambda x: abs(x[0]) + x,
    "min": lambda x: min(x[0], x[1], 0.5) + x,
    "max": lambda x: max(x[0], 0.0) + x,
    "max of list": lambda x: max([x[0], x[1], x[2]]),
    "sum": lambda x: sum(x) + sum([x[0], 1.0]),
    "any": lambda x: x * (1.0 if any(v > 2 for v in x) else 5.0),
    "all": lambda x: x * (1.0 if all([x[0] > 0, x[1] > 0]) else 5.0),
    "pow": lambda x: pow(x, 2),
    "round": lambda x: round(x) + 1,
    "isinstance": lambda x: x if isinstance(x, tjit.Tensor) else None,
    "int of float": lambda x: int(float(x[2]) * 2) + x,
    "floor": lambda x: math.floor(x[2]) * x,
    "ceil": lambda x: math.ceil(x[2]) * x,
    "math": lambda x: x * math.sin(x[0]) + math.exp(x[1]) - math.atan2(x[0], x[1]) + math.hypot(x[0], 1.0),
    "math of constants": lambda x: x * math.sqrt(2.0) + math.pi + math.log(8, 2),
    "sqrt": lambda x: math.sqrt(abs(x[0])) * x,
    "log": lambda x: math.log(abs(x[2]), 2) * x,
    "fabs": lambda x: math.fabs(x[0]) * x,
    "isnan": lambda x: x * (2 if math.isnan(x[0]) else 3),
    "zip": lambda x: [a * b for a, b in zip([x, x], [1.0, 2.0], strict=True)],
    "enumerate": lambda x: [a * i for i, a in enumerate([x, x], 1)],
    "len": lambda x: x * len(x),
    "boolean": lambda x: x * (1 if (x[0] > 0 and x[1] > 0) or x[2] > 100 else 2),
    "not": lambda x: x * (1 if not x[0] > 0 else 2),
    "chain": lambda x: x * (1 if 0 < x[0] < x[1] < 10 else 2),
    "ternary": lambda x: x if x.sum() > 0 else x * 2,
}


def _flat(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [*value, *_flat(list(value.values()))]
    if isinstance(value, (list, tuple)):
        return [v for item in value for v in _flat(item)]
    return [value]


def _assert_same(got: Any, expected: Any) -> None:
    a, b = _flat(got), _flat(expected)
    assert len(a) == len(b)
    for x, y in zip(a, b, strict=True):
        assert type(x) is type(y)
        if isinstance(x, tjit.Tensor):
            assert x.dtype == y.dtype
            np.testing.assert_allclose(x.array, y.array, rtol=1e-6)
        else:
            assert x == y


@pytest.mark.parametrize("values", [POSITIVE, NEGATIVE], ids=["positive", "negative"])
@pytest.mark.parametrize("name", CASES)
def test_calls_mean_what_they_mean_in_eager_code(name, values):
    fn = CASES[name]
    compiled = tjit.compile(fn)

    compiled(tensor(POSITIVE))

    assert compiled.cache_info().misses == 1
    _assert_same(compiled(tensor(values)), fn(tensor(values)))
    assert compiled.cache_info().misses == 1


def test_print_says_that_values_are_not_known_yet(capsys):
    @tjit.compile
    def f(x):
        print("x is", x)
        return x * 2

    f(tensor(POSITIVE))
    f(tensor(NEGATIVE))

    printed = capsys.readouterr().out
    assert printed.count("x is") == 1
    assert "values are not known yet" in printed


def test_trace_keeps_the_branch_taken():
    with pytest.warns(TracerWarning, match="Converting a tensor to a truth value"):
        traced = tjit.jit.trace(sign, tensor(POSITIVE))

    _assert_same(traced(tensor(NEGATIVE)), tensor(NEGATIVE))


def test_source_that_cannot_be_read_is_an_error():
    space: dict[str, Any] = {}
    exec("def f(x):\n    if x.sum() > 0:\n        return x\n    return -x\n", space)

    with pytest.raises(CaptureError, match=r"the source of f cannot be read .*has control flow") as caught:
        tjit.compile(space["f"])(tensor(POSITIVE))

    assert "define the function in a file" in str(caught.value)


def test_unreadable_source_without_control_flow_is_captured():
    space: dict[str, Any] = {}
    exec("def f(x):\n    return x * 2\n", space)

    _assert_same(tjit.compile(space["f"])(tensor(POSITIVE)), tensor(POSITIVE) * 2)


def test_tensors_in_a_try_with_handlers_are_an_error():
    @tjit.compile
    def f(x):
        try:
            y = x * 2
        except RuntimeError:
            y = x
        return y

    with pytest.raises(CaptureError, match="in the body of a `try`") as caught:
        f(tensor(POSITIVE))

    assert "y = x * 2" in str(caught.value)
    assert "move the tensor code out of the try" in str(caught.value)


def test_python_in_a_try_is_python():
    table = {"a": 2.0}

    @tjit.compile
    def f(x):
        try:
            k = table["b"]
        except KeyError:
            k = table["a"]
        finally:
            x = x + 1
        return x * k

    _assert_same(f(tensor(POSITIVE)), (tensor(POSITIVE) + 1) * 2.0)


def test_del_under_a_tensor_condition_is_an_error():
    @tjit.compile
    def f(x):
        y = x
        if x.sum() > 0:
            del y
        return x

    with pytest.raises(CaptureError, match="`del` takes a value away under a condition"):
        f(tensor(POSITIVE))


def test_assigning_a_global_under_a_tensor_condition_is_an_error():
    @tjit.compile
    def f(x):
        global SEEN
        if x.sum() > 0:
            SEEN = 1
        return x

    with pytest.raises(CaptureError, match="the global SEEN is assigned under a condition"):
        f(tensor(POSITIVE))


class Counter:
    """Python state that is changed by calling a method."""

    def __init__(self):
        self.n = 0
        self.seen = set()

    def step(self, by=1):
        self.n += by
        self.seen.add(self.n)
        return self.n


def counted(x):
    counter = Counter()
    for _ in range(10):
        x = x + counter.step()
    return x * len(counter.seen)


def only_counted(x):
    counter = Counter()
    for _ in range(10):
        counter.step()
    return x * counter.n


def drawn(x):
    numbers = iter([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    for _ in range(6):
        x = x * next(numbers)
    return x


def closed_over(x):
    def make():
        n = 0

        def step():
            nonlocal n
            n += 1
            return n

        return step

    step = make()
    for _ in range(8):
        x = x + step()
    return x


def seen_by_set(x):
    seen = set()
    for i in range(8):
        if i % 3 not in seen:
            seen.add(i % 3)
            x = x * 2
    return x * len(seen)


@pytest.mark.parametrize("fn", [counted, only_counted, drawn, closed_over, seen_by_set])
def test_python_state_changes_on_every_trip(fn):
    compiled = tjit.compile(fn)

    _assert_same(compiled(tensor(POSITIVE)), fn(tensor(POSITIVE)))


def test_python_state_changed_by_a_method_under_a_tensor_condition_is_an_error():
    counter = Counter()

    @tjit.compile
    def f(x):
        if x.sum() > 0:
            counter.step()
        return x

    with pytest.raises(CaptureError, match=r"counter\.n is changed behind the variables of a loop or branch"):
        f(tensor(POSITIVE))

    assert counter.n == 0
    assert counter.seen == set()


def steps_in_a_choice(x, counter, out):
    return x * counter.step() if x.sum() > 0 else x


def appends_in_an_operator(x, counter, out):
    if x.sum() > 0 and out.append(1) is None:
        return x
    return -x


def binds_in_an_operator(x, counter, out):
    y = 1
    if x.sum() > 0 and (y := 5) > 3:
        return x * y
    return x * y


@pytest.mark.parametrize("fn", [steps_in_a_choice, appends_in_an_operator, binds_in_an_operator])
def test_expressions_that_may_not_be_evaluated_change_nothing(fn):
    counter, out = Counter(), []

    with pytest.raises(CaptureError, match="is changed behind the variables of a loop or branch"):
        tjit.compile(lambda x: fn(x, counter, out))(tensor(POSITIVE))

    assert (counter.n, out) == (0, [])


SEEN = 0


def test_methods_of_a_class_in_the_function_are_converted():
    def f(x):
        class Local:
            def go(self, y):
                if y.sum() > 0:
                    return y + x
                return y * 2

        return Local().go(x)

    compiled = tjit.compile(f)

    for values in (POSITIVE, NEGATIVE):
        _assert_same(compiled(tensor(values)), f(tensor(values)))
