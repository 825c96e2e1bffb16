"""Innermost loops cut where they write what they read: LLVM then finds vectors for the parts.

    for (j: n)                                  for (j: n) to k
      path[i, j] = ... path[i, k] ...    ->       path[i, j] = ... path[i, k] ...
                                                for (j: n) from k to k + 1 ...
                                                for (j: n) from k + 1 ...

Whether the number at path[i, k] stays what it was is known in each part, but not in the whole.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence

from tjit.codegen.kernel import (
    Axis,
    Bind,
    Check,
    Counted,
    Fold,
    Load,
    NestStatement,
    Repeat,
    Store,
    nest_statements,
    statement_exprs,
)
from tjit.codegen.nest_memory import are_apart, loads_of
from tjit.ir.dims import Dim, Symbol, coefficient, is_one, maximum, minimum, symbols

__all__ = ["counted"]


def counted(axis: Axis, body: Sequence[NestStatement]) -> list[NestStatement]:
    """The loop over an axis, as one or as its parts."""
    found = list(nest_statements(tuple(body)))
    at = None if any(isinstance(s, (Counted, Repeat, Fold, Bind, Check)) for s in found) else _place(axis.symbol, found)
    if at is None:
        return [Counted(axis, tuple(body))]
    first = minimum(maximum(at, 0), axis.extent)
    second = minimum(maximum(at + 1, 0), axis.extent)
    ends = (0, first, second, axis.extent)
    return [Counted(axis, tuple(body), a, b) for a, b in itertools.pairwise(ends) if a != b]


def _place(symbol: Symbol, statements: Sequence[NestStatement]) -> Dim | None:
    """The one value of the counter at which the loop writes an element that it reads at all of them."""
    loads = [e for s in statements for e in loads_of(statement_exprs(s))]
    places: set[Dim] = set()
    for store in statements:
        if isinstance(store, Store):
            shared = (e for e in loads if e.buffer.name == store.buffer.name)
            found = [_meeting(symbol, load, store) for load in shared if not are_apart(load.index, store.index)]
            places.update(place for place in found if place is not None)
    return places.pop() if len(places) == 1 else None


def _meeting(symbol: Symbol, load: Load, store: Store) -> Dim | None:
    """The value of the counter at which `store` may write what `load` always reads."""
    if len(load.index) != len(store.index) or any(symbol in symbols(d) for d in load.index):
        return None
    for r, w in zip(load.index, store.index, strict=True):
        k = coefficient(w, symbol)
        if k is not None and is_one(k):
            return r - (w - symbol.dim)
    return None
