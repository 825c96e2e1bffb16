"""x[...] and x[...] = v: views for ints and slices, gathers and scatters for masks and integer tensors.

A key is split in two: the basic part (ints, slices, None, ...) makes a view; what remains are tensors of positions,
each for one dim of that view.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from tjit.dtypes import bool_, i64, u8
from tjit.errors import ArgumentError, CaptureError, DimensionError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr, as_number, assume_at_least, at_least, is_runtime, maximum, minimum, product
from tjit.location import user_location
from tjit.ops.apply import apply, assign, state
from tjit.ops.creation import flatten_nested, full, nested_shape, tensor
from tjit.ops.index import (
    as_index,
    index_add_dim,
    is_negative,
    position,
    put_dim,
    refuse_capture,
    take_dim,
    wrapped,
)
from tjit.ops.movement import ALIAS, _inverse, broadcast_to, permute, reshape, slice_dims
from tjit.ops.numbers import Number, number_tensor
from tjit.ops.operands import broadcast_shapes
from tjit.tensor import Tensor, attach

__all__ = ["get_item", "set_item", "with_written"]

_NEAR = 16  # of an end, as the neighbours that a stencil reads


class _Basic(NamedTuple):
    """The view of a key's basic part, before what is left is looked up.

    Attributes:
        starts, stops, steps: of every dim of the tensor.
        shape: of the view, with the dims of ints gone and those of None added.
        masks, positions: bool tensors and integer tensors, by the view's dim that they start at.
    """

    starts: tuple[Dim, ...]
    stops: tuple[Dim, ...]
    steps: tuple[int, ...]
    shape: tuple[Dim, ...]
    masks: dict[int, Tensor]
    positions: dict[int, Tensor]


# Parts of a key


def _bound(value: Any, extent: Dim, default: Dim) -> Dim:
    if value is None:
        return default
    if _is_computed(value):
        return run_time_bound(value, extent)
    index = as_index(value)
    if is_runtime(index) and not at_least(index, 0):
        return run_time_bound(as_number(index), extent)
    if _is_near(index) and assume_at_least(extent, abs(index)):
        return index if index >= 0 else extent + index
    return maximum(minimum(index + extent * is_negative(index), extent), 0)


def _is_near(bound: Any) -> bool:
    """Whether a slice's bound lies so close to an end that tensors of several sizes hardly end before."""
    return bound is None or (isinstance(bound, int) and abs(bound) <= _NEAR)


def _slice_bounds(key: slice, extent: Dim) -> tuple[Dim, Dim, int]:
    """Start, stop and step with 0 <= start <= stop <= extent.

    Raises:
        ArgumentError: the step is negative or 0.
    """
    step = 1 if key.step is None else as_index(key.step)
    if not isinstance(step, int):
        raise CaptureError(f"a slice needs a step that is the same on every call, not {step}", user_location())
    if step <= 0:
        raise ArgumentError(
            f"slice step must be positive, not {step}", user_location(), hint="use flip() to reverse a dim"
        )
    start = _bound(key.start, extent, 0)
    stop = _bound(key.stop, extent, extent)
    if _is_near(key.start) and _is_near(key.stop) and assume_at_least(stop - start, 0):
        return start, stop, step
    return start, maximum(stop, start), step


def _as_part(part: Any) -> Any:
    """One part of a key: an int, a dim, a slice, None, Ellipsis, a bool, or a tensor of masks or positions."""
    if type(part) is Number and state.trace is not None and isinstance(part, int):
        return _Computed(number_tensor(part))
    if part is None or part is Ellipsis or isinstance(part, (int, slice, DimExpr)):
        return part
    if isinstance(part, np.generic):
        return part.item() if part.dtype.kind in "biu" else _refuse(part)
    if isinstance(part, (list, tuple, range)):
        return _listed(list(part))
    if isinstance(part, np.ndarray):
        part = Tensor(np.ascontiguousarray(part) if part.ndim else part)
    if not isinstance(part, Tensor):
        return part.__index__() if hasattr(part, "__index__") else _refuse(part)
    if part.dtype.is_floating_point:
        raise DimensionError(f"tensors used as indices must be ints or bools, not {part.type_}", user_location())
    if part.ndim == 0 and not part.is_traced and state.trace is None:
        return bool(part.array) if part.dtype is bool_ else int(part.array)
    return part != 0 if part.dtype is u8 else part


def _listed(part: list[Any]) -> Any:
    """A list as a NumPy array, known also while capturing, unless it holds tensors."""
    if any(isinstance(leaf, (Tensor, DimExpr)) for leaf in flatten_nested(part, len(nested_shape(part)))):
        return _as_part(tensor(part))
    array = np.array(part if len(part) else (), None if len(part) else np.int64)
    return array if array.dtype.kind in "biu" else _refuse(part)


