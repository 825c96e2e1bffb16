"""From what the user passed to an op's operands: numbers to literals, dtypes promoted, shapes broadcast."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, bool_, default_dtype, f64, i64, promote, scalar_dtype
from tjit.errors import DimensionError, DTypeError, TypeRuleError
from tjit.ir.dims import Dim, DimExpr
from tjit.ir.graph import Literal
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops.apply import apply, state
from tjit.ops.numbers import Number, number_tensor, plain_tensor
from tjit.tensor import Tensor

__all__ = ["as_tensor_operand", "broadcast_shapes", "common_dtype", "elementwise", "normalize_dim", "normalize_dims"]


def common_dtype(*operands: Any) -> DType:
    """The promoted dtype of tensors and numbers."""
    dtype = promote(*(_ranked(o) for o in operands))
    return f64 if dtype.is_floating_point and _of_numbers(operands) else dtype


def _of_numbers(operands: Sequence[Any]) -> bool:
    """Whether Python numbers are combined that the program computes: their floats have Python's precision."""
    return any(isinstance(o, Tensor) and o._number for o in operands) and all(_ranked(o)[1] == 0 for o in operands)


def _ranked(operand: Any) -> tuple[DType, int]:
    if type(operand) is Number:
        return default_dtype(), 0
    if isinstance(operand, Tensor):
        return operand.dtype, 0 if operand._number else 2 if operand.ndim else 1
    if isinstance(operand, Literal):
        return operand.dtype, 0
    return scalar_dtype(operand), 0


def as_tensor_operand(x: Any, name: str) -> Tensor:
    """`x` as a Tensor; NumPy arrays are wrapped, numbers become 0-d tensors.

    Raises:
        DTypeError: `x` is neither.
    """
    from tjit.ops.creation import as_tensor, full

    if type(x) is Number:
        return plain_tensor(x)
    if isinstance(x, Tensor):
        return _plain(x) if x._is_numpy else x
    if isinstance(x, np.ndarray):
        return as_tensor(x)
    if isinstance(x, Literal):
        return full((), x.value, dtype=x.dtype)
    if isinstance(x, (bool, int, float, np.generic)):
        return full((), x, dtype=scalar_dtype(x))
    if isinstance(x, DimExpr):
        return full((), x, dtype=i64)
    raise DTypeError(
        f"{name} takes tensors and numbers, not {type(x).__name__}",
        user_location(),
        hint="make one with tjit.tensor(...)",
    )


def _plain(x: Tensor) -> Tensor:
    """What a captured ndarray stands for."""
    from tjit.numpy_api.array import plain

    return plain(x)


def _checked(x: Any, name: str) -> Any:
    if type(x) is Number:
        return number_tensor(x)
    if isinstance(x, (Tensor, Literal, bool, int, float)):
        return x
    if isinstance(x, np.generic):
        return x.item()
    if isinstance(x, DimExpr) and state.trace is not None:
        return state.trace.number(x)  # which promotes as the int does that it is
    return as_tensor_operand(x, name)


def broadcast_shapes(*shapes: Sequence[Dim], what: str = "broadcast") -> tuple[Dim, ...]:
    """The shape that all `shapes` broadcast to.

    Raises:
        TypeRuleError: they do not.
    """
    rank = max((len(s) for s in shapes), default=0)
    result: list[Dim] = []
    for i in range(-rank, 0):
        extent: Dim = 1
        for shape in shapes:
            d = shape[i] if -i <= len(shape) else 1
            if isinstance(d, int) and d == 1:
                continue
            if isinstance(extent, int) and extent == 1:
                extent = d
            elif d != extent:
                listed = " and ".join("[" + ", ".join(map(str, s)) + "]" for s in shapes)
                raise TypeRuleError(
                    f"{what} needs shapes that broadcast: {listed} differ in dim {i}, {extent} against {d}",
                    user_location(),
                )
        result.append(extent)
    return tuple(result)


