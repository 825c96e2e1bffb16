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

from llvmlite import ir

from tjit.codegen.llvm.entry_fits import emit_fits
from tjit.codegen.llvm.entry_module import NULL, EntryBuilder, EntryModule, Value
from tjit.codegen.llvm.entry_run import emit_run
from tjit.codegen.llvm.vectors import I64, PTR
from tjit.runtime.entry_layout import HEAD, SPEC, THREADS, Layout

__all__ = ["emit_entry"]


def emit_entry(layout: Layout) -> ir.Module:
    """The module with `tjit.entry`, for objects laid out as `layout` says."""
    entry = EntryModule(layout)
    emit_run(entry)
    emit_fits(entry)
    _emit_entry(entry)
    return entry.module


def _emit_entry(entry: EntryModule) -> None:
    b, (self_, args, n, names) = entry.define("tjit.entry", PTR, PTR, PTR, I64, PTR)
    slow, search = b.append_basic_block("slow"), b.append_basic_block("search")
    head = b.at(self_, entry.layout.pointer)
    grad = _thread_state(b, head, slow)
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
        b.ret(NULL)
    b.ret(b.do("PyObject_Vectorcall", b.at(head, HEAD["slow"]), args, n, names))


def _thread_state(b: EntryBuilder, head: Value, slow: ir.Block) -> Value:
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
