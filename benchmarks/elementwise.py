"""Rows of elementwise work: in cache and out of it, cheap and dear."""

from __future__ import annotations

import math
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np

from benchmarks.rows import Arrays, Compile, Floor, Row, by_inputs, extent, normal, normals, numba_loops, shared

__all__ = ["ROWS"]

GELU_SLOTS = 21  # multiply-adds an element: 3 for the cubic, 11 for a rational tanh, 5 for its division, 2 for the rest
RATE, VOLATILITY = 0.02, 0.3


# -- gelu, tanh form ---------------------------------------------------------------------------------------------------


def gelu_reference(x: Any) -> Any:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


def gelu_tjit(compile: Compile) -> Any:
    from tjit.nn.functional import gelu

    def gelu_tanh(x: Any) -> Any:
        return gelu(x, approximate="tanh")

    return compile(gelu_tanh)


def gelu_torch(compile: Compile) -> Any:
    from torch.nn.functional import gelu

    def gelu_tanh(x: Any) -> Any:
        return gelu(x, approximate="tanh")

    return compile(gelu_tanh)


def gelu_jax(compile: Compile) -> Any:
    import jax

    def gelu_tanh(x: Any) -> Any:
        return jax.nn.gelu(x, approximate=True)

    return compile(gelu_tanh)


def gelu_numpy(compile: Compile) -> Any:
    root = np.float32(math.sqrt(2 / math.pi))

    def gelu_tanh(x: Any) -> Any:
        return np.float32(0.5) * x * (1 + np.tanh(root * (x + np.float32(0.044715) * x * x * x)))

    return compile(gelu_tanh)


GELU = {
    **by_inputs(tjit=gelu_tjit, torch=gelu_torch, jax=gelu_jax, numpy=gelu_numpy),
    **numba_loops("gelu"),
}


# -- relu(2x + y) y - x ------------------------------------------------------------------------------------------------


def relu_reference(x: Any, y: Any) -> Any:
    return np.maximum(2 * x + y, 0) * y - x


def relu_tjit(compile: Compile) -> Any:
    import tjit

    def chain(x: Any, y: Any) -> Any:
        return tjit.relu(2 * x + y) * y - x

    return compile(chain)


def relu_torch(compile: Compile) -> Any:
    import torch

    def chain(x: Any, y: Any) -> Any:
        return torch.relu(2 * x + y) * y - x

    return compile(chain)


def relu_jax(compile: Compile) -> Any:
    import jax

    def chain(x: Any, y: Any) -> Any:
        return jax.nn.relu(2 * x + y) * y - x

    return compile(chain)


def relu_numpy(compile: Compile) -> Any:
    return compile(relu_reference)


# -- Black-Scholes -----------------------------------------------------------------------------------------------------


def options(rng: np.random.Generator, scale: float) -> Arrays:
    """Spot prices, strikes and years to expiry."""
    n = extent(1_200_000, scale)
    return tuple(rng.uniform(low, high, n).astype(np.float32) for low, high in ((10, 50), (10, 50), (1, 2)))


