"""Windows over the last dims of a tensor: an index map, so no copy of the windows lies in memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim, at_least
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.creation import full
from tjit.ops.index import slice_update
from tjit.ops.movement import pad_constant, permute, reshape, slice_dims
from tjit.tensor import Tensor

__all__ = ["Sizes", "by_phase", "given_back", "lie_apart", "per_dim", "side_by_side", "spread", "windows"]

Sizes = tuple[int, ...]


def per_dim(value: Any, dims: int, what: str) -> Sizes:
    """One int for each of `dims` dims, of an int or a sequence.

    Raises:
        ArgumentError: a sequence of another length.
    """
    found = tuple(value) if isinstance(value, (tuple, list)) else (value,) * dims
    if len(found) == 1:
        found = found * dims
    if len(found) != dims:
        raise ArgumentError(f"{what} needs {dims} numbers, not {list(found)}", user_location())
    return tuple(int(v) for v in found)


def windows(
    x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...], value: float = 0
) -> Tensor:
    """f[*b, *out, *sizes] of f[*b, *s]: element (o, t) is x[o*stride - low + t*dilation]; `value` outside of x."""
    return apply(WINDOWS, x, sizes=sizes, strides=strides, dilations=dilations, low=low, out=tuple(out), value=value)


def _windows_infer(x: TensorType, sizes: Sizes, out: tuple[Dim, ...], **_: Any) -> TensorType:
    if x.ndim < len(sizes):
        raise TypeRuleError(f"windows over {len(sizes)} dims need at least as many, not {x}")
    return x.with_shape((*x.shape[: x.ndim - len(sizes)], *out, *sizes))


def _windows_reference(
    x: np.ndarray, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: Sizes, value: float
) -> np.ndarray:
    lead, k = x.ndim - len(sizes), len(sizes)
    x = x[(..., *(slice(max(0, -p), None) for p in low))]
    low = tuple(max(0, p) for p in low)
    need = [
        (o - 1) * s + (t - 1) * d + 1 if o else 0 for o, s, t, d in zip(out, strides, sizes, dilations, strict=True)
    ]
    high = [max(0, n - p - e) for n, p, e in zip(need, low, x.shape[lead:], strict=True)]
    padded = np.pad(
        x, [(0, 0)] * lead + list(zip(low, high, strict=True)), constant_values=np.asarray(value).astype(x.dtype)
    )
    step = padded.strides[lead:]
    inner = [
        *(a * s for a, s in zip(step, strides, strict=True)),
        *(a * d for a, d in zip(step, dilations, strict=True)),
    ]
    view = np.lib.stride_tricks.as_strided(padded, (*x.shape[:lead], *out, *sizes), (*padded.strides[:lead], *inner))
    assert view.ndim == lead + 2 * k
    return view.copy()


def _windows_index(
    i: tuple[Dim, ...], x: TensorType, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: Any, value: Any
) -> Any:
    k = len(sizes)
    lead = x.ndim - k
    places = tuple(i[lead + n] * strides[n] + i[lead + k + n] * dilations[n] - low[n] for n in range(k))
    reach = [
        (o - 1) * s + (t - 1) * d + 1 - p for o, s, t, d, p in zip(out, strides, sizes, dilations, low, strict=True)
    ]
    outside = [p > 0 or not at_least(e - r, 0) for p, r, e in zip(low, reach, x.shape[lead:], strict=True)]
    return (*i[:lead], *places), tuple(
        (place, e) for place, e, may in zip(places, x.shape[lead:], outside, strict=True) if may
    )


def _windows_vjp(
    g: Tensor, y: Tensor, x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: Any, value: Any
) -> tuple[Tensor]:
    """Windows that lie apart give back x block by block, others a strided part of x for each of their offsets."""
    if lie_apart(sizes, strides, dilations):
        return (side_by_side(g, x, sizes, strides, low),)

    def given(n: int, at: Callable[..., Tensor]) -> Tensor:
        offset = tuple(map(int, np.unravel_index(n, sizes)))
        starts, stops = (*(0,) * x.ndim, *offset), (*g.shape[: x.ndim], *(t + 1 for t in offset))
        return at(reshape(slice_dims(g, starts, stops, (1,) * g.ndim), g.shape[: x.ndim]))

    return (given_back(g, x, sizes, strides, dilations, low, given),)


def lie_apart(sizes: Sizes, strides: Sizes, dilations: Sizes) -> bool:
    """Whether every element is in one window at most, and windows have no holes."""
    return all(t == 1 or (d == 1 and t <= s) for t, s, d in zip(sizes, strides, dilations, strict=True))


def side_by_side(g: Tensor, x: Tensor, sizes: Sizes, strides: Sizes, low: Sizes) -> Tensor:
    """The gradient of x where every element is in one window at most: the windows' own, each with its gap behind it."""
    k = len(sizes)
    lead = x.ndim - k
    gaps = (s - t for t, s in zip(sizes, strides, strict=True))
    blocks = pad_constant(g, (0,) * g.ndim, (*(0,) * (lead + k), *gaps), 0)
    blocks = permute(blocks, (*range(lead), *(d for n in range(lead, lead + k) for d in (n, n + k))))
    reach = tuple(o * s for o, s in zip(g.shape[lead : lead + k], strides, strict=True))
    flat = reshape(blocks, (*x.shape[:lead], *reach))  # from position -low on
    before = [max(0, -p) for p in low]
    after = [max(0, e + p - r) for e, p, r in zip(x.shape[lead:], low, reach, strict=True)]
    flat = pad_constant(flat, (*(0,) * lead, *before), (*(0,) * lead, *after), 0)
    starts = [max(0, p) for p in low]
    stops = [p + e for p, e in zip(starts, x.shape[lead:], strict=True)]
    return slice_dims(flat, (*(0,) * lead, *starts), (*x.shape[:lead], *stops), (1,) * x.ndim)


