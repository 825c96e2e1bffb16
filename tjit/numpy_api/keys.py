"""x[key] and x[key] = value on captured arrays, as NumPy has it: negative steps, masks, arrays of positions."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import bool_, i64
from tjit.errors import CaptureError, DimensionError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr, maximum, minimum
from tjit.location import user_location
from tjit.numpy_api.array import ComplexTensor, MaskedRead, NumpyTensor, built, is_array, parts, plain
from tjit.numpy_api.elementwise import same_mask
from tjit.numpy_api.operands import as_array, lifted, operand, to_dtype
from tjit.ops.apply import apply, assign, state
from tjit.ops.creation import full
from tjit.ops.index import as_index, is_negative
from tjit.ops.indexing import get_item, set_item, with_written
from tjit.ops.movement import FLIP, broadcast_to, flip, reshape
from tjit.ops.public import FUNCTIONS
from tjit.tensor import Tensor

__all__ = ["flipped_view", "read", "write"]


def read(x: Any, key: Any) -> Any:
    """x[key]: a view for ints, slices, None and ...; a `MaskedRead` for a bool mask; else a copy."""
    if isinstance(x, MaskedRead):
        raise CaptureError(
            "what a bool mask selects cannot be indexed: its shape depends on data", user_location(), hint=_MASK_HINT
        )
    key, dims = _split(x, key)
    at = _mask_at(key)
    if at is not None:
        return _masked_read(x, key, at)
    scalar = not any(part is Ellipsis for part in key)
    return built([flipped_view(get_item(t, key), dims) for t in parts(x)], scalar)


_MASK_HINT = "use np.where(mask, x, other), or assign through the mask"


def write(x: Any, key: Any, value: Any) -> None:
    """x[key] = value, in x's memory. Dtypes convert as NumPy assigns: without regard to loss."""
    if isinstance(x, MaskedRead):
        raise CaptureError("what a bool mask selects is a copy: it cannot be written", user_location(), hint=_MASK_HINT)
    if x.scalar:
        raise TypeRuleError("a NumPy scalar does not support item assignment", user_location())
    if isinstance(x, NumpyTensor):
        x.known = None
    key, dims = _split(x, key)
    value = operand(value)
    at = _mask_at(key)
    if isinstance(value, MaskedRead):
        return _write_masked(x, key, at, value)
    if at is not None:
        return _write_where(x, key, at, value)
    if not is_array(value) and not isinstance(value, (complex, np.complexfloating)) and isinstance(x, NumpyTensor):
        value = value.item() if isinstance(value, np.generic) else value
        return set_item(plain(x), key, value)
    _check_kind(x, value)
    values = parts(to_dtype(as_array(value), x.dtype))
    for t, v in zip(parts(x), values, strict=True):
        set_item(t, key, flip(v, *_aligned(dims, t, key, v)) if dims and v.ndim else v)
    return None


def _check_kind(x: Any, value: Any) -> None:
    if isinstance(value, complex) and isinstance(x, NumpyTensor):
        raise TypeRuleError(
            f"a complex number cannot be written to an array of {x.dtype}", user_location(), hint="write its .real"
        )


# Keys


def _split(x: Any, key: Any) -> tuple[tuple[Any, ...], tuple[int, ...]]:
    """The key with positive steps only, and the dims of the result that then have to be reversed."""
    listed = [_part(part) for part in (key if isinstance(key, tuple) else (key,))]
    used = sum(_dims_of(part) for part in listed)
    if used > len(x.shape):
        raise DimensionError(f"too many indices: an array of {len(x.shape)} dims is indexed by {used}", user_location())
    has_arrays = any(map(_is_positions, listed))
    reversed_dims: list[int] = []
    dim, out = 0, 0
    for i, part in enumerate(listed):
        if part is Ellipsis:
            skipped = len(x.shape) - used
            dim, out = dim + skipped, out + skipped
            continue
        if isinstance(part, slice):
            if part.step is not None and _step(part) < 0:
                listed[i] = _forward(part, x.shape[dim])
                reversed_dims.append(out)
            out += 1
        elif part is None:
            out += 1
        elif has_arrays and isinstance(part, (int, DimExpr)) and not isinstance(part, bool):
            listed[i] = _as_positions(part)  # beside arrays of positions an int is one, which moves the result's dims
        dim += _dims_of(part)
    if reversed_dims and has_arrays:
        raise CaptureError(
            "a negative step beside an array of positions", user_location(), hint="index in two steps: x[::-1][rows]"
        )
    return tuple(listed), tuple(reversed_dims)


