"""Rewritten source runs as the source does: values, what is changed in place, exceptions and their lines."""

from __future__ import annotations

import bisect
import copy
import math
import traceback
from types import SimpleNamespace
from typing import Any

import pytest
import random_sources
import source_cases
from source_cases import CASES

from tjit.capture.calls import callee
from tjit.capture.source import converted
from tjit.errors import CaptureError
from tjit.ops.apply import state


@pytest.fixture
def converting():
    """What is called is converted as well, while nothing is traced."""
    before, state.trace = state.trace, SimpleNamespace(converts=True, numpy=False)  # pyright: ignore[reportAttributeAccessIssue]  # no Tracer: nothing is traced
    yield
    state.trace = before


def _outcome(fn: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """What a call returns or raises, and its arguments after it."""
    args = copy.deepcopy(args)
    try:
        return "returned", fn(*args), args
    except RecursionError:
        raise
    except Exception as error:
        cause = (type(error.__cause__), type(error.__context__))
        return "raised", type(error), str(error), cause, args, _lines(error, fn.__code__.co_filename)


def _lines(error: Exception, file: str) -> list[int]:
    """The lines of `file` in the traceback of `error`."""
    frames = traceback.extract_tb(error.__traceback__)
    return [f.lineno or 0 for f in frames if f.filename == file]


def _compare(fn: Any, new: Any, args: tuple[Any, ...]) -> None:
    """Both do the same; the rewritten function has more frames, but ends in the same line by way of the same lines."""
    expected, got = _outcome(fn, args), _outcome(new, args)
    if expected[0] == "raised" and got[0] == "raised":
        *expected, lines = expected
        *got, more = got
        rest = iter(more)

        assert more[-1:] == lines[-1:]
        assert all(line in rest for line in lines), (lines, more)
    assert repr(got) == repr(expected)
    assert got == expected


@pytest.mark.parametrize(("fn", "calls"), CASES, ids=[f"{f.__name__}{i}" for i, (f, _) in enumerate(CASES)])
def test_a_rewritten_function_does_what_the_function_does(fn, calls):
    new = converted(fn)

    assert new is not fn
    for args in calls:
        _compare(fn, new, args)


@pytest.mark.parametrize(("fn", "calls"), CASES, ids=[f"{f.__name__}{i}" for i, (f, _) in enumerate(CASES)])
def test_so_do_the_functions_it_calls(fn, calls, converting):
    for args in calls:
        _compare(fn, callee(fn), args)


def test_the_table_is_long():
    assert len(CASES) >= 120


@pytest.mark.parametrize("seed", range(150))
def test_random_programs(seed):
    fn = random_sources.function(seed)
    new = converted(fn)

    for args in random_sources.arguments(seed):
        _compare(fn, new, args)


def test_a_function_keeps_what_it_is():
    new = converted(source_cases.star_arguments)

    assert new.__name__ == "star_arguments"
    assert new.__qualname__ == source_cases.star_arguments.__qualname__
    assert new.__module__ == "source_cases"
    assert new.__globals__ is source_cases.star_arguments.__globals__
    assert new.__defaults__ == (5, 7)
    assert new.__dict__ is source_cases.star_arguments.__dict__


def test_a_rewritten_function_has_the_variables_of_the_function():
    n = 0

    def step():
        nonlocal n
        if n < 5:
            n += 1
        return n

    converted(step)()

    assert n == 1
    assert step() == 2


def test_a_conversion_is_made_once():
    fn = source_cases.sieve

    assert converted(fn).__code__ is converted(fn).__code__
    assert converted(converted(fn)).__code__ is converted(fn).__code__


def test_source_that_is_no_longer_the_functions_is_not_used(tmp_path):
    file = tmp_path / "edited.py"
    file.write_text("def g(x, y):\n    return x if y else 0\n")
    space: dict[str, Any] = {}
    exec(compile("def f(x):\n    return x if x else 1\n", str(file), "exec"), space)

    with pytest.raises(CaptureError, match="changed since the function was made"):
        converted(space["f"])


def test_functions_of_the_standard_library_are_left_alone(converting):
    assert callee(copy.deepcopy) is copy.deepcopy
    assert callee(bisect.bisect) is bisect.bisect
    assert callee(math.gcd)(12, 18) == 6  # of numbers that vary it is done again by each call


@pytest.mark.parametrize("position", range(3))
def test_lambdas_on_a_line_are_told_apart(position):
    fns = [lambda x: x and 1, lambda x: (lambda: x or 2)(), lambda x: x or 2]
    inner = (lambda x: lambda: x or "inner")(0)

    assert converted(fns[position])(0) == (0, 2, 2)[position]
    assert converted(inner)() == "inner"
