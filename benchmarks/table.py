"""What was measured, as text: for a terminal, for README.md, and as JSON."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from benchmarks.harness import Figure, Outcome
from tjit.profiler.machine import Limits

__all__ = [
    "MARKERS",
    "OURS",
    "align",
    "as_json",
    "failures",
    "geometric_mean",
    "has_block",
    "headings",
    "markdown",
    "ratios",
    "replace_block",
    "summary",
    "table",
]

OURS = "tjit"
MARKERS = "<!-- benchmarks --> ... <!-- /benchmarks -->"
HEADINGS = ["row", "tjit us", "best peer us", "ratio", "floor us", "distance", "first ms", "disk ms"]
_BLOCK = re.compile(r"(<!-- benchmarks\b[^>]*-->\n).*?(<!-- (?:/benchmarks|benchmarks: end) -->)", re.DOTALL)


def table(outcomes: Sequence[Outcome], limits: Limits, peers: Sequence[str] = ()) -> list[list[str]]:
    """A line of cells for each row, headings first; `peers` adds a column for each: time (first call)."""
    lines = [headings(peers)]
    for outcome in outcomes:
        ours = outcome.figures.get(OURS, Figure())
        peer = best_peer(outcome)
        floor = outcome.row.floor.microseconds(limits)
        best = outcome.figures[peer].us if peer else None
        lines.append(
            [
                outcome.row.name,
                number(ours.us),
                f"{number(best)} ({peer})" if peer else "-",
                number(best / ours.us, digits=2) if best and ours.us else "-",
                number(floor),
                number(ours.us / floor, digits=2) if ours.us else "-",
                number(ours.first_ms),
                number(ours.disk_ms),
                *(_with_first(outcome.figures.get(name)) for name in peers),
            ]
        )
    return lines


def headings(peers: Sequence[str] = ()) -> list[str]:
    """The first line of the table."""
    return HEADINGS + [f"{name} us (first ms)" for name in peers]


def _with_first(figure: Figure | None) -> str:
    if figure is None or figure.us is None:
        return "-"
    return f"{number(figure.us)} ({number(figure.first_ms)})"


def best_peer(outcome: Outcome) -> str | None:
    """The fastest framework that is not ours."""
    times = _peer_times(outcome)
    return min(times, key=times.__getitem__, default=None)


def _peer_times(outcome: Outcome) -> dict[str, float]:
    return {name: f.us for name, f in outcome.figures.items() if name != OURS and f.us is not None}


def ratios(outcomes: Sequence[Outcome]) -> list[float]:
    """Best peer over tjit, for the rows that have both."""
    found = []
    for outcome in outcomes:
        ours, peers = outcome.figures.get(OURS), _peer_times(outcome)
        if ours is not None and ours.us and peers:
            found.append(min(peers.values()) / ours.us)
    return found


def geometric_mean(values: Sequence[float]) -> float:
    """The n-th root of the product; nan of nothing."""
    return math.exp(sum(map(math.log, values)) / len(values)) if values else math.nan


def summary(outcomes: Sequence[Outcome]) -> str:
    """One line on all ratios."""
    found = ratios(outcomes)
    if not found:
        return "no row has both tjit and a peer"
    ahead = sum(r >= 1 for r in found)
    mean = geometric_mean(found)
    return f"geometric mean of the ratios {mean:.2f}; ahead of the best peer in {ahead} of {len(found)} rows"


def failures(outcomes: Sequence[Outcome]) -> list[str]:
    """A line for each framework that could not run a row; one for all where the reason is the same in all."""
    reasons: dict[tuple[str, str], list[str]] = {}
    for outcome in outcomes:
        for name, figure in outcome.figures.items():
            if figure.failure is not None:
                reasons.setdefault((name, figure.failure), []).append(outcome.row.name)
    return [f"{name}, {'; '.join(rows)}: {reason}" for (name, reason), rows in reasons.items()]


def number(value: float | None, *, digits: int = 3) -> str:
    """Significant digits enough to compare by, thousands separated; - for nothing."""
    if value is None:
        return "-"
    if digits == 2:
        return f"{value:.2f}"
    if value >= 100:
        return f"{value:,.0f}"
    return f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def align(lines: Sequence[Sequence[str]]) -> str:
    """Columns under each other: the first to the left, the others to the right, a rule below the headings."""
    widths = [max(len(line[i]) for line in lines) for i in range(len(lines[0]))]
    text = ["  ".join(_pad(line[i], width, i) for i, width in enumerate(widths)) for line in lines]
    return "\n".join([text[0], "-" * len(text[0]), *text[1:]])


def _pad(cell: str, width: int, column: int) -> str:
    return cell.ljust(width) if column == 0 else cell.rjust(width)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """The same as a table of Markdown."""
    rule = ["---", *["---:"] * (len(lines[0]) - 1)]
    return "\n".join("| " + " | ".join(line) + " |" for line in [lines[0], rule, *lines[1:]])


def has_block(text: str) -> bool:
    """Whether `text` has the markers that `replace_block` writes between."""
    return _BLOCK.search(text) is not None


def replace_block(text: str, block: str) -> str:
    """`text` with what stands between the benchmark markers replaced.

    Raises:
        ValueError: it has no such markers.
    """
    if not has_block(text):
        raise ValueError(f"no {MARKERS} to write between")
    return _BLOCK.sub(lambda m: f"{m[1]}{block.rstrip()}\n{m[2]}", text, count=1)


def as_json(outcomes: Sequence[Outcome], limits: Limits, about: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that was measured."""
    return {
        **about,
        "limits": vars(limits),
        "geometric_mean": geometric_mean(ratios(outcomes)) if ratios(outcomes) else None,
        "rows": [
            {
                "name": o.row.name,
                "floor_us": o.row.floor.microseconds(limits),
                "floor_reason": o.row.floor.reason,
                "best_peer": best_peer(o),
                "figures": {name: vars(figure) for name, figure in o.figures.items()},
            }
            for o in outcomes
        ],
    }
