"""Pooling: reductions over windows, which are index maps, so each pooling is one kernel."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import reduce
from typing import Any

import numpy as np

from tjit.dtypes import i32
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim
from tjit.ir.dims import minimum as least_dim
from tjit.ir.op import OPS, Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.bounds import maximum
from tjit.ops.compare import where
from tjit.ops.creation import arange, full
from tjit.ops.join import stack
from tjit.ops.movement import broadcast_to, reshape, slice_dims
from tjit.ops.public import public
from tjit.ops.windows import Sizes, given_back, lie_apart, per_dim, side_by_side, windows
from tjit.tensor import Tensor

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d", "adaptive_max_pool1d", "adaptive_max_pool2d",
    "adaptive_max_pool3d", "avg_pool1d", "avg_pool2d", "avg_pool3d", "max_pool1d", "max_pool2d", "max_pool3d",
]  # fmt: skip


def _extents(
    x: Tensor, sizes: Any, strides: Any, padding: Any, dilation: Any, ceil_mode: bool, k: int
) -> tuple[tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[int, ...], tuple[Dim, ...]]:
    """Sizes, strides, padding, dilations, and the extents of the result."""
    if x.ndim not in (k + 1, k + 2):
        raise TypeRuleError(f"pooling over {k} dims needs [n, c, *s] or [c, *s], not {x.type_}", user_location())
    sizes = per_dim(sizes, k, "kernel_size")
    strides = sizes if strides is None or strides == () else per_dim(strides, k, "stride")
    low, dilations = per_dim(padding, k, "padding"), per_dim(dilation, k, "dilation")
    if any(2 * p > t for p, t in zip(low, sizes, strict=True)):
        raise ArgumentError(
            f"padding should be at most half of the kernel size, not {list(low)} for {list(sizes)}", user_location()
        )
    out: list[Dim] = []
    for e, t, s, p, d in zip(x.shape[-k:], sizes, strides, low, dilations, strict=True):
        left = e + 2 * p - d * (t - 1) - 1
        extent = (left + (s - 1 if ceil_mode else 0)) // s + 1
        if ceil_mode:
            extent = least_dim(extent, (e + p - 1) // s + 1)  # the last window must start inside
        if isinstance(extent, int) and extent <= 0:
            raise TypeRuleError(f"a pooling kernel of {list(sizes)} does not fit into {x.type_}", user_location())
        out.append(extent)
    return sizes, strides, low, dilations, tuple(out)


def _lowest(x: Tensor) -> float | int:
    return -math.inf if x.dtype.is_floating_point else -(1 << (x.dtype.bits - 1)) if x.dtype.is_signed else 0


def max_pool(x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...]) -> Tensor:
    """n[*b, *out] of n[*b, *s]: the largest element of each window. Its cotangent goes to the first such element."""
    return apply(MAX_POOL, x, sizes=sizes, strides=strides, dilations=dilations, low=low, out=tuple(out))


def _max_pool_infer(x: TensorType, sizes: Sizes, out: tuple[Dim, ...], **_: Any) -> TensorType:
    if x.ndim < len(sizes):
        raise TypeRuleError(f"max_pool over {len(sizes)} dims needs at least as many, not {x}")
    return x.with_shape((*x.shape[: x.ndim - len(sizes)], *out))


def _seen(x: Tensor, sizes: Sizes, **attrs: Any) -> Tensor:
    """The windows, each as one dim."""
    seen = windows(x, sizes, **attrs, value=_lowest(x))
    return reshape(seen, (*seen.shape[: -len(sizes)], math.prod(sizes)))


def _max_pool_reference(x: np.ndarray, sizes: Sizes, **attrs: Any) -> np.ndarray:
    lowest = -math.inf if x.dtype.kind not in "iu" else np.iinfo(x.dtype).min
    seen = OPS["windows"].reference(x, sizes, **attrs, value=lowest)
    return seen.max(tuple(range(-len(sizes), 0)))


def _max_pool_decompose(x: Tensor, sizes: Sizes, **attrs: Any) -> Tensor:
    if math.prod(sizes) > _SPELT_OUT:
        return _seen(x, sizes, **attrs).amax(-1)
    return reduce(maximum, (tap for _, tap in _taps(x, sizes, **attrs)))


def _taps(
    x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...]
) -> Iterator[tuple[int, Tensor]]:
    """The offsets of the windows, numbered, with what each reads: [*b, *out]."""
    ones = (1,) * len(sizes)
    for n, offset in enumerate(np.ndindex(*sizes)):
        first = tuple(p - t * d for p, t, d in zip(low, offset, dilations, strict=True))
        seen = windows(x, ones, strides, ones, first, out, _lowest(x))
        yield n, reshape(seen, seen.shape[: x.ndim])


def _max_pool_vjp(
    g: Tensor,
    y: Tensor,
    x: Tensor,
    sizes: Sizes,
    strides: Sizes,
    dilations: Sizes,
    low: Sizes,
    out: tuple[Dim, ...],
) -> tuple[Tensor]:
    picks = _picks(x, y, sizes=sizes, strides=strides, dilations=dilations, low=low, out=out)
    if lie_apart(sizes, strides, dilations):
        single, taps = (*g.shape, *(1,) * len(sizes)), reshape(arange(math.prod(sizes), dtype=picks.dtype), sizes)
        return (side_by_side(where(reshape(picks, single) == taps, reshape(g, single), 0.0), x, sizes, strides, low),)
    return (given_back(g, x, sizes, strides, dilations, low, lambda n, at: where(at(picks, -1) == n, at(g), 0.0)),)


def _picks(x: Tensor, y: Tensor, sizes: Sizes, **attrs: Any) -> Tensor:
    """Which element of each window, [*b, *out], is the first that is the largest, or nan."""
    if math.prod(sizes) > _SPELT_OUT:
        return _seen(x, sizes, **attrs).argmax(-1)
    first, *others = reversed(list(_taps(x, sizes, **attrs)))
    picks = full(y.shape, first[0], dtype=i32, device=y.device)
    for n, tap in others:
        picks = where((tap == y) | (tap != tap), n, picks)
    return picks


_SPELT_OUT = 32  # elements of a window
_WINDOW = {"sizes": (2,), "strides": (2,), "dilations": (1,), "low": (0,), "out": (3,)}
MAX_POOL = register(
    Op(
        name="max_pool",
        kind="composite",
        infer=_max_pool_infer,
        reference=_max_pool_reference,
        vjp=_max_pool_vjp,
        decompose=_max_pool_decompose,
        samples=(
            Sample(((2, 7),), attrs=_WINDOW),
            Sample(((2, 5, 6),), attrs={
                "sizes": (3, 2), "strides": (2, 1), "dilations": (1, 2), "low": (1, 0), "out": (3, 4),
            }),
        ),
        dtypes="number",
        exact=True,
    )
)  # fmt: skip


def _max_pool(
    x: Tensor, sizes: Any, strides: Any, padding: Any, dilation: Any, ceil_mode: bool, indices: bool, k: int
) -> Any:
    sizes, strides, low, dilations, out = _extents(x, sizes, strides, padding, dilation, ceil_mode, k)
    y = max_pool(x, sizes, strides, dilations, low, out)
    if not indices:
        return y
    seen = _seen(x, sizes=sizes, strides=strides, dilations=dilations, low=low, out=out)
    places = windows(_places(x, k), sizes, strides, dilations, low, out, 0)
    picks = seen.argmax(-1, keepdim=True)
    return y, reshape(places, tuple(seen.shape)).gather(-1, picks).squeeze(-1)


def _places(x: Tensor, k: int) -> Tensor:
    """The row-major position of each element within its dims of space."""
    count = math.prod(x.shape[-k:])
    return broadcast_to(reshape(arange(count), tuple(x.shape[-k:])), tuple(x.shape))


def _avg_pool(
    x: Tensor,
    sizes: Any,
    strides: Any,
    padding: Any,
    ceil_mode: bool,
    counts_padding: bool,
    divisor: int | None,
    k: int,
) -> Tensor:
    sizes, strides, low, ones, out = _extents(x, sizes, strides, padding, 1, ceil_mode, k)
    dims = tuple(range(-k, 0))
    total = windows(x, sizes, strides, ones, low, out).sum(dims)
    if divisor is not None:
        return total / divisor
    plain = not ceil_mode and (counts_padding or not any(low))
    return total / math.prod(sizes) if plain else total / _counts(x, sizes, strides, low, out, counts_padding, k)


def _counts(x: Tensor, sizes: Any, strides: Any, low: Any, out: Any, counts_padding: bool, k: int) -> Tensor:
    """How many elements each window averages: those inside of x, or also those of its padding."""
    extents = tuple(e + 2 * p if counts_padding else e for e, p in zip(x.shape[-k:], low, strict=True))
    first = (0,) * k if counts_padding else low
    seen = windows(full(extents, 1.0, dtype=x.dtype), sizes, strides, (1,) * k, first, out)
    return seen.sum(tuple(range(-k, 0)))


def _adaptive(x: Tensor, output_size: Any, k: int, reduce: str) -> Tensor:
    """One dim after the other: each element is reduced from a part of about equal size."""
    wanted = output_size if isinstance(output_size, (tuple, list)) else (output_size,) * k
    if len(wanted) != k or x.ndim not in (k + 1, k + 2):
        raise TypeRuleError(
            f"adaptive pooling needs {k} sizes and [n, c, *s], not {wanted} and {x.type_}", user_location()
        )
    for d, size in enumerate(wanted, x.ndim - k):
        if size is not None and size != x.shape[d]:
            x = _adapted(x, d, int(size), reduce)
    return x


def _adapted(x: Tensor, d: int, size: int, reduce: str) -> Tensor:
    extent = x.shape[d]
    if extent % size == 0:
        split = reshape(x, (*x.shape[:d], size, extent // size, *x.shape[d + 1 :]))
        return getattr(split, reduce)(d + 1)
    parts = []
    for i in range(size):
        start, stop = i * extent // size, -(-(i + 1) * extent // size)
        starts, stops = [0] * x.ndim, list(x.shape)
        starts[d], stops[d] = start, stop
        parts.append(getattr(slice_dims(x, tuple(starts), tuple(stops), (1,) * x.ndim), reduce)(d))
    return stack(parts, d)


_POOL = """{what} over windows of {k} dims of space.

    Args:
        input: f[n, c, *s] or f[c, *s].
        stride: the kernel's size where it is None.
        ceil_mode: windows may reach beyond the end.

    Raises:
        TypeRuleError: the kernel does not fit.
        ArgumentError: padding of more than half of the kernel.
    """


def _named(fn: Any, name: str, doc: str) -> Any:
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = doc
    return public(method=False)(fn)


def _make_max(k: int) -> Any:
    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        ceil_mode: bool = False,
        return_indices: bool = False,
    ) -> Any:
        return _max_pool(input, kernel_size, stride, padding, dilation, ceil_mode, return_indices, k)

    return _named(pool, f"max_pool{k}d", _POOL.format(what="The largest element", k=k))


def _make_avg(k: int) -> Any:
    def pool(
        input: Tensor,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> Tensor:
        return _avg_pool(input, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override, k)

    return _named(pool, f"avg_pool{k}d", _POOL.format(what="The mean", k=k))


_ADAPTIVE = """{what} over parts of {k} dims of space, of which the result has `output_size`.

    Args:
        input: f[n, c, *s] or f[c, *s].
        output_size: an int, or one int (or None: as the input) for each dim.
    """


def _make_adaptive(k: int, word: str, reduce: str) -> Any:
    def pool(input: Tensor, output_size: Any) -> Tensor:
        return _adaptive(input, output_size, k, reduce)

    what = "The mean" if word == "avg" else "The largest element"
    return _named(pool, f"adaptive_{word}_pool{k}d", _ADAPTIVE.format(what=what, k=k))


max_pool1d, max_pool2d, max_pool3d = map(_make_max, (1, 2, 3))
avg_pool1d, avg_pool2d, avg_pool3d = map(_make_avg, (1, 2, 3))
adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = (_make_adaptive(k, "avg", "mean") for k in (1, 2, 3))
adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = (_make_adaptive(k, "max", "amax") for k in (1, 2, 3))
