"""Sums and chains of matrix products, and what else linear algebra makes of the ops below it."""

from __future__ import annotations

import functools
from typing import Any

from tjit.errors import ArgumentError, TypeRuleError
from tjit.location import user_location
from tjit.ops.arithmetic import add, div, mul, sub
from tjit.ops.compare import eq, isnan, where
from tjit.ops.contract import bmm, matmul
from tjit.ops.creation import eye, full, meshgrid
from tjit.ops.join import cat, stack
from tjit.ops.movement import pad, reshape
from tjit.ops.operands import as_tensor_operand
from tjit.ops.powers import sqrt
from tjit.ops.public import public
from tjit.ops.shape import diagonal, transpose
from tjit.ops.sums import mean
from tjit.ops.sums import sum as sum_
from tjit.tensor import Tensor

__all__ = [
    "addbmm", "block_diag", "cartesian_prod", "chain_matmul", "corrcoef", "cov", "kron", "matrix_power", "nan_to_num",
    "trace",
]  # fmt: skip


@public()
def addbmm(input: Tensor, batch1: Tensor, batch2: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    """beta * input + alpha * the sum of the products of the matrices of two batches."""
    return add(mul(beta, input), mul(alpha, sum_(bmm(batch1, batch2), 0)))


@public(method=False)
def chain_matmul(*matrices: Tensor) -> Tensor:
    """The product of matrices. Compiled, it is computed in the order of least work."""
    if not matrices:
        raise ArgumentError("chain_matmul wants matrices", user_location())
    return functools.reduce(matmul, matrices)


@public()
def trace(x: Tensor) -> Tensor:
    """The sum of a matrix's diagonal."""
    x = as_tensor_operand(x, "trace")
    if x.ndim != 2:
        raise TypeRuleError(f"trace wants a matrix, not {x.type_}", user_location())
    return sum_(diagonal(x))


@public()
def kron(input: Tensor, other: Tensor) -> Tensor:
    """Each element of input times all of other, as blocks."""
    a, b = as_tensor_operand(input, "kron"), as_tensor_operand(other, "kron")
    rank = max(a.ndim, b.ndim)
    outer = (1,) * (rank - a.ndim) + tuple(a.shape)
    inner = (1,) * (rank - b.ndim) + tuple(b.shape)
    blocks = mul(
        reshape(a, tuple(d for n in outer for d in (n, 1))), reshape(b, tuple(d for n in inner for d in (1, n)))
    )
    return reshape(blocks, tuple(m * n for m, n in zip(outer, inner, strict=True)))


@public()
def matrix_power(input: Tensor, n: int) -> Tensor:
    """The product of n times a square matrix, or of each of a batch, by repeated squaring; n is not negative."""
    x = as_tensor_operand(input, "matrix_power")
    if x.ndim < 2 or x.shape[-1] != x.shape[-2]:
        raise TypeRuleError(f"matrix_power wants square matrices, not {x.type_}", user_location())
    if n < 0:
        raise ArgumentError(f"matrix_power wants n of 0 or more, not {n}", user_location())
    result = None
    while n:
        if n % 2:
            result = x if result is None else matmul(result, x)
        n //= 2
        x = matmul(x, x) if n else x
    if result is None:
        return add(eye(x.shape[-1], dtype=x.dtype), full(tuple(x.shape), 0, dtype=x.dtype))
    return result


@public(method=False)
def block_diag(*tensors: Tensor) -> Tensor:
    """The matrix with matrices along its diagonal; rows and numbers are matrices of one row."""
    blocks = [reshape(t, (1, -1)) if t.ndim < 2 else t for t in (as_tensor_operand(t, "block_diag") for t in tensors)]
    width = sum(b.shape[1] for b in blocks)
    rows, start = [], 0
    for block in blocks:
        rows.append(pad(block, (start, width - start - block.shape[1])))
        start = start + block.shape[1]
    return cat(rows, 0)


@public(method=False)
def cartesian_prod(*tensors: Tensor) -> Tensor:
    """Every choice of one element of each row, as rows, the last row's elements changing first."""
    grids = meshgrid(*tensors, indexing="ij")
    return grids[0] if len(grids) == 1 else stack([reshape(g, (-1,)) for g in grids], 1)


@public()
def cov(input: Tensor, *, correction: int = 1) -> Tensor:
    """The covariances of a matrix's rows, whose columns are observations."""
    x = as_tensor_operand(input, "cov")
    rows = reshape(x, (1, -1)) if x.ndim < 2 else x
    rows = sub(rows, mean(rows, 1, True))
    found = div(matmul(rows, transpose(rows, 0, 1)), rows.shape[1] - correction)
    return found if x.ndim == 2 else reshape(found, ())


@public()
def corrcoef(input: Tensor) -> Tensor:
    """The correlation of a matrix's rows, whose columns are observations."""
    found = cov(input)
    if not found.ndim:
        return div(found, found)
    spread = sqrt(diagonal(found))
    return div(div(found, reshape(spread, (-1, 1))), spread)


@public(inplace=True)
def nan_to_num(x: Tensor, nan: float = 0.0, posinf: float | None = None, neginf: float | None = None) -> Tensor:
    """x with `nan` for nan, and the largest and smallest number of its dtype, or what is given, for infinities."""
    x = as_tensor_operand(x, "nan_to_num")
    if not x.dtype.is_floating_point:
        return x
    most = _largest(x)
    x = where(eq(x, float("inf")), most if posinf is None else posinf, x)
    x = where(eq(x, float("-inf")), -most if neginf is None else neginf, x)
    return where(isnan(x), nan, x)


def _largest(x: Tensor) -> Any:
    import ml_dtypes

    return float(ml_dtypes.finfo(x.dtype.numpy).max)
