"""A table of many shapes of one operation: the time of tjit and of each peer, and how far ahead of the best tjit is.

Processes, rounds and answers are those of `python -m benchmarks`; first calls are not timed.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Sequence

from benchmarks import table
from benchmarks.__main__ import default_threads, pattern, positive
from benchmarks.harness import Outcome, Plan, kept_folder, run
from benchmarks.rows import Row

__all__ = ["lines_of", "sweep"]


def sweep(
    topic: str, about: str | None, rows: Sequence[Row], peers: Sequence[str], argv: list[str] | None = None
) -> int:
    """Run `python -m benchmarks.TOPIC`: measure rows in tjit and the peers and print the table.

    Args:
        about: what the command's help says of it.
        argv: options; None: the command line's.
    """
    options = _parse(topic, about, argv)
    chosen = [row for row in rows if options.rows.search(row.name)]
    if not chosen:
        print(f"no row matches {options.rows.pattern!r}")
        return 2
    plan = Plan(
        options.threads,
        rounds=options.rounds,
        batch_seconds=options.seconds,
        first_samples=0,
        fresh=False,
        kept=kept_folder(),
    )
    outcomes = run(chosen, (table.OURS, *peers), plan, lambda line: print(line, file=sys.stderr, flush=True))
    print(table.align(lines_of(outcomes, peers)))
    print(f"\n{options.threads} threads, {options.rounds} rounds; {table.summary(outcomes)}")
    for line in table.failures(outcomes):
        print(f"  - {line}")
    return 0


def lines_of(outcomes: Sequence[Outcome], peers: Sequence[str]) -> list[list[str]]:
    """A line of cells for each row, headings first: microseconds in tjit and each peer, best peer over tjit."""
    names = (table.OURS, *peers)
    lines = [["row", *(f"{name} us" for name in names), "ratio"]]
    for outcome in outcomes:
        times = [table.number(outcome.figures[name].us if name in outcome.figures else None) for name in names]
        ratio = table.ratios([outcome])
        lines.append([outcome.row.name, *times, table.number(ratio[0] if ratio else None, digits=2)])
    return lines


def _parse(topic: str, about: str | None, argv: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(f"python -m benchmarks.{topic}", description=about)
    add = parser.add_argument
    add("--rows", type=pattern, default=re.compile(""), metavar="REGEX", help="only rows whose name matches")
    add("--threads", type=positive, default=default_threads(), metavar="N", help="for each framework (%(default)s)")
    add("--rounds", type=positive, default=7, metavar="N", help="in which all take turns (%(default)s)")
    add("--seconds", type=float, default=0.04, help="that one runs for in a round (%(default)s)")
    return parser.parse_args(argv)
