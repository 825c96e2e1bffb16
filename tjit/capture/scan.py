"""A loop of tjit's own: in a captured function one node, in eager code Python's loop."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.capture.operators import State, for_, range_
from tjit.ir.dims import Dim
from tjit.tensor import Tensor

__all__ = ["scan"]

Carried = tuple[Tensor, ...]


def scan(
    step: Callable[[Dim, Carried], tuple[Carried, Tensor]], carried: Carried, trip: Dim
) -> tuple[Carried, list[Tensor]]:
    """What `for i in range(trip): carried, y = step(i, carried)` leaves: what it carries, and the list of every y.

    `tjit.stack` and `tjit.cat` take the list as it is; other uses ask for each y by itself.
    """
    held: list[Any] = [carried, []]

    def body(i: Dim) -> None:
        held[0], y = step(i, held[0])
        held[1].append(y)

    def put(values: tuple[Any, ...]) -> None:
        held[:] = values

    names = ("the state of the loop", "the outputs of the loop")
    for_(range_(trip), body, State(lambda: tuple(held), put, names, 2, frozenset(names)))
    return held[0], held[1]
