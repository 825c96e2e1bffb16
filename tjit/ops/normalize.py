"""Rows brought to a common scale: softmax and the normalisations. Each gradient is a few sums over the row."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import as_dtype
from tjit.errors import ArgumentError, TypeRuleError
from tjit.ir.dims import Dim, product
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import apply, assign, state
from tjit.ops.elementwise import cast, exp, log, maximum, rsqrt, sqrt
from tjit.ops.movement import reshape
from tjit.ops.operands import as_tensor_operand, normalize_dim
from tjit.ops.public import public
from tjit.ops.records import in_f32, parts_in_f32
from tjit.ops.reduce import amax, mean
from tjit.ops.reduce import sum as sum_
from tjit.ops.sums import wide
from tjit.tensor import Tensor

__all__ = [
    "batch_norm",
    "cosine_similarity",
    "group_norm",
    "instance_norm",
    "layer_norm",
    "log_softmax",
    "normalize",
    "rms_norm",
    "softmax",
    "softmin",
]


def _rowwise(op: Op, input: Any, dim: int, dtype: Any) -> Tensor:
    x = as_tensor_operand(input, op.name)
    x = x if dtype is None else cast(x, as_dtype(dtype))
    dim = normalize_dim(dim, x.ndim)
    if x.ndim == 0:  # a row of one element
        return reshape(apply(op, reshape(x, (1,)), dim=0), ())
    return apply(op, x, dim=dim)


def _float_infer(name: str) -> Any:
    def infer(x: TensorType, **attrs: Any) -> TensorType:
        if not x.is_float:
            raise TypeRuleError(f"{name} needs floats, not {x}", hint="convert with .float(), or pass dtype=")
        return x

    return infer


def _is_empty(x: Tensor) -> bool:
    return any(isinstance(d, int) and d == 0 for d in x.shape)


@public(aliases=("special_softmax",))
def softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `dim`, computed from x - max(x) so that nothing overflows.

    Args:
        input: f[*s].
        dim: the row.
        dtype: converts x first.

    Returns:
        f[*s]. A row of -inf gives nan.
    """
    return _rowwise(SOFTMAX, input, dim, dtype)


def _softmax_reference(x: np.ndarray, dim: int) -> np.ndarray:
    if x.size == 0:
        return x
    e = np.exp(x - x.max(dim, keepdims=True))
    return e / e.sum(dim, keepdims=True, dtype=x.dtype)


def _softmax(x: Tensor, dim: int) -> Tensor:
    if _is_empty(x):
        return x
    e = exp(x - amax(x, dim, keepdim=True))
    return e / sum_(e, dim, keepdim=True)


_ROW_SAMPLES = (
    Sample(((3, 5),), attrs={"dim": 1}),
    Sample(((3, 5),), attrs={"dim": 0}),
    Sample(((2, 3, 4),), attrs={"dim": 1}),
    Sample(((4, 1),), attrs={"dim": 1}),
    Sample(((0, 3),), attrs={"dim": 1}),
)

SOFTMAX = register(
    Op(
        name="softmax",
        kind="composite",
        infer=_float_infer("softmax"),
        reference=in_f32(_softmax_reference),
        vjp=lambda g, y, x, dim: (y * (g - sum_(g * y, dim, keepdim=True)),),
        decompose=parts_in_f32(_softmax),
        samples=_ROW_SAMPLES,
    )
)


