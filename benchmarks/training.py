"""Rows of whole models: training steps (forward, loss, gradients and optimizer) and inference."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np

from benchmarks import jax_models, models
from benchmarks.rows import Arrays, Compile, Factory, Floor, Row, extent

__all__ = ["ROWS"]

STEPS = 3
ADAM = {"lr": 1e-3}
ADAMW = {"lr": 1e-3, "weight_decay": 0.01}
HEAD = 32  # the width of one head of attention


@dataclass(frozen=True)
class Subject:
    """A model with its data.

    Attributes:
        model: builds it in tjit or PyTorch, with the sizes that the parameters have (None: the full ones, at a scale).
        batch: (x, labels) from a generator and a scale.
        optimizer: its name in `optim`, and its arguments.
        jax: the model and the optimizer as functions.
        forward_flops: of one forward pass.
        note: what the floor counts.
        compile_seconds: of the slowest peer, for a training step.
        numba: the forward pass in `numba_loops`, or "".
    """

    name: str
    model: Callable[[Any, list[Any] | None, float], Any]
    batch: Callable[[np.random.Generator, float], Arrays]
    optimizer: tuple[str, dict[str, Any]]
    jax: tuple[Callable[[list[Any]], jax_models.Model], Callable[[], Any]]
    forward_flops: float
    note: str = "multiply-adds"
    compile_seconds: float = 15
    numba: str = ""

    def inputs(self, rng: np.random.Generator, scale: float) -> Arrays:
        """x, labels and the parameters."""
        import tjit

        batch = self.batch(rng, scale)
        return *batch, *models.draw_parameters(rng, self.model(tjit, None, scale))

    def built(self, framework: Any, parameters: list[Any]) -> Any:
        """The model with these parameters."""
        model = self.model(framework, parameters, 1.0)
        if str(parameters[0].dtype).endswith("64"):
            model = model.double()
        return models.set_parameters(framework, model, parameters)


def loss_of(framework: Any, model: Any, x: Any, labels: Any) -> Any:
    logits = model(x)
    return framework.nn.functional.cross_entropy(logits.reshape(-1, logits.shape[-1]), labels.reshape(-1))


# -- training ----------------------------------------------------------------------------------------------------------


def tjit_step(subject: Subject, compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import tjit

    model = subject.built(tjit, list(inputs[2:]))
    name, options = subject.optimizer
    optimizer = getattr(tjit.optim, name)(model.parameters(), **options)

    @compile
    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = loss_of(tjit, model, x, labels)
        loss.backward()
        optimizer.step()
        return loss

    return step, inputs[:2]


def torch_step(subject: Subject, compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import torch

    model = subject.built(torch, list(inputs[2:]))
    name, options = subject.optimizer
    fused = {"fused": True} if compile is not torch.compile and name != "SGD" else {}
    optimizer = getattr(torch.optim, name)(model.parameters(), **options, **fused)

    @compile
    def forward(x: Any, labels: Any) -> Any:
        return loss_of(torch, model, x, labels)

    @compile
    def update() -> None:
        optimizer.step()

    def step(x: Any, labels: Any) -> Any:
        optimizer.zero_grad()
        loss = forward(x, labels)
        loss.backward()
        update()
        return loss.detach()

    return step, inputs[:2]


def jax_step(subject: Subject, compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
    import jax

    weights = list(inputs[2:])
    model, (init, move) = subject.jax[0](weights), subject.jax[1]()

    def loss(weights: Any, x: Any, labels: Any) -> Any:
        return jax_models.cross_entropy(model(weights, x), labels)

    @compile
    def update(weights: Any, state: Any, x: Any, labels: Any) -> Any:
        value, gradients = jax.value_and_grad(loss)(weights, x, labels)
        return *move(weights, state, gradients), value

    state = init(weights)

    def step(x: Any, labels: Any) -> Any:
        nonlocal weights, state
        weights, state, value = update(weights, state, x, labels)
        return value

    return step, inputs[:2]


def in_doubles(build: dict[str, Factory], inputs: Arrays) -> tuple[Any, tuple[Any, ...]]:
    """What a reference runs, op by op in f64: PyTorch's ops where it is installed, else tjit's, which are NumPy's."""
    framework = "torch" if find_spec("torch") else "tjit"
    from_numpy = import_module(framework).from_numpy
    return build[framework](lambda fn: fn, tuple(map(from_numpy, inputs)))


