"""Eager ops say nothing of inf and nan, and leave the caller's context variables alone."""

from __future__ import annotations

import os
import subprocess
import sys
import warnings
from contextvars import ContextVar

import numpy as np
import pytest

import tjit
from tjit.quiet import quietly


def test_overflow_division_by_zero_and_invalid_numbers_raise_no_warning():
    x = tjit.tensor([0.0, 1e38, float("inf")])

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        results = [1 / x, x * x, x - x, x.log(), tjit.tensor(1e300, dtype=tjit.float32)]

    assert results[2].isnan().tolist() == [False, False, True]
    with pytest.warns(RuntimeWarning, match="divide by zero"):
        np.ones(1) / np.zeros(1)


def test_calls_inside_of_another_and_errors_are_quiet_too():
    def inner():
        return np.ones(1) / np.zeros(1)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert quietly(lambda: quietly(inner) + inner()) == np.inf
        with pytest.raises(ZeroDivisionError):
            quietly(lambda: 1 // 0)
        assert quietly(inner) == np.inf


def test_an_op_sets_no_context_variable():
    x = tjit.ones(3) + 1  # the first one makes a context to run in
    called = []
    sys.setprofile(lambda frame, event, c: called.append(c) if event == "c_call" else None)
    try:
        _ = (x / 0).exp() + x
    finally:
        sys.setprofile(None)

    assert called
    assert [c for c in called if isinstance(getattr(c, "__self__", None), ContextVar)] == []


# Before Python 3.12 a collection may begin inside of ContextVar.set; PYTHONMALLOC=debug overwrites what is freed.
_FINALIZERS = """
import gc, random
from contextvars import ContextVar, copy_context
import tjit

kept = [ContextVar(f"v{i}") for i in range(3)]
for i, variable in enumerate(kept):
    variable.set(i)

class Loop:
    def __init__(self):
        self.me = self

    def __del__(self):
        for n in range(1, 4):
            tjit.ones(n) + tjit.ones(n)

thresholds = random.Random(0)
for _ in range(5000):
    Loop()
    gc.set_threshold(thresholds.randrange(5, 60))
    assert (tjit.ones(3) + tjit.ones(3)).tolist() == [2, 2, 2]
assert sorted(copy_context().values()) == [0, 1, 2]
"""


def test_finalizers_may_call_ops_in_the_middle_of_another():
    done = subprocess.run(
        [sys.executable, "-X", "faulthandler", "-c", _FINALIZERS],
        env={**os.environ, "PYTHONMALLOC": "debug"},
        capture_output=True,
        text=True,
    )

    assert (done.returncode, done.stderr) == (0, "")
