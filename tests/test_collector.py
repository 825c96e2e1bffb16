"""Python's garbage collector rests while a program is built, and is left as it was."""

from __future__ import annotations

import gc

import pytest

import tjit


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
