"""Rows of reductions, and of what is one kernel with them."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks.rows import Arrays, Compile, Floor, Row, by_inputs, extent, normal, numba_loops, shared

__all__ = ["ROWS"]

EPSILON = 1e-5


# -- softmax -----------------------------------------------------------------------------------------------------------


def softmax_reference(x: Any) -> Any:
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)


def softmax_tjit(compile: Compile) -> Any:
    import tjit

    def softmax(x: Any) -> Any:
        return tjit.softmax(x, dim=1)

    return compile(softmax)


def softmax_torch(compile: Compile) -> Any:
    import torch

    def softmax(x: Any) -> Any:
        return torch.softmax(x, dim=1)

    return compile(softmax)


def softmax_jax(compile: Compile) -> Any:
    import jax

    def softmax(x: Any) -> Any:
        return jax.nn.softmax(x, axis=1)

    return compile(softmax)


def softmax_numpy(compile: Compile) -> Any:
    return compile(softmax_reference)


# -- layer norm --------------------------------------------------------------------------------------------------------


def layer_norm_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    rows, width = extent(5000, scale), extent(768, scale)
    x = rng.standard_normal((rows, width), np.float32)
    return x, rng.standard_normal(width, np.float32), rng.standard_normal(width, np.float32)


def layer_norm_reference(x: Any, weight: Any, bias: Any) -> Any:
    centred = x - x.mean(axis=1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=1, keepdims=True) + EPSILON) * weight + bias


def layer_norm_tjit(compile: Compile) -> Any:
    from tjit.nn.functional import layer_norm

    def normalize(x: Any, weight: Any, bias: Any) -> Any:
        return layer_norm(x, x.shape[-1:], weight, bias, EPSILON)

    return compile(normalize)


def layer_norm_torch(compile: Compile) -> Any:
    from torch.nn.functional import layer_norm

    def normalize(x: Any, weight: Any, bias: Any) -> Any:
        return layer_norm(x, x.shape[-1:], weight, bias, EPSILON)

    return compile(normalize)


def layer_norm_jax(compile: Compile) -> Any:
    import jax

    def normalize(x: Any, weight: Any, bias: Any) -> Any:
        mean = x.mean(axis=-1, keepdims=True)
        variance = x.var(axis=-1, keepdims=True)
        return (x - mean) * jax.lax.rsqrt(variance + EPSILON) * weight + bias

    return compile(normalize)


# -- sum over columns --------------------------------------------------------------------------------------------------


def column_sum(compile: Compile) -> Any:
    def sums(x: Any) -> Any:
        return x.sum(0)

    return compile(sums)


# -- cumulative sum ----------------------------------------------------------------------------------------------------


def cumulative_sum(framework: Any) -> Any:
    def cumulate(x: Any) -> Any:
        return framework.cumsum(x, 1)

    return cumulate


def cumulative_sum_jax(compile: Compile) -> Any:
    import jax.numpy as jnp

    return compile(cumulative_sum(jnp))


def cumulative_sum_numpy(compile: Compile) -> Any:
    return compile(cumulative_sum(np))


# -- embedding ---------------------------------------------------------------------------------------------------------


def embedding_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    rows, width, tokens = extent(50_000, scale), extent(256, scale), extent(8192, scale)
    table = rng.standard_normal((rows, width), np.float32)
    return table, rng.integers(0, rows, tokens)


def embed(framework: Any) -> Any:
    def rows(table: Any, tokens: Any) -> Any:
        return framework.nn.functional.embedding(tokens, table)

    return rows


def additions(rng: np.random.Generator, scale: float) -> Arrays:
    rows, count, width = extent(5000, scale), extent(100_000, scale), extent(64, scale)
    target, source = rng.standard_normal((rows, width), np.float32), rng.standard_normal((count, width), np.float32)
    return target, rng.integers(0, rows, count), source


def add_rows_reference(target: Any, index: Any, source: Any) -> Any:
    out = target.copy()
    np.add.at(out, index, source)
    return out


def add_rows(framework: Any) -> Any:
    def added(target: Any, index: Any, source: Any) -> Any:
        return framework.index_add(target, 0, index, source)

    return added


def add_rows_jax(compile: Compile) -> Any:
    def added(target: Any, index: Any, source: Any) -> Any:
        return target.at[index].add(source)

    return compile(added)


def take_rows(compile: Compile) -> Any:
    def rows(table: Any, tokens: Any) -> Any:
        return table[tokens]

    return compile(rows)


ROWS = [
    Row(
        "softmax 3000 x 1000",
        normal(3000, 1000),
        softmax_reference,
        {
            **by_inputs(tjit=softmax_tjit, torch=softmax_torch, jax=softmax_jax, numpy=softmax_numpy),
            **numba_loops("softmax"),
        },
        Floor("memory: x and the output", streamed=24e6),
    ),
    Row(
        "layer norm 5000 x 768",
        layer_norm_inputs,
        layer_norm_reference,
        {
            **by_inputs(tjit=layer_norm_tjit, torch=layer_norm_torch, jax=layer_norm_jax),
            **numba_loops("layer_norm"),
        },
        Floor("memory: x and the output", streamed=30.72e6),
    ),
    Row(
        "sum over columns 3000 x 4000",
        normal(3000, 4000),
        lambda x: x.sum(0),
        {
            **by_inputs(tjit=column_sum, torch=column_sum, jax=column_sum, numpy=column_sum),
            **numba_loops("column_sum"),
        },
        Floor("memory: x is read", read=48e6),
    ),
    Row(
        "cumulative sum 2000 x 2000",
        normal(2000, 2000),
        lambda x: x.cumsum(1),
        {
            **shared(cumulative_sum),
            **by_inputs(jax=cumulative_sum_jax, numpy=cumulative_sum_numpy),
            **numba_loops("cumulate"),
        },
        Floor("memory: x and the output", streamed=32e6),
        tolerance=2e-5,
    ),
    Row(
        "embedding, 8192 of 50,000 x 256",
        embedding_inputs,
        lambda table, tokens: table[tokens],
        {**shared(embed), **by_inputs(jax=take_rows, numpy=take_rows), **numba_loops("embed")},
        Floor("memory: the rows and the output", streamed=2 * 4 * 8192 * 256),
    ),
    Row(
        "index_add of 100,000 rows to 5,000 x 64",
        additions,
        add_rows_reference,
        {**shared(add_rows), **by_inputs(jax=add_rows_jax), **numba_loops("add_rows")},
        Floor("memory: the rows, and the target read and written", streamed=4 * 64 * (100_000 + 3 * 5000)),
        quick=False,
    ),
]
