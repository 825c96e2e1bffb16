"""Creation: tensors made from numbers, Python structures and arrays."""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.devices import Device, as_device, cpu
from tjit.dtypes import DType, as_dtype, bool_, default_dtype, i64, scalar_dtype
from tjit.errors import ArgumentError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr, lower_bound, maximum, require_positive
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply, state
from tjit.ops.numbers import Number, plain_tensor
from tjit.ops.public import public
from tjit.quiet import quietly
from tjit.tensor import Tensor

__all__ = [
    "arange",
    "as_shape",
    "as_tensor",
    "empty",
    "empty_like",
    "eye",
    "from_numpy",
    "full",
    "full_like",
    "iota",
    "linspace",
    "logspace",
    "ones",
    "ones_like",
    "scalar_tensor",
    "tensor",
    "tril",
    "triu",
    "zeros",
    "zeros_like",
]


# A tensor of one value


@public(method=False)
def full(
    size: Any,
    fill_value: Any,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    layout: Any = None,
    pin_memory: bool = False,
) -> Tensor:
    """A tensor with every element `fill_value`.

    Args:
        size: the shape.
        fill_value: a number, or a 0-d tensor.
        dtype: the default float dtype for a float, i64 for an int and bool for a bool, where it is None.

    Raises:
        TypeRuleError: a negative extent.
    """
    shape = as_shape((size,))
    if type(fill_value) is Number:
        fill_value = plain_tensor(fill_value)
    if isinstance(fill_value, Tensor):
        return _full_of_tensor(shape, fill_value, dtype)
    own = i64 if isinstance(fill_value, DimExpr) else scalar_dtype(fill_value)
    kind = own if dtype is None else as_dtype(dtype)
    value = fill_value.item() if isinstance(fill_value, np.generic) else fill_value
    result = apply(FULL, value=_in_kind(value, kind), shape=shape, dtype=kind, device=usable_device(device))
    return result.requires_grad_() if requires_grad else result


def _full_of_tensor(shape: tuple[Dim, ...], value: Tensor, dtype: Any) -> Tensor:
    from tjit.ops.movement import broadcast_to, reshape
    from tjit.ops.shape import clone

    value = value if dtype is None else _cast(value, as_dtype(dtype))
    return clone(broadcast_to(reshape(value, ()), shape))


def _in_kind(value: Any, dtype: DType) -> Any:
    """The number as a Python number of the dtype's kind, so that equal tensors have equal attrs.

    Raises:
        TypeRuleError: an integer dtype cannot hold it.
    """
    if isinstance(value, DimExpr):
        return value
    if dtype is bool_:
        return bool(value)
    if dtype.kind == "float":
        return float(value)
    if not math.isfinite(value):
        raise _overflow(dtype)
    return _wrapped(int(value), dtype)


def _wrapped(number: int, dtype: DType) -> int:
    """An int that fits; negative ones wrap into unsigned dtypes, as in PyTorch."""
    most = (1 << (dtype.bits - dtype.is_signed)) - 1
    if not -most - 1 <= number <= most:
        raise _overflow(dtype)
    return number if dtype.is_signed or number >= 0 else number % (most + 1)


def _overflow(dtype: DType) -> TypeRuleError:
    return TypeRuleError(f"value cannot be converted to type {dtype} without overflow", user_location())


def _cast(x: Tensor, dtype: DType) -> Tensor:
    if x.dtype is dtype:
        return x
    from tjit.ops.elementwise import cast  # elementwise makes its literals with this module

    return cast(x, dtype)


def _full_reference(value: Any, shape: tuple[int, ...], dtype: DType, device: Device) -> np.ndarray:
    if not value and (dtype.kind != "float" or math.copysign(1.0, value) > 0):
        return np.zeros(shape, dtype.numpy)
    return np.full(shape, value, dtype.numpy)


