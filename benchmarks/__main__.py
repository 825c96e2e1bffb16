"""Time tjit beside its peers.

    python -m benchmarks                      every row, every framework that is installed: most of an hour
    python -m benchmarks --quick              fewer rows, fewer rounds: under two minutes; --budget for more
    python -m benchmarks --rows 'gelu|MLP' --frameworks tjit,jax --all
    python -m benchmarks --readme --chart     writes README.md's table, draws docs/benchmarks.png (with matplotlib)
    python -m benchmarks --bits               whether every row gives the same bits, run after run, on 1 and 2 threads

Each framework runs a row in its own process, on as many threads as the others; answers are checked against NumPy
before anything is timed; the frameworks take turns in short rounds, and medians are shown. A short run keeps what peers
compile and what NumPy answers in ~/.cache/tjit-benchmarks (TJIT_BENCHMARKS_CACHE), and leaves torch.compile and Numba
out of rows that there is no time to compile: --budget 800 has time for all. ratio is the best peer's
time over tjit's, distance tjit's time over the floor, first and disk are tjit's first call with an empty disk cache and
with a filled one. Floors of memory count every byte as coming from it: rows that fit in the last cache can be below.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks import harness, table
from benchmarks.bits import compare_bits
from benchmarks.chart import draw
from benchmarks.frameworks import FRAMEWORKS
from benchmarks.rows import all_rows
from tjit.profiler.machine import Limits, processor

README = harness.ROOT / "README.md"
CHART = harness.ROOT / "docs" / "benchmarks.png"
LEGEND = (
    "f32, medians of interleaved rounds. Ratio: best peer over tjit; distance: tjit over the floor that the machine's "
    "limits set; first, disk: tjit's first call with an empty and with a filled disk cache. Floors count every byte as "
    "coming from memory through ordinary stores: a row that fits in the last cache can be below."
)


def main(argv: list[str] | None = None) -> int:
    options = parse(argv)
    rows = [row for row in all_rows() if options.rows.search(row.name) and (row.quick or not options.quick)]
    if options.list or not rows:
        print("\n".join(row.name for row in rows) or f"no row matches {options.rows.pattern!r}")
        return 0 if rows else 2
    if options.readme and not table.has_block(README.read_text(encoding="utf-8")):
        print(f"{README} has no {table.MARKERS} to write between", file=sys.stderr)
        return 2
    if options.bits:
        same = compare_bits(rows, (1, 2), options.seconds, lambda line: print(line, flush=True))
        return 0 if same else 1
    start = time.perf_counter()
    plan = harness.Plan.quick(options.threads, options.budget) if options.quick else harness.Plan(options.threads)
    before = harness.limits(options.threads)
    outcomes = harness.run(rows, options.frameworks, plan, lambda line: print(line, file=sys.stderr, flush=True))
    limits = best_of(before, harness.limits(options.threads))  # a floor is the machine undisturbed
    about = describe(options)
    print_report(outcomes, limits, about, options)
    print(f"\n{time.perf_counter() - start:.0f} s")
    if options.json:
        text = json.dumps(table.as_json(outcomes, limits, about), indent=1)
        options.json.write_text(text + "\n", encoding="utf-8")
    if options.chart:
        draw(outcomes, limits, options.chart, conditions(limits, about).replace("\n", "; "))
    if options.readme:
        block = readme_block(outcomes, limits, about)
        README.write_text(table.replace_block(README.read_text(encoding="utf-8"), block), encoding="utf-8")
    return 0


def parse(argv: list[str] | None) -> argparse.Namespace:
    summary, _, rest = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=summary, epilog=rest, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--rows", type=pattern, default=pattern(""), metavar="REGEX", help="only rows whose name matches, in any case")
    add("--frameworks", type=frameworks, metavar="A,B", help=", ".join(FRAMEWORKS))
    add("--no-torch-compile", action="store_true", help="leave torch.compile out: it compiles for seconds")
    add("--threads", type=positive, default=default_threads(), metavar="N", help="for each framework (%(default)s)")
    add("--quick", action="store_true", help="fewer rounds, a process keeps its framework")
    add(
        "--budget",
        type=float,
        default=harness.QUICK_SECONDS,
        metavar="SECONDS",
        help="of --quick, kept by leaving out what compiles for too long (%(default)s)",
    )
    add("--all", action="store_true", help="a column for every peer: time, and its first call")
    add("--json", type=Path, metavar="FILE", help="write everything that was measured")
    add("--readme", action="store_true", help="write the table into README.md")
    add("--chart", type=Path, nargs="?", const=CHART, metavar="FILE", help="draw it, into docs/benchmarks.png")
    add("--bits", action="store_true", help="run tjit's rows 1,000 times on 1 and on 2 threads and compare all bits")
    add("--seconds", type=float, help="of --bits, for a row on a number of threads: fewer runs of long rows")
    add("--list", action="store_true", help="print the rows' names and stop")
    options = parser.parse_args(argv)
    if options.frameworks is None:
        options.frameworks = [*FRAMEWORKS]
    if options.no_torch_compile:
        options.frameworks = [name for name in options.frameworks if name != "torch.compile"]
    return options


def pattern(text: str) -> re.Pattern[str]:
    try:
        return re.compile(text, re.IGNORECASE)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r} is no regular expression: {error}") from None


def frameworks(text: str) -> list[str]:
    names = text.split(",")
    for name in names:
        if name not in FRAMEWORKS:
            raise argparse.ArgumentTypeError(f"{name!r} is none of {', '.join(FRAMEWORKS)}")
    return names


def positive(text: str) -> int:
    if not text.isdigit() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"a number of threads from 1 on, not {text!r}")
    return int(text)


def default_threads() -> int:
    """Two, as in PERFORMANCE.md, or one where there is one core."""
    return min(2, os.cpu_count() or 1)


def best_of(a: Limits, b: Limits) -> Limits:
    return Limits(**{name: max(value, vars(b)[name]) for name, value in vars(a).items()})


def describe(options: argparse.Namespace) -> dict[str, Any]:
    """Where and with what it was measured."""
    present = {FRAMEWORKS[n].module: FRAMEWORKS[n] for n in options.frameworks if FRAMEWORKS[n].missing() is None}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "processor": processor(),
        "threads": options.threads,
        "quick": options.quick,
        "budget": options.budget,
        "python": sys.version.split()[0],
        "versions": {module: framework.version() for module, framework in present.items()},
    }


def print_report(
    outcomes: list[harness.Outcome], limits: Limits, about: dict[str, Any], options: argparse.Namespace
) -> None:
    peers = [name for name in options.frameworks if name != table.OURS] if options.all else []
    print(f"\n{conditions(limits, about)}\n")
    print(table.align(table.table(outcomes, limits, peers)))
    print(f"\n{table.summary(outcomes)}")
    if limits.peak < 0.8 * options.threads * limits.peak_one_core:
        print("the machine is busy or has fewer cores than threads: these figures are not to be quoted")
    for line in table.failures(outcomes):
        print(f"  - {line}")


def conditions(limits: Limits, about: dict[str, Any]) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    return (
        f"{about['processor']}, {about['threads']} threads, Python {about['python']}, {versions}\n"
        f"limits measured: triad {limits.triad:.1f} GB/s, read {limits.read:.1f} GB/s, "
        f"f32 peak {limits.peak:.0f} GFLOP/s ({limits.peak_one_core:.0f} on one core)"
    )


def readme_block(outcomes: list[harness.Outcome], limits: Limits, about: dict[str, Any]) -> str:
    lines = table.markdown(table.table(outcomes, limits))
    notes = "".join(f"\n* {line}" for line in table.failures(outcomes))
    command = "python -m benchmarks" + (f" --quick --budget {about['budget']:g}" if about["quick"] else "")
    result = table.summary(outcomes)
    return (
        f"{lines}\n\n{result[:1].upper()}{result[1:]}. {LEGEND}{notes}\n\n"
        f"{conditions(limits, about)}; {about['date']}, `{command}`.\n"
    )


if __name__ == "__main__":
    sys.exit(main())
