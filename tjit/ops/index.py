"""Index: ops that move data to and from computed positions, and PyTorch's functions that join and split tensors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tjit.dtypes import i64, promote
from tjit.errors import ArgumentError, CaptureError, DimensionError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply, state
from tjit.ops.creation import as_shape, as_tensor, full, iota, zeros
from tjit.ops.movement import broadcast_to, reshape, slice_dims
from tjit.ops.operands import normalize_dim
from tjit.ops.public import public
from tjit.ops.shape import clone, unsqueeze
from tjit.tensor import Tensor

__all__ = [
    "cat",
    "chunk",
    "gather",
    "index_put",
    "index_select",
    "masked_select",
    "narrow",
    "nonzero",
    "one_hot",
    "put_dim",
    "repeat",
    "roll",
    "scatter",
    "scatter_add",
    "select",
    "slice_update",
    "split",
    "stack",
    "take_dim",
    "tile",
    "unbind",
]


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
    parts = [as_tensor(x) for x in tensors]
    if not parts:
        raise ArgumentError("cat needs at least one tensor", user_location())
    kept = [p for p in parts if tuple(p.shape) != (0,)] or parts[:1]
    kind = promote(*((p.dtype, 2) for p in parts))
    d = normalize_dim(dim, max(p.ndim for p in kept))
    kept = [_cast(p, kind) for p in kept]
    return clone(kept[0]) if len(kept) == 1 else apply(CONCAT, *kept, dim=d)


def _cast(x: Tensor, dtype: Any) -> Tensor:
    from tjit.ops.elementwise import cast

    return x if x.dtype is dtype else cast(x, dtype)


def _concat_infer(*xs: TensorType, dim: int) -> TensorType:
    first = xs[0]
    for x in xs:
        if x.dtype != first.dtype or x.ndim != first.ndim or not first.ndim:
            raise TypeRuleError(f"concat needs tensors of one dtype and at least one dim, not {first} and {x}")
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
    parts = [as_tensor(x) for x in tensors]
    if not parts:
        raise ArgumentError("stack expects a non-empty list of tensors", user_location())
    if any(tuple(p.shape) != tuple(parts[0].shape) for p in parts):
        other = next(p for p in parts if tuple(p.shape) != tuple(parts[0].shape))
        raise TypeRuleError(f"stack expects each tensor to be equal size, but got {parts[0].type_} and {other.type_}", user_location())
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
            raise DimensionError(f"start out of range (expected to be in range of [{-extent}, {extent}], but got {start})", user_location())
        start = start + extent if start < 0 else start
        if isinstance(length, int) and (length < 0 or start + length > extent):
            raise TypeRuleError(f"start ({start}) + length ({length}) exceeds dimension size ({extent})", user_location())
    return _part(x, d, start, start + length)


@public()
def select(x: Tensor, dim: int, index: Any) -> Tensor:
    """x at one position of `dim`, without that dim; a view.

    Raises:
        DimensionError: the index is out of range.
    """
    from tjit.ops.indexing import position

    if x.ndim == 0:
        raise DimensionError("select() cannot be applied to a 0-dim tensor.", user_location())
    d = normalize_dim(dim, x.ndim)
    if isinstance(index, Tensor) and index.is_traced:
        return take_dim(x, index, d)
    start = position(as_index(index), x.shape[d], d)
    return reshape(_part(x, d, start, start + 1), (*x.shape[:d], *x.shape[d + 1 :]))


def as_index(value: Any) -> Dim:
    """A Python index: an int, a symbolic dim, or what has `__index__`.

    Raises:
        DTypeError: another type.
    """
    if isinstance(value, (int, DimExpr)):
        return int(value) if isinstance(value, bool) else value
    try:
        return value.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"an index must be an int, not {type(value).__name__} {value!r}", user_location()) from None


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
    for size in sizes:
        parts.append(_part(x, d, total, total + size))
        total = total + size
    if total != extent:
        raise TypeRuleError(f"split sizes {sizes} do not add up to the extent {extent} of dim {d} of {x.type_}", user_location())
    return tuple(parts)


def _equal_sizes(extent: Dim, size: Any) -> list[Dim]:
    if not isinstance(extent, int):
        raise CaptureError(f"split of a dim of unknown extent {extent} makes an unknown number of tensors", user_location(),
                           hint="pass a list of sizes, or chunk a dim that is the same on every call")
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
    return tuple(_part(x, d, a, max(a, b)) for a, b in zip(cuts, cuts[1:], strict=False))


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
        raise CaptureError(f"unbind of a dim of unknown extent {x.shape[d]} makes an unknown number of tensors", user_location(),
                           hint="loop with `for i in range(x.shape[0])` instead")
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
        raise TypeRuleError(f"shifts and dimensions must align: {len(shifts)} shifts, {len(dims)} dims", user_location())
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
        raise TypeRuleError(f"repeat needs at least as many numbers as {x.type_} has dims, not {list(times)}", user_location())
    shape = (1,) * lead + tuple(x.shape)
    apart = reshape(x, tuple(e for d in shape for e in (1, d)))
    wide = broadcast_to(apart, tuple(e for n, d in zip(times, shape, strict=True) for e in (n, d)))
    return clone(reshape(wide, tuple(n * d for n, d in zip(times, shape, strict=True))))


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
    return clone(reshape(wide, (*x.shape[:d], x.shape[d] * repeats, *x.shape[d + 1 :])))


def _repeated_positions(extent: Dim, repeats: Tensor) -> Tensor:
    refuse_capture("repeat_interleave with a tensor of repeats", "pass one number for all positions")
    return Tensor(np.repeat(np.arange(extent), repeats.array))


def refuse_capture(what: str, hint: str) -> None:
    """Say that a result's shape would depend on data.

    Raises:
        CaptureError: a function is being captured.
    """
    if state.trace is not None:
        raise CaptureError(f"{what} has a shape that depends on data", user_location(), hint=hint)


def one_hot(x: Tensor, num_classes: int = -1) -> Tensor:
    """i64[*s, num_classes]: 1 at the position that each element of x names, 0 elsewhere.

    Args:
        x: i64[*s].
        num_classes: -1: one more than the largest element (not while capturing).
    """
    from tjit.ops.elementwise import cast

    if num_classes == -1:
        refuse_capture("one_hot without num_classes", "pass num_classes")
        num_classes = int(x.array.max()) + 1 if x.numel() else 0
    t = x.type_
    if state.trace is None and x.numel() and not 0 <= x.array.min() <= x.array.max() < num_classes:
        raise TypeRuleError(f"one_hot: class values must be in 0 to {num_classes - 1}", user_location())
    return cast(unsqueeze(x, -1) == iota((num_classes,), 0, t.dtype, t.device), i64)


# Reading at computed positions


def _check_positions(index: np.ndarray, extent: int, dim: int) -> None:
    """Raises DimensionError for a position outside of the dim."""
    if index.size and not (0 <= index.min() and index.max() < extent):
        wrong = index[(index < 0) | (index >= extent)].flat[0]
        raise DimensionError(f"index {wrong} is out of bounds for dimension {dim} with size {extent}", user_location())


def _need_integers(name: str, index: TensorType) -> None:
    if index.dtype.kind != "int":
        raise TypeRuleError(f"{name} needs an integer index, not {index}")


def take_dim(x: Tensor, index: Tensor, dim: int) -> Tensor:
    """x at the positions `index` of `dim`: the index's shape takes the place of the dim."""
    return apply(TAKE, x, index, dim=dim)


