"""Whether a spec serves a call: its arguments' structure, types and layouts, and the values that capture read.

Nothing is changed but the caller's notes of what was found: the inputs' memory, their owners, numbers and leaves.
"""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.entry_module import I1, NULL, EntryBuilder, EntryModule, Value
from tjit.codegen.llvm.vectors import I32, I64, PTR
from tjit.runtime.entry_layout import GUARD, INPUT, KINDS, NODE, NODES, SPEC

__all__ = ["emit_fits"]


def emit_fits(entry: EntryModule) -> None:
    """Define `fits` and what it calls."""
    _emit_array_fits(entry)
    _emit_input_fits(entry)
    _emit_expand(entry)
    _emit_leaves(entry)
    _emit_inputs_fit(entry)
    _emit_guards_hold(entry)
    _emit_disjoint(entry)
    _emit_fits(entry)


def _emit_array_fits(entry: EntryModule) -> None:
    """bool array_fits(record, array): its type, dtype, shape and layout."""
    at = entry.layout
    b, (record, array) = entry.define("array_fits", I1, PTR, PTR)
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


def _emit_input_fits(entry: EntryModule) -> None:
    """bool input_fits(record, args, *pointer, held[2], *number): find an input, check it, note its memory."""
    at = entry.layout
    b, (record, args, pointer, held, number) = entry.define("input_fits", I1, PTR, PTR, PTR, PTR, PTR)
    no, check = b.append_basic_block("no"), b.append_basic_block("check")
    kind, source = b.number(record, INPUT["kind"]), b.at(record, INPUT["source"])
    wanted = b.at(record, INPUT["type"])
    array, owner = b.slot(), b.slot()
    b.store(NULL, owner)
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
    _data_of(b, tensor, array, owner, no, check)
    b.position_at_end(blocks["fixed"])
    _data_of(b, source, array, owner, no, check)
    b.position_at_end(blocks["grad"])
    grad = b.at(source, at.tensor_grad)
    b.unless(b.not_(b.is_null(grad)), no)
    b.unless(b.same(b.at(grad, 8), wanted), no)
    _data_of(b, grad, array, owner, no, check)
    value = _find_number(b, blocks, record, args, no)
    b.store(value, number)
    b.store(number, pointer)
    b.put(NULL, held, 0)
    b.put(NULL, held, 8)
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


def _find_number(b: EntryBuilder, blocks: dict[str, ir.Block], record: Value, args: Value, no: ir.Block) -> Value:
    """The 64 bits of the kinds of input that are a Python int or float."""
    check, value = b.append_basic_block("is_number"), b.slot()
    b.position_at_end(blocks["number"])
    b.store(b.do("PyDict_GetItemWithError", b.at(record, INPUT["source"]), b.at(record, INPUT["type"])), value)
    b.branch(check)
    b.position_at_end(blocks["leaf"])
    b.store(b.item(args, b.number(record, INPUT["source"])), value)
    b.branch(check)
    b.position_at_end(blocks["cell"])
    b.store(b.at(b.at(record, INPUT["source"]), 0), value)
    b.branch(check)
    b.position_at_end(blocks["item"])
    item = b.do("PyList_GetItem", b.at(record, INPUT["source"]), b.number(record, INPUT["type"]))
    b.store(item, value)
    with b.if_then(b.is_null(item)):
        b.do("PyErr_Clear")  # the list has become shorter
    b.branch(check)
    b.position_at_end(check)
    found = b.load(value, typ=PTR)
    b.unless(b.not_(b.is_null(found)), no)
    is_int, ready = b.append_basic_block("is_int"), b.append_basic_block("ready")
    b.store(b.number(found, b.layout.float_value), value)
    b.unless(b.same(b.at(found, 8), b.object("float")), is_int)
    b.unless(b.icmp_signed("==", b.number(record, INPUT["integer"]), I64(0)), no)
    b.branch(ready)
    b.position_at_end(is_int)
    b.unless(b.same(b.at(found, 8), b.object("int")), no)
    b.unless(b.icmp_signed("!=", b.number(record, INPUT["integer"]), I64(0)), no)
    bits = b.do("PyLong_AsSsize_t", found)
    b.store(bits, value)
    b.unless(b.icmp_signed("==", bits, I64(-1)), ready)
    b.unless(b.not_(b.is_null(b.do("PyErr_Occurred"))), ready)
    b.do("PyErr_Clear")  # it has more bits
    b.branch(no)
    b.position_at_end(ready)
    return b.load(value, typ=I64)


def _data_of(b: EntryBuilder, tensor: Value, array: Value, owner: Value, no: ir.Block, then: ir.Block) -> None:
    data = b.at(tensor, b.layout.tensor_data)
    b.unless(b.not_(b.is_null(data)), no)
    b.store(data, array)
    b.store(tensor, owner)
    b.branch(then)


