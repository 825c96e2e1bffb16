"""The state of a package: tensors and numbers that its entry points share, each stored once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import field
from typing import Any

import numpy as np

from tjit.capture.function import Source
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError
from tjit.export.entry import Entry
from tjit.export.naming import tensor_names, unique
from tjit.ir.types import TensorType
from tjit.tensor import Tensor

__all__ = ["State", "gather_state"]


@dataclass
class State:
    """Arrays by name, and which of them each source of an entry point is.

    Attributes:
        types: of the arrays.
        numbers: names of those that stand for Python numbers, such as a learning rate.
        written: names of those that an entry point writes.
    """

    arrays: dict[str, np.ndarray] = field(default_factory=dict)
    types: dict[str, TensorType] = field(default_factory=dict)
    numbers: set[str] = field(default_factory=set)
    written: set[str] = field(default_factory=set)
    places: dict[Any, str] = field(default_factory=dict)

    def name_of(self, source: Source) -> str:
        return self.places[_place(source)]


def _place(source: Source) -> Any:
    if source.place is not None:
        return source.place
    return source.kind, id(source.tensor)


def gather_state(entries: Sequence[Entry]) -> State:
    """The state of all entry points.

    Raises:
        ArgumentError: two tensors of it share memory that an entry point writes.
    """
    known = tensor_names([entry.function for entry in entries])
    state, taken = State(), set[str]()
    for entry in entries:
        for result, value in entry.results:
            if result == "state":
                _add(state, taken, known, Source("tensor", tensor=value), value.type_)
        for i, (source, value) in enumerate(zip(entry.sources, entry.graph.inputs, strict=True)):
            if source.kind == "argument":
                continue
            _add(state, taken, known, source, value.type)
            if i in entry.graph.writes.values():
                state.written.add(state.name_of(source))
    _check_memory(state)
    return state


def _add(state: State, taken: set[str], known: dict[int, str], source: Source, type: TensorType) -> None:
    place = _place(source)
    if place in state.places:
        return
    name = unique(_wanted_name(source, known), taken)
    state.places[place], state.types[name] = name, type
    if source.place is not None:
        state.numbers.add(name)
        state.arrays[name] = np.array(source.place.now(), np.float64)
        return
    assert source.tensor is not None
    tensor = source.tensor
    if source.kind == "grad":
        grad = tensor._grad
        # what capture stood in for it (entry.py) was zeros
        state.arrays[name] = np.zeros(tensor.array.shape, tensor.array.dtype) if grad is None else grad.array
    else:
        state.arrays[name] = tensor.array


def _wanted_name(source: Source, known: dict[int, str]) -> str:
    if source.place is not None:
        return source.place.name
    tensor = source.tensor
    assert isinstance(tensor, Tensor)
    name = known.get(id(tensor)) or tensor.__dict__.get("name") or "tensor"
    return f"{name}.grad" if source.kind == "grad" else str(name)


def _check_memory(state: State) -> None:
    for name in state.written:
        for other, array in state.arrays.items():
            mine = state.arrays[name]
            if other != name and np.may_share_memory(mine, array) and np.shares_memory(mine, array):
                raise ArgumentError(
                    f"the tensors {name} and {other} share memory, and {name} is written",
                    hint="use one of them, and make the other a view inside of the function",
                )
