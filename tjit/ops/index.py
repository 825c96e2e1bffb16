"""Index: ops that move data to and from computed positions."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tjit.dtypes import f32, i64
from tjit.errors import ArgumentError, CaptureError, DimensionError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr, maximum, minimum, require_positive, upper_bound
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply, state
from tjit.ops.conversion import cast
from tjit.ops.creation import full, iota, zeros
from tjit.ops.movement import broadcast_to, reshape, slice_dims
from tjit.ops.operands import normalize_dim
from tjit.ops.public import public
from tjit.ops.shape import unsqueeze
from tjit.tensor import Tensor

__all__ = [
    "as_index",
    "gather",
    "index_add_dim",
    "index_put",
    "index_select",
    "is_negative",
    "masked_select",
    "nonzero",
    "one_hot",
    "position",
    "put_dim",
    "refuse_capture",
    "scatter",
    "scatter_add",
    "slice_update",
    "take_dim",
    "wrapped",
]


# Positions


def as_index(value: Any) -> Dim:
    """A Python index: an int, a symbolic dim, or what has `__index__`.

    Raises:
        DTypeError: another type.
    """
    if type(value) is int or isinstance(value, DimExpr):
        return value
    try:
        return value.__index__()
    except (AttributeError, TypeError):
        raise DTypeError(f"an index must be an int, not {type(value).__name__} {value!r}", user_location()) from None


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

    Raises:
        TypeRuleError: x is not of integers, or an element is no class.
    """
    if x.dtype.kind != "int":
        raise TypeRuleError(f"one_hot wants integers, not {x.type_}", user_location(), hint="convert with .long()")
    if num_classes == -1:
        refuse_capture("one_hot without num_classes", "pass num_classes")
        num_classes = int(x.array.max()) + 1 if x.numel() else 0
    t = x.type_
    if state.trace is None and x.numel() and not 0 <= x.array.min() <= x.array.max() < num_classes:
        raise TypeRuleError(f"one_hot: class values must be in 0 to {num_classes - 1}", user_location())
    return cast(unsqueeze(x, -1) == iota((num_classes,), 0, t.dtype, t.device), i64)


def position(index: Dim, extent: Dim, dim: int) -> Dim:
    """An index counted from the front.

    Raises:
        DimensionError: it is out of range, as far as the bounds of symbolic extents tell.
    """
    if isinstance(index, int):
        require_positive(extent - index if index >= 0 else extent + index + 1)
        most = upper_bound(extent)
        if most is not None and not -most <= index < most:
            raise DimensionError(
                f"index {index} is out of bounds for dimension {dim} with size {extent}", user_location()
            )
    return index + extent * is_negative(index)


def is_negative(index: Dim) -> Dim:
    """1 for a negative index, else 0; an expression where its sign is not known."""
    return maximum(minimum(-index, 1), 0)


def wrapped(index: Tensor, extent: Dim, dim: int) -> Tensor:
    """Positions with negative ones counted from the end.

    Raises:
        DimensionError: one is out of range; while capturing this is not known.
    """
    if state.trace is None:
        array = index.array
        if not array.size or array.min() >= 0:
            return _in_range(index, array, extent, dim)
        _in_range(index, array + (array < 0) * np.int64(extent), extent, dim)
    from tjit.ops.elementwise import where

    wide = index if index.dtype is i64 else cast(index, i64)
    size = extent if isinstance(extent, int) else full((), extent, dtype=i64, device=index.device)
    return where(wide < 0, wide + size, wide)


def _in_range(index: Tensor, array: np.ndarray, extent: Dim, dim: int) -> Tensor:
    if array.size and not (array.min() >= 0 and array.max() < extent):
        wrong = index.array[(array < 0) | (array >= extent)].flat[0]
        raise DimensionError(f"index {wrong} is out of bounds for dimension {dim} with size {extent}", user_location())
    return index


# Reading at computed positions


