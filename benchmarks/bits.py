"""Whether tjit gives the same bits on every run and with every number of threads: `python -m benchmarks --bits`.

Each row has a process for each number of threads, in which every run is compared whole with the first. Rows that leave
cores free run side by side.
"""

from __future__ import annotations

import ctypes
import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import Worker, WorkerError
from benchmarks.rows import Row, outputs_of

__all__ = ["RUNS", "Answers", "compare_bits", "repeat"]

RUNS = 1000
PATIENCE_SECONDS = 3600  # for the runs of one row that no option limits

_memcmp = ctypes.CDLL(None).memcmp  # at the speed of memory, with nothing stored
_memcmp.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_size_t)


@dataclass(frozen=True)
class Answers:
    """What one process gave for a row.

    Attributes:
        digests: of every run of a function with state, else one of all.
        problem: what differed or failed, or None.
    """

    digests: tuple[str, ...] = ()
    runs: int = 0
    problem: str | None = None

    def __str__(self) -> str:
        return self.problem or f"the same bits in {self.runs:,} runs"

    def beside(self, other: Answers | None) -> Answers:
        """These, with a problem where another number of threads, whose answers had none, gave other bits."""
        if self.problem or other is None:
            return self
        for run, pair in enumerate(zip(self.digests, other.digests, strict=False), 1):
            if len(set(pair)) > 1:
                return Answers(self.digests, self.runs, f"other bits than with more threads, first in run {run}")
        return self


def repeat(call: Callable[[], Any], has_state: bool, most: int, seconds: float | None) -> Answers:
    """Run a function `most` times, or as often as fits in `seconds` after the first run, which compiles.

    Args:
        has_state: each run gives something else; without it runs are compared with the first, every one whole.

    Raises:
        ValueError: a run gave other bits than the first.
    """
    first = [np.array(output, order="C") for output in outputs_of(call())]
    digests, runs = [_digest(first)], 1
    start = time.perf_counter()
    while runs < most and (runs < 2 or seconds is None or time.perf_counter() - start < seconds):
        found = [np.ascontiguousarray(output) for output in outputs_of(call())]
        runs += 1
        if has_state:
            digests.append(_digest(found))
        elif not _same_bits(found, first):
            raise ValueError(f"run {runs} gave other bits than the first")
    return Answers(tuple(digests), runs)


def _same_bits(found: Sequence[np.ndarray], wanted: Sequence[np.ndarray]) -> bool:
    pairs = zip(found, wanted, strict=True)
    return all(a.nbytes == b.nbytes and _memcmp(a.ctypes.data, b.ctypes.data, a.nbytes) == 0 for a, b in pairs)


def _digest(outputs: Sequence[np.ndarray]) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for output in outputs:
        digest.update(output.data)
    return digest.hexdigest()


def compare_bits(
    rows: Sequence[Row], threads: Sequence[int], seconds: float | None, report: Callable[[str], None]
) -> bool:
    """Run each row in tjit with each number of threads; whether all bits agree."""
    cores = max(threads)
    before: dict[str, Answers] = {}
    wrong: dict[str, None] = {}
    with tempfile.TemporaryDirectory() as cache:
        for count in sorted(threads, reverse=True):
            with ThreadPoolExecutor(cores // count) as pool:
                found = pool.map(lambda row, n=count: _run(row, n, cores, cache, seconds), rows)
                for row, answers in zip(rows, found, strict=True):
                    answers = answers.beside(before.get(row.name))
                    report(f"{row.name}, threads: {count}: {answers}")
                    if answers.problem:
                        wrong[row.name] = None
                    before.setdefault(row.name, answers)
    report(f"{len(rows) - len(wrong)} of {len(rows)} rows give the same bits" + "".join(f"\n  not {w}" for w in wrong))
    return not wrong


def _run(row: Row, threads: int, cores: int, cache: str, seconds: float | None) -> Answers:
    worker = Worker("tjit", threads, cache, cores=cores)
    try:
        worker.ask("build", row.name)
        return worker.ask("bits", RUNS, seconds, seconds=PATIENCE_SECONDS if seconds is None else seconds + 120)
    except WorkerError as error:
        return Answers(problem=str(error))
    finally:
        worker.close()
