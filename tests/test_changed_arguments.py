"""Containers among the arguments that a compiled function changes: the caller sees what eager shows."""

from __future__ import annotations

import dataclasses
from collections import OrderedDict, namedtuple
from collections.abc import Callable
from typing import Any

import pytest

import tjit

Pair = namedtuple("Pair", "first second")


@dataclasses.dataclass
class Batch:
    x: Any
    weight: float = 1.0
    seen: list = dataclasses.field(default_factory=list)

    @property
    def total(self) -> Any:
        return self.x.sum() * self.weight


@dataclasses.dataclass(slots=True)
class Slots:
    x: Any
    n: int = 0


def _append(x: Any, items: list) -> Any:
    items.append(x * 2)
    return x.sum()


def _set(x: Any, stats: dict) -> Any:
    stats["n"] += 1
    stats["mean"] = stats["mean"] * 0.5 + x.mean()
    stats.setdefault("first", x.amax())
    return stats["mean"]


def _remove(x: Any, items: list) -> Any:
    last = items.pop()
    del items[0]
    return x + last


def _nested(x: Any, layers: list) -> None:
    for layer in layers:
        layer["w"] = layer["w"] - 0.1 * x
        layer["seen"].append(layer["w"].sum())


def _swap(x: Any, items: list) -> Any:
    items[0], items[1] = items[1], items[0]
    return x


def _in_a_branch(x: Any, stats: dict) -> Any:
    if x.sum() > 0:
        stats["most"] = x.amax()
    return x


def _in_a_loop(x: Any, items: list) -> Any:
    for i in range(4):
        items[i % 2] += x * i
    return x


def _in_a_tuple(x: Any, pair: Any) -> Any:
    pair.second[0] = x
    return pair.first * 2


def _fields(x: Any, batch: Any) -> Any:
    batch.x = batch.x + x
    batch.weight *= 0.5
    batch.seen.append(batch.total)
    return batch.total


def _new_attribute(x: Any, batch: Any) -> Any:
    batch.more = x * 2
    return batch


def _slots(x: Any, state: Any) -> Any:
    state.n += 1
    state.x = state.x + x
    return state.x * state.n


CASES: dict[str, tuple[Callable, Callable]] = {
    "append": (_append, lambda: []),
    "set": (_set, lambda: {"n": 0, "mean": tjit.zeros(())}),
    "ordered": (_set, lambda: OrderedDict(mean=tjit.ones(()), n=3)),
    "remove": (_remove, lambda: [tjit.zeros(2), tjit.ones(2), tjit.full((2,), 2.0)]),
    "nested": (_nested, lambda: [{"w": tjit.ones(2), "seen": []}, {"w": tjit.zeros(2), "seen": [1]}]),
    "swap": (_swap, lambda: [tjit.zeros(2), tjit.ones(2)]),
    "branch": (_in_a_branch, lambda: {"most": tjit.zeros(())}),
    "loop": (_in_a_loop, lambda: [tjit.zeros(2), tjit.ones(2)]),
    "dataclass": (_fields, lambda: Batch(tjit.ones(2))),
    "attribute": (_new_attribute, lambda: Batch(tjit.ones(2))),
    "slots": (_slots, lambda: Slots(tjit.ones(2))),
    "named tuple": (_in_a_tuple, lambda: Pair(tjit.ones(2), [tjit.zeros(2)])),
}


def _plain(value: Any) -> Any:
    if isinstance(value, tjit.Tensor):
        return value.tolist()
    if isinstance(value, dict):
        return {k: _plain(v) for k, v in value.items()}
    if isinstance(value, Slots):
        return [_plain(value.x), value.n]
    if isinstance(value, Batch):
        return _plain(vars(value))
    return [_plain(v) for v in value] if isinstance(value, (list, tuple)) else value


@pytest.mark.parametrize("name", CASES)
def test_the_caller_sees_what_eager_shows(name):
    fn, make = CASES[name]
    compiled = tjit.compile(fn)

    for call in range(5):
        x, expected, got = tjit.tensor([1.0, call]), make(), make()
        assert _plain(compiled(x, got)) == _plain(fn(x, expected))
        assert _plain(got) == _plain(expected)
        assert list(got) == list(expected) if isinstance(got, dict) else True


