"""Convolutions as contractions over windows, and their gradients as other convolutions."""

from __future__ import annotations

from itertools import pairwise
from math import gcd
from typing import Any, NamedTuple

import numpy as np

from tjit.errors import TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.op import OPS, Op, Sample, register
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.ops.contract import contract, matmul
from tjit.ops.creation import full
from tjit.ops.join import cat
from tjit.ops.movement import flip, pad_constant, permute, reshape, slice_dims
from tjit.ops.windows import Sizes, by_phase, spread, windows
from tjit.tensor import Tensor

__all__ = ["convolution", "transposed_convolution"]


def convolution(
    x: Tensor, weight: Tensor, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...], groups: int = 1
) -> Tensor:
    """f[n, f, *out] of f[n, c, *s] and f[f, c / groups, *t].

    y[n, f, o] = sum over c and t of x[n, c, o * stride - low + t * dilation] * weight[f, c, t], with zeros around x:
    their products may be left out, also those with a weight that is not finite.
    """
    return apply(CONVOLUTION, x, weight, strides=strides, dilations=dilations, low=low, out=tuple(out), groups=groups)


def _convolution_infer(x: TensorType, weight: TensorType, out: tuple[Dim, ...], groups: int, **_: Any) -> TensorType:
    if x.dtype is not weight.dtype:
        raise TypeRuleError(
            f"convolution needs operands of one dtype, not {x} and weight {weight}",
            hint="convert one with .to(dtype)",
        )
    if x.shape[1] != weight.shape[1] * groups:
        raise TypeRuleError(f"convolution with {groups} groups takes {weight.shape[1] * groups} channels, not {x}")
    return x.with_shape((x.shape[0], weight.shape[0], *out))


