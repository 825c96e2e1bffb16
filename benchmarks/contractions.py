"""Rows of matrix products, with what surrounds them; products alone beside PyTorch and NumPy as a table of their own:
`python -m benchmarks.contractions`.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import numpy as np

from benchmarks.elementwise import gelu_reference
from benchmarks.reductions import softmax_reference
from benchmarks.rows import Compile, Floor, Row, by_inputs, normals, numba_loops, shared

__all__ = ["ROWS", "SWEPT"]


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


# -- causal attention with its gradients -------------------------------------------------------------------------------


def causal_reference(q: Any, k: Any, v: Any, dy: Any) -> Any:
    scale = 1 / math.sqrt(q.shape[3])
    hidden = np.triu(np.full((q.shape[2], k.shape[2]), -np.inf), 1)
    scores = q @ k.swapaxes(2, 3) * scale + hidden
    p = softmax_reference(scores.reshape(-1, scores.shape[3])).reshape(scores.shape)
    dp = dy @ v.swapaxes(2, 3)
    ds = p * (dp - (dp * p).sum(3, keepdims=True)) * scale
    return p @ v, ds @ k, ds.swapaxes(2, 3) @ q, p.swapaxes(2, 3) @ dy


def causal_tjit(compile: Compile) -> Any:
    import tjit

    def attention(q: Any, k: Any, v: Any, dy: Any) -> Any:
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        y = tjit.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        return y.detach(), *tjit.autograd.grad(y, (q, k, v), dy)

    return compile(attention)


def causal_torch(compile: Compile) -> Any:
    import torch

    @compile
    def forward(q: Any, k: Any, v: Any) -> Any:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, is_causal=True)

    def attention(q: Any, k: Any, v: Any, dy: Any) -> Any:
        q, k, v = (x.detach().requires_grad_() for x in (q, k, v))
        y = forward(q, k, v)
        return y.detach(), *torch.autograd.grad(y, (q, k, v), dy)

    return attention


def causal_jax(compile: Compile) -> Any:
    import jax
    import jax.numpy as jnp

    def forward(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(-2, -1) / math.sqrt(q.shape[-1])
        return jax.nn.softmax(jnp.where(jnp.tril(jnp.ones(scores.shape[-2:], bool)), scores, -jnp.inf)) @ v

    def attention(q: Any, k: Any, v: Any, dy: Any) -> Any:
        y, back = jax.vjp(forward, q, k, v)
        return y, *back(dy)

    return compile(attention)


# -- one product -------------------------------------------------------------------------------------------------------


def product(compile: Compile) -> Any:
    def matmul(a: Any, b: Any) -> Any:
        return a @ b

    return compile(matmul)


def product_row(m: int, n: int, k: int) -> Row:
    name = f"{m} cubed" if m == n == k else f"{m} x {k} x {n}"
    return Row(
        f"matmul {name}",
        normals([m, k], [k, n]),
        lambda a, b: a @ b,
        {**shared(lambda _: product(lambda fn: fn)), **by_inputs(jax=product, numpy=product), **numba_loops("product")},
        Floor("multiply-adds, or memory", flops=2 * m * n * k, streamed=4 * (m * k + k * n + m * n)),
        quick=m == 1024,
    )


HEADS = [4, 12, 256, 64]
SWEPT = [product_row(*sizes) for sizes in ((256,) * 3, (512,) * 3, (1024,) * 3, (2048,) * 3, (333, 555, 777))]

ROWS = [
    Row(
        "matmul 512 x 768 x 3072 + bias + gelu",
        normals([512, 768], [768, 3072], [3072]),
        dense_reference,
        {**by_inputs(tjit=dense_tjit, torch=dense_torch, jax=dense_jax), **numba_loops("dense_gelu")},
        Floor("multiply-adds of the product", flops=2 * 512 * 768 * 3072),
    ),
    Row(
        "matmul chain (1000x10)(10x1000)(1000x10)",
        normals([1000, 10], [10, 1000], [1000, 10]),
        lambda a, b, c: a @ (b @ c),
        {
            **by_inputs(tjit=product_chain, torch=product_chain, jax=product_chain, numpy=product_chain_numpy),
            **numba_loops("product_chain"),
        },
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
        {**by_inputs(tjit=attention_tjit, torch=attention_torch, jax=attention_jax), **numba_loops("attention")},
        Floor("multiply-adds of both products", flops=2 * 2 * 4 * 12 * 256 * 256 * 64),
    ),
    Row(
        "causal attention 4 x 12 x 256 x 64: output and gradients",
        normals(HEADS, HEADS, HEADS, HEADS),
        causal_reference,
        {**by_inputs(tjit=causal_tjit, torch=causal_torch, jax=causal_jax), **numba_loops("causal_attention")},
        Floor("multiply-adds of seven products, half of each hidden", flops=7 * 4 * 12 * 256 * 256 * 64),
        tolerance=2e-5,
    ),
    *SWEPT,
]

if __name__ == "__main__":
    from benchmarks.sweep import sweep

    sys.exit(sweep("contractions", __doc__, SWEPT, ("torch", "numpy")))