def _replaced(shape: Sequence[Dim], index: Sequence[Dim], dim: int) -> tuple[Dim, ...]:
    return (*shape[:dim], *index, *shape[dim + 1 :])


def _take_infer(x: TensorType, index: TensorType, dim: int) -> TensorType:
    _need_integers("take", index)
    if not 0 <= dim < x.ndim:
        raise TypeRuleError(f"take needs a dim of {x}, not {dim}")
    return x.with_shape(_replaced(x.shape, index.shape, dim))


def _take_reference(x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    return np.take(x, index, axis=dim)


def _take_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, dim: int) -> tuple[Tensor, None]:
    return index_add_dim(_zeros_like(x), index, g, dim), None


def _zeros_like(x: Tensor) -> Tensor:
    t = x.type_
    return zeros(t.shape, dtype=t.dtype, device=t.device)


_INDEXED = (None, "i64")

TAKE = register(
    Op(
        name="take",
        kind="index",
        infer=_take_infer,
        reference=_take_reference,
        vjp=_take_vjp,
        samples=(
            Sample(((4, 5), (3,)), dtypes=_INDEXED, ranges=((-3, 3), (0, 2)), attrs={"dim": 0}),
            Sample(((2, 4), (3, 2)), dtypes=_INDEXED, ranges=((-3, 3), (0, 2)), attrs={"dim": 1}),
            Sample(((4, 3), ()), dtypes=_INDEXED, ranges=((-3, 3), (0, 2)), attrs={"dim": 0}),
        ),
        dtypes="any",
        exact=True,
    )
)


