"""The step of Adam and its kin for one parameter."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.dtypes import f64
from tjit.errors import TypeRuleError
from tjit.ir.op import Op, Sample, register
from tjit.ir.types import TensorType
from tjit.ops.apply import apply
from tjit.ops.conversion import cast
from tjit.ops.elementwise import maximum, sqrt
from tjit.ops.records import in_f32, listed, parts_in_f32
from tjit.tensor import Tensor

__all__ = ["adam"]


def adam(
    x: Tensor,
    g: Tensor,
    average: Tensor,
    square: Tensor,
    step_size: Tensor,
    root_rate: Tensor,
    *largest: Tensor,
    betas: tuple[float, float],
    eps: float,
) -> tuple[Tensor, ...]:
    """x - step_size m / (sqrt(v) root_rate + eps), m = b1 average + (1 - b1) g and v = b2 square + (1 - b2) g^2.

    Args:
        x: f[*s].
        betas: b1 and b2.
        g, average, square: x's type: the gradient, and the moving averages of it and of its square.
        step_size: f64[]: the learning rate over m's bias.
        root_rate: f64[]: what takes away the root's bias.
        largest: x's type: the largest v so far, to divide by instead of v (AMSGrad).

    Returns:
        The new x, m and v, and with `largest` the larger of it and v.

    Raises:
        TypeRuleError: tensors that are to have x's type have not, or x is not float.

    Source: Kingma and Ba (2014), "Adam: a method for stochastic optimization", with the order of its section 2 changed;
    Reddi, Kale and Kumar (2018), "On the convergence of Adam and beyond".
    """
    return apply(ADAM, x, g, average, square, step_size, root_rate, *largest, betas=betas, eps=eps)


def _adam_infer(*types: TensorType, betas: tuple[float, float], eps: float) -> tuple[TensorType, ...]:
    x, g, average, square, step_size, root_rate, *largest = types
    like = (g, average, square, *largest)
    if not x.is_float or any(t.dtype is not x.dtype or t.shape != x.shape for t in like):
        raise TypeRuleError(f"adam needs floats of one type, not {listed((x, *like))}")
    if any(t.dtype is not f64 or t.ndim for t in (step_size, root_rate)):
        raise TypeRuleError(f"adam needs rates of type f64[], not {step_size} and {root_rate}")
    return (x, average, square, *largest)


def _adam(*operands: Tensor, betas: tuple[float, float], eps: float) -> tuple[Tensor, ...]:
    x, g, average, square, step_size, root_rate, *largest = operands
    m = average * betas[0] + g * (1 - betas[0])
    v = square * betas[1] + g * g * (1 - betas[1])
    bound = tuple(maximum(before, v) for before in largest)
    root = sqrt(bound[0] if bound else v) * cast(root_rate, x.dtype)
    return (x - m / (root + eps) * cast(step_size, x.dtype), m, v, *bound)


def _adam_reference(*operands: np.ndarray, betas: tuple[float, float], eps: float) -> tuple[Any, ...]:
    x, g, average, square, step_size, root_rate, *largest = operands
    number = x.dtype.type
    m = average * number(betas[0]) + g * number(1 - betas[0])
    v = square * number(betas[1]) + g * g * number(1 - betas[1])
    bound = tuple(np.maximum(before, v) for before in largest)
    root = np.sqrt(bound[0] if bound else v) * number(root_rate)
    return (x - m / (root + number(eps)) * number(step_size), m, v, *bound)


_RATES = {"betas": (0.9, 0.999), "eps": 1e-8}
_RANGES = ((-3.0, 3.0), (-3.0, 3.0), (-1.0, 1.0), (0.5, 2.0), (1e-3, 1e-1), (0.5, 2.0), (0.5, 2.0))
_DTYPES = (None, None, None, None, "f64", "f64", None)

ADAM = register(
    Op(
        name="adam",
        kind="composite",
        infer=_adam_infer,
        reference=in_f32(_adam_reference),
        vjp=None,
        decompose=parts_in_f32(_adam),
        samples=tuple(
            Sample(((shape,) * 4 + ((), ()) + (shape,))[:n], attrs=_RATES, ranges=_RANGES[:n], dtypes=_DTYPES[:n])
            for shape, n in (((3, 5), 6), ((4,), 7), ((), 6))
        ),
    )
)
