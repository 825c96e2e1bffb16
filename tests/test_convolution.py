"""Convolutions and poolings against PyTorch, eager and compiled, with gradients."""

from __future__ import annotations

import numpy as np
import pytest

import tjit
import tjit.nn.functional as F
from tjit import nn
from tjit.errors import ArgumentError, TypeRuleError

torch = pytest.importorskip("torch")

CONV = [(1, 0, 1, 1), (2, 1, 1, 1), (1, 2, 2, 2), (2, 1, 1, 4), (1, "same", 1, 1), (3, 0, 1, 2)]
TRANSPOSED = [(1, 0, 0, 1, 1), (2, 1, 1, 1, 1), (2, 0, 0, 2, 2), (3, 2, 1, 1, 1)]


def compared(ours, theirs, *arrays: np.ndarray, rtol: float = 1e-9) -> None:
    """Values and gradients of a function of f64 arrays, eager and compiled, equal PyTorch's."""
    leaves = [torch.tensor(a).requires_grad_() for a in arrays]
    wanted = theirs(*leaves)
    (wanted * wanted).sum().backward()
    for f in (ours, tjit.compile(ours)):
        own = [tjit.tensor(a).requires_grad_() for a in arrays]
        y = f(*own)
        (y * y).sum().backward()
        np.testing.assert_allclose(y.detach().numpy(), wanted.detach().numpy(), rtol=rtol, atol=1e-9)
        for a, b in zip(own, leaves, strict=True):
            np.testing.assert_allclose(a.grad.numpy(), b.grad.numpy(), rtol=rtol, atol=1e-8)


def draw(*shapes: tuple[int, ...]) -> list[np.ndarray]:
    numbers = np.random.default_rng(len(shapes[0]))
    return [numbers.normal(size=s) for s in shapes]