@public()
def index_select(x: Tensor, dim: int, index: Tensor) -> Tensor:
    """x at the positions `index` of `dim`.

    Args:
        index: i[k], or 0-d; not negative.

    Raises:
        DimensionError: a position is out of range.
        TypeRuleError: the index has more than one dim, or is not of ints.
    """
    if index.ndim > 1:
        raise DimensionError(f"index_select(): Index is supposed to be a vector, not {index.type_}", user_location())
    d = normalize_dim(dim, x.ndim)
    if x.ndim == 0:
        return reshape(take_dim(reshape(x, (1,)), reshape(index, (1,)), 0), ())
    return take_dim(x, reshape(index, (1,)) if index.ndim == 0 else index, d)


@public()
def take(x: Tensor, index: Tensor) -> Tensor:
    """The elements of x, as if it had one dim, at `index`.

    Raises:
        DimensionError: a position is out of range.
    """
    from tjit.ops.indexing import wrapped

    flat = reshape(x, (x.numel(),))
    return take_dim(flat, wrapped(index, flat.shape[0], 0), 0)


@public()
def gather(x: Tensor, dim: int, index: Tensor, *, sparse_grad: bool = False) -> Tensor:
    """result[i, j] = x[index[i, j], j] for dim 0, and so on for other dims and ranks.

    Args:
        index: ints, of x's rank, no larger than x but along `dim`.

    Raises:
        DimensionError: a position is out of range.
        TypeRuleError: the index does not fit x.
    """
    if x.ndim == 0 and index.ndim == 0:
        return reshape(gather(reshape(x, (1,)), 0, reshape(index, (1,))), ())
    d = normalize_dim(dim, x.ndim)
    return apply(GATHER, _cropped("gather", x, index, d), index, dim=d)


def _cropped(name: str, x: Tensor, index: Tensor, dim: int | None) -> Tensor:
    """x cut to the index's extents, but for `dim`; a view."""
    if index.ndim != x.ndim:
        raise TypeRuleError(f"{name} needs an index with as many dims as the tensor: {index.type_} for {x.type_}", user_location())
    stops: list[Dim] = []
    for d, (extent, wanted) in enumerate(zip(x.shape, index.shape, strict=True)):
        if d != dim and isinstance(extent, int) and isinstance(wanted, int) and wanted > extent:
            raise TypeRuleError(f"{name} needs an index no larger than the tensor in dim {d}: {index.type_} for {x.type_}", user_location())
        stops.append(extent if d == dim else wanted)
    return slice_dims(x, (0,) * x.ndim, tuple(stops), (1,) * x.ndim)


def _gather_infer(x: TensorType, index: TensorType, dim: int) -> TensorType:
    _need_integers("gather", index)
    if x.ndim != index.ndim or any(a != b for d, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if d != dim):
        raise TypeRuleError(f"gather along dim {dim} needs an index that equals x in the other dims, not {index} for {x}")
    return x.with_shape(index.shape)


def _gather_reference(x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    return np.take_along_axis(x, index, dim)


def _gather_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, dim: int) -> tuple[Tensor, None]:
    return apply(SCATTER_ADD, _zeros_like(x), index, g, dim=dim), None


GATHER = register(
    Op(
        name="gather",
        kind="index",
        infer=_gather_infer,
        reference=_gather_reference,
        vjp=_gather_vjp,
        samples=(
            Sample(((4, 5), (2, 5)), dtypes=_INDEXED, ranges=((-3, 3), (0, 2)), attrs={"dim": 0}),
            Sample(((2, 4, 3), (2, 5, 3)), dtypes=_INDEXED, ranges=((-3, 3), (0, 2)), attrs={"dim": 1}),
        ),
        dtypes="any",
        exact=True,
    )
)


@public()
def take_along_dim(x: Tensor, indices: Tensor, dim: int | None = None) -> Tensor:
    """`gather` with x and indices broadcast against each other in the other dims; over all elements where dim is None."""
    from tjit.ops.indexing import wrapped
    from tjit.ops.operands import broadcast_shapes

    if dim is None:
        return gather(reshape(x, (x.numel(),)), 0, reshape(indices, (indices.numel(),)))
    d = normalize_dim(dim, x.ndim)
    common = broadcast_shapes(_replaced(x.shape, (1,), d), _replaced(indices.shape, (1,), d), what="take_along_dim")
    x = broadcast_to(x, _replaced(common, (x.shape[d],), d))
    return gather(x, d, wrapped(broadcast_to(indices, _replaced(common, (indices.shape[d],), d)), x.shape[d], d))


