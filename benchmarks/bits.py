"""Whether tjit gives the same bits on every run and with every number of threads: `python -m benchmarks --bits`."""

from __future__ import annotations

import hashlib
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from benchmarks.harness import Worker, WorkerError
from benchmarks.rows import Row, outputs_of

__all__ = ["RUNS", "Bits", "compare_bits", "repeat"]

RUNS = 1000


@dataclass(frozen=True)
class Bits:
    """What came of one row: runs with each number of threads, and what differed (None: nothing)."""

    row: str
    runs: tuple[int, ...]
    problem: str | None = None

    def __str__(self) -> str:
        return f"{self.row}: {self.problem or 'the same bits'} in {' and '.join(f'{n:,}' for n in self.runs)} runs"


def repeat(call: Callable[[], Any], has_state: bool, most: int, seconds: float) -> tuple[list[str], int]:
    """(digests, runs): of every run of a function with state, else one of all, which have to be equal.

    Runs go on for `seconds` after the first, which compiles.

    Raises:
        ValueError: a run gave other bits than the first.
    """
    digests, runs = [_digest(call())], 1
    start = time.perf_counter()
    while runs < most and (runs < 2 or time.perf_counter() - start < seconds):
        found = _digest(call())
        runs += 1
        if has_state:
            digests.append(found)
        elif found != digests[0]:
            raise ValueError(f"run {runs} gave other bits than the first")
    return digests, runs


def _digest(result: Any) -> str:
    digest = hashlib.blake2b(digest_size=16)
    for output in outputs_of(result):
        digest.update(np.ascontiguousarray(output).data)
    return digest.hexdigest()


def compare_bits(rows: Sequence[Row], threads: Sequence[int], seconds: float, report: Callable[[str], None]) -> bool:
    """Run each row in tjit, in a process for each number of threads; whether all bits agree."""
    found = []
    for row in rows:
        found.append(_compare(row, threads, seconds))
        report(str(found[-1]))
    wrong = [bits.row for bits in found if bits.problem is not None]
    report(
        f"{len(found) - len(wrong)} of {len(found)} rows give the same bits" + "".join(f"\n  not {w}" for w in wrong)
    )
    return not wrong


def _compare(row: Row, threads: Sequence[int], seconds: float) -> Bits:
    answers: list[tuple[list[str], int]] = []
    with tempfile.TemporaryDirectory() as cache:
        for count in threads:
            worker = Worker("tjit", count, cache, cores=max(threads))
            try:
                worker.ask("build", row.name)
                answers.append(worker.ask("bits", RUNS, seconds, seconds=seconds + 120))
            except WorkerError as error:
                return Bits(row.name, tuple(n for _, n in answers), f"with {count} threads: {error}")
            finally:
                worker.close()
    runs = tuple(n for _, n in answers)
    for step, digests in enumerate(zip(*(digests for digests, _ in answers), strict=False), 1):
        if len(set(digests)) > 1:
            return Bits(row.name, runs, f"other bits with other numbers of threads, first in run {step}")
    return Bits(row.name, runs)