def _as_positions(part: Any) -> Tensor:
    return full((1,), part, dtype=i64)


def _part(part: Any) -> Any:
    if isinstance(part, slice):
        return slice(*(_bound(b) for b in (part.start, part.stop, part.step)))
    if isinstance(part, NumpyTensor):
        known = part.known
        if known is not None and part._storage.version == 0:
            return known.tolist()
        return plain(part)
    if isinstance(part, np.ndarray) and part.dtype == np.bool_:
        return plain(lifted(part))  # pyright: ignore[reportArgumentType]  # it is real
    if isinstance(part, (ComplexTensor, float, complex)):
        raise DimensionError(
            "only integers, slices, None, ... and arrays of ints or bools are indices", user_location()
        )
    if isinstance(part, MaskedRead):
        raise CaptureError("positions that a bool mask selects: their number depends on data", user_location())
    if isinstance(part, np.generic):
        return part.item()
    if isinstance(part, (list, tuple)):
        return _part(as_array(part)) if any(map(is_array, part)) else np.array(part, None if part else np.int64)
    return part


def _bound(bound: Any) -> Any:
    if isinstance(bound, NumpyTensor):
        known = bound.known
        return known.item() if known is not None and bound._storage.version == 0 else plain(bound)
    return bound


def _is_positions(part: Any) -> bool:
    """Whether a part of a key is an array of positions, of at least one dim."""
    if isinstance(part, Tensor):
        return part.ndim > 0 and part.dtype is not bool_
    return isinstance(part, (list, np.ndarray)) and np.ndim(part) > 0 and np.asarray(part).dtype != np.bool_


def _dims_of(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, Tensor):
        return part.ndim if part.dtype is bool_ else 1
    if isinstance(part, (list, np.ndarray)):
        known = np.asarray(part)
        return known.ndim if known.dtype == np.bool_ else 1
    return 1


def _step(key: slice) -> int:
    step = as_index(key.step)
    if not isinstance(step, int):
        raise CaptureError(f"a slice needs a step that is the same on every call, not {step}", user_location())
    return step


