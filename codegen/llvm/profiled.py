"""A program that notes when each of its kernels starts and ends, in the log that `kernel_log` lays out.

It is the same program but for the notes: the log is one more buffer, behind the arena. A note costs two readings of the
clock, 50 ns.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel_log import COUNTER_WORDS, EVENT_WORDS, HEAD_WORDS
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.plain import plain_function
from tjit.codegen.llvm.program import ProgramEmitter
from tjit.codegen.llvm.vectors import I32, I64, PTR, declare, i64, stack
from tjit.codegen.steps import Schedule, Step, kernel_steps

__all__ = ["ProfiledEmitter"]

_CLOCK_MONOTONIC = 1


class ProfiledEmitter(ProgramEmitter):
    """Emits a program function with notes around its kernels."""

    def __init__(self, plan: Schedule, module: ir.Module, name: str) -> None:
        self.places = {id(step): n for n, step in enumerate(kernel_steps(plan))}
        self.now = _emit_now(module)
        self.note = _emit_note(module, self.now, len(self.places))
        super().__init__(plan, module, name)
        self.log = self._buffer(len(plan.inputs) + len(plan.outputs) + 1)

    def _step(self, step: Step) -> None:
        start = self.b.call(self.now, [])
        super()._step(step)
        self.b.call(self.note, [self.log, i64(self.places[id(step)]), start])

    def _launch(self, steps: Sequence[Step]) -> None:
        """One after the other: each has a time of its own."""
        for step in steps:
            self._step(step)


def _function(module: ir.Module, name: str, result: ir.Type, *operands: ir.Type) -> ir.Function:
    function = plain_function(module, ir.FunctionType(result, operands), name)
    function.linkage = "internal"
    return function


def _emit_now(module: ir.Module) -> ir.Function:
    """i64 now(): the clock in nanoseconds."""
    function = _function(module, "profile.now", I64)
    b = Builder(function.append_basic_block("entry"))
    time = stack(b, ir.ArrayType(I64, 2))
    clock = declare(b, "clock_gettime", ir.FunctionType(I32, [I32, PTR]))
    b.call(clock, [ir.Constant(I32, _CLOCK_MONOTONIC), time])
    seconds, nanoseconds = (b.load(_word(b, time, i64(n)), typ=I64) for n in range(2))
    b.ret(b.add(b.mul(seconds, i64(1_000_000_000)), nanoseconds))
    return function


def _emit_note(module: ir.Module, now: ir.Function, kernels: int) -> ir.Function:
    """void note(log, step, start): the step ended just now."""
    function = _function(module, "profile.note", ir.VoidType(), PTR, I64, I64)
    log, step, start = function.args
    b = Builder(function.append_basic_block("entry"))
    end = b.call(now, [])
    counter = b.add(i64(HEAD_WORDS), b.mul(step, i64(COUNTER_WORDS)))
    for word, more in ((counter, i64(1)), (b.add(counter, i64(1)), b.sub(end, start))):
        place = _word(b, log, word)
        b.store(b.add(b.load(place, typ=I64), more), place)
    events = b.load(log, typ=I64)
    b.store(b.add(events, i64(1)), log)
    with b.if_then(b.icmp_signed("<", events, b.load(_word(b, log, i64(1)), typ=I64))):
        first = b.add(i64(HEAD_WORDS + COUNTER_WORDS * kernels), b.mul(events, i64(EVENT_WORDS)))
        for n, value in enumerate((step, start, end)):
            b.store(value, _word(b, log, b.add(first, i64(n))))
    b.ret_void()
    return function


def _word(b: ir.IRBuilder, memory: ir.Value, n: ir.Value) -> ir.Value:
    return b.gep(memory, [n], source_etype=I64)