def black_scholes_reference(spot: Any, strike: Any, years: Any) -> Any:
    erf = np.vectorize(math.erf, otypes=[np.float64])
    d1 = (np.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / (VOLATILITY * np.sqrt(years))
    d2 = d1 - VOLATILITY * np.sqrt(years)
    n1, n2 = (0.5 + 0.5 * erf(d * math.sqrt(0.5)) for d in (d1, d2))
    discounted = strike * np.exp(-RATE * years)
    call = spot * n1 - discounted * n2
    return call, call - spot + discounted


def black_scholes_tjit(compile: Compile) -> Any:
    import tjit

    def black_scholes(spot: Any, strike: Any, years: Any) -> Any:
        deviation = VOLATILITY * tjit.sqrt(years)
        d1 = (tjit.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / deviation
        d2 = d1 - deviation
        n1 = 0.5 + 0.5 * tjit.erf(d1 * math.sqrt(0.5))
        n2 = 0.5 + 0.5 * tjit.erf(d2 * math.sqrt(0.5))
        discounted = strike * tjit.exp(-RATE * years)
        call = spot * n1 - discounted * n2
        return call, call - spot + discounted

    return compile(black_scholes)


def black_scholes_torch(compile: Compile) -> Any:
    import torch

    def black_scholes(spot: Any, strike: Any, years: Any) -> Any:
        deviation = VOLATILITY * torch.sqrt(years)
        d1 = (torch.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / deviation
        d2 = d1 - deviation
        n1 = 0.5 + 0.5 * torch.erf(d1 * math.sqrt(0.5))
        n2 = 0.5 + 0.5 * torch.erf(d2 * math.sqrt(0.5))
        discounted = strike * torch.exp(-RATE * years)
        call = spot * n1 - discounted * n2
        return call, call - spot + discounted

    return compile(black_scholes)


def black_scholes_jax(compile: Compile) -> Any:
    import jax.numpy as jnp
    from jax.lax import erf

    def black_scholes(spot: Any, strike: Any, years: Any) -> Any:
        deviation = VOLATILITY * jnp.sqrt(years)
        d1 = (jnp.log(spot / strike) + (RATE + VOLATILITY**2 / 2) * years) / deviation
        d2 = d1 - deviation
        n1 = 0.5 + 0.5 * erf(d1 * math.sqrt(0.5))
        n2 = 0.5 + 0.5 * erf(d2 * math.sqrt(0.5))
        discounted = strike * jnp.exp(-RATE * years)
        call = spot * n1 - discounted * n2
        return call, call - spot + discounted

    return compile(black_scholes)


# -- x.T 2 + y ---------------------------------------------------------------------------------------------------------


def transposed(compile: Compile) -> Any:
    def transposed_add(x: Any, y: Any) -> Any:
        return x.T * 2 + y

    return compile(transposed_add)


# -- rows shorter than a vector, and places beyond the edge ------------------------------------------------------------


def everywhere(write: Callable[[Any], Callable[..., Any]]) -> dict[str, Any]:
    """Factories of a function that reads the same in all array libraries: `write` is given the library's module."""

    def factory(name: str) -> Callable[[Compile], Any]:
        return lambda compile: compile(write(import_module(name)))

    return {**shared(write), **by_inputs(jax=factory("jax.numpy"), numpy=factory("numpy"))}


def scaled_rows(library: Any) -> Any:
    def scale_rows(x: Any, y: Any) -> Any:
        return x * y[:, None]

    return scale_rows


def point_pairs(library: Any) -> Any:
    def differences(x: Any) -> Any:
        return x[:, None, :] - x[None, :, :]

    return differences


def torus(library: Any) -> Any:
    def neighbours(x: Any) -> Any:
        down, up = library.roll(x, 1, 0), library.roll(x, -1, 0)
        return down + up + library.roll(x, 1, 1) + library.roll(x, -1, 1) - 4 * x

    return neighbours


ROWS = [
    Row(
        "gelu of 1 M",
        normal(1_000_000),
        gelu_reference,
        GELU,
        Floor("arithmetic: 21 multiply-adds an element", flops=2e6 * GELU_SLOTS),
    ),
    Row(
        "gelu of 12 M",
        normal(12_000_000),
        gelu_reference,
        GELU,
        Floor("memory, x and the output; or arithmetic as above", streamed=96e6, flops=24e6 * GELU_SLOTS),
    ),
    Row(
        "relu(2x + y) y - x of 12 M",
        normals([12_000_000], [12_000_000]),
        relu_reference,
        {
            **by_inputs(tjit=relu_tjit, torch=relu_torch, jax=relu_jax, numpy=relu_numpy),
            **numba_loops("relu_chain"),
        },
        Floor("memory: x, y and the output", streamed=144e6),
    ),
    Row(
        "Black-Scholes of 1.2 M",
        options,
        black_scholes_reference,
        {
            **by_inputs(tjit=black_scholes_tjit, torch=black_scholes_torch, jax=black_scholes_jax),
            **numba_loops("black_scholes"),
        },
        Floor("memory: three inputs, two outputs", streamed=24e6),
    ),
    Row(
        "x.T 2 + y, 2000 x 2000",
        normals([2000, 2000], [2000, 2000]),
        lambda x, y: x.T * 2 + y,
        {
            **by_inputs(tjit=transposed, torch=transposed, jax=transposed, numpy=transposed),
            **numba_loops("transposed_add"),
        },
        Floor("memory: x, y and the output", streamed=48e6),
    ),
    Row(
        "x y, 300,001 x 3 and a column",
        normals([300_001, 3], [300_001]),
        scaled_rows(np),
        {**everywhere(scaled_rows), **numba_loops("scale_rows")},
        Floor("memory: x, y and the output", streamed=4 * 300_001 * 7),
        quick=False,
    ),
    Row(
        "differences of 700 points with each other",
        normals([700, 3]),
        point_pairs(np),
        {**everywhere(point_pairs), **numba_loops("differences")},
        Floor("memory: the output", streamed=4 * 700 * 700 * 3),
        quick=False,
    ),
    Row(
        "neighbours on a torus of 1000 x 1000",
        normals([1000, 1000]),
        torus(np),
        {**everywhere(torus), **numba_loops("neighbours")},
        Floor("memory: x and the output", streamed=8e6),
        quick=False,
    ),
]
