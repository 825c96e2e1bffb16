"""Rows of matrix products, with what surrounds them."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from benchmarks.elementwise import gelu_reference
from benchmarks.reductions import softmax_reference
from benchmarks.rows import Compile, Floor, Row, by_inputs, normals

__all__ = ["ROWS"]


# -- matmul, bias, gelu ------------------------------------------------------------------------------------------------


def dense_reference(x: Any, w: Any, b: Any) -> Any:
    return gelu_reference(x @ w + b)


def dense_tjit(compile: Compile) -> Any:
    from tjit.nn.functional import gelu

    def dense(x: Any, w: Any, b: Any) -> Any:
        return gelu(x @ w + b, approximate="tanh")

    return compile(dense)


def dense_torch(compile: Compile) -> Any:
    from torch.nn.functional import gelu

    def dense(x: Any, w: Any, b: Any) -> Any:
        return gelu(x @ w + b, approximate="tanh")

    return compile(dense)


def dense_jax(compile: Compile) -> Any:
    import jax

    def dense(x: Any, w: Any, b: Any) -> Any:
        return jax.nn.gelu(x @ w + b, approximate=True)

    return compile(dense)


# -- a chain -----------------------------------------------------------------------------------------------------------


def product_chain(compile: Compile) -> Any:
    def chain(a: Any, b: Any, c: Any) -> Any:
        return a @ b @ c

    return compile(chain)


def product_chain_numpy(compile: Compile) -> Any:
    def chain(a: Any, b: Any, c: Any) -> Any:
        return np.linalg.multi_dot([a, b, c])  # a NumPy user has this; it chooses the order

    return compile(chain)


# -- attention, the plain formula --------------------------------------------------------------------------------------


def attention_reference(q: Any, k: Any, v: Any) -> Any:
    scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[3])
    rows = softmax_reference(scores.reshape(-1, scores.shape[3])).reshape(scores.shape)
    return rows @ v


def attention_tjit(compile: Compile) -> Any:
    import tjit

    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return tjit.softmax(scores, dim=-1) @ v

    return compile(attention)


def attention_torch(compile: Compile) -> Any:
    import torch

    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.transpose(-2, -1) / math.sqrt(q.shape[-1])
        return torch.softmax(scores, dim=-1) @ v

    return compile(attention)


def attention_jax(compile: Compile) -> Any:
    import jax

    def attention(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-2, -1) / math.sqrt(q.shape[-1])
        return jax.nn.softmax(scores, axis=-1) @ v

    return compile(attention)


HEADS = [4, 12, 256, 64]

ROWS = [
    Row(
        "matmul 512 x 768 x 3072 + bias + gelu",
        normals([512, 768], [768, 3072], [3072]),
        dense_reference,
        by_inputs(tjit=dense_tjit, torch=dense_torch, jax=dense_jax),
        Floor("multiply-adds of the product", flops=2 * 512 * 768 * 3072),
    ),
    Row(
        "matmul chain (1000x10)(10x1000)(1000x10)",
        normals([1000, 10], [10, 1000], [1000, 10]),
        lambda a, b, c: a @ (b @ c),
        by_inputs(tjit=product_chain, torch=product_chain, jax=product_chain, numpy=product_chain_numpy),
        Floor(
            "multiply-adds of the two small products of a (b c), ten columns in sixteen lanes, on one core",
            flops=2 * 2 * 1000 * 10 * 16,
            one_core=True,
        ),
    ),
    Row(
        "attention 4 x 12 x 256 x 64",
        normals(HEADS, HEADS, HEADS),
        attention_reference,
        by_inputs(tjit=attention_tjit, torch=attention_torch, jax=attention_jax),
        Floor("multiply-adds of both products", flops=2 * 2 * 4 * 12 * 256 * 256 * 64),
    ),
]
