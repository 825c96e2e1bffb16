"""The graph: a typed SSA program. Immutable; a pass builds a new one.

A graph prints as

    graph step(%x: f32[B, 784], %w: f32[784, 10]) -> f32[], f32[784, 10] {
      %0: f32[B, 10] = matmul(%x, %w)                  # model.py:6
      %1: f32[] = sum(%0, dims=(0, 1), keepdim=False)  # model.py:7
      %2: f32[784, 10] = mul(%w, 0.9)                  # model.py:8
      return %1, %2 to %w
    }

where `%2 to %w` says that the second output is written back to the buffer of the input `%w`.
"""

from __future__ import annotations

import struct
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import field
from types import MappingProxyType
from typing import Any, Union

import numpy as np

from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.errors import TjitError, TypeRuleError
from tjit.ir.op import Op
from tjit.ir.types import TensorType
from tjit.location import Location
from tjit.quiet import quietly

__all__ = ["TAPE", "Graph", "GraphBuilder", "Literal", "Node", "Operand", "Region", "Value", "exactly", "infer_types"]


@dataclass(frozen=True, slots=True)
class Literal:
    """A number as an operand: 0-d, of any shape where an elementwise op needs one."""

    value: bool | int | float
    dtype: DType

    def __post_init__(self) -> None:
        object.__setattr__(self, "value", _rounded(self.value, self.dtype))  # to the dtype once, here

    @property
    def type(self) -> TensorType:
        return TensorType(self.dtype, ())

    def __eq__(self, other: object) -> bool:
        # repr tells -0.0 from 0.0, and makes nan equal to itself
        return isinstance(other, Literal) and self.dtype is other.dtype and repr(self.value) == repr(other.value)

    def __hash__(self) -> int:
        return hash((self.dtype.name, repr(self.value)))


_F32 = struct.Struct("f")  # rounds as NumPy does, without an array for each number


def _rounded(value: bool | int | float, dtype: DType) -> bool | int | float:
    """The number of `dtype` next to `value`: floats out of range become inf, ints wrap."""
    if type(value) is float and dtype.is_floating_point and dtype.itemsize >= 4:
        with suppress(OverflowError):
            return value if dtype.itemsize == 8 else _F32.unpack(_F32.pack(value))[0]
    if dtype.kind == "int" and isinstance(value, int):
        low = -(1 << dtype.bits - 1) if dtype.is_signed else 0
        return (int(value) - low) % (1 << dtype.bits) + low
    return quietly(np.asarray(value).astype, dtype.numpy).item()


def exactly(x: Any) -> Hashable:
    """An attr or a literal such that only what is the same is equal: 0.0 and -0.0, 1 and True and 1.0 are not."""
    if isinstance(x, float):
        return type(x), x.hex()
    if type(x) is tuple:
        return tuple(map(exactly, x))
    return (x.dtype, exactly(x.value)) if isinstance(x, Literal) else (type(x), x)


TAPE = "tape"  # the name of values that have what a loop's gradient keeps of each trip


class Value:
    """What a node or a graph's input defines. Compared by identity; `name` is a hint for dumps."""

    __slots__ = ("name", "type")

    def __init__(self, type: TensorType, name: str | None = None) -> None:
        self.type = type
        self.name = name

    def __repr__(self) -> str:
        return f"%{self.name or '?'}: {self.type}"


Operand = Union[Value, Literal]


@dataclass(frozen=True, eq=False, slots=True)
class Region:
    """A nested graph of a control-flow node: inputs are what it carries; it may use values of the graphs around it."""

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Operand, ...]

    def captured(self) -> tuple[Value, ...]:
        """The values of the graphs around that the region reads, in order of first use."""
        defined: set[Value] = set(self.inputs)
        found: dict[Value, None] = {}
        for node in self.nodes:
            found.update((o, None) for o in node.reads() if isinstance(o, Value) and o not in defined)
            defined.update(node.results)
        found.update((o, None) for o in self.outputs if isinstance(o, Value) and o not in defined)
        return tuple(found)


