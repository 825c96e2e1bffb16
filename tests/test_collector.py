"""Python's garbage collector rests while a program is built, and is left as it was."""

from __future__ import annotations

import gc
import weakref

import pytest

import tjit
from tjit.runtime import collector


def test_it_rests_while_a_function_is_captured_and_runs_again():
    seen = []

    @tjit.compile
    def f(x):
        seen.append(gc.isenabled())
        return x + 1

    f(tjit.ones(3))

    assert seen == [False]
    assert gc.isenabled()


def test_it_runs_again_after_an_error():
    @tjit.compile
    def f(x):
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        f(tjit.ones(3))

    assert gc.isenabled()


def test_it_stays_off_where_the_user_turned_it_off():
    gc.disable()
    try:
        tjit.compile(lambda x: x * 2)(tjit.ones(3))

        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_build_is_followed_by_no_collection_of_what_it_made():
    phases = []
    x = tjit.ones(3)
    f = tjit.compile(lambda x: (x * 2).sum())
    gc.collect()
    gc.callbacks.append(lambda phase, info: phases.append(phase))
    try:
        f(x)
    finally:
        gc.callbacks.pop()

    assert not phases


def test_what_the_user_froze_stays_frozen():
    gc.freeze()
    try:
        tjit.compile(lambda x: x * 3)(tjit.ones(3))

        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_old_garbage_is_collected_after_many_builds(monkeypatch):
    monkeypatch.setattr(collector, "_MOST_AGED", 1)

    class Ring:
        def __init__(self):
            self.itself = self

    ring = Ring()
    left = weakref.ref(ring)
    gc.collect()
    del ring

    tjit.compile(lambda x: x * 4)(tjit.ones(3))

    assert left() is None
