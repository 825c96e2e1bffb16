"""The training step of an LSTM, 64 steps of 32 x 128, in every framework: `python -m benchmarks.lstm`.

Each writes the cell by hand and the loop as its users do: Python's `for` in tjit and PyTorch, `lax.scan` in jax. The
frameworks take turns in one process; a step is forward, backward and SGD. First calls are timed once; tjit's also in a
fresh process without a disk cache.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

STEPS, BATCH, WIDTH, CLASSES, RATE = 64, 32, 128, 10, 0.05


def inputs() -> list[np.ndarray]:
    """x [t, n, d], classes [n], and the weights: of the input, of the state, bias, and of the output."""
    numbers = np.random.default_rng(0)
    scale = 1 / np.sqrt(WIDTH)
    shapes = [(WIDTH, 4 * WIDTH), (WIDTH, 4 * WIDTH), (4 * WIDTH,), (WIDTH, CLASSES)]
    weights = [numbers.uniform(-scale, scale, s).astype(np.float32) for s in shapes]
    x = numbers.normal(size=(STEPS, BATCH, WIDTH)).astype(np.float32)
    return [x, numbers.integers(0, CLASSES, BATCH), *weights]


def _loss(framework: Any, x: Any, labels: Any, w: Any, u: Any, b: Any, v: Any) -> Any:
    """The same words in tjit and PyTorch."""
    h = framework.zeros(x.shape[1], WIDTH)
    c = framework.zeros(x.shape[1], WIDTH)
    for t in range(x.shape[0]):
        i, f, g, o = (x[t] @ w + h @ u + b).chunk(4, 1)
        c = framework.sigmoid(f) * c + framework.sigmoid(i) * framework.tanh(g)
        h = framework.sigmoid(o) * framework.tanh(c)
    return framework.nn.functional.cross_entropy(h @ v, labels)


def step_tjit(compiled: bool = True) -> Callable[[], float]:
    import tjit

    x, labels, *weights = map(tjit.tensor, inputs())
    for w in weights:
        w.requires_grad_()
    optimizer = tjit.optim.SGD(weights, lr=RATE)

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = _loss(tjit, x, labels, *weights)
        loss.backward()
        optimizer.step()
        return loss

    run = tjit.compile(step) if compiled else step
    return lambda: float(run(x, labels))


def step_torch(compiled: bool) -> Callable[[], float]:
    import torch

    torch.set_num_threads(os.cpu_count() or 1)
    x, labels, *weights = map(torch.tensor, inputs())
    for w in weights:
        w.requires_grad_()
    optimizer = torch.optim.SGD(weights, lr=RATE)

    def loss_of(x: Any, labels: Any) -> Any:
        return _loss(torch, x, labels, *weights)

    forward = torch.compile(loss_of) if compiled else loss_of

    def step() -> float:
        optimizer.zero_grad()
        loss = forward(x, labels)
        loss.backward()
        optimizer.step()
        return float(loss)

    return step


def step_jax() -> Callable[[], float]:
    import jax
    import jax.numpy as jnp

    x, labels, *weights = map(jnp.asarray, inputs())

    def loss(weights: Any, x: Any, labels: Any) -> Any:
        w, u, b, v = weights

        def cell(state: Any, row: Any) -> Any:
            h, c = state
            i, f, g, o = jnp.split(row @ w + h @ u + b, 4, axis=1)
            c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
            h = jax.nn.sigmoid(o) * jnp.tanh(c)
            return (h, c), None

        zeros = jnp.zeros((x.shape[1], WIDTH))
        (h, _), _ = jax.lax.scan(cell, (zeros, zeros), x)
        return -jnp.take_along_axis(jax.nn.log_softmax(h @ v), labels[:, None], axis=1).mean()

    @jax.jit
    def update(weights: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, labels)
        return [w - RATE * g for w, g in zip(weights, gradients, strict=True)], value

    def step() -> float:
        nonlocal weights
        weights, value = update(weights, x, labels)
        return float(value)

    return step


FRAMEWORKS: dict[str, Callable[[], Callable[[], float]]] = {
    "tjit": step_tjit,
    "jax": step_jax,
    "torch": lambda: step_torch(False),
    "torch.compile": lambda: step_torch(True),
}


def cold() -> float:
    """Milliseconds of the first step of tjit in a process of its own, without a disk cache and the import of tjit."""
    code = "import time; from benchmarks.lstm import step_tjit; run = step_tjit(); t = time.perf_counter(); run(); "
    code += "print(1e3 * (time.perf_counter() - t))"
    environment = {**os.environ, "TJIT_CACHE": "0"}
    environment.pop("PYTHONDONTWRITEBYTECODE", None)
    return float(subprocess.check_output([sys.executable, "-c", code], env=environment, text=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frameworks", default=",".join(FRAMEWORKS))
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--json")
    options = parser.parse_args()
    colds = sorted(cold() for _ in range(3))
    runs, first, times, losses = {}, {}, {}, {}
    for name in options.frameworks.split(","):
        runs[name] = FRAMEWORKS[name]()
        start = time.perf_counter()
        losses[name] = [runs[name]()]
        first[name] = 1e3 * (time.perf_counter() - start)
        times[name] = []
        print(f"{name}: first step {first[name]:,.0f} ms", flush=True)
    for _ in range(options.rounds):
        for name, run in runs.items():
            start = time.perf_counter()
            losses[name].append(run())
            times[name].append(1e3 * (time.perf_counter() - start))
    medians = {name: float(np.median(t[3:])) for name, t in times.items()}
    best = min(m for name, m in medians.items() if name != "tjit")
    print("| | first ms | step ms | loss of the last step |\n|---|---:|---:|---:|")
    for name, median in medians.items():
        print(f"| {name} | {first[name]:,.0f} | {median:,.2f} | {losses[name][-1]:.6f} |")
    print(f"tjit cold, in fresh processes: {', '.join(f'{c:,.0f}' for c in colds)} ms")
    print(f"the best peer takes {best / medians['tjit']:.2f} of tjit's time")
    if options.json:
        with open(options.json, "w", encoding="utf-8") as file:
            json.dump({"first": first, "medians": medians, "cold": colds}, file, indent=1)


if __name__ == "__main__":
    main()