def _refuse(part: Any) -> Any:
    kinds = "ints, slices, ellipsis, None, and tensors, lists and arrays of ints or bools"
    raise DTypeError(f"only {kinds} are indices, not {type(part).__name__} {part!r}", user_location())


def _parts(x: Tensor, key: Any) -> list[Any]:
    """The parts of a key with the ellipsis written out, one for each dim of x and each None."""
    if isinstance(key, list) and any(isinstance(k, (slice, type(None), type(Ellipsis))) for k in key):
        key = tuple(key)
    parts = [_as_part(part) for part in (key if isinstance(key, tuple) else (key,))]
    used = sum(_dims_used(part) for part in parts)
    if used > x.ndim:
        raise DimensionError(f"too many indices for {x.type_}: {used} for {x.ndim} dims", user_location())
    dots = [i for i, part in enumerate(parts) if part is Ellipsis]
    if len(dots) > 1:
        raise DimensionError("an index can only have a single ellipsis ('...')", user_location())
    at = dots[0] if dots else len(parts)
    return parts[:at] + [slice(None)] * (x.ndim - used) + parts[at + 1 :]


def _dims_used(part: Any) -> int:
    if part is None or part is Ellipsis or isinstance(part, bool):
        return 0
    if isinstance(part, Tensor) and part.dtype is bool_:
        return part.ndim
    return part.ndim if isinstance(part, np.ndarray) and part.dtype == np.bool_ else 1


