"""The rules of the IR, checked on a graph."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from tjit.devices import Device
from tjit.dtypes import DType
from tjit.errors import TjitError, VerifyError
from tjit.ir.dims import DimExpr, symbols
from tjit.ir.graph import Graph, Literal, Node, Operand, Region, Value, infer_types
from tjit.ir.op import OPS
from tjit.ir.printer import RESERVED, print_graph
from tjit.ir.region_rules import region_problem
from tjit.ir.scope import bound_names, bound_symbol
from tjit.ir.types import TensorType

__all__ = ["verify"]

_NEED_VALUES = ("movement", "reduce", "scan", "sort", "contract")  # kinds of op that take no numbers as operands


def verify(graph: Graph) -> None:
    """Check that `graph` keeps the rules of the IR.

    Each value is defined once and before it is used, each symbol of a node is bound once and used where it is seen;
    operands, attrs and regions are what the op takes; the stored types are those that the type rules give; each output
    that is written back has the type of its input.

    Raises:
        VerifyError: it does not. The text of the graph is a note of the error.
    """
    try:
        _Verifier(graph).run()
    except VerifyError as error:
        error.add_note(f"the graph:\n{print_graph(graph)}")
        raise


class _Verifier:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.visible: dict[Value, None] = {}
        self.defined: set[Value] = set()
        self.bounds: dict[str, tuple[Any, Any]] = {}
        self.bound = bound_names(graph.nodes)  # symbols that nodes bind, and those of them that are seen here
        self.in_scope: set[str] = set()

    def run(self) -> None:
        for value in self.graph.inputs:
            self.define(value, None)
        self.nodes(self.graph.nodes)
        for operand in self.graph.outputs:
            if isinstance(operand, Value) and operand not in self.visible:
                raise VerifyError(f"an output of graph {self.graph.name} is never defined")
            for name in sorted({s.name for dim in operand.type.shape for s in symbols(dim)} & self.bound):
                problem = f"has an output {operand.type}, whose extent {name} is not known when it is called"
                raise VerifyError(f"graph {self.graph.name} {problem}")
        self.writes()

    def writes(self) -> None:
        inputs, outputs, targets = self.graph.inputs, self.graph.outputs, set()
        for position, index in self.graph.writes.items():
            if not 0 <= position < len(outputs) or not 0 <= index < len(inputs):
                message = f"output {position} is written to input {index}"
                raise VerifyError(f"{message}, of {len(outputs)} outputs and {len(inputs)} inputs")
            if outputs[position].type != inputs[index].type:
                types = f"{outputs[position].type} is written to input {index}, which is {inputs[index].type}"
                raise VerifyError(f"output {position}, {types}")
            if index in targets:
                raise VerifyError(f"input {index} is written twice")
            targets.add(index)

    def nodes(self, nodes: Iterable[Node]) -> None:
        for node in nodes:
            self.node(node)

    def node(self, node: Node) -> None:
        if OPS.get(node.op.name) is not node.op:
            raise self.error(node, "has an op that is not in the registry")
        for operand in node.operands:
            self.operand(node, operand)
        for key, value in node.attrs.items():
            self.attr(node, key, value)
        names = [region.name for region in node.regions]
        if len(set(names)) < len(names):
            raise self.error(node, f"has regions of one name: {', '.join(names)}")
        self.check_types(node)
        counter = self.bind(node)
        for region in node.regions:
            self.region(node, region)
        if node.regions and counter is not None:
            self.in_scope.remove(counter)
        problem = region_problem(node)
        if problem is not None:
            raise self.error(node, problem)
        for value in node.results:
            self.define(value, node)

    def operand(self, node: Node, operand: Operand) -> None:
        if isinstance(operand, Literal):
            if node.op.kind in _NEED_VALUES:
                raise self.error(node, f"is a {node.op.kind} op and takes no numbers, not {operand.value}")
        elif operand not in self.visible:
            late = "before its definition" if operand in self.all_defined() else "that nothing defines"
            raise self.error(node, f"uses a value {late}")

    def bind(self, node: Node) -> str | None:
        """Bring the symbol that a node binds into scope; its name."""
        symbol = bound_symbol(node.op.name, node.attrs)
        if symbol is None:
            return None
        if symbol.name in self.bounds:
            raise self.error(node, f"binds the symbol {symbol.name}, which is a symbol of the graph already")
        self.bounds[symbol.name] = symbol.minimum, symbol.maximum
        self.in_scope.add(symbol.name)
        return symbol.name

    def region(self, node: Node, region: Region) -> None:
        outside, in_scope = len(self.visible), set(self.in_scope)
        for value in region.inputs:
            self.define(value, node)
        self.nodes(region.nodes)
        for operand in region.outputs:
            if isinstance(operand, Value) and operand not in self.visible:
                raise self.error(node, f"yields a value from region {region.name} that is not defined there")
        while len(self.visible) > outside:  # nothing behind the region sees what it defines
            self.visible.popitem()
        self.in_scope = in_scope

    def check_types(self, node: Node) -> None:
        if node.op.infer is None:
            return
        try:
            types = infer_types(node.op, node.operands, node.attrs)
        except (TjitError, TypeError) as error:
            text = error.message if isinstance(error, TjitError) else str(error)
            raise self.error(node, f"is refused by its type rule: {text}") from error
        stored = tuple(value.type for value in node.results)
        if types != stored:
            raise self.error(node, f"has results {_list(stored)}, its type rule gives {_list(types)}")

    def define(self, value: Value, node: Node | None) -> None:
        if value in self.defined:
            what = "a value that is defined already"
            raise self.error(node, f"defines {what}") if node else VerifyError(f"an input is {what}")
        self.defined.add(value)
        self.visible[value] = None
        for dim in value.type.shape:
            if type(dim) is not int:
                self.symbols(dim, node)

    def attr(self, node: Node, key: str, value: Any) -> None:
        if isinstance(value, DimExpr):
            self.symbols(value, node)
        elif isinstance(value, tuple) and not isinstance(value, Device):
            for item in value:
                self.attr(node, key, item)
        elif not (value is None or type(value) in (bool, int, float, str) or isinstance(value, (DType, Device))):
            kinds = "a number, None, string, dtype, device, dim, or tuple of these"
            raise self.error(node, f"has the attr {key} = {value!r}, which is not {kinds}")

    def symbols(self, dim: Any, node: Node | None) -> None:
        for symbol in symbols(dim):
            if symbol.name in self.bound and symbol.name not in self.in_scope:
                message = f"uses the symbol {symbol.name} where it is not bound"
                raise self.error(node, message) if node else VerifyError(f"graph {self.graph.name} {message}")
            bounds = (symbol.minimum, symbol.maximum)
            known = self.bounds.setdefault(symbol.name, bounds)
            if known == bounds and symbol.name.isidentifier() and symbol.name not in RESERVED:
                continue
            problem = f"the bounds {_interval(known)} and {_interval(bounds)}" if known != bounds else "a reserved name"
            message = f"uses the symbol {symbol.name} with {problem}"
            raise self.error(node, message) if node else VerifyError(f"graph {self.graph.name} {message}")

    def error(self, node: Node, problem: str) -> VerifyError:
        return VerifyError(f"node {_name(self.graph, node)} ({node.op.name}) {problem}", node.location)

    def all_defined(self) -> set[Value]:
        found: set[Value] = set()
        _each_node(self.graph.nodes, lambda node: found.update(node.results))
        return found


def _each_node(nodes: Iterable[Node], visit: Callable[[Node], None]) -> None:
    for node in nodes:
        visit(node)
        for region in node.regions:
            _each_node(region.nodes, visit)


def _name(graph: Graph, wanted: Node) -> str:
    """The name that the printer gives to the first result of `wanted`."""
    order: list[Node] = []
    _each_node(graph.nodes, order.append)
    number = sum(len(node.results) for node in order[: order.index(wanted)])
    return f"%{number}" if wanted.results else f"of line {wanted.location.short if wanted.location else '?'}"


def _interval(bounds: tuple[int, Any]) -> str:
    return f"[{bounds[0]}, {'inf' if bounds[1] is None else bounds[1]}]"


def _list(types: Iterable[TensorType]) -> str:
    return ", ".join(map(str, types)) or "none"
