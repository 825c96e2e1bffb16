"""Frozen tensors: their elements never change, so that programs may keep them in an order of their own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field, replace
from functools import partial

import numpy as np

from tjit.capture.function import Source
from tjit.dataclass import dataclass
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph
from tjit.ir.parser import parse_graph
from tjit.runtime import buffers
from tjit.tensor import Laid, Tensor

__all__ = ["freeze_tensor", "laid_array", "laid_sources"]

_BLOCK = 64  # rows of a part that is copied at a time: source and target stay in the first-level cache


@dataclass
class _Frozen:
    """What a frozen tensor's attribute `_frozen` holds; copies have none.

    Attributes:
        laid: the tensor laid out, by the text of the graph that does so.
        is_plain: whether a program reads it as it is.
    """

    laid: dict[str, Tensor] = field(default_factory=dict)
    is_plain: bool = False


def freeze_tensor(tensor: Tensor) -> None:
    """Say that nothing changes the elements of `tensor` any more; writing to them raises."""
    tensor.__dict__["_frozen"] = _Frozen()
    tensor.array.flags.writeable = False


def laid_sources(sources: tuple[Source, ...], laid: Sequence[tuple[int, str]]) -> tuple[Source, ...]:
    """The sources of a program's inputs, of which those in `laid` (as in `ProgramInfo`) are laid out.

    A tensor that programs read in this order alone gives its own memory up; `Tensor.array` then restores it.
    """
    found, order = list(sources), dict(laid)
    for i, source in enumerate(sources):
        tensor = source.tensor
        if source.kind != "tensor" or tensor is None or not tensor.is_frozen:
            continue
        if i in order:
            found[i] = replace(source, tensor=_laid_tensor(tensor, order[i]))
        else:
            _keep_plain(tensor)
    return tuple(found)


def _laid_tensor(tensor: Tensor, text: str) -> Tensor:
    """`tensor` laid out by the graph that `text` is; one for all programs."""
    frozen: _Frozen = tensor.__dict__["_frozen"]
    if text not in frozen.laid:
        graph = parse_graph(text)
        laid = frozen.laid[text] = Tensor(laid_array(graph, tensor.array))
        if not frozen.is_plain:
            tensor._data = Laid(tensor.type_, partial(_restored, graph, laid))
    return frozen.laid[text]


def _keep_plain(tensor: Tensor) -> None:
    """Have a tensor's own memory, which a program reads."""
    tensor.__dict__["_frozen"].is_plain = True
    if isinstance(tensor._data, Laid):
        tensor._data = tensor.array


def laid_array(graph: Graph, array: np.ndarray) -> np.ndarray:
    """What `graph` makes of `array`: it moves its elements, and ends with a copy."""
    *moves, copy = graph.nodes
    (view,) = evaluate(replace(graph, nodes=tuple(moves), outputs=copy.operands), [array])
    result = buffers.empty(view.shape, view.dtype)
    for part in _parts(view):
        result[part] = view[part]
    return result


def _parts(view: np.ndarray) -> Iterator[tuple[int | slice, ...]]:
    """Parts of an array that caches hold both sides of: NumPy copies all of a transposed one line by line."""
    for at in np.ndindex(view.shape[:-2]):
        yield from ((*at, slice(first, first + _BLOCK)) for first in range(0, view.shape[-2], _BLOCK))


def _restored(graph: Graph, laid: Tensor) -> np.ndarray:
    """What `graph` made `laid` of."""
    array = laid.array
    for node in reversed(graph.nodes):
        (before,) = node.operands
        if node.op.name == "permute":
            array = array.transpose(np.argsort(node.attrs["dims"]))
        elif node.op.name == "reshape":
            array = array.reshape(before.type.shape)
        elif node.op.name == "pad":
            array = array[tuple(slice(d) for d in before.type.static_shape)]
    array = np.array(array, order="C")
    array.flags.writeable = False
    return array