def _split_key(x: Tensor, key: Any) -> _Basic:
    bounds: list[tuple[Dim, Dim, int]] = []
    shape: list[Dim] = []
    masks: dict[int, Tensor] = {}
    positions: dict[int, Tensor] = {}
    for part in _bound_parts(_parts(x, key)):
        d = len(bounds)
        if part is None or part is True:
            shape.append(1)
        elif part is False:
            positions[len(shape)] = tensor([], dtype=i64)
            shape.append(1)
        elif isinstance(part, slice):
            start, stop, step = _slice_bounds(part, x.shape[d])
            bounds.append((start, stop, step))
            shape.append(stop - start if step == 1 else (stop - start + step - 1) // step)
        elif isinstance(part, (Tensor, np.ndarray)):
            _add_tensor(x, part, d, len(shape), masks, positions)
            used = _dims_used(part)
            bounds.extend((0, x.shape[d + k], 1) for k in range(used))
            shape.extend(x.shape[d : d + used])
        else:
            start = _position(part, x.shape[d], d)
            bounds.append((start, start + 1, 1))
    starts, stops, steps = zip(*bounds, strict=True) if bounds else ((), (), ())
    return _Basic(starts, stops, steps, tuple(shape), masks, positions)


class _Computed(NamedTuple):
    """A 0-d integer that selects one position, as an int does."""

    number: Tensor


def _bound_parts(parts: list[Any]) -> list[Any]:
    """Inside of loops and branches a 0-d integer tensor is an int that is known when the program runs."""
    if state.trace is None or not state.trace.is_inside or not all(_is_basic(p) for p in parts):
        return parts
    return [_Computed(p) if isinstance(p, Tensor) else p for p in parts]


def _is_basic(part: Any) -> bool:
    if isinstance(part, Tensor):
        return part.ndim == 0 and part.dtype.kind == "int"
    return not isinstance(part, np.ndarray)


def _is_computed(value: Any) -> bool:
    return isinstance(value, Tensor) and value.ndim == 0 and value.dtype.kind == "int" and state.trace is not None


def _position(part: Any, extent: Dim, d: int) -> Dim:
    if isinstance(part, _Computed):
        return run_time_position(part.number, extent)
    if not isinstance(part, int) and is_runtime(part):
        if at_least(part, 0) and at_least(extent - 1 - part, 0):
            return part
        if at_least(-1 - part, 0) and at_least(part + extent, 0):
            return part + extent
        return run_time_position(as_number(part), extent)
    return position(part, extent, d)


def run_time_position(index: Tensor, extent: Dim) -> Dim:
    """A computed index as a dim, negative ones counted from the end; the program checks that it is in range."""
    assert state.trace is not None
    return state.trace.bind(wrapped(index, extent, 0), 0, extent - 1)


def run_time_bound(value: Tensor, extent: Dim) -> Dim:
    """A computed bound of a slice as a dim in [0, extent]."""
    from tjit.ops.elementwise import maximum as larger
    from tjit.ops.elementwise import minimum as smaller

    assert state.trace is not None
    last = extent if isinstance(extent, int) else full((), extent, dtype=i64)
    return state.trace.bind(larger(smaller(wrapped(value, extent, 0), last), 0), 0, extent)


def _add_tensor(
    x: Tensor, part: Any, dim: int, at: int, masks: dict[int, Tensor], positions: dict[int, Tensor]
) -> None:
    if isinstance(part, np.ndarray):
        if part.dtype == np.bool_:
            _check_mask(x, part.shape, dim)
            positions.update({at + k: tensor(p.tolist(), dtype=i64) for k, p in enumerate(part.nonzero())})
        else:
            positions[at] = _known(part, x.shape[dim], dim)
        return
    if part.dtype is not bool_:
        positions[at] = wrapped(part, x.shape[dim], dim)
        return
    _check_mask(x, part.shape, dim)
    if at in masks or at in positions:
        raise DimensionError("a 0-d bool tensor cannot be combined with other indices", user_location())
    masks[at] = part


def _check_mask(x: Tensor, shape: Any, dim: int) -> None:
    if tuple(shape) != tuple(x.shape[dim : dim + len(shape)]):
        raise DimensionError(
            f"the shape of the mask {list(shape)} does not match that of the indexed tensor {x.type_} at dim {dim}",
            user_location(),
        )


def _known(part: np.ndarray, extent: Dim, dim: int) -> Tensor:
    """Positions that are the same on every call, counted from the front already where the extent is known."""
    if not isinstance(extent, int):
        return wrapped(tensor(part.tolist(), dtype=i64), extent, dim)
    for wrong in part[(part < -extent) | (part >= extent)][:1]:
        raise DimensionError(f"index {wrong} is out of bounds for dimension {dim} with size {extent}", user_location())
    return tensor(np.where(part < 0, part + extent, part).tolist(), dtype=i64)


# Reading


def get_item(x: Tensor, key: Any) -> Tensor:
    """x[key]: a view for ints, slices, None and ...; a copy where masks or integer tensors take part.

    Raises:
        DimensionError: an index is out of range, or there are too many.
        CaptureError: a mask, while a function is captured: the result's shape depends on data.
    """
    basic = _split_key(x, key)
    seen = _basic_view(x, basic)
    if not basic.masks and not basic.positions:
        return seen if seen is not x else apply(ALIAS, x)
    if basic.masks:
        refuse_capture("indexing with a bool mask", "use tjit.where(mask, x, other), or multiply by the mask")
    return _looked_up(seen, _all_positions(basic))


def _basic_view(x: Tensor, basic: _Basic) -> Tensor:
    return reshape(slice_dims(x, basic.starts, basic.stops, basic.steps), basic.shape)


def _all_positions(basic: _Basic) -> dict[int, Tensor]:
    """The positions that masks stand for, and the others. A mask of several dims gives one tensor for each."""
    found = dict(basic.positions)
    for at, mask in basic.masks.items():
        found.update({at + k: Tensor(p) for k, p in enumerate(np.nonzero(mask.array))})
    return found


class _Lookup(NamedTuple):
    """A lookup of several dims as one: the dims `order`ed so that those looked up are adjacent, then merged at `at`."""

    order: tuple[int, ...]
    at: int
    merged: tuple[Dim, ...]
    positions: Tensor


def _plan_lookup(shape: tuple[Dim, ...], positions: dict[int, Tensor]) -> _Lookup:
    dims = sorted(positions)
    try:
        common = broadcast_shapes(*(positions[d].shape for d in dims))
    except TypeRuleError:
        listed = ", ".join(str(list(positions[d].shape)) for d in dims)
        raise DimensionError(
            f"shape mismatch: indexing tensors could not be broadcast together with shapes {listed}", user_location()
        ) from None
    rest = [d for d in range(len(shape)) if d not in positions]
    # 0-d positions act as ints do: they have no say in where the looked-up dims go
    wide = [d for d in dims if positions[d].ndim] or dims
    kept = [d for d in range(len(shape)) if d in rest or d in wide]
    places = [kept.index(d) for d in wide]
    adjacent = places == list(range(places[0], places[0] + len(places)))
    at = sum(d < wide[0] for d in rest) if adjacent else 0
    order = (*rest[:at], *dims, *rest[at:])
    merged = (*(shape[d] for d in rest[:at]), product(shape[d] for d in dims), *(shape[d] for d in rest[at:]))
    return _Lookup(order, at, merged, _linear([positions[d] for d in dims], [shape[d] for d in dims], common))


def _linear(positions: list[Tensor], extents: list[Dim], common: tuple[Dim, ...]) -> Tensor:
    """The row-major position in all dims at once."""
    from tjit.ops.elementwise import cast

    total = positions[0]
    if len(positions) > 1:
        total = cast(total, i64)
    for index, extent in zip(positions[1:], extents[1:], strict=True):
        size = extent if isinstance(extent, int) else full((), extent, dtype=i64, device=index.device)
        total = total * size + index
    return broadcast_to(total, common)


def _looked_up(x: Tensor, positions: dict[int, Tensor]) -> Tensor:
    plan = _plan_lookup(tuple(x.shape), positions)
    return take_dim(reshape(permute(x, plan.order), plan.merged), plan.positions, plan.at)


# Writing


def set_item(x: Tensor, key: Any, value: Any) -> None:
    """x[key] = value, in x's memory.

    Raises:
        DimensionError: an index is out of range, or there are too many.
        TypeRuleError: the value's shape does not broadcast to what is written.
        CaptureError: a mask with a value for each true element, while a function is captured.
    """
    basic = _split_key(x, key)
    seen = _basic_view(x, basic)
    value = _as_value(value, x)
    if not basic.masks and not basic.positions:
        seen = seen if seen is not x else apply(ALIAS, x)
        assign(seen, _fitted(value, seen.shape, seen))
        return
    new = _masked(seen, basic, value)
    if new is None:
        new = _written(seen, _all_positions(basic), value, accumulate=False)
    assign(seen, new)


def _as_value(value: Any, x: Tensor) -> Tensor:
    from tjit.ops.elementwise import cast

    if type(value) is Number:
        value = number_tensor(value)
    if not isinstance(value, Tensor):
        if isinstance(value, (bool, int, float, DimExpr)):
            return full((), value, dtype=x.dtype, device=x.device)
        value = tensor(value)
    return value if value.dtype is x.dtype else cast(value, x.dtype)


def _fitted(value: Tensor, shape: tuple[Dim, ...], target: Tensor) -> Tensor:
    """The value broadcast to what is written; leading dims of extent 1 that are too many are dropped."""
    own = tuple(value.shape)
    while len(own) > len(shape) and isinstance(own[0], int) and own[0] == 1:
        own = own[1:]
    try:
        return broadcast_to(reshape(value, own), shape)
    except TypeRuleError:
        part = target.type_.with_shape(tuple(shape))
        computed = next((n for n, d in zip(own[::-1], shape[::-1], strict=False) if is_runtime(d)), None)
        raise TypeRuleError(
            f"shape mismatch: value tensor {value.type_} cannot be broadcast to indexing result {part}",
            user_location(),
            hint=None
            if computed is None
            else "how many elements a slice has is not known where its bounds are tensors: "
            f"write x[start + tjit.arange({computed})] = value",
        ) from None


def _masked(seen: Tensor, basic: _Basic, value: Tensor) -> Tensor | None:
    """`where`, for a write through one mask of a value that does not depend on how many elements are true."""
    if len(basic.masks) != 1 or basic.positions:
        return _refuse_masks(basic)
    ((at, mask),) = basic.masks.items()
    after = seen.ndim - at - mask.ndim
    # what is written has shape [.., n, after..], and the value may not reach to n
    fits = value.ndim <= after or (value.ndim == after + 1 and isinstance(value.shape[0], int) and value.shape[0] == 1)
    if not fits:
        return _refuse_masks(basic)
    from tjit.ops.elementwise import where

    value = reshape(value, value.shape[value.ndim - after :]) if value.ndim > after else value
    wide = reshape(mask, (1,) * at + tuple(mask.shape) + (1,) * after)
    return where(broadcast_to(wide, seen.shape), _fitted(value, seen.shape, seen), seen)


def _refuse_masks(basic: _Basic) -> None:
    if basic.masks:
        refuse_capture(
            "writing as many elements as a bool mask has",
            "write x = tjit.where(mask, value, x) with a value of x's shape",
        )


def _written(x: Tensor, positions: dict[int, Tensor], value: Tensor, accumulate: bool) -> Tensor:
    plan = _plan_lookup(tuple(x.shape), positions)
    moved = permute(x, plan.order)
    lead, tail = plan.merged[: plan.at], plan.merged[plan.at + 1 :]
    src = _fitted(value, (*lead, *plan.positions.shape, *tail), x)
    write = index_add_dim if accumulate else put_dim
    flat = write(reshape(moved, plan.merged), plan.positions, src, plan.at)
    return permute(reshape(flat, moved.shape), _inverse(plan.order))


def with_written(x: Tensor, key: tuple[Any, ...], values: Tensor, accumulate: bool) -> Tensor:
    """A copy of x with values written, or added, at x[key]; masks and positions only."""
    basic = _split_key(x, key)
    if basic.masks:
        refuse_capture("index_put with a bool mask", "use tjit.where(mask, a, b)")
    return _written(_basic_view(x, basic), _all_positions(basic), _as_value(values, x), accumulate)


attach(__getitem__=get_item, __setitem__=set_item)