def _check_positions(index: np.ndarray, extent: int, dim: int) -> None:
    """Raises DimensionError for a position outside of the dim."""
    if index.size and not (index.min() >= 0 and index.max() < extent):
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
    return _narrowed(index_add_dim(_wide_zeros(x), index, _widened(g), dim), x), None


def _zeros_like(x: Tensor) -> Tensor:
    t = x.type_
    return zeros(t.shape, dtype=t.dtype, device=t.device)


# Many elements may add up in one: f16 and bf16 are summed in f32.


def _widened(g: Tensor) -> Tensor:
    return cast(g, f32) if g.dtype.itemsize == 2 else g


def _wide_zeros(x: Tensor) -> Tensor:
    t = x.type_
    return zeros(t.shape, dtype=f32 if t.dtype.itemsize == 2 else t.dtype, device=t.device)


def _narrowed(g: Tensor, x: Tensor) -> Tensor:
    return g if g.dtype is x.dtype else cast(g, x.dtype)


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
        raise TypeRuleError(
            f"{name} needs an index with as many dims as the tensor: {index.type_} for {x.type_}", user_location()
        )
    stops: list[Dim] = []
    for d, (extent, wanted) in enumerate(zip(x.shape, index.shape, strict=True)):
        if d != dim and isinstance(extent, int) and isinstance(wanted, int) and wanted > extent:
            raise TypeRuleError(
                f"{name} needs an index no larger than the tensor in dim {d}: {index.type_} for {x.type_}",
                user_location(),
            )
        stops.append(extent if d == dim else wanted)
    return slice_dims(x, (0,) * x.ndim, tuple(stops), (1,) * x.ndim)


def _gather_infer(x: TensorType, index: TensorType, dim: int) -> TensorType:
    _need_integers("gather", index)
    if x.ndim != index.ndim or any(
        a != b for d, (a, b) in enumerate(zip(x.shape, index.shape, strict=True)) if d != dim
    ):
        raise TypeRuleError(
            f"gather along dim {dim} needs an index that equals x in the other dims, not {index} for {x}"
        )
    return x.with_shape(index.shape)


def _gather_reference(x: np.ndarray, index: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    return np.take_along_axis(x, index, dim)


def _gather_vjp(g: Tensor, y: Tensor, x: Tensor, index: Tensor, dim: int) -> tuple[Tensor, None]:
    return _narrowed(apply(SCATTER_ADD, _wide_zeros(x), index, _widened(g), dim=dim), x), None


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
    """`gather` with x and indices broadcast in the other dims; over all elements where dim is None."""
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
    shape: Any = broadcast_shapes(x.shape, mask.shape, what="masked_select")
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
    """x with src added one by one in row-major order, each sum rounded to the dtype, as a loop over memory does."""
    y = x.copy()
    (np.logical_or if x.dtype == np.bool_ else np.add).at(y, where, src)
    return y


def _index_add_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    return _add_at(x, (slice(None),) * dim + (index,), src)


def _index_add_vjp(
    g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int
) -> tuple[Tensor, None, Tensor]:
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
    """x with src, of the shape that `take` gives, at the positions `index` of `dim`; the last of equal ones counts."""
    return apply(INDEX_COPY, x, index, src, dim=dim)


def _index_copy_reference(x: np.ndarray, index: np.ndarray, src: np.ndarray, dim: int) -> np.ndarray:
    _check_positions(index, x.shape[dim], dim)
    y = x.copy()
    y[(slice(None),) * dim + (index,)] = src
    return y


def _index_copy_vjp(
    g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int
) -> tuple[Tensor, None, Tensor]:
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
def scatter(
    x: Tensor, dim: int, index: Tensor, src: Any = None, *, value: Any = None, reduce: str | None = None
) -> Tensor:
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
            raise TypeRuleError(
                f"{name} into {x} with index {index} needs a source {x.with_shape(index.shape)}, not {src}"
            )
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


def _scatter_add_vjp(
    g: Tensor, y: Tensor, x: Tensor, index: Tensor, src: Tensor, dim: int
) -> tuple[Tensor, None, Tensor]:
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