# Data-dependent shapes


@public()
def nonzero(x: Tensor, *, as_tuple: bool = False) -> Any:
    """i64[n, rank]: the positions of the elements that are not zero; with as_tuple one i64[n] for each dim.

    Raises:
        CaptureError: a function is being captured: the shape depends on data.
    """
    refuse_capture("nonzero", "use tjit.where(mask, a, b) with the whole tensors")
    found = np.nonzero(np.atleast_1d(x.array) if as_tuple else x.array) if x.ndim or as_tuple else ()
    if as_tuple:
        return tuple(Tensor(f) for f in found)
    if not x.ndim:
        return Tensor(np.zeros((int(bool(x.array)), 0), np.int64))
    return Tensor(np.stack(found, 1))


@public()
def argwhere(x: Tensor) -> Tensor:
    """`nonzero`: one row for each element that is not zero."""
    return nonzero(x)


@public()
def masked_select(x: Tensor, mask: Tensor) -> Tensor:
    """1-d: the elements of x where mask, which broadcasts with x, is true.

    Raises:
        CaptureError: a function is being captured: the shape depends on data.
    """
    from tjit.ops.operands import broadcast_shapes

    refuse_capture("masked_select", "use tjit.where(mask, x, 0), or multiply by the mask")
    shape = broadcast_shapes(x.shape, mask.shape, what="masked_select")
    where = np.flatnonzero(np.broadcast_to(mask.array, shape))
    wide = broadcast_to(x, shape)
    return take_dim(reshape(wide, (wide.numel(),)), Tensor(where), 0)


# Writing at computed positions


