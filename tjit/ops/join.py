"""Join: tensors put together, cut into parts, and repeated."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np

from tjit.dtypes import promote
from tjit.errors import ArgumentError, CaptureError, DimensionError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.conversion import cast
from tjit.ops.creation import as_shape, as_tensor
from tjit.ops.index import as_index, position, refuse_capture, take_dim
from tjit.ops.movement import broadcast_to, reshape, slice_dims
from tjit.ops.operands import normalize_dim
from tjit.ops.public import public
from tjit.ops.shape import clone, movedim, unsqueeze
from tjit.tensor import Tensor

__all__ = [
    "cat", "chunk", "narrow", "repeat", "repeat_interleave", "roll", "select", "split", "stack", "tile", "unbind",
]  # fmt: skip


# Joining


@public(method=False, aliases=("concat", "concatenate"))
def cat(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors one after the other along `dim`.

    Args:
        tensors: of one shape but for `dim`; dtypes are promoted; tensors of shape [0] are left out.

    Raises:
        ArgumentError: no tensors.
        TypeRuleError: the shapes differ in another dim.
    """
    if isinstance(dim, Tensor):
        raise DTypeError(
            f"cat takes a list of tensors and a dim, not a {dim.type_} tensor as its dim",
            user_location(),
            hint="put the tensors in a list: cat([a, b])",
        )
    rows = tensors.stacked() if hasattr(tensors, "stacked") else None  # pyright: ignore[reportAttributeAccessIssue]
    if rows is not None and rows.ndim > 1:  # what a loop appended
        d = normalize_dim(dim, rows.ndim - 1)
        moved = movedim(rows, 0, d)
        return reshape(moved, (*moved.shape[:d], moved.shape[d] * moved.shape[d + 1], *moved.shape[d + 2 :]))
    parts = [as_tensor(x) for x in tensors]
    if not parts:
        raise ArgumentError("cat needs at least one tensor", user_location())
    kept = [p for p in parts if tuple(p.shape) != (0,)] or parts[:1]
    kind = promote(*((p.dtype, 2) for p in parts))
    d = normalize_dim(dim, max(p.ndim for p in kept))
    kept = [cast(p, kind) for p in kept]
    return clone(kept[0]) if len(kept) == 1 else apply(CONCAT, *kept, dim=d)


def _concat_infer(*xs: TensorType, dim: int) -> TensorType:
    first = xs[0]
    for x in xs:
        if x.ndim != first.ndim or not first.ndim:
            raise TypeRuleError(
                f"concat needs tensors of one number of dims, at least one, not {first} and {x}",
                hint="unsqueeze() adds a dim; stack() joins along a new one",
            )
        if x.dtype != first.dtype:
            raise TypeRuleError(f"concat needs tensors of one dtype, not {first} and {x}")
        if any(a != b for d, (a, b) in enumerate(zip(x.shape, first.shape, strict=True)) if d != dim):
            raise TypeRuleError(f"concat along dim {dim} needs shapes equal in the other dims, not {first} and {x}")
    total: Dim = 0
    for x in xs:
        total = total + x.shape[dim]
    return first.with_shape((*first.shape[:dim], total, *first.shape[dim + 1 :]))


def _concat_vjp(g: Tensor, y: Tensor, *xs: Tensor, dim: int) -> tuple[Tensor, ...]:
    result: list[Tensor] = []
    start: Dim = 0
    for x in xs:
        result.append(_part(g, dim, start, start + x.shape[dim]))
        start = start + x.shape[dim]
    return tuple(result)


CONCAT = register(
    Op(
        name="concat",
        kind="index",
        infer=_concat_infer,
        reference=lambda *xs, dim: np.concatenate(xs, dim),
        vjp=_concat_vjp,
        samples=(
            Sample(((3, 2), (3, 5)), attrs={"dim": 1}),
            Sample(((2, 3), (1, 3), (0, 3)), attrs={"dim": 0}),
        ),
        dtypes="any",
        exact=True,
    )
)


@public(method=False)
def stack(tensors: Sequence[Tensor], dim: int = 0) -> Tensor:
    """The tensors, all of one shape, along a new dim.

    Raises:
        ArgumentError: no tensors.
        TypeRuleError: the shapes differ.
    """
    rows = tensors.stacked() if hasattr(tensors, "stacked") else None  # pyright: ignore[reportAttributeAccessIssue]
    if rows is not None:  # what a loop appended
        return movedim(rows, 0, normalize_dim(dim, rows.ndim))
    parts = [as_tensor(x) for x in tensors]
    if not parts:
        raise ArgumentError("stack expects a non-empty list of tensors", user_location())
    if any(tuple(p.shape) != tuple(parts[0].shape) for p in parts):
        other = next(p for p in parts if tuple(p.shape) != tuple(parts[0].shape))
        raise TypeRuleError(
            f"stack expects each tensor to be equal size, but got {parts[0].type_} and {other.type_}", user_location()
        )
    d = normalize_dim(dim, parts[0].ndim + 1)
    return cat([unsqueeze(p, d) for p in parts], d)


