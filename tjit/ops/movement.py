"""Movement: ops that only say where each element comes from. They disappear into the index maps of kernels."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr, divided, product, require_positive
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.operands import normalize_dim, normalize_dims
from tjit.ops.public import public
from tjit.tensor import Tensor

__all__ = [
    "alias", "broadcast_to", "diagonal_of_square", "expand", "flip", "pad_constant", "permute", "reshape", "slice_dims",
]  # fmt: skip

Index = tuple[Dim, ...]


def alias(x: Tensor) -> Tensor:
    """x itself, as a new tensor on the tape."""
    return apply(ALIAS, x)


ALIAS = register(
    Op(
        name="alias",
        kind="movement",
        infer=lambda x: x,
        reference=lambda x: x,
        vjp=lambda g, y, x: (g,),
        index=lambda i, x: i,
        samples=(Sample(((3, 5),)),),
        dtypes="any",
        exact=True,
        view=True,
    )
)


@public(function=True)
def broadcast_to(x: Tensor, shape: Any) -> Tensor:
    """x repeated along new leading dims and dims of extent 1, as a view.

    Args:
        x: [*s].
        shape: the result's shape; -1 keeps an extent.

    Raises:
        TypeRuleError: x's shape does not broadcast to `shape`.
    """
    shape = tuple(shape)
    lead = len(shape) - x.ndim
    if lead >= 0:
        shape = tuple(
            x.shape[i - lead] if isinstance(d, int) and d == -1 and i >= lead else d for i, d in enumerate(shape)
        )
    return x if shape == tuple(x.shape) else apply(BROADCAST_TO, x, shape=shape)


@public(function=False)
def expand(x: Tensor, *sizes: Any) -> Tensor:
    """`broadcast_to` with the sizes as arguments or as one tuple."""
    return broadcast_to(x, _varargs(sizes))


@public(function=False)
def expand_as(x: Tensor, other: Tensor) -> Tensor:
    """x broadcast to other's shape."""
    return broadcast_to(x, other.shape)


def _broadcast_infer(x: TensorType, shape: tuple[Dim, ...]) -> TensorType:
    lead = len(shape) - x.ndim
    fits = lead >= 0 and all(
        d == s or (isinstance(d, int) and d == 1) for d, s in zip(x.shape, shape[lead:], strict=True)
    )
    if not fits:
        raise TypeRuleError(f"broadcast_to cannot make {x} into {x.with_shape(shape)}")
    return x.with_shape(shape)


def _broadcast_vjp(g: Tensor, y: Tensor, x: Tensor, shape: tuple[Dim, ...]) -> tuple[Tensor]:
    from tjit.ops.reduce import sum as sum_

    lead = len(shape) - x.ndim
    dims = tuple(i for i in range(len(shape)) if i < lead or x.shape[i - lead] != shape[i])
    total = sum_(g, dims, keepdim=False) if dims else g
    return (reshape(total, x.shape),)


def _broadcast_index(index: Index, x: TensorType, shape: tuple[Dim, ...]) -> Index:
    lead = len(shape) - x.ndim
    return tuple(0 if d != s else i for i, d, s in zip(index[lead:], x.shape, shape[lead:], strict=True))


BROADCAST_TO = register(
    Op(
        name="broadcast_to",
        kind="movement",
        infer=_broadcast_infer,
        reference=lambda x, shape: np.broadcast_to(x, shape),
        vjp=_broadcast_vjp,
        index=_broadcast_index,
        samples=(
            Sample(((3, 1),), attrs={"shape": (3, 5)}),
            Sample(((5,),), attrs={"shape": (2, 3, 5)}),
            Sample(((),), attrs={"shape": (4,)}),
            Sample(((3, 1),), attrs={"shape": (3, 0)}),
        ),
        dtypes="any",
        exact=True,
        view=True,
    )
)


