"""Symbols that nodes bind: a `for` its counter, in its region; a `bind` a computed integer, from there on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from tjit.devices import Device
from tjit.ir.dims import Dim, DimExpr, Symbol, counter, symbols
from tjit.ir.graph import Graph, Node, Operand, Region

__all__ = ["NAME_ATTR", "attr_dims", "bound_names", "bound_symbol", "each_node", "mentioned", "used_names", "yielded"]

NAME_ATTR = {"for": "counter", "bind": "symbol"}  # by op: the attr that names the symbol which a node binds


def bound_symbol(op: str, attrs: Mapping[str, Any]) -> Symbol | None:
    """The symbol that a node of this op and these attrs binds, with its bounds; None where it binds none."""
    if op == "for":
        return counter(attrs["counter"], attrs["trip"])
    if op == "bind":
        return Symbol(attrs["symbol"], attrs["low"], attrs["high"])
    return None


def each_node(nodes: Iterable[Node]) -> Iterator[Node]:
    """The nodes and those of their regions, in order of text."""
    for node in nodes:
        yield node
        for region in node.regions:
            yield from each_node(region.nodes)


def yielded(nodes: Iterable[Node]) -> Iterator[Operand]:
    """What the regions of the nodes, at any depth, give."""
    for node in each_node(nodes):
        for region in node.regions:
            yield from region.outputs


def attr_dims(attrs: Mapping[str, Any]) -> Iterator[DimExpr]:
    """The symbolic dims among the values of attrs, also in tuples."""
    for value in attrs.values():
        yield from _dims_in(value)


def _dims_in(value: Any) -> Iterator[DimExpr]:
    if isinstance(value, DimExpr):
        yield value
    elif isinstance(value, tuple) and not isinstance(value, Device):
        for item in value:
            yield from _dims_in(item)


def mentioned(node: Node) -> set[str]:
    """Names of the symbols in a node's attrs and types, those of its regions included, and in their bounds."""
    found: set[Symbol] = set()
    for one in each_node([node]):
        _add_symbols(attr_dims(one.attrs), found)
        for value in (*one.results, *(v for region in one.regions for v in region.inputs)):
            _add_symbols(value.type.shape, found)
    return {symbol.name for symbol in found}


def _add_symbols(dims: Iterable[Dim], found: set[Symbol]) -> None:
    for dim in dims:
        for symbol in symbols(dim):
            if symbol not in found:
                found.add(symbol)
                _add_symbols([] if symbol.maximum is None else [symbol.maximum], found)


def bound_names(nodes: Iterable[Node]) -> set[str]:
    """Names of the symbols that the nodes and those of their regions bind."""
    return {name for n in each_node(nodes) if n.op.name in NAME_ATTR and (name := n.attrs.get(NAME_ATTR[n.op.name]))}


def used_names(graph: Graph | Region) -> set[str]:
    """Names of all symbols of a graph: a new one must be none of them."""
    found: set[Symbol] = set()
    for value in graph.inputs:
        _add_symbols(value.type.shape, found)
    names = {symbol.name for symbol in found} | bound_names(graph.nodes)
    return names.union(*map(mentioned, graph.nodes))
