"""What `@tjit.compile` sees of a function: compiled calls equal eager ones, whatever Python did between them."""

from __future__ import annotations

import collections
import contextlib
import copy
import dataclasses
import functools
import gc
import math
import threading
import weakref
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit import nn
from tjit.errors import ArgumentError, AutogradError, CaptureError, DTypeError
from tjit.ops.apply import state


def plain(value: Any) -> Any:
    """A value with its tensors as lists, so that it can be compared."""
    if isinstance(value, (tjit.Tensor, np.ndarray)):
        return type(value).__name__, str(value.dtype), value.tolist()
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return type(value).__name__, [plain(v) for v in value]
    return type(value).__name__, value


def same(got: Any, want: Any) -> None:
    assert repr(plain(got)) == repr(plain(want))


ONE = tjit.ones(1)

# -- Python values -----------------------------------------------------------------------------------------------------


class Holder:
    """A place for values, with every way to get at them."""

    level: Any = 1

    def __init__(self) -> None:
        self.scale: Any = 2
        self.items = [1, 2]
        self.deep = {"a": [3]}

    @property
    def doubled(self) -> Any:
        return self.items[0] * 2

    @staticmethod
    def of_class() -> Any:
        return Holder.level

    @classmethod
    def of_kind(cls) -> Any:
        return cls.level

    @tjit.compile
    def method(self, x: Any) -> Any:
        return x * self.scale * self.level

    def __call__(self, x: Any) -> Any:
        return x * self.scale


class Slotted:
    __slots__ = ("scale",)


def cell_case() -> tuple[Callable, Callable]:
    k = 2

    def change() -> None:
        nonlocal k
        k = 3

    return tjit.compile(lambda x: x * k), change


def holder_case(read: Callable, change: Callable) -> Callable[[], tuple[Callable, Callable]]:
    def case() -> tuple[Callable, Callable]:
        h = Holder()
        return tjit.compile(lambda x: x * read(h)), lambda: change(h)

    return case


def argument_case() -> tuple[Callable, Callable]:
    h = Holder()
    f = tjit.compile(lambda h, x: x * h.scale)
    return lambda x: f(h, x), lambda: setattr(h, "scale", 7)


def method_case() -> tuple[Callable, Callable]:
    h = Holder()
    return h.method, lambda: setattr(h, "scale", 7)


def hidden_case() -> tuple[Callable, Callable]:
    h = Holder()
    return h.method, lambda: setattr(h, "level", 9)


def callable_case() -> tuple[Callable, Callable]:
    h = Holder()
    return tjit.compile(h), lambda: setattr(h, "scale", 7)


def partial_case() -> tuple[Callable, Callable]:
    numbers = [2.0]
    return tjit.compile(functools.partial(lambda n, x: x * n[0], numbers)), lambda: numbers.__setitem__(0, 3.0)


def factory_case() -> tuple[Callable, Callable]:
    def make(numbers: list) -> Callable:
        return lambda x: x * numbers[0]

    first, second = [1], [2]
    both = [make(first), make(second)]
    return tjit.compile(lambda x: both[0](x) + both[1](x)), lambda: second.__setitem__(0, 7)


def slots_case() -> tuple[Callable, Callable]:
    s = Slotted()
    s.scale = 2
    return tjit.compile(lambda x: x * s.scale), lambda: setattr(s, "scale", 3)


def set_case() -> tuple[Callable, Callable]:
    names = {1, 2}

    def change() -> None:
        names.remove(1)
        names.add(3)

    return tjit.compile(lambda x: x * (5 if 3 in names else 1)), change


def deque_case() -> tuple[Callable, Callable]:
    last = collections.deque([1])
    return tjit.compile(lambda x: x * last[0]), lambda: last.__setitem__(0, 4)


def defaults_case() -> tuple[Callable, Callable]:
    def scaled(x: Any, k: Any = 2) -> Any:
        return x * k

    return tjit.compile(lambda x: scaled(x)), lambda: setattr(scaled, "__defaults__", (4,))


def mutable_default_case() -> tuple[Callable, Callable]:
    numbers = [1]

    def scaled(x: Any, *, k: Any = numbers) -> Any:
        return x * k[0]

    return tjit.compile(scaled), lambda: numbers.__setitem__(0, 6)


def wrapped_case() -> tuple[Callable, Callable]:
    numbers = [1]

    def decorate(fn: Callable) -> Callable:
        @functools.wraps(fn)
        def wrapper(*args: Any) -> Any:
            return fn(*args)

        return wrapper

    @decorate
    def scaled(x: Any) -> Any:
        return x * numbers[0]

    return tjit.compile(scaled), lambda: numbers.__setitem__(0, 6)


