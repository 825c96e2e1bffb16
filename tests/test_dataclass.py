"""tjit.dataclass against the standard library's, on the same classes."""

from __future__ import annotations

import copy
import dataclasses
import pickle
from collections.abc import Callable
from dataclasses import FrozenInstanceError, field
from typing import Any

import pytest

import tjit.dataclass as ours

KINDS = [{"frozen": frozen, "slots": slots} for frozen in (False, True) for slots in (False, True)]


def points(dataclass: Callable[..., Any], **kind: bool) -> tuple[type, type]:
    @dataclass(**kind)
    class Point:
        """A point."""

        x: float
        y: float = 2.0
        tags: list[str] = field(default_factory=list, compare=False, repr=False)
        made: list[int] = field(default_factory=lambda: [1], init=False, compare=False)

    @dataclass(**kind)
    class Named(Point):
        """A point with a name."""

        name: str = field(default="p", kw_only=True)

    return Point, Named


def seen(dataclass: Callable[..., Any], kind: dict[str, bool]) -> list[object]:
    """What one implementation does with the classes."""
    point, named = points(dataclass, **kind)
    a, b, c = point(1.0), point(1.0, tags=["t"]), named(1.0, 3.0, ["u"], name="n")
    nan = float("nan")
    found: list[object] = [
        *map(repr, (a, b, c)),
        (a == b, a == c, a != point(2.0), point(nan) == point(nan), point(float("nan")) == point(nan), a == 1),
        [f.name for f in dataclasses.fields(named)],
        dataclasses.asdict(c),
        repr(dataclasses.replace(c, x=5.0)),
        copy.deepcopy(c) == c,
        copy.copy(b).tags,
        point.__match_args__,
        point.__doc__,
        hasattr(a, "__dict__"),
        a.tags is not point(1.0).tags,
        a.made,
    ]
    with pytest.raises(TypeError) as missing:
        point()
    with pytest.raises(TypeError) as positional:
        named(1.0, 2.0, [], "n")
    found += [str(missing.value).split("__init__")[1], str(positional.value).split("__init__")[1]]
    if kind["frozen"]:
        found.append(hash(a) == hash(b))
        with pytest.raises(FrozenInstanceError) as written:
            a.x = 2.0
        with pytest.raises(FrozenInstanceError) as deleted:
            del a.x
        found += [str(written.value), str(deleted.value)]
    else:
        found.append(point.__hash__)
        a.x = 7.0
        found.append(a.x)
    return found


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_classes_behave_as_the_standard_librarys(kind: dict[str, bool]) -> None:
    assert seen(ours.dataclass, kind) == seen(dataclasses.dataclass, kind)


@ours.dataclass(frozen=True, slots=True)
class Pickled:
    """Found by name when it is unpickled."""

    x: int
    again: Pickled | None = None


def test_frozen_instances_are_pickled() -> None:
    value = Pickled(1, Pickled(2))

    assert pickle.loads(pickle.dumps(value)) == value


def test_what_a_class_defines_stays() -> None:
    @ours.dataclass(frozen=True)
    class Own:
        """With a text and an equality of its own."""

        x: int

        def __repr__(self) -> str:
            return "own"

        def __eq__(self, other: object) -> bool:
            return True

        def __hash__(self) -> int:
            return 3

    assert (repr(Own(1)), Own(1) == 2, hash(Own(1))) == ("own", True, 3)


def test_equality_by_identity_on_request() -> None:
    @ours.dataclass(frozen=True, eq=False)
    class Same:
        """Equal to itself alone."""

        x: int

    one = Same(1)

    assert one != Same(1)
    assert {one: 1}[one] == 1


def test_a_check_after_init_is_called() -> None:
    @ours.dataclass(frozen=True)
    class Checked:
        """With a positive x."""

        x: int

        def __post_init__(self) -> None:
            if self.x <= 0:
                raise ValueError(f"x is positive, not {self.x}")

    with pytest.raises(ValueError, match="x is positive, not -1"):
        Checked(-1)


def test_a_definition_compiles_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[type] = []
    compile_init = ours._compiled_init

    def noted(cls: type, frozen: bool) -> Callable[..., None]:
        compiled.append(cls)
        return compile_init(cls, frozen)

    monkeypatch.setattr(ours, "_compiled_init", noted)

    _, named = points(ours.dataclass, frozen=True)
    before = list(compiled)
    named(1.0), named(2.0)

    assert before == []
    assert compiled == [named]
