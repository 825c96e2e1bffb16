"""What the records of ops share: type rules, f32 for what is inside an op of narrow floats, defaults."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np

from tjit.dtypes import DType, bf16, bool_, f16, f32
from tjit.errors import TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.graph import Literal
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.tensor import Tensor

__all__ = [
    "all_bool", "elementwise_op", "extent", "in_f32", "is_number", "listed", "one_type", "parts_in_f32",
    "reduce_rule", "reduced_shape", "restore_dims", "shape_and_device", "zero_vjp",
]  # fmt: skip

_KINDS = {
    "float": ("float",),
    "int": ("int",),
    "number": ("int", "float"),
    "bool": ("bool",),
    "integral": ("bool", "int"),
    "any": ("bool", "int", "float"),
}
_COUNTS = {1: "one tensor", 2: "two tensors", 3: "three tensors"}
_NARROW = (f16.numpy, bf16.numpy)


def is_number(x: Any) -> bool:
    """Whether an operand of a gradient rule is a number, which needs no cotangent."""
    return isinstance(x, Literal)


def all_bool(*xs: Any) -> bool:
    """Whether every operand is bool: then arithmetic is logic."""
    return all(isinstance(x, bool) or getattr(x, "dtype", None) in (bool_, bool_.numpy) for x in xs)


def one_type(name: str, dtypes: str = "float", result: DType | None = None) -> Callable[..., TensorType]:
    """The type rule of an op on tensors of one dtype and one shape; 0-d operands stand beside any shape.

    Args:
        dtypes: the class of dtypes, as in `Op.dtypes`.
        result: the result's dtype, where it is not that of the operands.
    """
    kinds = _KINDS[dtypes]

    def infer(*types: TensorType, **_: Any) -> TensorType:
        first = types[0]
        if any(t.dtype.kind not in kinds for t in types):
            raise TypeRuleError(f"{name} wants {_class(kinds, len(types))}, not {listed(types)}")
        if any(t.dtype is not first.dtype for t in types):
            raise TypeRuleError(
                f"{name} wants {_COUNTS[len(types)]} of one dtype, not {listed(types)}", hint="convert with .to(dtype)"
            )
        return shape_and_device(name, types).with_dtype(result or first.dtype)

    return infer


def shape_and_device(name: str, types: tuple[TensorType, ...]) -> TensorType:
    """The one of `types` that has the shape and the device of an elementwise op's result.

    Raises:
        TypeRuleError: two have different shapes.
    """
    # a literal is 0-d and on the CPU: any other operand says more
    found = max(types, key=lambda t: (t.ndim > 0, t.device.type != "cpu"))
    if any(t.ndim > 0 and t.shape != found.shape for t in types):
        raise TypeRuleError(
            f"{name} wants {_COUNTS[len(types)]} of one shape, not {listed(types)}", hint="broadcast with broadcast_to"
        )
    return found


def listed(types: tuple[TensorType, ...]) -> str:
    return " and ".join(map(str, types))


def _class(kinds: tuple[str, ...], count: int) -> str:
    words = " or ".join(kinds)
    article = "an" if words[0] == "i" else "a"
    return f"{article} {words} tensor" if count == 1 else f"{words} tensors"


def in_f32(reference: Callable[..., Any]) -> Callable[..., Any]:
    """`reference` with f16 and bf16 operands computed in f32 and each result rounded once, as compiled code does."""

    @functools.wraps(reference)
    def widened(*xs: Any, **attrs: Any) -> Any:
        narrow = next((x.dtype for x in xs if x.dtype in _NARROW), None)
        if narrow is None:
            return reference(*xs, **attrs)
        y = reference(*(x.astype(np.float32) if x.dtype == narrow else x for x in xs), **attrs)

        def rounded(y: Any) -> Any:
            return np.asarray(y).astype(narrow) if y.dtype == np.float32 else y

        return tuple(map(rounded, y)) if isinstance(y, tuple) else rounded(y)

    return widened


def parts_in_f32(decompose: Callable[..., Any]) -> Callable[..., Any]:
    """`decompose` with f16 and bf16 operands as f32: what `in_f32` says of the reference, for the ops it is made of."""

    @functools.wraps(decompose)
    def widened(*xs: Any, **attrs: Any) -> Any:
        from tjit.ops.conversion import cast

        narrow = next((x.dtype for x in xs if not is_number(x) and x.dtype in (f16, bf16)), None)
        if narrow is None:
            return decompose(*xs, **attrs)
        y = decompose(*(x if is_number(x) or x.dtype is not narrow else cast(x, f32) for x in xs), **attrs)

        def rounded(y: Any) -> Any:
            return cast(y, narrow) if y.dtype is f32 else y

        return tuple(map(rounded, y)) if isinstance(y, tuple) else rounded(y)

    return widened


def zero_vjp(g: Any, y: Any, *operands: Any, **_: Any) -> tuple[Any, ...]:
    """The gradient of what is constant between its steps."""
    from tjit.ops.creation import zeros_like

    return tuple(None if is_number(x) or not x.dtype.is_floating_point else zeros_like(x) for x in operands)


def elementwise_op(
    name: str,
    *,
    reference: Callable[..., Any],
    scalar: Callable[..., Any],
    vjp: Callable[..., Any] | None,
    arity: int = 1,
    dtypes: str = "float",
    result: DType | None = None,
    ranges: tuple[tuple[float, float], ...] = ((-3.0, 3.0),),
    **more: Any,
) -> Op:
    """Register an elementwise op whose operands have one dtype and one shape.

    Args:
        ranges: one per operand, or one for all: where the op is defined and smooth.
        more: further fields of the record.
    """
    ranges = ranges if len(ranges) == arity else ranges * arity
    fields = {
        "infer": one_type(name, dtypes, result),
        "samples": (Sample(((3, 5),) * arity, ranges=ranges),),
        "differentiable": vjp is not None,
        **more,
    }
    return register(
        Op(name=name, kind="elementwise", reference=in_f32(reference), scalar=scalar, vjp=vjp, dtypes=dtypes, **fields)
    )


def reduce_rule(
    name: str, dtypes: str = "number", result: DType | None = None, hint: str | None = None
) -> Callable[..., TensorType]:
    """The type rule of a reduction with attrs dims and keepdim."""
    kinds = _KINDS[dtypes]

    def infer(x: TensorType, dims: tuple[int, ...], keepdim: bool, **_: Any) -> TensorType:
        if x.dtype.kind not in kinds:
            raise TypeRuleError(f"{name} wants {_class(kinds, 1)}, not {x}", hint=hint)
        if list(dims) != sorted(set(dims)) or not set(dims) <= set(range(x.ndim)):
            raise TypeRuleError(f"{name} wants dims of {x} in rising order, not {dims}")
        return TensorType(result or x.dtype, reduced_shape(x.shape, dims, keepdim), x.device)

    return infer


def reduced_shape(shape: tuple[Dim, ...], dims: tuple[int, ...], keepdim: bool) -> tuple[Dim, ...]:
    """`shape` without `dims`, or with 1 in their places."""
    if keepdim:
        return tuple(1 if i in dims else d for i, d in enumerate(shape))
    return tuple(d for i, d in enumerate(shape) if i not in dims)


def restore_dims(reduced: Tensor, x: Tensor, dims: tuple[int, ...], keepdim: bool) -> Tensor:
    """A result of reducing x with its dims back, as 1: it broadcasts with x."""
    from tjit.ops.movement import reshape

    return reduced if keepdim else reshape(reduced, reduced_shape(x.shape, dims, True))


def extent(x: Tensor, dims: tuple[int, ...]) -> Any:
    """How many elements of x go into one result: an int, or a 0-d tensor of x's dtype where a dim is symbolic."""
    from tjit.ops.creation import full

    n = product(x.shape[d] for d in dims)
    return n if isinstance(n, int) else full((), n, dtype=x.dtype, device=x.device)