def test_what_is_changed_stays_the_object_that_it_was():
    inner = [tjit.zeros(2)]
    outer = {"inner": inner, "kept": inner[0]}

    @tjit.compile
    def f(x, outer):
        outer["inner"].append(x)

    f(tjit.ones(2), outer)

    assert outer["inner"] is inner
    assert len(inner) == 2
    assert inner[0] is outer["kept"]


def test_a_keyword_argument_is_changed_too():
    stats: dict = {}

    tjit.compile(lambda x, stats: stats.update(sum=x.sum()))(tjit.ones(3), stats=stats)

    assert stats["sum"].item() == 3


def test_gradients_flow_from_what_is_left_in_an_argument():
    w, kept = tjit.ones(3, requires_grad=True), []

    @tjit.compile
    def f(w, kept):
        kept.append((w * w).sum())
        return w * 2

    f(w, kept)
    kept[0].backward()

    assert w.grad is not None
    assert w.grad.tolist() == [2, 2, 2]


def test_a_list_passed_twice_is_refused_where_it_is_changed():
    @tjit.compile
    def f(x, a, b):
        a.append(x)
        return x

    items: list = []

    with pytest.raises(ValueError, match=r"changes its arguments, of which two are one list\n(?s:.*)hint: pass a copy"):
        f(tjit.ones(2), items, items)
    assert items == []


def test_a_list_that_moves_is_refused():
    @tjit.compile
    def f(x, rows):
        rows[0], rows[1] = rows[1], rows[0]
        return x

    with pytest.raises(RuntimeError, match="moves a list of its arguments to another place in them"):
        f(tjit.ones(2), [[tjit.ones(2)], [tjit.zeros(2)]])


def test_calls_with_other_instances_of_a_dataclass_are_one_capture():
    total = tjit.compile(lambda batch: batch.total)

    for i in range(6):
        assert total(Batch(tjit.full((3,), float(i)))).item() == 3 * i
    assert total.cache_info().misses == 1

    assert total(Batch(tjit.ones(3), weight=2.0)).item() == 6


def test_a_dataclass_is_returned_with_its_type():
    made = tjit.compile(lambda x: Batch(x * 2, 3.0))(tjit.ones(2))

    assert type(made) is Batch
    assert made.total.item() == 12


def test_an_exported_function_takes_dataclasses(tmp_path):
    def total(batch):
        return batch.total, batch

    path = str(tmp_path / "total.tjit")
    tjit.export(total, (Batch(tjit.ones(3)),), path)

    found, whole = tjit.load(path)["total"](Batch(tjit.full((3,), 2.0)))

    assert found.item() == 6
    assert whole["x"].tolist() == [2, 2, 2]
    assert whole["weight"] == 1.0


def test_a_change_of_the_number_of_arguments_is_told():
    f = tjit.compile(lambda x, y=None: x)

    f(tjit.ones(2))
    f(tjit.ones(2), tjit.ones(2))

    assert f.cache_info().reasons[0].startswith("it was called with 1 argument and is called with 2 arguments\n")


@pytest.mark.parametrize("kind", ["branch", "for", "while"])
def test_a_list_that_replaces_an_argument_leaves_it_alone(kind):
    def branch(x, items):
        if x.sum() > 0:
            items = [x * 2]
        return items[0]

    def counted(x, items):
        for _ in range(tjit.tensor(3)):
            items = [items[0] + x]
        return items[0]

    def repeated(x, items):
        while items[0].sum() < 3:
            items = [items[0] + x]
        return items[0]

    items = [tjit.zeros(2)]

    found = tjit.compile({"branch": branch, "for": counted, "while": repeated}[kind])(tjit.ones(2), items)

    assert found.tolist() == ([3, 3] if kind == "for" else [2, 2])
    assert items[0].tolist() == [0, 0]