def training_row(subject: Subject) -> Row:
    def reference(*inputs: Any) -> Any:
        step, batch = in_doubles(build, inputs)
        return np.array([float(step(*batch)) for _ in range(STEPS)])

    def factory(build: Callable[..., Any]) -> Factory:
        return lambda compile, inputs: build(subject, compile, inputs)

    build = {"tjit": factory(tjit_step), "torch": factory(torch_step), "jax": factory(jax_step)}
    return Row(
        f"{subject.name}: training step",
        subject.inputs,
        reference,
        build,
        Floor(f"{subject.note}, forward and twice that backward", flops=3 * subject.forward_flops),
        tolerance=1e-4,
        steps=STEPS,
        compile_seconds=subject.compile_seconds,
    )


# -- inference ---------------------------------------------------------------------------------------------------------


def module_inference(framework: Any, subject: Subject, compile: Compile, inputs: tuple[Any, ...]) -> Any:
    model = subject.built(framework, list(inputs[2:])).eval()
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    return compile(model), inputs[:1]


def inference_row(subject: Subject, quick: bool = True) -> Row:
    def in_tjit(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        import tjit

        return module_inference(tjit, subject, compile, inputs)

    def in_torch(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        import torch

        return module_inference(torch, subject, compile, inputs)

    def in_jax(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        weights = list(inputs[2:])
        model = subject.jax[0](weights)
        run = compile(lambda weights, x: model(weights, x))
        return lambda x: run(weights, x), inputs[:1]

    def reference(*inputs: Any) -> Any:
        run, batch = in_doubles(build, inputs)
        return run(*batch).numpy()

    def in_numba(compile: Compile, inputs: tuple[Any, ...]) -> tuple[Any, tuple[Any, ...]]:
        run = compile(getattr(import_module("benchmarks.numba_loops"), subject.numba))
        return lambda x: run(x, *inputs[2:]), inputs[:1]

    build: dict[str, Factory] = {"tjit": in_tjit, "torch": in_torch, "jax": in_jax}
    if subject.numba:
        build["numba"] = in_numba
    return Row(
        f"{subject.name}: inference",
        subject.inputs,
        reference,
        build,
        Floor(subject.note, flops=subject.forward_flops),
        tolerance=1e-4,
        quick=quick,
        compile_seconds=subject.compile_seconds / 2,
    )


# -- the models --------------------------------------------------------------------------------------------------------


def _images(batch: int, channels: int, size: int, classes: int) -> Callable[[np.random.Generator, float], Arrays]:
    def make(rng: np.random.Generator, scale: float) -> Arrays:
        b = extent(batch, scale) if batch > 1 else 1
        return rng.standard_normal((b, channels, size, size), np.float32), rng.integers(0, classes, b)

    return make


def _gpt_model(framework: Any, parameters: list[Any] | None, scale: float) -> Any:
    if parameters is None:
        return models.gpt(framework) if scale == 1 else models.gpt(framework, 2, 2 * HEAD, 2, 17, 8)
    (vocabulary, width), context = parameters[0].shape, parameters[1].shape[0]
    return models.gpt(framework, (len(parameters) - 5) // 12, width, width // HEAD, vocabulary, context)


def _gpt_batch(rng: np.random.Generator, scale: float) -> Arrays:
    shape, vocabulary = ((8, 128), 256) if scale == 1 else ((2, 7), 17)
    return rng.integers(0, vocabulary, shape), rng.integers(0, vocabulary, shape)


def _gpt_flops(batch: int, tokens: int, layers: int, width: int, vocabulary: int) -> float:
    """Attention is causal: half of its products."""
    products = 2 * batch * tokens * (12 * layers * width * width + width * vocabulary)
    return products + layers * 2 * batch * tokens * tokens * width


def _lstm_batch(rng: np.random.Generator, scale: float) -> Arrays:
    t, b, width = (64, 32, 128) if scale == 1 else (3, 2, 128)
    return rng.standard_normal((t, b, width), np.float32), rng.integers(0, 10, b)


def _vgg_model(framework: Any, parameters: list[Any] | None, scale: float) -> Any:
    width = extent(64, scale) if parameters is None else parameters[0].shape[0]
    if parameters is None:
        return models.vgg16(framework, width, 224 if scale == 1 else 32)
    side = round((parameters[-6].shape[1] / (8 * width)) ** 0.5)
    return models.vgg16(framework, width, 32 * side)


def _vgg_batch(rng: np.random.Generator, scale: float) -> Arrays:
    return _images(1, 3, 224 if scale == 1 else 32, 1000)(rng, scale)


def _vgg_flops() -> float:
    flops, channels, size = 0, 3, 224
    for factor, convolutions in ((1, 2), (2, 2), (4, 3), (8, 3), (8, 3)):
        for _ in range(convolutions):
            flops += 2 * 9 * channels * 64 * factor * size * size
            channels = 64 * factor
        size //= 2
    return flops + 2 * (512 * 49 * 4096 + 4096 * 4096 + 4096 * 1000)


def _bottleneck_model(framework: Any, parameters: list[Any] | None, scale: float) -> Any:
    if parameters is not None:
        return models.bottleneck(framework, parameters[0].shape[1], parameters[0].shape[0])
    return models.bottleneck(framework, extent(256, scale), extent(64, scale))


def _bottleneck_batch(rng: np.random.Generator, scale: float) -> Arrays:
    b, channels, size = (8, 256, 56) if scale == 1 else (2, extent(256, scale), 5)
    return rng.standard_normal((b, channels, size, size), np.float32), np.zeros(0, np.int64)


LENET = Subject(
    "LeNet-5, batch 64",
    lambda framework, parameters, scale: models.lenet(framework),
    _images(64, 1, 28, 10),
    ("Adam", ADAM),
    (lambda weights: jax_models.lenet, lambda: jax_models.adam(ADAM["lr"])),
    2 * 64 * (25 * 6 * 28 * 28 + 150 * 16 * 10 * 10 + 400 * 120 + 120 * 84 + 840),
    numba="lenet",
)
GPT = Subject(
    "GPT 4 layers, width 128, 8 x 128 tokens",
    _gpt_model,
    _gpt_batch,
    ("AdamW", ADAMW),
    (
        lambda weights: jax_models.gpt(weights[0].shape[1] // HEAD),
        lambda: jax_models.adam(ADAMW["lr"], ADAMW["weight_decay"]),
    ),
    _gpt_flops(8, 128, 4, 128, 256),
)
LSTM = Subject(
    "LSTM 64 steps, 32 x 128",
    lambda framework, parameters, scale: models.lstm(framework),
    _lstm_batch,
    ("SGD", {"lr": 0.05}),
    (lambda weights: jax_models.lstm, lambda: jax_models.sgd(0.05)),
    2 * 64 * 32 * 2 * 128 * 512,
    compile_seconds=35,
    numba="lstm",
)
VGG = Subject(
    "VGG-16, batch 1",
    _vgg_model,
    _vgg_batch,
    ("SGD", {"lr": 0.01}),
    (lambda weights: jax_models.vgg16, lambda: jax_models.sgd(0.01)),
    _vgg_flops(),
)
BLOCK = Subject(
    "ResNet-50 block, 8 x 256 x 56 x 56",
    _bottleneck_model,
    _bottleneck_batch,
    ("SGD", {"lr": 0.01}),
    (lambda weights: jax_models.bottleneck, lambda: jax_models.sgd(0.01)),
    2 * 8 * 56 * 56 * (2 * 256 * 64 + 9 * 64 * 64),
)

ROWS = [
    training_row(LENET),
    training_row(GPT),
    training_row(LSTM),
    inference_row(LENET),
    inference_row(GPT),
    inference_row(LSTM),
    inference_row(VGG, quick=False),
    inference_row(BLOCK, quick=False),
]
