"""Contraction: `dot` with batch dims, and the products that are written with it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.errors import TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.movement import broadcast_to, permute, reshape
from tjit.ops.operands import as_tensor_operand, broadcast_shapes
from tjit.ops.public import public
from tjit.tensor import Tensor

__all__ = ["addmm", "addmv", "baddbmm", "bmm", "contract", "dot", "inner", "linear", "matmul", "mm", "mv", "outer"]


def contract(a: Tensor, b: Tensor) -> Tensor:
    """The primitive `dot`: sums over a's last dim and b's last but one, for each index of the batch dims.

    Args:
        a: f[*b, m, k].
        b: f[*b, k, n].

    Returns:
        f[*b, m, n]. f16 and bf16 are summed in f32 and rounded once.

    Raises:
        TypeRuleError: dtypes, batch dims, or a's columns and b's rows differ.
    """
    return apply(DOT, a, b)


def _same_dtype(name: str, a: TensorType, b: TensorType) -> None:
    if a.dtype is not b.dtype:
        raise TypeRuleError(
            f"{name} needs operands of one dtype: {a} @ {b} has {a.dtype} and {b.dtype}",
            hint="convert one with .to(dtype)",
        )
    if a.dtype.kind == "bool":
        raise TypeRuleError(f"{name} needs numbers: {a} @ {b} has bool", hint="convert with .to(dtype)")


def _dot_infer(a: TensorType, b: TensorType) -> TensorType:
    _same_dtype("dot", a, b)
    if a.ndim < 2 or a.ndim != b.ndim or a.shape[:-2] != b.shape[:-2]:
        raise TypeRuleError(f"dot needs matrices with the same batch dims, not {a} and {b}")
    if a.shape[-1] != b.shape[-2]:
        raise TypeRuleError(f"dot needs a's columns to equal b's rows: {a} @ {b} has {a.shape[-1]} and {b.shape[-2]}")
    return a.with_shape((*a.shape[:-1], b.shape[-1]))


def _matmul_reference(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.itemsize == 2 and a.dtype.kind not in "iu":
        return np.matmul(a.astype(np.float32), b.astype(np.float32)).astype(a.dtype)
    return np.matmul(a, b)


def _dot_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    return contract(g, _swap(b)), contract(_swap(a), g)


def _swap(x: Tensor) -> Tensor:
    return permute(x, (*range(x.ndim - 2), x.ndim - 1, x.ndim - 2))


DOT = register(
    Op(
        name="dot",
        kind="contract",
        infer=_dot_infer,
        reference=_matmul_reference,
        vjp=_dot_vjp,
        samples=(
            Sample(((3, 4), (4, 5))),
            Sample(((2, 3, 4), (2, 4, 5))),
            Sample(((2, 3, 2, 4), (2, 3, 4, 1))),
            Sample(((1, 7), (7, 1))),
            Sample(((3, 0), (0, 2))),
            Sample(((0, 3), (3, 2))),
        ),
        dtypes="number",
    )
)


@public()
def matmul(input: Tensor, other: Tensor) -> Tensor:
    """The matrix product of the last two dims; the dims before them broadcast.

    Args:
        input: n[*b, m, k], or n[k], which counts as one row.
        other: n[*b, k, n], or n[k], which counts as one column.

    Returns:
        n[*b, m, n], without m or n where that operand is 1-D. f16 and bf16 are summed in f32.

    Raises:
        TypeRuleError: an operand is 0-d, dtypes differ, columns and rows differ, or batch dims do not broadcast.
    """
    return apply(MATMUL, as_tensor_operand(input, "matmul"), as_tensor_operand(other, "matmul"))


def _matmul_infer(a: TensorType, b: TensorType) -> TensorType:
    if a.ndim == 0 or b.ndim == 0:
        raise TypeRuleError(
            f"matmul needs operands of at least 1 dim, not {a} and {b}", hint="use * for a product with a number"
        )
    _same_dtype("matmul", a, b)
    rows = b.shape[-2] if b.ndim > 1 else b.shape[0]
    if a.shape[-1] != rows:
        raise TypeRuleError(
            f"matmul needs a's columns to equal b's rows: {a} @ {b} has {a.shape[-1]} and {rows}",
            hint="transpose one operand, for example b.T" if _fits_transposed(a, b) else None,
        )
    try:
        batch = broadcast_shapes(a.shape[:-2], b.shape[:-2])
    except TypeRuleError:
        leading = " and ".join("[" + ", ".join(map(str, t.shape[:-2])) + "]" for t in (a, b))
        raise TypeRuleError(f"matmul needs batch dims that broadcast: {a} @ {b} has {leading}") from None
    return a.with_shape((*batch, *(a.shape[-2:-1] if a.ndim > 1 else ()), *(b.shape[-1:] if b.ndim > 1 else ())))


def _fits_transposed(a: TensorType, b: TensorType) -> bool:
    return (b.ndim > 1 and a.shape[-1] == b.shape[-1]) or (a.ndim > 1 and b.ndim > 1 and a.shape[-2] == b.shape[-2])


def _matmul_decompose(a: Tensor, b: Tensor) -> Tensor:
    if a.ndim == 1:
        y = _matrix_product(reshape(a, (1, *a.shape)), b if b.ndim > 1 else reshape(b, (*b.shape, 1)))
        return reshape(y, (*y.shape[:-2], *(y.shape[-1:] if b.ndim > 1 else ())))
    if b.ndim == 1:
        y = _matrix_product(a, reshape(b, (*b.shape, 1)))
        return reshape(y, y.shape[:-1])
    return _matrix_product(a, b)


def _matrix_product(a: Tensor, b: Tensor) -> Tensor:
    """matmul of operands with at least two dims."""
    if b.ndim == 2 and a.ndim > 2:  # one matrix for the whole batch: its rows are rows of one larger product
        y = contract(_flatten(a), b)
        return reshape(y, (*a.shape[:-1], b.shape[-1]))
    batch = broadcast_shapes(a.shape[:-2], b.shape[:-2], what="matmul")
    return contract(broadcast_to(a, (*batch, *a.shape[-2:])), broadcast_to(b, (*batch, *b.shape[-2:])))


def _flatten(x: Tensor) -> Tensor:
    """x as a matrix of its rows."""
    return reshape(x, (product(x.shape[:-1]), x.shape[-1]))


def _matmul_vjp(g: Tensor, y: Tensor, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    if a.ndim == 1 or b.ndim == 1:
        rows = reshape(a, (1, *a.shape)) if a.ndim == 1 else a
        columns = reshape(b, (*b.shape, 1)) if b.ndim == 1 else b
        batch = broadcast_shapes(rows.shape[:-2], columns.shape[:-2])
        g = reshape(g, (*batch, rows.shape[-2], columns.shape[-1]))
        da, db = _matmul_vjp(g, y, rows, columns)
        return reshape(da, a.shape), reshape(db, b.shape)
    if b.ndim == 2:
        rows = _flatten(g)
        return reshape(contract(rows, _swap(b)), a.shape), contract(_swap(_flatten(a)), rows)
    return _sum_to(_matrix_product(g, _swap(b)), a.shape), _sum_to(_matrix_product(_swap(a), g), b.shape)


def _sum_to(g: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    """g summed over the dims along which `shape` was broadcast."""
    from tjit.ops.reduce import sum as sum_

    lead = g.ndim - len(shape)
    dims = tuple(i for i in range(g.ndim) if i < lead or g.shape[i] != shape[i - lead])
    return reshape(sum_(g, dims), shape) if dims else g


MATMUL = register(
    Op(
        name="matmul",
        kind="composite",
        infer=_matmul_infer,
        reference=_matmul_reference,
        vjp=_matmul_vjp,
        decompose=_matmul_decompose,
        samples=(
            Sample(((3, 4), (4, 5))),
            Sample(((4,), (4,))),
            Sample(((4,), (4, 5))),
            Sample(((3, 4), (4,))),
            Sample(((2, 3, 4), (4, 5))),
            Sample(((2, 3, 4), (4,))),
            Sample(((4,), (2, 4, 5))),
            Sample(((3, 4), (2, 4, 5))),
            Sample(((2, 1, 3, 4), (3, 4, 5))),
            Sample(((2, 0, 4), (4, 5))),
            Sample(((3, 0), (0, 5))),
        ),
        dtypes="number",
    )
)


@public(method=False)
def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """input @ weight.T + bias.

    Args:
        input: n[*s, k].
        weight: n[n, k], or n[k].
        bias: n[n], or n[] where weight is 1-D.

    Returns:
        n[*s, n], without n where weight is 1-D.

    Raises:
        TypeRuleError: dtypes differ, or the extents do not match.
    """
    operands = [as_tensor_operand(x, "linear") for x in (input, weight, *(() if bias is None else (bias,)))]
    return apply(LINEAR, *operands)


def _linear_infer(x: TensorType, weight: TensorType, bias: TensorType | None = None) -> TensorType:
    if x.ndim == 0 or weight.ndim not in (1, 2):
        raise TypeRuleError(f"linear needs rows and a matrix of weights, not {x} and {weight}")
    _same_dtype("linear", x, weight)
    if x.shape[-1] != weight.shape[-1]:
        raise TypeRuleError(
            f"linear needs input's last dim to equal weight's: {x} and weight {weight} "
            f"have {x.shape[-1]} and {weight.shape[-1]}",
            hint="weight is [out_features, in_features]",
        )
    y = x.with_shape((*x.shape[:-1], *weight.shape[:-1]))
    if bias is not None:
        if bias.dtype is not x.dtype:
            raise TypeRuleError(
                f"linear needs operands of one dtype, not {x} and bias {bias}", hint="convert one with .to(dtype)"
            )
        if broadcast_shapes(y.shape, bias.shape, what="linear") != y.shape:
            raise TypeRuleError(f"linear needs a bias that broadcasts to its result {y}, not {bias}")
    return y


def _linear_decompose(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    y = _matmul_decompose(x, _swap(weight) if weight.ndim == 2 else weight)
    return y if bias is None else y + bias


def _linear_reference(x: np.ndarray, weight: np.ndarray, bias: np.ndarray | None = None) -> np.ndarray:
    y = _matmul_reference(x, weight.T)
    return y if bias is None else y + bias


def _linear_vjp(g: Tensor, y: Tensor, x: Tensor, weight: Tensor, *bias: Tensor) -> tuple[Tensor, ...]:
    total = tuple(_sum_to(g, b.shape) for b in bias)
    if weight.ndim == 1:
        dx, dw = _matmul_vjp(g, y, x, weight)
        return dx, dw, *total
    rows = _flatten(g)
    dx = reshape(contract(rows, weight), x.shape)
    return dx, contract(_swap(rows), _flatten(x)), *total


LINEAR = register(
    Op(
        name="linear",
        kind="composite",
        infer=_linear_infer,
        reference=_linear_reference,
        vjp=_linear_vjp,
        decompose=_linear_decompose,
        samples=(
            Sample(((3, 4), (5, 4), (5,))),
            Sample(((3, 4), (5, 4))),
            Sample(((4,), (5, 4), (5,))),
            Sample(((2, 3, 4), (5, 4), (5,))),
            Sample(((3, 4), (4,))),
            Sample(((0, 4), (5, 4), (5,))),
        ),
        dtypes="number",
    )
)


def _with_ranks(name: str, ranks: tuple[int, ...], *xs: Any) -> list[Tensor]:
    tensors = [as_tensor_operand(x, name) for x in xs]
    for x, rank in zip(tensors, ranks, strict=True):
        if x.ndim != rank:
            wanted = " and ".join(f"{r}-D" for r in ranks)
            got = " and ".join(str(t.type_) for t in tensors)
            raise TypeRuleError(
                f"{name} needs {wanted} tensors, not {got}", user_location(), hint="matmul takes any ranks"
            )
    return tensors


@public()
def mm(input: Tensor, mat2: Tensor) -> Tensor:
    """The product of two matrices, n[m, k] and n[k, n]."""
    return matmul(*_with_ranks("mm", (2, 2), input, mat2))


@public()
def bmm(input: Tensor, mat2: Tensor) -> Tensor:
    """The products of two batches of matrices, n[b, m, k] and n[b, k, n]; the batch does not broadcast."""
    a, b = _with_ranks("bmm", (3, 3), input, mat2)
    if a.shape[0] != b.shape[0]:
        raise TypeRuleError(
            f"bmm needs equal batch dims: {a.type_} @ {b.type_} has {a.shape[0]} and {b.shape[0]}",
            user_location(),
            hint="matmul broadcasts the batch",
        )
    return matmul(a, b)


@public()
def mv(input: Tensor, vec: Tensor) -> Tensor:
    """The product of a matrix n[m, k] and a vector n[k]."""
    return matmul(*_with_ranks("mv", (2, 1), input, vec))


@public()
def dot(input: Tensor, tensor: Tensor) -> Tensor:
    """The sum of the products of two vectors' elements."""
    a, b = _with_ranks("dot", (1, 1), input, tensor)
    if a.shape[0] != b.shape[0]:
        raise TypeRuleError(
            f"dot needs vectors of one length: {a.type_} and {b.type_} have {a.shape[0]} and {b.shape[0]}",
            user_location(),
        )
    return matmul(a, b)


