"""The rows as one writes them for Numba: loops fused by hand, `prange` over what is independent, products by BLAS.

Functions take and give C-contiguous f32 arrays. Where there is a product, only BLAS has threads: its pool and Numba's
spin against each other, which costs ten times what `prange` saves. Gradients are written out where that is short:
there are no training steps of the larger models.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numba import get_num_threads, prange
from numba.extending import register_jitable

__all__ = [
    "adam", "add", "add_rows", "attention", "black_scholes", "causal_attention", "column_sum", "convolve_relu",
    "cumulate", "dense_gelu", "differences", "digits_step", "embed", "gelu", "layer_norm", "lenet", "lstm", "max_pool",
    "mlp", "mlp_gradients", "neighbours", "product", "product_chain", "relu_chain", "scale_rows", "softmax",
    "transposed_add",
]  # fmt: skip

ZERO, HALF, ONE, TWO, FOUR = (np.float32(x) for x in (0, 0.5, 1, 2, 4))
CUBIC, GELU_SLOPE = np.float32(0.044715), np.float32(-2 * math.sqrt(2 / math.pi))
RATE, VOLATILITY = np.float32(0.02), np.float32(0.3)
DRIFT, ROOT_HALF = np.float32(0.02 + 0.3**2 / 2), np.float32(math.sqrt(0.5))
EPSILON, LARGE = np.float32(1e-5), np.float32(80)
TILE = 32


# -- elementwise -------------------------------------------------------------------------------------------------------


@register_jitable
def _gelu(x: Any) -> Any:
    # (1 + tanh u) / 2 = 1 / (1 + exp(-2 u)); fastmath's division knows no infinity
    return x / (ONE + np.exp(min(GELU_SLOPE * (x + CUBIC * x * x * x), LARGE)))


@register_jitable
def _sigmoid(x: Any) -> Any:
    return ONE / (ONE + np.exp(-x))


def gelu(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = _gelu(x[i])
    return out


def relu_chain(x: Any, y: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.size):
        out[i] = max(TWO * x[i] + y[i], ZERO) * y[i] - x[i]
    return out


def black_scholes(spot: Any, strike: Any, years: Any) -> Any:
    calls, puts = np.empty_like(spot), np.empty_like(spot)
    for i in prange(spot.size):
        s, k, t = spot[i], strike[i], years[i]
        deviation = VOLATILITY * np.sqrt(t)
        d1 = (np.log(s / k) + DRIFT * t) / deviation
        n1 = HALF + HALF * np.float32(math.erf(d1 * ROOT_HALF))
        n2 = HALF + HALF * np.float32(math.erf((d1 - deviation) * ROOT_HALF))
        discounted = k * np.exp(-RATE * t)
        call = s * n1 - discounted * n2
        calls[i] = call
        puts[i] = call - s + discounted
    return calls, puts


def transposed_add(x: Any, y: Any) -> Any:
    out = np.empty_like(y)
    rows, columns = y.shape
    for tile in prange((rows + TILE - 1) // TILE):
        for first in range(0, columns, TILE):
            for i in range(tile * TILE, min(rows, tile * TILE + TILE)):
                for j in range(first, min(columns, first + TILE)):
                    out[i, j] = x[j, i] * TWO + y[i, j]
    return out


def scale_rows(x: Any, y: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        for j in range(x.shape[1]):
            out[i, j] = x[i, j] * y[i]
    return out


def differences(x: Any) -> Any:
    n, width = x.shape
    out = np.empty((n, n, width), x.dtype)
    for i in prange(n):
        for j in range(n):
            for k in range(width):
                out[i, j, k] = x[i, k] - x[j, k]
    return out


def neighbours(x: Any) -> Any:
    rows, columns = x.shape
    out = np.empty_like(x)
    for i in prange(rows):
        up, down = (i + 1) % rows, i - 1
        for j in range(1, columns - 1):
            out[i, j] = x[down, j] + x[up, j] + x[i, j - 1] + x[i, j + 1] - FOUR * x[i, j]
        for j in (0, columns - 1):
            out[i, j] = x[down, j] + x[up, j] + x[i, j - 1] + x[i, (j + 1) % columns] - FOUR * x[i, j]
    return out


# -- reductions --------------------------------------------------------------------------------------------------------


@register_jitable
def _softmax_row(x: Any, out: Any) -> Any:
    """Write the softmax of a row; gives the logarithm of the sum of the exponentials."""
    top = x[0]
    for j in range(1, x.size):
        top = max(top, x[j])
    total = ZERO
    for j in range(x.size):
        e = np.exp(x[j] - top)
        out[j] = e
        total += e
    scale = ONE / total
    for j in range(x.size):
        out[j] *= scale
    return top + np.log(total)


def softmax(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        _softmax_row(x[i], out[i])
    return out


def layer_norm(x: Any, weight: Any, bias: Any) -> Any:
    out = np.empty_like(x)
    width = x.shape[1]
    share = ONE / np.float32(width)
    for i in prange(x.shape[0]):
        total, squares = ZERO, ZERO
        for j in range(width):
            total += x[i, j]
        mean = total * share
        for j in range(width):
            squares += (x[i, j] - mean) * (x[i, j] - mean)
        scale = ONE / np.sqrt(squares * share + EPSILON)
        for j in range(width):
            out[i, j] = (x[i, j] - mean) * scale * weight[j] + bias[j]
    return out


def column_sum(x: Any) -> Any:
    rows, parts = x.shape[0], get_num_threads()
    sums = np.zeros((parts, x.shape[1]), x.dtype)
    for part in prange(parts):
        for i in range(rows * part // parts, rows * (part + 1) // parts):
            for j in range(x.shape[1]):
                sums[part, j] += x[i, j]
    out = np.zeros(x.shape[1], x.dtype)
    for part in range(parts):
        for j in range(out.size):
            out[j] += sums[part, j]
    return out


def cumulate(x: Any) -> Any:
    out = np.empty_like(x)
    for i in prange(x.shape[0]):
        total = ZERO
        for j in range(x.shape[1]):
            total += x[i, j]
            out[i, j] = total
    return out


def embed(table: Any, tokens: Any) -> Any:
    out = np.empty((tokens.size, table.shape[1]), table.dtype)
    for i in prange(tokens.size):
        for j in range(table.shape[1]):
            out[i, j] = table[tokens[i], j]
    return out


def add_rows(target: Any, index: Any, source: Any) -> Any:
    width, parts = target.shape[1], get_num_threads()
    out = target.copy()
    for part in prange(parts):  # each has columns of its own: rows come more than once
        for i in range(index.size):
            for j in range(width * part // parts, width * (part + 1) // parts):
                out[index[i], j] += source[i, j]
    return out


# -- products ----------------------------------------------------------------------------------------------------------


def product(a: Any, b: Any) -> Any:
    return np.dot(a, b)


def product_chain(a: Any, b: Any, c: Any) -> Any:
    return np.dot(a, np.dot(b, c))


def dense_gelu(x: Any, w: Any, b: Any) -> Any:
    out = np.dot(x, w)
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = _gelu(out[i, j] + b[j])
    return out


def attention(q: Any, k: Any, v: Any) -> Any:
    out = np.empty_like(q)
    scale = ONE / np.sqrt(np.float32(q.shape[3]))
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            scores = np.dot(q[image, head], k[image, head].T)
            for i in range(scores.shape[0]):
                for j in range(scores.shape[1]):
                    scores[i, j] *= scale
                _softmax_row(scores[i], scores[i])
            np.dot(scores, v[image, head], out[image, head])
    return out


def causal_attention(q: Any, k: Any, v: Any, dy: Any) -> Any:
    y, dq, dk, dv = np.empty_like(q), np.empty_like(q), np.empty_like(k), np.empty_like(v)
    scale = ONE / np.sqrt(np.float32(q.shape[3]))
    for image in range(q.shape[0]):
        for head in range(q.shape[1]):
            p = np.dot(q[image, head], k[image, head].T)
            dp = np.dot(dy[image, head], v[image, head].T)
            for i in range(p.shape[0]):
                for j in range(i + 1):
                    p[i, j] *= scale
                p[i, i + 1 :] = ZERO
                _softmax_row(p[i, : i + 1], p[i, : i + 1])
            np.dot(p, v[image, head], y[image, head])
            np.dot(p.T, dy[image, head], dv[image, head])
            for i in range(p.shape[0]):
                mean = ZERO
                for j in range(i + 1):
                    mean += dp[i, j] * p[i, j]
                for j in range(p.shape[1]):
                    p[i, j] *= (dp[i, j] - mean) * scale
            np.dot(p, k[image, head], dq[image, head])
            np.dot(p.T, q[image, head], dk[image, head])
    return y, dq, dk, dv


# -- images ------------------------------------------------------------------------------------------------------------


def convolve_relu(x: Any, w: Any) -> Any:
    """3x3, padded by one: a plane of the output is summed over the channels, nine taps at a time."""
    images, channels, height, width = x.shape
    kernels = w.shape[0]
    padded = np.empty((images, channels, height + 2, width + 2), x.dtype)
    for plane in prange(images * channels):
        _pad(x[plane // channels, plane % channels], padded[plane // channels, plane % channels])
    out = np.empty((images, kernels, height, width), x.dtype)
    for plane in prange(images * kernels):
        image, kernel = plane // kernels, plane % kernels
        _convolve_plane(padded[image], w[kernel], out[image, kernel])
    return out


@register_jitable
def _pad(x: Any, out: Any) -> None:
    height, width = x.shape
    for i in range(height + 2):
        inside = 0 < i <= height
        for j in range(width):
            out[i, j + 1] = x[i - 1, j] if inside else ZERO
        out[i, 0] = out[i, width + 1] = ZERO


@register_jitable
def _convolve_plane(x: Any, w: Any, out: Any) -> None:
    out[:] = ZERO
    for c in range(x.shape[0]):
        a, b, d = w[c, 0], w[c, 1], w[c, 2]
        for i in range(out.shape[0]):
            upper, middle, lower = x[c, i], x[c, i + 1], x[c, i + 2]
            for j in range(out.shape[1]):
                out[i, j] += (
                    a[0] * upper[j] + a[1] * upper[j + 1] + a[2] * upper[j + 2]
                    + b[0] * middle[j] + b[1] * middle[j + 1] + b[2] * middle[j + 2]
                    + d[0] * lower[j] + d[1] * lower[j + 1] + d[2] * lower[j + 2]
                )  # fmt: skip
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            out[i, j] = max(out[i, j], ZERO)


def max_pool(x: Any) -> Any:
    images, channels, height, width = x.shape
    out = np.empty((images, channels, height // 2, width // 2), x.dtype)
    for plane in prange(images * channels):
        _pool(x[plane // channels, plane % channels], out[plane // channels, plane % channels])
    return out


@register_jitable
def _pool(x: Any, out: Any) -> None:
    for i in range(out.shape[0]):
        for j in range(out.shape[1]):
            upper, lower = max(x[2 * i, 2 * j], x[2 * i, 2 * j + 1]), max(x[2 * i + 1, 2 * j], x[2 * i + 1, 2 * j + 1])
            out[i, j] = max(upper, lower)


@register_jitable
def _convolve_image(x: Any, w: Any, b: Any, out: Any) -> None:
    """Write relu(conv(x, w) + b) of [c, h, w] and [o, c, k, k]."""
    size = w.shape[2]
    for o in range(out.shape[0]):
        for i in range(out.shape[1]):
            line = out[o, i]
            for j in range(line.size):
                line[j] = b[o]
            for c in range(x.shape[0]):
                for p in range(size):
                    for q in range(size):
                        for j in range(line.size):
                            line[j] += w[o, c, p, q] * x[c, i + p, j + q]
            for j in range(line.size):
                line[j] = max(line[j], ZERO)


def lenet(x: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any, w4: Any, b4: Any, w5: Any, b5: Any) -> Any:
    flat = np.empty((x.shape[0], w3.shape[1]), x.dtype)
    for image in prange(x.shape[0]):
        padded = np.zeros((1, 32, 32), x.dtype)
        for i in range(28):
            for j in range(28):
                padded[0, i + 2, j + 2] = x[image, 0, i, j]
        y1, z1 = np.empty((6, 28, 28), x.dtype), np.empty((6, 14, 14), x.dtype)
        y2, z2 = np.empty((16, 10, 10), x.dtype), flat[image].reshape(16, 5, 5)
        _convolve_image(padded, w1, b1, y1)
        for c in range(6):
            _pool(y1[c], z1[c])
        _convolve_image(z1, w2, b2, y2)
        for c in range(16):
            _pool(y2[c], z2[c])
    h = _add_relu(np.dot(flat, w3.T), b3)
    h = _add_relu(np.dot(h, w4.T), b4)
    y = np.dot(h, w5.T)
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] += b5[j]
    return y


# -- perceptrons and the LSTM ------------------------------------------------------------------------------------------


def add(x: Any, y: Any) -> Any:
    return x + y


def mlp(x: Any, w1: Any, b1: Any, w2: Any, b2: Any) -> Any:
    """Of few rows: BLAS's calls would cost more than its loops save."""
    out = np.empty((x.shape[0], w2.shape[1]), x.dtype)
    for row in range(x.shape[0]):
        h = b1.copy()
        for i in range(w1.shape[0]):
            for j in range(w1.shape[1]):
                h[j] += x[row, i] * w1[i, j]
        out[row] = b2
        for i in range(w2.shape[0]):
            for j in range(w2.shape[1]):
                out[row, j] += max(h[i], ZERO) * w2[i, j]
    return out


