"""Padding layers, and layers that turn channels into places."""

from __future__ import annotations

from typing import Any

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.nn import functional as F
from tjit.nn.module import Module
from tjit.tensor import Tensor

__all__ = [
    "CircularPad1d", "CircularPad2d", "CircularPad3d", "ConstantPad1d", "ConstantPad2d", "ConstantPad3d",
    "PixelShuffle", "PixelUnshuffle", "ReflectionPad1d", "ReflectionPad2d", "ReflectionPad3d", "ReplicationPad1d",
    "ReplicationPad2d", "ReplicationPad3d", "ZeroPad1d", "ZeroPad2d", "ZeroPad3d",
]  # fmt: skip


class _Pad(Module):
    """Pads the last `dims` dims: by a width, or by two for each dim, the last dim's first.

    Raises:
        ArgumentError: another number of widths.
    """

    dims = 1
    mode = "constant"
    value: float | None = None

    def __init__(self, padding: Any) -> None:
        super().__init__()
        self.padding = (padding,) * (2 * self.dims) if isinstance(padding, int) else tuple(padding)
        if len(self.padding) != 2 * self.dims:
            raise ArgumentError(
                f"{type(self).__name__} takes a width or {2 * self.dims} of them, not {self.padding}", user_location()
            )

    def forward(self, input: Tensor) -> Tensor:
        """[*s, before + n + after] of [*s, n], likewise for each dim that is padded.

        Raises:
            ArgumentError: a width that the mode cannot take from such an input, as `tjit.nn.functional.pad`.
        """
        return F.pad(input, self.padding, self.mode, self.value)

    def extra_repr(self) -> str:
        return f"{self.padding}"


class ConstantPad1d(_Pad):
    """Adds `value` around the last dim: [*s, n] to [*s, before + n + after]."""

    def __init__(self, padding: Any, value: float) -> None:
        super().__init__(padding)
        self.value = value

    def extra_repr(self) -> str:
        return f"padding={self.padding}, value={self.value}"


class ConstantPad2d(ConstantPad1d):
    """Adds `value` around the last two dims."""

    dims = 2


class ConstantPad3d(ConstantPad1d):
    """Adds `value` around the last three dims."""

    dims = 3


class ZeroPad1d(_Pad):
    """Adds zeros around the last dim: [*s, n] to [*s, before + n + after]."""

    value = 0.0


class ZeroPad2d(ZeroPad1d):
    """Adds zeros around the last two dims."""

    dims = 2


class ZeroPad3d(ZeroPad1d):
    """Adds zeros around the last three dims."""

    dims = 3


class ReflectionPad1d(_Pad):
    """Mirrors what is beside the edges of the last dim: [*s, n] to [*s, before + n + after]."""

    mode = "reflect"


class ReflectionPad2d(ReflectionPad1d):
    """Mirrors what is beside the edges of the last two dims."""

    dims = 2


class ReflectionPad3d(ReflectionPad1d):
    """Mirrors what is beside the edges of the last three dims."""

    dims = 3


class ReplicationPad1d(_Pad):
    """Repeats the edges of the last dim: [*s, n] to [*s, before + n + after]."""

    mode = "replicate"


class ReplicationPad2d(ReplicationPad1d):
    """Repeats the edges of the last two dims."""

    dims = 2


class ReplicationPad3d(ReplicationPad1d):
    """Repeats the edges of the last three dims."""

    dims = 3


class CircularPad1d(_Pad):
    """Goes on at the other end of the last dim: [*s, n] to [*s, before + n + after]."""

    mode = "circular"


class CircularPad2d(CircularPad1d):
    """Goes on at the other ends of the last two dims."""

    dims = 2


class CircularPad3d(CircularPad1d):
    """Goes on at the other ends of the last three dims."""

    dims = 3


class PixelShuffle(Module):
    """Channels as places: [*, c r^2, h, w] to [*, c, h r, w r].

    Calls raise ArgumentError as `tjit.nn.functional.pixel_shuffle` does.
    """

    def __init__(self, upscale_factor: int) -> None:
        super().__init__()
        self.upscale_factor = upscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_shuffle(input, self.upscale_factor)

    def extra_repr(self) -> str:
        return f"upscale_factor={self.upscale_factor}"


class PixelUnshuffle(Module):
    """Places as channels: [*, c, h r, w r] to [*, c r^2, h, w].

    Calls raise ArgumentError as `tjit.nn.functional.pixel_unshuffle` does.
    """

    def __init__(self, downscale_factor: int) -> None:
        super().__init__()
        self.downscale_factor = downscale_factor

    def forward(self, input: Tensor) -> Tensor:
        return F.pixel_unshuffle(input, self.downscale_factor)

    def extra_repr(self) -> str:
        return f"downscale_factor={self.downscale_factor}"
