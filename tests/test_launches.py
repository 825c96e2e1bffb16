"""Kernels that have nothing to do with each other share one fork-join."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tjit.codegen.launches import launches
from tjit.codegen.steps import Step, kernel_steps
from tjit.runtime.threads import get_num_threads, set_num_threads

SIZES = (64, 9408, 1, 250_000, 128, 8192, 17, 65_537)


@pytest.fixture
def threads():
    before = get_num_threads()
    yield set_num_threads
    set_num_threads(before)


def _arrays(rng, sizes=SIZES):
    return [rng.standard_normal(n).astype(np.float32) for n in sizes]


def _update(ps, gs):
    for p, g in zip(ps, gs, strict=True):
        p.sub_(0.1 * tjit.exp(g))


def _lengths(plan):
    return [len(launch) for launch in launches(plan.steps)]


def test_updates_of_many_parameters_are_one_launch(rng):
    ps, gs = ([tjit.tensor(a) for a in _arrays(rng)] for _ in range(2))

    plan = tjit.compile(_update).lower(ps, gs).schedule()

    assert _lengths(plan) == [len(SIZES)]
    assert str(plan).count(" and ") >= len(SIZES) - 1


def test_what_a_launch_computes_is_what_each_kernel_does(rng, threads):
    starts, gs = _arrays(rng), _arrays(rng)
    results = []
    for count in (1, 2, 3):
        threads(count)
        ps = [tjit.tensor(p.copy()) for p in starts]
        tjit.compile(_update)(ps, [tjit.tensor(g) for g in gs])
        results.append([p.numpy() for p in ps])

    for p, g, *found in zip(starts, gs, *results, strict=True):
        np.testing.assert_allclose(found[0], p - np.float32(0.1) * np.exp(g), rtol=1e-5, atol=1e-6)
        assert all(np.array_equal(found[0], other) for other in found[1:])


def test_little_work_is_no_launch(rng):
    ps, gs = ([tjit.tensor(a) for a in _arrays(rng, (3, 4, 5))] for _ in range(2))

    plan = tjit.compile(_update).lower(ps, gs).schedule()

    assert not any(step.joined for step in kernel_steps(plan))


def test_a_kernel_that_reads_what_another_writes_waits_for_it(rng):
    x = tjit.tensor(rng.standard_normal((300, 500)).astype(np.float32))

    def two_means(x):
        centred = x - x.mean(0)
        return centred / centred.abs().mean(1, keepdim=True), x.sum(1) + 1

    compiled = tjit.compile(two_means)
    got, plan = compiled(x), compiled.lower(x).schedule()

    for launch in launches(plan.steps):
        written: set = set()
        for step in launch:
            assert isinstance(step, Step)
            assert written.isdisjoint(step.arguments)
            outputs = set(map(id, step.kernel.outputs))
            written |= {p for b, p in zip(step.kernel.buffers, step.arguments, strict=True) if id(b) in outputs}
    for a, b in zip(got, two_means(x), strict=True):
        np.testing.assert_allclose(a.numpy(), b.numpy(), rtol=1e-4, atol=1e-5)


def test_launches_inside_a_loop_use_the_trips_memory(rng):
    ps, gs = ([tjit.tensor(a) for a in _arrays(rng, (30_000, 50_000))] for _ in range(2))
    expected = [p.numpy() - 7 * np.float32(0.1) * np.exp(g.numpy()) for p, g in zip(ps, gs, strict=True)]

    @tjit.compile
    def train(a, b, g, h, n):
        for _ in range(n):
            a = a - 0.1 * tjit.exp(g)
            b = b - 0.1 * tjit.exp(h)
        return a, b

    found = train(*ps, *gs, tjit.tensor(7))

    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(a.numpy(), b, rtol=1e-4, atol=1e-5)