def _alike(xs: Sequence[Any]) -> list[Any] | None:
    """The operands where nothing is promoted or broadcast: float tensors of one type, and Python numbers beside them.

    Most calls are of this kind, and what is captured pays for each.
    """
    dtype, shape = None, ()
    for x in xs:
        if issubclass(type(x), Tensor) and not x._number:  # isinstance would ask a Number for its class
            own = x.type_
            if dtype is None and own.dtype.is_floating_point:
                dtype, shape = own.dtype, own.shape
            elif own.dtype is not dtype or own.shape != shape:
                return None
        elif type(x) is not float and type(x) is not int:
            return None
    if dtype is None:
        return None
    return [Literal(x, dtype) if type(x) in (int, float) else x for x in xs]


def elementwise(op: Op, *xs: Any, to: DType | str | None = "common", keep: tuple[int, ...] = ()) -> Tensor:
    """Apply an elementwise op after promotion and broadcasting.

    Args:
        to: "common" promotes all operands to one dtype; "float" to one float dtype (ints and bools to the default);
            a DType casts all; None leaves dtypes alone.
        keep: positions of operands whose dtype is left alone (a condition).
    """
    alike = None if keep or to not in ("common", "float") else _alike(xs)
    if alike is not None:
        return apply(op, *alike)
    from tjit.ops.elementwise import cast
    from tjit.ops.movement import broadcast_to

    operands = [_checked(x, op.name) for x in xs]
    if not any(isinstance(o, Tensor) for o, x in zip(operands, xs, strict=True) if type(x) is not Number):
        operands[0] = as_tensor_operand(xs[0], op.name)
    free = [o for i, o in enumerate(operands) if i not in keep]
    dtype: DType | None = None
    if to == "common" or to == "float":
        dtype = common_dtype(*free)
        if to == "float" and not dtype.is_floating_point:
            dtype = f64 if _of_numbers(free) else default_dtype()
    elif to is not None:
        dtype = as_dtype(to)
    shape = broadcast_shapes(*(o.shape for o in operands if isinstance(o, Tensor)), what=op.name)
    ready: list[Any] = []
    for i, o in enumerate(operands):
        own = dtype if i not in keep else None
        if isinstance(o, Tensor):
            o = cast(o, own) if own is not None and o.dtype is not own else o
            ready.append(broadcast_to(o, shape) if tuple(o.shape) != shape else o)
        else:
            value = o.value if isinstance(o, Literal) else o
            ready.append(Literal(value, own or (bool_ if i in keep else common_dtype(o))))
    if not any(isinstance(o, Tensor) for o in ready):
        raise DTypeError(f"{op.name} needs a tensor")
    return apply(op, *ready)


def normalize_dim(dim: Any, rank: int) -> int:
    """`dim` counted from the front.

    Raises:
        DimensionError: it is out of range.
    """
    limit = max(rank, 1)
    if isinstance(dim, bool) or not hasattr(dim, "__index__"):
        raise DTypeError(f"a dim must be an int, not {type(dim).__name__} {dim!r}", user_location())
    dim = dim.__index__()
    if not -limit <= dim < limit:
        raise DimensionError(
            f"Dimension out of range (expected to be in range of [{-limit}, {limit - 1}], but got {dim})",
            user_location(),
        )
    return dim % limit


def normalize_dims(dim: Any, rank: int) -> tuple[int, ...]:
    """A dim, several, or None for all, as a sorted tuple.

    Raises:
        DimensionError: out of range, or one appears twice.
    """
    if dim is None or (isinstance(dim, (tuple, list)) and not dim):
        return tuple(range(rank))
    dims = tuple(normalize_dim(d, rank) for d in (dim if isinstance(dim, (tuple, list)) else (dim,)))
    if len(set(dims)) != len(dims):
        raise DimensionError(f"a dim appears twice in {dim}", user_location())
    return tuple(sorted(dims)) if rank else ()
