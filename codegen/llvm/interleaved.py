"""Loads that take turns in memory: even and odd elements of a row, the parts of complex numbers, colours of pixels.

    t0: f32 = maximum(b0[2*p0], b0[2*p0 + 1])

Each by itself loads whole vectors and picks half of their elements. Together they load every vector once.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

from tjit.codegen.kernel import Axis, Load, Loop, Store, walk
from tjit.codegen.lanes import NEAR
from tjit.ir.dims import Dim, coefficient, substitute, symbols

__all__ = ["Turns", "interleaved"]

# buffer and offset of a load: how far the elements lie, its own included, that are read between those of its lanes
Turns = Mapping[tuple[str, Dim], tuple[int, ...]]


@lru_cache(maxsize=8)  # asked for by each emitter of a kernel
def interleaved(loops: Sequence[Loop], lanes: Axis | None) -> Turns:
    """The loads of `loops` that take turns with others wherever they are read, with lanes along an axis.

    None under conditions or of indices that are loaded, and none of what the loops themselves write.
    """
    found: dict[tuple[str, Dim], tuple[int, ...]] = {}
    written = {s.buffer.name for loop in loops for s in loop.body if isinstance(s, Store)}
    if lanes is None:
        return {}
    for loop in loops:
        for place, turns in _turns(loop, lanes).items():
            kept = found.get(place, turns)
            found[place] = tuple(t for t in turns if t in kept)
    return {place: turns for place, turns in found.items() if len(turns) > 1 and place[0] not in written}


def _turns(loop: Loop, lanes: Axis) -> Turns:
    groups: dict[tuple[str, Dim], set[int]] = {}
    seen: set[int] = set()
    for load in (e for s in loop.body for e in walk(s.value, seen) if isinstance(e, Load)):
        offset = load.buffer.offset(load.index)
        start = substitute(offset, {s: 0 for s in symbols(offset)})
        if isinstance(start, int) and not load.bindings and not load.conditions:
            groups.setdefault((load.buffer.name, offset - start), set()).add(start)
    found: dict[tuple[str, Dim], tuple[int, ...]] = {}
    for (name, rest), starts in groups.items():
        step, first = coefficient(rest, lanes.symbol), min(starts)
        if isinstance(step, int) and 1 < step <= NEAR:
            for start in starts:
                among = sorted(s - start for s in starts if (s - first) // step == (start - first) // step)
                found[name, rest + start] = tuple(among)
    return found
