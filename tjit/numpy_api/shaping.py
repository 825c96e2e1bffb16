"""NumPy's functions that move, join and repeat elements of captured arrays."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit.errors import CaptureError, DimensionError
from tjit.ir.dims import product
from tjit.location import user_location
from tjit.numpy_api.array import NumpyTensor, built, each, parts
from tjit.numpy_api.elementwise import call_ufunc, store, where
from tjit.numpy_api.keys import flipped_view
from tjit.numpy_api.operands import as_array, result_type, to_dtype
from tjit.ops.movement import permute, reshape
from tjit.ops.operands import broadcast_shapes, normalize_dim, normalize_dims
from tjit.ops.public import FUNCTIONS
from tjit.ops.shape import clone
from tjit.tensor import Tensor

__all__ = ["SHAPING"]

_f = FUNCTIONS.__getitem__


def _view(name: str, **fixed: Any) -> Callable[..., Any]:
    """tjit's movement function `name` on every part."""
    return lambda a, *args: each(lambda t: _f(name)(t, *args, **fixed), as_array(a), scalar=False)


def copy(a: Any, order: str = "K", subok: bool = False) -> Any:
    a = as_array(a)
    return each(clone, a, scalar=a.scalar)


def reshaped(a: Any, shape: Any, order: str = "C", *, copy: Any = None) -> Any:
    a = as_array(a)
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    if order in ("C", "K"):
        return each(lambda t: _f("reshape")(t, shape), a, scalar=False)
    if order == "A":
        raise CaptureError("reshape with order='A' depends on memory", user_location(), hint="use order 'C' or 'F'")
    sizes = _resolved(shape, product(a.shape))
    return transpose(reshaped(transpose(a), tuple(reversed(sizes))))