def _emit_expand(entry: EntryModule) -> None:
    """bool expand(*node, thing, *out): check a container's structure and note its leaves."""
    b, (cursor, thing, out) = entry.define("expand", I1, PTR, PTR, PTR)
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
        b.unless(b.icmp_signed("==", b.number(thing, entry.layout.dict_size), b.number(node, NODE["count"])), no)
        if name == "dict":
            _expand_dict(b, node, thing, cursor, out, no)
        else:
            items = entry.layout.list_items, entry.layout.tuple_items
            first = b.at(thing, items[0]) if name == "list" else b.byte(thing, items[1])
            with b.counted(b.number(node, NODE["count"])) as i:
                b.unless(b.call_own("expand", cursor, b.item(first, i), out), no)
        b.branch(done)
    b.position_at_end(done)
    b.ret(I1(1))
    b.position_at_end(no)
    b.ret(I1(0))


def _expand_dict(b: EntryBuilder, node: Value, thing: Value, cursor: Value, out: Value, no: ir.Block) -> None:
    """In the dict's order, which is part of the structure."""
    position, key, value = b.slot(), b.slot(), b.slot()
    b.store(I64(0), position)
    with b.counted(b.number(node, NODE["count"])) as i:
        b.unless(b.icmp_signed("!=", b.do("PyDict_Next", thing, position, key, value), I32(0)), no)
        b.unless(b.same(b.load(key, typ=PTR), b.item(b.at(node, NODE["keys"]), i)), no)
        b.unless(b.call_own("expand", cursor, b.load(value, typ=PTR), out), no)


def _emit_leaves(entry: EntryModule) -> None:
    """PyObject **leaves(spec, args, room): the leaves of the arguments; NULL where their structure is another."""
    b, (spec, args, room) = entry.define("leaves", PTR, PTR, PTR, PTR)
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
    b.ret(NULL)


def _emit_inputs_fit(entry: EntryModule) -> None:
    """bool inputs_fit(spec, args, leaves, pointers, held, numbers): find and check all. Runs no Python code."""
    operands = (PTR,) * 6
    b, (spec, args, room, pointers, held, numbers) = entry.define("inputs_fit", I1, *operands)
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


def _emit_guards_hold(entry: EntryModule) -> None:
    """bool guards_hold(spec): the Python values that capture read are the objects they were."""
    at = entry.layout
    b, (spec,) = entry.define("guards_hold", I1, PTR)
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


def _emit_disjoint(entry: EntryModule) -> None:
    """bool disjoint(spec, pointers): no written memory is part of another input's."""
    b, (spec, pointers) = entry.define("disjoint", I1, PTR, PTR)
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


def _emit_fits(entry: EntryModule) -> None:
    """bool fits(spec, args, n, names, grad, leaves, pointers, held, numbers): whether the spec serves this call."""
    operands = (PTR, PTR, I64, PTR, PTR, PTR, PTR, PTR, PTR)
    b, (spec, args, n, names, grad, *rooms) = entry.define("fits", I1, *operands)
    no = b.append_basic_block("no")
    b.unless(b.icmp_signed("==", b.number(spec, SPEC["args"]), n), no)
    wanted = b.at(spec, SPEC["grad"])
    b.unless(b.or_(b.is_null(wanted), b.same(wanted, grad)), no)
    _check_names(b, spec, names, no)
    b.unless(b.call_own("inputs_fit", spec, args, *rooms), no)
    b.unless(b.call_own("guards_hold", spec), no)
    with b.if_then(b.icmp_signed("!=", b.number(spec, SPEC["recheck"]), b.word(0))):
        b.unless(b.call_own("inputs_fit", spec, args, *rooms), no)
    with b.if_then(b.icmp_signed(">", b.number(spec, SPEC["n_writes"]), b.word(0))):
        b.unless(b.call_own("disjoint", spec, rooms[1]), no)
    b.ret(I1(1))
    b.position_at_end(no)
    b.ret(I1(0))


def _check_names(b: EntryBuilder, spec: Value, names: Value, no: ir.Block) -> None:
    wanted = b.number(spec, SPEC["n_names"])
    with b.if_else(b.is_null(names)) as (without, given):
        with without:
            b.unless(b.icmp_signed("==", wanted, b.word(0)), no)
        with given:
            b.unless(b.icmp_signed("==", wanted, b.do("PyTuple_Size", names)), no)
            with b.each(spec, "names", 8 * GUARD["names"]) as (i, record):
                b.unless(b.same(b.do("PyTuple_GetItem", names, i), b.at(record, 0)), no)
