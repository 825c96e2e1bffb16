"""Padding and pixel shuffles: PyTorch's results, gradients, printed forms; what the errors say."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tolerances import assert_close

import tjit
import tjit.nn.functional as F
from tjit import nn
from tjit.errors import ArgumentError

LAYERS: tuple[Any, ...] = (
    *(
        (lambda m, name=f"{kind}Pad{n}d", widths=widths: getattr(m, name)(widths))
        for kind in ("Zero", "Reflection", "Replication", "Circular")
        for n, widths in ((1, (2, 1)), (2, (1, 0, 2, 3)), (3, 1))
    ),
    lambda m: m.ConstantPad2d((1, -1, 0, 2), 1.5),
    lambda m: m.PixelShuffle(2),
    lambda m: m.PixelUnshuffle(2),
)


def results(framework: Any, layer: Any, array: np.ndarray, compile: Any) -> list[np.ndarray]:
    x = framework.from_numpy(array.copy()).requires_grad_()

    def run(x: Any) -> Any:
        y = layer(x)
        (y * y).sum().backward()
        return y

    return [compile(run)(x).detach().numpy(), x.grad.numpy()]


@pytest.mark.parametrize("compile", [lambda fn: fn, tjit.compile], ids=["eager", "compiled"])
@pytest.mark.parametrize("make", LAYERS)
def test_layers_give_pytorchs_results_and_gradients(make, compile, rng):
    torch = pytest.importorskip("torch")
    name = type(make(nn)).__name__
    shape = {"1": (3, 4, 6), "3": (2, 3, 4, 4, 6)}.get(name[-2], (2, 4, 4, 6))
    x = rng.standard_normal(shape)

    for a, b in zip(results(tjit, make(nn), x, compile), results(torch, make(torch.nn), x, lambda f: f), strict=True):
        assert_close(a, b)
    assert repr(make(nn)) == repr(make(torch.nn))


def _cut(x: Any, count: Any) -> Any:
    return F.pad(x[:count], (2, 0), "reflect")


@pytest.mark.parametrize(
    ("act", "message"),
    [
        (
            lambda: F.pad(tjit.ones(2, 3), (3, 0), "reflect"),
            r"pad of f32\[2, 3\] by reflect takes widths from 0 to 2, not",
        ),
        (lambda: F.pad(tjit.ones(2, 3), (0, 4), "circular"), r"takes widths from 0 to 3, not \(0, 4\)"),
        (lambda: F.pad(tjit.ones(2, 3), (-1, 0), "replicate"), r"by replicate takes widths from 0, not \(-1, 0\)"),
        (lambda: F.pad(tjit.ones(2, 0), (1, 0), "replicate"), r"by replicate takes widths from 0 to 0, not \(1, 0\)"),
        (lambda: tjit.compile(F.pad)(tjit.ones(2, 0), (1, 0), "replicate"), "replicate takes widths from 0 to 0"),
        (lambda: tjit.compile(_cut)(tjit.ones(9), tjit.tensor(1)), r"f32\[u0\] by reflect reads 3 elements of dim 0"),
        (lambda: F.pad(tjit.ones(3), (1, 1, 1, 1), "reflect"), r"two widths for each of the last dims of f32\[3\]"),
        (lambda: F.pad(tjit.ones(3), (1, 1), "mirror"), "pad has no mode 'mirror'"),
        (lambda: F.pad(tjit.ones(3), (1, 1), "reflect", 1.0), "doesn't take in value argument"),
        (lambda: nn.ReflectionPad2d((1, 2)), r"ReflectionPad2d takes a width or 4 of them, not \(1, 2\)"),
        (lambda: F.pixel_shuffle(tjit.ones(3, 2, 2), 2), r"input.size\(-3\)=3 is not divisible by 4"),
        (lambda: F.pixel_shuffle(tjit.ones(3, 2), 2), r"at least 3 dimensions, but got f32\[3, 2\]"),
        (
            lambda: F.pixel_shuffle(tjit.ones(4, 2, 2), -2),
            "pixel_shuffle expects a positive upscale_factor, but got -2",
        ),
        (lambda: F.pixel_unshuffle(tjit.ones(1, 2, 2), 0), "expects a positive downscale_factor, but got 0"),
        (lambda: F.pixel_unshuffle(tjit.ones(1, 3, 2), 2), "3 x 2 is not divisible by 2"),
    ],
)
def test_messages(act, message):
    with pytest.raises(ArgumentError, match=message):
        act()