def _resolved(shape: tuple[Any, ...], count: Any) -> tuple[Any, ...]:
    known = product(d for d in shape if not (isinstance(d, int) and d == -1))
    return tuple(count // known if isinstance(d, int) and d == -1 else d for d in shape)


def transpose(a: Any, axes: Any = None) -> Any:
    a = as_array(a)
    rank = len(a.shape)
    order = tuple(reversed(range(rank))) if axes is None else tuple(normalize_dim(d, rank) for d in axes)
    if sorted(order) != list(range(rank)):
        raise DimensionError(f"axes {axes} do not name each of {rank} dims once", user_location())
    return each(lambda t: permute(t, order), a, scalar=False)


def swapaxes(a: Any, axis1: int, axis2: int) -> Any:
    return _view("transpose")(a, axis1, axis2)


def rollaxis(a: Any, axis: int, start: int = 0) -> Any:
    rank = len(as_array(a).shape)
    axis, start = normalize_dim(axis, rank), start + rank if start < 0 else start
    return _view("movedim")(a, axis, start - (start > axis))


def ravel(a: Any, order: str = "C") -> Any:
    return reshaped(a, (-1,), order)


def squeeze(a: Any, axis: Any = None) -> Any:
    a = as_array(a)
    dims = tuple(d for d, n in enumerate(a.shape) if n == 1) if axis is None else normalize_dims(axis, len(a.shape))
    for d in dims:
        if a.shape[d] != 1:
            raise DimensionError(f"squeeze takes dims of one element, and dim {d} has {a.shape[d]}", user_location())
    shape = tuple(n for d, n in enumerate(a.shape) if d not in dims)
    return each(lambda t: reshape(t, shape), a, scalar=False)


def expand_dims(a: Any, axis: Any) -> Any:
    a = as_array(a)
    axes = axis if isinstance(axis, (tuple, list)) else (axis,)
    rank = len(a.shape) + len(axes)
    new = {normalize_dim(d, rank) for d in axes}
    old = iter(a.shape)
    shape = tuple(1 if d in new else next(old) for d in range(rank))
    return each(lambda t: reshape(t, shape), a, scalar=False)


def flip(m: Any, axis: Any = None) -> Any:
    m = as_array(m)
    dims = normalize_dims(axis, len(m.shape))
    return each(lambda t: flipped_view(t, dims), m, scalar=False)


def rot90(m: Any, k: int = 1, axes: Any = (0, 1)) -> Any:
    return _view("rot90")(m, k, tuple(axes))


def roll(a: Any, shift: Any, axis: Any = None) -> Any:
    return each(lambda t: _f("roll")(t, shift, axis), as_array(a))


def tile(A: Any, reps: Any) -> Any:
    reps = tuple(reps) if isinstance(reps, (tuple, list)) else (reps,)
    return each(lambda t: _f("tile")(t, reps), as_array(A))


def repeat(a: Any, repeats: Any, axis: Any = None) -> Any:
    repeats = _known_ints(repeats)
    if isinstance(repeats, (list, tuple, np.ndarray)):
        a, axis = (ravel(a), 0) if axis is None else (as_array(a), axis)
        counts = np.broadcast_to(repeats, (int(a.shape[axis]),))
        return take(a, np.repeat(np.arange(len(counts)), counts), axis)
    return each(lambda t: _f("repeat_interleave")(t, repeats, axis), as_array(a))


def _known_ints(x: Any) -> Any:
    if isinstance(x, NumpyTensor):
        if x.known is None:
            raise CaptureError(
                "np.repeat by numbers that are computed: the result's shape depends on data", user_location()
            )
        return x.known
    return x


def broadcast_to(array: Any, shape: Any, subok: bool = False) -> Any:
    shape = tuple(shape) if isinstance(shape, (tuple, list)) else (shape,)
    return each(lambda t: _f("broadcast_to")(t, shape), as_array(array), scalar=False)


def broadcast_arrays(*args: Any, subok: bool = False) -> Any:
    arrays = [as_array(a) for a in args]
    shape = broadcast_shapes(*(a.shape for a in arrays))
    return tuple(broadcast_to(a, shape) for a in arrays)


def _common(arrays: Any, dtype: Any = None) -> list[Any]:
    """The arrays, converted to one dtype."""
    listed = list(arrays) if not isinstance(arrays, NumpyTensor) else [arrays[i] for i in range(arrays.shape[0])]
    xs = [as_array(a) for a in listed]
    kind = dtype or result_type(*xs)
    return [to_dtype(x, kind) for x in xs]


def _join(name: str) -> Callable[..., Any]:
    def join(arrays: Sequence[Any], *, dtype: Any = None, casting: str = "same_kind") -> Any:
        columns = zip(*(parts(x) for x in _common(arrays, dtype)), strict=True)
        return built([_f(name)(list(tensors)) for tensors in columns])

    return join


def concatenate(
    arrays: Sequence[Any], /, axis: Any = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    xs = _common(arrays, dtype)
    xs = [ravel(x) for x in xs] if axis is None else xs
    columns = zip(*(parts(x) for x in xs), strict=True)
    result = built([_f("cat")(list(tensors), axis or 0) for tensors in columns])
    return result if out is None else store(out, result)


def stack(
    arrays: Sequence[Any], axis: int = 0, out: Any = None, *, dtype: Any = None, casting: str = "same_kind"
) -> Any:
    columns = zip(*(parts(x) for x in _common(arrays, dtype)), strict=True)
    result = built([_f("stack")(list(tensors), axis) for tensors in columns])
    return result if out is None else store(out, result)


def append(arr: Any, values: Any, axis: Any = None) -> Any:
    return concatenate((arr, values), axis=axis)


def split(ary: Any, indices_or_sections: Any, axis: int = 0) -> Any:
    columns = [_f("tensor_split")(t, indices_or_sections, axis) for t in parts(as_array(ary))]
    return [built(tensors, scalar=False) for tensors in zip(*columns, strict=True)]


def atleast(rank: int) -> Callable[..., Any]:
    def grown(*arys: Any) -> Any:
        results = tuple(_view(f"atleast_{rank}d")(a) for a in arys)
        return results[0] if len(results) == 1 else results

    return grown


def triangle(name: str) -> Callable[..., Any]:
    def part(m: Any, k: int = 0) -> Any:
        m = as_array(m)
        if len(m.shape) == 1:
            m = broadcast_to(m, (m.shape[0], m.shape[0]))
        return each(lambda t: _f(name)(t, k), m)

    return part


def diag(v: Any, k: int = 0) -> Any:
    return each(lambda t: _f("diag")(t, k), as_array(v))


def diagonal(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1) -> Any:
    return each(lambda t: _f("diagonal")(t, offset, axis1, axis2), as_array(a), scalar=False)


def trace(a: Any, offset: int = 0, axis1: int = 0, axis2: int = 1, dtype: Any = None, out: Any = None) -> Any:
    from tjit.numpy_api.reductions import REDUCTIONS

    return REDUCTIONS[np.sum](diagonal(a, offset, axis1, axis2), -1, dtype, out)


def diff(a: Any, n: int = 1, axis: int = -1, prepend: Any = np._NoValue, append: Any = np._NoValue) -> Any:
    a = as_array(a)
    dim = normalize_dim(axis, len(a.shape))
    ends = [a]
    for value, at in ((prepend, 0), (append, len(ends))):
        if value is not np._NoValue:
            value = as_array(value)
            shape = tuple(1 if d == dim else s for d, s in enumerate(a.shape))
            ends.insert(at, broadcast_to(value, shape) if not value.shape else value)
    a = concatenate(ends, axis=dim) if len(ends) > 1 else a
    lead = (slice(None),) * dim
    subtract = np.not_equal if a.dtype == bool else np.subtract
    for _ in range(n):
        a = call_ufunc(subtract, a[(*lead, slice(1, None))], a[(*lead, slice(None, -1))])
    return a


def take(a: Any, indices: Any, axis: Any = None, out: Any = None, mode: str = "raise") -> Any:
    a = ravel(a) if axis is None else as_array(a)
    lead = (slice(None),) * normalize_dim(axis or 0, len(a.shape))
    result = a[(*lead, indices)]
    return result if out is None else store(out, result)


def take_along_axis(arr: Any, indices: Any, axis: Any = -1) -> Any:
    index = parts(as_array(indices))[0]
    return each(lambda t: _f("take_along_dim")(t, index, axis), as_array(arr))


def clip(
    a: Any, a_min: Any = None, a_max: Any = None, out: Any = None, *, min: Any = None, max: Any = None, **kw: Any
) -> Any:
    low, high = (a_min if min is None else min), (a_max if max is None else max)
    result = a
    if low is not None:
        result = call_ufunc(np.maximum, result, low)
    if high is not None:
        result = call_ufunc(np.minimum, result, high)
    return result if out is None else store(out, result)


def rounded(a: Any, decimals: int = 0, out: Any = None) -> Any:
    a = as_array(a)
    if decimals == 0 or (a.dtype.kind in "biu" and decimals > 0):
        result = each(_f("round"), a) if a.dtype.kind in "fc" else copy(a)
    else:  # as NumPy: scaled up and down
        up, down = (np.multiply, np.divide) if decimals > 0 else (np.divide, np.multiply)
        scaled = call_ufunc(up, a, 10.0 ** abs(decimals))
        result = to_dtype(call_ufunc(down, each(_f("round"), scaled), 10.0 ** abs(decimals)), a.dtype)
    return result if out is None else store(out, result)


def nan_to_num(x: Any, copy: bool = True, nan: float = 0.0, posinf: Any = None, neginf: Any = None) -> Any:
    x = as_array(x)
    if x.dtype.kind not in "fc":
        return x

    def cleaned(t: Tensor) -> Tensor:
        info = np.finfo(t.dtype.numpy)
        high = float(info.max) if posinf is None else posinf
        low = float(info.min) if neginf is None else neginf
        t = _f("where")(t != t, nan, t)
        return _f("where")(t == np.inf, high, _f("where")(t == -np.inf, low, t))

    return each(cleaned, x)


def select(condlist: Sequence[Any], choicelist: Sequence[Any], default: Any = 0) -> Any:
    result = default
    for condition, choice in zip(reversed(condlist), reversed(choicelist), strict=True):
        result = where(condition, choice, result)
    return result


def pad(array: Any, pad_width: Any, mode: str = "constant", *, constant_values: Any = 0) -> Any:
    a = as_array(array)
    if mode not in ("constant", "edge", "wrap", "reflect", "symmetric") or not np.isscalar(constant_values):
        raise CaptureError(f"np.pad with mode {mode!r}", user_location(), hint="use 'constant' with one value")
    widths = np.broadcast_to(pad_width, (len(a.shape), 2)).tolist()
    for dim, (before, after) in enumerate(widths):
        if mode == "constant":
            a = _padded(a, dim, before, after, constant_values)
        else:
            a = take(a, np.pad(np.arange(int(a.shape[dim])), (before, after), mode=mode), dim)
    return a


def _padded(a: Any, dim: int, before: int, after: int, value: Any) -> Any:
    def block(n: int) -> Any:
        shape = tuple(n if d == dim else s for d, s in enumerate(a.shape))
        return broadcast_to(to_dtype(as_array(value), a.dtype), shape)

    blocks = [block(n) if n else None for n in (before, after)]
    return concatenate([x for x in (blocks[0], a, blocks[1]) if x is not None], axis=dim)


def copyto(dst: Any, src: Any, casting: str = "same_kind", where: Any = True) -> None:
    src = as_array(src)
    store(dst, src if casting != "unsafe" else to_dtype(src, dst.dtype), where)


def fill_diagonal(a: Any, val: Any, wrap: bool = False) -> None:
    n = min(a.shape)
    rows = np.arange(n)
    a[(rows,) * len(a.shape)] = val


SHAPING: dict[Any, Callable[..., Any]] = {
    np.copy: copy,
    np.reshape: reshaped,
    np.transpose: transpose,
    np.permute_dims: transpose,
    np.matrix_transpose: lambda x, /: swapaxes(x, -1, -2),
    np.swapaxes: swapaxes,
    np.moveaxis: lambda a, source, destination: _view("movedim")(a, source, destination),
    np.rollaxis: rollaxis,
    np.ravel: ravel,
    np.squeeze: squeeze,
    np.expand_dims: expand_dims,
    np.flip: flip,
    np.fliplr: lambda m: flip(m, 1),
    np.flipud: lambda m: flip(m, 0),
    np.rot90: rot90,
    np.roll: roll,
    np.tile: tile,
    np.repeat: repeat,
    np.broadcast_to: broadcast_to,
    np.broadcast_arrays: broadcast_arrays,
    np.concatenate: concatenate,
    np.stack: stack,
    np.hstack: _join("hstack"),
    np.vstack: _join("vstack"),
    np.dstack: _join("dstack"),
    np.column_stack: _join("column_stack"),
    np.append: append,
    np.split: split,
    np.array_split: split,
    np.hsplit: lambda ary, n: split(ary, n, 0 if len(ary.shape) == 1 else 1),
    np.vsplit: lambda ary, n: split(ary, n, 0),
    np.atleast_1d: atleast(1),
    np.atleast_2d: atleast(2),
    np.atleast_3d: atleast(3),
    np.triu: triangle("triu"),
    np.tril: triangle("tril"),
    np.diag: diag,
    np.diagonal: diagonal,
    np.trace: trace,
    np.diff: diff,
    np.ediff1d: lambda ary: diff(ravel(ary)),
    np.take: take,
    np.take_along_axis: take_along_axis,
    np.clip: clip,
    np.round: rounded,
    np.around: rounded,
    np.nan_to_num: nan_to_num,
    np.select: select,
    np.pad: pad,
    np.copyto: copyto,
    np.fill_diagonal: fill_diagonal,
}
