"""Norms of gradients, and parameters as one vector."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tjit.autograd.tape import no_grad
from tjit.errors import TypeRuleError
from tjit.location import user_location
from tjit.ops.creation import zeros
from tjit.ops.elementwise import sqrt
from tjit.ops.extrema import amax
from tjit.ops.join import cat
from tjit.ops.movement import reshape
from tjit.ops.numbers import recorded
from tjit.ops.public import write_into
from tjit.ops.sums import sum as sum_
from tjit.tensor import Tensor

__all__ = [
    "clip_grad_norm_",
    "clip_grad_value_",
    "clip_grads_with_norm_",
    "get_total_norm",
    "parameters_to_vector",
    "vector_to_parameters",
]


def _gradients(parameters: Any) -> list[Tensor]:
    tensors = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    return [p.grad for p in tensors if p.grad is not None]


def get_total_norm(
    tensors: Any, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: Any = None
) -> Tensor:
    """The norm of all elements of all `tensors` together.

    Raises:
        TypeRuleError: it is not finite, while `error_if_nonfinite` and not captured.
    """
    tensors = [tensors] if isinstance(tensors, Tensor) else list(tensors)
    total = _total_norm(tensors, float(norm_type)) if tensors else zeros(())
    if error_if_nonfinite and not total.is_traced and not _is_finite(total):
        raise TypeRuleError(
            f"The total norm of order {norm_type} for gradients from `parameters` is non-finite, "
            "so it cannot be clipped.",
            user_location(),
            hint="set error_if_nonfinite=False",
        )
    return total


def _is_finite(total: Tensor) -> bool:
    value = float(total.array)
    return value - value == 0


def _total_norm(tensors: list[Tensor], p: float) -> Tensor:
    if p == float("inf"):
        total = amax(tensors[0].abs())
        for t in tensors[1:]:
            total = total.maximum(amax(t.abs()))
        return total
    total = _power_sum(tensors[0], p)
    for t in tensors[1:]:
        total = total + _power_sum(t, p)
    return sqrt(total) if p == 2 else total ** (1 / p)


def _power_sum(t: Tensor, p: float) -> Tensor:
    return sum_(t * t) if p == 2 else sum_(t.abs() ** p)


def clip_grads_with_norm_(parameters: Any, max_norm: float, total_norm: Tensor, foreach: Any = None) -> None:
    """Scale all gradients by max_norm / total_norm where that is less than 1."""
    factor = (max_norm / (total_norm + 1e-6)).clamp(max=1.0)
    with no_grad():
        for g in _gradients(parameters):
            write_into(g, g * factor)


def clip_grad_norm_(
    parameters: Any, max_norm: float, norm_type: float = 2.0, error_if_nonfinite: bool = False, foreach: Any = None
) -> Tensor:
    """Scale the gradients so that their norm together is at most `max_norm`; returns the norm before."""
    parameters = [parameters] if isinstance(parameters, Tensor) else list(parameters)
    with no_grad():
        total = get_total_norm(_gradients(parameters), norm_type, error_if_nonfinite)
        clip_grads_with_norm_(parameters, recorded(float, max_norm), total)
    return total


def clip_grad_value_(parameters: Any, clip_value: float, foreach: Any = None) -> None:
    """Limit every element of the gradients of `parameters` to +-clip_value."""
    with no_grad():
        for g in _gradients(parameters):
            write_into(g, g.clamp(min=-float(clip_value), max=float(clip_value)))


def parameters_to_vector(parameters: Iterable[Tensor]) -> Tensor:
    """The elements of all parameters as one vector."""
    return cat([reshape(p, (-1,)) for p in parameters])


def vector_to_parameters(vec: Tensor, parameters: Iterable[Tensor]) -> None:
    """Write the elements of `vec` into the parameters, in order."""
    start = 0
    with no_grad():
        for p in parameters:
            part = vec[start : start + p.numel()]
            write_into(p, reshape(part, p.shape))
            start += p.numel()