@public()
def reshape(x: Tensor, *shape: Any) -> Tensor:
    """The elements of x in row-major order under another shape; a view where memory allows.

    Args:
        x: [*s].
        shape: extents, as arguments or one tuple; one may be -1.

    Raises:
        ArgumentError: the number of elements differs.
    """
    from tjit.ops.shape import clone
    from tjit.ops.strides import can_view

    target = _complete_shape(x, _varargs(shape))
    if target == tuple(x.shape):
        return x
    # a copy is made by `clone`, so that the result is a view of what it shares memory with, captured or not
    return apply(RESHAPE, x if can_view(x, target) else clone(x), shape=target)


def _varargs(sizes: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)) else tuple(sizes)


def _complete_shape(x: Tensor, shape: tuple[Any, ...]) -> tuple[Dim, ...]:
    size = x.numel()
    unknown = [i for i, d in enumerate(shape) if isinstance(d, int) and d == -1]
    known = product(d for i, d in enumerate(shape) if i not in unknown)
    text = "[" + ", ".join(map(str, shape)) + "]"
    if len(unknown) > 1 or any(isinstance(d, int) and d < -1 for d in shape):
        raise ArgumentError(f"reshape takes one -1 at most, not {text}", user_location())
    if unknown:
        ambiguous = isinstance(known, int) and known == 0
        if ambiguous or size % known != 0:
            raise ArgumentError(f"shape {text} is invalid for the {size} elements of {x.type_}", user_location())
        shape = tuple(size // known if i in unknown else d for i, d in enumerate(shape))
    elif known != size:
        raise TypeRuleError(f"shape {text} is invalid for the {size} elements of {x.type_}", user_location())
    return tuple(d if isinstance(d, DimExpr) or not hasattr(d, "__index__") else d.__index__() for d in shape)


def _reshape_infer(x: TensorType, shape: tuple[Dim, ...]) -> TensorType:
    if product(shape) != x.size:
        raise TypeRuleError(f"reshape needs as many elements as {x} has: {x.size}, not {product(shape)}")
    return x.with_shape(shape)


def _reshape_index(index: Index, x: TensorType, shape: tuple[Dim, ...]) -> Index:
    """Dims are matched in groups of equal extent; within a group the linear position is split again."""
    result: list[Dim] = []
    for here, there in _equal_groups(shape, x.shape):
        result.extend(_split(_linear(index[here], shape[here]), x.shape[there]))
    return tuple(result)


@lru_cache(maxsize=1024)  # a program reshapes between few shapes, at many indices
def _equal_groups(a: tuple[Dim, ...], b: tuple[Dim, ...]) -> tuple[tuple[slice, slice], ...]:
    """The smallest ranges of two shapes with equally many elements in one and the other, in order."""
    found: list[tuple[slice, slice]] = []
    i = j = 0
    while i < len(a) or j < len(b):
        ni, nj = i + 1, j + 1
        here, there = product(a[i:ni]), product(b[j:nj])
        while here != there and not (ni >= len(a) and nj >= len(b)):
            if nj >= len(b) or (ni < len(a) and _smaller(here, there)):
                ni += 1
            else:
                nj += 1
            here, there = product(a[i:ni]), product(b[j:nj])
        if here != there:
            ni, nj = len(a), len(b)
        found.append((slice(i, ni), slice(j, nj)))
        i, j = ni, nj
    return tuple(found)


def _smaller(a: Dim, b: Dim) -> bool:
    if isinstance(a, int) and isinstance(b, int):
        return a < b
    return isinstance(a, int) or (not isinstance(b, int) and len(str(a)) < len(str(b)))


def _linear(index: Index, shape: tuple[Dim, ...]) -> Dim:
    total: Dim = 0
    for i, d in zip(index, shape, strict=True):
        total = total * d + i
    return total


def _split(linear: Dim, shape: tuple[Dim, ...]) -> list[Dim]:
    result: list[Dim] = []
    for position, d in enumerate(reversed(shape)):
        if isinstance(d, int) and d <= 1:
            result.append(0)  # also where there are no elements: any index will do
        elif position == len(shape) - 1:
            result.append(linear)
        else:
            linear, rest = divided(linear, d)
            result.append(rest)
    return result[::-1]


RESHAPE = register(
    Op(
        name="reshape",
        kind="movement",
        infer=_reshape_infer,
        reference=lambda x, shape: x.reshape(shape),
        vjp=lambda g, y, x, shape: (reshape(g, x.shape),),
        index=_reshape_index,
        samples=(
            Sample(((3, 4),), attrs={"shape": (2, 6)}),
            Sample(((2, 3, 5),), attrs={"shape": (6, 5)}),
            Sample(((12,),), attrs={"shape": (3, 1, 4)}),
            Sample(((1, 1),), attrs={"shape": ()}),
            Sample(((0, 3),), attrs={"shape": (3, 0)}),
        ),
        dtypes="any",
        exact=True,
        view=True,
    )
)


@public()
def permute(x: Tensor, *dims: Any) -> Tensor:
    """x with its dims in another order, as a view: result dim i is x's dim dims[i].

    Raises:
        DimensionError: `dims` is not a permutation of x's dims.
    """
    dims = tuple(normalize_dim(d, x.ndim) for d in _varargs(dims))
    if sorted(dims) != list(range(x.ndim)):
        raise TypeRuleError(f"permute needs each of the {x.ndim} dims of {x.type_} once, not {dims}", user_location())
    return x if dims == tuple(range(x.ndim)) else apply(PERMUTE, x, dims=dims)


def _inverse(dims: tuple[int, ...]) -> tuple[int, ...]:
    return tuple(sorted(range(len(dims)), key=dims.__getitem__))


def _permute_infer(x: TensorType, dims: tuple[int, ...]) -> TensorType:
    if sorted(dims) != list(range(x.ndim)):
        raise TypeRuleError(f"permute needs each of the {x.ndim} dims of {x} once, not {dims}")
    return x.with_shape(tuple(x.shape[d] for d in dims))


PERMUTE = register(
    Op(
        name="permute",
        kind="movement",
        infer=_permute_infer,
        reference=lambda x, dims: x.transpose(dims),
        vjp=lambda g, y, x, dims: (permute(g, _inverse(dims)),),
        index=lambda i, x, dims: tuple(i[d] for d in _inverse(dims)),
        samples=(Sample(((3, 5),), attrs={"dims": (1, 0)}), Sample(((2, 3, 5),), attrs={"dims": (2, 0, 1)})),
        dtypes="any",
        exact=True,
        view=True,
    )
)


def slice_dims(x: Tensor, starts: tuple[Dim, ...], stops: tuple[Dim, ...], steps: tuple[int, ...]) -> Tensor:
    """x[starts[0]:stops[0]:steps[0], ...] over every dim, as a view; 0 <= start <= stop <= extent, step >= 1."""
    whole = all(isinstance(s, int) and s == 0 for s in starts) and tuple(stops) == tuple(x.shape) and set(steps) <= {1}
    return x if whole else apply(SLICE, x, starts=tuple(starts), stops=tuple(stops), steps=tuple(steps))


def _slice_infer(x: TensorType, starts: Index, stops: Index, steps: tuple[int, ...]) -> TensorType:
    if not len(starts) == len(stops) == len(steps) == x.ndim:
        raise TypeRuleError(f"slice needs a start, a stop and a step for each of the {x.ndim} dims of {x}")
    for extent, start, stop in zip(x.shape, starts, stops, strict=True):
        for at_least_0 in (start, stop - start, extent - stop):
            require_positive(at_least_0 + 1)
    return x.with_shape(
        tuple((b - a) if s == 1 else (b - a + s - 1) // s for a, b, s in zip(starts, stops, steps, strict=True))
    )


def _slice_vjp(g: Tensor, y: Tensor, x: Tensor, starts: Index, stops: Index, steps: tuple[int, ...]) -> tuple[Tensor]:
    high = tuple(d - stop for d, stop in zip(x.shape, stops, strict=True))
    spread = dilate(g, steps, tuple(b - a for a, b in zip(starts, stops, strict=True)))
    padded = pad_constant(spread, starts, high, 0)
    if padded is not spread and padded.is_traced:
        padded.__dict__["_part"] = spread, starts, high, padded._storage.version
    return (padded,)


def as_addend(g: Tensor) -> Tensor:
    """A cotangent to be added to another: where it is a slice's, what lies around it changes no bit of a sum.

    It is then padded with -0.0, so that a sum in a loop may leave all but the slice alone.
    """
    part = g.__dict__.get("_part")
    if part is None or part[3] != g._storage.version or not g.dtype.is_floating_point:
        return g
    spread, low, high, _ = part
    return pad_constant(as_addend(spread), low, high, -0.0)


SLICE = register(
    Op(
        name="slice",
        kind="movement",
        infer=_slice_infer,
        reference=lambda x, starts, stops, steps: x[tuple(map(slice, starts, stops, steps))],
        vjp=_slice_vjp,
        index=lambda i, x, starts, stops, steps: tuple(a + k * s for k, a, s in zip(i, starts, steps, strict=True)),
        samples=(
            Sample(((5, 7),), attrs={"starts": (1, 2), "stops": (4, 7), "steps": (1, 1)}),
            Sample(((5, 7),), attrs={"starts": (0, 1), "stops": (5, 7), "steps": (2, 3)}),
            Sample(((5,),), attrs={"starts": (2,), "stops": (2,), "steps": (1,)}),
        ),
        dtypes="any",
        exact=True,
        view=True,
    )
)


def dilate(x: Tensor, steps: tuple[int, ...], shape: tuple[Dim, ...]) -> Tensor:
    """Zeros of `shape` with x at every steps-th position: the transpose of a strided slice."""
    return x if set(steps) <= {1} else apply(DILATE, x, steps=tuple(steps), shape=tuple(shape))


def _dilate_reference(x: np.ndarray, steps: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    y = np.zeros(shape, x.dtype)
    y[tuple(slice(None, None, s) for s in steps)] = x
    return y


def _dilate_vjp(g: Tensor, y: Tensor, x: Tensor, steps: tuple[int, ...], shape: tuple[Dim, ...]) -> tuple[Tensor]:
    return (slice_dims(g, (0,) * x.ndim, shape, steps),)


def _dilate_index(i: Index, x: TensorType, steps: tuple[int, ...], shape: tuple[Dim, ...]) -> Any:
    # a position that is no multiple of its step is outside: its remainder is not in [0, 1)
    return tuple(k // s for k, s in zip(i, steps, strict=True)), tuple(
        (k % s, 1) for k, s in zip(i, steps, strict=True) if s != 1
    )


DILATE = register(
    Op(
        name="dilate",
        kind="movement",
        infer=lambda x, steps, shape: x.with_shape(shape),
        reference=_dilate_reference,
        vjp=_dilate_vjp,
        index=_dilate_index,
        samples=(Sample(((3, 2),), attrs={"steps": (2, 3), "shape": (5, 6)}),),
        dtypes="any",
        exact=True,
    )
)


@public(method=False, function=False)
def pad(x: Tensor, pad: Any, mode: str = "constant", value: float | None = None) -> Tensor:
    """x with elements added before and after its last dims.

    Args:
        x: [*s].
        pad: two widths (before, after) for the last dim, then two for the one before it, and so on; negative ones cut.
        mode: only "constant".
        value: what is added; 0 where None.

    Raises:
        ArgumentError: an odd number of widths, more than two for each dim, or another mode.
    """
    if mode != "constant":
        raise ArgumentError(f"pad has no mode {mode!r}", user_location(), hint="use mode='constant'")
    if len(pad) % 2 or len(pad) > 2 * x.ndim:
        raise ArgumentError(
            f"pad takes two widths for each of the last dims of {x.type_}, not {tuple(pad)}", user_location()
        )
    missing = x.ndim - len(pad) // 2
    low = (*(0,) * missing, *pad[-2::-2])
    high = (*(0,) * missing, *pad[-1::-2])
    starts = tuple(max(-a, 0) for a in low)
    stops = tuple(d - max(-b, 0) for d, b in zip(x.shape, high, strict=True))
    kept = slice_dims(x, starts, stops, (1,) * x.ndim)
    return pad_constant(kept, tuple(max(a, 0) for a in low), tuple(max(b, 0) for b in high), value or 0)


def pad_constant(x: Tensor, low: tuple[Dim, ...], high: tuple[Dim, ...], value: bool | int | float) -> Tensor:
    """x with low[i] elements before and high[i] after along dim i, filled with `value`."""
    nothing = all(isinstance(d, int) and d == 0 for d in (*low, *high))
    return x if nothing else apply(PAD, x, low=tuple(low), high=tuple(high), value=value)


def _pad_infer(x: TensorType, low: Index, high: Index, value: Any) -> TensorType:
    if not len(low) == len(high) == x.ndim:
        raise TypeRuleError(f"pad needs a low and a high width for each of the {x.ndim} dims of {x}")
    return x.with_shape(tuple(d + a + b for d, a, b in zip(x.shape, low, high, strict=True)))


def _pad_vjp(g: Tensor, y: Tensor, x: Tensor, low: Index, high: Index, value: Any) -> tuple[Tensor]:
    stops = tuple(a + d for a, d in zip(low, x.shape, strict=True))
    return (slice_dims(g, low, stops, (1,) * x.ndim),)


def _pad_index(i: Index, x: TensorType, low: Index, high: Index, value: Any) -> Any:
    inner = tuple(k - a for k, a in zip(i, low, strict=True))
    padded = [not (isinstance(a, int) and isinstance(b, int) and a == b == 0) for a, b in zip(low, high, strict=True)]
    return inner, tuple((k, d) for k, d, p in zip(inner, x.shape, padded, strict=True) if p)


PAD = register(
    Op(
        name="pad",
        kind="movement",
        infer=_pad_infer,
        reference=lambda x, low, high, value: np.pad(
            x, tuple(zip(low, high, strict=True)), constant_values=np.asarray(value).astype(x.dtype)
        ),
        vjp=_pad_vjp,
        index=_pad_index,
        samples=(
            Sample(((3, 5),), attrs={"low": (1, 0), "high": (0, 2), "value": 0}),
            Sample(((4,),), attrs={"low": (2,), "high": (3,), "value": 1}),
        ),
        dtypes="any",
        exact=True,
    )
)


def diagonal_of_square(x: Tensor) -> Tensor:
    """x[..., i, i] of matrices with equal dims, as a view."""
    return apply(DIAGONAL, x)


def _diagonal_infer(x: TensorType) -> TensorType:
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise TypeRuleError(f"diagonal needs two last dims of one extent, and x is {x}")
    return x.with_shape(x.shape[:-1])


def _diagonal_vjp(g: Tensor, y: Tensor, x: Tensor) -> tuple[Tensor]:
    from tjit.ops.shape import diag_embed

    return (diag_embed(g),)


DIAGONAL = register(
    Op(
        name="diagonal",
        kind="movement",
        infer=_diagonal_infer,
        reference=lambda x: np.einsum("...ii->...i", x),
        vjp=_diagonal_vjp,
        index=lambda i, x: (*i, i[-1]),
        samples=(Sample(((4, 4),)), Sample(((2, 3, 3),)), Sample(((0, 0),))),
        dtypes="any",
        exact=True,
        view=True,
    )
)


@public()
def flip(x: Tensor, *dims: Any) -> Tensor:
    """x with the order of elements reversed along `dims`; a copy, as in PyTorch."""
    flat = _varargs(dims)
    dims = normalize_dims(flat, x.ndim) if flat else ()
    return apply(FLIP, x, dims=dims) if dims else x


FLIP = register(
    Op(
        name="flip",
        kind="movement",
        infer=lambda x, dims: x,
        reference=lambda x, dims: np.flip(x, dims).copy(),
        vjp=lambda g, y, x, dims: (flip(g, dims),),
        index=lambda i, x, dims: tuple(x.shape[d] - 1 - k if d in dims else k for d, k in enumerate(i)),
        samples=(Sample(((3, 5),), attrs={"dims": (1,)}), Sample(((2, 3, 4),), attrs={"dims": (0, 2)})),
        dtypes="any",
        exact=True,
    )
)
