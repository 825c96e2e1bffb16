"""conv1d to conv3d and their transposes, with PyTorch's arguments."""

from __future__ import annotations

from typing import Any

from tjit.errors import ArgumentError, TypeRuleError
from tjit.location import user_location
from tjit.ops.convolution import convolution, transposed_convolution
from tjit.ops.movement import reshape
from tjit.ops.public import public
from tjit.ops.windows import Sizes, per_dim
from tjit.tensor import Tensor

__all__ = ["conv1d", "conv2d", "conv3d", "conv_transpose1d", "conv_transpose2d", "conv_transpose3d"]


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
    _check_ranks(name, x, weight, "[f, c, *t]", k)
    if x.ndim == k + 1:
        return _conv(x.unsqueeze(0), weight, bias, stride, padding, dilation, groups, k).squeeze(0)
    c = x.shape[1]
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
    y = convolution(x, weight, strides, dilations, low, out, groups)
    return y if bias is None else y + reshape(bias, (f, *(1,) * k))


def _check_ranks(name: str, x: Tensor, weight: Tensor, layout: str, k: int) -> None:
    if x.ndim not in (k + 1, k + 2) or weight.ndim != k + 2:
        raise TypeRuleError(
            f"{name} needs an input [n, c, *s] or [c, *s] and a weight {layout} with {k} dims of space, not "
            f"{x.type_} and {weight.type_}",
            user_location(),
        )


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
    """The gradient of a convolution by its input."""
    name = f"conv_transpose{k}d"
    _check_ranks(name, x, weight, "[c, f, *t]", k)
    if x.ndim == k + 1:
        inner = _conv_transpose(x.unsqueeze(0), weight, bias, stride, padding, output_padding, groups, dilation, k)
        return inner.squeeze(0)
    c, per_group, *sizes = weight.shape
    if x.shape[1] != c or c % groups:
        raise TypeRuleError(f"{name} needs an input of {c} channels for {weight.type_}, not {x.type_}", user_location())
    strides, dilations = per_dim(stride, k, "stride"), per_dim(dilation, k, "dilation")
    pads, extra = per_dim(padding, k, "padding"), per_dim(output_padding, k, "output_padding")
    extents = tuple(
        (e - 1) * s - 2 * p + d * (t - 1) + a + 1
        for e, s, p, d, t, a in zip(x.shape[2:], strides, pads, dilations, sizes, extra, strict=True)
    )
    if any(isinstance(e, int) and e <= 0 for e in extents):
        raise TypeRuleError(f"{name}: padding {list(pads)} leaves nothing of {x.type_}", user_location())
    y = transposed_convolution(x, weight, strides, dilations, pads, extents, groups)
    return y if bias is None else y + reshape(bias, (groups * per_group, *(1,) * k))


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
