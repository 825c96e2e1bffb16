"""Reads at quotients and remainders of the lanes' axis: whole vectors, from which lanes are picked."""

from __future__ import annotations

import numpy as np
import pytest
from page_edges import after_edge, at_edge

import tjit
from tjit.codegen.llvm.positions import Lanes
from tjit.ir.dims import Symbol, apart
from tjit.nn import functional as F

W = Symbol("w", 0, 99)
H = Symbol("h", 0, 99)


@pytest.mark.parametrize(
    ("dim", "steps"),
    [
        (W.dim // 2, (0, 0, 1, 1, 2, 2, 3, 3)),
        ((W.dim + 1) // 2, (0, 1, 1, 2, 2, 3, 3, 4)),
        (10 * (H.dim // 3) + W.dim // 4 + 1, (0, 0, 0, 0, 1, 1, 1, 1)),
        (2 * (H.dim % 2) + W.dim % 2, (0, 1, 0, 1, 0, 1, 0, 1)),
        (W.dim // 3, None),
        (3 * W.dim, (0, 3, 6, 9, 12, 15, 18, 21)),
    ],
    ids=str,
)
def test_steps_of_quotients_are_known_from_a_multiple_of_the_lanes_on(dim, steps):
    assert Lanes(W, 8, aligned=True).steps(dim) == steps
    assert Lanes(W, 8).steps(dim) == (steps if dim == 3 * W.dim else None)


def test_a_dim_falls_apart_into_what_differs_and_what_does_not():
    d = 7 * (H.dim // 2) + 3 * H.dim * (W.dim % 4) + W.dim // 2 + 5

    assert apart(d, {W}) == (7 * (H.dim // 2) + 5, 3 * H.dim * (W.dim % 4) + W.dim // 2)
    assert apart(H.dim, {W}) == (H.dim, 0)


@pytest.mark.parametrize("factor", [2, 3, 4, 5, 16])
@pytest.mark.parametrize("width", [1, 2, 7, 16, 33, 64, 100])
def test_enlarged_images_and_their_gradients(factor, width, rng):
    x = rng.standard_normal((2, 3, 5, width)).astype(np.float32)

    def enlarge(x):
        tall = x.unsqueeze(3).expand(2, 3, 5, factor, width).reshape(2, 3, 5 * factor, width)
        return tall.unsqueeze(4).expand(2, 3, 5 * factor, width, factor).reshape(2, 3, 5 * factor, -1).cumsum(3)

    @tjit.compile
    def both(x):
        x = x.detach().requires_grad_()
        y = enlarge(x)
        y.square().sum().backward()
        return y, x.grad

    wide = x.repeat(factor, 2).repeat(factor, 3).cumsum(3, dtype=np.float64)
    g = np.flip(np.flip(2 * wide, 3).cumsum(3), 3).reshape(2, 3, 5, factor, width, factor).sum((3, 5))
    y, grad = both(tjit.tensor(x))

    np.testing.assert_allclose(y.detach().numpy(), wide, rtol=2e-5, atol=2e-4)
    np.testing.assert_allclose(grad.numpy(), g, rtol=1e-4, atol=1e-4 * np.abs(g).max())


@pytest.mark.parametrize("dtype", [tjit.float32, tjit.float64, tjit.bfloat16, tjit.int8, tjit.int64], ids=str)
@pytest.mark.parametrize("shape", [(3, 40), (2, 17), (1, 100), (5, 6)])
def test_every_dtype_is_picked(dtype, shape, rng):
    x = tjit.tensor(rng.integers(-90, 90, shape)).to(dtype)

    @tjit.compile
    def twice(x):
        return x.repeat_interleave(2, dim=1), x.unsqueeze(2).expand(*shape, 4).reshape(shape[0], 4 * shape[1]) + 1

    two, four = twice(x)

    assert two.tolist() == np.repeat(np.array(x.tolist()), 2, 1).tolist()
    assert four.tolist() == (x.repeat_interleave(4, dim=1) + 1).tolist()


@pytest.mark.parametrize("size", [28, 27, 16, 50])
def test_gradients_of_pools_over_a_row_and_its_sum(size, rng):
    x = rng.standard_normal((4, 6, size, size)).astype(np.float32)

    @tjit.compile
    def grad(x, b):
        b = b.detach().requires_grad_()
        y = F.max_pool2d((x + b).relu(), 2)
        (y * y).sum().backward()
        return b.grad

    b = np.zeros((6, 1, 1), np.float32)
    kept = x[:, :, : size // 2 * 2, : size // 2 * 2].reshape(4, 6, size // 2, 2, size // 2, 2).max((3, 5))

    np.testing.assert_allclose(
        grad(tjit.tensor(x), tjit.tensor(b)).numpy().ravel(), (2 * np.maximum(kept, 0)).sum((0, 2, 3)), rtol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.uint8, np.bool_, np.int16, np.float16, np.float32, np.int64], ids=str)
@pytest.mark.parametrize("width", [1, 3, 15, 17, 63, 65, 131, 331])
def test_rows_are_read_backwards_from_the_first_element_of_memory_on(dtype, width, rng):
    x = after_edge(rng.integers(0, 100, (5, width)).astype(dtype))

    found = tjit.compile(lambda x: (tjit.flip(x, (1,)), tjit.flip(x[:, : width // 2 + 1], (1,))))(tjit.from_numpy(x))

    np.testing.assert_array_equal(found[0].numpy(), x[:, ::-1])
    np.testing.assert_array_equal(found[1].numpy(), x[:, width // 2 :: -1])


@pytest.mark.parametrize("width", [1, 7, 16, 28, 33, 100, 257])
@pytest.mark.parametrize("dtype", ["u1", "i2", "i4", "f4", "f8"])
def test_loads_that_take_turns(width, dtype, rng):
    kind = np.dtype(dtype)
    pairs = (rng.standard_normal((3, 4, 2 * width)) * 50).astype(kind)
    pixels = (rng.standard_normal((5, width, 3)) * 9).astype(kind)

    @tjit.compile(dynamic=False)
    def mixed(x, y):
        even, odd = x[..., ::2], x[..., 1::2]
        return even * 3 - odd, odd, y[..., 0] * 2 + y[..., 1] * 3 + y[..., 2], y[..., 2] - y[..., 0]

    found = mixed(pairs, pixels)

    two, three = kind.type(2), kind.type(3)
    even, odd = pairs[..., ::2], pairs[..., 1::2]
    red, green, blue = (pixels[..., n] for n in range(3))
    expected = (even * three - odd, odd, red * two + green * three + blue, blue - red)
    for x, y in zip(found, expected, strict=True):
        np.testing.assert_allclose(x, y, rtol=1e-5, atol=1e-4 if kind.kind == "f" else 0)


def test_loads_that_take_turns_load_a_vector_once():
    text = tjit.compile(lambda x: x[::2] * x[1::2], dynamic=False).lower(tjit.rand(1 << 12)).text("llvm")

    assert text.count("= load <") == 2 * text.count("  store <") > 0


@pytest.mark.parametrize("edge", [after_edge, at_edge])
@pytest.mark.parametrize("shape", [(74,), (5, 34), (3, 3, 10)])
def test_turns_end_with_the_buffer(edge, shape):
    x = edge(np.arange(np.prod(shape), dtype=np.float32).reshape(shape))

    found = tjit.compile(lambda x: x[..., ::2] + x[..., 1::2], dynamic=False)(x)

    np.testing.assert_array_equal(found, x[..., ::2] + x[..., 1::2])