FULL = register(
    Op(
        name="full",
        kind="create",
        infer=lambda value, shape, dtype, device: TensorType(dtype, tuple(shape), device),
        reference=_full_reference,
        vjp=None,
        samples=(
            Sample((), attrs={"value": 1.5, "shape": (3, 5), "dtype": dtypes.f32, "device": cpu}),
            Sample((), attrs={"value": -7, "shape": (4,), "dtype": i64, "device": cpu}),
            Sample((), attrs={"value": True, "shape": (), "dtype": bool_, "device": cpu}),
        ),
        dtypes="any",
        differentiable=False,
        exact=True,
    )
)


def usable_device(device: Any) -> Device:
    """The Device, checked to hold tensors.

    Raises:
        TypeRuleError: it is a GPU.
    """
    found = as_device(device)
    if found.type != "cpu":
        raise TypeRuleError(
            f"no tensors on {found}: tjit has none on GPUs yet",
            user_location(),
            hint="guard it with tjit.cuda.is_available(), or use device='cpu'",
        )
    return found


def as_shape(sizes: tuple[Any, ...]) -> tuple[Dim, ...]:
    """A shape from sizes given as arguments or as one tuple.

    Raises:
        TypeRuleError: an extent is negative.
        DTypeError: an extent is no integer.
    """
    if len(sizes) == 1 and isinstance(sizes[0], (tuple, list)):
        sizes = tuple(sizes[0])
    shape = tuple(d if isinstance(d, DimExpr) else _extent(d) for d in sizes)
    for d in shape:
        require_positive(d + 1)
    if any(isinstance(d, int) and d < 0 for d in shape):
        negative = next(d for d in shape if isinstance(d, int) and d < 0)
        raise TypeRuleError(
            f"trying to create tensor with negative dimension {negative}: {list(shape)}", user_location()
        )
    return shape


def _extent(d: Any) -> int:
    try:
        return operator.index(d)
    except TypeError:
        raise DTypeError(f"a size must be an int, not {type(d).__name__} {d!r}", user_location()) from None


@public(method=False)
def zeros(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any) -> Tensor:
    """A tensor of zeros; sizes as arguments or one tuple."""
    return _filled(0, size, dtype, device, requires_grad, ignored)


@public(method=False)
def ones(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any) -> Tensor:
    """A tensor of ones; sizes as arguments or one tuple."""
    return _filled(1, size, dtype, device, requires_grad, ignored)


@public(method=False)
def empty(*size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any) -> Tensor:
    """A tensor whose elements mean nothing until they are written (tjit gives zeros: the same every run)."""
    return _filled(0, size, dtype, device, requires_grad, ignored)


_IGNORED = {"layout", "pin_memory", "memory_format", "names"}


def _filled(value: int, size: tuple, dtype: Any, device: Any, requires_grad: bool, ignored: dict[str, Any]) -> Tensor:
    if "size" in ignored:
        size = (ignored.pop("size"),)
    refuse_unknown(ignored)
    kind = default_dtype() if dtype is None else as_dtype(dtype)
    return full(as_shape(size), value, dtype=kind, device=device, requires_grad=requires_grad)


def refuse_unknown(keywords: dict[str, Any]) -> None:
    """Let the keywords about layouts of memory pass, which have one value in tjit.

    Raises:
        DTypeError: another keyword.
    """
    unknown = sorted(set(keywords) - _IGNORED)
    if unknown:
        raise DTypeError(f"unexpected keyword argument {unknown[0]!r}", user_location())


