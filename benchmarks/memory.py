"""Peak memory of models, tjit beside PyTorch's eager mode: `python -m benchmarks.memory`.

Each measurement has a process of its own. `step` is how far the resident memory rises above what lies there once model
and inputs are made, over several steps; `process` is the peak in all, from the start of the steps on, imports included.
tjit is measured twice: where the disk cache holds the program, and where it is compiled first, for which LLVM needs
memory too. `arena` is what the program plans for its intermediates.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import training
from benchmarks.frameworks import FRAMEWORKS, environment, pin
from benchmarks.harness import ROOT
from benchmarks.rows import Row, all_rows
from benchmarks.table import align

__all__ = ["ROWS", "Peak", "measure"]

STEPS = 3
ROWS = (
    f"{training.GPT.name}: training step",
    f"{training.LENET.name}: training step",
    f"{training.LSTM.name}: training step",
    f"{training.VGG.name}: inference",
    f"{training.BLOCK.name}: inference",
)


@dataclass(frozen=True)
class Peak:
    """Megabytes: of the steps, of the process, and of the arena (0: none)."""

    step: float
    process: float
    arena: float = 0


def _status(name: str) -> float:
    """Megabytes of a line of this process's status: VmRSS, or VmHWM, the largest since `_reset_peak`."""
    (kilobytes,) = re.findall(rf"^{name}:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(kilobytes) / 1024


def _reset_peak() -> None:
    """From here on VmHWM counts; what was freed before goes back to the system first."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    Path("/proc/self/clear_refs").write_text("5")


def measure(framework: str, threads: int, row: Row, scale: float = 1.0) -> Peak:
    """In this process."""
    from_numpy, _, compile, wait = FRAMEWORKS[framework].load(threads)
    arrays = tuple(from_numpy(x) for x in row.inputs(scale))
    call, arguments = row.build[FRAMEWORKS[framework].rows](compile, arrays)
    del arrays
    _reset_peak()
    before = _status("VmRSS")
    for _ in range(STEPS):
        wait(call(*arguments))
    peak = _status("VmHWM")
    return Peak(peak - before, peak, _arena(call, arguments) if framework == "tjit" else 0)


def _arena(call: Any, arguments: tuple[Any, ...]) -> float:
    from tjit.ir.dims import evaluate

    return evaluate(call.variant_for(arguments, {}).program.info.arena, {}) / 1e6


def _in_process(framework: str, threads: int, row: str, cache: str) -> Peak:
    command = [sys.executable, "-m", "benchmarks.memory", "--only", framework, "--threads", str(threads), "--row", row]
    done = subprocess.run(command, cwd=ROOT, env=environment(threads, cache), capture_output=True, text=True)
    if done.returncode:
        raise RuntimeError(f"{framework}, {row}: {done.stderr.strip().splitlines()[-1]}")
    return Peak(*map(float, done.stdout.split()))


def table(names: list[str], threads: int, report: Callable[[str], None]) -> list[list[str]]:
    """A line for each row; headings first."""
    lines = [["row", "tjit MB", "torch MB", "torch / tjit", "arena MB", "tjit compiling MB", "process: tjit", "torch"]]
    for name in names:
        with tempfile.TemporaryDirectory() as cache:
            compiling = _in_process("tjit", threads, name, cache)
            ours = _in_process("tjit", threads, name, cache)
            theirs = _in_process("torch", threads, name, cache)
        figures = [f"{x:,.1f}" for x in (ours.step, theirs.step)]
        more = [f"{x:,.0f}" for x in (ours.arena, compiling.step, ours.process, theirs.process)]
        lines.append([name, *figures, f"{theirs.step / max(ours.step, 0.1):.2f}", *more])
        report(name)
    return lines


def main() -> None:
    parser = argparse.ArgumentParser("python -m benchmarks.memory", description=__doc__)
    parser.add_argument("--threads", type=int, default=min(2, os.cpu_count() or 1))
    parser.add_argument("--rows", default="", help="only rows whose name matches")
    parser.add_argument("--row", help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.only:
        pin(options.threads)
        row = next(row for row in all_rows() if row.name == options.row)
        peak = measure(options.only, options.threads, row)
        print(peak.step, peak.process, peak.arena)
        return
    names = [name for name in ROWS if re.search(options.rows, name, re.IGNORECASE)]
    lines = table(names, options.threads, lambda line: print(line, file=sys.stderr, flush=True))
    print(align(lines))
    above = [line[0] for line in lines[1:] if float(line[3]) < 1]
    print("tjit is above torch in: " + "; ".join(above) if above else "tjit is nowhere above torch")


if __name__ == "__main__":
    np.seterr(all="ignore")
    main()
