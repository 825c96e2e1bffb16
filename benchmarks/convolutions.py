"""Rows of convolutions and poolings; those of ResNet-50 forward and with both gradients.

All of its shapes and MobileNet's depthwise ones, each forward, dx and dw beside PyTorch, are a table of their own:
`python -m benchmarks.convolutions`.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.rows import Arrays, Compile, Floor, Row, by_inputs, extent, normal, numba_loops, shared

__all__ = ["ROWS", "SWEPT"]


@dataclass(frozen=True)
class Shape:
    """A convolution of [batch, channels, size, size] to `out` channels, padded by kernel // 2."""

    channels: int
    out: int
    kernel: int
    size: int
    stride: int = 1
    groups: int = 1
    batch: int = 8

    @property
    def name(self) -> str:
        kind = "depthwise" if self.groups > 1 else f"{self.channels} to {self.out}"
        step = f" stride {self.stride}" if self.stride > 1 else ""
        k, s = self.kernel, self.size
        where = f"{self.batch} x {self.channels} x {s} x {s}" if self.groups > 1 else f"{self.batch} x {s} x {s}"
        return f"conv {k}x{k}{step}, {kind}, {where}"

    @property
    def padding(self) -> int:
        return self.kernel // 2

    @property
    def extent(self) -> int:
        """Of the output's rows and columns."""
        return (self.size + 2 * self.padding - self.kernel) // self.stride + 1

    @property
    def flops(self) -> int:
        taps = self.kernel**2 * self.channels // self.groups
        return 2 * self.batch * self.out * self.extent**2 * taps

    @property
    def elements(self) -> int:
        """Of the input, the kernels and the output."""
        kernels = self.out * self.kernel**2 * self.channels // self.groups
        return self.batch * (self.channels * self.size**2 + self.out * self.extent**2) + kernels

    def scaled(self, scale: float) -> Shape:
        if scale == 1:
            return self
        channels, out = extent(self.channels, scale), extent(self.out, scale)
        groups = channels if self.groups > 1 else 1
        size = max(9, extent(self.size, scale))
        return Shape(channels, groups if groups > 1 else out, self.kernel, size, self.stride, groups, 2)


FIRST = Shape(64, 64, 3, 56)
RESNET = (
    FIRST,
    Shape(256, 64, 1, 56),
    Shape(3, 64, 7, 224, stride=2),
    Shape(128, 128, 3, 56, stride=2),
    Shape(256, 512, 1, 56, stride=2),
    Shape(512, 512, 3, 7),
    Shape(256, 256, 3, 28, groups=256),
)


def depthwise(channels: int, size: int, stride: int = 1) -> Shape:
    """3x3, a filter for each channel."""
    return Shape(channels, channels, 3, size, stride, channels)


SHAPES = (
    Shape(3, 64, 7, 224, stride=2),
    Shape(64, 64, 1, 56), FIRST, Shape(64, 256, 1, 56), Shape(256, 64, 1, 56),
    Shape(256, 128, 1, 56), Shape(128, 128, 3, 56, stride=2), Shape(256, 512, 1, 56, stride=2),
    Shape(128, 512, 1, 28), Shape(512, 128, 1, 28), Shape(128, 128, 3, 28),
    Shape(512, 256, 1, 28), Shape(256, 256, 3, 28, stride=2), Shape(512, 1024, 1, 28, stride=2),
    Shape(256, 1024, 1, 14), Shape(1024, 256, 1, 14), Shape(256, 256, 3, 14),
    Shape(1024, 512, 1, 14), Shape(512, 512, 3, 14, stride=2), Shape(1024, 2048, 1, 14, stride=2),
    Shape(512, 2048, 1, 7), Shape(2048, 512, 1, 7), Shape(512, 512, 3, 7),
    depthwise(32, 112), depthwise(64, 112, 2), depthwise(96, 112, 2),
    depthwise(128, 56), depthwise(128, 56, 2), depthwise(144, 56), depthwise(144, 56, 2),
    depthwise(192, 28), depthwise(192, 28, 2), depthwise(256, 28), depthwise(256, 28, 2),
    depthwise(512, 14), depthwise(512, 14, 2), depthwise(576, 14), depthwise(576, 14, 2),
    depthwise(960, 7), depthwise(1024, 7),
)  # fmt: skip


# -- by hand, tap by tap -----------------------------------------------------------------------------------------------


