"""Lesson 1: read handwritten digits, train a classifier in one compiled function, look inside it, and run it from C.

    make demo                      or: python examples/01_digits.py

The model is a multilayer perceptron of two layers. Its whole training step (forward, loss, backward, optimizer) is one
program of machine code; `training_step` below is ordinary PyTorch-style Python.
"""

from __future__ import annotations

import csv
import gzip
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median

import numpy as np

import tjit

DATA = Path(__file__).parent / "data" / "digits.csv.gz"
SEED, BATCH, EPOCHS, TWIN_EPOCHS = 6, 32, 30, 3

Step = Callable[[tjit.Tensor, tjit.Tensor], tjit.Tensor]


# -- 1. data -----------------------------------------------------------------------------------------------------------


def load_digits() -> tuple[tjit.Tensor, tjit.Tensor]:
    """Images f32[1797, 64] with pixels in [0, 1], and their classes i64[1797]."""
    with gzip.open(DATA, "rt") as file:
        rows = np.array(list(csv.reader(file)), np.float32)
    return tjit.from_numpy(rows[:, :64] / 16), tjit.from_numpy(rows[:, 64].astype(np.int64))


def split(images: tjit.Tensor, labels: tjit.Tensor) -> tuple[tjit.Tensor, ...]:
    """80 % to train with, 20 % that training never sees."""
    order = tjit.randperm(len(images))
    cut = len(images) * 4 // 5
    train, test = order[:cut], order[cut:]
    return images[train], labels[train], images[test], labels[test]


def batches(images: tjit.Tensor, labels: tjit.Tensor) -> Iterator[tuple[tjit.Tensor, tjit.Tensor]]:
    """The data in a new random order, in full batches."""
    order = tjit.randperm(len(images))
    for start in range(0, len(order) - BATCH + 1, BATCH):
        chosen = order[start : start + BATCH]
        yield images[chosen], labels[chosen]


# -- 2. model and training step ----------------------------------------------------------------------------------------


def make_model() -> tuple[tjit.nn.Module, tjit.optim.Optimizer]:
    """The model and its optimizer; the seed makes every call give the same weights."""
    tjit.manual_seed(SEED)
    model = tjit.nn.Sequential(tjit.nn.Linear(64, 128), tjit.nn.ReLU(), tjit.nn.Linear(128, 10))
    return model, tjit.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)


def training_step(model: tjit.nn.Module, optimizer: tjit.optim.Optimizer) -> Step:
    """A function that trains on one batch and returns the loss."""

    def step(images: tjit.Tensor, labels: tjit.Tensor) -> tjit.Tensor:
        optimizer.zero_grad()
        loss = tjit.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
        return loss

    return step


def classifier(model: tjit.nn.Module) -> Callable[[tjit.Tensor], tjit.Tensor]:
    """A function from images to their classes."""

    def classify(images: tjit.Tensor) -> tjit.Tensor:
        return model(images).argmax(dim=1)

    return classify


def train(step: Step, images: tjit.Tensor, labels: tjit.Tensor) -> list[float]:
    """Train for all epochs; the mean loss of each."""
    curve = []
    for epoch in range(EPOCHS):
        losses = [step(x, y).item() for x, y in batches(images, labels)]
        curve.append(sum(losses) / len(losses))
        show_progress(epoch + 1, curve[-1])
    return curve


def show_progress(epoch: int, loss: float) -> None:
    """A bar that grows in place on a terminal, and a line now and then in a log."""
    filled = 30 * epoch // EPOCHS
    line = f"  [{'#' * filled}{'.' * (30 - filled)}] epoch {epoch:2}/{EPOCHS}  loss {loss:.4f}"
    if sys.stdout.isatty():
        print("\r" + line, end="\n" if epoch == EPOCHS else "", flush=True)
    elif epoch % 10 == 0:
        print(line)


# -- 3. how long it takes, and whether it is right ---------------------------------------------------------------------


def show_first_call(step: Step, x: tjit.Tensor, y: tjit.Tensor) -> None:
    start = time.perf_counter()
    step(x, y)
    total = time.perf_counter() - start
    phases = step.lower(x, y).seconds  # type: ignore[attr-defined]
    print(f"  first call {total * 1e3:.0f} ms: " + ", ".join(f"{k} {v * 1e3:.1f}" for k, v in phases.items()))
    if "codegen" not in phases:
        print("  (machine code came from the disk cache; `tjit cache clear` empties it)")


def compare_with_eager(images: tjit.Tensor, labels: tjit.Tensor) -> None:
    """Train twins from one seed, one compiled and one eager, taking turns on the same batches."""
    twins = {"compiled": tjit.compile(training_step(*make_model())), "eager": training_step(*make_model())}
    seconds: dict[str, list[float]] = {name: [] for name in twins}
    curves: dict[str, list[float]] = {name: [] for name in twins}
    for _ in range(TWIN_EPOCHS):
        for x, y in batches(images, labels):
            for name, step in twins.items():
                start = time.perf_counter()
                curves[name].append(step(x, y).item())
                seconds[name].append(time.perf_counter() - start)
    compiled, eager = (median(seconds[name]) * 1e6 for name in ("compiled", "eager"))
    print(f"  a step of {BATCH} images: compiled {compiled:.0f} us, eager {eager:.0f} us ({eager / compiled:.1f} x)")
    show_curves(curves["compiled"], curves["eager"])


def show_curves(compiled: list[float], eager: list[float]) -> None:
    print("  loss at step   compiled      eager")
    for n in range(0, len(compiled), len(compiled) // 6):
        print(f"  {n:12}  {compiled[n]:9.6f}  {eager[n]:9.6f}")
    difference = max(abs(a - b) for a, b in zip(compiled, eager, strict=True))
    print(f"  largest difference over {len(compiled)} steps: {difference:.1e}")
    if difference > 1e-3:
        raise SystemExit("the loss curves disagree")


# -- 4. what it became -------------------------------------------------------------------------------------------------


def show_stages(step: Step, x: tjit.Tensor, y: tjit.Tensor) -> None:
    lowered = step.lower(x, y)  # type: ignore[attr-defined]
    titles = {
        "graph": "The step as captured: forward, backward and update are one graph",
        "passes": "After the passes",
        "schedule": "The schedule: kernels, their buffers, and peak memory",
    }
    for stage, title in titles.items():
        print(f"\n--- {title}\n\n{lowered.text(stage)}")


# -- the lesson --------------------------------------------------------------------------------------------------------


def main() -> None:
    tjit.manual_seed(SEED)
    train_x, train_y, test_x, test_y = split(*load_digits())
    print(f"1. {len(train_x)} digits to train with, {len(test_x)} to test with")

    print("\n2. Training")
    model, optimizer = make_model()
    step = tjit.compile(training_step(model, optimizer))
    show_first_call(step, train_x[:BATCH], train_y[:BATCH])
    train(step, train_x, train_y)
    classify = tjit.compile(classifier(model))
    accuracy = (classify(test_x) == test_y).float().mean().item()
    print(f"  test accuracy {accuracy:.1%}")
    if accuracy < 0.97:
        raise SystemExit("expected at least 97 %")

    print("\n3. Compiled beside eager")
    compare_with_eager(train_x, train_y)

    print("\n4. Inside the compiled step")
    show_stages(step, train_x[:BATCH], train_y[:BATCH])


if __name__ == "__main__":
    main()
