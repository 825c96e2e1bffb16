"""The models of models.py as jax users write them: functions of a list of parameters, in the order of the modules'."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

__all__ = ["adam", "bottleneck", "cross_entropy", "gpt", "lenet", "lstm", "sgd", "vgg16"]

Model = Callable[[Sequence[Any], Any], Any]


def _conv(x: Any, w: Any, padding: int = 0) -> Any:
    from jax import lax

    return lax.conv_general_dilated(x, w, (1, 1), ((padding, padding),) * 2)


def _pool(x: Any) -> Any:
    import jax.numpy as jnp
    from jax import lax

    return lax.reduce_window(x, -jnp.inf, lax.max, (1, 1, 2, 2), (1, 1, 2, 2), "VALID")


def lenet(p: Sequence[Any], x: Any) -> Any:
    from jax.nn import relu

    x = _pool(relu(_conv(x, p[0], 2) + p[1][:, None, None]))
    x = _pool(relu(_conv(x, p[2]) + p[3][:, None, None]))
    x = relu(x.reshape(len(x), -1) @ p[4].T + p[5])
    return relu(x @ p[6].T + p[7]) @ p[8].T + p[9]


def vgg16(p: Sequence[Any], x: Any) -> Any:
    from jax.nn import relu

    at = 0
    for convolutions in (2, 2, 3, 3, 3):
        for _ in range(convolutions):
            x = relu(_conv(x, p[at], 1) + p[at + 1][:, None, None])
            at += 2
        x = _pool(x)
    x = relu(x.reshape(len(x), -1) @ p[at].T + p[at + 1])
    return relu(x @ p[at + 2].T + p[at + 3]) @ p[at + 4].T + p[at + 5]


def bottleneck(p: Sequence[Any], x: Any) -> Any:
    """With the statistics that a new batch norm has: mean 0, variance 1."""
    from jax.nn import relu

    def normalize(y: Any, weight: Any, bias: Any) -> Any:
        return y * (weight / math.sqrt(1 + 1e-5))[:, None, None] + bias[:, None, None]

    y = relu(normalize(_conv(x, p[0]), p[1], p[2]))
    y = relu(normalize(_conv(y, p[3], 1), p[4], p[5]))
    return relu(x + normalize(_conv(y, p[6]), p[7], p[8]))


def _layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    from jax import lax

    centred = x - x.mean(-1, keepdims=True)
    return centred * lax.rsqrt((centred * centred).mean(-1, keepdims=True) + 1e-5) * weight + bias


def gpt(heads: int) -> Model:
    import jax
    import jax.numpy as jnp

    def attend(q: Any, k: Any, v: Any) -> Any:
        scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])
        visible = jnp.tril(jnp.ones(scores.shape[-2:], bool))
        return jax.nn.softmax(jnp.where(visible, scores, -jnp.inf)) @ v

    def block(p: Sequence[Any], x: Any) -> Any:
        norm1, bias1, norm2, bias2, qkv, qkv_bias, out, out_bias, up, up_bias, down, down_bias = p
        b, t, width = x.shape
        mixed = _layer_norm(x, norm1, bias1) @ qkv.T + qkv_bias
        q, k, v = mixed.reshape(b, t, 3, heads, width // heads).transpose(2, 0, 3, 1, 4)
        x = x + attend(q, k, v).transpose(0, 2, 1, 3).reshape(b, t, width) @ out.T + out_bias
        hidden = jax.nn.gelu(_layer_norm(x, norm2, bias2) @ up.T + up_bias, approximate=True)
        return x + hidden @ down.T + down_bias

    def model(p: Sequence[Any], tokens: Any) -> Any:
        x = p[0][tokens] + p[1][: tokens.shape[1]]
        for first in range(2, len(p) - 3, 12):
            x = block(p[first : first + 12], x)
        return _layer_norm(x, p[-3], p[-2]) @ p[-1].T

    return model


def lstm(p: Sequence[Any], x: Any) -> Any:
    import jax
    import jax.numpy as jnp

    w, u, b, v = p

    def cell(state: Any, row: Any) -> Any:
        h, c = state
        i, f, g, o = jnp.split(row @ w + h @ u + b, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return (jax.nn.sigmoid(o) * jnp.tanh(c), c), None

    zeros = jnp.zeros((x.shape[1], u.shape[0]), x.dtype)
    return jax.lax.scan(cell, (zeros, zeros), x)[0][0] @ v


# -- loss and optimizers -----------------------------------------------------------------------------------------------


def cross_entropy(logits: Any, labels: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[..., None], axis=-1).mean()


def sgd(rate: float) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(init, update) of gradient descent."""

    def update(weights: Any, state: Any, gradients: Any) -> Any:
        return [w - rate * g for w, g in zip(weights, gradients, strict=True)], state

    return lambda weights: [], update


def adam(rate: float, decay: float = 0) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """(init, update) of Adam; with decay AdamW."""
    import jax.numpy as jnp

    def init(weights: Any) -> Any:
        return jnp.zeros(()), [jnp.zeros_like(w) for w in weights], [jnp.zeros_like(w) for w in weights]

    def update(weights: Any, state: Any, gradients: Any) -> Any:
        t, means, squares = state
        t = t + 1
        means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
        squares = [0.999 * v + 0.001 * g * g for v, g in zip(squares, gradients, strict=True)]
        step, root = rate / (1 - 0.9**t), jnp.sqrt(1 - 0.999**t)
        moved = [
            w * (1 - rate * decay) - step * m / (jnp.sqrt(v) / root + 1e-8)
            for w, m, v in zip(weights, means, squares, strict=True)
        ]
        return moved, (t, means, squares)

    return init, update