def _taps(shape: Shape, x: np.ndarray, w: np.ndarray) -> Iterator[tuple[np.ndarray, np.ndarray, tuple[int, int]]]:
    """For each tap: what it sees of the padded input [b, g, c, h, w] (a view), its weights [g, o, c], and its place."""
    (b, _, h, _), g, s, k = x.shape, shape.groups, shape.stride, shape.kernel
    e = (h - k) // s + 1
    grouped = x.reshape(b, g, -1, h, h)
    weights = w.reshape(g, w.shape[0] // g, -1, k, k)
    for i in range(k):
        for j in range(k):
            seen = grouped[..., i : i + s * (e - 1) + 1 : s, j : j + s * (e - 1) + 1 : s]
            yield seen, weights[..., i, j], (i, j)


def _padded(shape: Shape, x: np.ndarray) -> np.ndarray:
    p = shape.padding
    return np.pad(x, ((0, 0), (0, 0), (p, p), (p, p)))


def _flat(x: np.ndarray) -> np.ndarray:
    return x.reshape(*x.shape[:3], -1)


def forward_reference(shape: Shape, x: Any, w: Any) -> Any:
    sums: Any = sum(weights @ _flat(seen) for seen, weights, _ in _taps(shape, _padded(shape, x), w))
    e = math.isqrt(sums.shape[-1])
    return sums.reshape(len(x), -1, e, e)


def gradients_reference(shape: Shape, x: Any, w: Any, dy: Any) -> tuple[Any, Any]:
    padded, p = _padded(shape, x), shape.padding
    dx, dw = np.zeros_like(padded), np.empty_like(w)
    g = dy.reshape(len(x), shape.groups, -1, dy.shape[2] * dy.shape[3])
    for (seen, weights, (i, j)), (place, *_) in zip(_taps(shape, padded, w), _taps(shape, dx, w), strict=True):
        dw[:, :, i, j] = (g @ _flat(seen).swapaxes(2, 3)).sum(0).reshape(dw.shape[:2])
        place += (weights.swapaxes(1, 2) @ g).reshape(place.shape)
    return dx[:, :, p : dx.shape[2] - p, p : dx.shape[3] - p], dw


# -- in the frameworks -------------------------------------------------------------------------------------------------


def _inputs(shape: Shape, is_gradient: bool) -> Callable[[np.random.Generator, float], Arrays]:
    def make(rng: np.random.Generator, scale: float) -> Arrays:
        s = shape.scaled(scale)
        x = rng.standard_normal((s.batch, s.channels, s.size, s.size), np.float32)
        w = rng.standard_normal((s.out, s.channels // s.groups, s.kernel, s.kernel), np.float32)
        dy = rng.standard_normal((s.batch, s.out, s.extent, s.extent), np.float32)
        return (x, w, dy) if is_gradient else (x, w)

    return make


def _grouped(shape: Shape, w: Any) -> dict[str, Any]:
    return {"stride": shape.stride, "padding": shape.padding, "groups": w.shape[0] if shape.groups > 1 else 1}


def _as_given(shape: Shape, x: Any, w: Any) -> Shape:
    """The shape with as many groups as the arrays have, which tests give fewer."""
    groups = w.shape[0] if shape.groups > 1 else 1
    return Shape(x.shape[1], w.shape[0], shape.kernel, x.shape[2], shape.stride, groups, len(x))


def forward(shape: Shape, relu: bool) -> Callable[[Any], Callable[..., Any]]:
    def write(framework: Any) -> Callable[..., Any]:
        conv2d = framework.nn.functional.conv2d

        def convolve(x: Any, w: Any) -> Any:
            y = conv2d(x, w, **_grouped(shape, w))
            return framework.relu(y) if relu else y

        return convolve

    return write


def _jax_forward(shape: Shape, relu: bool) -> Callable[[Compile], Callable[..., Any]]:
    def build(compile: Compile) -> Callable[..., Any]:
        import jax

        def convolve(x: Any, w: Any) -> Any:
            p = (shape.padding, shape.padding)
            y = jax.lax.conv_general_dilated(
                x, w, (shape.stride, shape.stride), (p, p), feature_group_count=_grouped(shape, w)["groups"]
            )
            return jax.nn.relu(y) if relu else y

        return compile(convolve)

    return build


def _tjit_gradients(shape: Shape, wanted: Sequence[int] = (0, 1)) -> Callable[[Compile], Callable[..., Any]]:
    def build(compile: Compile) -> Callable[..., Any]:
        import tjit

        def gradients(x: Any, w: Any, dy: Any) -> Any:
            leaves = x.detach().requires_grad_(), w.detach().requires_grad_()
            y = tjit.nn.functional.conv2d(*leaves, **_grouped(shape, w))
            return tjit.autograd.grad(y, tuple(leaves[i] for i in wanted), dy)

        return compile(gradients)

    return build


def _torch_gradients(shape: Shape, wanted: Sequence[int] = (0, 1)) -> Callable[[Compile], Callable[..., Any]]:
    def build(compile: Compile) -> Callable[..., Any]:
        import torch

        def gradients(x: Any, w: Any, dy: Any) -> Any:  # what autograd calls, without the forward
            s, p = (shape.stride, shape.stride), (shape.padding, shape.padding)
            groups, mask = _grouped(shape, w)["groups"], (0 in wanted, 1 in wanted, False)
            back = torch.ops.aten.convolution_backward
            found = back(dy, x, w, None, s, p, (1, 1), False, (0, 0), groups, mask)
            return tuple(found[i] for i in wanted)

        return compile(gradients)

    return build


def _jax_gradients(shape: Shape) -> Callable[[Compile], Callable[..., Any]]:
    def build(compile: Compile) -> Callable[..., Any]:
        import jax

        def gradients(x: Any, w: Any, dy: Any) -> Any:
            return jax.vjp(_jax_forward(shape, False)(lambda fn: fn), x, w)[1](dy)

        return compile(gradients)

    return build


def _forward_row(shape: Shape, relu: bool = False, quick: bool = False) -> Row:
    def reference(x: Any, w: Any) -> Any:
        y = forward_reference(_as_given(shape, x, w), x, w)
        return np.maximum(y, 0) if relu else y

    return Row(
        shape.name + (" + relu" if relu else ""),
        _inputs(shape, False),
        reference,
        {
            **shared(forward(shape, relu)),
            **by_inputs(jax=_jax_forward(shape, relu)),
            **(numba_loops("convolve_relu") if relu and shape is FIRST else {}),
        },
        Floor("multiply-adds, or memory", flops=shape.flops, streamed=4 * shape.elements),
        tolerance=2e-5,
        quick=quick,
    )


def _gradient_row(shape: Shape) -> Row:
    return Row(
        f"{shape.name}: both gradients",
        _inputs(shape, True),
        lambda x, w, dy: gradients_reference(_as_given(shape, x, w), x, w, dy),
        by_inputs(tjit=_tjit_gradients(shape), torch=_torch_gradients(shape), jax=_jax_gradients(shape)),
        Floor("multiply-adds of both, or memory", flops=2 * shape.flops, streamed=8 * shape.elements),
        tolerance=5e-5,
        quick=False,
    )


def _one_gradient_row(shape: Shape, which: int) -> Row:
    return Row(
        f"{shape.name}: {('dx', 'dw')[which]}",
        _inputs(shape, True),
        lambda x, w, dy: gradients_reference(_as_given(shape, x, w), x, w, dy)[which],
        by_inputs(tjit=_tjit_gradients(shape, (which,)), torch=_torch_gradients(shape, (which,))),
        Floor("multiply-adds, or memory", flops=shape.flops, streamed=4 * shape.elements),
        tolerance=5e-5,
        quick=False,
    )


SWEPT = [
    row for shape in SHAPES for row in (_forward_row(shape), _one_gradient_row(shape, 0), _one_gradient_row(shape, 1))
]


# -- max pool ----------------------------------------------------------------------------------------------------------


def max_pool_reference(x: Any) -> Any:
    even = x[..., : x.shape[2] // 2 * 2, : x.shape[3] // 2 * 2]
    return even.reshape(*x.shape[:2], x.shape[2] // 2, 2, x.shape[3] // 2, 2).max((3, 5))


def max_pool(framework: Any) -> Callable[..., Any]:
    def pool(x: Any) -> Any:
        return framework.nn.functional.max_pool2d(x, 2)

    return pool


def max_pool_jax(compile: Compile) -> Callable[..., Any]:
    import jax
    import jax.numpy as jnp

    def pool(x: Any) -> Any:
        return jax.lax.reduce_window(x, -jnp.inf, jax.lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")

    return compile(pool)


def max_pool_numpy(compile: Compile) -> Callable[..., Any]:
    return compile(max_pool_reference)


ROWS = [
    _forward_row(FIRST, relu=True, quick=True),
    Row(
        "max pool 16 x 64 x 56 x 56",
        normal(16, 64, 56, 56),
        max_pool_reference,
        {**shared(max_pool), **by_inputs(jax=max_pool_jax, numpy=max_pool_numpy), **numba_loops("max_pool")},
        Floor("memory: x and the output", streamed=4 * 16 * 64 * 56 * 56 * 1.25),
    ),
    *(row for shape in RESNET for row in (_forward_row(shape), _gradient_row(shape))),
]

if __name__ == "__main__":
    from benchmarks.sweep import sweep

    sys.exit(sweep("convolutions", __doc__, SWEPT, ("torch",)))