def zero_case() -> tuple[Callable, Callable]:
    numbers = [0.0]
    return tjit.compile(lambda x: x * numbers[0]), lambda: numbers.__setitem__(0, -0.0)


def bool_case() -> tuple[Callable, Callable]:
    numbers: list = [1]
    return tjit.compile(lambda x: x * 0 if numbers[0] is True else x), lambda: numbers.__setitem__(0, True)


def array_case() -> tuple[Callable, Callable]:
    weights = np.ones(1)
    return tjit.compile(lambda x: x * weights), lambda: weights.__setitem__(0, 5)


def tensor_case() -> tuple[Callable, Callable]:
    weights = tjit.ones(1)
    return tjit.compile(lambda x: x * weights), lambda: weights.add_(4)


CASES: dict[str, Callable[[], tuple[Callable, Callable]]] = {
    "closure variable": cell_case,
    "attribute": holder_case(lambda h: h.scale, lambda h: setattr(h, "scale", 5)),
    "list": holder_case(lambda h: h.items[1], lambda h: h.items.__setitem__(1, 5)),
    "nested": holder_case(lambda h: h.deep["a"][0], lambda h: h.deep["a"].__setitem__(0, 5)),
    "new entry": holder_case(lambda h: len(h.deep), lambda h: h.deep.update(b=1)),
    "property": holder_case(lambda h: h.doubled, lambda h: h.items.__setitem__(0, 5)),
    "getattr": holder_case(lambda h: getattr(h, "sca" + "le"), lambda h: setattr(h, "scale", 5)),
    "vars": holder_case(lambda h: vars(h)["scale"], lambda h: setattr(h, "scale", 5)),
    "argument's attribute": argument_case,
    "method's self": method_case,
    "attribute that hides the class's": hidden_case,
    "callable object": callable_case,
    "partial": partial_case,
    "closures of one factory": factory_case,
    "slots": slots_case,
    "set": set_case,
    "deque": deque_case,
    "defaults": defaults_case,
    "mutable default": mutable_default_case,
    "decorated": wrapped_case,
    "-0.0": zero_case,
    "True": bool_case,
    "array": array_case,
    "tensor": tensor_case,
}


@pytest.mark.parametrize("calls", [1, 4])
@pytest.mark.parametrize("name", CASES)
def test_a_changed_value_is_seen(name, calls):
    f, change = CASES[name]()
    before = [f(ONE).tolist() for _ in range(calls)]

    change()
    after = [f(ONE).tolist() for _ in range(calls)]

    assert len(set(map(str, before))) == len(set(map(str, after))) == 1
    assert str(before[0]) != str(after[0])


@pytest.mark.parametrize(
    "read", [lambda x: x * Holder.level, lambda x: x * Holder.of_class(), lambda x: x * Holder.of_kind()]
)
def test_a_changed_class_attribute_is_seen(read, monkeypatch):
    f = tjit.compile(read)
    assert f(ONE).tolist() == [1]

    monkeypatch.setattr(Holder, "level", 8)

    assert [f(ONE).tolist() for _ in range(4)] == [[8]] * 4


FACTOR = 2


def helper(x):
    return x * FACTOR


def test_a_global_of_a_helper_is_seen(monkeypatch):
    f = tjit.compile(lambda x: helper(x) + 1)
    assert f(ONE).tolist() == [3]

    monkeypatch.setitem(globals(), "FACTOR", 5)
    assert f(ONE).tolist() == [6]
    monkeypatch.setitem(globals(), "helper", lambda x: x)
    assert f(ONE).tolist() == [2]

    assert f.cache_info().reasons[0].startswith("global FACTOR was 2 and is 5\n  at test_capture.py:")
    assert f.cache_info().reasons[0].endswith(": return x * FACTOR")


def test_values_beside_those_that_are_named_capture_nothing():
    class Trainer:
        def __init__(self):
            self.epoch, self.history, self.model = 0, [], nn.Linear(2, 2)

        @tjit.compile
        def step(self, x):
            return self.model(x)

        def log(self):
            self.epoch += 1
            self.history.append(self.epoch)

    trainer = Trainer()
    for _ in range(5):
        trainer.step(tjit.ones(1, 2))
        trainer.log()

    assert Trainer.step.cache_info().misses == 1


def test_the_default_dtype_is_seen():
    f = tjit.compile(lambda x: tjit.zeros(2) + x)
    x = tjit.tensor(1)
    assert [f(x).dtype for _ in range(3)] == [tjit.float32] * 3
    tjit.set_default_dtype(tjit.float64)
    try:
        assert [f(x).dtype for _ in range(3)] == [tjit.float64] * 3
    finally:
        tjit.set_default_dtype(tjit.float32)
    assert f(x).dtype is tjit.float32


