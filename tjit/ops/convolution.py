"""Convolutions as contractions over windows: `windows` is an index map, so no copy of the windows lies in memory."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.contract import matmul
from tjit.ops.movement import dilate, flip, pad_constant, permute, reshape, slice_dims
from tjit.ops.public import public
from tjit.tensor import Tensor

__all__ = [
    "conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d", "per_dim", "windows",
]  # fmt: skip

Sizes = tuple[int, ...]


def windows(
    x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: tuple[Dim, ...], value: float = 0
) -> Tensor:
    """f[*b, *out, *sizes] of f[*b, *s]: element (o, t) is x[o * stride - low + t * dilation]; `value` outside of x."""
    return apply(WINDOWS, x, sizes=sizes, strides=strides, dilations=dilations, low=low, out=tuple(out), value=value)


def _windows_infer(x: TensorType, sizes: Sizes, out: tuple[Dim, ...], **_: Any) -> TensorType:
    if x.ndim < len(sizes):
        raise TypeRuleError(f"windows over {len(sizes)} dims need at least as many, not {x}")
    return x.with_shape((*x.shape[: x.ndim - len(sizes)], *out, *sizes))


def _windows_reference(
    x: np.ndarray, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: Sizes, value: float
) -> np.ndarray:
    lead, k = x.ndim - len(sizes), len(sizes)
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
    outside = [bool(p) or r != e for p, r, e in zip(low, reach, x.shape[lead:], strict=True)]
    return (*i[:lead], *places), tuple(
        (place, e) for place, e, may in zip(places, x.shape[lead:], outside, strict=True) if may
    )


def _windows_vjp(
    g: Tensor, y: Tensor, x: Tensor, sizes: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, out: Any, value: Any
) -> tuple[Tensor]:
    """Each offset of the window gives back a strided part of x."""
    k = len(sizes)
    lead = x.ndim - k
    total: Tensor | None = None
    for offset in np.ndindex(*sizes):
        starts = (*(0,) * (lead + k), *offset)
        stops = (*g.shape[: lead + k], *(t + 1 for t in offset))
        part = reshape(slice_dims(g, starts, stops, (1,) * g.ndim), g.shape[: lead + k])
        spread = _spread(part, x, offset, strides, dilations, low, lead)
        total = spread if total is None else total + spread
    assert total is not None
    return (total,)


def _spread(part: Tensor, x: Tensor, offset: Sizes, strides: Sizes, dilations: Sizes, low: Sizes, lead: int) -> Tensor:
    """Zeros of x's shape with `part` where an offset of the windows reads."""
    steps = (*(1,) * lead, *strides)
    reach = tuple((o - 1) * s + 1 for o, s in zip(part.shape[lead:], strides, strict=True))
    wide = dilate(part, steps, (*part.shape[:lead], *reach))
    first = [t * d - p for t, d, p in zip(offset, dilations, low, strict=True)]
    before = [max(0, f) for f in first]
    after = [max(0, e - f - r) for e, f, r in zip(x.shape[lead:], first, reach, strict=True)]
    padded = pad_constant(wide, (*(0,) * lead, *before), (*(0,) * lead, *after), 0)
    starts = [max(0, -f) for f in first]
    bounds = [(s, s + e) for s, e in zip(starts, x.shape[lead:], strict=True)]
    return slice_dims(
        padded,
        (*(0,) * lead, *(a for a, _ in bounds)),
        (*padded.shape[:lead], *(b for _, b in bounds)),
        (1,) * x.ndim,
    )


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


# Convolutions


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