@register_jitable
def _add_relu(y: Any, b: Any) -> Any:
    for i in range(y.shape[0]):
        for j in range(y.shape[1]):
            y[i, j] = max(y[i, j] + b[j], ZERO)
    return y


@register_jitable
def _loss_gradient(logits: Any, b: Any, labels: Any) -> Any:
    """The mean cross entropy of logits + b, whose gradient it leaves in `logits`."""
    loss, share = ZERO, ONE / np.float32(labels.size)
    for i in range(labels.size):
        row = logits[i]
        for j in range(row.size):
            row[j] += b[j]
        label = row[labels[i]]
        loss += _softmax_row(row, row) - label
        row[labels[i]] -= ONE
        for j in range(row.size):
            row[j] *= share
    return loss * share


@register_jitable
def _through_relu(dy: Any, w: Any, h: Any) -> Any:
    dx = np.dot(dy, w.T)
    for i in range(h.shape[0]):
        for j in range(h.shape[1]):
            if h[i, j] <= ZERO:
                dx[i, j] = ZERO
    return dx


@register_jitable
def _sum_rows(x: Any) -> Any:
    out = np.zeros(x.shape[1], x.dtype)
    for i in range(x.shape[0]):
        for j in range(x.shape[1]):
            out[j] += x[i, j]
    return out


