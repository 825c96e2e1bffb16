"""Running a spec that fits: new arrays for the outputs, the program, and what the call returns.

Every function returns false or NULL with an exception set where it fails.
"""

from __future__ import annotations

from llvmlite import ir

from tjit.codegen.llvm.entry_module import I1, NULL, EntryBuilder, EntryModule, Value
from tjit.codegen.llvm.vectors import I32, I64, PTR, stack
from tjit.runtime.entry_layout import GUARD, INPUT, OUTPUT, RESULTS, SPEC

__all__ = ["emit_run"]

_PROGRAM = ir.FunctionType(I32, [PTR, PTR, PTR]).as_pointer()
_STACK_ARENA = 4096  # bytes; larger arenas are the program's own


def emit_run(entry: EntryModule) -> None:
    """Define `run` and what it calls."""
    _emit_new_tensor(entry)
    _emit_bump(entry)
    _emit_take_arena(entry)
    _emit_outputs(entry)
    _emit_execute(entry)
    _emit_result(entry)
    _emit_results(entry)
    _emit_run(entry)


def _emit_new_tensor(entry: EntryModule) -> None:
    """PyObject *new_tensor(array): what `Tensor(array)` makes."""
    at = entry.layout
    b, (array,) = entry.define("new_tensor", PTR, PTR)
    tensor = b.do("PyType_GenericAlloc", b.object("Tensor"), b.word(0))
    with b.if_then(b.is_null(tensor)):
        b.ret(NULL)
    storage = b.do("PyType_GenericAlloc", b.object("Storage"), b.word(0))
    with b.if_then(b.is_null(storage)):
        b.do("Py_DecRef", tensor)
        b.ret(NULL)
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


def _emit_bump(entry: EntryModule) -> None:
    """bool bump(tensor): note a write to its memory, as in-place ops do."""
    at = entry.layout
    b, (tensor,) = entry.define("bump", I1, PTR)
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


def _emit_take_arena(entry: EntryModule) -> None:
    """PyObject *take_arena(spec): a byte array of at least the spec's size, from the program's list or new."""
    at = entry.layout
    b, (spec,) = entry.define("take_arena", PTR, PTR)
    free = b.at(spec, SPEC["arenas"])
    count = b.number(free, 16)  # a list's size, as in every object of variable size
    with b.if_then(b.icmp_signed(">", count, b.word(0))):
        last = b.sub(count, b.word(1))
        arena = b.do("PyList_GetItem", free, last)
        b.do("Py_IncRef", arena)
        b.do("PyList_SetSlice", free, last, count, NULL)
        enough = b.icmp_signed(">=", b.number(b.at(arena, at.array_dims), 0), b.number(spec, SPEC["arena"]))
        with b.if_then(enough):
            b.ret(arena)
        b.do("Py_DecRef", arena)
    b.ret(b.do("PyObject_CallNoArgs", b.at(spec, SPEC["take_arena"])))


def _emit_outputs(entry: EntryModule) -> None:
    """bool outputs(spec, arrays, pointers): new arrays for the outputs."""
    at = entry.layout
    b, (spec, arrays, pointers) = entry.define("outputs", I1, PTR, PTR, PTR)
    with b.each(spec, "outputs", OUTPUT.size) as (i, output):
        array = b.slot()
        make = b.at(output, OUTPUT["make"])
        with b.if_else(b.is_null(make)) as (small, large):
            with small:
                descr = b.at(output, OUTPUT["descr"])
                b.do("Py_IncRef", descr)  # which NewFromDescr takes
                nd, dims = b.trunc(b.number(output, OUTPUT["nd"]), I32), b.at(output, OUTPUT["dims"])
                operands = (descr, nd, dims, NULL, NULL, I32(0), NULL)
                b.store(b.do("PyArray_NewFromDescr", b.object("ndarray"), *operands), array)
            with large:
                b.store(b.do("PyObject_CallNoArgs", make), array)
        made = b.load(array, typ=PTR)
        with b.if_then(b.is_null(made)):
            b.ret(I1(0))
        b.put_item(made, arrays, i)
        b.put_item(b.at(made, at.array_data), pointers, i)
    b.ret(I1(1))


def _emit_execute(entry: EntryModule) -> None:
    """bool execute(spec, pointers, *arena): run the program. A failure has set the exception."""
    b, (spec, pointers, last) = entry.define("execute", I1, PTR, PTR, PTR)
    arena = b.slot()
    b.store(NULL, arena)
    local = stack(b, ir.ArrayType(ir.IntType(8), _STACK_ARENA), 64, b.function.entry_basic_block)
    b.store(local, last)
    with b.if_then(b.icmp_signed(">", b.number(spec, SPEC["arena"]), b.word(_STACK_ARENA))):
        taken = b.call_own("take_arena", spec)
        with b.if_then(b.is_null(taken)):
            b.ret(I1(0))
        b.store(taken, arena)
        b.store(b.at(taken, entry.layout.array_data), last)
    saved = b.slot()
    b.store(NULL, saved)
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


