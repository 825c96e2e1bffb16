"""Variance, norms and log-sum-exp: composites of sums, each one node in dumps."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.dtypes import DType, as_dtype, default_dtype
from tjit.errors import ArgumentError
from tjit.ir.op import Op, Sample, register
from tjit.location import user_location
from tjit.ops.apply import apply
from tjit.ops.arithmetic import add, div, mul, sub
from tjit.ops.bounds import clamp_min
from tjit.ops.compare import eq, isinf, ne, where
from tjit.ops.conversion import cast
from tjit.ops.extrema import MAX, MIN, _dims
from tjit.ops.math import exp, log
from tjit.ops.operands import as_tensor_operand, normalize_dims
from tjit.ops.powers import pow, sqrt
from tjit.ops.public import public
from tjit.ops.records import extent, in_f32, parts_in_f32, reduce_rule, restore_dims, zero_vjp
from tjit.ops.rounding import abs, sign
from tjit.ops.sums import MEAN, REDUCE_SAMPLES, SUM, mean, np_mean, wide
from tjit.tensor import Tensor

__all__ = ["logsumexp", "norm", "std", "std_mean", "var", "var_mean"]

Dims = tuple[int, ...]


# Variance


@public()
def var(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """The mean squared distance from the mean over `dim`: sum((x - mean)**2) / max(n - correction, 0).

    Args:
        x: f[*s].
        unbiased: correction 1 or 0.
        correction: 1 unless given.

    Raises:
        TypeRuleError: x is not float.
        ArgumentError: both `unbiased` and `correction` are given.
    """
    x, attrs = _spread(x, dim, unbiased, keepdim, correction, "var")
    return apply(VAR, x, **attrs)


@public()
def std(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> Tensor:
    """sqrt(var(x)), with the same arguments. Where it is 0, so is the gradient."""
    x, attrs = _spread(x, dim, unbiased, keepdim, correction, "std")
    return apply(STD, x, **attrs)


@public()
def var_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """(var(x), mean(x))."""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return var(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


@public()
def std_mean(
    x: Tensor, dim: Any = None, unbiased: bool | None = None, keepdim: bool = False, *, correction: float | None = None
) -> tuple[Tensor, Tensor]:
    """(std(x), mean(x))."""
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    return std(x, dim, unbiased, keepdim, correction=correction), mean(x, dim, keepdim)


def _spread(
    x: Any, dim: Any, unbiased: bool | None, keepdim: bool, correction: float | None, name: str
) -> tuple[Tensor, dict[str, Any]]:
    """The operand and attrs of var and std; `x.var(False)` means unbiased=False."""
    x = as_tensor_operand(x, name)
    dim, unbiased = (None, dim) if isinstance(dim, bool) else (dim, unbiased)
    if unbiased is not None and correction is not None:
        raise ArgumentError(f"{name} takes unbiased or correction, not both", user_location())
    if correction is None:
        correction = 1 if unbiased is None or unbiased else 0
    return x, {"dims": normalize_dims(dim, x.ndim), "correction": correction, "keepdim": keepdim}


def _freedom(x: Tensor, dims: Dims, correction: float) -> Any:
    """max(n - correction, 0): an int, a float, or a 0-d tensor."""
    n = extent(x, dims)
    return clamp_min(sub(n, correction), 0) if isinstance(n, Tensor) else np.maximum(n - correction, 0).item()


def _var_decompose(x: Tensor, dims: Dims, correction: float, keepdim: bool) -> Tensor:
    distance = sub(x, apply(MEAN, x, dims=dims, keepdim=True))
    return div(apply(SUM, mul(distance, distance), dims=dims, keepdim=keepdim), _freedom(x, dims, correction))


def _var_reference(x: np.ndarray, dims: Dims, correction: float, keepdim: bool) -> Any:
    n = math.prod(x.shape[d] for d in dims)
    distance = x - np_mean(x, dims, True)
    return np.sum(distance * distance, axis=dims, keepdims=keepdim) / x.dtype.type(np.maximum(n - correction, 0))


def _var_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, correction: float, keepdim: bool) -> tuple[Tensor]:
    w = wide(x)
    slope = div(mul(restore_dims(wide(g), x, dims, keepdim), 2), _freedom(w, dims, correction))
    return (cast(mul(slope, sub(w, apply(MEAN, w, dims=dims, keepdim=True))), x.dtype),)


def _std_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, correction: float, keepdim: bool) -> tuple[Tensor]:
    to_var = where(eq(y, 0), 0, div(g, mul(y, 2)))
    return _var_vjp(to_var, y, x, dims, correction, keepdim)


_VAR_SAMPLES = tuple(Sample(s.shapes, attrs={**s.attrs, "correction": c}) for s in REDUCE_SAMPLES for c in (1, 0))
_HINT = "convert with .to(dtype)"

VAR = register(
    Op(
        name="var",
        kind="composite",
        infer=reduce_rule("var", "float", hint=_HINT),
        reference=in_f32(_var_reference),
        decompose=parts_in_f32(_var_decompose),
        vjp=_var_vjp,
        samples=_VAR_SAMPLES,
    )
)
STD = register(
    Op(
        name="std",
        kind="composite",
        infer=reduce_rule("std", "float", hint=_HINT),
        reference=in_f32(lambda x, **attrs: np.sqrt(_var_reference(x, **attrs))),
        decompose=parts_in_f32(lambda x, **attrs: sqrt(_var_decompose(x, **attrs))),
        vjp=_std_vjp,
        samples=_VAR_SAMPLES,
    )
)


# Log-sum-exp


@public()
def logsumexp(x: Tensor, dim: Any = None, keepdim: bool = False) -> Tensor:
    """log(sum(exp(x))) over `dim`, without overflow; -inf where there is no element."""
    x = as_tensor_operand(x, "logsumexp")
    x = x if x.dtype.is_floating_point else cast(x, default_dtype())
    dims = normalize_dims(dim, x.ndim)
    if any(isinstance(x.shape[d], int) and x.shape[d] == 0 for d in dims):
        return log(apply(SUM, x, dims=dims, keepdim=keepdim))  # a sum of nothing is 0
    return apply(LOGSUMEXP, x, dims=dims, keepdim=keepdim)


def _logsumexp_decompose(x: Tensor, dims: Dims, keepdim: bool) -> Tensor:
    largest = apply(MAX, x, dims=dims, keepdim=True)
    shift = where(isinf(largest), 0, largest)  # inf - inf would be nan
    total = apply(SUM, exp(sub(x, shift)), dims=dims, keepdim=True)
    y = add(log(total), shift)
    return y if keepdim else _drop_dims(y, dims)


def _drop_dims(y: Tensor, dims: Dims) -> Tensor:
    from tjit.ops.movement import reshape

    return reshape(y, tuple(d for i, d in enumerate(y.shape) if i not in dims))


def _logsumexp_reference(x: np.ndarray, dims: Dims, keepdim: bool) -> Any:
    largest = np.max(x, axis=dims, keepdims=True)
    shift = np.where(np.isinf(largest), x.dtype.type(0), largest)
    y = np.log(np.sum(np.exp(x - shift), axis=dims, keepdims=True)) + shift
    return y if keepdim else np.squeeze(y, dims)


def _logsumexp_vjp(g: Tensor, y: Tensor, x: Tensor, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    y = restore_dims(y, x, dims, keepdim)
    share = where(eq(y, -math.inf), 0, exp(sub(x, y)))
    return (mul(restore_dims(g, x, dims, keepdim), share),)


LOGSUMEXP = register(
    Op(
        name="logsumexp",
        kind="composite",
        infer=reduce_rule("logsumexp", "float"),
        reference=in_f32(_logsumexp_reference),
        decompose=parts_in_f32(_logsumexp_decompose),
        vjp=_logsumexp_vjp,
        samples=REDUCE_SAMPLES,
    )
)


# Norms


@public()
def norm(
    x: Tensor, p: float | str | None = "fro", dim: Any = None, keepdim: bool = False, dtype: DType | None = None
) -> Tensor:
    """The p-norm over `dim` of x as a vector: sum(|x|**p) ** (1/p).

    p = inf and -inf give the largest and the smallest |x|, 0 the count of non-zeros, and "fro" is 2. Where the
    norm is 0, so is the gradient.

    Raises:
        TypeRuleError: x is not float.
        ArgumentError: p is a name other than "fro".
        DimensionError: there is no element, and p is infinite.
    """
    x = as_tensor_operand(x, "norm")
    x = x if dtype is None else cast(x, as_dtype(dtype))
    if isinstance(p, str) and p != "fro":
        raise ArgumentError(
            f"norm takes a number or 'fro' as p, not {p!r}", user_location(), hint="see tjit.linalg.matrix_norm"
        )
    order = 2.0 if p is None or isinstance(p, str) else float(p)
    dims = _dims(x, dim, "norm") if math.isinf(order) else normalize_dims(dim, x.ndim)
    return apply(NORM, x, p=order, dims=dims, keepdim=keepdim)


def _norm_decompose(x: Tensor, p: float, dims: Dims, keepdim: bool) -> Tensor:
    if math.isinf(p):
        return apply(MAX if p > 0 else MIN, abs(x), dims=dims, keepdim=keepdim)
    if p == 0:
        return apply(SUM, cast(ne(x, 0), x.dtype), dims=dims, keepdim=keepdim)
    if p == 1:
        return apply(SUM, abs(x), dims=dims, keepdim=keepdim)
    if p == 2:
        return sqrt(apply(SUM, mul(x, x), dims=dims, keepdim=keepdim))
    return pow(apply(SUM, pow(abs(x), p), dims=dims, keepdim=keepdim), 1 / p)


def _norm_reference(x: np.ndarray, p: float, dims: Dims, keepdim: bool) -> Any:
    if math.isinf(p):
        return (np.max if p > 0 else np.min)(np.abs(x), axis=dims, keepdims=keepdim)
    if p == 0:
        return np.sum(x != 0, axis=dims, keepdims=keepdim, dtype=x.dtype)
    if p == 1:
        return np.sum(np.abs(x), axis=dims, keepdims=keepdim)
    if p == 2:
        return np.sqrt(np.sum(x * x, axis=dims, keepdims=keepdim))
    return np.power(np.sum(np.power(np.abs(x), x.dtype.type(p)), axis=dims, keepdims=keepdim), x.dtype.type(1 / p))


def _norm_vjp(g: Tensor, y: Tensor, x: Tensor, p: float, dims: Dims, keepdim: bool) -> tuple[Tensor]:
    g, y = restore_dims(g, x, dims, keepdim), restore_dims(y, x, dims, keepdim)
    if math.isinf(p):
        best = eq(abs(x), y)
        ties = apply(SUM, cast(best, x.dtype), dims=dims, keepdim=True)
        return (where(best, mul(sign(x), div(g, ties)), 0),)
    if p == 0:
        return zero_vjp(g, y, x)
    if p == 1:
        return (mul(g, sign(x)),)
    if p == 2:
        return (mul(x, where(eq(y, 0), 0, div(g, y))),)
    slope = mul(sign(x), pow(abs(x), p - 1))
    slope = where(eq(x, 0), 0, slope) if p < 2 else slope  # 0**(p-1) is infinite for p < 1
    return (mul(slope, where(eq(y, 0), 0, div(g, pow(y, p - 1)))),)


NORM = register(
    Op(
        name="norm",
        kind="composite",
        infer=reduce_rule("norm", "float", hint=_HINT),
        reference=in_f32(_norm_reference),
        decompose=parts_in_f32(_norm_decompose),
        vjp=_norm_vjp,
        samples=tuple(
            Sample(s.shapes, 0.2, 3.0, attrs={"p": p, **s.attrs})
            for s in REDUCE_SAMPLES[1:3]
            for p in (2.0, 1.0, 3.0, math.inf)
        ),
    )
)