def test_python_arguments_are_told_apart():
    f = tjit.compile(lambda x, k: x * k)
    for k in (1, 1.0, True, 0.0, -0.0, math.nan, math.nan, np.float32(2), np.int64(3)):
        same(f(ONE, k), ONE * k)
    g = tjit.compile(lambda x, s: x[s])
    for s in (slice(None), slice(1, None), slice(None, None, 2), 0, -1, None, Ellipsis):
        same(g(tjit.arange(4), s), tjit.arange(4)[s])


# -- modules and optimizers --------------------------------------------------------------------------------------------


class Scaled(nn.Module):
    def __init__(self):
        super().__init__()
        self.w = nn.Parameter(tjit.ones(3))
        self.drop: nn.Module = nn.Dropout(0.5)
        self.factor = 1

    def forward(self, x):
        return self.drop(x * self.w) * self.factor


@pytest.mark.parametrize(
    "wrap",
    [
        tjit.compile,
        lambda m: tjit.compile(lambda x: m(x)),
        lambda m: functools.partial(tjit.compile(lambda m, x: m(x)), m),
    ],
)
@tjit.no_grad()
def test_a_module_is_followed(wrap):
    module = Scaled()
    f = wrap(module)
    x = tjit.arange(3.0)

    def check(steps=3):
        for _ in range(steps):
            tjit.manual_seed(3)
            got = f(x)
            tjit.manual_seed(3)
            same(got, module(x))

    check()
    module.eval()
    check()
    module.factor = 4
    check()
    module.w = nn.Parameter(tjit.ones(3) * 2)
    check()
    module.w.data = tjit.ones(3) * 3
    check()
    module.w.mul_(2)
    check()
    module.drop = nn.ReLU()
    check()
    module.register_forward_hook(lambda _m, _i, out: out * 0)
    check()
    module.train()
    check()


def test_a_compiled_module_has_the_modules_attributes():
    module = nn.Linear(2, 2)
    f = tjit.compile(module)

    assert [p is q for p, q in zip(f.parameters(), module.parameters(), strict=True)] == [True, True]
    f.eval()
    assert not module.training
    with pytest.raises(AttributeError, match="nothing_of_the_kind"):
        tjit.compile(lambda x: x).nothing_of_the_kind  # noqa: B018


def test_a_learning_rate_is_lifted_and_momentum_guarded():
    w, v = nn.Parameter(tjit.ones(2)), nn.Parameter(tjit.ones(2))
    ours, theirs = tjit.optim.SGD([w], lr=0.5, momentum=0.5), tjit.optim.SGD([v], lr=0.5, momentum=0.5)

    def step(optimizer, p):
        optimizer.zero_grad()
        (p * p).sum().backward()
        optimizer.step()

    f = tjit.compile(lambda: step(ours, w))

    def both():
        f()
        step(theirs, v)
        np.testing.assert_allclose(w.tolist(), v.tolist(), rtol=1e-5)

    for _ in range(4):
        both()
    misses = f.cache_info().misses
    for lr in (0.1, 0.2, 0.0):
        ours.param_groups[0]["lr"] = theirs.param_groups[0]["lr"] = lr
        both()
    assert f.cache_info().misses == misses
    ours.param_groups[0]["momentum"] = theirs.param_groups[0]["momentum"] = 0.9
    both()
    assert f.cache_info().misses == misses + 1
    assert "momentum" in f.cache_info().reasons[-1]


def test_gradients_that_come_and_go():
    w, scale = tjit.ones(2, requires_grad=True), [1.0]

    @tjit.compile
    def accumulate(x):
        (w * x * scale[0]).sum().backward()

    seen = []
    for factor, clear in ((1.0, False), (1.0, False), (2.0, False), (2.0, True), (1.0, True), (1.0, False)):
        scale[0] = factor
        if clear:
            w.grad = None
        accumulate(tjit.ones(2))
        seen.append(w.grad.tolist()[0])

    assert seen == [1, 2, 4, 2, 1, 2]


def test_requires_grad_that_is_switched():
    w = tjit.ones(1)
    f = tjit.compile(lambda x: x * w)
    for wanted in (False, True, False, True):
        w.requires_grad_(wanted)
        assert [f(ONE).requires_grad for _ in range(3)] == [wanted] * 3
    with tjit.no_grad():
        assert not f(ONE).requires_grad


# -- shapes ------------------------------------------------------------------------------------------------------------

