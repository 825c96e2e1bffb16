"""Minimum cut of a small flow network.

Source: Dinic (1970), "Algorithm for solution of a problem of maximum flow in a network with power estimation".
"""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable

__all__ = ["Network"]

_INFINITE = 1 << 62


class Network:
    """Directed edges with capacities."""

    def __init__(self) -> None:
        self._ids: dict[Hashable, int] = {}
        self._out: list[list[int]] = []
        self._to: list[int] = []
        self._left: list[int] = []

    def _id(self, node: Hashable) -> int:
        if node not in self._ids:
            self._ids[node] = len(self._out)
            self._out.append([])
        return self._ids[node]

    def edge(self, start: Hashable, end: Hashable, capacity: int | None) -> None:
        """Add an edge; None is an unbounded capacity."""
        for a, b, c in ((start, end, _INFINITE if capacity is None else capacity), (end, start, 0)):
            self._out[self._id(a)].append(len(self._to))
            self._to.append(self._id(b))
            self._left.append(c)

    def source_side(self, source: Hashable, sink: Hashable, late: bool = False) -> set[Hashable]:
        """The nodes on the source's side of a cut of least capacity: of all those the nearest to the source.

        `late`: the nearest to the sink.
        """
        reached = self._flooded(self._id(source), self._id(sink))
        return self._not_reaching(self._id(sink)) if late else {name for name, i in self._ids.items() if i in reached}

    def _not_reaching(self, t: int) -> set[Hashable]:
        """The nodes from which nothing more can flow to the sink."""
        found, queue = {t}, deque([t])
        while queue:
            for e in self._out[queue.popleft()]:
                u = self._to[e]
                if self._left[e ^ 1] > 0 and u not in found:  # of the edge from u
                    found.add(u)
                    queue.append(u)
        return {name for name, i in self._ids.items() if i not in found}

    def _flooded(self, s: int, t: int) -> dict[int, int]:
        """Let flow what can; the nodes that the source still reaches."""
        while True:
            level = self._levels(s)
            if t not in level:
                return level
            next_edge = [0] * len(self._out)
            while self._augment(s, t, level, next_edge):
                pass

    def _levels(self, s: int) -> dict[int, int]:
        level = {s: 0}
        queue = deque([s])
        while queue:
            u = queue.popleft()
            for e in self._out[u]:
                v = self._to[e]
                if self._left[e] > 0 and v not in level:
                    level[v] = level[u] + 1
                    queue.append(v)
        return level

    def _augment(self, s: int, t: int, level: dict[int, int], next_edge: list[int]) -> bool:
        """Push flow along one shortest path; False where none is left."""
        path: list[int] = []
        u = s
        while u != t:
            advanced = False
            while next_edge[u] < len(self._out[u]):
                e = self._out[u][next_edge[u]]
                v = self._to[e]
                if self._left[e] > 0 and level.get(v) == level[u] + 1:
                    path.append(e)
                    u = v
                    advanced = True
                    break
                next_edge[u] += 1
            if not advanced:
                if not path:
                    return False
                u = self._to[path.pop() ^ 1]
                next_edge[u] += 1
        flow = min(self._left[e] for e in path)
        for e in path:
            self._left[e] -= flow
            self._left[e ^ 1] += flow
        return True
