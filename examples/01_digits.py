"""Lesson 1: read handwritten digits, train a classifier in one compiled function, look inside it, and run it from C.

    make demo                      or: python examples/01_digits.py

The model is a multilayer perceptron of two layers. Its whole training step (forward, loss, backward, optimizer) is one
program of machine code; `training_step` below is ordinary PyTorch-style Python.
"""

from __future__ import annotations

import csv
import gzip
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

import tjit

HERE = Path(__file__).parent
DATA = HERE / "data" / "digits.csv.gz"
BUILD = Path("build", "digits")  # in the working directory
SEED, BATCH, EPOCHS, TWIN_EPOCHS = 6, 32, 30, 3

Step = Any  # what tjit.compile returns: a callable of (images, labels) with .lower


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

    def classify(pixels: tjit.Tensor) -> tjit.Tensor:
        return model(pixels).argmax(dim=1)

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
    phases = step.lower(x, y).seconds
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
    lowered = step.lower(x, y)
    titles = {
        "graph": "The step as captured: forward, backward and update are one graph",
        "passes": "After the passes",
        "schedule": "The schedule: kernels, their buffers, and peak memory",
    }
    for stage, title in titles.items():
        print(f"\n--- {title}\n\n{lowered.text(stage)}")


# -- 5. without Python -------------------------------------------------------------------------------------------------


def export_and_run(train_x: tjit.Tensor, train_y: tjit.Tensor, test_x: tjit.Tensor) -> None:
    """Export an untrained model, train it from C and from Python on the same batches, and compare."""
    compiler = shutil.which("cc")
    BUILD.mkdir(parents=True, exist_ok=True)
    model, optimizer = make_model()
    step, classify = tjit.compile(training_step(model, optimizer)), tjit.compile(classifier(model))
    # One package with both entry points: they share the weights, so C classifies with what C has trained.
    package = tjit.export(
        {"step": (step, (train_x[:BATCH], train_y[:BATCH])), "classify": (classify, (test_x,))},
        path=BUILD / "digits.tjit",
        dynamic={"pixels": {0: tjit.Dim("count", min=1)}},
    )
    size = (BUILD / "digits.tjit").stat().st_size
    print(
        f"  digits.tjit: {size / 1000:.0f} kB with {' and '.join(package.entries)}; its header is beside it in {BUILD}"
    )
    if compiler is None:
        print("  no C compiler here: install one (on Debian, apt-get install gcc libc6-dev) and run this again")
        return
    order = tjit.cat([tjit.randperm(len(train_x))[: len(train_x) // BATCH * BATCH] for _ in range(EPOCHS)])
    train_in_c(compiler, {"images": train_x, "labels": train_y, "order": order, "test": test_x})
    losses = [step(train_x[n], train_y[n]).item() for n in order.reshape(-1, BATCH)]
    compare_with_c(losses, classify(test_x))


def train_in_c(compiler: str, inputs: dict[str, tjit.Tensor]) -> None:
    """Build digits.c against the header that `export` wrote, give it the data as plain files, and run it."""
    for name, tensor in inputs.items():
        tensor.numpy().tofile(BUILD / name)
    native = Path(tjit.__file__).parent / "export" / "native"
    sources = [HERE / "digits.c", native / "tjit.c"]
    flags = ["-O2", "-Wall", "-Werror", f"-I{native}", f"-I{BUILD}", "-o", BUILD / "digits", "-lpthread"]
    subprocess.run([compiler, *sources, *flags], check=True)
    print(f"  built digits.c with {Path(compiler).name}; it links nothing of Python. It says:", flush=True)
    subprocess.run([BUILD.absolute() / "digits", BUILD], check=True)


def compare_with_c(losses: list[float], classes: tjit.Tensor) -> None:
    from_c = np.fromfile(BUILD / "losses", np.float32)
    difference = np.abs(from_c - np.array(losses, np.float32)).max()
    same = int((np.fromfile(BUILD / "classes", np.int64) == classes.numpy()).sum())
    print(f"  the same {len(losses)} steps from Python: largest difference of a loss {difference:.1e}")
    print(f"  classes that C and Python agree on: {same} of {len(classes)}")
    if same < len(classes) or difference > 1e-4:
        raise SystemExit("C and Python disagree")


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

    print("\n5. Without Python")
    export_and_run(train_x, train_y, test_x)


if __name__ == "__main__":
    main()
