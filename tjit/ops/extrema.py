"""The largest and smallest elements over dims, and where they are."""

from __future__ import annotations

from collections import namedtuple
from typing import Any

import numpy as np

from tjit.dtypes import bool_, i64, u8
from tjit.errors import DimensionError, TypeRuleError
from tjit.ir.dims import require_positive
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.arithmetic import div
from tjit.ops.bounds import maximum, minimum
from tjit.ops.compare import eq, where
from tjit.ops.conversion import cast
from tjit.ops.operands import as_tensor_operand, normalize_dims
from tjit.ops.public import public
from tjit.ops.records import reduce_rule, restore_dims
from tjit.ops.sums import all as all_
from tjit.ops.sums import any as any_
from tjit.ops.sums import one_dim
from tjit.ops.sums import sum as sum_
from tjit.tensor import Tensor

__all__ = ["amax", "amin", "aminmax", "argmax", "argmin", "max", "min"]

Dims = tuple[int, ...]

_Max = namedtuple("max", ["values", "indices"])
_Min = namedtuple("min", ["values", "indices"])
_MinMax = namedtuple("aminmax", ["min", "max"])

_SAMPLES = (
    Sample(((3, 5),), attrs={"dims": (1,), "keepdim": False}),
    Sample(((3, 5),), attrs={"dims": (0,), "keepdim": True}),
    Sample(((2, 3, 5),), attrs={"dims": (0, 2), "keepdim": False}),
    Sample(((7,),), attrs={"dims": (0,), "keepdim": False}),
)
_ONE_DIM_SAMPLES = tuple(s for s in _SAMPLES if len(s.attrs["dims"]) == 1)


def _dims(x: Tensor, dim: Any, name: str) -> Dims:
    """The dims to reduce, each checked to have an element."""
    dims = normalize_dims(dim, x.ndim)
    for d in dims:
        require_positive(x.shape[d])
        if isinstance(x.shape[d], int) and x.shape[d] == 0:
            if dim is None:
                raise DimensionError(f"{name}: expected reduction dim to be specified for {x.type_}", user_location())
            raise DimensionError(
                f"{name}: expected reduction dim {d} of {x.type_} to have non-zero size", user_location()
            )
    return dims


