"""A captured graph as TorchScript's users read it: `prim::If` and `aten::relu` in the graph, Python in the code."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.ir.printer import print_attr, print_literal

__all__ = ["ScriptGraph"]

_PRIM = {"if": "prim::If", "for": "prim::Loop", "while": "prim::Loop", "check": "prim::RaiseException"}


class ScriptGraph:
    """A graph that prints as `%1 : f32[3] = aten::relu(%x)`.

    Attributes:
        graph: tjit's own, with its inputs, nodes and outputs.
    """

    def __init__(self, graph: Graph) -> None:
        self.graph = graph

    def nodes(self) -> tuple[Node, ...]:
        return self.graph.nodes

    def inputs(self) -> tuple[Value, ...]:
        return self.graph.inputs

    def outputs(self) -> tuple[Operand, ...]:
        return self.graph.outputs

    def __str__(self) -> str:
        return "\n".join(_GraphText(self.graph).lines())

    __repr__ = __str__

    def code(self, name: str = "forward") -> str:
        """The graph as the text of a Python function."""
        return "\n".join(_CodeText(self.graph).lines(name)) + "\n"


class _Names:
    """A name for every value: that of an input, else a number."""

    def __init__(self, graph: Graph, prefix: str, mark: str) -> None:
        self.prefix = prefix
        self.mark = mark
        self.taken: set[str] = set()
        self.names: dict[Value, str] = {}
        for i, value in enumerate(graph.inputs):
            self.define(value, value.name or f"input_{i}")

    def define(self, value: Value, hint: str | None = None) -> str:
        base = hint or f"{self.prefix}{len(self.names)}"
        name, tries = base, 0
        while name in self.taken:
            tries += 1
            name = f"{base}_{tries}"
        self.taken.add(name)
        self.names[value] = f"{self.mark}{name}"
        return self.names[value]

    def use(self, operand: Operand) -> str:
        return print_literal(operand) if isinstance(operand, Literal) else self.names[operand]

    def uses(self, operands: Iterable[Operand]) -> list[str]:
        return [self.use(o) for o in operands]


class _GraphText:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names = _Names(graph, "", "%")

    def lines(self) -> list[str]:
        inputs = ", ".join(f"{self.names.use(v)} : {v.type}" for v in self.graph.inputs)
        body = [line for node in self.graph.nodes for line in self.node(node, "  ")]
        return [f"graph({inputs}):", *body, f"  return ({', '.join(self.names.uses(self.graph.outputs))})"]

    def node(self, node: Node, indent: str) -> list[str]:
        operands = ", ".join(self.names.uses(node.operands))
        attrs = ", ".join(f"{k}={print_attr(v)}" for k, v in node.attrs.items())
        name = _PRIM.get(node.op.name, f"aten::{node.op.name}")
        inner: list[str] = []
        for i, region in enumerate(node.regions):
            given = ", ".join(f"{self.names.define(v, v.name)} : {v.type}" for v in region.inputs)
            inner.append(f"{indent}  block{i}({given}):")
            inner += [line for n in region.nodes for line in self.node(n, indent + "    ")]
            inner.append(f"{indent}    -> ({', '.join(self.names.uses(region.outputs))})")
        results = ", ".join(f"{self.names.define(v)} : {v.type}" for v in node.results)
        head = f"{indent}{results}{' = ' if results else ''}{name}{f'[{attrs}]' if attrs else ''}({operands})"
        where = f"  # {node.location.short}" if node.location else ""
        return [head + where, *inner]


class _CodeText:
    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.names = _Names(graph, "_", "")

    def lines(self, name: str) -> list[str]:
        inputs = ", ".join(f"{self.names.use(v)}: Tensor" for v in self.graph.inputs)
        body = [line for node in self.graph.nodes for line in self.node(node, "    ")]
        return [f"def {name}({inputs}):", *body, f"    return {', '.join(self.names.uses(self.graph.outputs))}"]

    def node(self, node: Node, indent: str) -> list[str]:
        write = {"if": self.branch, "for": self.count, "while": self.repeat}.get(node.op.name)
        if write is not None:
            return write(node, indent)
        operands = [*self.names.uses(node.operands), *(f"{k}={print_attr(v)}" for k, v in node.attrs.items())]
        results = ", ".join(self.names.define(v) for v in node.results)
        return [f"{indent}{results}{' = ' if results else ''}torch.{node.op.name}({', '.join(operands)})"]

    def branch(self, node: Node, indent: str) -> list[str]:
        condition, *carried = node.operands
        results = [self.names.define(v) for v in node.results]
        lines: list[str] = []
        for head, region in zip((f"if {self.names.use(condition)}:", "else:"), node.regions, strict=True):
            lines += [f"{indent}{head}", *self.body(region.inputs, carried, region.nodes, indent)]
            lines += self.assigned(results, region.outputs, indent + "    ") or [f"{indent}    pass"]
        return lines

    def count(self, node: Node, indent: str) -> list[str]:
        return self.loop(node, f"for {node.attrs['counter']} in range({node.attrs['trip']}):", indent)

    def repeat(self, node: Node, indent: str) -> list[str]:
        return self.loop(node, "while True:", indent)

    def loop(self, node: Node, head: str, indent: str) -> list[str]:
        results = [self.names.define(v) for v in node.results]
        lines = [*self.assigned(results, node.operands, indent), indent + head]
        inner = indent + "    "
        for region in node.regions:
            for value, name in zip(region.inputs, results, strict=True):
                self.names.names[value] = name
            lines += [line for n in region.nodes for line in self.node(n, inner)]
            if region.name == "test":
                lines += [f"{inner}if not {self.names.use(region.outputs[0])}:", f"{inner}    break"]
            else:
                lines += self.assigned(results, region.outputs, inner) or [f"{inner}pass"]
        return lines

    def body(
        self, inputs: Sequence[Value], carried: Sequence[Operand], nodes: Iterable[Node], indent: str
    ) -> list[str]:
        for value, operand in zip(inputs, carried, strict=True):
            self.names.names[value] = self.names.use(operand)
        return [line for n in nodes for line in self.node(n, indent + "    ")]

    def assigned(self, names: Sequence[str], values: Iterable[Operand], indent: str) -> list[str]:
        pairs = [(n, v) for n, v in zip(names, self.names.uses(values), strict=True) if n != v]
        if not pairs:
            return []
        return [f"{indent}{', '.join(n for n, _ in pairs)} = {', '.join(v for _, v in pairs)}"]