def _columns(x: Tensor, sizes: Sizes, attrs: dict[str, Any], groups: int) -> Tensor:
    """What each output reads, [n, c, *sizes, *out] with the channels of each group apart."""
    k = len(sizes)
    seen = windows(x, sizes, attrs["strides"], attrs["dilations"], attrs["low"], attrs["out"])
    seen = permute(seen, (0, 1, *range(2 + k, 2 + 2 * k), *range(2, 2 + k)))
    return reshape(seen, (x.shape[0], groups, x.shape[1] // groups, *seen.shape[2:]))


def _convolution_decompose(x: Tensor, weight: Tensor, groups: int, **attrs: Any) -> Tensor:
    f, per_group, *sizes = weight.shape
    taps, points = product(sizes), product(attrs["out"])
    columns = reshape(_columns(x, tuple(sizes), attrs, groups), (x.shape[0], groups, per_group * taps, points))
    rows = reshape(weight, (groups, f // groups, per_group * taps))
    return reshape(matmul(rows, columns), (x.shape[0], f, *attrs["out"]))


def _convolution_reference(x: np.ndarray, weight: np.ndarray, groups: int, **attrs: Any) -> np.ndarray:
    f, per_group, *sizes = weight.shape
    k = len(sizes)
    reference = OPS["windows"].reference
    seen = reference(x, tuple(sizes), attrs["strides"], attrs["dilations"], attrs["low"], attrs["out"], 0)
    seen = seen.transpose(0, 1, *range(2 + k, 2 + 2 * k), *range(2, 2 + k))
    columns = seen.reshape(len(x), groups, per_group * int(np.prod(sizes)), int(np.prod(attrs["out"])))
    rows = weight.reshape(groups, f // groups, columns.shape[2])
    return OPS["matmul"].reference(rows, columns).reshape(len(x), f, *attrs["out"])


def _convolution_vjp(
    g: Tensor,
    y: Tensor,
    x: Tensor,
    weight: Tensor,
    strides: Sizes,
    dilations: Sizes,
    low: Sizes,
    out: tuple[Dim, ...],
    groups: int,
) -> tuple[Tensor, Tensor]:
    attrs: dict[str, Any] = {"strides": strides, "dilations": dilations, "low": low, "out": out}
    dx = transposed_convolution(g, weight, strides, dilations, low, x.shape[2:], groups)
    return dx, _weight_gradient(g, x, weight, groups, attrs)


def _weight_gradient(g: Tensor, x: Tensor, weight: Tensor, groups: int, attrs: dict[str, Any]) -> Tensor:
    """One contraction over the batch and all positions."""
    f, per_group, *sizes = weight.shape
    k, points = len(sizes), product(attrs["out"])
    split = reshape(g, (g.shape[0], groups, f // groups, points))
    rows = reshape(permute(split, (1, 2, 0, 3)), (groups, f // groups, g.shape[0] * points))
    seen = _columns(x, tuple(sizes), attrs, groups)  # [n, groups, c, *sizes, *out]
    seen = permute(seen, (1, 0, *range(3 + k, 3 + 2 * k), *range(2, 3 + k)))
    columns = reshape(seen, (groups, g.shape[0] * points, per_group * product(sizes)))
    return reshape(contract(rows, columns), weight.shape)


def transposed_convolution(
    x: Tensor, weight: Tensor, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...], groups: int = 1
) -> Tensor:
    """f[n, c, *out] of f[n, f, *s] and f[f, c / groups, *t]: what the convolution of [n, c, *out] gives back for x.

    y[n, c, i] = sum over f, t and the o with o * stride - low + t * dilation = i of x[n, f, o] * weight[f, c, t].
    """
    attrs: dict[str, Any] = {"strides": strides, "dilations": dilations, "low": low, "out": tuple(out)}
    return apply(TRANSPOSED_CONVOLUTION, x, weight, **attrs, groups=groups)


def _transposed_infer(x: TensorType, weight: TensorType, out: tuple[Dim, ...], groups: int, **_: Any) -> TensorType:
    if x.dtype is not weight.dtype:
        raise TypeRuleError(
            f"transposed_convolution needs operands of one dtype, not {x} and weight {weight}",
            hint="convert one with .to(dtype)",
        )
    if x.shape[1] != weight.shape[0]:
        raise TypeRuleError(f"transposed_convolution of weight {weight} takes {weight.shape[0]} channels, not {x}")
    return x.with_shape((x.shape[0], weight.shape[1] * groups, *out))


def _transposed_reference(
    x: np.ndarray,
    weight: np.ndarray,
    strides: Sizes,
    dilations: Sizes,
    low: Sizes,
    out: tuple[int, ...],
    groups: int,
) -> np.ndarray:
    """Each tap adds a product to every stride-th element, from its own place on."""
    f, per_group, *sizes = weight.shape
    dtype = np.dtype(np.float32) if x.dtype.itemsize == 2 else x.dtype
    points = x.reshape(len(x), groups, f // groups, product(x.shape[2:])).astype(dtype, copy=False)
    rows = weight.reshape(groups, f // groups, per_group, *sizes).astype(dtype, copy=False)
    spans = [(e - 1) * s + 1 if e else 0 for e, s in zip(x.shape[2:], strides, strict=True)]
    room = [max(p + o, (t - 1) * d + span) for p, o, t, d, span in zip(low, out, sizes, dilations, spans, strict=True)]
    total = np.zeros((len(x), groups * per_group, *room), dtype)
    for tap in np.ndindex(*sizes):
        part = rows[(..., *tap)].swapaxes(1, 2) @ points
        first = [t * d for t, d in zip(tap, dilations, strict=True)]
        at = tuple(slice(a, a + span, s) for a, span, s in zip(first, spans, strides, strict=True))
        total[(..., *at)] += part.reshape(len(x), groups * per_group, *x.shape[2:])
    inside = tuple(slice(p, p + o) for p, o in zip(low, out, strict=True))
    return total[(..., *inside)].astype(x.dtype)


def _transposed_vjp(
    g: Tensor, y: Tensor, x: Tensor, weight: Tensor, out: tuple[Dim, ...], groups: int, **attrs: Any
) -> tuple[Tensor, Tensor]:
    attrs["out"] = x.shape[2:]
    return convolution(g, weight, **attrs, groups=groups), _weight_gradient(x, g, weight, groups, attrs)


def _transposed_decompose(
    x: Tensor, weight: Tensor, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...], groups: int
) -> Tensor:
    """A convolution of stride 1 with the taps in reverse, of each phase of the result or of x spread out.

    An element at i takes part in outputs (i + low - t*dilation) / stride, for the taps t where that is whole. Elements
    of one phase, i % stride, have the same taps.
    """
    f, per_group, *sizes = weight.shape
    k = len(sizes)
    split = reshape(weight, (groups, f // groups, per_group, *sizes))
    turned = reshape(permute(split, (0, 2, 1, *range(3, 3 + k))), (groups * per_group, f // groups, *sizes))
    ones = (1,) * k
    if max(strides) > 1 and _runs_spread(x, turned, strides, out):
        before = tuple(d * (t - 1) - p for t, d, p in zip(sizes, dilations, low, strict=True))
        taps = flip(turned, tuple(range(2, 2 + k)))
        return convolution(spread(x, strides), taps, ones, dilations, before, out, groups)
    if _stacks_phases(tuple(sizes), strides, dilations, (*x.shape[1:], *out)):
        return _stacked_phases(x, turned, strides, low, out, groups)

    def phase(first: Sizes, extents: tuple[Dim, ...]) -> Tensor | None:
        found = [_taps(*at) for at in zip(first, sizes, strides, dilations, low, strict=True)]
        if not all(run.taps for run in found):
            return None
        starts = (0, 0, *(run.first for run in found))
        stops = (*turned.shape[:2], *(run.first + run.step * (run.taps - 1) + 1 for run in found))
        taps = slice_dims(turned, starts, stops, (1, 1, *(run.step for run in found)))
        taps = flip(taps, tuple(range(2, 2 + k)))
        apart = tuple(run.apart for run in found)
        return convolution(x, taps, ones, apart, tuple(run.low for run in found), extents, groups)

    return by_phase(x.type_.with_shape((x.shape[0], groups * per_group, *out)), strides, phase)


def _stacks_phases(sizes: Sizes, strides: Sizes, dilations: Sizes, dims: tuple[Dim, ...]) -> bool:
    """Whether phases are so many that few convolutions of all are faster than one of each."""
    parts = product(1 + (t > s and t % s > 0) for t, s in zip(sizes, strides, strict=True))
    static = all(isinstance(d, int) for d in dims)
    return static and max(dilations) == 1 and product(strides) >= _STACKED_PHASES * parts


def _stacked_phases(x: Tensor, turned: Tensor, strides: Sizes, low: Sizes, out: tuple[Dim, ...], groups: int) -> Tensor:
    """The result from convolutions with phases as channels, one of all that have as many taps.

    At i + low = q * stride + r, tap j * stride + r reads x at q - j: phases that are counted from the padding on all
    read the same windows.
    """
    k, sizes = len(strides), turned.shape[2:]
    counts = tuple(-(-(p + e) // s) for p, e, s in zip(low, out, strides, strict=True))

    def stacked(first: Sizes, stop: Sizes) -> Tensor:
        """[n, c, *phases, *counts] of a box of phases."""
        if len(first) == k:
            return _phases_as_channels(x, turned, strides, tuple(zip(first, stop, strict=True)), counts, groups)
        d = len(first)
        rest = sizes[d] % strides[d]  # as many phases have a tap more
        parts = [stacked((*first, a), (*stop, b)) for a, b in pairwise((0, rest, strides[d])) if a < b]
        return parts[0] if len(parts) == 1 else cat(parts, 2 + d)

    found = stacked((), ())
    found = permute(found, (0, 1, *(d for n in range(k) for d in (2 + k + n, 2 + n))))
    found = reshape(found, (*found.shape[:2], *(q * s for q, s in zip(counts, strides, strict=True))))
    stops = tuple(p + e for p, e in zip(low, out, strict=True))
    return slice_dims(found, (0, 0, *low), (*found.shape[:2], *stops), (1,) * (2 + k))


def _phases_as_channels(
    x: Tensor, turned: Tensor, strides: Sizes, phases: tuple[tuple[int, int], ...], counts: tuple[Dim, ...], groups: int
) -> Tensor:
    """[n, c, *phases, *counts]: a range of phases in each dim, all with as many taps."""
    k, (channels, per_filter, *sizes) = len(strides), turned.shape
    taps = tuple(len(range(a, t, s)) for (a, _), t, s in zip(phases, sizes, strides, strict=True))
    extents = tuple(b - a for a, b in phases)
    if not all(taps):
        return full((x.shape[0], channels, *extents, *counts), 0, dtype=x.dtype, device=x.type_.device)
    reach = tuple(max(0, n * s - t) for n, t, s in zip(taps, sizes, strides, strict=True))
    padded = pad_constant(turned, (0,) * (2 + k), (0, 0, *reach), 0)  # what is padded is cut off with the phases
    stops = tuple(n * s for n, s in zip(taps, strides, strict=True))
    rows = slice_dims(padded, (0,) * (2 + k), (channels, per_filter, *stops), (1,) * (2 + k))
    rows = reshape(rows, (channels, per_filter, *(d for n, s in zip(taps, strides, strict=True) for d in (n, s))))
    rows = permute(rows, (0, *range(3, 3 + 2 * k, 2), 1, *range(2, 2 + 2 * k, 2)))  # [c, *strides, f, *taps]
    first, last = tuple(a for a, _ in phases), tuple(b for _, b in phases)
    rows = slice_dims(rows, (0, *first, *(0,) * (1 + k)), (channels, *last, *rows.shape[1 + k :]), (1,) * (2 + 2 * k))
    rows = flip(reshape(rows, (channels * product(extents), per_filter, *taps)), tuple(range(2, 2 + k)))
    ones = (1,) * k
    found = convolution(x, rows, ones, ones, tuple(n - 1 for n in taps), counts, groups)
    return reshape(found, (x.shape[0], channels, *extents, *counts))


def _runs_spread(x: Tensor, turned: Tensor, strides: Sizes, out: tuple[Dim, ...]) -> bool:
    """Whether x is read as if it were spread out, all phases at once: one channel each, few taps and phases."""
    channels, per_filter, *sizes = turned.shape
    is_static = all(isinstance(d, int) for d in (*x.shape[1:], *out))
    if x.type_.device.type != "cpu" or not is_static or min(x.shape[2:]) == 1:
        return False
    few = product(sizes) <= _SPREAD_TAPS and max(strides) <= _SPREAD_STRIDE
    return few and x.shape[1] == channels and per_filter == 1


class _Taps(NamedTuple):
    """The taps first, first + step, ... of one phase; `apart` and `low` as its convolution has them."""

    first: int
    step: int
    taps: int
    apart: int
    low: int


def _taps(phase: int, size: int, stride: int, dilation: int, low: int) -> _Taps:
    step = stride // gcd(stride, dilation)
    first = next((t for t in range(min(step, size)) if (phase + low - t * dilation) % stride == 0), size)
    count = len(range(first, size, step))
    apart = step * dilation // stride
    return _Taps(first, step, count, apart, (count - 1) * apart - (phase + low - first * dilation) // stride)


_STACKED_PHASES = 16  # of one convolution: packing its weights and moving its results cost more than fewer kernels save
_SPREAD_TAPS, _SPREAD_STRIDE = 64, 8  # all of a kernel's taps are spelt out, and every phase has sums of its own

_CONVOLUTION = {"strides": (1,), "dilations": (1,), "low": (1,), "out": (7,), "groups": 1}
CONVOLUTION = register(
    Op(
        name="convolution",
        kind="composite",
        infer=_convolution_infer,
        reference=_convolution_reference,
        vjp=_convolution_vjp,
        decompose=_convolution_decompose,
        samples=(
            Sample(((2, 3, 7), (4, 3, 3)), attrs=_CONVOLUTION),
            Sample(((2, 4, 9), (6, 2, 3)), attrs={**_CONVOLUTION, "strides": (2,), "out": (5,), "groups": 2}),
            Sample(((1, 2, 9), (3, 2, 2)), attrs={**_CONVOLUTION, "strides": (3,), "dilations": (2,), "out": (3,)}),
            Sample(
                ((2, 2, 5, 6), (3, 2, 3, 2)),
                attrs={"strides": (2, 1), "dilations": (1, 2), "low": (1, 0), "out": (3, 4), "groups": 1},
            ),
        ),
    )
)

TRANSPOSED_CONVOLUTION = register(
    Op(
        name="transposed_convolution",
        kind="composite",
        infer=_transposed_infer,
        reference=_transposed_reference,
        vjp=_transposed_vjp,
        decompose=_transposed_decompose,
        samples=(
            Sample(((2, 4, 7), (4, 3, 3)), attrs=_CONVOLUTION),
            Sample(((2, 6, 5), (6, 2, 3)), attrs={**_CONVOLUTION, "strides": (2,), "out": (10,), "groups": 2}),
            Sample(((2, 5, 4), (5, 1, 3)), attrs={**_CONVOLUTION, "strides": (3,), "out": (11,), "groups": 5}),
            Sample(((1, 3, 3), (3, 2, 2)), attrs={**_CONVOLUTION, "strides": (3,), "dilations": (2,), "out": (9,)}),
            Sample(
                ((2, 3, 3, 4), (3, 2, 3, 2)),
                attrs={"strides": (2, 1), "dilations": (1, 2), "low": (1, 0), "out": (5, 6), "groups": 1},
            ),
            Sample(
                ((2, 3, 4, 3), (3, 1, 3, 5)),
                attrs={"strides": (2, 3), "dilations": (1, 1), "low": (1, 2), "out": (8, 8), "groups": 3},
            ),
        ),
    )
)
