"""Nodes with other operands: copies that define fresh values and symbols, and nodes that keep their results."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import Any

from tjit.devices import Device
from tjit.ir.dims import Dim, DimExpr, Symbol, substitute
from tjit.ir.graph import Literal, Node, Operand, Region, Value, infer_types
from tjit.ir.scope import NAME_ATTR, bound_symbol
from tjit.ir.types import TensorType

__all__ = ["clone_nodes", "clone_region", "fresh_name", "reading", "reading_nodes", "substituted", "substituted_type"]


def clone_nodes(
    nodes: Iterable[Node],
    values: dict[Value, Operand],
    symbols: Mapping[str, Dim] | None = None,
    taken: set[str] | None = None,
) -> tuple[Node, ...]:
    """Copies of `nodes`, regions included, that define values of their own.

    Args:
        values: what the copies read in place of values; gains each result's copy. Others are read as they are.
        symbols: dims that stand for symbols, by name, in types and attrs.
        taken: names of the symbols of the graph that the copies go to (`scope.used_names`). Symbols that the copies
            bind get names that are not among them, and are added. None: they keep their names, for nodes
            that are moved rather than copied.
    """
    return _Cloner(values, symbols or {}, taken).nodes(nodes)


def clone_region(
    region: Region,
    values: dict[Value, Operand],
    symbols: Mapping[str, Dim] | None = None,
    taken: set[str] | None = None,
) -> Region:
    """A copy of `region` with inputs of its own; the arguments are those of `clone_nodes`."""
    return _Cloner(values, symbols or {}, taken).region(region)


def reading(region: Region, values: Mapping[Value, Operand]) -> Region:
    """`region` where its nodes and what it yields read other operands in place of values. Results stay."""
    nodes, outputs = reading_nodes(region.nodes, values), _instead(region.outputs, values)
    return Region(region.name, region.inputs, nodes, outputs)


def reading_nodes(nodes: Iterable[Node], values: Mapping[Value, Operand]) -> tuple[Node, ...]:
    """Nodes that read other operands in place of values, in their regions too. Results stay."""
    found: list[Node] = []
    for node in nodes:
        operands = _instead(node.operands, values)
        regions = [reading(region, values) for region in node.regions]
        if regions or operands != node.operands:
            node = Node(node.op, operands, node.attrs, node.results, regions=regions, location=node.location)
        found.append(node)
    return tuple(found)


def _instead(operands: Iterable[Operand], values: Mapping[Value, Operand]) -> tuple[Operand, ...]:
    return tuple(o if isinstance(o, Literal) else values.get(o, o) for o in operands)


def fresh_name(name: str, taken: set[str]) -> str:
    """A name like `name` that is not among those taken; it is taken from then on."""
    stem = re.sub(r"_\d+$", "", name)
    number = 0
    while name in taken:
        number += 1
        name = f"{stem}_{number}"
    taken.add(name)
    return name


def substituted_type(type: TensorType, symbols: Mapping[str, Dim]) -> TensorType:
    """`type` with dims in place of symbols, by name."""
    return _substituted_type(type, {Symbol(name): dim for name, dim in symbols.items()})


def substituted(attr: Any, symbols: Mapping[str, Dim]) -> Any:
    """`attr` with dims in place of symbols, by name."""
    return _substituted(attr, {Symbol(name): dim for name, dim in symbols.items()}) if symbols else attr


def _substituted_type(type: TensorType, dims: Mapping[Symbol, Dim]) -> TensorType:
    if not dims or all(isinstance(d, int) for d in type.shape):
        return type
    return type.with_shape(tuple(substitute(d, dims) for d in type.shape))


def _substituted(attr: Any, dims: Mapping[Symbol, Dim]) -> Any:
    if isinstance(attr, DimExpr):
        return substitute(attr, dims)
    if isinstance(attr, tuple) and not isinstance(attr, Device):
        return tuple(_substituted(item, dims) for item in attr)
    return attr


class _Cloner:
    def __init__(self, values: dict[Value, Operand], symbols: Mapping[str, Dim], taken: set[str] | None) -> None:
        self.values = values
        self.symbols: dict[Symbol, Dim] = {Symbol(name): dim for name, dim in symbols.items()}
        self.taken = taken

    def nodes(self, nodes: Iterable[Node]) -> tuple[Node, ...]:
        return tuple([self.node(node) for node in nodes])

    def node(self, node: Node) -> Node:
        operands = [self.operand(o) for o in node.operands]
        attrs = {key: _substituted(value, self.symbols) for key, value in node.attrs.items()}
        self.bind(node, attrs)
        regions = [self.region(region) for region in node.regions]
        types = self.types(node, operands, attrs)
        results = [Value(type, old.name) for type, old in zip(types, node.results, strict=True)]
        self.values.update(zip(node.results, results, strict=True))
        return Node(node.op, operands, attrs, results, regions=regions, location=node.location)

    def bind(self, node: Node, attrs: dict[str, Any]) -> None:
        """Give the symbol that `node` binds its new name and bounds."""
        if node.op.name not in NAME_ATTR:
            return
        key = NAME_ATTR[node.op.name]
        old = attrs[key]
        if self.taken is not None:
            attrs[key] = fresh_name(old, self.taken)
        new = bound_symbol(node.op.name, attrs)
        assert new is not None
        if new.name != old or self.symbols:  # its bounds may mention symbols that are substituted
            self.symbols[Symbol(old)] = new.dim

    def types(self, node: Node, operands: list[Operand], attrs: dict[str, Any]) -> tuple[TensorType, ...]:
        old = tuple(value.type for value in node.results)
        new = tuple(_substituted_type(type, self.symbols) for type in old)
        if new == old or node.op.infer is None:
            return new
        return infer_types(node.op, operands, attrs)  # under other bounds a dim may simplify further

    def region(self, region: Region) -> Region:
        inputs = tuple(Value(_substituted_type(v.type, self.symbols), v.name) for v in region.inputs)
        self.values.update(zip(region.inputs, inputs, strict=True))
        nodes = self.nodes(region.nodes)
        return Region(region.name, inputs, nodes, tuple(self.operand(o) for o in region.outputs))

    def operand(self, operand: Operand) -> Operand:
        return operand if isinstance(operand, Literal) else self.values.get(operand, operand)
