"""Groups in an order in which they can run, kept while they merge.

Two groups may merge unless one needs the other by way of a third. Every group has a number larger than those of all
groups that it needs, so only those with numbers between the two have to be looked at; merging gives these numbers
anew (D. J. Pearce and P. H. J. Kelly, A Dynamic Topological Sort Algorithm for Directed Acyclic Graphs, 2007).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from tjit.codegen.items import Group

__all__ = ["Between", "add", "between", "merge"]

_MOST = 256  # groups looked at on either side; beyond, the two stay apart: one merge costs no more in a larger program

# What the later of two groups needs, and what needs the earlier one, of the groups between them.
Between = tuple[list[Group], list[Group]]


def add(group: Group, number: int, needs: Iterable[Group]) -> None:
    """Order a new group behind all others."""
    group.number = number
    group.needs = dict.fromkeys(needs)
    for other in group.needs:
        other.users[group] = None


def between(a: Group, b: Group) -> Between | None:
    """What `merge` moves; None where one group needs the other by way of a third, or too many lie between them."""
    early, late = sorted((a, b), key=_number)
    needed = _reached(late, early, lambda g: g.needs)
    users = None if needed is None else _reached(early, late, lambda g: g.users)
    return None if needed is None or users is None else (needed, users)


def _reached(start: Group, goal: Group, edges: Callable[[Group], Iterable[Group]]) -> list[Group] | None:
    """The groups numbered between the two to which edges lead from `start`; None if they lead on to `goal`."""
    low, high = sorted((start.number, goal.number))
    found: dict[Group, None] = {}
    stack = [start]
    while stack:
        group = stack.pop()
        for other in edges(group):
            if other is goal and group is not start:
                return None
            if low < other.number < high and other not in found:
                if len(found) == _MOST:
                    return None
                found[other] = None
                stack.append(other)
    return list(found)


def merge(a: Group, b: Group, moved: Between) -> None:
    """Let `a` stand for both: behind what either needs, before what needs either."""
    needed, users = (sorted(groups, key=_number) for groups in moved)
    numbers = sorted(g.number for g in (*needed, *users, a, b))
    for group, number in zip((*needed, a), numbers, strict=False):
        group.number = number
    for group, number in zip(reversed(users), reversed(numbers), strict=False):
        group.number = number
    for group in b.needs:
        del group.users[b]
        group.users[a] = a.needs[group] = None
    for group in b.users:
        del group.needs[b]
        group.needs[a] = a.users[group] = None
    for edges in (a.needs, a.users):
        edges.pop(a, None)
        edges.pop(b, None)


def _number(group: Group) -> int:
    return group.number
