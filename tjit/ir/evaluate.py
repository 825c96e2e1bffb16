"""Run a graph node by node with the ops' references: what compiled code is compared with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tjit.devices import Device
from tjit.errors import ArgumentError
from tjit.ir import dims
from tjit.ir.dims import DimExpr, symbols
from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.types import TensorType

__all__ = ["bind_symbols", "evaluate"]


def evaluate(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph` for inputs `arrays`, one for each; nothing is written back.

    Raises:
        ArgumentError: the arrays do not fit the inputs' types, or a node has regions.
    """
    sizes = bind_symbols([value.type for value in graph.inputs], [array.shape for array in arrays])
    env: dict[Value, Any] = {}
    for value, array in zip(graph.inputs, arrays, strict=True):
        env[value] = _checked(np.asarray(array), value.type, sizes, f"input {value!r}")
    with np.errstate(all="ignore"):
        for node in graph.nodes:
            _run(node, env, sizes)
    return [np.asarray(_read(o, env)) for o in graph.outputs]


def bind_symbols(types: Sequence[TensorType], shapes: Sequence[tuple[int, ...]]) -> dict[str, int]:
    """The value of each symbol that is by itself a dim of a type.

    Raises:
        ArgumentError: an array has another rank than its type.
    """
    sizes: dict[str, int] = {}
    for type, shape in zip(types, shapes, strict=True):
        if len(shape) != type.ndim:
            raise ArgumentError(f"expected an array of type {type}, not one of shape {list(shape)}")
        for dim, extent in zip(type.shape, shape, strict=True):
            names = symbols(dim)
            if len(names) == 1 and dim == names[0].dim:
                sizes.setdefault(names[0].name, extent)
    return sizes


def _run(node: Node, env: dict[Value, Any], sizes: dict[str, int]) -> None:
    if node.regions:
        raise ArgumentError(f"evaluate does not run {node.op.name}, which has regions")
    attrs = {key: _concrete(value, sizes) for key, value in node.attrs.items()}
    found = node.op.reference(*(_read(o, env) for o in node.operands), **attrs)
    outputs = found if isinstance(found, tuple) else (found,)
    for value, output in zip(node.results, outputs, strict=True):
        array = np.asarray(output, value.type.dtype.numpy)
        env[value] = _checked(array, value.type, sizes, f"a result of {node.op.name}")


def _read(operand: Operand, env: dict[Value, Any]) -> Any:
    return operand.dtype.numpy.type(operand.value) if isinstance(operand, Literal) else env[operand]


def _concrete(attr: Any, sizes: dict[str, int]) -> Any:
    if isinstance(attr, DimExpr):
        return dims.evaluate(attr, sizes)
    if isinstance(attr, tuple) and not isinstance(attr, Device):
        return tuple(_concrete(item, sizes) for item in attr)
    return attr


def _checked(array: np.ndarray, type: TensorType, sizes: dict[str, int], what: str) -> np.ndarray:
    shape = tuple(dims.evaluate(d, sizes) for d in type.shape)
    if array.dtype != type.dtype.numpy or array.shape != shape:
        raise ArgumentError(f"{what} is {type}, not {array.dtype}{list(array.shape)}")
    return array