class Node:
    """One op applied to operands."""

    __slots__ = ("attrs", "location", "op", "operands", "regions", "results")

    def __init__(
        self,
        op: Op,
        operands: Sequence[Operand],
        attrs: Mapping[str, Any],
        results: Sequence[Value],
        *,
        regions: Sequence[Region] = (),
        location: Location | None = None,
    ) -> None:
        self.op = op
        self.operands = tuple(operands)
        self.attrs = MappingProxyType(dict(attrs))
        self.results = tuple(results)
        self.regions = tuple(regions)
        self.location = location

    @property
    def result(self) -> Value:
        """The only result."""
        (value,) = self.results
        return value

    def reads(self) -> tuple[Operand, ...]:
        """The operands, and the values from outside that the regions use."""
        if not self.regions:
            return self.operands
        found: dict[Operand, None] = dict.fromkeys(self.operands)
        for region in self.regions:
            found.update(dict.fromkeys(region.captured()))
        return tuple(found)

    def has_effect(self) -> bool:
        """Whether the node does more than to compute its results: it, or a node inside, checks or binds something."""
        if self.regions:
            return any(node.has_effect() for region in self.regions for node in region.nodes)
        return not self.results

    def __repr__(self) -> str:
        return f"{', '.join(map(repr, self.results))} = {self.op.name}(...)"


@dataclass(frozen=True, eq=False)
class Graph:
    """A typed program.

    Attributes:
        name: of the captured function.
        inputs: arguments first, then what was lifted (parameters, buffers, closures, the random generator's state).
        nodes: in order of execution.
        outputs: values returned, then values written back.
        writes: output position to input position, for outputs written back to an input's buffer.
        frozen: positions of inputs that hold the same elements at every call.
    """

    name: str
    inputs: tuple[Value, ...]
    nodes: tuple[Node, ...]
    outputs: tuple[Operand, ...]
    writes: Mapping[int, int] = field(default_factory=dict)
    frozen: frozenset[int] = frozenset()

    def __str__(self) -> str:
        from tjit.ir.printer import print_graph

        return print_graph(self)

    def uses(self) -> dict[Value, list[Node]]:
        """The nodes that read each value (regions count for the node that holds them)."""
        found: dict[Value, list[Node]] = {}
        for node in self.nodes:
            for operand in _all_operands(node):
                if isinstance(operand, Value):
                    found.setdefault(operand, []).append(node)
        return found

    def producers(self) -> dict[Value, Node]:
        """The node that defines each value; inputs have none."""
        return {value: node for node in self.nodes for value in node.results}


def _all_operands(node: Node) -> Iterator[Operand]:
    yield from node.operands
    for region in node.regions:
        for inner in region.nodes:
            yield from _all_operands(inner)
        yield from region.outputs


def infer_types(op: Op, operands: Iterable[Operand], attrs: Mapping[str, Any]) -> tuple[TensorType, ...]:
    """The types of an op's results by its type rule.

    Raises:
        TypeRuleError: the rule refuses.
    """
    if op.infer is None:
        raise TypeRuleError(f"composite {op.name} has no type rule of its own")
    types = op.infer(*(o.type for o in operands), **attrs)
    return types if isinstance(types, tuple) else (types,)


class GraphBuilder:
    """Collects nodes for a new graph, inferring the types of their results."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.inputs: list[Value] = []
        self.nodes: list[Node] = []

    def input(self, type: TensorType, name: str | None = None) -> Value:
        value = Value(type, name)
        self.inputs.append(value)
        return value

    def add(
        self,
        op: Op,
        operands: Sequence[Operand],
        attrs: Mapping[str, Any] | None = None,
        *,
        location: Location | None = None,
        types: Sequence[TensorType] | None = None,
        regions: Sequence[Region] = (),
    ) -> tuple[Value, ...]:
        """Append a node and return its results.

        Args:
            types: the results' types where they are known already; inferred otherwise.

        Raises:
            TypeRuleError: the op's type rule refuses, with `location` filled in.
        """
        attrs = attrs or {}
        if types is None:
            try:
                types = infer_types(op, operands, attrs)
            except TjitError as error:
                error.location = error.location or location
                raise
        results = tuple(Value(t) for t in types)
        self.nodes.append(Node(op, operands, attrs, results, regions=regions, location=location))
        return results

    def add_one(self, op: Op, *operands: Operand, location: Location | None = None, **attrs: Any) -> Value:
        """`add` for an op with one result."""
        (value,) = self.add(op, operands, attrs, location=location)
        return value

    def finish(self, outputs: Sequence[Operand], writes: Mapping[int, int] | None = None) -> Graph:
        return Graph(self.name, tuple(self.inputs), tuple(self.nodes), tuple(outputs), dict(writes or {}))
