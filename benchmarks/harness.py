"""Runs rows: a process for each framework, answers checked first, then rounds in which the frameworks take turns."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Pipe
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.frameworks import FRAMEWORKS, environment
from benchmarks.rows import Row
from tjit.profiler.machine import Limits

__all__ = ["QUICK_SECONDS", "Figure", "Outcome", "Plan", "Worker", "WorkerError", "limits", "run"]

ROOT = Path(__file__).resolve().parent.parent
RESERVED_SECONDS = 3.5  # of a budget, for what is not slow in each row to come
LOAD_SECONDS = 4  # for a slow framework to load what it has compiled before
QUICK_SECONDS = 105  # for the rows of a short run, beside the measuring of limits
EXPECT_SECONDS = 600  # for NumPy's answers of a row
LEFT_OUT = "left out: the budget has no time to compile it; --budget 800 has"
PAUSE_SECONDS = {"numpy": 0.15, "numba": 0.15}  # until the threads of the one before sleep: OpenBLAS's spin that long
SHORT_PAUSE_SECONDS = 0.005  # for those of the others


@dataclass(frozen=True)
class Plan:
    """How thoroughly to measure.

    Attributes:
        batch_seconds: what one framework runs for in one round.
        first_samples: fresh processes for the first call of a framework that has a disk cache; 0: it is not timed.
        fresh: a new process for every row; else a framework keeps its process from row to row.
        seconds: a budget for all rows, kept by leaving out what is slow to compile; None: none.
        kept: a folder in which runs leave what the peers compiled and what the answers are; None: all is made anew.
    """

    threads: int
    rounds: int = 11
    batch_seconds: float = 0.04
    first_samples: int = 3
    fresh: bool = True
    seconds: float | None = None
    kept: str | None = None

    @staticmethod
    def quick(threads: int, seconds: float = QUICK_SECONDS) -> Plan:
        return Plan(
            threads,
            rounds=5,
            batch_seconds=0.02,
            first_samples=1,
            fresh=False,
            seconds=seconds,
            kept=kept_folder(),
        )


def kept_folder() -> str:
    """Where short runs keep what others can use: TJIT_BENCHMARKS_CACHE, or a folder of the user's caches."""
    home = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    return os.environ.get("TJIT_BENCHMARKS_CACHE") or os.path.join(home, "tjit-benchmarks")


@dataclass
class Figure:
    """What one framework did in one row: microseconds, or why not.

    Attributes:
        us: the median over the rounds of the median call of each.
        first_ms: the first call, compilation included.
        disk_ms: the first call of a process that finds the disk cache of another.
        error: relative to the largest magnitude of the output.
    """

    us: float | None = None
    first_ms: float | None = None
    disk_ms: float | None = None
    error: float | None = None
    rounds_us: list[float] = field(default_factory=list)
    failure: str | None = None


@dataclass
class Outcome:
    """One row's figures by framework, in the order asked for; frameworks that have no such row are absent."""

    row: Row
    figures: dict[str, Figure]


class WorkerError(Exception):
    """A worker failed, died or took too long."""