@public()
def inner(input: Tensor, other: Tensor) -> Tensor:
    """The sums of products over the last dim of both; a plain product where one is 0-d."""
    a, b = as_tensor_operand(input, "inner"), as_tensor_operand(other, "inner")
    if a.ndim == 0 or b.ndim == 0:
        return a * b
    if a.shape[-1] != b.shape[-1]:
        raise TypeRuleError(
            f"inner needs equal last dims: {a.type_} and {b.type_} have {a.shape[-1]} and {b.shape[-1]}",
            user_location(),
        )
    y = matmul(_flatten(a), _swap(_flatten(b)))
    return reshape(y, (*a.shape[:-1], *b.shape[:-1]))


@public(aliases=("ger",))
def outer(input: Tensor, vec2: Tensor) -> Tensor:
    """Every product of an element of n[m] and one of n[n], as n[m, n]."""
    a, b = _with_ranks("outer", (1, 1), input, vec2)
    return reshape(a, (*a.shape, 1)) * b


def _scaled_sum(base: Any, y: Tensor, beta: float, alpha: float) -> Tensor:
    y = y if alpha == 1 else y * alpha
    if beta == 0:  # as PyTorch: nan and inf in the base do not reach the result
        return y
    return (base if beta == 1 else base * beta) + y


@public(inplace=True)
def addmm(input: Tensor, mat1: Tensor, mat2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * (mat1 @ mat2)."""
    return _scaled_sum(input, mm(mat1, mat2), beta, alpha)


@public(inplace=True)
def addmv(input: Tensor, mat: Tensor, vec: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * (mat @ vec)."""
    return _scaled_sum(input, mv(mat, vec), beta, alpha)


@public(inplace=True)
def addr(input: Tensor, vec1: Tensor, vec2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * outer(vec1, vec2)."""
    return _scaled_sum(input, outer(vec1, vec2), beta, alpha)


@public(inplace=True)
def baddbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * bmm(batch1, batch2)."""
    return _scaled_sum(input, bmm(batch1, batch2), beta, alpha)