def _padding(padding: Any, sizes: Sizes, strides: Sizes, dilations: Sizes) -> tuple[Sizes, Sizes]:
    """Elements added before and after each dim."""
    if padding == "valid":
        return (0,) * len(sizes), (0,) * len(sizes)
    if padding == "same":
        if any(s != 1 for s in strides):
            raise ArgumentError("padding='same' is not supported for strided convolutions", user_location())
        both = [d * (t - 1) for t, d in zip(sizes, dilations, strict=True)]
        return tuple(b // 2 for b in both), tuple(b - b // 2 for b in both)
    if isinstance(padding, str):
        raise ArgumentError(f"padding is 'valid', 'same' or numbers, not {padding!r}", user_location())
    low = per_dim(padding, len(sizes), "padding")
    return low, low


def _conv(
    x: Tensor, weight: Tensor, bias: Tensor | None, stride: Any, padding: Any, dilation: Any, groups: int, k: int
) -> Tensor:
    name = f"conv{k}d"
    if x.ndim not in (k + 1, k + 2) or weight.ndim != k + 2:
        raise TypeRuleError(
            f"{name} needs an input [n, c, *s] or [c, *s] and a weight [f, c, *t] with {k} dims of space, not "
            f"{x.type_} and {weight.type_}",
            user_location(),
        )
    if x.ndim == k + 1:
        return _conv(x.unsqueeze(0), weight, bias, stride, padding, dilation, groups, k).squeeze(0)
    n, c = x.shape[:2]
    f, per_group, *sizes = weight.shape
    if c != per_group * groups or f % groups:
        raise TypeRuleError(
            f"{name} with {groups} groups needs as many channels as the weight has for all groups: {x.type_} has {c}, "
            f"{weight.type_} takes {per_group * groups}",
            user_location(),
        )
    sizes = tuple(sizes)
    strides, dilations = per_dim(stride, k, "stride"), per_dim(dilation, k, "dilation")
    low, high = _padding(padding, sizes, strides, dilations)
    out = tuple(
        (e + a + b - d * (t - 1) - 1) // s + 1
        for e, a, b, d, t, s in zip(x.shape[2:], low, high, dilations, sizes, strides, strict=True)
    )
    if any(isinstance(o, int) and o <= 0 for o in out):
        raise TypeRuleError(
            f"{name}: the kernel of size {list(sizes)} does not fit into the padded input {x.type_}", user_location()
        )
    seen = windows(x, sizes, strides, dilations, low, out)  # [n, c, *out, *sizes]
    order = (0, 1, *range(2 + k, 2 + 2 * k), *range(2, 2 + k))
    taps, points = product(sizes), product(out)
    columns = reshape(permute(seen, order), (n, groups, per_group * taps, points))
    rows = reshape(weight, (groups, f // groups, per_group * taps))
    y = reshape(matmul(rows, columns), (n, f, *out))
    return y if bias is None else y + reshape(bias, (f, *(1,) * k))


def _conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    stride: Any,
    padding: Any,
    output_padding: Any,
    groups: int,
    dilation: Any,
    k: int,
) -> Tensor:
    """The gradient of a convolution by its input: a convolution of the spread input with the flipped weight."""
    name = f"conv_transpose{k}d"
    if x.ndim not in (k + 1, k + 2) or weight.ndim != k + 2:
        raise TypeRuleError(
            f"{name} needs an input [n, c, *s] or [c, *s] and a weight [c, f, *t] with {k} dims of space, not "
            f"{x.type_} and {weight.type_}",
            user_location(),
        )
    if x.ndim == k + 1:
        inner = _conv_transpose(x.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation, k)
        return inner.squeeze(0)
    c, per_group, *sizes = weight.shape
    if x.shape[1] != c or c % groups:
        raise TypeRuleError(f"{name} needs an input of {c} channels for {weight.type_}, not {x.type_}", user_location())
    strides, dilations = per_dim(stride, k, "stride"), per_dim(dilation, k, "dilation")
    pads, extra = per_dim(padding, k, "padding"), per_dim(output_padding, k, "output_padding")
    spread = dilate(
        x, (1, 1, *strides), (*x.shape[:2], *((e - 1) * s + 1 for e, s in zip(x.shape[2:], strides, strict=True)))
    )
    low = [d * (t - 1) - p for d, t, p in zip(dilations, sizes, pads, strict=True)]
    high = [a + e for a, e in zip(low, extra, strict=True)]
    padded = pad_constant(spread, (0, 0, *(max(0, a) for a in low)), (0, 0, *(max(0, a) for a in high)), 0)
    cut = [(max(0, -a), e - max(0, -b)) for a, b, e in zip(low, high, padded.shape[2:], strict=True)]
    padded = slice_dims(
        padded, (0, 0, *(a for a, _ in cut)), (*padded.shape[:2], *(b for _, b in cut)), (1,) * padded.ndim
    )
    split = reshape(weight, (groups, c // groups, per_group, *sizes))
    turned = flip(permute(split, (0, 2, 1, *range(3, 3 + k))), tuple(range(3, 3 + k)))
    flat = reshape(turned, (groups * per_group, c // groups, *sizes))
    return _conv(padded, flat, bias, 1, 0, dilation, groups, k)


_TEXT = """{what} over {k} dims of space.

    Args:
        input: f[n, c, *s] or f[c, *s].
        weight: {weight}.
        bias: f[f], added to each channel.

    Raises:
        TypeRuleError: the shapes do not fit together.
        ArgumentError: stride, padding or dilation have another number of dims.
    """


def _doc(fn: Any, k: int, transposed: bool) -> Any:
    what = "The transpose of a convolution" if transposed else "Convolution"
    fn.__doc__ = _TEXT.format(what=what, k=k, weight="f[c, f / groups, *t]" if transposed else "f[f, c / groups, *t]")
    return fn


def _make(k: int) -> Any:
    def conv(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
    ) -> Tensor:
        return _conv(input, weight, bias, stride, padding, dilation, groups, k)

    conv.__name__ = conv.__qualname__ = f"conv{k}d"
    return public(method=False)(_doc(conv, k, transposed=False))


def _make_transpose(k: int) -> Any:
    def conv(
        input: Tensor,
        weight: Tensor,
        bias: Tensor | None = None,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        dilation: Any = 1,
    ) -> Tensor:
        return _conv_transpose(input, weight, bias, stride, padding, output_padding, groups, dilation, k)

    conv.__name__ = conv.__qualname__ = f"conv_transpose{k}d"
    return public(method=False)(_doc(conv, k, transposed=True))


conv1d, conv2d, conv3d = map(_make, (1, 2, 3))
conv_transpose1d, conv_transpose2d, conv_transpose3d = map(_make_transpose, (1, 2, 3))
