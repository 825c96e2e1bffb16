"""Differences between neighbours, integrals over samples, distances."""

from __future__ import annotations

from typing import Any

from tjit.dtypes import bool_
from tjit.errors import DimensionError, TypeRuleError
from tjit.location import user_location
from tjit.ops.arithmetic import add, div, mul, sub
from tjit.ops.bitwise import bitwise_xor
from tjit.ops.compare import gt, where
from tjit.ops.join import cat, narrow, roll
from tjit.ops.movement import broadcast_to, reshape
from tjit.ops.operands import as_tensor_operand, broadcast_shapes, normalize_dim
from tjit.ops.public import public
from tjit.ops.scans import cumsum
from tjit.ops.shape import unsqueeze
from tjit.ops.statistics import norm
from tjit.ops.sums import sum as sum_
from tjit.tensor import Tensor

__all__ = ["cdist", "cross", "cumulative_trapezoid", "diff", "dist", "renorm", "trapezoid"]


@public()
def diff(x: Tensor, n: int = 1, dim: int = -1, prepend: Tensor | None = None, append: Tensor | None = None) -> Tensor:
    """The difference of each element and the one before it along `dim`, n times; of bools, whether they differ."""
    x = as_tensor_operand(x, "diff")
    dim = normalize_dim(dim, x.ndim)
    ends = [t for t in (prepend, x, append) if t is not None]
    x = cat(ends, dim) if len(ends) > 1 else x
    for _ in range(n):
        later, earlier = _neighbours(x, dim)
        x = bitwise_xor(later, earlier) if x.dtype is bool_ else sub(later, earlier)
    return x


def _neighbours(x: Tensor, dim: int) -> tuple[Tensor, Tensor]:
    """(all but the first, all but the last) along `dim`."""
    pairs = x.shape[dim] - 1
    if isinstance(pairs, int) and pairs < 0:
        return x, x
    return narrow(x, dim, 1, pairs), narrow(x, dim, 0, pairs)


@public(aliases=("trapz",), method=False)
def trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integral of samples y along `dim` by the trapezoidal rule, at the places x or `dx` (1) apart."""
    return sum_(_areas(as_tensor_operand(y, "trapezoid"), x, dx, dim), dim)


@public(method=False)
def cumulative_trapezoid(y: Tensor, x: Tensor | None = None, *, dx: Any = None, dim: int = -1) -> Tensor:
    """The integrals of samples y up to each but the first, as in `trapezoid`."""
    return cumsum(_areas(as_tensor_operand(y, "cumulative_trapezoid"), x, dx, dim), dim)


def _areas(y: Tensor, x: Tensor | None, dx: Any, dim: int) -> Tensor:
    dim = normalize_dim(dim, y.ndim)
    later, earlier = _neighbours(y, dim)
    width = 1 if dx is None else dx
    if x is not None:
        x = reshape(x, (-1,) + (1,) * (y.ndim - 1 - dim)) if x.ndim == 1 else x
        width = sub(*_neighbours(x, x.ndim - y.ndim + dim))
    return div(mul(add(later, earlier), width), 2)


@public()
def cross(x: Tensor, other: Tensor, dim: int | None = None) -> Tensor:
    """The cross product of vectors of 3 along `dim`; None: along the first dim of 3."""
    x, other = as_tensor_operand(x, "cross"), as_tensor_operand(other, "cross")
    shape = broadcast_shapes(x.shape, other.shape, what="cross")
    if dim is None:
        dim = next((d for d, n in enumerate(shape) if n == 3), None)
        if dim is None:
            raise DimensionError(f"cross wants a dim of 3 in {x.type_} and {other.type_}", user_location())
    dim = normalize_dim(dim, len(shape))
    if shape[dim] != 3:
        raise DimensionError(f"cross wants 3 elements in dim {dim} of {x.type_} and {other.type_}", user_location())
    x, other = broadcast_to(x, shape), broadcast_to(other, shape)
    return sub(mul(roll(x, -1, dim), roll(other, -2, dim)), mul(roll(x, -2, dim), roll(other, -1, dim)))


@public()
def dist(x: Tensor, other: Tensor, p: float = 2) -> Tensor:
    """The p-norm of x - other."""
    return norm(sub(x, other), p)


@public(method=False)
def cdist(x1: Tensor, x2: Tensor, p: float = 2.0, compute_mode: str | None = None) -> Tensor:
    """The p-norm distance of every row of x1 from every row of x2: f[*s, m, k] and f[*s, n, k] to f[*s, m, n]."""
    x1, x2 = as_tensor_operand(x1, "cdist"), as_tensor_operand(x2, "cdist")
    if x1.ndim < 2 or x2.ndim < 2 or x1.shape[-1] != x2.shape[-1]:
        raise TypeRuleError(f"cdist wants rows of one size, not {x1.type_} and {x2.type_}", user_location())
    return norm(sub(unsqueeze(x1, -2), unsqueeze(x2, -3)), p, -1)


@public(inplace=True)
def renorm(x: Tensor, p: float, dim: int, maxnorm: float) -> Tensor:
    """x with every slice along `dim` whose p-norm is above `maxnorm` scaled down to it."""
    x = as_tensor_operand(x, "renorm")
    dim = normalize_dim(dim, x.ndim)
    size = norm(x, p, tuple(d for d in range(x.ndim) if d != dim), True)
    return mul(x, where(gt(size, maxnorm), div(maxnorm, add(size, 1e-7)), 1.0))
