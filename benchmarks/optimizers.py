"""Rows of optimizers by themselves."""

from __future__ import annotations

from typing import Any

import numpy as np

from benchmarks import jax_models
from benchmarks.rows import Arrays, Compile, Floor, Row, extent

__all__ = ["ROWS"]

STEPS = 3
RATE = 1e-3
PART = 8192  # elements that a thread of Numba's takes at a time
# Of 50 parameters: biases, small and middling matrices, as networks have them; 1.7 M elements in all.
SHAPES = [(64,), (64, 64), (256,), (256, 64), (500, 500)] * 5 + [(1000,), (37, 211), (128, 128), (10,), (96, 128)] * 5


def adam_inputs(rng: np.random.Generator, scale: float) -> Arrays:
    """The parameters, then a gradient for each."""
    shapes = [tuple(extent(d, scale) for d in shape) for shape in SHAPES]
    return tuple(rng.standard_normal(shape, np.float32) for shape in shapes * 2)


def adam_reference(*inputs: Any) -> Any:
    """What the steps return: the sum of two rows of one parameter after each."""
    weights, gradients = list(inputs[: len(SHAPES)]), inputs[len(SHAPES) :]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    sums = []
    for t in range(1, STEPS + 1):
        means = [0.9 * m + 0.1 * g for m, g in zip(means, gradients, strict=True)]
        squares = [0.999 * v + 0.001 * g * g for v, g in zip(squares, gradients, strict=True)]
        for i, (m, v) in enumerate(zip(means, squares, strict=True)):
            weights[i] = weights[i] - RATE * (m / (1 - 0.9**t)) / (np.sqrt(v / (1 - 0.999**t)) + 1e-8)
        sums.append(weights[4][:2].sum())
    return np.array(sums)


def _module_adam(framework: Any, compile: Compile, inputs: tuple[Any, ...], **options: Any) -> Any:
    weights = [x.clone().requires_grad_() for x in inputs[: len(SHAPES)]]
    for w, g in zip(weights, inputs[len(SHAPES) :], strict=True):
        w.grad = g.clone()
    optimizer = framework.optim.Adam(weights, lr=RATE, **options)

    @compile
    def step() -> Any:
        optimizer.step()
        return weights[4].detach()[:2].sum()

    return step, ()


def adam_tjit(compile: Compile, inputs: tuple[Any, ...]) -> Any:
    import tjit

    return _module_adam(tjit, compile, inputs)


def adam_torch(compile: Compile, inputs: tuple[Any, ...]) -> Any:
    import torch

    options = {} if compile is torch.compile else {"fused": True}
    return _module_adam(torch, compile, inputs, **options)


def adam_jax(compile: Compile, inputs: tuple[Any, ...]) -> Any:
    import jax

    weights, gradients = list(inputs[: len(SHAPES)]), list(inputs[len(SHAPES) :])
    init, move = jax_models.adam(RATE)
    state = init(weights)

    @compile
    def update(weights: Any, state: Any, gradients: Any) -> Any:
        weights, state = move(weights, state, gradients)
        return weights, state, weights[4][:2].sum()

    def step() -> Any:
        nonlocal weights, state
        weights, state, seen = update(weights, state, gradients)
        jax.block_until_ready(weights)
        return seen

    return step, ()


def adam_numba(compile: Compile, inputs: tuple[Any, ...]) -> Any:
    from numba.typed.typedlist import List

    from benchmarks.numba_loops import adam

    def flat(arrays: Any) -> Any:
        return List([x.ravel() for x in arrays])

    weights = [x.copy() for x in inputs[: len(SHAPES)]]
    means, squares = ([np.zeros_like(w) for w in weights] for _ in range(2))
    lists = [flat(arrays) for arrays in (weights, inputs[len(SHAPES) :], means, squares)]
    starts = [(k, begin, w.size) for k, w in enumerate(weights) for begin in range(0, w.size, PART)]
    parts = np.array([(k, begin, min(size, begin + PART)) for k, begin, size in starts])
    move, t = compile(adam), 0

    def step() -> Any:
        nonlocal t
        t += 1
        move(*lists, parts, np.float32(RATE / (1 - 0.9**t)), np.float32(np.sqrt(1 - 0.999**t)))
        return weights[4][:2].sum()

    return step, ()


ELEMENTS = sum(int(np.prod(shape)) for shape in SHAPES)
ROWS = [
    Row(
        "Adam of 50 parameters, 1.5 M elements",
        adam_inputs,
        adam_reference,
        {"tjit": adam_tjit, "torch": adam_torch, "jax": adam_jax, "numba": adam_numba},
        Floor("memory: weight, gradient and two averages read, three written", streamed=7 * 4 * ELEMENTS),
        tolerance=1e-4,
        steps=STEPS,
        compile_seconds=10,
    )
]
