"""Results that share memory with arguments: how they are views of them, and the same views of a call's arguments."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from tjit.autograd.tape import grad_mode
from tjit.ir.dims import DimExpr, evaluate, symbols
from tjit.ir.op import Op
from tjit.ops.apply import apply, state
from tjit.tensor import Tensor

__all__ = ["Chain", "chain_of", "chain_symbols", "view_again"]

# Movement ops and their attrs, the first one first.
Chain = tuple[tuple[Op, Mapping[str, Any]], ...]


def chain_of(view: Tensor) -> tuple[Tensor, Chain]:
    """What a traced tensor is a view of in the end, and the ops between."""
    steps: list[tuple[Op, Mapping[str, Any]]] = []
    while view.is_traced and view._view is not None:
        view, op, attrs = view._view
        steps.append((op, attrs))
    return view, tuple(reversed(steps))


def chain_symbols(chain: Chain) -> set[str]:
    """The names of the symbols that the attrs mention."""
    return {s.name for _, attrs in chain for value in attrs.values() for d in _dims(value) for s in symbols(d)}


def _dims(attr: Any) -> list[DimExpr]:
    if isinstance(attr, (tuple, list)):
        return [d for item in attr for d in _dims(item)]
    return [attr] if isinstance(attr, DimExpr) else []


def view_again(base: Any, chain: Chain, sizes: Mapping[str, int], recording: bool) -> Any:
    """The same view of another base: of an ndarray an ndarray, of a Tensor a Tensor, on its tape if `recording`."""
    view = base if isinstance(base, Tensor) else Tensor(base)
    with grad_mode(state.grad and recording):
        for op, attrs in chain:
            view = apply(op, view, **{name: _at(value, sizes) for name, value in attrs.items()})
    return view.array if isinstance(base, np.ndarray) else view


def _at(attr: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(attr, (tuple, list)):
        return tuple(_at(item, sizes) for item in attr)
    return evaluate(attr, sizes) if isinstance(attr, DimExpr) else attr
