"""First programs of a user who knows PyTorch: they run with the import alone changed."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import numpy as np
import pytest

import tjit as torch

PROGRAMS = Path(__file__).resolve().parent.parent.parent / "shared" / "programs"
DONE = ("p01", "p02", "p03", "p04", "p06", "p07", "p13", "p14", "p17", "p18", "p23", "p25")


@pytest.mark.skipif(not PROGRAMS.is_dir(), reason="the reference programs are not beside the repository")
@pytest.mark.parametrize("name", DONE)
def test_reference_program(name, capsys):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        runpy.run_path(str(PROGRAMS / f"{name}.py"), run_name="__main__")


def test_adding_integers():
    a = torch.tensor([[10, 20], [30, 40]])
    b = torch.tensor([[1, 2], [3, 4]])

    total = a + b

    assert repr(total) == "tensor([[11, 22],\n        [33, 44]])"
    assert repr(total.size()) == "torch.Size([2, 2])"
    assert total.shape == (2, 2)
    assert (total.dtype, str(total.device), total.ndim) == (torch.int64, "cpu", 2)
    assert torch.equal(total, torch.add(a, b))
    assert b.add_(a) is b
    assert torch.equal(total, b)


def test_numbers_reach_every_element_and_shapes_must_fit():
    ones = torch.ones(3, 2)

    assert (ones + 2 * ones).tolist() == [[3.0, 3.0]] * 3
    assert (torch.ones(3, 1) + torch.ones(1, 2)).shape == (3, 2)
    with pytest.raises(RuntimeError):
        torch.rand(3, 2) + torch.rand(2, 3)


def test_gradient_of_a_sum_of_squares():
    x = torch.tensor([[1, 2], [3, 4]], dtype=torch.float, requires_grad=True)

    y = x.pow(2).sum()
    y.backward()

    assert repr(x) == "tensor([[1., 2.],\n        [3., 4.]], requires_grad=True)"
    assert repr(y) == "tensor(30., grad_fn=<SumBackward0>)"
    assert repr(x.grad) == "tensor([[2., 4.],\n        [6., 8.]])"
    assert (x.is_leaf, y.is_leaf, x.grad_fn) == (True, False, None)


def test_gradients_accumulate_and_updates_are_not_recorded():
    w = torch.ones(2, requires_grad=True)
    for _ in range(3):
        (3 * w).sum().backward()
    assert w.grad.tolist() == [9, 9]

    w.grad.zero_()
    (3 * w).sum().backward()
    with torch.no_grad():
        w -= w.grad / 3

    assert w.tolist() == [0, 0]
    assert w.requires_grad
    assert w.is_leaf
    assert not (w * 2).detach().requires_grad


def test_what_backward_refuses():
    w = torch.ones(2, requires_grad=True)
    y = (w * w).sum()
    y.backward(retain_graph=True)
    y.backward()

    for refused in (
        y.backward,
        (w * 2).backward,
        torch.ones(1).sum().backward,
        lambda: torch.tensor([1, 2], requires_grad=True),
        lambda: torch.ones(1, requires_grad=True).add_(1),
    ):
        with pytest.raises(RuntimeError):
            refused()


def test_training_a_line():
    torch.manual_seed(0)
    x = torch.linspace(-1, 1, 50).unsqueeze(1)
    y = 3 * x - 1 + 0.01 * torch.randn(50, 1)
    w, b = torch.zeros(1, 1, requires_grad=True), torch.zeros(1, requires_grad=True)

    for _ in range(200):
        loss = ((x @ w + b - y) ** 2).mean()
        loss.backward()
        with torch.no_grad():
            for p in (w, b):
                p -= 0.3 * p.grad
                p.grad = None

    np.testing.assert_allclose([w.item(), b.item()], [3, -1], atol=0.02)