@public()
def full_like(
    x: Tensor, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """`full` with x's shape, and x's dtype and device unless given."""
    refuse_unknown(ignored)
    t = x.type_
    return full(
        t.shape,
        fill_value,
        dtype=dtype or t.dtype,
        device=t.device if device is None else device,
        requires_grad=requires_grad,
    )


@public(method=False)
def zeros_like(
    x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """Zeros of x's shape, and x's dtype and device unless given."""
    return full_like(x, 0, dtype=dtype, device=device, requires_grad=requires_grad, **ignored)


@public(method=False)
def ones_like(
    x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """Ones of x's shape, and x's dtype and device unless given."""
    return full_like(x, 1, dtype=dtype, device=device, requires_grad=requires_grad, **ignored)


@public(method=False)
def empty_like(
    x: Tensor, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """`empty` of x's shape, and x's dtype and device unless given."""
    return full_like(x, 0, dtype=dtype, device=device, requires_grad=requires_grad, **ignored)


@public(function=False)
def new_full(
    x: Tensor, size: Any, fill_value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False
) -> Tensor:
    """`full` with x's dtype and device unless given."""
    device = x.device if device is None else device
    return full(size, fill_value, dtype=dtype or x.dtype, device=device, requires_grad=requires_grad)


@public(function=False)
def new_zeros(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`zeros` with x's dtype and device unless given."""
    return new_full(x, as_shape(size), 0, dtype=dtype, device=device, requires_grad=requires_grad)


@public(function=False)
def new_ones(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`ones` with x's dtype and device unless given."""
    return new_full(x, as_shape(size), 1, dtype=dtype, device=device, requires_grad=requires_grad)


@public(function=False)
def new_empty(x: Tensor, *size: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`empty` with x's dtype and device unless given."""
    return new_full(x, as_shape(size), 0, dtype=dtype, device=device, requires_grad=requires_grad)


@public(function=False)
def new_tensor(x: Tensor, data: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """`tensor` with x's dtype and device unless given."""
    device = x.device if device is None else device
    return tensor(data, dtype=dtype or x.dtype, device=device, requires_grad=requires_grad)


@public(method=False)
def scalar_tensor(value: Any, *, dtype: Any = None, device: Any = None, requires_grad: bool = False) -> Tensor:
    """A 0-d tensor, of the default float dtype unless given."""
    return full((), value, dtype=dtype or default_dtype(), device=device, requires_grad=requires_grad)


# From Python structures and arrays


@public(method=False)
def tensor(
    data: Any, dtype: Any = None, device: Any = None, requires_grad: bool = False, pin_memory: bool = False
) -> Tensor:
    """A new tensor with the elements of `data`.

    Args:
        data: a number, a nested list or tuple of numbers or tensors, a NumPy array, or a tensor. It is copied.
        dtype: by default that of `data`; of Python numbers bool, i64 or the default float dtype.

    Raises:
        ArgumentError: nested lists of unequal lengths.
        DTypeError: elements that are no numbers.
    """
    kind = None if dtype is None else as_dtype(dtype)
    device = usable_device(device)
    result = _traced_tensor(data, kind, device) if state.trace is not None else Tensor(_array_of(data, kind))
    return result.requires_grad_() if requires_grad else result


def _array_of(data: Any, dtype: DType | None) -> np.ndarray:
    """A fresh array of the elements of `data`."""
    if isinstance(data, Tensor):
        data = data.array
    if isinstance(data, (np.ndarray, np.generic)):
        kind = dtype or dtypes.from_numpy(data.dtype)
        return _converted(np.asarray(data), kind)
    if isinstance(data, (bool, int, float)):
        return _from_numbers(data, dtype or scalar_dtype(data))
    if isinstance(data, (list, tuple, range)):
        shape = nested_shape(data)
        leaves = flatten_nested(data, len(shape))
        kind = dtype or _leaf_dtype(leaves)
        values = [leaf.item() if isinstance(leaf, (Tensor, np.generic, np.ndarray)) else leaf for leaf in leaves]
        return _from_numbers(values, kind).reshape(shape)
    if hasattr(data, "__array__"):
        return _array_of(np.asarray(data), dtype)
    raise DTypeError(f"cannot make a tensor from {type(data).__name__} {data!r}", user_location())


def _converted(array: np.ndarray, dtype: DType) -> np.ndarray:
    return quietly(np.array, array, dtype.numpy)


def _from_numbers(values: Any, dtype: DType) -> np.ndarray:
    """Python numbers as an array; floats truncate to ints as a cast does.

    Raises:
        TypeRuleError: an int does not fit the dtype.
    """
    if dtype.kind != "int":
        return quietly(np.array, values, dtype.numpy)
    exact = np.asarray(values)
    if exact.dtype.kind in "fb" or not exact.size:
        return _converted(exact, dtype)
    if exact.dtype.kind == "O":
        raise _overflow(dtype)
    low, high = int(exact.min()), int(exact.max())
    for extreme in (low, high):
        _wrapped(extreme, dtype)  # refuses what does not fit
    return _converted(exact, dtype)


def nested_shape(data: Any) -> tuple[int, ...]:
    """The extents of nested lists, read along the first elements; tensors and arrays inside add theirs."""
    shape: list[int] = []
    while isinstance(data, (list, tuple, range)):
        shape.append(len(data))
        if not data:
            return tuple(shape)
        data = data[0]
    if isinstance(data, (Tensor, np.ndarray)):
        shape.extend(data.shape)
    return tuple(shape)


def flatten_nested(data: Any, rank: int) -> list[Any]:
    """The numbers of nested lists in order.

    Raises:
        ArgumentError: lists of one level differ in length.
        DTypeError: an element is no number and no tensor.
    """
    leaves: list[Any] = []
    shape = nested_shape(data)

    def walk(item: Any, depth: int) -> None:
        if depth == rank:
            leaves.append(_checked_leaf(item))
            return
        if isinstance(item, (Tensor, np.ndarray)) and item.ndim:
            if tuple(item.shape) != shape[depth:]:
                _unequal(item.shape[0], shape, depth)
            leaves.extend(np.asarray(item.array if isinstance(item, Tensor) else item).reshape(-1))
            return
        if not isinstance(item, (list, tuple, range)):
            raise DTypeError(f"expected a sequence at dim {depth}, not {type(item).__name__} {item!r}", user_location())
        if len(item) != shape[depth]:
            _unequal(len(item), shape, depth)
        for child in item:
            walk(child, depth + 1)

    walk(data, 0)
    return leaves


def _unequal(length: int, shape: tuple[int, ...], depth: int) -> None:
    raise ArgumentError(f"expected sequence of length {shape[depth]} at dim {depth} (got {length})", user_location())


def _checked_leaf(item: Any) -> Any:
    if isinstance(item, (bool, int, float, np.generic, DimExpr)):
        return item
    if isinstance(item, (Tensor, np.ndarray)) and item.ndim == 0:
        return item
    if isinstance(item, (list, tuple)):
        raise ArgumentError("nested lists of unequal depth do not make a tensor", user_location())
    raise DTypeError(f"cannot make a tensor of {type(item).__name__} {item!r}", user_location())


def _leaf_dtype(leaves: Sequence[Any]) -> DType:
    if not leaves:
        return default_dtype()
    kinds = {_one_dtype(leaf) for leaf in leaves}
    return dtypes.promote(*((kind, 2) for kind in kinds))


def _one_dtype(leaf: Any) -> DType:
    if isinstance(leaf, Tensor):
        return leaf.dtype
    if isinstance(leaf, DimExpr):
        return i64
    if isinstance(leaf, (np.generic, np.ndarray)):
        return dtypes.from_numpy(leaf.dtype)
    return scalar_dtype(leaf)


def _traced_tensor(data: Any, dtype: DType | None, device: Device) -> Tensor:
    from tjit.ops.shape import clone, detach

    if isinstance(data, Tensor):
        return clone(detach(data if dtype is None else _cast(data, dtype)))
    if isinstance(data, (bool, int, float, np.generic, DimExpr)):
        return full((), data, dtype=dtype or _one_dtype(data), device=device)
    if isinstance(data, np.ndarray):
        return _traced_tensor(Tensor(np.asarray(data)), dtype, device)
    if isinstance(data, (list, tuple)) and _holds_values(data):
        return detach(_stacked(data, dtype, device))
    array = _array_of(data, dtype)
    return apply(CONSTANT, value=_nested(array), shape=array.shape, dtype=dtypes.from_numpy(array.dtype), **_on(device))


def _holds_values(data: Any) -> bool:
    """Whether nested lists hold tensors, arrays or symbolic dims, which are values and no constants."""
    if isinstance(data, (list, tuple)):
        return any(_holds_values(item) for item in data)
    return isinstance(data, (Tensor, np.ndarray, DimExpr))


def _stacked(data: Any, dtype: DType | None, device: Device) -> Tensor:
    from tjit.ops.join import stack

    if not isinstance(data, (list, tuple)):
        return data if isinstance(data, Tensor) else _traced_tensor(data, None, device)
    parts = [_stacked(item, None, device) for item in data]
    kind = dtype or dtypes.promote(*((part.dtype, 2) for part in parts))
    return stack([_cast(part, kind) for part in parts])


def _nested(array: np.ndarray) -> Any:
    def tuples(item: Any) -> Any:
        return tuple(map(tuples, item)) if isinstance(item, list) else item

    return tuples(array.tolist())


def _on(device: Device) -> dict[str, Device]:
    return {} if device.type == "cpu" else {"device": device}


CONSTANT = register(
    Op(
        name="constant",
        kind="create",
        infer=lambda value, shape, dtype, device=cpu: TensorType(dtype, tuple(shape), device),
        reference=lambda value, shape, dtype, device=cpu: np.array(value, dtype.numpy).reshape(shape),
        vjp=None,
        samples=(
            Sample((), attrs={"value": ((1.0, 2.5), (-3.0, 4.0)), "shape": (2, 2), "dtype": dtypes.f32}),
            Sample((), attrs={"value": (1, 2, 3), "shape": (3,), "dtype": i64}),
        ),
        dtypes="any",
        differentiable=False,
        exact=True,
    )
)


@public(method=False, aliases=("asarray",))
def as_tensor(data: Any, dtype: Any = None, device: Any = None) -> Tensor:
    """`data` as a tensor, without a copy where it is a tensor or a NumPy array of that dtype already."""
    kind = None if dtype is None else as_dtype(dtype)
    if isinstance(data, np.ndarray):
        data = from_numpy(data)
    if not isinstance(data, Tensor):
        return tensor(data, dtype=kind, device=device)
    if kind is None or kind is data.dtype:
        return data
    return _cast(data, kind)


@public(method=False)
def from_numpy(array: np.ndarray) -> Tensor:
    """A tensor that shares the array's memory: writing one changes the other.

    Raises:
        DTypeError: not a NumPy array, or tjit has no such dtype.
    """
    if not isinstance(array, np.ndarray):
        raise DTypeError(f"expected np.ndarray (got {type(array).__name__})", user_location())
    dtypes.from_numpy(array.dtype)
    if any(stride < 0 for stride in array.strides):
        raise ArgumentError(
            "a tensor cannot share an array with negative strides", user_location(), hint="copy it first: array.copy()"
        )
    return Tensor(array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("=")))


# Ranges and masks of position


def iota(shape: tuple[Dim, ...], dim: int = 0, dtype: DType = i64, device: Any = None) -> Tensor:
    """The index along `dim` of every element."""
    return apply(IOTA, shape=tuple(shape), dim=dim, dtype=dtype, **_on(usable_device(device)))


def _iota_infer(shape: tuple[Dim, ...], dim: int, dtype: DType, device: Device = cpu) -> TensorType:
    if not 0 <= dim < len(shape):
        raise TypeRuleError(f"iota needs a dim of its shape {shape}, not {dim}")
    return TensorType(dtype, tuple(shape), device)


def _iota_reference(shape: tuple[int, ...], dim: int, dtype: DType, device: Device = cpu) -> np.ndarray:
    line = np.arange(shape[dim]).astype(dtype.numpy)
    if len(shape) == 1:
        return line
    return np.array(np.broadcast_to(line.reshape([-1] + [1] * (len(shape) - dim - 1)), shape))


IOTA = register(
    Op(
        name="iota",
        kind="create",
        infer=_iota_infer,
        reference=_iota_reference,
        vjp=None,
        samples=(
            Sample((), attrs={"shape": (5,), "dim": 0, "dtype": i64}),
            Sample((), attrs={"shape": (3, 4), "dim": 1, "dtype": dtypes.f32}),
            Sample((), attrs={"shape": (3, 4), "dim": 0, "dtype": dtypes.i32}),
        ),
        dtypes="any",
        differentiable=False,
        exact=True,
    )
)


@public(method=False)
def arange(
    start: Any = 0,
    end: Any = None,
    step: Any = 1,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """start, start + step, ... below end (above it where step is negative); `arange(end)` starts at 0.

    Returns:
        1-d; i64 where all arguments are ints, else of the default float dtype, unless dtype is given.

    Raises:
        TypeRuleError: step is 0, or leads away from end.
    """
    refuse_unknown(ignored)
    start, end = (0, start) if end is None else (start, end)
    start, end, step = (x.item() if isinstance(x, (Tensor, np.generic)) else x for x in (start, end, step))
    integral = all(isinstance(x, (int, DimExpr)) for x in (start, end, step))
    kind = as_dtype(dtype) if dtype is not None else i64 if integral else default_dtype()
    size = _range_size(start, end, step)
    # floats are computed in f64 and rounded once, as PyTorch does
    wide = i64 if integral else dtypes.f64
    result = _affine(iota((size,), 0, kind if (start, step) == (0, 1) else wide, device), start, step, kind)
    return result.requires_grad_() if requires_grad else result


def _range_size(start: Any, end: Any, step: Any) -> Dim:
    bounds = (start, end, step)
    if not isinstance(step, DimExpr) and step == 0:
        raise TypeRuleError("arange needs a step other than 0", user_location())
    if any(isinstance(x, DimExpr) for x in bounds):
        return _symbolic_range_size(start, end, step)
    if not all(map(math.isfinite, bounds)):
        raise TypeRuleError(f"arange needs finite bounds, not {start} to {end}", user_location())
    if (end - start) * step < 0:
        raise TypeRuleError(
            f"upper bound and lower bound inconsistent with step sign: arange from {start} to {end} by {step}",
            user_location(),
        )
    whole = all(isinstance(x, int) for x in bounds)
    return -((start - end) // step) if whole else math.ceil((end - start) / step)


def _symbolic_range_size(start: Any, end: Any, step: Any) -> Dim:
    if not isinstance(step, int) or isinstance(start, float) or isinstance(end, float):
        raise TypeRuleError(f"arange from {start} to {end} needs ints and a constant step, not {step}", user_location())
    size = -((start - end) // step)
    return maximum(size, 0) if lower_bound(size) < 0 else size


def _affine(positions: Tensor, start: Any, step: Any, dtype: DType) -> Tensor:
    if not (isinstance(step, int) and step == 1):
        positions = positions * step
    if not (isinstance(start, int) and start == 0):
        positions = positions + start
    return _cast(positions, dtype)


@public(method=False)
def linspace(
    start: float,
    end: float,
    steps: Dim = 100,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
    **ignored: Any,
) -> Tensor:
    """`steps` values evenly spaced from start to end, both included.

    Raises:
        TypeRuleError: steps is negative.
    """
    from tjit.ops.elementwise import where

    refuse_unknown(ignored)
    if isinstance(steps, int) and steps < 0:
        raise TypeRuleError(f"linspace needs a number of steps >= 0, not {steps}", user_location())
    kind = default_dtype() if dtype is None else as_dtype(dtype)
    start, end = (x.item() if isinstance(x, (Tensor, np.generic)) else x for x in (start, end))
    if isinstance(steps, int) and steps == 1:
        return full((1,), start, dtype=kind, device=device, requires_grad=requires_grad)
    wide = kind if kind is dtypes.f64 or kind is dtypes.f32 else dtypes.f64 if kind.kind == "int" else dtypes.f32
    i = iota((steps,), 0, wide, device)
    # both halves are counted from their own end, so that the last value is exactly `end`
    if isinstance(steps, int):
        step = wide.numpy.type(end - start) / wide.numpy.type(max(steps - 1, 1))
        half, last, step = steps // 2, float(steps - 1), float(step)
    else:
        last = full((), steps - 1, dtype=wide, device=device)
        half, step = full((), steps // 2, dtype=wide, device=device), (end - start) / last
    result = _cast(where(i < half, i * step + start, end - (last - i) * step), kind)
    return result.requires_grad_() if requires_grad else result


@public(method=False)
def logspace(
    start: float,
    end: float,
    steps: Dim = 100,
    base: float = 10.0,
    *,
    dtype: Any = None,
    device: Any = None,
    requires_grad: bool = False,
) -> Tensor:
    """base ** linspace(start, end, steps)."""
    kind = default_dtype() if dtype is None else as_dtype(dtype)
    # in f64: an error of one ulp in the exponent is many in the power
    result = _cast(base ** linspace(start, end, steps, dtype=dtypes.f64, device=device), kind)
    return result.requires_grad_() if requires_grad else result


@public(method=False)
def eye(
    n: Dim, m: Dim | None = None, *, dtype: Any = None, device: Any = None, requires_grad: bool = False, **ignored: Any
) -> Tensor:
    """n by m (n by n), ones where row and column are equal and zeros elsewhere."""
    refuse_unknown(ignored)
    shape = as_shape((n, n if m is None else m))
    kind = default_dtype() if dtype is None else as_dtype(dtype)
    result = _cast(iota(shape, 0, i64, device) == iota(shape, 1, i64, device), kind)
    return result.requires_grad_() if requires_grad else result


@public(inplace=True)
def tril(x: Tensor, diagonal: Dim = 0) -> Tensor:
    """x below and on the given diagonal, zero above; over the last two dims.

    Raises:
        TypeRuleError: x has fewer than two dims.
    """
    return _triangle(x, "tril", lambda row, column: column - row <= diagonal)


@public(inplace=True)
def triu(x: Tensor, diagonal: Dim = 0) -> Tensor:
    """x above and on the given diagonal, zero below; over the last two dims.

    Raises:
        TypeRuleError: x has fewer than two dims.
    """
    return _triangle(x, "triu", lambda row, column: column - row >= diagonal)


def _triangle(x: Tensor, name: str, keep: Callable[[Tensor, Tensor], Tensor]) -> Tensor:
    from tjit.ops.elementwise import where

    if x.ndim < 2:
        raise TypeRuleError(f"{name} needs a tensor of at least two dims, not {x.type_}", user_location())
    t = x.type_
    mask = keep(iota(t.shape[-2:], 0, i64, t.device), iota(t.shape[-2:], 1, i64, t.device))
    return where(mask, x, zeros((), dtype=t.dtype, device=t.device))


@public(method=False)
def tril_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """i64[2, n]: rows and columns of the lower triangle of a row by col matrix."""
    kind = i64 if dtype is None else as_dtype(dtype)
    return tensor(np.stack(np.tril_indices(row, offset, col)), dtype=kind, device=device)


@public(method=False)
def triu_indices(row: int, col: int, offset: int = 0, *, dtype: Any = None, device: Any = None) -> Tensor:
    """i64[2, n]: rows and columns of the upper triangle of a row by col matrix."""
    kind = i64 if dtype is None else as_dtype(dtype)
    return tensor(np.stack(np.triu_indices(row, offset, col)), dtype=kind, device=device)


@public(method=False)
def meshgrid(*tensors: Any, indexing: str = "ij") -> tuple[Tensor, ...]:
    """Coordinates over the grid of 1-d tensors, one result each, as views.

    Args:
        indexing: "ij": result dim k follows tensor k; "xy": the first two are swapped.

    Raises:
        ArgumentError: another indexing, or a tensor of more than one dim.
    """
    from tjit.ops.movement import broadcast_to, reshape

    parts = list(tensors[0]) if len(tensors) == 1 and isinstance(tensors[0], (list, tuple)) else list(tensors)
    if indexing not in ("ij", "xy"):
        raise ArgumentError(f"meshgrid takes indexing 'ij' or 'xy', not {indexing!r}", user_location())
    if any(p.ndim > 1 for p in parts):
        raise TypeRuleError("meshgrid takes tensors of at most one dim", user_location())
    swap = indexing == "xy" and len(parts) >= 2
    if swap:
        parts[:2] = parts[1::-1]
    rank = len(parts)
    shape = tuple(p.shape[0] if p.ndim else 1 for p in parts)
    grids = [
        broadcast_to(reshape(p, (1,) * k + (shape[k],) + (1,) * (rank - k - 1)), shape) for k, p in enumerate(parts)
    ]
    return tuple(grids[1::-1] + grids[2:] if swap else grids)
