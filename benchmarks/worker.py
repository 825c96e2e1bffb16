"""The process that runs one framework: commands come over a pipe, answers go back.

    python -m benchmarks.worker FRAMEWORK THREADS FILE_DESCRIPTOR CORES

A command is (name, *arguments), an answer ("ok", value) or ("error", text).
"""

from __future__ import annotations

import sys
import time
from itertools import repeat
from multiprocessing.connection import Connection
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.frameworks import FRAMEWORKS, pin
from benchmarks.rows import Row, all_rows, outputs_of, swept_rows

if TYPE_CHECKING:
    from benchmarks.bits import Answers

__all__ = ["Job", "write_expected"]

SAMPLE_SECONDS = 50e-6  # calls faster than this are timed several at a time: reading the clock costs 50 ns
WARM_SECONDS = 0.1


class Job:
    """One row in one framework."""

    def __init__(self, framework: str, threads: int, row: Row, scale: float = 1.0) -> None:
        self.row = row
        from_numpy, self._to_numpy, compile, self._wait = FRAMEWORKS[framework].load(threads)
        arrays = tuple(from_numpy(x) for x in row.inputs(scale))
        self._call, self._arguments = row.build[FRAMEWORKS[framework].rows](compile, arrays)
        self._results: list[Any] = []
        self._calls = 1

    def first(self) -> float:
        """Seconds of the first call, compilation included."""
        start = time.perf_counter()
        result = self._wait(self._call(*self._arguments))
        seconds = time.perf_counter() - start
        self._results.append(result)
        return seconds

    def check(self, expected: list[np.ndarray]) -> float:
        """The largest error of the first and the second call, relative to the largest magnitude of each output.

        Raises:
            ValueError: an output has another shape or dtype, or is further off than the row allows.
        """
        while len(self._results) < max(2, self.row.steps):
            self._results.append(self._wait(self._call(*self._arguments)))
        results = [[np.asarray(self._to_numpy(o)) for o in outputs_of(r)] for r in self._results]
        self._results = []
        if self.row.steps:
            results = [[np.stack([r[0] for r in results])]]
        return max(compare(outputs, expected, self.row.tolerance) for outputs in results)

    def warm(self) -> float:
        """Call until everything is settled; the seconds of a call."""
        start, n = time.perf_counter(), 0
        while n < 2 or time.perf_counter() - start < WARM_SECONDS:
            self._wait(self._call(*self._arguments))
            n += 1
        self._calls = 1
        while (one := self._sample()) * self._calls < SAMPLE_SECONDS:
            self._calls *= 2
        return one

    def batch(self, seconds: float) -> float:
        """The median seconds of a call, over calls of `seconds` in all."""
        samples, end = [], time.perf_counter() + seconds
        while len(samples) < 2 or time.perf_counter() < end:
            samples.append(self._sample())
        return median(samples)

    def bits(self, runs: int, seconds: float | None) -> Answers:
        """What `bits.repeat` gives."""
        from benchmarks.bits import repeat

        def run() -> list[np.ndarray]:
            result = self._wait(self._call(*self._arguments))
            return [np.asarray(self._to_numpy(o)) for o in outputs_of(result)]

        return repeat(run, bool(self.row.steps), runs, seconds)

    def _sample(self) -> float:
        call, arguments, wait = self._call, self._arguments, self._wait
        n = self._calls
        if n == 1:
            start = time.perf_counter()
            result = wait(call(*arguments))
            seconds = time.perf_counter() - start
            del result  # giving an output back is not part of making it, and costs every framework the same munmap
            return seconds
        start = time.perf_counter()
        for _ in repeat(None, n):
            wait(call(*arguments))
        return (time.perf_counter() - start) / n


def compare(outputs: list[np.ndarray], expected: list[np.ndarray], tolerance: float) -> float:
    """The largest error, relative to the largest magnitude of its output.

    Raises:
        ValueError: an output has another shape or dtype than wanted, or is further off than the tolerance.
    """
    if len(outputs) != len(expected):
        raise ValueError(f"wrong answer: {len(outputs)} outputs, not {len(expected)}")
    worst = 0.0
    for i, (got, want) in enumerate(zip(outputs, expected, strict=True)):
        if got.shape != want.shape or got.dtype != np.float32:
            raise ValueError(f"wrong answer: output {i} is {got.dtype}{list(got.shape)}, not f32{list(want.shape)}")
        error = float(np.abs(got - want).max() / max(np.abs(want).max(), 1e-30)) if want.size else 0.0
        if not error <= tolerance:  # nan too
            raise ValueError(f"wrong answer: output {i} is off by {error:.1e}, {tolerance:.0e} is allowed")
        worst = max(worst, error)
    return worst


def write_expected(row: Row, path: Path) -> None:
    """Compute a row's outputs in NumPy and leave them in a file."""
    np.savez(path, *row.expected(row.inputs()))


def read_expected(path: Path) -> list[np.ndarray]:
    with np.load(path) as file:
        return [file[name] for name in file.files]


def main() -> None:
    framework, threads, descriptor, cores = sys.argv[1], *map(int, sys.argv[2:5])
    pin(cores)
    pipe = Connection(descriptor)
    rows = {row.name: row for row in (*all_rows(), *swept_rows())}
    job: Job | None = None
    while True:
        try:
            command, *arguments = pipe.recv()
        except EOFError:
            return
        try:
            value: Any = None
            if command == "expect":
                write_expected(rows[arguments[0]], arguments[1])
            elif command == "build":
                job = None  # the arrays of the row before go first
                job = Job(framework, threads, rows[arguments[0]])
            elif command == "check":
                assert job is not None
                value = job.check(read_expected(arguments[0]))
            else:
                value = getattr(job, command)(*arguments)
            pipe.send(("ok", value))
        except Exception as error:  # any failure is the row's, not the run's
            pipe.send(("error", f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main()
