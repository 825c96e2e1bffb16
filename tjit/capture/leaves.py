"""What a variable may hold to become a value of the graph: tensors and numbers, and the type that two of them share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np

from tjit.capture.pytree import Tree
from tjit.capture.trace import NumberTensor
from tjit.dtypes import DType, bool_, f64, from_numpy, i64, promote
from tjit.ir.dims import DimExpr, as_number
from tjit.ir.graph import Value
from tjit.ir.types import TensorType
from tjit.numpy_api.array import NumpyScalar
from tjit.ops.apply import state
from tjit.ops.numbers import Number, number_tensor
from tjit.tensor import Tensor, Traced

__all__ = ["Spec", "common_spec", "fitted", "handle", "is_value", "outline", "shown", "spec_of"]


class Spec(NamedTuple):
    """The type of a handle, and its class: `NumberTensor` for what promotes as a Python number does."""

    type: TensorType
    kind: type[Tensor]

    @property
    def is_number(self) -> bool:
        return self.kind._number


def is_dim(x: Any) -> bool:
    return type(x) is DimExpr


def is_value(x: Any) -> bool:
    """Whether `x` can be a value of the graph."""
    return isinstance(x, (Tensor, bool, int, float, np.number, np.bool_, Number)) or is_dim(x)


def spec_of(x: Any) -> Spec:
    """The spec of what `is_value`."""
    if isinstance(x, Tensor):
        return Spec(x.type_, type(x) if x.is_traced else Tensor)
    if isinstance(x, np.generic) and _in_numpy_code():
        return Spec(TensorType(from_numpy(x.dtype), ()), NumpyScalar)
    return Spec(TensorType(_dtype(x), ()), NumberTensor)


def _in_numpy_code() -> bool:
    return state.trace is not None and state.trace.numpy


def _dtype(x: Any) -> DType:
    if isinstance(x, (bool, np.bool_)):
        return bool_
    if type(x) is Number:
        return f64 if isinstance(x._value, float) else i64
    return i64 if is_dim(x) or isinstance(x, (int, np.integer)) else f64


def common_spec(a: Spec, b: Spec) -> Spec | None:
    """The spec that both fit: a number fits any tensor of its kind or a higher one. None where there is none."""
    if a.is_number and b.is_number:
        return Spec(TensorType(promote((a.type.dtype, 1), (b.type.dtype, 1)), ()), NumberTensor)
    if a.is_number or b.is_number:
        number, tensor = (a, b) if a.is_number else (b, a)
        return tensor._replace(type=tensor.type.with_dtype(promote((tensor.type.dtype, 2), (number.type.dtype, 0))))
    return a if a.type == b.type else None


def handle(x: Any) -> Tensor:
    """A value as a tensor of the active scope."""
    if isinstance(x, Tensor):
        return x
    if is_dim(x):
        return as_number(x)
    if type(x) is Number:
        return number_tensor(x)
    from tjit.ops.creation import full

    if isinstance(x, np.generic) and _in_numpy_code():
        return NumpyScalar(full((), x.item(), dtype=from_numpy(x.dtype))._data)
    return NumberTensor(full((), x.item() if isinstance(x, np.generic) else x, dtype=_dtype(x))._data)


def fitted(x: Any, spec: Spec) -> Tensor:
    """A value as a tensor of a spec that it fits."""
    from tjit.ops.elementwise import cast
    from tjit.ops.movement import broadcast_to

    tensor = handle(x)
    if tensor.dtype is not spec.type.dtype:
        tensor = cast(tensor, spec.type.dtype)
    if tuple(tensor.shape) != spec.type.shape:
        tensor = broadcast_to(tensor, spec.type.shape)
    return tensor


def fresh(spec: Spec, name: str | None = None) -> Tensor:
    """A handle on a new value."""
    return spec.kind(Traced(Value(spec.type, name)))


def shown(x: Any) -> str:
    """A value as errors show it."""
    if isinstance(x, Tensor):
        return f"a {x.type_} tensor" if not x._number else f"a number ({x.dtype})"
    if callable(x) and hasattr(x, "__qualname__"):
        return f"the {type(x).__name__} {x.__qualname__}"
    text = repr(x) if isinstance(x, (bool, int, float, str, type(None))) else f"a {type(x).__name__}"
    return text if len(text) < 60 else f"{text[:57]}..."


def outline(tree: Tree, leaves: Iterable[Any]) -> str:
    """A nested container as errors show it: `[f32[3], {'a': 2}]`, in full to some length."""
    text = shown_inside(tree, iter(leaves))
    return text if len(text) < 120 else f"{text[:117]}..."


def shown_inside(tree: Tree, leaves: Iterator[Any]) -> str:
    """The same of any length, for the leaves that are left."""
    if tree.kind is None:
        leaf = next(leaves)
        return str(leaf.type_) if isinstance(leaf, Tensor) else shown(leaf)
    parts = [shown_inside(child, leaves) for child in tree.children]
    if tree.is_named:
        return "{" + ", ".join(f"{k!r}: {p}" for k, p in zip(tree.keys, parts, strict=True)) + "}"
    inside = ", ".join(parts)
    if tree.kind is list:
        return f"[{inside}]"
    return f"({inside}{',' * (len(parts) == 1)})" if tree.kind is tuple else f"{tree.kind.__name__}({inside})"
