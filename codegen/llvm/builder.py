"""llvmlite's builder, but that the frequent instructions are text from the start: most of a kernel's compilation was
Python that made an object of each, gave it a name, and printed it.

A `Line` stands wherever an instruction of llvmlite's does; what is rare (phis, branches, atomics) is llvmlite's. What
a block has computed already is not written again, and neither is what adds nothing: emitters say what they want where
they want it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import llvmlite.ir as ir

__all__ = ["Builder", "Line", "function_module"]

_I1 = ir.IntType(1)
_VOID = ir.VoidType()
_COMPARISONS = {"==": "eq", "!=": "ne", "<": "lt", "<=": "le", ">": "gt", ">=": "ge"}


class Line(ir.Instruction):
    """An instruction by its text.

    Attributes:
        text: as it stands in the module, line end and all.
        typed: its result as an operand: the type and the name.
    """

    def __init__(self, parent: ir.Block, type: ir.Type, body: str, name: str = "") -> None:
        self.parent = parent
        self.type = type
        self.body = body
        if name:
            name = parent.scope.register(name, deduplicate=True)
        else:
            numbers: dict[str, int] = parent.scope._basenamemap  # as `register` would, in a tenth of the time
            numbers[""] = number = numbers[""] + 1
            name = f".{number}"
        self._name = name
        if type is _VOID:
            self.text = f"  {body}\n"
        else:
            self.reference = f'%"{name}"'
            self.typed = f"{type} {self.reference}"
            self.text = f"  {self.reference} = {body}\n"

    def get_reference(self) -> str:
        return self.reference

    def set_metadata(self, name: str, node: Any) -> None:
        self.body += f", !{name} {node.get_reference()}"
        self.text = f"{self.text[:-1]}, !{name} {node.get_reference()}\n"

    def descr(self, buf: list[str]) -> None:
        buf.append(f"{self.body}\n")


def _reference(value: Any) -> str:
    try:
        return value.reference
    except AttributeError:
        return value.get_reference()


def _typed(value: Any) -> str:
    """A value as an operand, kept in it."""
    try:
        return value.typed
    except AttributeError:
        text = value.typed = f"{value.type} {value.get_reference()}"
        return text


def _number(value: Any) -> int | None:
    """What a value is known to be, of an integer that is no vector."""
    return value.constant if type(value) is ir.Constant and type(value.type) is ir.IntType else None


def _same_type(x: Any, y: Any) -> None:
    if x.type is not y.type and x.type != y.type:
        raise TypeError(f"operands of one type are wanted, not {x.type} and {y.type}")


def _flagged(name: str, flags: Sequence[str]) -> str:
    return f"{name} {' '.join(flags)}" if flags else name


def _binary(opname: str) -> Callable[..., ir.Value]:
    def method(self: Builder, lhs: ir.Value, rhs: ir.Value, name: str = "", flags: Sequence[str] = ()) -> ir.Value:
        _same_type(lhs, rhs)
        return self.pure(lhs.type, f"{_flagged(opname, flags)} {_typed(lhs)}, {_reference(rhs)}", name)

    return method


def _with_neutral(opname: str, neutral: int, *, either: bool = True) -> Callable[..., ir.Value]:
    """An operation of integers that leaves one operand as it is where the other, or `either`, is `neutral`."""
    operation = _binary(opname)

    def method(self: Builder, lhs: ir.Value, rhs: ir.Value, name: str = "", flags: Sequence[str] = ()) -> ir.Value:
        if _number(rhs) == neutral:
            return lhs
        return rhs if either and _number(lhs) == neutral else operation(self, lhs, rhs, name, flags)

    return method


def _cast(opname: str) -> Callable[..., ir.Value]:
    def method(self: Builder, value: ir.Value, typ: ir.Type, name: str = "") -> ir.Value:
        return value if value.type == typ else self.pure(typ, f"{opname} {_typed(value)} to {typ}", name)

    return method


class Builder(ir.IRBuilder):
    """Where instructions of a kernel go."""

    def line(self, type: ir.Type, body: str, name: str = "") -> Line:
        """Insert an instruction, given what stands behind its result."""
        block = self._block
        line = Line(block, type, body, name)
        block.instructions.insert(self._anchor, line)
        self._anchor += 1
        return line

    def pure(self, type: ir.Type, body: str, name: str = "") -> Line:
        """As `line`, of an instruction that its operands alone decide: one that this block has already, if it has."""
        block = self._block
        if self._anchor != len(block.instructions) - (block.terminator is not None):
            return self.line(type, body, name)  # in between: what is known may stand behind
        try:
            known: dict[str, Line] = block.known
        except AttributeError:
            known = block.known = {}
        found = known.get(body)
        if found is None:
            found = known[body] = self.line(type, body, name)
        return found

    # arithmetic

    shl, lshr, ashr = _binary("shl"), _binary("lshr"), _binary("ashr")
    add, sub, mul = _with_neutral("add", 0), _with_neutral("sub", 0, either=False), _with_neutral("mul", 1)
    udiv, sdiv = (_with_neutral(name, 1, either=False) for name in ("udiv", "sdiv"))
    urem, srem = _binary("urem"), _binary("srem")
    fadd, fsub, fmul, fdiv, frem = (_binary(name) for name in ("fadd", "fsub", "fmul", "fdiv", "frem"))
    and_, or_, xor = _binary("and"), _binary("or"), _binary("xor")

    def fneg(self, arg: ir.Value, name: str = "", flags: Sequence[str] = ()) -> ir.Value:
        return self.pure(arg.type, f"{_flagged('fneg', flags)} {_typed(arg)}", name)

    trunc, zext, sext, bitcast = _cast("trunc"), _cast("zext"), _cast("sext"), _cast("bitcast")
    fptrunc, fpext = _cast("fptrunc"), _cast("fpext")
    fptoui, fptosi, uitofp, sitofp = _cast("fptoui"), _cast("fptosi"), _cast("uitofp"), _cast("sitofp")
    ptrtoint, inttoptr = _cast("ptrtoint"), _cast("inttoptr")

    # comparison

    def icmp_signed(self, cmpop: str, lhs: ir.Value, rhs: ir.Value, name: str = "") -> ir.Value:
        return self._compare(f"icmp {_signed(cmpop, 's')}", lhs, rhs, name)

    def icmp_unsigned(self, cmpop: str, lhs: ir.Value, rhs: ir.Value, name: str = "") -> ir.Value:
        return self._compare(f"icmp {_signed(cmpop, 'u')}", lhs, rhs, name)

    def fcmp_ordered(
        self, cmpop: str, lhs: ir.Value, rhs: ir.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ir.Value:
        return self._compare(f"{_flagged('fcmp', flags)} {_ordered(cmpop, 'o')}", lhs, rhs, name)

    def fcmp_unordered(
        self, cmpop: str, lhs: ir.Value, rhs: ir.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ir.Value:
        return self._compare(f"{_flagged('fcmp', flags)} {_ordered(cmpop, 'u')}", lhs, rhs, name)

    def _compare(self, opname: str, lhs: ir.Value, rhs: ir.Value, name: str) -> ir.Value:
        _same_type(lhs, rhs)
        kind = lhs.type
        result = ir.VectorType(_I1, kind.count) if isinstance(kind, ir.VectorType) else _I1
        return self.pure(result, f"{opname} {_typed(lhs)}, {_reference(rhs)}", name)

    def select(
        self, cond: ir.Value, lhs: ir.Value, rhs: ir.Value, name: str = "", flags: Sequence[str] = ()
    ) -> ir.Value:
        _same_type(lhs, rhs)
        return self.pure(lhs.type, f"select {' '.join(flags)} {_typed(cond)}, {_typed(lhs)}, {_typed(rhs)}", name)

    # vectors

    def extract_element(self, vector: ir.Value, idx: ir.Value, name: str = "") -> ir.Value:
        return self.pure(vector.type.element, f"extractelement {_typed(vector)}, {_typed(idx)}", name)

    def insert_element(self, vector: ir.Value, value: ir.Value, idx: ir.Value, name: str = "") -> ir.Value:
        return self.pure(vector.type, f"insertelement {_typed(vector)}, {_typed(value)}, {_typed(idx)}", name)

    def shuffle_vector(self, vector1: ir.Value, vector2: ir.Value, mask: ir.Value, name: str = "") -> ir.Value:
        _same_type(vector1, vector2)
        kind = ir.VectorType(vector1.type.element, mask.type.count)
        return self.pure(kind, f"shufflevector {_typed(vector1)}, {_typed(vector2)}, {_typed(mask)}", name)

    # memory and calls

    def load(self, ptr: ir.Value, name: str = "", align: int | None = None, typ: ir.Type | None = None) -> ir.Value:
        if typ is None:  # of an alloca: llvmlite knows
            return super().load(ptr, name, align)
        return self.line(typ, f"load {typ}, {_typed(ptr)}{_aligned(align)}", name)

    def store(self, value: ir.Value, ptr: ir.Value, align: int | None = None) -> ir.Value:
        return self.line(_VOID, f"store {_typed(value)}, {_typed(ptr)}{_aligned(align)}")

    def gep(
        self,
        ptr: ir.Value,
        indices: Sequence[ir.Value],
        inbounds: bool = False,
        name: str = "",
        source_etype: ir.Type | None = None,
    ) -> ir.Value:
        if source_etype is None:
            raise TypeError("an address is wanted of elements of a type: pass source_etype")
        if len(indices) == 1 and _number(indices[0]) == 0:
            return ptr
        opname = "getelementptr inbounds" if inbounds else "getelementptr"
        operands = ", ".join([_typed(i) for i in (ptr, *indices)])
        return self.pure(ptr.type, f"{opname} {source_etype}, {operands}", name)

    def call(self, fn: Any, args: Sequence[ir.Value], name: str = "", **how: Any) -> ir.Value:
        kind = fn.function_type
        if how or kind.var_arg or getattr(fn, "calling_convention", ""):
            return super().call(fn, args, name, **how)
        types = [a.type for a in args]
        if types != list(kind.args):
            raise TypeError(f"{fn.name} takes ({', '.join(map(str, kind.args))}), not ({', '.join(map(str, types))})")
        result = _VOID if isinstance(kind.return_type, ir.VoidType) else kind.return_type
        return self.line(result, f"call {result} {_reference(fn)}({', '.join([_typed(a) for a in args])})", name)


def _signed(cmpop: str, prefix: str) -> str:
    name = _COMPARISONS[cmpop]
    return name if cmpop in ("==", "!=") else prefix + name


def _ordered(cmpop: str, prefix: str) -> str:
    return prefix + _COMPARISONS[cmpop] if cmpop in _COMPARISONS else cmpop


def _aligned(align: int | None) -> str:
    return "" if align is None else f", align {align}"


@contextmanager
def function_module(
    name: str, type_: ir.FunctionType, triple: str
) -> Iterator[tuple[ir.Module, ir.IRBuilder, ir.Function]]:
    """A module of one function, none of whose pointers overlap, while it is written; it then returns nothing."""
    module = ir.Module(name=name, context=ir.Context())
    module.triple = triple
    function = ir.Function(module, type_, name)
    for argument in function.args:
        if isinstance(argument.type, ir.PointerType):
            argument.add_attribute("noalias")
    b = Builder(function.append_basic_block("entry"))
    yield module, b, function
    b.ret_void()
