"""The process that measures one kernel: `python -m benchmarks.numpy_kernels.worker NAME SIZE ROUNDS VARIANT,...`.

Prints a line of JSON for each variant: its name and its Figure. The variants run in this one
process, each checked against NumPy first, then in rounds in which they take turns.
"""

from __future__ import annotations

import json
import os
import sys
import time
import traceback
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any

from benchmarks.numpy_kernels import load
from benchmarks.numpy_kernels.check import check, fresh, outcome
from benchmarks.numpy_kernels.variants import VARIANTS

__all__ = ["Figure", "measure"]

ROUND_SECONDS = 0.05  # what a variant runs for in a round, or one call if that takes longer
PAUSE_SECONDS = 0.005  # for the threads of the one before to fall asleep
TOLERANCE = 1e-9  # of the largest magnitude: sums of thousands of terms in another order, amplified by steps


@dataclass
class Figure:
    """What one variant did in one kernel.

    Attributes:
        ms: the median over the rounds of the median call of each.
        first_ms: the first call, compilation included.
        failure: why it has no figures, in one line.
    """

    ms: float | None = None
    first_ms: float | None = None
    failure: str | None = None
    rounds_ms: list[float] = field(default_factory=list)


def measure(name: str, size: str, rounds: int, variants: Sequence[str]) -> dict[str, Figure]:
    """Check and time the variants of one kernel."""
    kernel = load(name)
    arguments = kernel.arguments(size)
    expected = outcome(kernel.function, arguments)
    figures = {variant: Figure() for variant in variants}
    functions: dict[str, Callable[..., Any]] = {}
    for variant, figure in figures.items():
        try:
            function = VARIANTS[variant](kernel)
            figure.first_ms = 1000 * _seconds(function, arguments)
            check(outcome(function, arguments), expected, TOLERANCE)
            functions[variant] = function
        except Exception as error:
            if "BENCHMARK_TRACEBACK" in os.environ:
                traceback.print_exc()
            figure.failure = _one_line(error)
    for n in range(rounds):
        turn = n % max(1, len(functions))
        order = [*functions][turn:] + [*functions][:turn]  # nobody runs first in every round
        for variant in order:
            time.sleep(PAUSE_SECONDS)
            figures[variant].rounds_ms.append(1000 * _round(functions[variant], arguments))
    for variant in functions:
        figures[variant].ms = median(figures[variant].rounds_ms)
    return figures


def _round(function: Callable[..., Any], arguments: Sequence[Any]) -> float:
    """Seconds of the median call of one round."""
    samples = [_seconds(function, arguments)]
    while sum(samples) < ROUND_SECONDS:
        samples.append(_seconds(function, arguments))
    return median(samples)


def _seconds(function: Callable[..., Any], arguments: Sequence[Any]) -> float:
    given = fresh(arguments)
    start = time.perf_counter()
    result = function(*given)
    seconds = time.perf_counter() - start
    del result  # not in the time of this call
    return seconds


def _one_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return f"{type(error).__name__}: {' | '.join(lines[:3])}"[:300]


def main() -> None:
    name, size, rounds, variants = sys.argv[1:]
    warnings.simplefilter("ignore")  # Numba's advice on strided operands and on loops that are not parallel
    for variant, figure in measure(name, size, int(rounds), variants.split(",")).items():
        print(json.dumps([variant, asdict(figure)]))


if __name__ == "__main__":
    main()
