"""The native entry of compiled functions (docs/design/0002): one function for all, driven by records.

    PyObject *tjit.entry(PyObject *self, PyObject *const *args, Py_ssize_t n, PyObject *names)

has CPython's METH_FASTCALL | METH_KEYWORDS signature. `self` is a ctypes object whose memory is a HEAD record
(tjit/runtime/entry_layout.py): the specs of the calls that it knows. The first spec that fits is run; where none does,
the arguments go to Python.

No spec is freed while its function lives, and everything a spec points at lives as long, so other Python code may run
in between: in a finalizer, or on another thread. What belongs to the caller's objects, such as a tensor's array, is
held instead.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from llvmlite import ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.vectors import I32, I64, PTR, stack
from tjit.runtime.entry_layout import (
    GUARD,
    HEAD,
    INPUT,
    KINDS,
    NODE,
    NODES,
    OUTPUT,
    RESULTS,
    SPEC,
    THREADS,
    Layout,
)

__all__ = ["IMPORTS", "OBJECTS", "emit_entry"]

Value = Any  # llvmlite's builder has no types

I1, VOID = ir.IntType(1), ir.VoidType()
_PROGRAM = ir.FunctionType(I32, [PTR, PTR, PTR]).as_pointer()
_STACK_ARENA = 4096  # bytes; larger arenas are the program's own
_NULL = ir.Constant(PTR, None)

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


def emit_entry(layout: Layout) -> ir.Module:
    """The module with `tjit.entry`, for objects laid out as `layout` says."""
    entry = _Entry(layout)
    entry.emit_new_tensor()
    entry.emit_bump()
    entry.emit_take_arena()
    entry.emit_outputs()
    entry.emit_execute()
    entry.emit_results()
    entry.emit_run()
    entry.emit_array_fits()
    entry.emit_input_fits()
    entry.emit_expand()
    entry.emit_leaves()
    entry.emit_inputs_fit()
    entry.emit_guards_hold()
    entry.emit_disjoint()
    entry.emit_fits()
    entry.emit_entry()
    return entry.module


class _Entry:
    """The module under construction."""

    def __init__(self, layout: Layout) -> None:
        self.layout = layout
        self.module = ir.Module("tjit.entry")
        self.functions: dict[str, ir.Function] = {}
        for name, (result, arguments) in IMPORTS.items():
            self.declare(name, result, arguments)
        self.objects = {name: ir.GlobalVariable(self.module, ir.IntType(8), f"object {name}") for name in OBJECTS}
        for found in self.objects.values():
            found.type = PTR  # llvmlite's typed pointer would not do as an untyped operand

    def declare(self, name: str, result: ir.Type, arguments: tuple[ir.Type, ...]) -> ir.Function:
        function = ir.Function(self.module, ir.FunctionType(result, arguments), name)
        function.attributes.add("nounwind")
        self.functions[name] = function
        return function

    def define(self, name: str, result: ir.Type, *arguments: ir.Type) -> tuple[_Builder, list[ir.Argument]]:
        """A function; those without the prefix `tjit.` stay inside the object."""
        function = self.declare(name, result, arguments)
        if not name.startswith("tjit."):
            function.linkage = "internal"
        return _Builder(self, function), list(function.args)

    # -- making results ------------------------------------------------------------------------------------------------

    def emit_new_tensor(self) -> None:
        """PyObject *new_tensor(array): what `Tensor(array)` makes."""
        at = self.layout
        b, (array,) = self.define("new_tensor", PTR, PTR)
        tensor = b.do("PyType_GenericAlloc", b.object("Tensor"), b.word(0))
        with b.if_then(b.is_null(tensor)):
            b.ret(_NULL)
        storage = b.do("PyType_GenericAlloc", b.object("Storage"), b.word(0))
        with b.if_then(b.is_null(storage)):
            b.do("Py_DecRef", tensor)
            b.ret(_NULL)
        b.do("Py_IncRef", array)
        b.put(array, tensor, at.tensor_data)
        b.put(storage, tensor, at.tensor_storage)
        for slot, name in (
            (at.tensor_requires_grad, "False"),
            (at.tensor_grad, "None"),
            (at.tensor_grad_fn, "None"),
            (at.tensor_view, "None"),
            (at.tensor_index, "zero"),
            (at.tensor_seen, "zero"),
        ):
            b.put(b.object(name), tensor, slot)
        b.put(b.object("zero"), storage, at.storage_version)
        for name, count in (("None", 3), ("zero", 3), ("False", 1)):
            b.count_reference(name, count)
        b.ret(tensor)

    def emit_bump(self) -> None:
        """bool bump(tensor): note a write to its memory, as in-place ops do."""
        at = self.layout
        b, (tensor,) = self.define("bump", I1, PTR)
        storage = b.at(tensor, at.tensor_storage)
        old = b.at(storage, at.storage_version)
        new = b.do("PyLong_FromSsize_t", b.add(b.do("PyLong_AsSsize_t", old), b.word(1)))
        with b.if_then(b.is_null(new)):
            b.ret(I1(0))
        b.put(new, storage, at.storage_version)
        b.do("Py_IncRef", new)
        seen = b.at(tensor, at.tensor_seen)
        b.put(new, tensor, at.tensor_seen)
        b.do("Py_DecRef", old)
        b.do("Py_DecRef", seen)
        b.ret(I1(1))

    def emit_take_arena(self) -> None:
        """PyObject *take_arena(spec): a byte array of at least the spec's size, from the program's list or new."""
        at = self.layout
        b, (spec,) = self.define("take_arena", PTR, PTR)
        free = b.at(spec, SPEC["arenas"])
        count = b.number(free, 16)  # a list's size, as in every object of variable size
        with b.if_then(b.icmp_signed(">", count, b.word(0))):
            last = b.sub(count, b.word(1))
            arena = b.do("PyList_GetItem", free, last)
            b.do("Py_IncRef", arena)
            b.do("PyList_SetSlice", free, last, count, _NULL)
            enough = b.icmp_signed(">=", b.number(b.at(arena, at.array_dims), 0), b.number(spec, SPEC["arena"]))
            with b.if_then(enough):
                b.ret(arena)
            b.do("Py_DecRef", arena)
        b.ret(b.do("PyObject_CallNoArgs", b.at(spec, SPEC["take_arena"])))

    def emit_outputs(self) -> None:
        """bool outputs(spec, arrays, pointers): new arrays for the outputs."""
        at = self.layout
        b, (spec, arrays, pointers) = self.define("outputs", I1, PTR, PTR, PTR)
        with b.each(spec, "outputs", OUTPUT.size) as (i, output):
            array = b.slot()
            make = b.at(output, OUTPUT["make"])
            with b.if_else(b.is_null(make)) as (small, large):
                with small:
                    descr = b.at(output, OUTPUT["descr"])
                    b.do("Py_IncRef", descr)  # which NewFromDescr takes
                    nd, dims = b.trunc(b.number(output, OUTPUT["nd"]), I32), b.at(output, OUTPUT["dims"])
                    operands = (descr, nd, dims, _NULL, _NULL, I32(0), _NULL)
                    b.store(b.do("PyArray_NewFromDescr", b.object("ndarray"), *operands), array)
                with large:
                    b.store(b.do("PyObject_CallNoArgs", make), array)
            made = b.load(array, typ=PTR)
            with b.if_then(b.is_null(made)):
                b.ret(I1(0))
            b.put_item(made, arrays, i)
            b.put_item(b.at(made, at.array_data), pointers, i)
        b.ret(I1(1))

    # -- running a spec ------------------------------------------------------------------------------------------------

    def emit_execute(self) -> None:
        """bool execute(spec, pointers, *arena): run the program. A failure has set the exception."""
        b, (spec, pointers, last) = self.define("execute", I1, PTR, PTR, PTR)
        arena = b.slot()
        b.store(_NULL, arena)
        local = stack(b, ir.ArrayType(ir.IntType(8), _STACK_ARENA), 64, b.function.entry_basic_block)
        b.store(local, last)
        with b.if_then(b.icmp_signed(">", b.number(spec, SPEC["arena"]), b.word(_STACK_ARENA))):
            taken = b.call_own("take_arena", spec)
            with b.if_then(b.is_null(taken)):
                b.ret(I1(0))
            b.store(taken, arena)
            b.store(b.at(taken, self.layout.array_data), last)
        saved = b.slot()
        b.store(_NULL, saved)
        release = b.icmp_signed("!=", b.number(spec, SPEC["release"]), b.word(0))
        with b.if_then(release):
            b.store(b.do("PyEval_SaveThread"), saved)
        program = b.load(b.byte(spec, SPEC["program"]), typ=_PROGRAM)
        code = b.call(program, [b.at(spec, SPEC["pool"]), pointers, b.at(spec, SPEC["symbols"])])
        with b.if_then(release):
            b.do("PyEval_RestoreThread", b.load(saved, typ=PTR))
        used = b.load(arena, typ=PTR)
        with b.if_then(b.not_(b.is_null(used))):
            kept = b.do("PyList_Append", b.at(spec, SPEC["arenas"]), used)
            with b.if_then(b.icmp_signed("!=", kept, I32(0))):
                b.do("PyErr_Clear")  # then it is freed
            b.do("Py_DecRef", used)
        with b.if_then(b.icmp_signed("==", code, I32(0)), likely=True):
            b.ret(I1(1))
        number = b.do("PyLong_FromSsize_t", b.sext(code, I64))
        with b.if_then(b.not_(b.is_null(number))):
            b.do("Py_DecRef", b.do("PyObject_CallOneArg", b.at(spec, SPEC["fail"]), number))
            b.do("Py_DecRef", number)
        b.ret(I1(0))

    def emit_results(self) -> None:
        """PyObject *results(spec, args, arrays, tensors, held): what the call returns."""
        self._emit_result()
        b, (spec, args, arrays, tensors, held) = self.define("results", PTR, PTR, PTR, PTR, PTR, PTR)
        count, records = b.number(spec, SPEC["n_results"]), b.at(spec, SPEC["results"])
        with b.if_then(b.icmp_signed("<", count, b.word(0)), likely=True):
            b.ret(b.call_own("result", records, args, arrays, tensors, held))
        whole = b.do("PyTuple_New", count)
        with b.if_then(b.is_null(whole)):
            b.ret(_NULL)
        with b.each(spec, "results", 8 * GUARD["results"]) as (i, record):
            b.do("PyTuple_SetItem", whole, i, b.call_own("result", record, args, arrays, tensors, held))
        finish = b.at(spec, SPEC["finish"])
        with b.if_then(b.is_null(finish)):
            b.ret(whole)
        finished = b.do("PyObject_CallOneArg", finish, whole)
        b.do("Py_DecRef", whole)
        b.ret(finished)

    def _emit_result(self) -> None:
        """PyObject *result(record, args, arrays, tensors, held): a new reference to one leaf of what is returned."""
        b, (record, args, arrays, tensors, held) = self.define("result", PTR, PTR, PTR, PTR, PTR, PTR)
        kind, value = b.number(record, 0), b.number(record, 8)
        found = b.slot()
        b.store(b.at(record, 8), found)
        for name, items in (("array", arrays), ("tensor", tensors), ("argument", args), ("input", held)):
            with b.if_then(b.icmp_signed("==", kind, b.word(RESULTS[name]))):
                b.store(b.item(items, value), found)
        result = b.load(found, typ=PTR)
        b.do("Py_IncRef", result)
        b.ret(result)

    def emit_run(self) -> None:
        """PyObject *run(spec, leaves, pointers, held): NULL with an exception set where it fails.

        `pointers` holds the inputs' memory and has room for the rest; `held` has two objects, or NULL, for each input.
        """
        b, (spec, args, pointers, held) = self.define("run", PTR, PTR, PTR, PTR, PTR)
        n_in, n_out = b.number(spec, SPEC["n_inputs"]), b.number(spec, SPEC["n_outputs"])
        arrays, tensors = b.room(n_out), b.room(n_out)
        result = b.slot()
        b.store(_NULL, result)
        for items in (arrays, tensors):
            with b.counted(n_out) as i:
                b.put_item(_NULL, items, i)
        hold = b.icmp_signed("!=", b.number(spec, SPEC["hold"]), b.word(0))
        n_held = b.select(hold, b.shl(n_in, b.word(1)), b.word(0))
        is_plain = b.is_null(b.at(spec, SPEC["nodes"]))  # then the caller holds the arguments
        n_leaves = b.select(is_plain, b.word(0), b.number(spec, SPEC["leaves"]))
        with b.counted(n_held) as i:
            b.do("Py_IncRef", b.item(held, i))
        with b.counted(n_leaves) as i:
            b.do("Py_IncRef", b.item(args, i))
        done = b.append_basic_block("done")
        b.unless(b.call_own("outputs", spec, arrays, b.item_pointer(pointers, n_in)), done)
        last = b.item_pointer(pointers, b.add(n_in, n_out))
        b.unless(b.call_own("execute", spec, pointers, last), done)
        self._note_writes(b, spec, held, done)
        with b.each(spec, "outputs", OUTPUT.size) as (i, output):
            is_tensor = b.icmp_signed("!=", b.number(output, OUTPUT["tensor"]), b.word(0))
            with b.if_then(is_tensor):
                tensor = b.call_own("new_tensor", b.item(arrays, i))
                b.put_item(tensor, tensors, i)
                b.unless(b.not_(b.is_null(tensor)), done)
                self._set_grad_fn(b, tensor, b.at(output, OUTPUT["grad_fn"]))
        self._set_grads(b, spec, arrays, done)
        b.store(b.call_own("results", spec, args, arrays, tensors, held), result)
        b.branch(done)
        b.position_at_end(done)
        for items in (arrays, tensors):
            with b.counted(n_out) as i:
                b.do("Py_DecRef", b.item(items, i))
        with b.counted(n_held) as i:
            b.do("Py_DecRef", b.item(held, i))
        with b.counted(n_leaves) as i:
            b.do("Py_DecRef", b.item(args, i))
        b.ret(b.load(result, typ=PTR))

    def _set_grad_fn(self, b: _Builder, tensor: Value, node: Value) -> None:
        """Put a new tensor on the tape, where there is a node."""
        with b.if_then(b.not_(b.is_null(node))):
            b.do("Py_IncRef", node)
            b.put(node, tensor, self.layout.tensor_grad_fn)
            b.do("Py_DecRef", b.object("None"))

    def _note_writes(self, b: _Builder, spec: Value, held: Value, failed: ir.Block) -> None:
        with (
            b.if_then(b.icmp_signed(">", b.number(spec, SPEC["n_writes"]), b.word(0))),
            b.each(spec, "inputs", INPUT.size) as (i, record),
        ):
            owner = b.item(held, b.add(b.shl(i, b.word(1)), b.word(1)))
            written = b.icmp_signed("!=", b.number(record, INPUT["written"]), b.word(0))
            with b.if_then(b.and_(written, b.not_(b.is_null(owner)))):
                b.unless(b.call_own("bump", owner), failed)

    def _set_grads(self, b: _Builder, spec: Value, arrays: Value, failed: ir.Block) -> None:
        with b.each(spec, "grads", 8 * GUARD["grads"]) as (_, record):
            tensor, position = b.at(record, 0), b.number(record, 8)
            new = b.slot()
            with b.if_else(b.icmp_signed("<", position, b.word(0))) as (absent, present):
                with absent:
                    b.store(b.object("None"), new)
                    b.do("Py_IncRef", b.object("None"))
                with present:
                    b.store(b.call_own("new_tensor", b.item(arrays, position)), new)
            grad = b.load(new, typ=PTR)
            b.unless(b.not_(b.is_null(grad)), failed)
            old = b.at(tensor, self.layout.tensor_grad)
            b.put(grad, tensor, self.layout.tensor_grad)
            b.do("Py_DecRef", old)

    # -- does a spec fit? ----------------------------------------------------------------------------------------------

    def emit_array_fits(self) -> None:
        """bool array_fits(record, array): its type, dtype, shape and layout."""
        at = self.layout
        b, (record, array) = self.define("array_fits", I1, PTR, PTR)
        no = b.append_basic_block("no")
        b.unless(b.same(b.at(array, 8), b.object("ndarray")), no)
        b.unless(b.same(b.at(array, at.array_descr), b.at(record, INPUT["descr"])), no)
        nd = b.number(record, INPUT["nd"])
        b.unless(b.icmp_signed("==", b.trunc(nd, I32), b.load(b.byte(array, at.array_nd), typ=I32)), no)
        wanted = b.trunc(b.number(record, INPUT["flags"]), I32)
        flags = b.load(b.byte(array, at.array_flags), typ=I32)
        b.unless(b.icmp_signed("==", b.and_(flags, wanted), wanted), no)
        dims, wanted_dims = b.at(array, at.array_dims), b.at(record, INPUT["dims"])
        with b.counted(nd) as d:
            b.unless(b.same(b.item(dims, d), b.item(wanted_dims, d)), no)
        wanted_strides = b.at(record, INPUT["strides"])
        with b.if_then(b.not_(b.is_null(wanted_strides))):
            strides = b.at(array, at.array_strides)
            with b.counted(nd) as d:
                b.unless(b.same(b.item(strides, d), b.item(wanted_strides, d)), no)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def emit_input_fits(self) -> None:
        """bool input_fits(record, args, *pointer, held[2], *number): find an input, check it, note its memory."""
        at = self.layout
        b, (record, args, pointer, held, number) = self.define("input_fits", I1, PTR, PTR, PTR, PTR, PTR)
        no, check = b.append_basic_block("no"), b.append_basic_block("check")
        kind, source = b.number(record, INPUT["kind"]), b.at(record, INPUT["source"])
        wanted = b.at(record, INPUT["type"])
        array, owner = b.slot(), b.slot()
        b.store(_NULL, owner)
        position = b.number(record, INPUT["source"])
        blocks = {name: b.append_basic_block(name) for name in KINDS}
        switch = b.switch(kind, no)
        for name, block in blocks.items():
            switch.add_case(I64(KINDS[name]), block)
        b.position_at_end(blocks["array"])
        b.store(b.item(args, position), array)
        b.branch(check)
        b.position_at_end(blocks["tensor"])
        tensor = b.item(args, position)
        b.unless(b.same(b.at(tensor, 8), wanted), no)
        is_leaf = b.same(b.at(tensor, at.tensor_grad_fn), b.object("None"))
        is_free = b.and_(is_leaf, b.same(b.at(tensor, at.tensor_requires_grad), b.object("False")))
        b.unless(b.icmp_signed("!=", b.zext(is_free, I64), b.number(record, INPUT["requires"])), no)
        self._data_of(b, tensor, array, owner, no, check)
        b.position_at_end(blocks["fixed"])
        self._data_of(b, source, array, owner, no, check)
        b.position_at_end(blocks["grad"])
        grad = b.at(source, at.tensor_grad)
        b.unless(b.not_(b.is_null(grad)), no)
        b.unless(b.same(b.at(grad, 8), wanted), no)
        self._data_of(b, grad, array, owner, no, check)
        value = self._find_number(b, blocks, record, args, no)
        b.store(b.number(value, at.float_value), number)
        b.store(number, pointer)
        b.put(_NULL, held, 0)
        b.put(_NULL, held, 8)
        b.ret(I1(1))
        b.position_at_end(check)
        found = b.load(array, typ=PTR)
        b.unless(b.call_own("array_fits", record, found), no)
        b.store(b.at(found, at.array_data), pointer)
        b.put(found, held, 0)
        b.put(b.load(owner, typ=PTR), held, 8)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def _find_number(self, b: _Builder, blocks: dict[str, ir.Block], record: Value, args: Value, no: ir.Block) -> Value:
        """The Python float of the kinds of input that are one."""
        is_float, value = b.append_basic_block("is_float"), b.slot()
        b.position_at_end(blocks["number"])
        b.store(b.do("PyDict_GetItemWithError", b.at(record, INPUT["source"]), b.at(record, INPUT["type"])), value)
        b.branch(is_float)
        b.position_at_end(blocks["float"])
        b.store(b.item(args, b.number(record, INPUT["source"])), value)
        b.branch(is_float)
        b.position_at_end(blocks["cell"])
        b.store(b.at(b.at(record, INPUT["source"]), 0), value)
        b.branch(is_float)
        b.position_at_end(is_float)
        found = b.load(value, typ=PTR)
        b.unless(b.not_(b.is_null(found)), no)
        b.unless(b.same(b.at(found, 8), b.object("float")), no)
        return found

    def _data_of(self, b: _Builder, tensor: Value, array: Value, owner: Value, no: ir.Block, then: ir.Block) -> None:
        data = b.at(tensor, self.layout.tensor_data)
        b.unless(b.not_(b.is_null(data)), no)
        b.store(data, array)
        b.store(tensor, owner)
        b.branch(then)

    def emit_guards_hold(self) -> None:
        """bool guards_hold(spec): the Python values that capture read are the objects they were."""
        at = self.layout
        b, (spec,) = self.define("guards_hold", I1, PTR)
        no = b.append_basic_block("no")
        with b.each(spec, "words", 8 * GUARD["words"]) as (_, record):
            b.unless(b.same(b.at(b.at(record, 0), 0), b.at(record, 8)), no)
        with b.each(spec, "items", 8 * GUARD["items"]) as (_, record):
            items, index = b.at(record, 0), b.number(record, 8)
            b.unless(b.icmp_signed("<", index, b.number(items, 16)), no)
            b.unless(b.same(b.item(b.at(items, at.list_items), index), b.at(record, 16)), no)
        with b.each(spec, "dicts", 8 * GUARD["dicts"]) as (_, record):
            now = b.do("PyDict_GetItemWithError", b.at(record, 0), b.at(record, 8))
            b.unless(b.same(now, b.at(record, 16)), no)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def emit_expand(self) -> None:
        """bool expand(*node, thing, *out): check a container's structure and note its leaves."""
        b, (cursor, thing, out) = self.define("expand", I1, PTR, PTR, PTR)
        no, done = b.append_basic_block("no"), b.append_basic_block("done")
        node = b.load(cursor, typ=PTR)
        b.store(b.byte(node, NODE.size), cursor)
        blocks = {name: b.append_basic_block(name) for name in ("leaf", *NODES)}
        switch = b.switch(b.number(node, NODE["kind"]), no)
        for name, block in blocks.items():
            switch.add_case(I64(NODES.get(name, 0)), block)
        b.position_at_end(blocks["leaf"])
        place = b.load(out, typ=PTR)
        b.store(thing, place)
        b.store(b.byte(place, 8), out)
        b.branch(done)
        for name in NODES:
            b.position_at_end(blocks[name])
            b.unless(b.same(b.at(thing, 8), b.object(name)), no)
            # tuples, lists and dicts alike have their size there
            b.unless(b.icmp_signed("==", b.number(thing, self.layout.dict_size), b.number(node, NODE["count"])), no)
            if name == "dict":
                self._expand_dict(b, node, thing, cursor, out, no)
            else:
                items = self.layout.list_items, self.layout.tuple_items
                first = b.at(thing, items[0]) if name == "list" else b.byte(thing, items[1])
                with b.counted(b.number(node, NODE["count"])) as i:
                    b.unless(b.call_own("expand", cursor, b.item(first, i), out), no)
            b.branch(done)
        b.position_at_end(done)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def _expand_dict(self, b: _Builder, node: Value, thing: Value, cursor: Value, out: Value, no: ir.Block) -> None:
        """In the dict's order, which is part of the structure."""
        position, key, value = b.slot(), b.slot(), b.slot()
        b.store(I64(0), position)
        with b.counted(b.number(node, NODE["count"])) as i:
            b.unless(b.icmp_signed("!=", b.do("PyDict_Next", thing, position, key, value), I32(0)), no)
            b.unless(b.same(b.load(key, typ=PTR), b.item(b.at(node, NODE["keys"]), i)), no)
            b.unless(b.call_own("expand", cursor, b.load(value, typ=PTR), out), no)

    def emit_leaves(self) -> None:
        """PyObject **leaves(spec, args, room): the leaves of the arguments; NULL where their structure is another."""
        b, (spec, args, room) = self.define("leaves", PTR, PTR, PTR, PTR)
        nodes = b.at(spec, SPEC["nodes"])
        with b.if_then(b.is_null(nodes), likely=True):
            b.ret(args)
        no = b.append_basic_block("no")
        cursor, out = b.slot(), b.slot()
        b.store(nodes, cursor)
        b.store(room, out)
        with b.counted(b.number(spec, SPEC["args"])) as i:
            b.unless(b.call_own("expand", cursor, b.item(args, i), out), no)
        b.ret(room)
        b.position_at_end(no)
        b.ret(_NULL)

    def emit_inputs_fit(self) -> None:
        """bool inputs_fit(spec, args, leaves, pointers, held, numbers): find and check all. Runs no Python code."""
        operands = (PTR,) * 6
        b, (spec, args, room, pointers, held, numbers) = self.define("inputs_fit", I1, *operands)
        no = b.append_basic_block("no")
        leaves = b.call_own("leaves", spec, args, room)
        b.unless(b.not_(b.is_null(leaves)), no)
        with b.each(spec, "constants", 8 * GUARD["constants"]) as (_, record):
            b.unless(b.same(b.item(leaves, b.number(record, 0)), b.at(record, 8)), no)
        with b.each(spec, "twins", 8 * GUARD["twins"]) as (_, record):
            b.unless(b.same(b.item(leaves, b.number(record, 0)), b.item(leaves, b.number(record, 8))), no)
        with b.each(spec, "inputs", INPUT.size) as (i, record):
            two = b.item_pointer(held, b.shl(i, b.word(1)))
            places = (b.item_pointer(pointers, i), two, b.item_pointer(numbers, i))
            b.unless(b.call_own("input_fits", record, leaves, *places), no)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def emit_disjoint(self) -> None:
        """bool disjoint(spec, pointers): no written memory is part of another input's."""
        b, (spec, pointers) = self.define("disjoint", I1, PTR, PTR)
        no = b.append_basic_block("no")
        with b.each(spec, "inputs", INPUT.size) as (i, record):
            written = b.icmp_signed("!=", b.number(record, INPUT["written"]), b.word(0))
            with b.if_then(written):
                start = b.number_item(pointers, i)
                stop = b.add(start, b.number(record, INPUT["bytes"]))
                with b.each(spec, "inputs", INPUT.size) as (j, other):
                    begin = b.number_item(pointers, j)
                    end = b.add(begin, b.number(other, INPUT["bytes"]))
                    apart = b.or_(b.icmp_unsigned("<=", end, start), b.icmp_unsigned("<=", stop, begin))
                    b.unless(b.or_(apart, b.icmp_signed("==", i, j)), no)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def emit_fits(self) -> None:
        """bool fits(spec, args, n, names, grad, leaves, pointers, held, numbers): whether the spec serves this call."""
        operands = (PTR, PTR, I64, PTR, PTR, PTR, PTR, PTR, PTR)
        b, (spec, args, n, names, grad, *rooms) = self.define("fits", I1, *operands)
        no = b.append_basic_block("no")
        b.unless(b.icmp_signed("==", b.number(spec, SPEC["args"]), n), no)
        wanted = b.at(spec, SPEC["grad"])
        b.unless(b.or_(b.is_null(wanted), b.same(wanted, grad)), no)
        self._check_names(b, spec, names, no)
        b.unless(b.call_own("inputs_fit", spec, args, *rooms), no)
        b.unless(b.call_own("guards_hold", spec), no)
        with b.if_then(b.icmp_signed("!=", b.number(spec, SPEC["recheck"]), b.word(0))):
            b.unless(b.call_own("inputs_fit", spec, args, *rooms), no)
        with b.if_then(b.icmp_signed(">", b.number(spec, SPEC["n_writes"]), b.word(0))):
            b.unless(b.call_own("disjoint", spec, rooms[1]), no)
        b.ret(I1(1))
        b.position_at_end(no)
        b.ret(I1(0))

    def _check_names(self, b: _Builder, spec: Value, names: Value, no: ir.Block) -> None:
        wanted = b.number(spec, SPEC["n_names"])
        with b.if_else(b.is_null(names)) as (without, given):
            with without:
                b.unless(b.icmp_signed("==", wanted, b.word(0)), no)
            with given:
                b.unless(b.icmp_signed("==", wanted, b.do("PyTuple_Size", names)), no)
                with b.each(spec, "names", 8 * GUARD["names"]) as (i, record):
                    b.unless(b.same(b.do("PyTuple_GetItem", names, i), b.at(record, 0)), no)

    # -- the entry -----------------------------------------------------------------------------------------------------

    def emit_entry(self) -> None:
        b, (self_, args, n, names) = self.define("tjit.entry", PTR, PTR, PTR, I64, PTR)
        slow, search = b.append_basic_block("slow"), b.append_basic_block("search")
        head = b.at(self_, self.layout.pointer)
        grad = self._thread_state(b, head, slow)
        total = b.slot()
        b.store(n, total)
        with b.if_then(b.not_(b.is_null(names))):
            b.store(b.add(n, b.do("PyTuple_Size", names)), total)
        room = b.number(head, HEAD["buffers"])
        pointers, held, numbers = b.room(room), b.room(b.shl(room, b.word(1))), b.room(room)
        leaves = b.room(b.number(head, HEAD["leaves"]))
        place = b.slot()
        b.store(b.at(head, HEAD["first"]), place)
        b.branch(search)
        b.position_at_end(search)
        spec = b.load(place, typ=PTR)
        b.unless(b.not_(b.is_null(spec)), slow)
        operands = (spec, args, b.load(total, typ=I64), names, grad, leaves, pointers, held, numbers)
        with b.if_then(b.call_own("fits", *operands), likely=True):
            b.put(b.add(b.number(head, HEAD["hits"]), b.word(1)), head, HEAD["hits"])
            is_plain = b.is_null(b.at(spec, SPEC["nodes"]))
            b.ret(b.call_own("run", spec, b.select(is_plain, args, leaves), pointers, held))
        b.store(b.at(spec, SPEC["next"]), place)
        b.branch(search)
        b.position_at_end(slow)
        # a look-up in a dict that ran Python code was interrupted
        with b.if_then(b.not_(b.is_null(b.do("PyErr_Occurred")))):
            b.ret(_NULL)
        b.ret(b.do("PyObject_Vectorcall", b.at(head, HEAD["slow"]), args, n, names))

    def _thread_state(self, b: _Builder, head: Value, slow: ir.Block) -> Value:
        """This thread's grad mode. Threads not met before, and those that capture, go the slow way."""
        number = b.do("PyThreadState_GetID", b.do("PyThreadState_Get"))
        place = b.shl(b.and_(number, b.word(THREADS - 1)), b.word(4))
        known = b.gep(b.at(head, HEAD["threads"]), [place], source_etype=ir.IntType(8))
        b.unless(b.icmp_signed("==", b.number(known, 0), number), slow)
        state = b.at(known, 8)
        trace = b.do("PyDict_GetItemWithError", state, b.object("trace"))
        b.unless(b.or_(b.is_null(trace), b.same(trace, b.object("None"))), slow)
        grad = b.do("PyDict_GetItemWithError", state, b.object("grad"))
        return b.select(b.is_null(grad), b.object("True"), grad)


class _Builder(Builder):
    """The builder with the words of this module."""

    def __init__(self, owner: _Entry, function: ir.Function) -> None:
        super().__init__(function.append_basic_block("entry"))
        self.owner = owner

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
        return self.icmp_unsigned("==", pointer, _NULL)

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
        if not self.owner.layout.immortal:
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
