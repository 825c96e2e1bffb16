"""Shape: PyTorch's functions that move, merge and split dims, written with the movement ops; clone and detach."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.errors import ArgumentError, DimensionError, TypeRuleError
from tjit.ir.dims import Dim, maximum, minimum, product, require_positive
from tjit.ir.op import Op, Sample, register
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.creation import as_shape
from tjit.ops.movement import _complete_shape, broadcast_to, flip, permute, reshape
from tjit.ops.operands import normalize_dim, normalize_dims
from tjit.ops.public import public
from tjit.ops.strides import can_view, is_contiguous
from tjit.tensor import Tensor, attach

__all__ = [
    "clone",
    "contiguous",
    "detach",
    "flatten",
    "movedim",
    "squeeze",
    "t",
    "transpose",
    "unflatten",
    "unsqueeze",
    "view",
]


@public()
def clone(x: Tensor, *, memory_format: Any = None) -> Tensor:
    """A copy of x in memory of its own; gradients flow through."""
    return apply(CLONE, x)


CLONE = register(
    Op(
        name="clone",
        kind="elementwise",
        infer=lambda x: x,
        reference=lambda x: np.array(x, order="C"),
        vjp=lambda g, y, x: (g,),
        scalar=lambda b, x: x,
        samples=(Sample(((3, 5),)),),
        dtypes="any",
        exact=True,
    )
)


@public()
def detach(x: Tensor) -> Tensor:
    """x without its history: it shares x's memory, and no gradient flows through it."""
    return apply(DETACH, x)


DETACH = register(
    Op(
        name="detach",
        kind="movement",
        infer=lambda x: x,
        reference=lambda x: x,
        vjp=None,
        index=lambda i, x: i,
        samples=(Sample(((3, 5),)),),
        dtypes="any",
        differentiable=False,
        exact=True,
        view=True,
    )
)


@public(function=False)
def contiguous(x: Tensor, *, memory_format: Any = None) -> Tensor:
    """x if its elements lie in row-major order, else a clone that does."""
    return x if is_contiguous(x) else clone(x)


@public(function=False)
def view(x: Tensor, *shape: Any) -> Tensor:
    """x under another shape, always sharing memory.

    Args:
        shape: extents, as arguments or one tuple; one may be -1.

    Raises:
        TypeRuleError: the memory of x does not allow it: reshape copies then.
    """
    target = _complete_shape(x, as_view_shape(shape))
    if not can_view(x, target):
        raise TypeRuleError(
            f"view size {list(target)} is not compatible with the size and stride of {x.type_}",
            user_location(),
            hint="use .reshape(...), which copies where it must",
        )
    return reshape(x, target)