def mlp_gradients(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
    h1 = _add_relu(np.dot(x, w1), b1)
    h2 = _add_relu(np.dot(h1, w2), b2)
    d3 = np.dot(h2, w3)
    loss = _loss_gradient(d3, b3, labels)
    d2 = _through_relu(d3, w3, h2)
    d1 = _through_relu(d2, w2, h1)
    products = np.dot(x.T, d1), np.dot(h1.T, d2), np.dot(h2.T, d3)
    return loss, products[0], _sum_rows(d1), products[1], _sum_rows(d2), products[2], _sum_rows(d3)


@register_jitable
def _descend(p: Any, v: Any, g: Any, rate: Any, momentum: Any) -> None:
    p, v, g = p.ravel(), v.ravel(), g.ravel()
    for i in range(p.size):
        v[i] = momentum * v[i] + g[i]
        p[i] -= rate * v[i]


def digits_step(x: Any, labels: Any, weights: Any, velocity: Any, rate: Any, momentum: Any) -> Any:
    """One step of SGD with momentum on (w1, b1, w2, b2), in place; gives the loss before it."""
    w1, b1, w2, b2 = weights
    h = _add_relu(np.dot(x, w1), b1)
    d2 = np.dot(h, w2)
    loss = _loss_gradient(d2, b2, labels)
    d1 = _through_relu(d2, w2, h)
    _descend(w1, velocity[0], np.dot(x.T, d1), rate, momentum)
    _descend(b1, velocity[1], _sum_rows(d1), rate, momentum)
    _descend(w2, velocity[2], np.dot(h.T, d2), rate, momentum)
    _descend(b2, velocity[3], _sum_rows(d2), rate, momentum)
    return loss


def lstm(x: Any, w: Any, u: Any, b: Any, v: Any) -> Any:
    steps, batch, width = x.shape
    given = np.dot(x.reshape(steps * batch, width), w).reshape(steps, batch, 4 * width)
    h, c = np.zeros((batch, width), x.dtype), np.zeros((batch, width), x.dtype)
    gates = np.empty((batch, 4 * width), x.dtype)
    for step in range(steps):
        np.dot(h, u, gates)
        for i in range(batch):
            for j in range(4 * width):
                gates[i, j] += given[step, i, j] + b[j]
            for j in range(width):
                new = _sigmoid(gates[i, width + j]) * c[i, j] + _sigmoid(gates[i, j]) * _tanh(gates[i, 2 * width + j])
                c[i, j] = new
                h[i, j] = _sigmoid(gates[i, 3 * width + j]) * _tanh(new)
    return np.dot(h, v)


@register_jitable
def _tanh(x: Any) -> Any:
    return TWO / (ONE + np.exp(-TWO * x)) - ONE  # one exponential, which is quicker than the library's tanh


# -- an optimizer ------------------------------------------------------------------------------------------------------


def adam(weights: Any, gradients: Any, means: Any, squares: Any, parts: Any, rate: Any, root: Any) -> Any:
    """Move flat parameters in place.

    Args:
        weights: a list of f32 arrays, as the three after it.
        parts: i64[n, 3], (parameter, begin, end): what one thread takes at a time.
        rate: the learning rate over the means' correction.
        root: of the squares' correction.
    """
    for part in prange(parts.shape[0]):
        k, begin, end = parts[part]
        w, g, m, v = weights[k], gradients[k], means[k], squares[k]
        for i in range(begin, end):
            m[i] += np.float32(0.1) * (g[i] - m[i])
            v[i] += np.float32(0.001) * (g[i] * g[i] - v[i])
            w[i] -= rate * m[i] / (np.sqrt(v[i]) / root + np.float32(1e-8))
