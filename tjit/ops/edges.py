"""Padding with what lies at the edges, and channels as places of an image."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tjit.errors import ArgumentError
from tjit.ir.dims import at_least, is_runtime
from tjit.location import user_location
from tjit.ops.join import cat
from tjit.ops.movement import broadcast_to, flip, permute, reshape, slice_dims
from tjit.ops.movement import pad as pad_constants
from tjit.tensor import Tensor

__all__: list[str] = []  # public as tjit.nn.functional

Piece = Callable[[Tensor, int, int], Tensor]  # (x, dim, width)


def pad(input: Tensor, pad: Sequence[int], mode: str = "constant", value: float | None = None) -> Tensor:
    """input with elements added before and after its last dims.

    Args:
        input: [*s].
        pad: two widths (before, after) for the last dim, then two for the one before it, and so on.
        mode: "constant" adds `value` (None: 0), and negative widths cut; "reflect" mirrors what is beside the edge,
            "replicate" repeats the edge, "circular" goes on at the other end.

    Raises:
        ArgumentError: an odd number of widths, more than two for each dim, another mode, a width that is negative or
            longer than what there is to take (or maybe longer, of an extent that only the program knows), or a
            `value` with a mode that takes none.
    """
    if mode == "constant":
        return pad_constants(input, pad, value=value)
    if mode not in _EDGES:
        wanted = ", ".join(("constant", *_EDGES))
        raise ArgumentError(f"pad has no mode {mode!r}", user_location(), hint=f"use one of {wanted}")
    if value is not None:
        raise ArgumentError(f'Padding mode "{mode}" doesn\'t take in value argument', user_location())
    if len(pad) % 2 or len(pad) > 2 * input.ndim:
        raise ArgumentError(
            f"pad takes two widths for each of the last dims of {input.type_}, not {tuple(pad)}", user_location()
        )
    before, after, spare = _EDGES[mode]
    for i in range(len(pad) // 2):
        dim, low, high = input.ndim - 1 - i, pad[2 * i], pad[2 * i + 1]
        _check_widths(input, dim, (low, high), mode, spare)
        pieces = [before(input, dim, low)] * (low > 0) + [input] + [after(input, dim, high)] * (high > 0)
        input = cat(pieces, dim) if len(pieces) > 1 else input
    return input


def _check_widths(x: Tensor, dim: int, widths: tuple[int, int], mode: str, spare: int | None) -> None:
    extent, widest, most = x.shape[dim], max(widths), None
    if isinstance(extent, int) and (spare is not None or extent == 0):
        most = max(extent - (spare or 0), 0)
    if min(widths) < 0 or (most is not None and widest > most):
        limit = "" if most is None else f" to {most}"
        raise ArgumentError(f"pad of {x.type_} by {mode} takes widths from 0{limit}, not {widths}", user_location())
    needed = 1 if spare is None else widest + spare
    if widest and is_runtime(extent) and not at_least(extent, needed):
        raise ArgumentError(
            f"pad of {x.type_} by {mode} reads {needed} elements of dim {dim}: only the program knows its extent",
            user_location(),
            hint="pad before cutting the dim, or pad with constants",
        )


def _part(x: Tensor, dim: int, start: int, stop: int) -> Tensor:
    """x from `start` to `stop` along a dim: negative places and a stop of 0 count from the end."""
    extent = x.shape[dim]
    low = start if start >= 0 else extent + start
    high = stop if stop > 0 else extent + stop
    starts, stops = [0] * x.ndim, list(x.shape)
    starts[dim], stops[dim] = low, high
    return slice_dims(x, tuple(starts), tuple(stops), (1,) * x.ndim)


def _repeated(edge: Tensor, dim: int, width: int) -> Tensor:
    return broadcast_to(edge, (*edge.shape[:dim], width, *edge.shape[dim + 1 :]))


# By mode: what stands before and after, and how many elements of a dim cannot be taken (None: any width can be made).
_EDGES: dict[str, tuple[Piece, Piece, int | None]] = {
    "reflect": (
        lambda x, dim, width: flip(_part(x, dim, 1, width + 1), (dim,)),
        lambda x, dim, width: flip(_part(x, dim, -1 - width, -1), (dim,)),
        1,
    ),
    "replicate": (
        lambda x, dim, width: _repeated(_part(x, dim, 0, 1), dim, width),
        lambda x, dim, width: _repeated(_part(x, dim, -1, 0), dim, width),
        None,
    ),
    "circular": (
        lambda x, dim, width: _part(x, dim, -width, 0),
        lambda x, dim, width: _part(x, dim, 0, width),
        0,
    ),
}


def pixel_shuffle(input: Tensor, upscale_factor: int) -> Tensor:
    """Channels as places: [*, c r^2, h, w] to [*, c, h r, w r].

    Raises:
        ArgumentError: less than 3 dims, r is not positive, or the number of channels is no multiple of r^2.
    """
    r = upscale_factor
    _check_image("pixel_shuffle", input, "upscale_factor", r)
    *batch, channels, h, w = input.shape
    if channels % (r * r):
        raise ArgumentError(
            f"pixel_shuffle expects its input's 'channel' dimension to be divisible by the square of upscale_factor, "
            f"but input.size(-3)={channels} is not divisible by {r * r}",
            user_location(),
        )
    n = len(batch)
    x = reshape(input, (*batch, channels // (r * r), r, r, h, w))
    x = permute(x, (*range(n), n, n + 3, n + 1, n + 4, n + 2))
    return reshape(x, (*batch, channels // (r * r), h * r, w * r))


def pixel_unshuffle(input: Tensor, downscale_factor: int) -> Tensor:
    """Places as channels: [*, c, h r, w r] to [*, c r^2, h, w], what `pixel_shuffle` undoes.

    Raises:
        ArgumentError: less than 3 dims, r is not positive, or height or width is no multiple of r.
    """
    r = downscale_factor
    _check_image("pixel_unshuffle", input, "downscale_factor", r)
    *batch, channels, h, w = input.shape
    if h % r or w % r:
        raise ArgumentError(
            f"pixel_unshuffle expects height and width to be divisible by downscale_factor, but {h} x {w} is not "
            f"divisible by {r}",
            user_location(),
        )
    n = len(batch)
    x = reshape(input, (*batch, channels, h // r, r, w // r, r))
    x = permute(x, (*range(n), n, n + 2, n + 4, n + 1, n + 3))
    return reshape(x, (*batch, channels * r * r, h // r, w // r))


def _check_image(name: str, x: Tensor, factor: str, r: int) -> None:
    if x.ndim < 3:
        raise ArgumentError(f"{name} expects input to have at least 3 dimensions, but got {x.type_}", user_location())
    if r <= 0:
        raise ArgumentError(f"{name} expects a positive {factor}, but got {r}", user_location())