class Worker:
    """A process that runs one framework, on as many cores as it has threads unless told otherwise."""

    def __init__(
        self, framework: str, threads: int, cache: str, kept: str | None = None, cores: int | None = None
    ) -> None:
        self.framework = framework
        self._pipe, other = Pipe()
        self._log = tempfile.TemporaryFile()  # noqa: SIM115  # lives as long as the process
        with other:
            numbers = (threads, other.fileno(), cores or threads)
            self.process = subprocess.Popen(
                [sys.executable, "-m", "benchmarks.worker", framework, *map(str, numbers)],
                cwd=ROOT,
                env=environment(threads, cache, kept),
                pass_fds=[other.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=self._log,
                stderr=self._log,
                start_new_session=True,
            )

    def ask(self, *command: Any, seconds: float = 120) -> Any:
        """The worker's answer.

        Raises:
            WorkerError: it failed, died, or gave no answer within `seconds`. It is gone after the last two.
        """
        try:
            self._pipe.send(command)
            if not self._pipe.poll(seconds):
                self.close()
                raise WorkerError(f"no answer to {command[0]!r} in {seconds:g} s")
            status, value = self._pipe.recv()
        except (EOFError, OSError):
            raise WorkerError(f"the process died: {self._last_words()}") from None
        if status == "error":
            raise WorkerError(value)
        return value

    def _last_words(self) -> str:
        code = self.process.wait(10)
        self._log.seek(0)
        lines = self._log.read().decode(errors="replace").strip().splitlines()
        return f"exit status {code}" + (f", {lines[-1]}" if lines else "")

    def alive(self) -> bool:
        return self.process.poll() is None

    def close(self) -> None:
        """End the process and those it started."""
        if self._pipe.closed:
            return  # its number may be another process's by now
        self._pipe.close()
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self._log.close()


@contextlib.contextmanager
def _scratch() -> Iterator[str]:
    folder = tempfile.mkdtemp(prefix="tjit-benchmarks-")
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def limits(threads: int) -> Limits:
    """The machine's limits, measured in a process of its own."""
    command = [sys.executable, "-m", "tjit.profiler.machine", str(threads)]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    return Limits(**json.loads(done.stdout))


def run(rows: Sequence[Row], frameworks: Sequence[str], plan: Plan, report: Callable[[str], None]) -> list[Outcome]:
    """Measure rows. A framework that fails in one is reported there, and takes part in the next."""
    with _scratch() as folder, contextlib.ExitStack() as stack:
        pool = _Pool(plan, folder)
        stack.callback(pool.close)
        outcomes = []
        began = time.perf_counter()
        for n, row in enumerate(rows):
            start = time.perf_counter()
            later = RESERVED_SECONDS * (len(rows) - n)
            left = math.inf if plan.seconds is None else began + plan.seconds - later - start
            outcomes.append(_run_row(row, frameworks, plan, pool, Path(folder), left))
            if plan.fresh:
                pool.close()
            report(f"{row.name}  ({time.perf_counter() - start:.0f} s)")
        return outcomes


class _Pool:
    """The workers that are alive, one for a framework."""

    def __init__(self, plan: Plan, folder: str) -> None:
        self._plan = plan
        self._folder = folder
        self._workers: dict[str, Worker] = {}

    def get(self, framework: str) -> Worker:
        worker = self._workers.get(framework)
        if worker is None or not worker.alive():
            self.drop(framework)
            worker = self._workers[framework] = self.start(framework, os.path.join(self._folder, "cache"))
        return worker

    def start(self, framework: str, cache: str) -> Worker:
        return Worker(framework, self._plan.threads, cache, self._plan.kept)

    def drop(self, framework: str) -> None:
        worker = self._workers.pop(framework, None)
        if worker is not None:
            worker.close()

    def close(self) -> None:
        for framework in list(self._workers):
            self.drop(framework)


def _run_row(
    row: Row, frameworks: Sequence[str], plan: Plan, pool: _Pool, folder: Path, seconds: float = math.inf
) -> Outcome:
    """Measure one row; what is slow to compile, and was not compiled before, has `seconds` for it."""
    chosen = [name for name in frameworks if FRAMEWORKS[name].rows in row.build]
    figures = {name: Figure(failure=FRAMEWORKS[name].missing()) for name in chosen}
    expected = _expected(row, plan, folder)
    for name, figure in figures.items():
        if figure.failure is None:
            with _noting_failure(figure, pool, name):
                _prepare(row, name, figure, plan, pool, expected, seconds)
    before = ""
    for n in range(plan.rounds):
        running = [name for name in figures if figures[name].failure is None]
        turn = n % max(1, len(running))
        for name in running[turn:] + running[:turn]:  # nobody runs first in every round
            with _noting_failure(figures[name], pool, name):
                time.sleep(PAUSE_SECONDS.get(before, SHORT_PAUSE_SECONDS))
                before = name
                figures[name].rounds_us.append(pool.get(name).ask("batch", plan.batch_seconds) * 1e6)
    for figure in figures.values():
        figure.us = median(figure.rounds_us) if figure.failure is None else None
    return Outcome(row, figures)


def _expected(row: Row, plan: Plan, folder: Path) -> Path:
    """The file of a row's answers: computed, or where the plan keeps them found from a run of the same benchmarks."""
    path, stem = folder / "expected.npz", re.sub(r"\W+", "-", row.name)
    if plan.kept is not None:
        path = Path(plan.kept, "expected", f"{stem}.{_version(row.name)}.npz")
    if plan.kept is None or not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        unfinished = path.with_name(f"{os.getpid()}.npz")
        reference = Worker("numpy", plan.threads, str(folder))
        try:
            reference.ask("expect", row.name, str(unfinished), seconds=EXPECT_SECONDS)
        finally:
            reference.close()
        for stale in path.parent.glob(f"{stem}.*.npz"):  # of other benchmarks: they are large
            stale.unlink(missing_ok=True)
        unfinished.replace(path)
    return path


def _version(name: str) -> str:
    """A hash of a row's name and the benchmarks' source."""
    texts = [path.read_text(encoding="utf-8") for path in sorted(Path(__file__).parent.glob("*.py"))]
    return hashlib.blake2b("\0".join([name, *texts]).encode(), digest_size=12).hexdigest()


def _prepare(
    row: Row, name: str, figure: Figure, plan: Plan, pool: _Pool, expected: Path, seconds: float = math.inf
) -> None:
    """Time the first call, check the answers, and warm up.

    Raises:
        WorkerError: it fails, or `seconds` are not enough for it.
    """
    done = None if plan.kept is None else Path(plan.kept, "compiled", f"{name} {_version(row.name)}")
    allowed = FRAMEWORKS[name].first_seconds
    if FRAMEWORKS[name].slow:
        if seconds < (LOAD_SECONDS if done is not None and done.exists() else row.compile_seconds):
            raise WorkerError(LEFT_OUT)
        allowed = min(allowed, seconds)
    if FRAMEWORKS[name].caches and plan.first_samples:
        _time_first_calls(row, name, figure, plan, pool)
    worker = pool.get(name)
    worker.ask("build", row.name)
    first = worker.ask("first", seconds=allowed)
    figure.first_ms = figure.first_ms or first * 1e3
    figure.error = worker.ask("check", str(expected), seconds=allowed)
    worker.ask("warm")
    if done is not None:
        done.parent.mkdir(parents=True, exist_ok=True)
        done.touch()


def _time_first_calls(row: Row, name: str, figure: Figure, plan: Plan, pool: _Pool) -> None:
    """Medians over fresh processes: with an empty disk cache, and with what that one left there."""
    cold, disk = [], []
    for _ in range(plan.first_samples):
        with _scratch() as cache:
            for seconds in (cold, disk):
                worker = pool.start(name, cache)
                try:
                    worker.ask("build", row.name)
                    seconds.append(worker.ask("first", seconds=FRAMEWORKS[name].first_seconds))
                finally:
                    worker.close()
    figure.first_ms, figure.disk_ms = median(cold) * 1e3, median(disk) * 1e3


@contextlib.contextmanager
def _noting_failure(figure: Figure, pool: _Pool, name: str) -> Iterator[None]:
    """A worker's failure becomes its figure's."""
    try:
        yield
    except WorkerError as error:
        figure.failure = str(error)
        pool.drop(name)
