"""What a row of the benchmark is: one computation, written with each framework's public API."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import numpy as np

from tjit.profiler.machine import Limits

__all__ = [
    "Arrays", "Compile", "Factory", "Floor", "Row", "all_rows", "by_inputs", "extent", "normal", "normals",
    "numba_loops", "shared", "swept_rows",
]  # fmt: skip

Arrays = tuple[np.ndarray, ...]
Compile = Callable[[Callable[..., Any]], Callable[..., Any]]
# A framework's compile function (identity for eager ones) and the inputs as its arrays; what to call, and with what.
Factory = Callable[[Compile, tuple[Any, ...]], tuple[Callable[..., Any], tuple[Any, ...]]]


@dataclass(frozen=True)
class Floor:
    """The time below which a row cannot go, and why. The longest of its parts counts.

    Attributes:
        streamed: bytes that cross the memory bus, reads and writes mixed as in a triad.
        read: bytes that are read only.
        flops: floating-point operations, a multiply-add counting as two.
        one_core: the work is too small to share: count the peak of one core.
        us: microseconds, where neither bytes nor operations decide.
    """

    reason: str
    streamed: float = 0
    read: float = 0
    flops: float = 0
    one_core: bool = False
    us: float = 0

    def microseconds(self, limits: Limits) -> float:
        peak = limits.peak_one_core if self.one_core else limits.peak
        return max(self.us, self.streamed / limits.triad / 1e3, self.read / limits.read / 1e3, self.flops / peak / 1e3)


@dataclass(frozen=True)
class Row:
    """One computation.

    Attributes:
        make: inputs from a generator and a scale; 1 is the size that the name says, tests take less.
        reference: the outputs from the inputs, in NumPy; floats come as f64.
        build: a factory for each framework. `torch` serves torch.compile too.
        tolerance: relative to the largest magnitude of the output.
        steps: 0, or for a function with state how many calls the reference gives the results of, stacked.
        quick: whether it is in the short run too: the others are more sizes of what the short run shows.
        compile_seconds: what a slow compiler needs for it at least.
    """

    name: str
    make: Callable[[np.random.Generator, float], Arrays]
    reference: Callable[..., Any]
    build: dict[str, Factory]
    floor: Floor
    tolerance: float = 1e-5
    steps: int = 0
    quick: bool = True
    compile_seconds: float = 3

    def inputs(self, scale: float = 1.0) -> Arrays:
        """The inputs, the same in every process."""
        return self.make(np.random.default_rng(0), scale)

    def expected(self, inputs: Arrays) -> list[np.ndarray]:
        """What every framework must give for `inputs`."""
        return outputs_of(self.reference(*(x.astype(np.float64) if x.dtype == np.float32 else x for x in inputs)))


def outputs_of(result: Any) -> list[Any]:
    """The arrays of a result, which is one or a sequence."""
    return list(result) if isinstance(result, (tuple, list)) else [result]


def by_inputs(**factories: Callable[[Compile], Callable[..., Any]]) -> dict[str, Factory]:
    """Factories of functions without state, which are called with the row's inputs."""

    def bind(factory: Callable[[Compile], Callable[..., Any]]) -> Factory:
        return lambda compile, inputs: (factory(compile), inputs)

    return {framework: bind(factory) for framework, factory in factories.items()}


def shared(write: Callable[[Any], Callable[..., Any]]) -> dict[str, Factory]:
    """Factories of a function that reads the same in tjit and PyTorch: `write` is given the framework's module."""

    def factory(name: str) -> Callable[[Compile], Callable[..., Any]]:
        return lambda compile: compile(write(import_module(name)))

    return by_inputs(tjit=factory("tjit"), torch=factory("torch"))


def numba_loops(name: str) -> dict[str, Factory]:
    """The factory of a function in `benchmarks.numba_loops`, which only Numba's process imports."""
    return by_inputs(numba=lambda compile: compile(getattr(import_module("benchmarks.numba_loops"), name)))


def extent(full: int, scale: float) -> int:
    """An extent at a scale; never below 2."""
    return max(2, round(full * scale))


def normal(*shape: int) -> Callable[[np.random.Generator, float], Arrays]:
    """Makes one f32 array of normal numbers."""
    return normals(shape)


def normals(*shapes: Sequence[int]) -> Callable[[np.random.Generator, float], Arrays]:
    """Makes f32 arrays of normal numbers."""

    def make(rng: np.random.Generator, scale: float) -> Arrays:
        return tuple(rng.standard_normal([extent(d, scale) for d in shape], np.float32) for shape in shapes)

    return make


def all_rows() -> list[Row]:
    """Every row, in the order of the table."""
    from benchmarks import contractions, convolutions, elementwise, networks, optimizers, reductions, small, training

    topics = (elementwise, reductions, contractions, convolutions, networks, training, optimizers, small)
    return [row for topic in topics for row in topic.ROWS]


def swept_rows() -> list[Row]:
    """The rows of tables of their own: many shapes of one operation (`benchmarks.sweep`)."""
    from benchmarks import contractions, convolutions

    return [*contractions.SWEPT, *convolutions.SWEPT]
