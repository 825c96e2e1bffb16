"""What was measured as a picture: for each row, every peer's time and the floor, in units of tjit's time."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.harness import Outcome
from benchmarks.table import OURS, geometric_mean, ratios
from tjit.profiler.machine import Limits

__all__ = ["draw", "points"]

COLOURS = {
    "torch.compile": "#c2410c",
    "torch": "#f59e0b",
    "jax": "#7c3aed",
    "numpy": "#0891b2",
    "numba": "#16a34a",
}
INCHES_A_ROW = 0.27


def points(outcome: Outcome, limits: Limits) -> dict[str, float]:
    """Times over tjit's: of each peer, and of the "floor". Empty where tjit has none."""
    ours = outcome.figures.get(OURS)
    if ours is None or not ours.us:
        return {}
    peers = {name: f.us / ours.us for name, f in outcome.figures.items() if name != OURS and f.us}
    return peers | {"floor": outcome.row.floor.microseconds(limits) / ours.us}


def draw(outcomes: Sequence[Outcome], limits: Limits, path: Path, note: str = "") -> None:
    """Write the chart as a PNG.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure  # the extra `bench`; without pyplot no window system is asked for

    rows = [(o.row.name, points(o, limits)) for o in reversed(outcomes)]
    rows = [(name, found) for name, found in rows if found]
    figure = Figure(figsize=(9, 1.6 + INCHES_A_ROW * len(rows)), dpi=110, layout="constrained")
    axes = figure.subplots()
    for y, (_, found) in enumerate(rows):
        peers = [x for name, x in found.items() if name != "floor"]
        if peers:
            best = min(peers)
            axes.plot([1, best], [y, y], color="#94a3b8" if best >= 1 else "#dc2626", linewidth=3, zorder=1)
    axes.axvline(1, color="#0f172a", linewidth=1.5, zorder=2, label="tjit")
    for name, colour in COLOURS.items():
        at = [(found[name], y) for y, (_, found) in enumerate(rows) if name in found]
        if at:
            axes.scatter(*zip(*at, strict=True), s=26, color=colour, label=name, zorder=3)
    floors = [(found["floor"], y) for y, (_, found) in enumerate(rows)]
    axes.scatter(*zip(*floors, strict=True), s=60, marker="|", color="#0f172a", label="floor", zorder=3)
    axes.set_xscale("log")
    axes.set_yticks(range(len(rows)), [name for name, _ in rows], fontsize=8)
    axes.set_ylim(-0.7, len(rows) - 0.3)
    axes.grid(axis="x", which="both", color="#e2e8f0", linewidth=0.5, zorder=0)
    axes.set_xlabel("time in units of tjit's: to the right slower than tjit, to the left faster", fontsize=8)
    axes.tick_params(axis="x", labelsize=8)
    axes.set_title(_title(outcomes), fontsize=10, loc="left")
    figure.legend(loc="outside lower center", ncols=8, fontsize=8, frameon=False, title=note, title_fontsize=7)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, metadata={"Software": None})


def _title(outcomes: Sequence[Outcome]) -> str:
    found = ratios(outcomes)
    if not found:
        return "tjit"
    ahead = sum(r >= 1 for r in found)
    mean = geometric_mean(found)
    return f"ahead of the best peer in {ahead} of {len(found)} rows; {mean:.2f} times as fast in the geometric mean"
