"""A module's text, to the byte as llvmlite writes it, in a third of the time: most of a small module's Python."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import llvmlite.ir as ir
from llvmlite.ir import instructions as kinds

from tjit.codegen.llvm.builder import Line
from tjit.dataclass import dataclass

__all__ = ["Printed", "print_module"]


@dataclass(frozen=True, slots=True)
class Printed:
    """A module's text in parts.

    Attributes:
        parts: what the module has, in its order.
        declared, defined: the parts that are functions, by name.
    """

    header: str
    parts: tuple[str, ...]
    declared: dict[str, str]
    defined: dict[str, str]

    @property
    def text(self) -> str:
        """The same as `str(module)`."""
        return "\n".join((self.header, *self.parts))

    @property
    def is_functions(self) -> bool:
        """Whether there is nothing but functions."""
        return len(self.declared) + len(self.defined) == len(self.parts)

    @property
    def is_plain(self) -> bool:
        """Whether no function wants to be optimised."""
        return all(" optnone" in text[: text.index("\n")] for text in self.defined.values())


def print_module(module: ir.Module) -> Printed:
    """The text of a module."""
    if module.metadata or module.namedmetadata or module.get_identified_types():
        header, _, rest = str(module).partition("\n")
        return Printed(header, (rest,), {}, {})
    header = (
        f'; ModuleID = "{module.name}"',
        f'target triple = "{module.triple}"',
        f'target datalayout = "{module.data_layout}"',
        "",
    )
    values = list(module.globals.values())
    parts = tuple(map(_Printer().one, values))
    functions = [(f, text) for f, text in zip(values, parts, strict=True) if isinstance(f, ir.Function)]
    return Printed(
        "\n".join(header),
        parts,
        {f.name: text for f, text in functions if not f.blocks},
        {f.name: text for f, text in functions if f.blocks},
    )


class _Printer:
    """Writes one module. Keeps the text of each operand, with and without its type, by the operand's id."""

    def __init__(self) -> None:
        self.references: dict[int, str] = {}
        self.operands: dict[int, str] = {}
        self.types: dict[int, str] = {}
        self.writers: dict[type, Callable[[Any], str]] = {
            kinds.Instruction: self.operation,
            kinds.ICMPInstr: self.compare,
            kinds.FCMPInstr: self.compare,
            kinds.SelectInstr: self.select,
            kinds.CastInstr: self.cast,
            kinds.PhiInstr: self.phi,
            kinds.LoadInstr: self.load,
            kinds.StoreInstr: self.store,
            kinds.GEPInstr: self.address,
            kinds.CallInstr: self.call,
            kinds.Branch: self.listed,
            kinds.ConditionalBranch: self.listed,
            kinds.Ret: self.listed,
            kinds.ExtractElement: self.listed,
            kinds.InsertElement: self.listed,
            kinds.ShuffleVector: self.listed,
        }

    def one(self, value: Any) -> str:
        """A function, or what else a module has."""
        if not isinstance(value, ir.Function):
            return str(value)
        if not value.blocks:
            return self.declaration(value)
        parts: list[str] = []
        value.descr_prototype(parts)
        parts.append("{\n")
        for block in value.blocks:
            parts.append(f"{block._format_name()}:\n")
            parts += [i.text if type(i) is Line else self.instruction(i) for i in block.instructions]
        parts.append("}\n")
        return "".join(parts)

    def declaration(self, f: ir.Function) -> str:
        if f.attributes or f.linkage or f.ftype.var_arg or any([a.attributes for a in f.args]):
            return str(f)
        args = ", ".join([f'{self.type(kind)} %".{i}"' for i, kind in enumerate(f.ftype.args, 1)])
        return f"declare {self.type(f.ftype.return_type)} {f.get_reference()}({args})\n"

    def instruction(self, i: Any) -> str:
        write = self.writers.get(type(i))
        if write is None or i.metadata:
            return f"  {i}\n"
        if isinstance(i.type, ir.VoidType):
            return f"  {write(i)}\n"
        return f"  {self.reference(i)} = {write(i)}\n"

    def reference(self, value: Any) -> str:
        key = id(value)
        if key in self.references:
            return self.references[key]
        # llvmlite's own names need no escapes
        text = f'%"{value._name}"' if isinstance(value, kinds.Instruction) else value.get_reference()
        self.references[key] = text
        return text

    def operand(self, value: Any) -> str:
        key = id(value)
        if key in self.operands:
            return self.operands[key]
        text = self.operands[key] = f"{self.type(value.type)} {self.reference(value)}"
        return text

    def type(self, kind: Any) -> str:
        key = id(kind)
        if key in self.types:
            return self.types[key]
        text = self.types[key] = str(kind)
        return text

    def list(self, operands: Iterable[Any]) -> str:
        return ", ".join([self.operand(o) for o in operands])

    def operation(self, i: Any) -> str:
        name = " ".join((i.opname, *i.flags)) if i.flags else i.opname
        return f"{name} {self.type(i.type)} {', '.join([self.reference(o) for o in i.operands])}"

    def listed(self, i: Any) -> str:
        return f"{i.opname} {self.list(i.operands)}" if i.operands else i.opname

    def compare(self, i: Any) -> str:
        x, y = i.operands
        flags = "".join([f" {flag}" for flag in i.flags])
        return f"{i.OPNAME}{flags} {i.op} {self.operand(x)}, {self.reference(y)}"

    def select(self, i: Any) -> str:
        return f"select {' '.join(i.flags)} {self.list(i.operands)}"

    def cast(self, i: Any) -> str:
        return f"{i.opname} {self.operand(i.operands[0])} to {self.type(i.type)}"

    def phi(self, i: Any) -> str:
        incoming = [f"[{self.reference(value)}, {self.reference(block)}]" for value, block in i.incomings]
        return f"phi {' '.join(i.flags)} {self.type(i.type)} {', '.join(incoming)}"

    def load(self, i: Any) -> str:
        return f"load {self.type(i.type)}, {self.list(i.operands)}{_align(i)}"

    def store(self, i: Any) -> str:
        return f"store {self.list(i.operands)}{_align(i)}"

    def address(self, i: Any) -> str:
        inbounds = " inbounds" if i.inbounds else ""
        return f"getelementptr{inbounds} {self.type(i.source_etype)}, {self.list(i.operands)}"

    def call(self, i: Any) -> str:
        callee, *operands = i.operands
        kind = callee.function_type
        if i.cconv or i.tail or i.attributes or i.fastmath or i.arg_attributes or kind.var_arg:
            parts: list[str] = []
            i.descr(parts)
            return "".join(parts).rstrip()
        return f"call {kind.return_type} {self.reference(callee)}({self.list(operands)})"


def _align(i: Any) -> str:
    return "" if i.align is None else f", align {i.align}"
