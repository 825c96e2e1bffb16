"""Convolution and pooling layers."""

from __future__ import annotations

import math
from typing import Any

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.nn import init
from tjit.nn.module import Module
from tjit.nn.parameter import Parameter
from tjit.ops import conv, pooling
from tjit.ops.creation import empty
from tjit.ops.windows import per_dim
from tjit.tensor import Tensor

__all__ = [
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "AdaptiveMaxPool1d", "AdaptiveMaxPool2d",
    "AdaptiveMaxPool3d", "AvgPool1d", "AvgPool2d", "AvgPool3d", "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d",
    "ConvTranspose2d", "ConvTranspose3d", "MaxPool1d", "MaxPool2d", "MaxPool3d",
]  # fmt: skip


class _Conv(Module):
    """What convolutions have in common.

    Attributes:
        weight: f[out, in / groups, *kernel] (transposed: f[in, out / groups, *kernel]), uniform within
            1 / sqrt(in / groups * product of kernel) at first.
        bias: f[out] or None.
    """

    _dims = 2
    _transposed = False

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        dilation: Any = 1,
        groups: int = 1,
        bias: bool = True,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
        output_padding: Any = 0,
    ) -> None:
        super().__init__()
        if groups <= 0 or in_channels % groups or out_channels % groups:
            raise ArgumentError(
                f"in_channels and out_channels must be divisible by groups, not {in_channels} and {out_channels} "
                f"by {groups}",
                user_location(),
            )
        if padding_mode != "zeros":
            raise ArgumentError(
                f"padding_mode is 'zeros', not {padding_mode!r}", user_location(), hint="pad the input with F.pad"
            )
        k = self._dims
        self.in_channels, self.out_channels, self.groups = in_channels, out_channels, groups
        self.kernel_size = per_dim(kernel_size, k, "kernel_size")
        self.stride, self.dilation = per_dim(stride, k, "stride"), per_dim(dilation, k, "dilation")
        self.padding = padding if isinstance(padding, str) else per_dim(padding, k, "padding")
        self.output_padding = per_dim(output_padding, k, "output_padding")
        self.padding_mode = padding_mode
        first = (in_channels, out_channels // groups) if self._transposed else (out_channels, in_channels // groups)
        self.weight = Parameter(empty((*first, *self.kernel_size), device=device, dtype=dtype))
        self.bias = Parameter(empty((out_channels,), device=device, dtype=dtype)) if bias else None
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draw the first values anew."""
        init.kaiming_uniform_(self.weight, a=math.sqrt(5))
        if self.bias is not None:
            fan = self.weight.shape[1] * math.prod(self.kernel_size)
            bound = 1 / math.sqrt(fan) if fan else 0
            init.uniform_(self.bias, -bound, bound)

    def forward(self, input: Tensor) -> Tensor:
        """f[n, out, *s'] of f[n, in, *s]."""
        fn = getattr(conv, f"conv{self._dims}d")
        return fn(input, self.weight, self.bias, self.stride, self.padding, self.dilation, self.groups)

    def extra_repr(self) -> str:
        text = f"{self.in_channels}, {self.out_channels}, kernel_size={self.kernel_size}, stride={self.stride}"
        k = self._dims
        for name, plain in (("padding", (0,) * k), ("dilation", (1,) * k), ("output_padding", (0,) * k), ("groups", 1)):
            if getattr(self, name) != plain:
                text += f", {name}={getattr(self, name)}"
        return text if self.bias is not None else f"{text}, bias=False"


class Conv1d(_Conv):
    """y[n, f, o] = bias[f] + sum over c, t of weight[f, c, t] x[n, c, o stride + t dilation - padding]."""

    _dims = 1


class Conv2d(_Conv):
    """Convolution over two dims of space, as `Conv1d` over one."""

    _dims = 2


class Conv3d(_Conv):
    """Convolution over three dims of space, as `Conv1d` over one."""

    _dims = 3


class _ConvTranspose(_Conv):
    _transposed = True

    def __init__(
        self,
        in_channels: int,
        out_channels: int,
        kernel_size: Any,
        stride: Any = 1,
        padding: Any = 0,
        output_padding: Any = 0,
        groups: int = 1,
        bias: bool = True,
        dilation: Any = 1,
        padding_mode: str = "zeros",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            in_channels, out_channels, kernel_size, stride, padding, dilation, groups, bias, padding_mode, device,
            dtype, output_padding,
        )  # fmt: skip

    def forward(self, input: Tensor, output_size: Any = None) -> Tensor:
        """f[n, out, *s'] of f[n, in, *s]; `output_size` chooses s' among those that the stride allows."""
        extra = self.output_padding if output_size is None else self._extra(input, output_size)
        fn = getattr(conv, f"conv_transpose{self._dims}d")
        return fn(input, self.weight, self.bias, self.stride, self.padding, extra, self.groups, self.dilation)

    def _extra(self, input: Tensor, output_size: Any) -> tuple[int, ...]:
        k = self._dims
        rows = zip(
            tuple(output_size)[-k:], input.shape[-k:], self.stride, self.padding, self.dilation, self.kernel_size,
            strict=True,
        )  # fmt: skip
        return tuple(int(o - ((e - 1) * s - 2 * int(p) + d * (t - 1) + 1)) for o, e, s, p, d, t in rows)


class ConvTranspose1d(_ConvTranspose):
    """The transpose of `Conv1d`: its gradient by the input."""

    _dims = 1


class ConvTranspose2d(_ConvTranspose):
    """The transpose of `Conv2d`: its gradient by the input."""

    _dims = 2


class ConvTranspose3d(_ConvTranspose):
    """The transpose of `Conv3d`: its gradient by the input."""

    _dims = 3


class _Pool(Module):
    """What poolings of windows have in common.

    Attributes:
        kernel_size, stride, padding: an int, or one for each dim; the stride is the kernel's size where None is given.
    """

    _dims = 2

    def __init__(self, kernel_size: Any, stride: Any, padding: Any, ceil_mode: bool) -> None:
        super().__init__()
        self.kernel_size, self.stride = kernel_size, kernel_size if stride is None else stride
        self.padding, self.ceil_mode = padding, ceil_mode

    def _pooled(self, kind: str, input: Tensor, *options: Any) -> Any:
        pool = getattr(pooling, f"{kind}_pool{self._dims}d")
        return pool(input, self.kernel_size, self.stride, self.padding, *options)

    def extra_repr(self) -> str:
        return f"kernel_size={self.kernel_size}, stride={self.stride}, padding={self.padding}"


class _MaxPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        dilation: Any = 1,
        return_indices: bool = False,
        ceil_mode: bool = False,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.dilation, self.return_indices = dilation, return_indices

    def forward(self, input: Tensor) -> Any:
        """The largest element of each window, and where it is if `return_indices`."""
        return self._pooled("max", input, self.dilation, self.ceil_mode, self.return_indices)

    def extra_repr(self) -> str:
        return f"{super().extra_repr()}, dilation={self.dilation}, ceil_mode={self.ceil_mode}"


class MaxPool1d(_MaxPool):
    """The largest element of windows over one dim of space."""

    _dims = 1


class MaxPool2d(_MaxPool):
    """The largest element of windows over two dims of space."""

    _dims = 2


class MaxPool3d(_MaxPool):
    """The largest element of windows over three dims of space."""

    _dims = 3


class _AvgPool(_Pool):
    def __init__(
        self,
        kernel_size: Any,
        stride: Any = None,
        padding: Any = 0,
        ceil_mode: bool = False,
        count_include_pad: bool = True,
        divisor_override: int | None = None,
    ) -> None:
        super().__init__(kernel_size, stride, padding, ceil_mode)
        self.count_include_pad, self.divisor_override = count_include_pad, divisor_override

    def forward(self, input: Tensor) -> Tensor:
        """The mean of each window."""
        return self._pooled("avg", input, self.ceil_mode, self.count_include_pad, self.divisor_override)


class AvgPool1d(_AvgPool):
    """The mean of windows over one dim of space."""

    _dims = 1


class AvgPool2d(_AvgPool):
    """The mean of windows over two dims of space."""

    _dims = 2


class AvgPool3d(_AvgPool):
    """The mean of windows over three dims of space."""

    _dims = 3


class _AdaptivePool(Module):
    _function = ""

    def __init__(self, output_size: Any) -> None:
        super().__init__()
        self.output_size = output_size

    def forward(self, input: Tensor) -> Tensor:
        """f[n, c, *output_size] of f[n, c, *s]."""
        return getattr(pooling, self._function)(input, self.output_size)

    def extra_repr(self) -> str:
        return f"output_size={self.output_size}"


class AdaptiveAvgPool1d(_AdaptivePool):
    """Means of parts of about equal size over one dim of space."""

    _function = "adaptive_avg_pool1d"


class AdaptiveAvgPool2d(_AdaptivePool):
    """Means of parts of about equal size over two dims of space."""

    _function = "adaptive_avg_pool2d"


class AdaptiveAvgPool3d(_AdaptivePool):
    """Means of parts of about equal size over three dims of space."""

    _function = "adaptive_avg_pool3d"


class AdaptiveMaxPool1d(_AdaptivePool):
    """Largest elements of parts of about equal size over one dim of space."""

    _function = "adaptive_max_pool1d"


class AdaptiveMaxPool2d(_AdaptivePool):
    """Largest elements of parts of about equal size over two dims of space."""

    _function = "adaptive_max_pool2d"


class AdaptiveMaxPool3d(_AdaptivePool):
    """Largest elements of parts of about equal size over three dims of space."""

    _function = "adaptive_max_pool3d"
