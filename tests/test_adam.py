"""Adam's step is one node of a captured step, whatever the parameters' number."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
from tjit import nn
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ops.adam import adam

RATES = {"betas": (0.9, 0.999), "eps": 1e-8}


def test_a_parameter_is_one_node():
    model = nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 2))
    opt = tjit.optim.AdamW(model.parameters(), amsgrad=True)

    @tjit.compile
    def step(x):
        opt.zero_grad()
        loss = model(x).square().sum()
        loss.backward()
        opt.step()
        return loss

    text = step.lower(tjit.randn(3, 4)).text("graph")

    assert text.count("= adam(") == 4
    assert "= adam(" not in step.lower(tjit.randn(3, 4)).text("passes")


@pytest.mark.parametrize("wrong", range(6))
def test_operands_of_other_types_are_named(wrong):
    x, rate = tjit.ones(3), tjit.ones((), dtype=tjit.float64)
    operands = [x, x, x, x, rate, rate]
    operands[wrong] = tjit.ones(3, dtype=tjit.int32)

    with pytest.raises(TypeRuleError, match=r"adam needs (floats of one type|rates of type f64\[\]), not .*i32\[3\]"):
        adam(*operands, **RATES)


def test_gradients_go_through_a_step(rng):
    """As meta-learning needs: against central differences in f64."""
    arrays = [np.abs(rng.standard_normal((4, 5))) + 0.5 for _ in range(4)]
    rates = tjit.tensor(0.1, dtype=tjit.float64), tjit.tensor(1.5, dtype=tjit.float64)

    def moved(g):
        x, _, m, v = map(tjit.tensor, arrays)
        return adam(x, g, m, v, *rates, **RATES)[0].square().sum()

    g = tjit.tensor(arrays[1], requires_grad=True)
    moved(g).backward()
    direction, step = rng.standard_normal((4, 5)), 1e-6
    up, down = (moved(tjit.tensor(arrays[1] + s * direction)).item() for s in (step, -step))

    assert g.grad is not None
    np.testing.assert_allclose((g.grad.numpy() * direction).sum(), (up - down) / (2 * step), rtol=1e-6)


@pytest.mark.parametrize("optimizer", [tjit.optim.Adam, tjit.optim.AdamW])
@pytest.mark.parametrize("shape", [(), (1,), (1, 1)])
def test_a_rate_may_be_a_tensor_of_one_element(optimizer, shape):
    found = []
    for lr in (0.25, tjit.full(shape, 0.25)):
        x = tjit.tensor([1.0, -2.0], requires_grad=True)
        opt = optimizer([x], lr=lr)
        x.square().sum().backward()
        opt.step()
        found.append(x.tolist())

    np.testing.assert_allclose(found[0], found[1], rtol=1e-6)


def test_a_rate_of_several_elements_is_refused():
    x = tjit.tensor([1.0], requires_grad=True)

    with pytest.raises(ArgumentError, match="Tensor lr must be 1-element"):
        tjit.optim.Adam([x], lr=tjit.ones(2))
