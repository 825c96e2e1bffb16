"""Graph to text. The grammar is in docs/ir.md; `tjit.ir.parser` reads it back."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Any

from tjit.devices import Device
from tjit.dtypes import DTYPES, DType, bf16
from tjit.ir.dims import Dim, DimExpr, Symbol, symbols
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value
from tjit.ir.scope import attr_dims, bound_names, each_node
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = ["RESERVED", "print_attr", "print_graph", "print_literal"]

# Words that mean something where an expression may stand, so no symbol may be called so.
RESERVED = frozenset(
    {"True", "False", "None", "true", "false", "inf", "nan", "min", "max", "cpu", "cuda", "where", "in"}
)
RESERVED |= {t.name for t in DTYPES}

_WIDTH = 100  # headers and regions longer than this are broken into lines
_COMMENT_COLUMN = 88  # lines longer than this do not push the comments of all others to the right

_Line = tuple[str, Location | None]


def print_graph(graph: Graph, locations: bool = True) -> str:
    """The text of `graph`, without a newline at the end.

    Never raises: a graph that breaks the IR's rules prints too, undefined values as `%?`.

    Args:
        locations: end each node's line with the user's line, as in `# model.py:6`.
    """
    return _Printer(graph, locations).text()


def print_literal(literal: Literal) -> str:
    """The number alone: the shortest decimal that rounds to it in its dtype."""
    value = literal.value
    if isinstance(value, bool):
        return "true" if value else "false"
    return repr(value) if isinstance(value, int) else _shortest(repr(value), literal.dtype)


@lru_cache(maxsize=4096)
def _shortest(text: str, dtype: DType) -> str:
    value = float(text)
    digits = {2: 5, 4: 9}.get(dtype.itemsize, 17)
    if dtype is bf16:
        digits = 4
    for n in range(1, digits):
        short = float(f"{value:.{n}g}")
        if Literal(short, dtype).value == value:
            return repr(short)
    return text


def print_attr(value: Any) -> str:
    """The text of an attr's value: a number, None, string, dtype, device, dim, or tuple of these."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, tuple) and not isinstance(value, Device):
        items = [print_attr(item) for item in value]
        return f"({items[0]},)" if len(items) == 1 else f"({', '.join(items)})"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, (DType, Device, DimExpr)):
        return f"{value}"
    return f"<{type(value).__name__} {value}>"  # does not parse; `verify` refuses it