@pytest.mark.parametrize("options", CONV)
@pytest.mark.parametrize("k", [1, 2, 3])
def test_convolutions(k, options):
    stride, padding, dilation, groups = options
    size, kernel = (7, 8, 6)[:k], ((3, 3, 3) if padding == "same" else (3, 2, 3))[:k]
    arrays = draw((2, 4, *size), (8, 4 // groups, *kernel), (8,))

    compared(
        lambda x, w, b: getattr(F, f"conv{k}d")(x, w, b, stride, padding, dilation, groups),
        lambda x, w, b: getattr(torch.nn.functional, f"conv{k}d")(x, w, b, stride, padding, dilation, groups),
        *arrays,
    )


def test_a_convolution_of_no_images():
    compared(
        lambda x, w: F.conv2d(x, w, padding=1),
        lambda x, w: torch.nn.functional.conv2d(x, w, padding=1),
        *draw((0, 3, 8, 8), (16, 3, 3, 3)),
    )


def test_a_convolution_with_no_filters():
    y = tjit.compile(F.conv2d)(tjit.rand(2, 3, 8, 8), tjit.rand(0, 3, 3, 3))

    assert y.shape == (2, 0, 6, 6)


@pytest.mark.parametrize(("stride", "dilation"), [(3, 2), (2, 3)])
def test_strides_and_dilations_that_are_coprime(stride, dilation):
    compared(
        lambda x, w: F.conv2d(x, w, None, stride, 2, dilation, 3),
        lambda x, w: torch.nn.functional.conv2d(x, w, None, stride, 2, dilation, 3),
        *draw((2, 9, 13, 11), (6, 3, 3, 2)),
    )


@pytest.mark.parametrize("options", TRANSPOSED)
@pytest.mark.parametrize("k", [1, 2])
def test_transposed_convolutions(k, options):
    stride, padding, extra, groups, dilation = options
    arrays = draw((2, 4, *(5, 4)[:k]), (4, 6 // groups, *(3, 2)[:k]), (6,))
    name = f"conv_transpose{k}d"

    compared(
        lambda x, w, b: getattr(F, name)(x, w, b, stride, padding, extra, groups, dilation),
        lambda x, w, b: getattr(torch.nn.functional, name)(x, w, b, stride, padding, extra, groups, dilation),
        *arrays,
    )


@pytest.mark.parametrize("options", [(2, None, 0, False), (3, 2, 1, False), (3, 2, 1, True), (2, 3, 0, True)])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_poolings(k, options):
    size, stride, padding, ceil = options
    arrays = draw((2, 3, *(7, 8, 6)[:k]))
    ours, theirs = getattr(F, f"max_pool{k}d"), getattr(torch.nn.functional, f"max_pool{k}d")

    compared(
        lambda x: ours(x, size, stride, padding, 1, ceil), lambda x: theirs(x, size, stride, padding, 1, ceil), *arrays
    )
    for inside in (True, False):
        mean, torchs = getattr(F, f"avg_pool{k}d"), getattr(torch.nn.functional, f"avg_pool{k}d")
        compared(
            lambda x, mean=mean, inside=inside: mean(x, size, stride, padding, ceil, inside),
            lambda x, torchs=torchs, inside=inside: torchs(x, size, stride, padding, ceil, inside),
            *arrays,
        )


def test_poolings_beyond_the_end_of_any_size():
    f = tjit.compile(lambda x: F.avg_pool1d(x, 2, 3, ceil_mode=True))
    for extent in (7, 8, 9, 10):
        (x,) = draw((2, 3, extent))
        wanted = torch.nn.functional.avg_pool1d(torch.tensor(x), 2, 3, ceil_mode=True)
        np.testing.assert_allclose(f(tjit.tensor(x)).numpy(), wanted.numpy(), rtol=1e-12)

    assert f.cache_info().misses == 2


@pytest.mark.parametrize(("size", "stride", "padding", "dilation"), [(3, 2, 1, 2), (2, 3, 1, 4), (7, 3, 3, 1)])
def test_max_pooling_of_windows_with_holes_and_of_large_ones(size, stride, padding, dilation):
    compared(
        lambda x: F.max_pool2d(x, size, stride, padding, dilation),
        lambda x: torch.nn.functional.max_pool2d(x, size, stride, padding, dilation),
        *draw((2, 3, 17, 15)),
    )


def test_max_pooling_tells_where():
    (x,) = draw((2, 3, 7, 8))
    y, where = F.max_pool2d(tjit.tensor(x), 3, 2, 1, return_indices=True)
    wanted, places = torch.nn.functional.max_pool2d(torch.tensor(x), 3, 2, 1, return_indices=True)

    np.testing.assert_array_equal(y.numpy(), wanted.numpy())
    np.testing.assert_array_equal(where.numpy(), places.numpy())


@pytest.mark.parametrize("wanted", [(7, 7), (1, 1), (4, 8), (None, 3)])
@pytest.mark.parametrize("kind", ["avg", "max"])
def test_adaptive_poolings(kind, wanted):
    name = f"adaptive_{kind}_pool2d"

    compared(
        lambda x: getattr(F, name)(x, wanted),
        lambda x: getattr(torch.nn.functional, name)(x, wanted),
        *draw((2, 3, 9, 8)),
    )


def test_modules_have_pytorchs_parameters():
    for ours, theirs in (
        (nn.Conv2d(3, 8, (3, 5), 2, 1, groups=1), torch.nn.Conv2d(3, 8, (3, 5), 2, 1)),
        (nn.ConvTranspose2d(4, 6, 3, 2, 1, 1), torch.nn.ConvTranspose2d(4, 6, 3, 2, 1, 1)),
        (nn.Conv1d(4, 4, 3, groups=4, bias=False), torch.nn.Conv1d(4, 4, 3, groups=4, bias=False)),
    ):
        assert [(n, tuple(p.shape)) for n, p in ours.named_parameters()] == [
            (n, tuple(p.shape)) for n, p in theirs.named_parameters()
        ]
        ours.load_state_dict({n: tjit.tensor(p.detach().numpy()) for n, p in theirs.named_parameters()})
        x = np.random.default_rng(0).normal(size=(2, ours.in_channels, *(9, 10)[: ours._dims])).astype(np.float32)
        wanted = theirs(torch.tensor(x)).detach().numpy()
        np.testing.assert_allclose(ours(tjit.tensor(x)).detach().numpy(), wanted, rtol=1e-4, atol=1e-5)
        assert repr(ours) == repr(theirs)


def test_pooling_modules_are_pytorchs():
    x = np.random.default_rng(0).normal(size=(2, 3, 9, 10))
    for name, arguments in (("MaxPool2d", (3, 2, 1, 1)), ("AvgPool2d", (2, None, 1, True, False))):
        ours, theirs = getattr(nn, name)(*arguments), getattr(torch.nn, name)(*arguments)

        assert repr(ours) == repr(theirs)
        np.testing.assert_allclose(ours(tjit.tensor(x)).numpy(), theirs(torch.tensor(x)).numpy(), rtol=1e-12)


def test_convolution_of_other_batch_sizes_is_compiled_once():
    layer = nn.Conv2d(3, 4, 3, padding=1)
    f = tjit.compile(layer)
    for batch in (2, 3, 4, 5):
        x = tjit.rand(batch, 3, 8, 8)
        np.testing.assert_allclose(f(x).detach().numpy(), layer(x).detach().numpy(), rtol=1e-4, atol=1e-5)

    assert f.cache_info().misses == 2


def test_a_convolution_is_one_kernel():
    f = tjit.compile(F.conv2d)
    text = f.lower(tjit.rand(2, 3, 9, 9), tjit.rand(4, 3, 3, 3), tjit.rand(4)).text("schedule")

    assert "1 kernels" in text


def test_wrong_shapes_are_refused():
    with pytest.raises(TypeRuleError, match=r"conv2d with 1 groups needs as many channels .* has 3, .* takes 4"):
        F.conv2d(tjit.rand(1, 3, 8, 8), tjit.rand(2, 4, 3, 3))
    with pytest.raises(
        TypeRuleError, match=r"kernel of size \[3, 3\] does not fit into the padded input f32\[1, 3, 2, 8\]"
    ):
        F.conv2d(tjit.rand(1, 3, 2, 8), tjit.rand(2, 3, 3, 3))
    with pytest.raises(ArgumentError, match=r"stride needs 2 numbers, not \[1, 2, 3\]"):
        F.conv2d(tjit.rand(1, 3, 8, 8), tjit.rand(2, 3, 3, 3), stride=(1, 2, 3))
    with pytest.raises(ArgumentError, match="padding should be at most half of the kernel size"):
        F.max_pool2d(tjit.rand(1, 3, 8, 8), 2, padding=2)
    with pytest.raises(ArgumentError, match="must be divisible by groups, not 3 and 4 by 2"):
        nn.Conv2d(3, 4, 3, groups=2)
