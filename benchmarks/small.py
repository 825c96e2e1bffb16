"""Rows whose cost is the call."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.networks import network
from benchmarks.rows import Arrays, Compile, Factory, Floor, Row, by_inputs, extent, normals, numba_loops

__all__ = ["ROWS"]


def add(compile: Compile) -> Any:
    def add(x: Any, y: Any) -> Any:
        return x + y

    return compile(add)


def on_numpy_arrays(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    return add(compile), tuple(x.numpy() for x in inputs)


def mlp_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    x, _, *parameters = network(rng, 1, [extent(d, scale) for d in (32, 64, 8)])
    return x, *parameters


def mlp_reference(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    return np.maximum(x @ w1 + b1, 0) @ w2 + b2


def mlp_tjit(compile: Compile) -> Any:
    import tjit

    def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        return tjit.relu(x @ w1 + b1) @ w2 + b2

    return compile(mlp)


def mlp_torch(compile: Compile) -> Any:
    import torch

    def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        return torch.relu(x @ w1 + b1) @ w2 + b2

    return compile(mlp)


def mlp_jax(compile: Compile) -> Any:
    import jax

    def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
        return jax.nn.relu(x @ w1 + b1) @ w2 + b2

    return compile(mlp)


def mlp_numpy(compile: Compile) -> Any:
    return compile(mlp_reference)


ADD_ARRAYS: dict[str, Factory] = {"tjit": on_numpy_arrays, **by_inputs(numpy=add), **numba_loops("add")}

ROWS = [
    Row(
        "x + y of 8 elements",
        normals([8], [8]),
        lambda x, y: x + y,
        by_inputs(tjit=add, torch=add, jax=add),
        Floor("a native call and a result object", us=0.1),
    ),
    Row(
        "x + y of 8 elements, NumPy arrays",
        normals([8], [8]),
        lambda x, y: x + y,
        ADD_ARRAYS,
        Floor("a native call and a result object", us=0.1),
    ),
    Row(
        "MLP 32-64-8, batch 1",
        mlp_inputs,
        mlp_reference,
        {**by_inputs(tjit=mlp_tjit, torch=mlp_torch, jax=mlp_jax, numpy=mlp_numpy), **numba_loops("mlp")},
        Floor("10 kB of weights at a cache line a cycle, and the call", us=0.15),
    ),
]