class _Printer:
    def __init__(self, graph: Graph, locations: bool) -> None:
        self.graph = graph
        self.locations = locations
        self.names: dict[Value, str] = {}
        self.taken: set[str] = set()
        self.tries: dict[str, int] = {}
        self.numbered = 0
        self.types: dict[TensorType, str] = {}

    def text(self) -> str:
        for value in self.graph.inputs:
            self.name_input(value)
        input_types = list(self.types)
        self.name_nodes(self.graph.nodes)
        lines: list[_Line] = [(line, None) for line in self.header(input_types)]
        for node in self.graph.nodes:
            lines.extend(self.node(node, "  "))
        lines.extend((line, None) for line in self.returned())
        lines.append(("}", None))
        return "\n".join(_align(lines) if self.locations else (text for text, _ in lines))

    def name_input(self, value: Value) -> None:
        base = _identifier(value.name or "input")
        name = base
        while name in self.taken:
            self.tries[base] = self.tries.get(base, 0) + 1
            name = f"{base}_{self.tries[base]}"
        self.taken.add(name)
        self.names[value] = f"%{name}"
        self.type(value.type)

    def name_nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            for value in node.results:
                self.names[value] = f"%{self.numbered}"
                self.numbered += 1
            for region in node.regions:
                for value in region.inputs:
                    self.name_input(value)
                self.name_nodes(region.nodes)

    def type(self, type: TensorType) -> str:
        text = self.types.get(type)
        if text is None:
            text = self.types[type] = str(type)
        return text

    def header(self, input_types: Iterable[TensorType]) -> list[str]:
        inputs = self.typed(self.graph.inputs)
        for i in self.graph.frozen:
            inputs[i] = f"frozen {inputs[i]}"
        results = [self.type(o.type) for o in self.graph.outputs]
        tail = f"{self.bounds(input_types)} {{"
        name = ".".join(_identifier(part) for part in (self.graph.name or "graph").split("."))
        arrow = f") -> {', '.join(results) if results else '()'}{tail}"
        line = f"graph {name}({', '.join(inputs)}{arrow}"
        if len(line) <= _WIDTH:
            return [line]
        first = [f"graph {name}(", *(f"  {text}," for text in inputs)]
        if len(arrow) <= _WIDTH or not results:
            return [*first, arrow]
        return [*first, ") -> (", *(f"  {text}," for text in results), f"){tail}"]

    def bounds(self, input_types: Iterable[TensorType]) -> str:
        found: dict[Symbol, str] = {}
        inner_names = bound_names(self.graph.nodes)  # bounded by the nodes that bind them
        bound = set(_symbols(dim for type in input_types for dim in type.shape))

        def declare(symbol: Symbol) -> None:
            if symbol in found or symbol.name in inner_names:
                return
            found[symbol] = ""
            if symbol.maximum is not None:
                for inner in symbols(symbol.maximum):
                    declare(inner)
            if symbol.minimum or symbol.maximum is not None or symbol not in bound:
                top = "inf" if symbol.maximum is None else symbol.maximum
                del found[symbol]  # behind the symbols of its maximum
                found[symbol] = f"{symbol} in [{symbol.minimum}, {top}]"

        every: Iterator[Dim] = (dim for type in self.types for dim in type.shape)
        attrs = (dim for node in each_node(self.graph.nodes) for dim in attr_dims(node.attrs))
        for symbol in (*_symbols(every), *_symbols(attrs)):
            declare(symbol)
        clauses = [clause for clause in found.values() if clause]
        return f" where {', '.join(clauses)}" if clauses else ""

    def returned(self) -> list[str]:
        outputs = self.yielded(self.graph.outputs)
        for position, index in self.graph.writes.items():
            if position < len(outputs):
                known = 0 <= index < len(self.graph.inputs)
                outputs[position] += f" to {self.names[self.graph.inputs[index]] if known else '%?'}"
        line = f"  return {', '.join(outputs)}".rstrip()
        if len(line) <= _WIDTH:
            return [line]
        return ["  return", *(f"    {text}," for text in outputs[:-1]), f"    {outputs[-1]}"]

    def node(self, node: Node, indent: str) -> list[_Line]:
        head = indent + self.node_text(node)
        if not node.regions:
            return [(head, node.location)]
        lines: list[_Line] = [(f"{head} {{", node.location)]
        for region in node.regions:
            lines.extend(self.region(region, indent + "  ", node.location))
        return [*lines, (f"{indent}}}", None)]

    def node_text(self, node: Node) -> str:
        results = ", ".join(self.typed(node.results))
        values = [o for o in node.operands if isinstance(o, Value)]
        implied = values[-1].type.dtype if values else None
        arguments = [self.operand(o, implied) for o in node.operands]
        arguments.extend(f"{key}={print_attr(value)}" for key, value in node.attrs.items())
        return f"{results}{' = ' if results else ''}{node.op.name}({', '.join(arguments)})"

    def region(self, region: Region, indent: str, location: Location | None) -> list[_Line]:
        head = f"{indent}{region.name}"
        if region.inputs:
            head += f"({', '.join(self.typed(region.inputs))})"
        last = f"yield {', '.join(self.yielded(region.outputs))}".rstrip()
        # A node that shares a line with others has the location of the node around it.
        here = not self.locations or all(node.location == location for node in region.nodes)
        if here and len(region.nodes) <= 2 and not any(node.regions for node in region.nodes):
            line = f"{head} {{ {'  '.join([*(self.node_text(n) for n in region.nodes), last])} }}"
            if len(line) <= _WIDTH:
                return [(line, None)]
        lines: list[_Line] = [(f"{head} {{", None)]
        for node in region.nodes:
            lines.extend(self.node(node, indent + "  "))
        return [*lines, (f"{indent}  {last}", None), (f"{indent}}}", None)]

    def typed(self, values: Sequence[Value]) -> list[str]:
        return [f"{self.names[value]}: {self.type(value.type)}" for value in values]

    def yielded(self, operands: Sequence[Operand]) -> list[str]:
        return [self.operand(o, None) for o in operands]

    def operand(self, operand: Operand, implied: DType | None) -> str:
        if isinstance(operand, Value):
            return self.names.get(operand, "%?")
        text = print_literal(operand)
        return text if operand.dtype is implied else f"{text}:{operand.dtype}"


def _identifier(hint: str) -> str:
    name = re.sub(r"\W", "_", hint)
    return name if name and not name[0].isdigit() else f"_{name}"


def _align(lines: Sequence[_Line]) -> list[str]:
    widths = [len(text) for text, location in lines if location is not None]
    column = max((w for w in widths if w <= _COMMENT_COLUMN), default=0)
    return [text if place is None else f"{text:<{column}}  # {place.short}" for text, place in lines]


def _symbols(dims: Iterable[Dim]) -> dict[Symbol, None]:
    return {symbol: None for dim in dims for symbol in symbols(dim)}