def spread(x: Tensor, strides: Sizes) -> Tensor:
    """[*b, *s] as [*b, *(s * stride)]: zeros between the elements, stride - 1 behind each."""
    lead = x.ndim - len(strides)
    inner = x.shape[lead:]
    apart = reshape(x, (*x.shape[:lead], *(d for e in inner for d in (e, 1))))
    gaps = tuple(gap for s in strides for gap in (0, s - 1))
    apart = pad_constant(apart, (0,) * apart.ndim, (*(0,) * lead, *gaps), 0)
    return reshape(apart, (*x.shape[:lead], *(e * s for e, s in zip(inner, strides, strict=True))))


def given_back(
    g: Tensor,
    x: Tensor,
    sizes: Sizes,
    strides: Sizes,
    dilations: Sizes,
    low: Sizes,
    given: Callable[[int, Callable[..., Tensor]], Tensor],
) -> Tensor:
    """[*b, *s] of x: for each element the sum of what the offsets of windows give that read it.

    An offset reads elements of one phase, position modulo stride. `given(n, at)` is what offset n gives to those;
    `at(v, value)` is v, [*b, *out], at the windows that read them, and `value` where there are none.
    """
    ones = (1,) * len(sizes)

    def phase(first: Sizes, extents: tuple[Dim, ...]) -> Tensor | None:
        total: Tensor | None = None
        for n, offset in enumerate(np.ndindex(*sizes)):
            places = [i + p - t * d for i, p, t, d in zip(first, low, offset, dilations, strict=True)]
            if all(place % s == 0 for place, s in zip(places, strides, strict=True)):
                before = tuple(-place // s for place, s in zip(places, strides, strict=True))
                part = given(n, lambda v, value=0, before=before: shifted(v, before, extents, value))
                total = part if total is None else total + part
        return total

    def shifted(v: Tensor, before: Sizes, extents: tuple[Dim, ...], value: float) -> Tensor:
        seen = windows(v, ones, ones, ones, before, extents, value)
        return reshape(seen, seen.shape[: x.ndim])

    return by_phase(g.type_.with_shape(x.shape), strides, phase)


def by_phase(type_: TensorType, strides: Sizes, phase: Callable[[Sizes, tuple[Dim, ...]], Tensor | None]) -> Tensor:
    """A tensor of this type from its phases: its last dims, position modulo stride.

    `phase(first, extents)` is [*b, *extents], of the elements first, first + strides, ...; None where they are zero.
    """
    shape, lead = type_.shape, type_.ndim - len(strides)
    result: Tensor | None = None
    for first in np.ndindex(*strides):
        extents = tuple((e - i + s - 1) // s for e, i, s in zip(shape[lead:], first, strides, strict=True))
        part = None if any(isinstance(e, int) and e <= 0 for e in extents) else phase(first, extents)
        if part is not None and max(strides) == 1:
            return part
        if part is not None:
            result = full(shape, 0, dtype=type_.dtype, device=type_.device) if result is None else result
            result = slice_update(result, part, (*(0,) * lead, *first), shape, (*(1,) * lead, *strides))
    return full(shape, 0, dtype=type_.dtype, device=type_.device) if result is None else result


_SAMPLE = {"sizes": (3,), "strides": (1,), "dilations": (1,), "low": (1,), "out": (7,), "value": 0}
WINDOWS = register(
    Op(
        name="windows",
        kind="movement",
        infer=_windows_infer,
        reference=_windows_reference,
        vjp=_windows_vjp,
        index=_windows_index,
        samples=(
            Sample(((2, 7),), attrs=_SAMPLE),
            Sample(((9,),), attrs={**_SAMPLE, "strides": (2,), "dilations": (2,), "low": (0,), "out": (3,)}),
            Sample(((2, 9),), attrs={**_SAMPLE, "strides": (3,), "out": (3,)}),
            Sample(((11,),), attrs={**_SAMPLE, "sizes": (2,), "strides": (4,), "out": (3,)}),
            Sample(((10,),), attrs={**_SAMPLE, "sizes": (2,), "strides": (3,), "low": (-1,), "out": (3,)}),
            Sample(
                ((2, 5, 7),),
                attrs={
                    "sizes": (2, 3), "strides": (2, 3), "dilations": (1, 1), "low": (0, 0), "out": (2, 2), "value": 0,
                },
            ),
            Sample(
                ((2, 5, 6),),
                attrs={
                    "sizes": (3, 2), "strides": (2, 1), "dilations": (1, 2), "low": (1, 0), "out": (3, 4), "value": 0,
                },
            ),
        ),
        dtypes="any",
        exact=True,
    )
)  # fmt: skip
