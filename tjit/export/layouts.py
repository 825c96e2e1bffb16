"""The programs of a package's entry points, and its weights as these read them."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace

from tjit.export.entry import Entry
from tjit.export.state import State
from tjit.frozen import laid_array
from tjit.ir.graph import Graph
from tjit.ir.printer import print_graph
from tjit.passes.frozen import split_frozen
from tjit.passes.pipeline import DEFAULT, FAST_MATH, run_passes

__all__ = ["laid_out_programs"]


def laid_out_programs(entries: Sequence[Entry], state: State) -> list[Graph]:
    """The final graph of each entry point; frozen weights of `state` are laid out as all that read them want them.

    A weight that they want in several orders, or that one of them returns, stays as it is.
    """
    split = [_split(entry, state, ()) for entry in entries]
    orders: dict[str, set[str]] = {}
    for entry, (_, laid) in zip(entries, split, strict=True):
        for i, name in _states(entry, state):
            orders.setdefault(name, set()).add(print_graph(laid[i], locations=False) if i in laid else "")
    returned = {state.places["tensor", id(value)] for e in entries for kind, value in e.results if kind == "state"}
    plain = {name for name, found in orders.items() if len(found) > 1 or name in returned}
    if plain:
        split = [_split(entry, state, plain) for entry in entries]
    for entry, (_, laid) in zip(entries, split, strict=True):
        for i, name in _states(entry, state):
            if i in laid and state.types[name] != laid[i].outputs[0].type:
                state.arrays[name] = laid_array(laid[i], state.arrays[name])
                state.types[name] = laid[i].outputs[0].type
    return [program for program, _ in split]


def _split(entry: Entry, state: State, plain: Collection[str]) -> tuple[Graph, dict[int, Graph]]:
    """The program of an entry point, and how its inputs are laid out, for whom the states in `plain` are not frozen."""
    kept = frozenset(i for i, name in _states(entry, state) if i in entry.graph.frozen and name not in plain)
    graph = replace(entry.graph, frozen=kept)
    return split_frozen(run_passes(graph, FAST_MATH if entry.options.fast_math else DEFAULT))


def _states(entry: Entry, state: State) -> Iterator[tuple[int, str]]:
    """The positions of inputs that are states, and their names."""
    return ((i, state.name_of(s)) for i, s in enumerate(entry.sources) if s.kind != "argument")
