"""The module that the native entry is written in: what it imports, and a builder with words for its records."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.vectors import I32, I64, PTR, stack
from tjit.runtime.entry_layout import SPEC, Layout

__all__ = ["I1", "IMPORTS", "NULL", "OBJECTS", "EntryBuilder", "EntryModule", "Value"]

Value = Any  # llvmlite's builder has no types

I1, VOID = ir.IntType(1), ir.VoidType()
NULL = ir.Constant(PTR, None)

IMPORTS: dict[str, tuple[ir.Type, tuple[ir.Type, ...]]] = {
    "Py_IncRef": (VOID, (PTR,)),
    "Py_DecRef": (VOID, (PTR,)),
    "PyThreadState_Get": (PTR, ()),
    "PyThreadState_GetID": (I64, (PTR,)),
    "PyEval_SaveThread": (PTR, ()),
    "PyEval_RestoreThread": (VOID, (PTR,)),
    "PyErr_Clear": (VOID, ()),
    "PyErr_Occurred": (PTR, ()),
    "PyDict_GetItemWithError": (PTR, (PTR, PTR)),
    "PyDict_Next": (I32, (PTR, PTR, PTR, PTR)),
    "PyList_GetItem": (PTR, (PTR, I64)),
    "PyList_SetSlice": (I32, (PTR, I64, I64, PTR)),
    "PyList_Append": (I32, (PTR, PTR)),
    "PyTuple_New": (PTR, (I64,)),
    "PyTuple_SetItem": (I32, (PTR, I64, PTR)),
    "PyTuple_GetItem": (PTR, (PTR, I64)),
    "PyTuple_Size": (I64, (PTR,)),
    "PyLong_AsSsize_t": (I64, (PTR,)),
    "PyLong_FromSsize_t": (PTR, (I64,)),
    "PyObject_Vectorcall": (PTR, (PTR, PTR, I64, PTR)),
    "PyObject_CallNoArgs": (PTR, (PTR,)),
    "PyObject_CallOneArg": (PTR, (PTR, PTR)),
    "PyType_GenericAlloc": (PTR, (PTR, I64)),
    "PyArray_NewFromDescr": (PTR, (PTR, PTR, I32, PTR, PTR, PTR, I32, PTR)),
}
# Objects of Python, by the name under which the entry imports their addresses.
OBJECTS = (
    "None",
    "True",
    "False",
    "zero",
    "int",
    "float",
    "tuple",
    "list",
    "dict",
    "ndarray",
    "Tensor",
    "Storage",
    "trace",
    "grad",
)


class EntryModule:
    """The module under construction.

    Attributes:
        layout: of the objects that it reads and makes.
        functions: what it imports and has defined, by name.
        objects: the addresses of `OBJECTS`.
    """

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.module = ir.Module("tjit.entry")
        self.functions: dict[str, ir.Function] = {}
        for name, (result, arguments) in IMPORTS.items():
            self._declare(name, result, arguments)
        self.objects = {name: ir.GlobalVariable(self.module, ir.IntType(8), f"object {name}") for name in OBJECTS}
        for found in self.objects.values():
            found.type = PTR  # llvmlite's typed pointer would not do as an untyped operand

    def _declare(self, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(result, arguments), name)
        function.attributes.add("nounwind")
        self.functions[name] = function
        return function

    def define(self, name: str, result: ir.Type, *arguments: ir.Type) -> tuple[EntryBuilder, list[ir.Argument]]:
        """A function, to be written by the builder; those without the prefix `tjit.` stay inside the object."""
        function = self._declare(name, result, arguments)
        if not name.startswith("tjit."):
            function.linkage = "internal"
        return EntryBuilder(self, function), list(function.args)


class EntryBuilder(Builder):
    """The builder of a function of the entry, with words for records, Python's objects and what is stored in them."""

    def __init__(self, owner: EntryModule, function: ir.Function) -> None:
        super().__init__(function.append_basic_block("entry"))
        self.owner = owner
        self.layout = owner.layout

    def word(self, value: int) -> Value:
        return I64(value)

    def do(self, name: str, *operands: Value) -> Value:
        """Call a function of Python's or NumPy's C interface."""
        return self.call(self.owner.functions[name], operands)

    call_own = do

    def object(self, name: str) -> Value:
        return self.owner.objects[name]

    def byte(self, pointer: Value, offset: int) -> Value:
        return self.gep(pointer, [I64(offset)], source_etype=ir.IntType(8))

    def at(self, pointer: Value, offset: int) -> Value:
        """The pointer at an offset in bytes."""
        return self.load(self.byte(pointer, offset), typ=PTR)

    def number(self, pointer: Value, offset: int) -> Value:
        return self.load(self.byte(pointer, offset), typ=I64)

    def put(self, value: Value, pointer: Value, offset: int) -> None:
        self.store(value, self.byte(pointer, offset))

    def item_pointer(self, pointer: Value, index: Value) -> Value:
        return self.gep(pointer, [index], source_etype=I64)

    def item(self, pointer: Value, index: Value) -> Value:
        return self.load(self.item_pointer(pointer, index), typ=PTR)

    def number_item(self, pointer: Value, index: Value) -> Value:
        return self.load(self.item_pointer(pointer, index), typ=I64)

    def put_item(self, value: Value, pointer: Value, index: Value) -> None:
        self.store(value, self.item_pointer(pointer, index))

    def is_null(self, pointer: Value) -> Value:
        return self.icmp_unsigned("==", pointer, NULL)

    def same(self, x: Value, y: Value) -> Value:
        return self.icmp_unsigned("==", x, y)

    def unless(self, condition: Value, target: ir.Block) -> None:
        """Go to `target` where the condition is false."""
        following = self.append_basic_block()
        self.cbranch(condition, following, target)
        self.position_at_end(following)

    def slot(self) -> Value:
        return stack(self, I64, 8, self.function.entry_basic_block)

    def room(self, count: Value) -> Value:
        """Stack for `count` words."""
        found = self.alloca(I64, count)
        found.type = PTR
        return found

    def count_reference(self, name: str, count: int) -> None:
        """`count` more references to an object; an immortal one has no count."""
        if not self.layout.immortal:
            self.put(self.add(self.number(self.object(name), 0), I64(count)), self.object(name), 0)

    @contextmanager
    def counted(self, count: Value) -> Iterator[Value]:
        """for (i = 0; i < count; i++)"""
        head, body, done = (self.append_basic_block(name) for name in ("head", "body", "done"))
        before = self.block
        self.branch(head)
        self.position_at_end(head)
        i = self.phi(I64)
        i.add_incoming(I64(0), before)
        self.cbranch(self.icmp_signed("<", i, count), body, done)
        self.position_at_end(body)
        yield i
        i.add_incoming(self.add(i, I64(1)), self.block)
        self.branch(head)
        self.position_at_end(done)

    @contextmanager
    def each(self, spec: Value, name: str, size: int) -> Iterator[tuple[Value, Value]]:
        """Every record of one of a spec's lists, with its number."""
        first = self.at(spec, SPEC[name])
        with self.counted(self.number(spec, SPEC[f"n_{name}"])) as i:
            yield i, self.gep(first, [self.mul(i, I64(size))], source_etype=ir.IntType(8))