def as_view_shape(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    """A shape with at most one -1 in it."""
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else sizes
    return tuple(-1 if isinstance(d, int) and d == -1 else as_shape((d,))[0] for d in sizes)


@public(function=False)
def view_as(x: Tensor, other: Tensor) -> Tensor:
    """`view` with other's shape."""
    return view(x, tuple(other.shape))


@public(function=False)
def reshape_as(x: Tensor, other: Tensor) -> Tensor:
    """`reshape` to other's shape."""
    return reshape(x, tuple(other.shape))


@public()
def ravel(x: Tensor) -> Tensor:
    """x as one dim."""
    return reshape(x, (x.numel(),))


@public()
def flatten(x: Tensor, start_dim: int = 0, end_dim: int = -1) -> Tensor:
    """x with the dims from start_dim to end_dim, both included, merged into one.

    Raises:
        TypeRuleError: end_dim comes before start_dim.
    """
    first, last = normalize_dim(start_dim, x.ndim), normalize_dim(end_dim, x.ndim)
    if first > last:
        raise TypeRuleError("flatten needs a start_dim that does not come after end_dim", user_location())
    shape = tuple(x.shape) or (1,)
    return reshape(x, (*shape[:first], product(shape[first : last + 1]), *shape[last + 1 :]))


@public()
def unflatten(x: Tensor, dim: int, sizes: Any) -> Tensor:
    """x with one dim split into `sizes`, of which one may be -1.

    Raises:
        ArgumentError: the sizes do not multiply to the dim's extent.
    """
    d = normalize_dim(dim, x.ndim)
    sizes = as_view_shape((sizes,))
    known = product(s for s in sizes if not (isinstance(s, int) and s == -1))
    if -1 in sizes and not (isinstance(known, int) and known == 0) and x.shape[d] % known == 0:
        sizes = tuple(x.shape[d] // known if isinstance(s, int) and s == -1 else s for s in sizes)
    if -1 in sizes or product(sizes) != x.shape[d]:
        raise TypeRuleError(
            f"unflatten: sizes {list(sizes)} don't multiply up to the size of dim {d} ({x.shape[d]}) of {x.type_}",
            user_location(),
        )
    return reshape(x, (*x.shape[:d], *sizes, *x.shape[d + 1 :]))


@public()
def squeeze(x: Tensor, dim: Any = None) -> Tensor:
    """x without its dims of extent 1, or without those of `dim` that have extent 1; a view."""
    dims = range(x.ndim) if dim is None else normalize_dims(dim, x.ndim) if dim != () else ()
    for d in dims if x.ndim else ():
        require_positive(x.shape[d] - 1)
    gone = {d for d in dims if x.ndim and isinstance(x.shape[d], int) and x.shape[d] == 1}
    return reshape(x, tuple(s for d, s in enumerate(x.shape) if d not in gone))


@public()
def unsqueeze(x: Tensor, dim: int) -> Tensor:
    """x with a new dim of extent 1 at `dim`; a view."""
    d = normalize_dim(dim, x.ndim + 1)
    return reshape(x, (*x.shape[:d], 1, *x.shape[d:]))


@public(aliases=("swapaxes", "swapdims"))
def transpose(x: Tensor, dim0: int, dim1: int) -> Tensor:
    """x with two dims exchanged; a view."""
    a, b = normalize_dim(dim0, x.ndim), normalize_dim(dim1, x.ndim)
    dims = list(range(x.ndim))
    if dims:
        dims[a], dims[b] = dims[b], dims[a]
    return permute(x, tuple(dims))


@public()
def t(x: Tensor) -> Tensor:
    """The transpose of a matrix; tensors of fewer dims as they are.

    Raises:
        TypeRuleError: x has more than two dims.
    """
    if x.ndim > 2:
        raise TypeRuleError(f"t() expects a tensor with <= 2 dimensions, but got {x.type_}", user_location())
    return permute(x, tuple(reversed(range(x.ndim))))


@public(aliases=("moveaxis",))
def movedim(x: Tensor, source: Any, destination: Any) -> Tensor:
    """x with the dims `source` moved to the positions `destination`; the others keep their order. A view.

    Raises:
        ArgumentError: source and destination differ in length, or repeat a dim.
    """
    sources = _each(source, x.ndim)
    destinations = _each(destination, x.ndim)
    if len(sources) != len(destinations) or len(set(sources)) < len(sources) or len(set(destinations)) < len(sources):
        raise ArgumentError(
            f"movedim needs as many distinct sources as destinations: {source} and {destination}", user_location()
        )
    rest = iter(d for d in range(x.ndim) if d not in sources)
    at = dict(zip(destinations, sources, strict=True))
    return permute(x, tuple(at[i] if i in at else next(rest) for i in range(x.ndim)))


def _each(dims: Any, rank: int) -> list[int]:
    return [normalize_dim(d, rank) for d in (dims if isinstance(dims, (tuple, list)) else (dims,))]


@public()
def adjoint(x: Tensor) -> Tensor:
    """x with its last two dims exchanged: `mT`."""
    if x.ndim < 2:
        raise TypeRuleError(f"the transpose of matrices needs at least two dims, not {x.type_}", user_location())
    return transpose(x, -2, -1)


@public()
def broadcast_tensors(*tensors: Tensor) -> tuple[Tensor, ...]:
    """The tensors, all broadcast to one shape, as views."""
    from tjit.ops.operands import broadcast_shapes as common_shape

    shape = common_shape(*(x.shape for x in tensors), what="broadcast_tensors")
    return tuple(broadcast_to(x, shape) for x in tensors)


@public(method=False)
def broadcast_shapes(*shapes: Any) -> Any:
    """The shape that all shapes broadcast to."""
    from tjit.ops.operands import broadcast_shapes as common_shape
    from tjit.tensor import Size

    return Size(common_shape(*((s,) if isinstance(s, int) else tuple(s) for s in shapes)))


def _at_least(x: Any, rank: int) -> Any:
    if isinstance(x, (tuple, list)):
        return tuple(_at_least(item, rank) for item in x)
    missing = rank - x.ndim
    if missing <= 0:
        return x
    if rank == 3 and x.ndim:  # NumPy's rule: a matrix gets its new dim behind, a vector one on each side
        return reshape(x, (1, x.shape[0], 1) if x.ndim == 1 else (*x.shape, 1))
    return reshape(x, (1,) * missing + tuple(x.shape))


@public()
def atleast_1d(*tensors: Any) -> Any:
    """x with at least one dim."""
    return _at_least(tensors[0] if len(tensors) == 1 else tensors, 1)


@public()
def atleast_2d(*tensors: Any) -> Any:
    """x with at least two dims."""
    return _at_least(tensors[0] if len(tensors) == 1 else tensors, 2)


@public()
def atleast_3d(*tensors: Any) -> Any:
    """x with at least three dims."""
    return _at_least(tensors[0] if len(tensors) == 1 else tensors, 3)


@public()
def fliplr(x: Tensor) -> Tensor:
    """x with its columns (dim 1) reversed."""
    return flip(x, 1)


@public()
def flipud(x: Tensor) -> Tensor:
    """x with its rows (dim 0) reversed."""
    return flip(x, 0)


@public()
def rot90(x: Tensor, k: int = 1, dims: Any = (0, 1)) -> Tensor:
    """x rotated k times by 90 degrees in the plane of two dims, from the first towards the second."""
    a, b = (normalize_dim(d, x.ndim) for d in dims)
    k %= 4
    if k == 0:
        return clone(x)
    if k == 2:
        return flip(x, (a, b))
    return flip(transpose(x, a, b), a) if k == 1 else transpose(flip(x, a), a, b)


@public()
def diagonal(x: Tensor, offset: int = 0, dim1: int = 0, dim2: int = 1) -> Tensor:
    """The elements with equal positions (apart from `offset`) along two dims, as a new last dim.

    Raises:
        DimensionError: dim1 and dim2 are one dim.
    """
    from tjit.ops.movement import diagonal_of_square, slice_dims

    a, b = normalize_dim(dim1, x.ndim), normalize_dim(dim2, x.ndim)
    if a == b:
        raise DimensionError(f"diagonal dimensions cannot be identical {dim1}, {dim2}", user_location())
    x = permute(x, (*(d for d in range(x.ndim) if d not in (a, b)), a, b))
    n, m = x.shape[-2:]
    row, column = max(-offset, 0), max(offset, 0)
    size = _diagonal_size(n, m, row, column)
    if isinstance(size, int) and size == 0:
        row = column = 0
    lead = tuple(x.shape[:-2])
    starts, stops = (*(0 for _ in lead), row, column), (*lead, row + size, column + size)
    return diagonal_of_square(slice_dims(x, starts, stops, (1,) * x.ndim))


def _diagonal_size(n: Dim, m: Dim, row: int, column: int) -> Dim:
    return maximum(minimum(n - row, m - column), 0)


@public()
def diag_embed(x: Tensor, offset: int = 0, dim1: int = -2, dim2: int = -1) -> Tensor:
    """Matrices with the last dim of x on their diagonals, zero elsewhere."""
    from tjit.ops.creation import iota, zeros
    from tjit.ops.elementwise import where
    from tjit.ops.movement import pad_constant

    size = x.shape[-1] + abs(offset)
    low = (0,) * (x.ndim - 1)
    padded = pad_constant(x, (*low, max(offset, 0)), (*low, max(-offset, 0)), 0)  # by column
    t = x.type_
    from tjit.dtypes import i64

    on_diagonal = iota((size, size), 1, i64, t.device) - iota((size, size), 0, i64, t.device) == offset
    result = where(on_diagonal, unsqueeze(padded, -2), zeros((), dtype=t.dtype, device=t.device))
    return movedim(result, (-2, -1), (dim1, dim2))


@public()
def diag(x: Tensor, diagonal: int = 0) -> Tensor:
    """The diagonal of a matrix, or the matrix with a vector on its diagonal.

    Raises:
        TypeRuleError: x has neither one nor two dims.
    """
    if x.ndim == 1:
        return diag_embed(x, diagonal)
    if x.ndim == 2:
        return clone(_diagonal(x, diagonal))
    raise TypeRuleError(f"diag takes a vector or a matrix, not {x.type_}", user_location())


_diagonal = diagonal


@public()
def diagflat(x: Tensor, offset: int = 0) -> Tensor:
    """The matrix with all elements of x on its diagonal."""
    return diag_embed(ravel(x), offset)


def _transposed(x: Tensor) -> Tensor:
    """x with all dims in reverse order."""
    return permute(x, tuple(reversed(range(x.ndim))))


attach(T=property(_transposed), mT=property(adjoint), H=property(t))
