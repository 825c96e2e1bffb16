"""Groups that repeat an earlier one take its kernels over: the schedule is the same, and only they do."""

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.codegen import schedule as scheduling
from tjit.codegen.repeats import Recipe


@pytest.fixture
def taken_over(monkeypatch):
    """How many groups took an earlier one's kernels over."""
    found = []
    again = Recipe.again
    monkeypatch.setattr(Recipe, "again", lambda self, *how: (found.append(self), again(self, *how))[1])
    return found


class Block(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.up, self.down = nn.Linear(width, 2 * width), nn.Linear(2 * width, width)

    def forward(self, x):
        return x + self.down(nn.functional.gelu(self.up(self.norm(x))))


def train(layers, width=24):
    tjit.manual_seed(0)
    model = nn.Sequential(*(Block(width) for _ in range(layers)))
    optimizer = tjit.optim.Adam(model.parameters(), lr=1e-2)

    @tjit.compile
    def step(x):
        loss = (model(x) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss

    return step


def test_layers_of_a_network_are_built_once(taken_over):
    x = tjit.tensor(np.random.default_rng(0).standard_normal((7, 24)).astype("f4"))

    train(2)(x)
    few = len(taken_over)
    train(6)(x)

    assert few < len(taken_over) - few
    assert len(taken_over) - few >= 4 * 6  # of each further layer: products, norms, and their gradients


def test_the_schedule_is_that_of_groups_built_one_by_one(monkeypatch, taken_over):
    x = tjit.tensor(np.random.default_rng(0).standard_normal((7, 24)).astype("f4"))

    texts = [train(4).lower(x).text("schedule")]
    assert taken_over
    monkeypatch.setattr(scheduling, "form_of", lambda *about: None)
    texts.append(train(4).lower(x).text("schedule"))

    assert texts[0] == texts[1]


# all on one line: groups of other lines are not alike


def signed_zeros(a, b, c):
    pairs = (a, 0.0), (b, -0.0), (c, 0.0)
    return tuple(tjit.copysign(tjit.ones(70), tjit.where(x > 0, zero, -zero)).sum() for x, zero in pairs)


def one_memory(a, b, c):
    pairs = (a, a), (b, c), (c, c)
    return tuple((x[:35] * y[35:] * y[:35]).sum() for x, y in pairs)


def numbers(a, b, c):
    return tuple((x * k + k).sum() for x, k in ((a, 1), (b, True), (c, 1.0)))


def written_back(a, b, c):
    for x in (a, c):
        x *= 2.0
    return a.sum(), (b * 2.0).sum(), (b + c).sum()


def dtypes(a, b, c):
    return tuple((x > 0).sum() for x in (a, b.to(tjit.float64), c.to(tjit.int32)))


@pytest.mark.parametrize("program", [signed_zeros, one_memory, numbers, written_back, dtypes])
def test_what_only_looks_alike_is_built_apart(program):
    rng = np.random.default_rng(1)
    inputs = [rng.standard_normal(70).astype("f4") for _ in range(3)]

    compiled = tjit.compile(program)(*map(tjit.tensor, inputs))
    eager = program(*map(tjit.tensor, inputs))

    for got, wanted in zip(compiled, eager, strict=True):
        np.testing.assert_allclose(got.numpy(), wanted.numpy(), rtol=1e-5)


def test_repeated_groups_with_strided_inputs():
    rng = np.random.default_rng(2)
    wide = rng.standard_normal((6, 2 * 40)).astype("f4")

    @tjit.compile
    def sums(a, b, c):
        return a.exp().sum(1), b.exp().sum(1), c.exp().sum(1)

    whole, stepped = np.ascontiguousarray(wide[:, :40]), wide[:, ::2]
    results = sums(tjit.tensor(whole), tjit.as_tensor(stepped), tjit.tensor(whole + 1))

    for got, x in zip(results, (whole, stepped, whole + 1), strict=True):
        np.testing.assert_allclose(np.asarray(got), np.exp(x).sum(1), rtol=1e-5)
