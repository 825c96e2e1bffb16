"""Rows of networks: loss and gradients, and whole training steps."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np

from benchmarks.rows import Arrays, Compile, Floor, Row, extent, numba_loops

__all__ = ["ROWS"]

LEARNING_RATE, MOMENTUM, STEPS = 0.05, 0.9, 4


def network(rng: np.random.Generator, batch: int, widths: list[int]) -> Arrays:
    """A batch, its classes, and weights [in, out] and biases of a multilayer perceptron."""
    x = rng.standard_normal((batch, widths[0]), np.float32)
    labels = rng.integers(0, widths[-1], batch)
    parameters: list[np.ndarray] = []
    for rows, columns in pairwise(widths):
        parameters += [
            rng.standard_normal((rows, columns), np.float32) / np.float32(math.sqrt(rows)),
            rng.standard_normal(columns, np.float32) * np.float32(0.1),
        ]
    return x, labels, *parameters


def loss_and_gradients(x: Any, labels: Any, *parameters: Any) -> tuple[Any, ...]:
    """Cross entropy of a perceptron with relu between its layers, and its gradients, by hand."""
    layers = list(zip(parameters[::2], parameters[1::2], strict=True))
    inputs = [x]
    for w, b in layers[:-1]:
        inputs.append(np.maximum(inputs[-1] @ w + b, 0))
    logits = inputs[-1] @ layers[-1][0] + layers[-1][1]
    logits = logits - logits.max(axis=1, keepdims=True)
    logs = logits - np.log(np.exp(logits).sum(axis=1, keepdims=True))
    rows = np.arange(len(labels))
    dy = np.exp(logs)
    dy[rows, labels] -= 1
    dy = dy / len(labels)
    gradients: list[Any] = []
    for h, (w, _) in zip(reversed(inputs), reversed(layers), strict=True):
        gradients = [h.T @ dy, dy.sum(axis=0), *gradients]
        dy = (dy @ w.T) * (h > 0)
    return -logs[rows, labels].mean(), *gradients


# -- loss and gradients of an MLP --------------------------------------------------------------------------------------


def mlp_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    return network(rng, extent(200, scale), [extent(d, scale) for d in (784, 500, 500, 10)])


def mlp_tjit(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import tjit
    from tjit.nn.functional import cross_entropy, relu

    def gradients(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = relu(relu(x @ w1 + b1) @ w2 + b2)
        loss = cross_entropy(h @ w3 + b3, labels)
        return loss, *tjit.autograd.grad(loss, (w1, b1, w2, b2, w3, b3))

    for p in inputs[2:]:
        p.requires_grad_()
    return compile(gradients), inputs


def mlp_torch(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import torch
    from torch.nn.functional import cross_entropy, relu

    @compile
    def forward(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = relu(relu(x @ w1 + b1) @ w2 + b2)
        return cross_entropy(h @ w3 + b3, labels)

    def gradients(x: Any, labels: Any, *parameters: Any) -> Any:
        loss = forward(x, labels, *parameters)
        return loss, *torch.autograd.grad(loss, parameters)

    for p in inputs[2:]:
        p.requires_grad_()
    return gradients, inputs


def jax_cross_entropy(logits: Any, labels: Any) -> Any:
    import jax
    import jax.numpy as jnp

    return -jnp.take_along_axis(jax.nn.log_softmax(logits), labels[:, None], axis=1).mean()


def mlp_jax(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    from jax import value_and_grad
    from jax.nn import relu

    def loss(x: Any, labels: Any, w1: Any, b1: Any, w2: Any, b2: Any, w3: Any, b3: Any) -> Any:
        h = relu(relu(x @ w1 + b1) @ w2 + b2)
        return jax_cross_entropy(h @ w3 + b3, labels)

    gradients = compile(value_and_grad(loss, argnums=tuple(range(2, 8))))

    def flat(*inputs: Any) -> Any:
        value, grads = gradients(*inputs)
        return value, *grads

    return flat, inputs


# -- the training step of examples/01_digits.py ------------------------------------------------------------------------


def digits_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    """A batch of what could be digits: pixels in [0, 1]."""
    x, *rest = network(rng, extent(32, scale), [extent(d, scale) for d in (64, 128, 10)])
    return rng.random(x.shape, np.float32), *rest


def digits_reference(x: Any, labels: Any, *parameters: Any) -> Any:
    """The losses of the first steps of SGD with momentum."""
    weights = list(parameters)
    velocity = [np.zeros_like(p) for p in weights]
    losses = []
    for _ in range(STEPS):
        loss, *gradients = loss_and_gradients(x, labels, *weights)
        velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradients, strict=True)]
        weights = [p - LEARNING_RATE * v for p, v in zip(weights, velocity, strict=True)]
        losses.append(loss)
    return np.array(losses)


def digits_module(framework: Any, inputs: tuple[Any, ...]) -> tuple[Any, Any]:
    """Model and optimizer with the given weights: tjit and torch share their names."""
    nn = framework.nn
    width, hidden, classes = inputs[0].shape[1], inputs[2].shape[1], inputs[4].shape[1]
    model = nn.Sequential(nn.Linear(width, hidden), nn.ReLU(), nn.Linear(hidden, classes))
    with framework.no_grad():
        for parameter, value in zip(model.parameters(), inputs[2:], strict=True):
            parameter.copy_(value.T if value.ndim == 2 else value)
    return model, framework.optim.SGD(model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM)


def digits_tjit(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import tjit

    model, optimizer = digits_module(tjit, inputs)

    @compile
    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = tjit.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, inputs[:2]


def digits_torch(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import torch

    model, optimizer = digits_module(torch, inputs)

    @compile
    def forward(images: Any, labels: Any) -> Any:
        return torch.nn.functional.cross_entropy(model(images), labels)

    @compile
    def update() -> None:
        optimizer.step()

    def step(images: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(images, labels)
        loss.backward()
        update()
        return loss.detach()

    return step, inputs[:2]


def digits_jax(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import jax
    import jax.numpy as jnp

    def loss(weights: Any, images: Any, labels: Any) -> Any:
        w1, b1, w2, b2 = weights
        return jax_cross_entropy(jax.nn.relu(images @ w1 + b1) @ w2 + b2, labels)

    @compile
    def update(weights: Any, velocity: Any, images: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, images, labels)
        velocity = [MOMENTUM * v + g for v, g in zip(velocity, gradients, strict=True)]
        weights = [p - LEARNING_RATE * v for p, v in zip(weights, velocity, strict=True)]
        return weights, velocity, value

    weights = list(inputs[2:])
    velocity = [jnp.zeros_like(p) for p in weights]

    def step(images: Any, labels: Any) -> Any:
        nonlocal weights, velocity
        weights, velocity, value = update(weights, velocity, images, labels)
        return value

    return step, inputs[:2]


def digits_numba(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    from benchmarks.numba_loops import digits_step

    step = compile(digits_step)
    weights = tuple(x.copy() for x in inputs[2:])
    velocity = tuple(np.zeros_like(w) for w in weights)
    return lambda *batch: step(*batch, weights, velocity, np.float32(LEARNING_RATE), np.float32(MOMENTUM)), inputs[:2]


ROWS = [
    Row(
        "MLP 784-500-500-10, batch 200: loss and gradients",
        mlp_inputs,
        loss_and_gradients,
        {"tjit": mlp_tjit, "torch": mlp_torch, "jax": mlp_jax, **numba_loops("mlp_gradients")},
        Floor(
            "multiply-adds of eight products",
            flops=2 * 200 * (3 * (784 * 500 + 500 * 500 + 500 * 10) - 784 * 500),
        ),
        tolerance=2e-5,
    ),
    Row(
        "digits 64-128-10, batch 32: training step",
        digits_inputs,
        digits_reference,
        {"tjit": digits_tjit, "torch": digits_torch, "jax": digits_jax, "numba": digits_numba},
        Floor(
            "multiply-adds of five products, on one core",
            flops=2 * 32 * (3 * (64 * 128 + 128 * 10) - 64 * 128),
            one_core=True,
        ),
        tolerance=2e-5,
        steps=STEPS,
    ),
]
