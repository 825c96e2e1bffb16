"""Run a graph node by node with the ops' references, control flow by Python's: what compiled code is compared with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit.devices import Device
from tjit.errors import ArgumentError, DimensionError, failed_check
from tjit.ir import dims
from tjit.ir.dims import DimExpr, symbols
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value
from tjit.ir.types import TensorType
from tjit.quiet import quietly

__all__ = ["bind_symbols", "evaluate"]


def evaluate(graph: Graph, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The outputs of `graph` for inputs `arrays`, one for each; nothing is written back.

    Raises:
        ArgumentError: the arrays do not fit the inputs' types, or a result does not fit its node's.
        DimensionError: an index is out of range.
        Exception: a check fails; of the class and message that it names.
    """
    sizes = bind_symbols([value.type for value in graph.inputs], [array.shape for array in arrays])
    run = _Run(sizes)
    for value, array in zip(graph.inputs, arrays, strict=True):
        run.define([value], [array], f"input {value!r}")
    quietly(run.nodes, graph.nodes)
    return [np.asarray(run.read(o)) for o in graph.outputs]


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


class _Run:
    """One run of a graph.

    Attributes:
        env: the arrays of the values defined so far; a region's are those of its last run.
        sizes: the numbers of the symbols bound so far.
    """

    def __init__(self, sizes: dict[str, int]) -> None:
        self.env: dict[Value, Any] = {}
        self.sizes = sizes

    def nodes(self, nodes: Sequence[Node]) -> None:
        for node in nodes:
            what = f"a result of {node.op.name}"
            operands = [self.read(o) for o in node.operands]
            control = _CONTROL.get(node.op.name)
            if control is not None:
                self.define(node.results, control(self, node, operands), what)
                continue
            attrs = {key: _concrete(value, self.sizes) for key, value in node.attrs.items()}
            found = node.op.reference(*operands, **attrs)
            outputs = found if isinstance(found, tuple) else (found,)
            arrays = [np.asarray(a, v.type.dtype.numpy) for a, v in zip(outputs, node.results, strict=True)]
            self.define(node.results, arrays, what)

    def region(self, region: Region, operands: Sequence[Any]) -> list[Any]:
        """What a region yields for the carried `operands`."""
        self.define(region.inputs, operands, f"an input of region {region.name}")
        self.nodes(region.nodes)
        return [self.read(o) for o in region.outputs]

    def define(self, values: Sequence[Value], arrays: Sequence[Any], what: str) -> None:
        for value, array in zip(values, arrays, strict=True):
            self.env[value] = _checked(np.asarray(array), value.type, self.sizes, what)

    def read(self, operand: Operand) -> Any:
        return operand.dtype.numpy.type(operand.value) if isinstance(operand, Literal) else self.env[operand]

    def run_if(self, node: Node, operands: list[Any]) -> list[Any]:
        then, otherwise = node.regions
        return self.region(then if operands[0] else otherwise, operands[1:])

    def run_while(self, node: Node, operands: list[Any]) -> list[Any]:
        test, body = node.regions
        while self.region(test, operands)[0]:
            operands = self.region(body, operands)
        return operands

    def run_for(self, node: Node, operands: list[Any]) -> list[Any]:
        (body,) = node.regions
        for i in range(_concrete(node.attrs["trip"], self.sizes)):
            self.sizes[node.attrs["counter"]] = i
            operands = self.region(body, operands)
        return operands

    def run_bind(self, node: Node, operands: list[Any]) -> list[Any]:
        number, high = int(operands[0]), _concrete(node.attrs["high"], self.sizes)
        if number < node.attrs["low"] or (high is not None and number > high):
            raise DimensionError("index out of range", node.location)
        self.sizes[node.attrs["symbol"]] = number
        return []

    def run_check(self, node: Node, operands: list[Any]) -> list[Any]:
        if not operands[0]:
            raise failed_check(node.attrs["message"], node.location)
        return []


_CONTROL: dict[str, Callable[[_Run, Node, list[Any]], list[Any]]] = {
    "if": _Run.run_if,
    "while": _Run.run_while,
    "for": _Run.run_for,
    "bind": _Run.run_bind,
    "check": _Run.run_check,
}


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