@public()
def log_softmax(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """log(softmax(x, dim)), computed as (x - max) - log(sum(exp(x - max)))."""
    return _rowwise(LOG_SOFTMAX, input, dim, dtype)


def _log_softmax_reference(x: np.ndarray, dim: int) -> np.ndarray:
    if x.size == 0:
        return x
    z = x - x.max(dim, keepdims=True)
    return z - np.log(np.exp(z).sum(dim, keepdims=True, dtype=x.dtype))


def _log_softmax(x: Tensor, dim: int) -> Tensor:
    if _is_empty(x):
        return x
    z = x - amax(x, dim, keepdim=True)
    return z - log(sum_(exp(z), dim, keepdim=True))


LOG_SOFTMAX = register(
    Op(
        name="log_softmax",
        kind="composite",
        infer=_float_infer("log_softmax"),
        reference=in_f32(_log_softmax_reference),
        vjp=lambda g, y, x, dim: (g - exp(y) * sum_(g, dim, keepdim=True),),
        decompose=parts_in_f32(_log_softmax),
        samples=_ROW_SAMPLES,
    )
)


@public(method=False, function=False)
def softmin(input: Tensor, dim: int, dtype: Any = None) -> Tensor:
    """softmax(-x, dim)."""
    return softmax(-as_tensor_operand(input, "softmin"), dim, dtype)


def _row_rank(name: str, x: Tensor, normalized_shape: Any) -> int:
    shape = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    if not shape or tuple(x.shape[x.ndim - len(shape) :]) != shape:
        raise TypeRuleError(
            f"{name} needs an input that ends with normalized_shape {list(shape)}, not {x.type_}", user_location()
        )
    return len(shape)


@public(method=False)
def layer_norm(
    input: Tensor, normalized_shape: Any, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """(x - mean) / sqrt(var + eps) * weight + bias, over the last dims.

    Args:
        input: f[*s, *r].
        normalized_shape: r, the dims that make one row.
        weight, bias: f[*r].

    Returns:
        f[*s, *r]. The variance is the biased one; f16 and bf16 are computed in f32.

    Source: Ba, Kiros and Hinton (2016), "Layer normalization".
    """
    x = as_tensor_operand(input, "layer_norm")
    rank = _row_rank("layer_norm", x, normalized_shape)
    if weight is None:
        y = apply(LAYER_NORM, x, rank=rank, eps=float(eps))
        return y if bias is None else y + bias
    return apply(LAYER_NORM, x, weight, *(() if bias is None else (bias,)), rank=rank, eps=float(eps))


def _norm_infer(name: str) -> Any:
    def infer(x: TensorType, *parameters: TensorType, rank: int, eps: float) -> TensorType:
        if not x.is_float:
            raise TypeRuleError(f"{name} needs floats, not {x}", hint="convert with .float()")
        for p in parameters:
            if p.dtype is not x.dtype or p.shape != x.shape[x.ndim - rank :]:
                raise TypeRuleError(
                    f"{name} needs weight and bias of its rows' type, {x.with_shape(x.shape[x.ndim - rank :])}, not {p}"
                )
        return x

    return infer


def _rows(x: Tensor, rank: int) -> tuple[int, ...]:
    return tuple(range(x.ndim - rank, x.ndim))


def _centred(x: Tensor, rank: int, eps: float) -> tuple[Tensor, Tensor]:
    """x - mean, and 1 / sqrt(var + eps)."""
    dims = _rows(x, rank)
    c = x - mean(x, dims, keepdim=True)
    return c, rsqrt(mean(c * c, dims, keepdim=True) + eps)


def _layer_norm(
    x: Tensor, weight: Tensor | None = None, bias: Tensor | None = None, *, rank: int, eps: float
) -> Tensor:
    c, r = _centred(x, rank, eps)
    y = c * r
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def _layer_norm_reference(x: np.ndarray, *parameters: np.ndarray, rank: int, eps: float) -> np.ndarray:
    dims = tuple(range(x.ndim - rank, x.ndim))
    c = x - x.mean(dims, keepdims=True)
    y = c / np.sqrt((c * c).mean(dims, keepdims=True) + np.asarray(eps, x.dtype))
    y = y * parameters[0] if parameters else y
    return y + parameters[1] if len(parameters) > 1 else y


def _layer_norm_vjp(g: Tensor, y: Tensor, x: Tensor, *parameters: Tensor, rank: int, eps: float) -> tuple[Tensor, ...]:
    dims = _rows(x, rank)
    lead = tuple(range(x.ndim - rank))
    c, r = _centred(wide(x), rank, eps)
    g = wide(g)
    gw = g * parameters[0] if parameters else g
    # with h = c r: dx = r (gw - mean(gw) - h mean(gw h)); both means are taken with the variance's pass over the row
    dx = r * (gw - mean(gw, dims, keepdim=True) - c * (r * r * mean(gw * c, dims, keepdim=True)))
    grads = [g * c * r, g][: len(parameters)]
    return cast(dx, x.dtype), *(cast(sum_(d, lead) if lead else d, x.dtype) for d in grads)


_NORM_SAMPLES = (
    Sample(((3, 5), (5,), (5,)), attrs={"rank": 1, "eps": 1e-5}),
    Sample(((3, 5), (5,)), attrs={"rank": 1, "eps": 1e-5}),
    Sample(((2, 3, 4),), attrs={"rank": 2, "eps": 1e-3}),
    Sample(((2, 3, 4), (3, 4), (3, 4)), attrs={"rank": 2, "eps": 1e-3}),
    Sample(((5,), (5,), (5,)), attrs={"rank": 1, "eps": 1e-5}),
)

LAYER_NORM = register(
    Op(
        name="layer_norm",
        kind="composite",
        infer=_norm_infer("layer_norm"),
        reference=in_f32(_layer_norm_reference),
        vjp=_layer_norm_vjp,
        decompose=parts_in_f32(_layer_norm),
        samples=_NORM_SAMPLES,
        tolerance=4.0,  # a row whose elements are close to each other cancels in x - mean
    )
)


@public(method=False)
def rms_norm(input: Tensor, normalized_shape: Any, weight: Tensor | None = None, eps: float | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) * weight, over the last dims; eps None is the dtype's machine epsilon.

    Source: Zhang and Sennrich (2019), "Root mean square layer normalization".
    """
    x = as_tensor_operand(input, "rms_norm")
    rank = _row_rank("rms_norm", x, normalized_shape)
    eps = float(np.finfo(_wide_numpy(x)).eps) if eps is None else float(eps)
    return apply(RMS_NORM, x, *(() if weight is None else (weight,)), rank=rank, eps=eps)


def _wide_numpy(x: Tensor) -> Any:
    return np.float32 if x.dtype.itemsize == 2 else x.dtype.numpy


def _inverse_rms(x: Tensor, rank: int, eps: float) -> Tensor:
    return rsqrt(mean(x * x, _rows(x, rank), keepdim=True) + eps)


def _rms_norm(x: Tensor, weight: Tensor | None = None, *, rank: int, eps: float) -> Tensor:
    y = x * _inverse_rms(x, rank, eps)
    return y if weight is None else y * weight


def _rms_norm_reference(x: np.ndarray, *weight: np.ndarray, rank: int, eps: float) -> np.ndarray:
    dims = tuple(range(x.ndim - rank, x.ndim))
    y = x / np.sqrt((x * x).mean(dims, keepdims=True) + np.asarray(eps, x.dtype))
    return y * weight[0] if weight else y


def _rms_norm_vjp(g: Tensor, y: Tensor, x: Tensor, *weight: Tensor, rank: int, eps: float) -> tuple[Tensor, ...]:
    lead = tuple(range(x.ndim - rank))
    w, g = wide(x), wide(g)
    r = _inverse_rms(w, rank, eps)
    gw = g * weight[0] if weight else g
    dx = r * (gw - w * (r * r * mean(gw * w, _rows(x, rank), keepdim=True)))
    dw = g * w * r
    return cast(dx, x.dtype), *(cast(sum_(dw, lead) if lead else dw, x.dtype) for _ in weight)


RMS_NORM = register(
    Op(
        name="rms_norm",
        kind="composite",
        infer=_norm_infer("rms_norm"),
        reference=in_f32(_rms_norm_reference),
        vjp=_rms_norm_vjp,
        decompose=parts_in_f32(_rms_norm),
        samples=(
            Sample(((3, 5), (5,)), attrs={"rank": 1, "eps": 1e-5}),
            Sample(((2, 3, 4), (3, 4)), attrs={"rank": 2, "eps": 1e-3}),
            Sample(((3, 5),), attrs={"rank": 1, "eps": 1e-5}),
        ),
    )
)


def _along_channels(p: Tensor, x: Tensor) -> Tensor:
    """A parameter of one element a channel, shaped to broadcast against x[n, c, *s]."""
    return reshape(p, (p.shape[0], *(1,) * (x.ndim - 2)))


def _scale_and_shift(y: Tensor, weight: Tensor | None, bias: Tensor | None) -> Tensor:
    y = y if weight is None else y * _along_channels(weight, y)
    return y if bias is None else y + _along_channels(bias, y)


@public(method=False)
def group_norm(
    input: Tensor, num_groups: int, weight: Tensor | None = None, bias: Tensor | None = None, eps: float = 1e-5
) -> Tensor:
    """Normalises each of `num_groups` groups of channels of x[n, c, *s], then scales and shifts each channel.

    Raises:
        TypeRuleError: x has fewer than two dims, or num_groups does not divide its channels.

    Source: Wu and He (2018), "Group normalization".
    """
    x = as_tensor_operand(input, "group_norm")
    if x.ndim < 2 or x.shape[1] % num_groups != 0:
        raise TypeRuleError(
            f"group_norm needs channels (dim 1) that {num_groups} groups divide, not {x.type_}", user_location()
        )
    rows = reshape(x, (x.shape[0], num_groups, product(x.shape[1:]) // num_groups))
    y = reshape(apply(LAYER_NORM, rows, rank=1, eps=float(eps)), x.shape)
    return _scale_and_shift(y, weight, bias)


@public(method=False)
def instance_norm(
    input: Tensor,
    running_mean: Tensor | None = None,
    running_var: Tensor | None = None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    use_input_stats: bool = True,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """`group_norm` with one channel a group; running statistics are not supported."""
    if running_mean is not None or running_var is not None or not use_input_stats:
        raise ArgumentError("instance_norm supports no running statistics", user_location(), hint="use batch_norm")
    return group_norm(input, as_tensor_operand(input, "instance_norm").shape[1], weight, bias, eps)


@public(method=False)
def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Normalises each channel of x[n, c, *s] over all else.

    Args:
        running_mean, running_var: f[c]. In training they move by `momentum` towards the batch's mean and unbiased
            variance; otherwise they are what x is normalised with.
        training: normalise with the batch's own statistics.

    Raises:
        ArgumentError: training with one value per channel; or neither training nor running statistics.

    Source: Ioffe and Szegedy (2015), "Batch normalization".
    """
    x = as_tensor_operand(input, "batch_norm")
    if x.ndim < 2:
        raise TypeRuleError(f"batch_norm needs channels in dim 1, not {x.type_}", user_location())
    wide_x = wide(x)
    if not training:
        if running_mean is None or running_var is None:
            raise ArgumentError("batch_norm needs running_mean and running_var unless training", user_location())
        centred = wide_x - _along_channels(running_mean, x)
        y = centred * rsqrt(_along_channels(running_var, x) + eps)
        return cast(_scale_and_shift(y, weight, bias), x.dtype)
    dims = (0, *range(2, x.ndim))
    count = product(x.shape[d] for d in dims)
    if isinstance(count, int) and count == 1:
        raise ArgumentError(
            f"Expected more than 1 value per channel when training, got input size {x.shape}", user_location()
        )
    centre = mean(wide_x, dims, keepdim=True)
    centred = wide_x - centre
    variance = mean(centred * centred, dims, keepdim=True)
    _track(running_mean, centre, momentum, 1.0)
    _track(running_var, variance, momentum, count / (count - 1) if isinstance(count, int) else _bessel(count, wide_x))
    return cast(_scale_and_shift(centred * rsqrt(variance + eps), weight, bias), x.dtype)


def _bessel(count: Dim, x: Tensor) -> Tensor:
    from tjit.ops.creation import full

    return full((), count, dtype=x.dtype) / full((), count - 1, dtype=x.dtype)


def _track(running: Tensor | None, value: Tensor, momentum: float, factor: Any) -> None:
    if running is None:
        return
    previous, state.grad = state.grad, False
    try:
        new = running * (1 - momentum) + reshape(value, running.shape) * factor * momentum
        assign(running, cast(new, running.dtype))
    finally:
        state.grad = previous


@public(method=False, function=False)
def normalize(input: Tensor, p: float = 2.0, dim: int = 1, eps: float = 1e-12) -> Tensor:
    """x divided by its p-norm along `dim`, or by `eps` where that is larger."""
    x = as_tensor_operand(input, "normalize")
    return x / maximum(_norm(x, p, dim), eps)


def _norm(x: Tensor, p: float, dim: Any) -> Tensor:
    if p == 2:
        squares = sum_(x * x, dim, keepdim=True)
        # the gradient of a zero row is zero: its square root is taken of the smallest normal number
        return sqrt(maximum(squares, float(np.finfo(_wide_numpy(x)).tiny)))
    if p == 1:
        return sum_(x.abs(), dim, keepdim=True)
    if p == float("inf"):
        return amax(x.abs(), dim, keepdim=True)
    return sum_(x.abs() ** p, dim, keepdim=True) ** (1 / p)


@public(method=False)
def cosine_similarity(x1: Tensor, x2: Tensor, dim: int = 1, eps: float = 1e-8) -> Tensor:
    """The cosine of the angle between x1 and x2 along `dim`; each norm is at least `eps`."""
    a, b = as_tensor_operand(x1, "cosine_similarity"), as_tensor_operand(x2, "cosine_similarity")
    scale = maximum(_norm(a, 2, dim), eps) * maximum(_norm(b, 2, dim), eps)
    return sum_(a * b / scale, dim)


@public(method=False)
def pairwise_distance(x1: Tensor, x2: Tensor, p: float = 2.0, eps: float = 1e-6, keepdim: bool = False) -> Tensor:
    """The p-norm of x1 - x2 + eps along the last dim."""
    d = _norm(as_tensor_operand(x1, "pairwise_distance") - x2 + eps, p, -1)
    return d if keepdim else reshape(d, d.shape[:-1])
