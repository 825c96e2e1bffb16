"""Contractions with windows share the functions that copy their images and store their sums."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.signal import correlate

import tjit
from tjit import nn
from tjit.codegen.llvm.module import _all_units
from tjit.codegen.llvm.target import named_target

F = nn.functional
# images of 2 to 4 axes, with and without padding, whole vectors and rests, one image and several
SHAPES = [
    ((1, 3, 40), (5, 3, 3), 0),
    ((2, 3, 33), (5, 3, 4), 2),
    ((1, 4, 9, 16), (6, 4, 3, 3), 0),
    ((3, 4, 9, 17), (6, 4, 3, 3), 1),
    ((2, 1, 28, 28), (6, 1, 5, 5), 2),
    ((2, 3, 5, 6, 18), (4, 3, 3, 2, 3), 1),
]


def convolution(x: tjit.Tensor, w: tjit.Tensor, padding: int) -> tjit.Tensor:
    return (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3](x, w, None, 1, padding)


def wanted(x: np.ndarray, w: np.ndarray, padding: int) -> np.ndarray:
    around = [(0, 0), (0, 0), *[(padding, padding)] * (x.ndim - 2)]
    padded = np.pad(x, around).astype(np.float64)
    return np.stack(
        [np.stack([correlate(image, f.astype(np.float64), "valid", "direct")[0] for f in w]) for image in padded]
    )


def shared(x: tjit.Tensor, w: tjit.Tensor, padding: int, target: str = "host") -> set[str]:
    plan = tjit.compile(lambda x, w: convolution(x, w, padding)).lower(x, w).schedule()
    return {unit.name for unit in _all_units(plan, named_target(target)) if unit.name.endswith((".image", ".epilogue"))}


@pytest.mark.parametrize("dtype", [tjit.float32, tjit.float64, tjit.bfloat16, tjit.float16], ids=str)
@pytest.mark.parametrize(("image", "filters", "padding"), SHAPES)
def test_convolutions_are_scipys(
    image: tuple[int, ...], filters: tuple[int, ...], padding: int, dtype: tjit.dtype
) -> None:
    rng = np.random.default_rng(0)
    # small integers: sums are exact in every dtype
    x, w = (rng.integers(-2, 3, shape).astype(np.float32) for shape in (image, filters))
    y = tjit.compile(convolution)(tjit.tensor(x).to(dtype), tjit.tensor(w).to(dtype), padding)

    np.testing.assert_array_equal(y.float().numpy(), wanted(x, w, padding))


def test_the_ends_of_memory_are_not_read_beyond() -> None:
    x = np.full((2, 1, 6, 20), np.nan, np.float32)
    x[1:, :, 1:-1, 2:-2] = 1  # what is around is nan: padding is zero, not what lies there
    inner = tjit.tensor(x)[1:, :, 1:-1, 2:-2]
    y = tjit.compile(convolution)(inner, tjit.ones(1, 1, 3, 3), 1)

    np.testing.assert_array_equal(y.numpy(), wanted(inner.numpy(), np.ones((1, 1, 3, 3), np.float32), 1))


@pytest.mark.parametrize("target", ["host", "x86-64", "x86-64-v3", "aarch64"])
def test_sizes_do_not_matter(target: str) -> None:
    small = shared(tjit.zeros(2, 4, 9, 16), tjit.zeros(6, 4, 3, 3), 1, target)
    large = shared(tjit.zeros(5, 8, 30, 31), tjit.zeros(9, 8, 5, 5), 2, target)

    assert small == large
    assert {name.rsplit(".", 1)[1] for name in small} == {"image", "epilogue"}


def test_other_dtypes_have_functions_of_their_own() -> None:
    x, w = tjit.zeros(2, 4, 9, 16), tjit.zeros(6, 4, 3, 3)

    assert shared(x, w, 1).isdisjoint(shared(x.double(), w.double(), 1))


def test_parts_of_a_sum_are_of_one_length() -> None:
    """64 images in 8 parts of 8, not 5 of 11 and one of 9, which is a kernel more."""

    def gradient(x: tjit.Tensor, w: tjit.Tensor) -> tjit.Tensor | None:
        w = w.detach().requires_grad_()
        F.conv2d(x, w).sum().backward()
        return w.grad

    text = str(tjit.compile(gradient).lower(tjit.zeros(64, 6, 14, 14), tjit.zeros(16, 6, 5, 5)).schedule())
    assert text.count(" = sum over ") == 1, text