TABLE = {3: 1, 4: 2, 5: 3}
SHAPED: dict[str, Callable] = {
    "greater": lambda x: x if x.shape[0] > 4 else x * 2,
    "equal": lambda x: x if x.shape[0] == 4 else x * 2,
    "shape equal": lambda x: x if x.shape == (4,) else x * 2,
    "in": lambda x: x if x.shape[0] in (4, 5) else x * 2,
    "in a dict": lambda x: x * TABLE.get(x.shape[0], 9),
    "in a set": lambda x: x * len({x.shape[0], 4}),
    "hash": lambda x: x * (hash(x.shape[0]) % 7),
    "isinstance": lambda x: x * 2 if isinstance(x.shape[0], int) else x,
    "range": lambda x: sum((x * i for i in range(x.shape[0])), x * 0),
    "zeros": lambda x: tjit.zeros(x.shape[0]) + x,
    "arange": lambda x: tjit.arange(x.shape[0]) * x,
    "sqrt": lambda x: x * math.sqrt(x.shape[0]),
    "power": lambda x: x * x.shape[0] ** 2,
    "divide": lambda x: x * (x.shape[0] / 2),
    "one over": lambda x: x * (1 / x.shape[0]),
    "times float": lambda x: x * (x.shape[0] * 0.5),
    "times": lambda x: x * x.shape[0],
    "modulo": lambda x: x if x.shape[0] % 2 else x * 2,
    "divmod": lambda x: x * divmod(x.shape[0], 3)[1],
    "bits": lambda x: x * (x.shape[0].bit_length() + (x.shape[0] >> 1) + (x.shape[0] & 1)),
    "round": lambda x: x * round(x.shape[0] / 3),
    "format": lambda x: x * int(f"{x.shape[0]:>4}"),
    "text of the shape": lambda x: x * len(str(x.shape)) * (3 if "4" in repr(x.shape) else 1),
    "truth": lambda x: x if x.shape[0] else x + 1,
    "minimum": lambda x: x * min(x.shape[0], 4) + max(x.shape[0], 4),
    "len": lambda x: x * len(x),
    "returned": lambda x: {"n": x.shape[0] + 1, "shape": x.shape, "x": [x * 2]},
    "row": lambda x: x[2],
    "last row": lambda x: x[-1],
    "row of size": lambda x: x[x.shape[0] // 2],
    "select": lambda x: x.select(0, 2),
    "narrow": lambda x: x.narrow(0, 1, 2),
    "from the end": lambda x: x[-3:-1],
    "split": lambda x: x.split([1, x.shape[0] - 1]),
    "squeeze": lambda x: x.squeeze(0),
    "amax": lambda x: x.amax(0),
    "argmax": lambda x: x.argmax(),
    "roll": lambda x: x.roll(1, 0) + x.flip(0),
    "list": lambda x: [row * i for i, row in enumerate(x)],
    "broadcast": lambda x: x + tjit.ones(4),
    "broadcast 1": lambda x: x + tjit.ones(1),
    "pairs": lambda x: x[:, None] - x[None, :],
    "mean": lambda x: x.sum() / x.numel(),
}


def outcome(call: Callable[[], Any]) -> Any:
    try:
        return plain(call())
    except Exception as error:
        return type(error).__name__


@pytest.mark.parametrize("name", SHAPED)
def test_sizes_that_python_asks_for(name):
    fn = SHAPED[name]
    f = tjit.compile(fn)
    for n in (3, 4, 5, 1, 0, 2, 4, 8):
        x = tjit.arange(n)
        assert repr(outcome(lambda: f(x))) == repr(outcome(lambda: fn(x))), n  # noqa: B023


def test_a_third_size_captures_nothing():
    f = tjit.compile(lambda x, y: tjit.softmax(x @ y, 1)[:2])
    for n in (3, 4, 9, 17, 2):
        f(tjit.ones(n, 5), tjit.ones(5, 6))
    assert f.cache_info().misses == 2


def test_a_dim_whose_value_is_asked_for_leaves_the_others_symbolic():
    def recurrent(x):
        h = x[0] * 0
        for t in range(x.shape[0]):
            h = h * 0.5 + x[t]
        return h

    f = tjit.compile(recurrent)
    for steps in (2, 3):
        for batch in (2, 3, 4, 5, 6):
            x = tjit.rand(steps, batch)
            np.testing.assert_allclose(f(x).numpy(), recurrent(x).numpy(), rtol=1e-6)
    assert f.cache_info().misses <= 5


def test_dims_that_are_equal_by_accident():
    f = tjit.compile(lambda x: x.sum(0) + x.shape[1])
    for shape in ((4, 4), (5, 5), (5, 6), (2, 9), (1, 1), (0, 3), (3, 0), (7, 7)):
        x = tjit.arange(math.prod(shape)).reshape(shape)
        same(f(x), x.sum(0) + shape[1])


@pytest.mark.parametrize(("dynamic", "misses"), [(True, 1), (False, 4), (None, 2)])
def test_dynamic(dynamic, misses):
    f = tjit.compile(lambda x: x * 2, dynamic=dynamic)
    for n in (3, 5, 7, 9):
        assert f(tjit.ones(n)).tolist() == [2] * n
    assert f.cache_info().misses == misses


def test_a_wrong_call_leaves_dims_symbolic():
    w = tjit.ones(3)
    f = tjit.compile(lambda x: x * w)
    f(tjit.ones(2, 3))
    with pytest.raises(RuntimeError):
        f(tjit.ones(2, 4))
    for n in (4, 5, 6, 7):
        f(tjit.ones(n, 3))
    assert f.cache_info().misses <= 4


# -- arguments and results ---------------------------------------------------------------------------------------------

Pair = collections.namedtuple("Pair", ["a", "b"])


def run_both(fn: Callable, make: Callable[[], tuple], times: int = 3) -> None:
    """Results and arguments after compiled calls are those after eager ones."""
    f = tjit.compile(fn)
    for _ in range(times):
        ours, theirs = make(), make()
        want = fn(*theirs)
        same(f(*ours), want)
        same(list(ours), list(theirs))


@pytest.mark.parametrize(
    ("fn", "make"),
    [
        (
            lambda x, n=None, *a, k=3, **kw: {"a": x, "n": n, "t": (x + 1, [None, "s", k]), "e": ()},
            lambda: (tjit.ones(2),),
        ),
        (lambda p: Pair(p.b, p.a + 1), lambda: (Pair(tjit.ones(2), tjit.zeros(2)),)),
        (lambda d: {"x": d["y"][0] + d["z"]["k"]}, lambda: ({"y": [tjit.ones(2)], "z": {"k": tjit.ones(2)}},)),
        (lambda d: d["a"] + 1, lambda: (collections.OrderedDict(a=tjit.ones(2)),)),
        (lambda *a: sum(a[1:], a[0]), lambda: (tjit.ones(2), tjit.ones(2), tjit.ones(2))),
        (lambda x, y: (y, x, x), lambda: (tjit.ones(2), tjit.zeros(1))),
        (lambda x: None, lambda: (tjit.ones(2),)),
        (lambda x: (x.dtype, 3, "text", x + 0, x.ndim), lambda: (tjit.ones(2),)),
        (lambda ls: ls[0] + ls[1], lambda: ([1, 2],)),
        (lambda x: x * 2, lambda: (tjit.zeros(0, 3),)),
        (lambda x: x.add_(1), lambda: (tjit.tensor(3.0),)),
        (lambda x: x.mul_(2), lambda: (tjit.arange(8.0)[::2],)),
        (lambda x: x.add_(1).sum(0), lambda: (tjit.arange(6.0).reshape(2, 3).T,)),
        (
            lambda x: tjit.multiply(x, 2, out=x) if isinstance(x, tjit.Tensor) else np.multiply(x, 2, out=x),
            lambda: (np.arange(8.0),),
        ),
        (lambda x: x * 2, lambda: (np.arange(8.0)[::-1],)),
        (lambda x, o: tjit.add(x, 1, out=o), lambda: (tjit.ones(3), tjit.zeros(3))),
        (lambda x: x.view(2, 3)[1][1:].mul_(5).sum() + x.sum(), lambda: (tjit.ones(6),)),
        (lambda d: d[0].add_(1) + d[1]["k"], lambda: ([tjit.ones(2), {"k": tjit.ones(2)}],)),
        (lambda x: x.copy_(x * 3), lambda: (tjit.ones(2, 3)[:, 1],)),
    ],
)  # fmt: skip
def test_structures_and_writes(fn, make):
    run_both(fn, make)


@pytest.mark.parametrize(
    "name", ["bool", "uint8", "int8", "int16", "int32", "int64", "float16", "bfloat16", "float32", "float64"]
)
def test_dtypes(name):
    dtype = getattr(tjit, name)
    run_both(lambda x: (x + x, x.sum(), x * 2, x == x, x.max(), x[:0]), lambda: (tjit.tensor([1, 0, 1]).to(dtype),))


def test_numpy_in_numpy_out():
    f = tjit.compile(lambda x, y=None: {"sum": x + 1, "arg": x, "n": 3})
    a = np.ones(2, np.float32)

    got = f(a)
    mixed = tjit.compile(lambda x, y: x + y)(a, tjit.ones(2))

    assert type(got["sum"]) is np.ndarray
    assert got["arg"] is a
    assert got["n"] == 3
    assert type(mixed) is tjit.Tensor


@pytest.mark.parametrize(
    ("value", "error"),
    [
        (np.ma.array([1.0, 2.0], mask=[False, True]), DTypeError),
        (np.ones((1, 1)).view(np.matrix), DTypeError),
        (np.zeros(2, np.clongdouble), DTypeError),
        (np.arange(2.0).astype(">f8"), DTypeError),
        (np.zeros(2, [("a", "f4"), ("b", "i1")])["a"], DTypeError),
        (np.array([None]), DTypeError),
        ({1, 2}, CaptureError),
        (bytearray(b"x"), CaptureError),
    ],
)
def test_arguments_that_are_refused(value, error):
    f = tjit.compile(lambda x: x)
    with pytest.raises(error):
        f(value)
    assert f(ONE) is ONE


@dataclasses.dataclass(eq=False)  # it has a hash: a value, no container
class Record:
    a: Any


@pytest.mark.parametrize(
    "fn",
    [
        lambda x: Record(x + 1),
        lambda x: (x * i for i in range(2)),
        lambda x: map(abs, [x]),
        lambda x: {1: {2: Record([x + 1])}},
        lambda x: np.ones(2),
        lambda x: collections.deque([x + 1]),
    ],
)
def test_results_that_are_refused(fn):
    with pytest.raises(CaptureError, match="the function returns a"):
        tjit.compile(fn)(tjit.ones(2))


def test_the_same_tensor_passed_twice():
    f = tjit.compile(lambda a, b: (a.add_(1), b * 2)[1])
    x, y = tjit.ones(2), tjit.ones(2)
    for _ in range(4):
        f(x, x)
        f(x, y)
    assert f(x, x).tolist() == [20.0, 20.0]


def test_arguments_that_overlap():
    f = tjit.compile(lambda a, b: a.add_(b))
    x = tjit.arange(6.0)
    for _ in range(4):
        with pytest.raises(ArgumentError, match="the function writes to a, whose memory overlaps that of b"):
            f(x[:4], x[2:])
    assert x.tolist() == [0, 1, 2, 3, 4, 5]
    f(x[:2], x[2:4])
    f(x[4:], x[2:4])
    assert x.tolist() == [2, 4, 2, 3, 6, 8]
    f(x[::2], x[1::2])
    assert x.tolist() == [6, 4, 5, 3, 14, 8]
    reads = tjit.compile(lambda a, b: a + b)
    assert reads(x[:2], x[1:3]).tolist() == [10, 9]


def test_views_from_outside_are_written():
    base = tjit.arange(4.0)
    view = base[1:3]

    @tjit.compile
    def f(x):
        view.add_(x)
        return view * 1

    assert [f(tjit.ones(2)).tolist() for _ in range(4)] == [[2, 3], [3, 4], [4, 5], [5, 6]]
    assert base.tolist() == [0, 5, 6, 3]


def test_a_view_beside_its_base_is_refused():
    base = tjit.arange(4.0)
    view = base[1:3]

    @tjit.compile
    def f(x):
        base.add_(x)
        return view * 1

    with pytest.raises(ArgumentError, match="overlaps"):
        f(tjit.ones(1))


# -- the random stream -------------------------------------------------------------------------------------------------


def test_one_stream_for_eager_and_compiled():
    f = tjit.compile(lambda x: F.dropout(x, 0.5) + tjit.rand(4))

    def draw(order):
        tjit.manual_seed(5)
        return [(f if o == "c" else f._tjit_function)(tjit.ones(4)).tolist() for o in order]

    assert draw("eeeeee") == draw("cececc") == draw("cccccc")


# -- calls inside of calls, errors, threads ----------------------------------------------------------------------------


def test_recursion_and_nesting():
    @tjit.compile
    def power(x, n):
        return x if n == 0 else power(x * 2, n - 1)

    outer = tjit.compile(lambda x: power(x, 3) + power(x, 1))

    assert power(ONE, 4).tolist() == [16]
    assert outer(ONE).tolist() == [10]


def test_an_exception_inside_leaves_nothing_behind():
    fails = [True]

    @tjit.compile
    def f(x):
        y = x * 2
        if fails[0]:
            raise KeyError("mine")
        return y

    for _ in range(3):
        with pytest.raises(KeyError, match="mine"):
            f(ONE)
        assert state.trace is None
        assert state.grad
    fails[0] = False
    assert f(ONE).tolist() == [2]


def test_a_grad_mode_that_is_left_changed_is_refused():
    def f(x):
        tjit.set_grad_enabled(False)
        return x

    with pytest.raises(CaptureError, match="leaves the grad mode changed"):
        tjit.compile(f)(ONE)
    assert tjit.is_grad_enabled()


USES: dict[str, Callable] = {
    "add": lambda t: t + 1,
    "sum": lambda t: t.sum(),
    "item": lambda t: t.item(),
    "bool": bool,
    "write": lambda t: t.add_(1),
    "numpy": np.asarray,
    "index": lambda t: t[0],
    "eager operand": lambda t: tjit.ones(2) @ t,
    "other capture": lambda t: tjit.compile(lambda x: x + t)(tjit.ones(2)),
    "returned": lambda t: tjit.compile(lambda x: (x, t))(tjit.ones(2)),
    "argument": lambda t: tjit.compile(lambda x: x * 2)(t),
    "backward": lambda t: t.sum().backward(),
}


@pytest.mark.parametrize("use", USES)
def test_a_tensor_kept_from_capture_is_refused(use):
    kept = []

    @tjit.compile
    def f(x):
        kept.append(x * 2)
        return x

    f(tjit.ones(2))

    with pytest.raises(CaptureError, match="was kept from the capture"):
        USES[use](kept[0])
    assert "f32[2]" in repr(kept[0]) or "kept" in repr(kept[0])
    f(tjit.ones(2))


def test_many_threads_make_the_first_call():
    f = tjit.compile(lambda x: (x * 2).sum())
    start, wrong = threading.Barrier(8), []

    def run(n):
        start.wait()
        for k in range(30):
            size = n + k % 3
            got = f(tjit.ones(size)).item()
            if got != 2.0 * size:
                wrong.append((size, got))

    threads = [threading.Thread(target=run, args=(i + 2,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []
    assert f.cache_info().misses == 2


def test_threads_capture_different_functions_at_once():
    wrong = []

    def run(k):
        for n in (3, 4, 5, 6):
            f = tjit.compile(lambda x: x * k if x.shape[0] == 4 else x + k)
            for size in (n, n + 1, 4):
                x = tjit.ones(size)
                if f(x).tolist() != f._tjit_function(x).tolist():
                    wrong.append((k, size))

    threads = [threading.Thread(target=run, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert wrong == []


# -- gradients from outside --------------------------------------------------------------------------------------------


def partly_recorded(x):
    with tjit.no_grad():
        a = x * 2
    return a * x


def written_inside(x, y):
    z = x * 1
    z[0] = y[0]
    z.mul_(2)
    return z


DIFFERENTIATED: dict[str, tuple[Callable, tuple]] = {
    "product": (lambda x, y: x * y, ((3,), (3,))),
    "unused input": (lambda x, y: x * x, ((3,), (3,))),
    "several outputs": (lambda x, y: (x * y, x.sum(), y.exp()), ((3,), (3,))),
    "outputs without gradient": (lambda x: (x * x, x.argmax(), x > 0), ((3,),)),
    "network": (lambda x, w: tjit.tanh(x @ w).sum(), ((3, 4), (4, 2))),
    "softmax": (lambda x: tjit.softmax(x, -1), ((3, 4),)),
    "detached": (lambda x: x * x.detach(), ((3,),)),
    "partly recorded": (partly_recorded, ((3,),)),
    "an argument": (lambda x: (x, x * 2), ((3,),)),
    "views": (lambda x: (x.T, x[0]), ((3, 2),)),
    "twice": (lambda x: [x * 2] * 2, ((3,),)),
    "written": (written_inside, ((3,), (2,))),
    "gather": (lambda x: x[tjit.tensor([0, 2, 0])] ** 2, ((3,),)),
}


def total(result: Any) -> Any:
    parts = result if isinstance(result, (tuple, list)) else [result]
    return sum((p * p).sum() for p in parts if p.requires_grad)


def assert_same_gradients(got: Any, want: Any) -> None:
    for g, w in zip(got, want, strict=True):
        assert (g is None) is (w is None)
        if g is not None:
            np.testing.assert_allclose(g.detach().numpy(), w.detach().numpy(), rtol=1e-8)


@pytest.mark.parametrize("name", DIFFERENTIATED)
def test_gradients_of_first_and_second_order(name, rng):
    fn, shapes = DIFFERENTIATED[name]
    f = tjit.compile(fn)
    arrays = [rng.standard_normal(s) for s in shapes]
    ours, theirs = ([tjit.tensor(a, requires_grad=True) for a in arrays] for _ in range(2))
    for _ in range(4):
        total(f(*ours)).backward()
        total(fn(*theirs)).backward()
        assert_same_gradients([t.grad for t in ours], [t.grad for t in theirs])
        options = {"create_graph": True, "allow_unused": True}
        first = [tjit.autograd.grad(total(g(*t)), t, **options) for g, t in ((f, ours), (fn, theirs))]
        sums: list[Any] = [sum((g * g).sum() for g in found if g is not None) for found in first]
        second = [tjit.autograd.grad(s, t, allow_unused=True) for s, t in zip(sums, (ours, theirs), strict=True)]
        assert_same_gradients(first[0], first[1])
        assert_same_gradients(second[0], second[1])


def test_backward_twice_needs_retain_graph():
    x = tjit.ones(2, requires_grad=True)
    y = tjit.compile(lambda x: (x * x).sum())(x)
    y.backward(retain_graph=True)
    y.backward()
    assert x.grad.tolist() == [4, 4]
    with pytest.raises(AutogradError, match="second time"):
        y.backward()


def test_saved_arrays_are_released_after_backward():
    x = tjit.rand(1000, requires_grad=True)
    f = tjit.compile(lambda x: tjit.softmax(x, 0) * 2)
    for _ in range(4):
        y = f(x)
        kept = [weakref.ref(a) for a in y.grad_fn.attrs["kept"] if a is not x._data]
        assert kept
        assert all(r() is not None for r in kept)
        (y * y).sum().backward()
        gc.collect()
        assert all(r() is None for r in kept)


@pytest.mark.parametrize("calls", [1, 4])
def test_an_input_that_is_written_before_backward_is_refused(calls):
    x, w = tjit.ones(2, requires_grad=True), tjit.ones(2)
    f = tjit.compile(lambda x, w: x * w)
    y = [f(x, w) for _ in range(calls)][-1]
    w.add_(1)
    with pytest.raises(AutogradError, match="modified by an in-place operation"):
        y.sum().backward()


def test_an_output_that_is_written_before_backward():
    x = tjit.tensor([0.0, 1.0], requires_grad=True)
    f = tjit.compile(lambda x: tjit.softmax(x, 0))
    y = f(x)
    z = y[0] * 1
    with tjit.no_grad():
        y.mul_(0)
    with contextlib.suppress(AutogradError):  # an error or the right gradient
        z.backward()
        a = math.exp(1) / (1 + math.exp(1)) ** 2
        np.testing.assert_allclose(x.grad.tolist(), [a, -a], rtol=1e-6)


def test_tensors_from_outside_keep_their_history():
    x = tjit.ones(2, requires_grad=True)
    y = x * 3
    history = y.grad_fn
    f = tjit.compile(lambda a: a * y)

    for n in range(1, 5):
        f(tjit.ones(2)).sum().backward(retain_graph=True)
        assert x.grad.tolist() == [3.0 * n] * 2
    assert y.grad_fn is history
    assert not y.is_leaf
    assert y._grad is None


def test_backward_inside_does_not_reach_outside():
    x = tjit.ones(2, requires_grad=True)
    f = tjit.compile(lambda y: (y * 2).sum().backward())
    with pytest.raises(CaptureError, match="computed outside of it"):
        f(x * 3)
    assert x.grad is None


def test_values_with_gradients_are_not_written_outside():
    w, buffer = tjit.ones(2, requires_grad=True), tjit.zeros(2)

    def closure(x):
        buffer.add_(x * w)

    for fn, args in ((closure, ()), (lambda x, b: b.add_(x * w), (buffer,))):
        with pytest.raises(CaptureError, match="writes a value with a gradient"):
            tjit.compile(fn)(tjit.ones(2), *args)
        assert not buffer.requires_grad
        assert buffer.tolist() == [0, 0]


def test_batches_of_norms_written_and_differentiated(rng):
    ours = nn.BatchNorm1d(3).double()
    theirs = copy.deepcopy(ours)
    f = tjit.compile(ours)
    for n in (4, 5, 6, 7):
        x = tjit.tensor(rng.standard_normal((n, 3)))
        (f(x) ** 3).sum().backward()
        (theirs(x) ** 3).sum().backward()
        np.testing.assert_allclose(ours.weight.grad.numpy(), theirs.weight.grad.numpy(), rtol=1e-9)
        np.testing.assert_allclose(ours.running_var.numpy(), theirs.running_var.numpy(), rtol=1e-9)


def _steps_with_a_backward(w):
    """A loss that was differentiated, what is computed from it, and what is not."""
    loss = (w * w).sum()
    loss.backward()
    return loss, loss * 2, (w * 3).sum(), (w * 2).detach()


def test_a_history_that_backward_freed_inside_raises_later_as_eager_does():
    w = tjit.tensor([1.0, 2.0], requires_grad=True)
    f = tjit.compile(lambda: _steps_with_a_backward(w))

    for results in [f() for _ in range(4)]:
        w.grad = None
        loss, double, other, plain_ = results
        assert [t.requires_grad for t in results] == [True, True, True, False]
        for freed in (loss, double, loss + other):
            with pytest.raises(AutogradError, match="a second time: its saved values have been freed"):
                freed.backward()
        other.backward()
        assert np.asarray(w.grad).tolist() == [3, 3]
        assert plain_.tolist() == [2, 4]


def test_a_returned_loss_is_native_with_its_freed_history():
    w = tjit.tensor([1.0, 2.0], requires_grad=True)

    @tjit.compile
    def step():
        w.grad = None
        loss = (w * w).sum()
        loss.backward()
        return loss

    for _ in range(4):
        step()
    python = step._hits
    loss = step()

    assert step._hits == python
    assert loss.item() == 5
    assert np.asarray(w.grad).tolist() == [2, 4]
    with pytest.raises(AutogradError, match="a second time"):
        loss.backward()