@public(method=False, aliases=("row_stack",))
def vstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors, as rows where they have one dim, along dim 0."""
    from tjit.ops.shape import atleast_2d

    return cat([atleast_2d(as_tensor(x)) for x in tensors], 0)


@public(method=False)
def hstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors along dim 1, or along dim 0 where they have one dim."""
    from tjit.ops.shape import atleast_1d

    parts = [atleast_1d(as_tensor(x)) for x in tensors]
    return cat(parts, 0 if parts and parts[0].ndim == 1 else 1)


@public(method=False)
def dstack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors along dim 2, with dims added where they have fewer."""
    from tjit.ops.shape import atleast_3d

    return cat([atleast_3d(as_tensor(x)) for x in tensors], 2)


@public(method=False)
def column_stack(tensors: Sequence[Tensor]) -> Tensor:
    """The tensors as columns of one matrix."""
    parts = [as_tensor(x) for x in tensors]
    return cat([reshape(p, (p.numel(), 1)) if p.ndim <= 1 else p for p in parts], 1)


# Splitting: views


def _part(x: Tensor, dim: int, start: Dim, stop: Dim) -> Tensor:
    starts = tuple(start if d == dim else 0 for d in range(x.ndim))
    stops = tuple(stop if d == dim else s for d, s in enumerate(x.shape))
    return slice_dims(x, starts, stops, (1,) * x.ndim)


@public()
def narrow(x: Tensor, dim: int, start: Any, length: Dim) -> Tensor:
    """x from `start` on, `length` long, along `dim`; a view.

    Raises:
        DimensionError: start is outside of the dim.
        TypeRuleError: the part reaches past the end.
    """
    d = normalize_dim(dim, x.ndim)
    extent = x.shape[d]
    start = as_index(start)
    if isinstance(extent, int) and isinstance(start, int):
        if not -extent <= start <= extent:
            raise DimensionError(
                f"start out of range (expected to be in range of [{-extent}, {extent}], but got {start})",
                user_location(),
            )
        start = start + extent if start < 0 else start
        if isinstance(length, int) and (length < 0 or start + length > extent):
            raise TypeRuleError(
                f"start ({start}) + length ({length}) exceeds dimension size ({extent})", user_location()
            )
    return _part(x, d, start, start + length)


@public()
def select(x: Tensor, dim: int, index: Any) -> Tensor:
    """x at one position of `dim`, without that dim; a view.

    Raises:
        DimensionError: the index is out of range.
    """
    if x.ndim == 0:
        raise DimensionError("select() cannot be applied to a 0-dim tensor.", user_location())
    d = normalize_dim(dim, x.ndim)
    if isinstance(index, Tensor) and index.is_traced:
        return take_dim(x, index, d)
    start = position(as_index(index), x.shape[d], d)
    return reshape(_part(x, d, start, start + 1), (*x.shape[:d], *x.shape[d + 1 :]))


@public()
def split(x: Tensor, split_size: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """x in parts along `dim`, as views.

    Args:
        split_size: the extent of every part (the last may be smaller), or a list with the extent of each.

    Raises:
        TypeRuleError: the listed extents do not add up, or the size is not positive.
    """
    d = normalize_dim(dim, x.ndim)
    extent = x.shape[d]
    sizes = list(split_size) if isinstance(split_size, (tuple, list)) else _equal_sizes(extent, split_size)
    total: Dim = 0
    parts = []
    if any(isinstance(size, int) and size < 0 for size in sizes):
        raise TypeRuleError(f"split sizes {sizes} must not be negative", user_location())
    for size in sizes:
        parts.append(_part(x, d, total, total + size))
        total = total + size
    if total != extent:
        raise TypeRuleError(
            f"split sizes {sizes} do not add up to the extent {extent} of dim {d} of {x.type_}", user_location()
        )
    return tuple(parts)


def _equal_sizes(extent: Dim, size: Any) -> list[Dim]:
    if not isinstance(extent, int):
        raise CaptureError(
            f"split of a dim of unknown extent {extent} makes an unknown number of tensors",
            user_location(),
            hint="pass a list of sizes, or chunk a dim that is the same on every call",
        )
    if size < 0 or (size == 0 and extent):
        raise TypeRuleError(f"split_size can only be positive, not {size}", user_location())
    if extent == 0:
        return [0]
    return [min(size, extent - start) for start in range(0, extent, size)]


@public(method=True, function=True)
def split_with_sizes(x: Tensor, split_sizes: Sequence[Dim], dim: int = 0) -> tuple[Tensor, ...]:
    """`split` with the extent of each part."""
    return split(x, list(split_sizes), dim)


@public()
def chunk(x: Tensor, chunks: int, dim: int = 0) -> tuple[Tensor, ...]:
    """x in at most `chunks` parts of equal extent (the last may be smaller) along `dim`, as views.

    Raises:
        TypeRuleError: chunks is not positive.
    """
    if chunks <= 0:
        raise TypeRuleError(f"chunk expects `chunks` to be greater than 0, got: {chunks}", user_location())
    d = normalize_dim(dim, x.ndim)
    extent = x.shape[d]
    if not isinstance(extent, int) and extent % chunks == 0:
        return split(x, [extent // chunks] * chunks, d)
    if isinstance(extent, int) and extent == 0:
        return split(x, [0] * chunks, d)
    return split(x, -(-extent // chunks), d)


@public()
def tensor_split(x: Tensor, indices_or_sections: Any, dim: int = 0) -> tuple[Tensor, ...]:
    """x in parts along `dim`: that many of nearly equal extent, or cut at the listed positions; views."""
    d = normalize_dim(dim, x.ndim)
    extent = x.shape[d]
    if isinstance(indices_or_sections, int):
        base, longer = divmod(extent, indices_or_sections)
        return split(x, [base + 1] * longer + [base] * (indices_or_sections - longer), d)
    cuts = [0, *(min(max(c + extent if c < 0 else c, 0), extent) for c in indices_or_sections), extent]
    return tuple(_part(x, d, a, max(a, b)) for a, b in pairwise(cuts))


@public()
def unbind(x: Tensor, dim: int = 0) -> tuple[Tensor, ...]:
    """The parts of x at every position of `dim`, without that dim, as views.

    Raises:
        CaptureError: the dim's extent is not known while the function is captured.
    """
    d = normalize_dim(dim, x.ndim)
    if not x.ndim:
        raise DimensionError("Dimension specified as 0 but tensor has no dimensions", user_location())
    if not isinstance(x.shape[d], int):
        raise CaptureError(
            f"unbind of a dim of unknown extent {x.shape[d]} makes an unknown number of tensors",
            user_location(),
            hint="loop with `for i in range(x.shape[0])` instead",
        )
    return tuple(select(x, d, i) for i in range(x.shape[d]))


# Repeating


@public()
def roll(x: Tensor, shifts: Any, dims: Any = None) -> Tensor:
    """x with its elements moved by `shifts` along `dims`, the last ones becoming the first; of all elements in
    row-major order where dims is None.

    Raises:
        TypeRuleError: shifts and dims differ in number.
    """
    if dims is None or dims == ():
        return reshape(roll(reshape(x, (x.numel(),)), shifts, 0), x.shape)
    shifts = shifts if isinstance(shifts, (tuple, list)) else (shifts,)
    dims = dims if isinstance(dims, (tuple, list)) else (dims,)
    if len(shifts) != len(dims):
        raise TypeRuleError(
            f"shifts and dimensions must align: {len(shifts)} shifts, {len(dims)} dims", user_location()
        )
    for shift, dim in zip(shifts, dims, strict=True):
        d = normalize_dim(dim, x.ndim)
        extent = x.shape[d]
        shift = shift % extent if not (isinstance(extent, int) and extent == 0) else 0
        if not (isinstance(shift, int) and shift == 0):
            cut = extent - shift
            x = cat([_part(x, d, cut, extent), _part(x, d, 0, cut)], d)
    return x


@public(function=False)
def repeat(x: Tensor, *repeats: Any) -> Tensor:
    """x `repeats[i]` times along dim i; more repeats than dims add dims in front.

    Raises:
        TypeRuleError: fewer repeats than dims.
    """
    times = as_shape(repeats)
    lead = len(times) - x.ndim
    if lead < 0:
        raise TypeRuleError(
            f"repeat needs at least as many numbers as {x.type_} has dims, not {list(times)}", user_location()
        )
    shape = (1,) * lead + tuple(x.shape)
    apart = reshape(x, tuple(e for d in shape for e in (1, d)))
    wide = broadcast_to(apart, tuple(e for n, d in zip(times, shape, strict=True) for e in (n, d)))
    return reshape(clone(wide), tuple(n * d for n, d in zip(times, shape, strict=True)))


@public()
def tile(x: Tensor, *dims: Any) -> Tensor:
    """`repeat`, where fewer numbers than dims are filled up with ones in front."""
    times = as_shape(dims)
    return repeat(x, (1,) * (x.ndim - len(times)) + times)


@public()
def repeat_interleave(x: Tensor, repeats: Any, dim: int | None = None, *, output_size: int | None = None) -> Tensor:
    """Every element `repeats` times in place along `dim`; along all elements in row-major order where dim is None.

    Args:
        repeats: a number, or an integer tensor with a number for each position (not while capturing).
    """
    if dim is None:
        x, dim = reshape(x, (x.numel(),)), 0
    d = normalize_dim(dim, x.ndim)
    if isinstance(repeats, Tensor):
        return take_dim(x, _repeated_positions(x.shape[d], repeats), d)
    wide = broadcast_to(unsqueeze(x, d + 1), (*x.shape[: d + 1], repeats, *x.shape[d + 1 :]))
    return reshape(clone(wide), (*x.shape[:d], x.shape[d] * repeats, *x.shape[d + 1 :]))


def _repeated_positions(extent: Any, repeats: Tensor) -> Tensor:
    refuse_capture("repeat_interleave with a tensor of repeats", "pass one number for all positions")
    return Tensor(np.repeat(np.arange(extent), repeats.array))