def _emit_result(entry: EntryModule) -> None:
    """PyObject *result(record, args, arrays, tensors, held): a new reference to one leaf of what is returned."""
    b, (record, args, arrays, tensors, held) = entry.define("result", PTR, PTR, PTR, PTR, PTR, PTR)
    kind, value = b.number(record, 0), b.number(record, 8)
    found = b.slot()
    b.store(b.at(record, 8), found)
    for name, items in (("array", arrays), ("tensor", tensors), ("argument", args), ("input", held)):
        with b.if_then(b.icmp_signed("==", kind, b.word(RESULTS[name]))):
            b.store(b.item(items, value), found)
    result = b.load(found, typ=PTR)
    b.do("Py_IncRef", result)
    b.ret(result)


def _emit_results(entry: EntryModule) -> None:
    """PyObject *results(spec, args, arrays, tensors, held): what the call returns."""
    b, (spec, args, arrays, tensors, held) = entry.define("results", PTR, PTR, PTR, PTR, PTR, PTR)
    count, records = b.number(spec, SPEC["n_results"]), b.at(spec, SPEC["results"])
    with b.if_then(b.icmp_signed("<", count, b.word(0)), likely=True):
        b.ret(b.call_own("result", records, args, arrays, tensors, held))
    whole = b.do("PyTuple_New", count)
    with b.if_then(b.is_null(whole)):
        b.ret(NULL)
    with b.each(spec, "results", 8 * GUARD["results"]) as (i, record):
        b.do("PyTuple_SetItem", whole, i, b.call_own("result", record, args, arrays, tensors, held))
    finish = b.at(spec, SPEC["finish"])
    with b.if_then(b.is_null(finish)):
        b.ret(whole)
    finished = b.do("PyObject_CallOneArg", finish, whole)
    b.do("Py_DecRef", whole)
    b.ret(finished)


def _emit_run(entry: EntryModule) -> None:
    """PyObject *run(spec, leaves, pointers, held): NULL with an exception set where it fails.

    `pointers` holds the inputs' memory and has room for the rest; `held` has two objects, or NULL, for each input.
    """
    b, (spec, args, pointers, held) = entry.define("run", PTR, PTR, PTR, PTR, PTR)
    n_in, n_out = b.number(spec, SPEC["n_inputs"]), b.number(spec, SPEC["n_outputs"])
    arrays, tensors = b.room(n_out), b.room(n_out)
    result = b.slot()
    b.store(NULL, result)
    for items in (arrays, tensors):
        with b.counted(n_out) as i:
            b.put_item(NULL, items, i)
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
    _note_writes(b, spec, held, done)
    with b.each(spec, "outputs", OUTPUT.size) as (i, output):
        is_tensor = b.icmp_signed("!=", b.number(output, OUTPUT["tensor"]), b.word(0))
        with b.if_then(is_tensor):
            tensor = b.call_own("new_tensor", b.item(arrays, i))
            b.put_item(tensor, tensors, i)
            b.unless(b.not_(b.is_null(tensor)), done)
            _set_grad_fn(b, tensor, b.at(output, OUTPUT["grad_fn"]))
    _set_grads(b, spec, arrays, done)
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


def _set_grad_fn(b: EntryBuilder, tensor: Value, node: Value) -> None:
    """Put a new tensor on the tape, where there is a node."""
    with b.if_then(b.not_(b.is_null(node))):
        b.do("Py_IncRef", node)
        b.put(node, tensor, b.layout.tensor_grad_fn)
        b.do("Py_DecRef", b.object("None"))


def _note_writes(b: EntryBuilder, spec: Value, held: Value, failed: ir.Block) -> None:
    with (
        b.if_then(b.icmp_signed(">", b.number(spec, SPEC["n_writes"]), b.word(0))),
        b.each(spec, "inputs", INPUT.size) as (i, record),
    ):
        owner = b.item(held, b.add(b.shl(i, b.word(1)), b.word(1)))
        written = b.icmp_signed("!=", b.number(record, INPUT["written"]), b.word(0))
        with b.if_then(b.and_(written, b.not_(b.is_null(owner)))):
            b.unless(b.call_own("bump", owner), failed)


def _set_grads(b: EntryBuilder, spec: Value, arrays: Value, failed: ir.Block) -> None:
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
        old = b.at(tensor, b.layout.tensor_grad)
        b.put(grad, tensor, b.layout.tensor_grad)
        b.do("Py_DecRef", old)