def _forward(key: slice, extent: Dim) -> slice:
    """The slice with a positive step that has the same elements as one with a negative step."""
    step = -_step(key)
    start = extent - 1 if key.start is None else _clipped(as_index(key.start), extent)
    stop = -1 if key.stop is None else _clipped(as_index(key.stop), extent)
    count = maximum((start - stop + step - 1) // step, 0)
    first = maximum(start - (count - 1) * step, 0)
    return slice(first, maximum(start + 1, first), step)


def _clipped(bound: Dim, extent: Dim) -> Dim:
    """A bound of a slice with a negative step: from -1, before the first element, to the last."""
    return maximum(minimum(bound + extent * is_negative(bound), extent - 1), -1)


def flipped_view(x: Tensor, dims: tuple[int, ...]) -> Tensor:
    """x with dims reversed, as a view: what is written to it reaches x."""
    if not dims:
        return x
    result = apply(FLIP, x, dims=dims)
    result._storage, result._view = x._storage, (x, FLIP, {"dims": dims})
    result._seen = x._storage.version
    return result


def _aligned(dims: tuple[int, ...], x: Tensor, key: tuple[Any, ...], value: Tensor) -> tuple[int, ...]:
    """The value's dims that meet the target's reversed ones; broadcast dims need no reversal."""
    rank = get_item(x, key).ndim
    shifted = (d - rank + value.ndim for d in dims)
    return tuple(d for d in shifted if d >= 0)


# Masks


def _mask_at(key: tuple[Any, ...]) -> int | None:
    """The position in the key of the one traced bool mask."""
    found = [i for i, part in enumerate(key) if isinstance(part, Tensor) and part.dtype is bool_]
    return found[0] if found else None


def _masked_view(x: Any, key: tuple[Any, ...], at: int) -> tuple[list[Tensor], Tensor]:
    """The tensors of x[key] with all elements, and the mask broadcast to their shape."""
    mask: Tensor = key[at]
    others = [p for i, p in enumerate(key) if i != at]
    if any(isinstance(p, (Tensor, np.ndarray)) for p in others):
        raise CaptureError("a bool mask beside arrays of positions", user_location(), hint=_MASK_HINT)
    whole = (*key[:at], *(slice(None),) * mask.ndim, *key[at + 1 :])
    views = [get_item(t, whole) for t in parts(x)]
    lead = _lead(views[0], key, at)
    extents = tuple(views[0].shape[lead : lead + mask.ndim])
    if tuple(mask.shape) != extents:
        raise DimensionError(
            f"a mask of shape {list(mask.shape)} does not fit the dims {list(extents)} that it selects from",
            user_location(),
        )
    tail = views[0].ndim - lead - mask.ndim
    wide = reshape(mask, (1,) * lead + tuple(mask.shape) + (1,) * tail)
    return views, broadcast_to(wide, tuple(views[0].shape))


def _lead(view: Tensor, key: tuple[Any, ...], at: int) -> int:
    """How many dims of the result come before those that the mask selects from."""
    before, after = (sum(1 for p in part if isinstance(p, slice) or p is None) for part in (key[:at], key[at + 1 :]))
    return view.ndim - after - key[at].ndim if any(p is Ellipsis for p in key[:at]) else before


def _masked_read(x: Any, key: tuple[Any, ...], at: int) -> MaskedRead:
    views, mask = _masked_view(x, key, at)
    assert state.trace is not None
    copies = [state.trace.snapshot(v) for v in views]
    return MaskedRead(built(copies, scalar=False), state.trace.snapshot(mask))


def _write_where(x: Any, key: tuple[Any, ...], at: int, value: Any) -> None:
    """x[mask] = a value that does not depend on how many elements the mask selects."""
    _check_kind(x, value)
    views, mask = _masked_view(x, key, at)
    after = views[0].ndim - _lead(views[0], key, at) - key[at].ndim
    for view, new in zip(views, parts(to_dtype(as_array(value), x.dtype)), strict=True):
        fitted = _without_count(new, after, key[at].ndim)
        assign(view, FUNCTIONS["where"](mask, broadcast_to(fitted, tuple(view.shape)), view))


def _without_count(value: Tensor, after: int, selected: int) -> Tensor:
    """The value with one dim of extent 1 for each of the mask's, instead of the one that counts what it selects."""
    if value.ndim <= after:
        return value
    shape = tuple(value.shape)
    at = value.ndim - after - 1
    if shape[at] != 1:
        raise CaptureError(
            f"as many elements as a bool mask selects are written, from an array of {shape[at]}",
            user_location(),
            hint="write x[mask] = y[mask] with y of x's shape, or x = np.where(mask, y, x)",
        )
    return reshape(value, (*shape[:at], *(1,) * selected, *shape[at + 1 :]))


def _write_masked(x: Any, key: tuple[Any, ...], at: int | None, value: MaskedRead) -> None:
    """x[mask] = y[mask] op ...: where the mask holds."""
    if at is None:
        raise CaptureError(
            "what a bool mask selects can be written through the same mask only", user_location(), hint=_MASK_HINT
        )
    views, mask = _masked_view(x, key, at)
    if not same_mask(mask, value.mask):
        raise CaptureError(
            "what one mask selects is written through another: whether their numbers agree depends on data",
            user_location(),
            hint="use the same mask on both sides, or np.where(mask, x, other)",
        )
    for view, new in zip(views, parts(to_dtype(value.full, x.dtype)), strict=True):
        assign(view, FUNCTIONS["where"](mask, new, view))


def add_at(x: Any, key: Any, value: Any) -> None:
    """`np.add.at(x, key, value)`: equal positions add up."""
    if x.scalar:
        raise TypeRuleError("a NumPy scalar cannot be written", user_location())
    split, dims = _split(x, key)
    if dims or _mask_at(split) is not None:
        raise CaptureError(
            "np.add.at takes arrays of positions and slices", user_location(), hint="use x[key] += value"
        )
    values = parts(to_dtype(as_array(value), x.dtype))
    for t, v in zip(parts(x), values, strict=True):
        assign(t, with_written(t, split, v, accumulate=True))
