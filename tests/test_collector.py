"""Python's garbage collector rests while a program is built, and is left as it was."""

from __future__ import annotations

import gc

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


def _collections_after_a_build():
    phases = []
    gc.collect()
    gc.callbacks.append(lambda phase, info: phases.append(phase))
    try:
        with collector.paused_collection():
            made = [[] for _ in range(10_000)]
        made += [[] for _ in range(10)]
    finally:
        gc.callbacks.pop()
    return phases


def test_first_builds_are_followed_by_no_collection_of_what_they_made(monkeypatch):
    monkeypatch.setattr(collector, "_aged", 0)

    assert not _collections_after_a_build()


def test_later_builds_leave_collections_to_python(monkeypatch):
    monkeypatch.setattr(collector, "_aged", collector._MOST_AGED)

    assert _collections_after_a_build()


def test_what_the_user_froze_stays_frozen(monkeypatch):
    monkeypatch.setattr(collector, "_aged", 0)
    gc.freeze()
    try:
        tjit.compile(lambda x: x * 3)(tjit.ones(3))

        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()