def index_add_dim(x: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    """x with src, of the shape that `take` gives, added at the positions `index` of `dim`."""
    return apply(INDEX_ADD, x, index, src, dim=dim)


def _index_infer(name: str) -> Any:
    def infer(x: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
        _need_integers(name, index)
        wanted = x.with_shape(_replaced(x.shape, index.shape, dim))
        if src != wanted:
            raise TypeRuleError(f"{name} along dim {dim} of {x} with index {index} needs a source {wanted}, not {src}")
        return x

    return infer


def _add_at(x: np.ndarray, where: tuple[Any, ...], src: np.ndarray) -> np.ndarray:
    """x with src added, in row-major order; narrow floats are summed in f32."""
    if x.dtype == np.bool_:
        y = x.copy()
        np.logical_or.at(y, where, src)
        return y
    y = np.array(x, np.float32 if x.dtype.itemsize == 2 and x.dtype.kind != "i" else x.dtype)
    np.add.at(y, where, src.astype(y.dtype))
    return y.astype(x.dtype)


def _index_add_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    return _add_at(x, (slice(None),) * dim + (index,), src)


def _index_add_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int) -> tuple[Tensor, None, Tensor]:
    return g, None, take_dim(g, index, dim)


_WRITTEN = (None, "i64", None)
_WRITE_RANGES = ((-3.0, 3.0), (0.0, 2.0), (-3.0, 3.0))

INDEX_ADD = register(
    Op(
        name="index_add",
        kind="index",
        infer=_index_infer("index_add"),
        reference=_index_add_reference,
        vjp=_index_add_vjp,
        samples=(
            Sample(((4, 3), (5,), (5, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 0}),
            Sample(((2, 4), (3, 2), (2, 3, 2)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 1}),
        ),
        dtypes="number",
    )
)


@public(inplace=True)
def index_add(x: Tensor, dim: int, index: Tensor, source: Tensor, *, alpha: Any = 1) -> Tensor:
    """x with alpha * source added at the positions `index` of `dim`; repeated positions add up.

    Raises:
        DimensionError: a position is out of range.
    """
    d = normalize_dim(dim, x.ndim)
    index = reshape(index, (1,)) if index.ndim == 0 else index
    return index_add_dim(x, index, source if alpha == 1 else source * alpha, d)


def put_dim(x: Tensor, index: Tensor, src: Tensor, dim: int) -> Tensor:
    """x with src, of the shape that `take` gives, at the positions `index` of `dim`; of a repeated one the last counts."""
    return apply(INDEX_COPY, x, index, src, dim=dim)


def _index_copy_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    y = x.copy()
    y[(slice(None),) * dim + (index,)] = src
    return y


def _index_copy_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int) -> tuple[Tensor, None, Tensor]:
    kept = put_dim(g, index, _zeros_like(src), dim)
    pulled = take_dim(g, index, dim)
    count = index.type_.size
    if isinstance(count, int) and count <= 1:
        return kept, None, pulled
    # of several writes to one position the last one counts: mark it, and read the marks back
    order = reshape(iota((count,), 0, i64, index.device), index.shape)
    marks = put_dim(zeros(x.shape[dim], dtype=i64, device=index.device), index, order, 0)
    lasts = take_dim(marks, index, 0) == order
    lasts = reshape(lasts, (*index.shape, *(1,) * (src.ndim - dim - index.ndim)))
    return kept, None, _where(lasts, pulled)


def _where(condition: Tensor, x: Tensor) -> Tensor:
    from tjit.ops.elementwise import where

    return where(condition, x, full((), 0, dtype=x.dtype, device=x.device))


INDEX_COPY = register(
    Op(
        name="index_copy",
        kind="index",
        infer=_index_infer("index_copy"),
        reference=_index_copy_reference,
        vjp=_index_copy_vjp,
        samples=(
            Sample(((4, 3), (5,), (5, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 0}),
            Sample(((2, 4), (3, 2), (2, 3, 2)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 1}),
            Sample(((4, 3), (), (3,)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 0}),
        ),
        dtypes="any",
        exact=True,
    )
)


@public(inplace=True)
def index_copy(x: Tensor, dim: int, index: Tensor, source: Tensor) -> Tensor:
    """x with source at the positions `index` of `dim`.

    Raises:
        DimensionError: a position is out of range.
    """
    d = normalize_dim(dim, x.ndim)
    return put_dim(x, reshape(index, (1,)) if index.ndim == 0 else index, source, d)


@public(inplace=True)
def index_fill(x: Tensor, dim: int, index: Tensor, value: Any) -> Tensor:
    """x with `value` at the positions `index` of `dim`."""
    d = normalize_dim(dim, x.ndim)
    index = reshape(index, (1,)) if index.ndim == 0 else index
    filled = full(_replaced(x.shape, index.shape, d), value, dtype=x.dtype, device=x.device)
    return put_dim(x, index, filled, d)


@public(inplace=True)
def index_put(x: Tensor, indices: Sequence[Any], values: Tensor, accumulate: bool = False) -> Tensor:
    """x with `values` written, or with `accumulate` added, at the positions of x[indices].

    Raises:
        DimensionError: a position is out of range.
    """
    from tjit.ops.indexing import with_written

    return with_written(x, tuple(indices), values, accumulate)


@public(inplace=True)
def scatter(x: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None) -> Tensor:
    """x with result[index[i, j], j] = src[i, j] for dim 0, and so on; of a repeated position the last counts.

    Args:
        index: ints, of x's rank; no larger than src, nor than x but along `dim`.
        src: a tensor, or a number for all.
        reduce: "add" adds instead.

    Raises:
        DimensionError: a position is out of range.
        TypeRuleError: the index does not fit x or src.
    """
    source = value if src is None else src
    if not isinstance(source, Tensor):
        source = full(tuple(index.shape), source, dtype=x.dtype, device=x.device)
    if reduce not in (None, "add"):
        raise ArgumentError(f"scatter takes reduce None or 'add', not {reduce!r}", user_location())
    return _scattered(SCATTER_ADD if reduce == "add" else SCATTER, x, dim, index, source)


@public(inplace=True)
def scatter_add(x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    """x with src[i, j] added to result[index[i, j], j] for dim 0, and so on for other dims and ranks.

    Raises:
        DimensionError: a position is out of range.
        TypeRuleError: the index does not fit x or src.
    """
    return _scattered(SCATTER_ADD, x, dim, index, src)


def _scattered(op: Op, x: Tensor, dim: int, index: Tensor, src: Tensor) -> Tensor:
    if x.ndim == 0:
        return reshape(_scattered(op, reshape(x, (1,)), 0, reshape(index, (1,)), reshape(src, (1,))), ())
    d = normalize_dim(dim, x.ndim)
    if src.dtype is not x.dtype:
        raise TypeRuleError(f"{op.name} needs src of the tensor's dtype: {src.type_} for {x.type_}", user_location())
    src = _cropped(op.name, src, index, None)
    part = _cropped(op.name, x, index, d)
    written = apply(op, part, index, src, dim=d)
    return written if part is x else slice_update(x, written, (0,) * x.ndim, tuple(part.shape), (1,) * x.ndim)


def _scatter_infer(name: str) -> Any:
    def infer(x: TensorType, index: TensorType, src: TensorType, dim: int) -> TensorType:
        _gather_infer(x, index, dim)
        if src != x.with_shape(index.shape):
            raise TypeRuleError(f"{name} into {x} with index {index} needs a source {x.with_shape(index.shape)}, not {src}")
        return x

    return infer


def _positions(x: np.ndarray, index: np.ndarray, dim: int) -> tuple[np.ndarray, ...]:
    _check_positions(index, x.shape[dim], dim)
    return tuple(index if d == dim else grid for d, grid in enumerate(np.ogrid[tuple(slice(n) for n in index.shape)]))


def _scatter_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    y = x.copy()
    y[_positions(x, index, dim)] = src
    return y


def _scatter_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int) -> tuple[Tensor, None, Tensor]:
    kept = apply(SCATTER, g, index, _zeros_like(src), dim=dim)
    # of several writes to one position the last one counts: mark it, and read the marks back
    order = iota((index.type_.size,), 0, i64, index.device)
    order = reshape(order, index.shape)
    marks = apply(SCATTER, zeros(x.shape, dtype=i64, device=x.device), index, order, dim=dim)
    lasts = apply(GATHER, marks, index, dim=dim) == order
    return kept, None, _where(lasts, apply(GATHER, g, index, dim=dim))


SCATTER = register(
    Op(
        name="scatter",
        kind="index",
        infer=_scatter_infer("scatter"),
        reference=_scatter_reference,
        vjp=_scatter_vjp,
        samples=(
            Sample(((4, 3), (5, 3), (5, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 0}),
            Sample(((2, 4), (2, 3), (2, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 1}),
        ),
        dtypes="any",
        exact=True,
    )
)


def _scatter_add_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    return _add_at(x, _positions(x, index, dim), src)


def _scatter_add_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int) -> tuple[Tensor, None, Tensor]:
    return g, None, apply(GATHER, g, index, dim=dim)


SCATTER_ADD = register(
    Op(
        name="scatter_add",
        kind="index",
        infer=_scatter_infer("scatter_add"),
        reference=_scatter_add_reference,
        vjp=_scatter_add_vjp,
        samples=(
            Sample(((4, 3), (5, 3), (5, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 0}),
            Sample(((2, 4), (2, 3), (2, 3)), dtypes=_WRITTEN, ranges=_WRITE_RANGES, attrs={"dim": 1}),
        ),
        dtypes="number",
    )
)


def slice_update(
    x: Tensor, value: Tensor, starts: tuple[Dim, ...], stops: tuple[Dim, ...], steps: tuple[int, ...]
) -> Tensor:
    """x with `value` in place of the slice that `slice_dims` with these bounds gives."""
    whole = tuple(value.shape) == tuple(x.shape) and set(steps) <= {1}
    if whole:
        return value
    return apply(SLICE_UPDATE, x, value, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _slice_update_infer(x: TensorType, value: TensorType, starts: Any, stops: Any, steps: Any) -> TensorType:
    from tjit.ops.movement import SLICE

    assert SLICE.infer is not None
    part = SLICE.infer(x, starts, stops, steps)
    if value != part:
        raise TypeRuleError(f"slice_update of this part of {x} needs {part}, not {value}")
    return x


def _slice_update_reference(x: np.ndarray, value: np.ndarray, starts: Any, stops: Any, steps: Any) -> np.ndarray:
    y = x.copy()
    y[tuple(map(slice, starts, stops, steps))] = value
    return y


def _slice_update_vjp(
    g: Tensor, y: Tensor, x: Tensor, value: Tensor, starts: Any, stops: Any, steps: Any
) -> tuple[Tensor, Tensor]:
    return slice_update(g, _zeros_like(value), starts, stops, steps), slice_dims(g, starts, stops, steps)


SLICE_UPDATE = register(
    Op(
        name="slice_update",
        kind="index",
        infer=_slice_update_infer,
        reference=_slice_update_reference,
        vjp=_slice_update_vjp,
        samples=(
            Sample(((5, 7), (3, 5)), attrs={"starts": (1, 2), "stops": (4, 7), "steps": (1, 1)}),
            Sample(((5, 7), (3, 2)), attrs={"starts": (0, 1), "stops": (5, 7), "steps": (2, 3)}),
            Sample(((5,), (0,)), attrs={"starts": (2,), "stops": (2,), "steps": (1,)}),
        ),
        dtypes="any",
        exact=True,
    )
)

