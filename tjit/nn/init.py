"""Fill parameters with their first values. Every function ends in `_`, writes its tensor in place and returns it."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from tjit.autograd.tape import no_grad
from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.ops.creation import as_tensor, full_like
from tjit.ops.public import write_into
from tjit.tensor import Tensor

__all__ = [
    "calculate_gain",
    "constant_",
    "eye_",
    "kaiming_normal_",
    "kaiming_uniform_",
    "normal_",
    "ones_",
    "orthogonal_",
    "trunc_normal_",
    "uniform_",
    "xavier_normal_",
    "xavier_uniform_",
    "zeros_",
]


def _write(tensor: Tensor, value: Tensor) -> Tensor:
    with no_grad():
        return write_into(tensor, value)


def uniform_(tensor: Tensor, a: float = 0.0, b: float = 1.0, generator: Any = None) -> Tensor:
    """Values drawn evenly from [a, b)."""
    with no_grad():
        return tensor.uniform_(a, b, generator=generator)


def normal_(tensor: Tensor, mean: float = 0.0, std: float = 1.0, generator: Any = None) -> Tensor:
    """Values drawn from the normal distribution of `mean` and `std`."""
    with no_grad():
        return tensor.normal_(mean, std, generator=generator)


def trunc_normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, a: float = -2.0, b: float = 2.0, generator: Any = None
) -> Tensor:
    """Values drawn from the normal distribution of `mean` and `std` between a and b."""
    from tjit.ops.elementwise import erfinv

    low, high = (math.erf((limit - mean) / std / math.sqrt(2)) for limit in (a, b))
    uniform_(tensor, low, high, generator)
    with no_grad():
        drawn = erfinv(tensor) * (std * math.sqrt(2)) + mean
        return write_into(tensor, drawn.clamp(min=a, max=b))


def constant_(tensor: Tensor, val: float) -> Tensor:
    """`val` in every element."""
    return _write(tensor, full_like(tensor, val))


def ones_(tensor: Tensor) -> Tensor:
    """1 in every element."""
    return constant_(tensor, 1.0)


def zeros_(tensor: Tensor) -> Tensor:
    """0 in every element."""
    return constant_(tensor, 0.0)


def eye_(tensor: Tensor) -> Tensor:
    """The identity matrix."""
    if tensor.ndim != 2:
        raise ArgumentError("Only tensors with 2 dimensions are supported", user_location())
    return _write(tensor, as_tensor(np.eye(*tensor.shape, dtype=tensor.dtype.numpy)))


def _calculate_fan_in_and_fan_out(tensor: Tensor) -> tuple[int, int]:
    if tensor.ndim < 2:
        raise ArgumentError(
            "Fan in and fan out can not be computed for tensor with fewer than 2 dimensions", user_location()
        )
    field = math.prod(tensor.shape[2:])
    return tensor.shape[1] * field, tensor.shape[0] * field


def _calculate_correct_fan(tensor: Tensor, mode: str) -> int:
    modes = ("fan_in", "fan_out")
    if mode.lower() not in modes:
        raise ArgumentError(f"Mode {mode} not supported, please use one of {list(modes)}", user_location())
    return _calculate_fan_in_and_fan_out(tensor)[modes.index(mode.lower())]


_GAINS = {"sigmoid": 1.0, "tanh": 5.0 / 3, "relu": math.sqrt(2.0), "selu": 3.0 / 4, "linear": 1.0}


def calculate_gain(nonlinearity: str, param: float | None = None) -> float:
    """The factor on the standard deviation that suits a nonlinearity.

    Args:
        nonlinearity: linear, conv1d and its like, sigmoid, tanh, relu, leaky_relu or selu.
        param: leaky_relu's slope, 0.01 where it is None.
    """
    if nonlinearity == "leaky_relu":
        return math.sqrt(2.0 / (1 + (0.01 if param is None else param) ** 2))
    if nonlinearity.startswith("conv"):
        return 1.0
    if nonlinearity not in _GAINS:
        raise ArgumentError(f"Unsupported nonlinearity {nonlinearity}", user_location())
    return _GAINS[nonlinearity]


def xavier_uniform_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Uniform values in +-gain * sqrt(6 / (fan_in + fan_out)).

    Source: Glorot and Bengio (2010), "Understanding the difficulty of training deep feedforward neural networks".
    """
    bound = gain * math.sqrt(6.0 / sum(_calculate_fan_in_and_fan_out(tensor)))
    return uniform_(tensor, -bound, bound, generator)


def xavier_normal_(tensor: Tensor, gain: float = 1.0, generator: Any = None) -> Tensor:
    """Normal values of standard deviation gain * sqrt(2 / (fan_in + fan_out))."""
    return normal_(tensor, 0.0, gain * math.sqrt(2.0 / sum(_calculate_fan_in_and_fan_out(tensor))), generator)


def kaiming_uniform_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Uniform values in +-gain * sqrt(3 / fan).

    Args:
        a: the slope of the leaky_relu that follows.

    Source: He et al. (2015), "Delving deep into rectifiers".
    """
    if 0 in tensor.shape:
        return tensor
    bound = calculate_gain(nonlinearity, a) * math.sqrt(3.0 / _calculate_correct_fan(tensor, mode))
    return uniform_(tensor, -bound, bound, generator)


def kaiming_normal_(
    tensor: Tensor, a: float = 0, mode: str = "fan_in", nonlinearity: str = "leaky_relu", generator: Any = None
) -> Tensor:
    """Normal values of standard deviation gain / sqrt(fan)."""
    if 0 in tensor.shape:
        return tensor
    return normal_(
        tensor, 0.0, calculate_gain(nonlinearity, a) / math.sqrt(_calculate_correct_fan(tensor, mode)), generator
    )


def orthogonal_(tensor: Tensor, gain: float = 1, generator: Any = None) -> Tensor:
    """A matrix (of the dims after the first) with orthogonal rows or columns, times `gain`.

    Source: Saxe, McClelland and Ganguli (2013), "Exact solutions to the nonlinear dynamics of learning in
    deep linear networks".
    """
    if tensor.ndim < 2:
        raise ArgumentError("Only tensors with 2 or more dimensions are supported", user_location())
    normal_(tensor, generator=generator)
    rows = tensor.array.reshape(tensor.shape[0], -1).astype(np.float64)
    q, r = np.linalg.qr(rows if rows.shape[0] >= rows.shape[1] else rows.T)
    q = q * np.sign(np.diag(r))
    q = q if rows.shape[0] >= rows.shape[1] else q.T
    return _write(tensor, as_tensor((gain * q).reshape(tensor.shape).astype(tensor.dtype.numpy)))
