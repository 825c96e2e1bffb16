"""Autotuning: what is measured, that the choice is kept, and that damage to it does no harm."""

from __future__ import annotations

import json

import numpy as np
import pytest

import tjit
from tjit.codegen.kernel import Blocking, ContractKernel
from tjit.codegen.steps import kernel_steps
from tjit.runtime import tuning
from tjit.runtime.cache import Cache

CHOICE = Blocking(k=96, m=28, n=64, packs_a=True, packs_b=True)


@pytest.fixture
def measured(monkeypatch, tmp_path):
    """The kernels that were measured, each with the same choice; nothing is known before."""
    kernels: list[ContractKernel] = []

    def measure(kernel):
        kernels.append(kernel)
        return CHOICE

    monkeypatch.setattr(tuning, "_measured", measure)
    monkeypatch.setattr(tuning, "_chosen", {})
    cache = Cache(str(tmp_path / "tjit"))
    for module in ("tjit.runtime.tuning", "tjit.compiled"):
        monkeypatch.setattr(f"{module}.default_cache", lambda: cache)
    return kernels


def contraction(fn, *args):
    """The first contraction of the program of a call."""
    plan = fn.lower(*args).schedule()
    return next(s.kernel for s in kernel_steps(plan) if isinstance(s.kernel, ContractKernel))


def matrices(rng, *shapes):
    return [rng.standard_normal(shape, dtype=np.float32) for shape in shapes]


def test_a_tuned_function_computes_the_same(measured, rng):
    x, w, bias = matrices(rng, (150, 300), (300, 200), (200,))
    fn = tjit.compile(lambda x, w, bias: tjit.relu(x @ w + bias), tune=True)

    y = fn(x, w, bias)

    np.testing.assert_allclose(y, np.maximum(x @ w + bias, 0), rtol=2e-5, atol=2e-4)
    assert len(measured) == 1
    assert contraction(fn, x, w, bias).blocking == CHOICE
    assert "blocks (k 96, m 28, n 64, a packed, b packed)" in fn.lower(x, w, bias).text("schedule")


def test_without_tune_nothing_is_measured(measured, rng):
    a, b = matrices(rng, (150, 300), (300, 200))
    fn = tjit.compile(lambda a, b: a @ b)

    fn(a, b)

    assert not measured
    assert contraction(fn, a, b).blocking == Blocking()


def test_small_and_symbolic_contractions_are_not_measured(measured, rng):
    fn = tjit.compile(lambda a, b: a @ b, tune=True)

    for rows in (8, 400, 500):  # the second size makes the dim symbolic
        a, b = matrices(rng, (rows, 64), (64, 100))
        fn(a, b)

    assert not measured


@pytest.mark.parametrize("seconds", [0.001, 0.1, 5.0])
def test_measuring_ends_after_about_a_second_of_runs(seconds, rng, monkeypatch):
    """By a clock that runs with the runs."""
    now = [0.0]
    ways: list[Blocking] = []

    class Program:
        def run(self, inputs):
            now[0] += seconds

    def program(kernel):
        ways.append(kernel.blocking)
        return Program()

    monkeypatch.setattr(tuning, "_program", program)
    monkeypatch.setattr(tuning.time, "perf_counter", lambda: now[0])

    chosen = tuning._measured(untuned(*matrices(rng, (1100, 300), (300, 700))))

    assert chosen == Blocking()
    assert len(ways) > 4 if seconds < 0.1 else len(ways) >= 2
    assert now[0] <= 1 + 6 * seconds


def test_the_choice_is_remembered(measured, rng, monkeypatch):
    a, b = matrices(rng, (150, 300), (300, 200))
    kernel = untuned(a, b)

    first = tuning.tuned_blocking(kernel)
    again = tuning.tuned_blocking(kernel)
    monkeypatch.setattr(tuning, "_chosen", {})  # as in a new process
    later = tuning.tuned_blocking(kernel)

    assert first == again == later == CHOICE
    assert len(measured) == 1


def untuned(a, b):
    return contraction(tjit.compile(lambda a, b: a @ b), a, b)


DAMAGED = (b"", b"\xff\xfe", b"[]", b"7", b"{}", b'{"k": -1}', None)


@pytest.mark.parametrize("data", DAMAGED)
def test_a_damaged_choice_is_ignored(data, measured, rng):
    a, b = matrices(rng, (150, 300), (300, 200))
    kernel = untuned(a, b)
    if data is None:
        data = json.dumps({"k": "96", "m": None, "n": None, "packs_a": None, "packs_b": 5}).encode()
    tuning.default_cache().put(tuning._key(kernel), "tuning", data)

    found = tuning.tuned_blocking(kernel)

    assert found == CHOICE
    assert len(measured) == 1
    assert tuning._parsed(tuning.default_cache().get(tuning._key(kernel), "tuning")) == CHOICE


def test_exports_are_cut_like_calls(measured, rng, tmp_path):
    @tjit.compile(tune=True)
    def product(a, b):
        return a @ b

    a, b = matrices(rng, (150, 300), (300, 200))
    expected = product(a, b)

    package = tjit.export(product, (a, b), tmp_path / "product.tjit")

    assert len(measured) == 1  # the same kernel: asked for, and known
    np.testing.assert_array_equal(package["product"](a, b), expected)


def test_a_measurement_ends_in_a_way_to_cut(rng):
    a, b = matrices(rng, (120, 130), (130, 140))

    found = tuning._measured(untuned(a, b))

    assert isinstance(found, Blocking)
    assert tuning._parsed(json.dumps({f: getattr(found, f) for f in found.__slots__}).encode()) == found
