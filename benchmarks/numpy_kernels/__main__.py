"""Time NumPy programs under tjit beside NumPy and Numba.

    python -m benchmarks.numpy_kernels
    python -m benchmarks.numpy_kernels --rows 'lu|durbin' --size S --rounds 3 --json out.json

Each kernel has a process of its own, in which the variants take turns; results and mutated arguments are checked
against NumPy before anything is timed. Numba compiles with and without parallel=True, the faster counts; nobody has
fast-math.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from benchmarks.__main__ import default_threads, pattern, positive
from benchmarks.frameworks import environment
from benchmarks.harness import ROOT
from benchmarks.numpy_kernels import NAMES
from benchmarks.numpy_kernels.variants import VARIANTS
from benchmarks.numpy_kernels.worker import Figure
from benchmarks.table import align, geometric_mean, number
from tjit.profiler.machine import processor

SECONDS = 300  # for a kernel, all variants compiled, checked and timed
HEADINGS = ["kernel", "numpy ms", "numba ms", "parallel ms", "tjit ms", "x numpy", "x numba", "tjit first ms"]


@dataclass(frozen=True)
class Outcome:
    """One kernel's figures by variant."""

    name: str
    figures: dict[str, Figure]

    def ms(self, variant: str) -> float | None:
        figure = self.figures.get(variant)
        return figure and figure.ms

    def ratio(self, *peers: str) -> float | None:
        """The fastest of the peers' times over tjit's."""
        ours, theirs = self.ms("tjit"), [ms for ms in map(self.ms, peers) if ms]
        return min(theirs) / ours if ours and theirs else None

    @property
    def over_numpy(self) -> float | None:
        return self.ratio("numpy")

    @property
    def over_numba(self) -> float | None:
        return self.ratio("numba", "numba parallel")


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    names = [name for name in NAMES if options.rows.search(name)]
    if not names:
        print(f"no kernel matches {options.rows.pattern!r}: there are {', '.join(NAMES)}", file=sys.stderr)
        return 2
    outcomes = []
    for name in names:
        start = time.perf_counter()
        outcomes.append(run(name, options))
        print(f"{name}  ({time.perf_counter() - start:.0f} s)", file=sys.stderr, flush=True)
    print(f"\n{processor()}, {options.threads} threads, size {options.size}\n")
    print(report(outcomes))
    if options.json:
        options.json.write_text(json.dumps(as_json(outcomes, options), indent=1) + "\n", encoding="utf-8")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks.numpy_kernels",
        description=summary,
        epilog=rest,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=pattern, default=pattern(""), metavar="REGEX", help="only kernels whose name matches")
    add("--variants", type=variants, default=[*VARIANTS], metavar="A,B", help=", ".join(VARIANTS))
    add("--size", choices=["S", "M"], default="M", help="of the arguments (%(default)s)")
    add("--rounds", type=positive, default=5, metavar="N", help="(%(default)s)")
    add("--threads", type=positive, default=default_threads(), metavar="N", help="for each variant (%(default)s)")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    return parser.parse_args(argv)


def variants(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in VARIANTS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(VARIANTS)}")
    return names


def run(name: str, options: argparse.Namespace) -> Outcome:
    """Measure a kernel in a process of its own, with an empty disk cache."""
    with tempfile.TemporaryDirectory(prefix="tjit-kernels-") as cache:
        command = [sys.executable, "-m", "benchmarks.numpy_kernels.worker", name, options.size, str(options.rounds)]
        try:
            done = subprocess.run(
                [*command, ",".join(options.variants)],
                cwd=ROOT,
                env=environment(options.threads, cache),
                stdout=subprocess.PIPE,
                text=True,
                timeout=SECONDS,
            )
        except subprocess.TimeoutExpired:
            return Outcome(name, {"all": Figure(failure=f"not ready after {SECONDS} s")})
    if done.returncode:
        return Outcome(name, {"all": Figure(failure=f"the process died, exit status {done.returncode}")})
    figures = {}
    for line in done.stdout.splitlines():
        variant, fields = json.loads(line)
        figures[variant] = Figure(**fields)
    return Outcome(name, figures)


def report(outcomes: Sequence[Outcome]) -> str:
    """The table, the geometric means and a line for every failure."""
    lines = [align(table(outcomes)), "", summary("NumPy", [o.over_numpy for o in outcomes])]
    lines.append(summary("the best of Numba", [o.over_numba for o in outcomes]))
    for outcome in outcomes:
        lines += [f"  - {outcome.name}, {v}: {f.failure}" for v, f in outcome.figures.items() if f.failure]
    return "\n".join(lines)


def table(outcomes: Sequence[Outcome]) -> list[list[str]]:
    lines = [HEADINGS]
    for outcome in outcomes:
        times = [milliseconds(outcome.ms(variant)) for variant in VARIANTS]
        ratios = [number(r, digits=2) for r in (outcome.over_numpy, outcome.over_numba)]
        ours = outcome.figures.get("tjit", Figure())
        lines.append([outcome.name, *times, *ratios, number(ours.first_ms)])
    return lines


def milliseconds(ms: float | None) -> str:
    """Three digits, be they thousandths."""
    return number(ms) if ms is None or ms >= 1 else f"{ms:.3g}"


def summary(peer: str, ratios: Sequence[float | None]) -> str:
    found = [r for r in ratios if r is not None]
    if not found:
        return f"no kernel has both tjit and {peer}"
    ahead = sum(r >= 1 for r in found)
    return (
        f"beside {peer}: geometric mean {geometric_mean(found):.2f} over {len(found)} of {len(ratios)} kernels, "
        f"ahead in {ahead}, least {min(found):.2f}"
    )


def as_json(outcomes: Sequence[Outcome], options: argparse.Namespace) -> dict[str, Any]:
    return {
        "processor": processor(),
        "threads": options.threads,
        "size": options.size,
        "kernels": [
            {
                "name": o.name,
                "over_numpy": o.over_numpy,
                "over_numba": o.over_numba,
                "figures": {name: asdict(figure) for name, figure in o.figures.items()},
            }
            for o in outcomes
        ],
    }


if __name__ == "__main__":
    sys.exit(main())