@public()
def amax(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The largest element over `dim`, a dim or several; nan if one is nan. Ties share the gradient evenly.

    Raises:
        DimensionError: there is no element.
    """
    x = as_tensor_operand(x, "amax")
    dims = _dims(x, dim, "amax")
    return any_(x, dims, keepdim) if x.dtype is bool_ else apply(MAX, x, dims=dims, keepdim=keepdim)


@public()
def amin(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """The smallest element over `dim`, a dim or several; nan if one is nan. Ties share the gradient evenly.

    Raises:
        DimensionError: there is no element.
    """
    x = as_tensor_operand(x, "amin")
    dims = _dims(x, dim, "amin")
    return all_(x, dims, keepdim) if x.dtype is bool_ else apply(MIN, x, dims=dims, keepdim=keepdim)


def _extremum_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    best = eq(x, restore_dims(y, x, dims, keepdim))
    g = restore_dims(g, x, dims, keepdim)
    if not dims:
        return (g,)
    return (where(best, div(g, cast(sum_(best, dims, True), g.dtype)), 0),)


MAX = register(
    Op(
        name="max",
        kind="reduce",
        infer=reduce_rule("max"),
        reference=lambda x, dims, keepdim: np.max(x, axis=dims, keepdims=keepdim),
        vjp=_extremum_vjp,
        samples=_SAMPLES,
        dtypes="number",
        exact=True,
    )
)
MIN = register(
    Op(
        name="min",
        kind="reduce",
        infer=reduce_rule("min"),
        reference=lambda x, dims, keepdim: np.min(x, axis=dims, keepdims=keepdim),
        vjp=_extremum_vjp,
        samples=_SAMPLES,
        dtypes="number",
        exact=True,
    )
)


@public()
def argmax(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index over `dim` of the first largest element or the first nan, as i64; None: in x flattened.

    Raises:
        DimensionError: there is no element.
        TypeRuleError: x is bool.
    """
    x = as_tensor_operand(x, "argmax")
    return apply(ARGMAX, x, dims=_dims(x, one_dim(dim, "argmax"), "argmax"), keepdim=keepdim)


@public()
def argmin(x: Tensor, dim: int | None = None, keepdim: bool = False) -> Tensor:
    """The index over `dim` of the first smallest element or the first nan, as i64; None: in x flattened.

    Raises:
        DimensionError: there is no element.
        TypeRuleError: x is bool.
    """
    x = as_tensor_operand(x, "argmin")
    return apply(ARGMIN, x, dims=_dims(x, one_dim(dim, "argmin"), "argmin"), keepdim=keepdim)


def _arg_reference(find: Any) -> Any:
    def reference(x: np.ndarray, dims: Dims, keepdim: bool) -> Any:
        kept = tuple(d for d in range(x.ndim) if d not in dims)
        rows = x.transpose(kept + dims).reshape(
            [x.shape[d] for d in kept] + [-1 if x.size else int(np.prod([x.shape[d] for d in dims]))]
        )
        index = find(rows, axis=-1)
        return np.expand_dims(index, dims) if keepdim else index

    return reference


ARGMAX = register(
    Op(
        name="argmax",
        kind="reduce",
        infer=reduce_rule("argmax", result=i64),
        reference=_arg_reference(np.argmax),
        vjp=None,
        samples=_SAMPLES,
        dtypes="number",
        differentiable=False,
        exact=True,
    )
)
ARGMIN = register(
    Op(
        name="argmin",
        kind="reduce",
        infer=reduce_rule("argmin", result=i64),
        reference=_arg_reference(np.argmin),
        vjp=None,
        samples=_SAMPLES,
        dtypes="number",
        differentiable=False,
        exact=True,
    )
)


@public()
def max(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """The largest element; with a dim, (values, indices) over it; with a second tensor, `maximum` of the two.

    The gradient of the values goes to the element at the index; without a dim ties share it.

    Raises:
        DimensionError: there is no element.
    """
    other = dim if isinstance(dim, Tensor) else other
    if other is not None:
        return maximum(x, other)
    return amax(x) if dim is None else _Max(*_with_index(MAX_WITH_INDEX, x, dim, keepdim, "max"))


@public()
def min(x: Tensor, dim: Any = None, keepdim: bool = False, *, other: Tensor | None = None) -> Any:
    """The smallest element; with a dim, (values, indices) over it; with a second tensor, `minimum` of the two.

    The gradient of the values goes to the element at the index; without a dim ties share it.

    Raises:
        DimensionError: there is no element.
    """
    other = dim if isinstance(dim, Tensor) else other
    if other is not None:
        return minimum(x, other)
    return amin(x) if dim is None else _Min(*_with_index(MIN_WITH_INDEX, x, dim, keepdim, "min"))


def _with_index(op: Op, x: Any, dim: Any, keepdim: bool, name: str) -> tuple[Tensor, Tensor]:
    x = as_tensor_operand(x, name)
    dims = _dims(x, one_dim(dim, name), name)
    if x.dtype is bool_:
        values, indices = apply(op, cast(x, u8), dims=dims, keepdim=keepdim)
        return cast(values, bool_), indices
    return apply(op, x, dims=dims, keepdim=keepdim)


def _with_index_rule(name: str) -> Any:
    rule = reduce_rule(name)

    def infer(x: TensorType, dims: Dims, keepdim: bool) -> tuple[TensorType, TensorType]:
        if len(dims) > 1:
            raise TypeRuleError(f"{name} wants one dim of {x}, not {dims}")
        values = rule(x, dims, keepdim)
        return values, values.with_dtype(i64)

    return infer


def _with_index_vjp(g: Any, y: Any, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    from tjit.ops.creation import iota

    if not dims:
        return (g[0],)
    line = iota(tuple(x.shape), dims[0], device=x.device)
    chosen = eq(line, restore_dims(y[1], x, dims, keepdim))
    return (where(chosen, restore_dims(g[0], x, dims, keepdim), 0),)


def _with_index_op(name: str, value: Op, index: Op) -> Op:
    """Two results of one pass over x: the element and its position."""
    return register(
        Op(
            name=name,
            kind="composite",
            infer=_with_index_rule(name),
            reference=lambda x, **attrs: (value.reference(x, **attrs), index.reference(x, **attrs)),
            decompose=lambda x, **attrs: (apply(value, x, **attrs), apply(index, x, **attrs)),
            vjp=_with_index_vjp,
            samples=_ONE_DIM_SAMPLES,
            dtypes="number",
            exact=True,
        )
    )


MAX_WITH_INDEX = _with_index_op("max_with_index", MAX, ARGMAX)
MIN_WITH_INDEX = _with_index_op("min_with_index", MIN, ARGMIN)


@public()
def aminmax(x: Tensor, *, dim: int | None = None, keepdim: bool = False) -> Any:
    """(min, max) over `dim`, or of all elements."""
    return _MinMax(amin(x, dim, keepdim), amax(x, dim, keepdim))
