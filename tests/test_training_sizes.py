"""Training steps on batches of many sizes: two captures, and no program is built again."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit import compiled, nn


def _model(m: Any) -> Any:
    tjit.manual_seed(0)
    return m.Sequential(m.Linear(6, 8), m.ReLU(), m.Linear(8, 4))


def _inside(model: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = F.cross_entropy(model(x), y)
        loss.backward()
        optimizer.step()
        return loss

    return tjit.compile(step)


def _outside(model: Any, optimizer: Any) -> Callable[[Any, Any], Any]:
    forward = tjit.compile(lambda x, y: F.cross_entropy(model(x), y))
    update = tjit.compile(lambda: optimizer.step())

    def step(x: Any, y: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, y)
        loss.backward()
        update()
        return loss

    return step


@pytest.mark.parametrize("kind", ["SGD", "Adam"])
@pytest.mark.parametrize("make", [_inside, _outside])
def test_later_batch_sizes_build_nothing(make, kind, monkeypatch, rng):
    built: list[str] = []
    build = compiled.build_program
    monkeypatch.setattr(compiled, "build_program", lambda graph, *rest: built.append(graph.name) or build(graph, *rest))
    ours, eager = _model(nn), _model(nn)
    steps = [getattr(tjit.optim, kind)(m.parameters(), lr=0.05) for m in (ours, eager)]
    step = make(ours, steps[0])
    counts: list[int] = []

    for n in (16, 12, 16, 1, 7, 33, 2, 1, 64):
        x, y = tjit.tensor(rng.standard_normal((n, 6), np.float32)), tjit.tensor(rng.integers(0, 4, n))
        loss = step(x, y)
        steps[1].zero_grad()
        expected = F.cross_entropy(eager(x), y)
        expected.backward()
        steps[1].step()
        np.testing.assert_allclose(loss.item(), expected.item(), rtol=2e-4)
        counts.append(len(built))

    # a step that finds .grad or state absent, and one that finds it, may differ; sizes after the third call do not
    assert counts[3:] == [counts[2]] * len(counts[3:])
    for p, q in zip(ours.parameters(), eager.parameters(), strict=True):
        np.testing.assert_allclose(p.detach().numpy(), q.detach().numpy(), rtol=2e-3, atol=2e-5)


@pytest.mark.parametrize(
    "fn",
    [
        lambda x, w: x.sum() * w,
        lambda x, w: (x * 3).mean() - w,
        lambda x, w: x[1:].sum(0) @ tjit.ones(2) + w,
        lambda x, w: (x.reshape(-1) * w).sum(),
    ],
)
def test_gradients_whose_sizes_no_saved_value_has(fn):
    compiled = tjit.compile(fn)
    for rows in (3, 4, 5, 2):
        leaves = []
        for f in (fn, compiled):
            x = tjit.arange(2.0 * rows).reshape(rows, 2).requires_grad_(True)
            w = tjit.tensor(2.0, requires_grad=True)
            f(x, w).backward()
            leaves.append((x.grad.numpy(), w.grad.numpy()))
        for eager, ours in zip(*leaves, strict=True):
            np.testing.assert_allclose(ours, eager, rtol=1e-6)
