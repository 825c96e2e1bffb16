"""A schedule as one native function: shape arithmetic, buffer offsets, the kernels in order, loops and branches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import ModuleType

import llvmlite.ir as ir
import numpy as np

from tjit.codegen.grids import GridAxis
from tjit.codegen.kernel import (
    Attention,
    Contraction,
    ContractKernel,
    Kernel,
    Load,
    LoopKernel,
    NestKernel,
    ScatterKernel,
    SortKernel,
    kernel_symbols,
    walk,
)
from tjit.codegen.launches import launches
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.loop_plan import plan_loops
from tjit.codegen.llvm.loops import emit_loops
from tjit.codegen.llvm.plain import plain_function
from tjit.codegen.llvm.scatter import emit_scatter
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, PTR, counted_loop, declare, element_type, i64, stack
from tjit.codegen.schedule import Costs
from tjit.codegen.steps import (
    Allocate,
    AnyStep,
    Bind,
    Body,
    Check,
    For,
    If,
    Placed,
    Schedule,
    Step,
    While,
    bodies,
    kernel_steps,
    numbered,
)
from tjit.ir.dims import Dim, Symbol

_KERNEL = ir.FunctionType(ir.VoidType(), [PTR, I64, I64])
OUT_OF_MEMORY = -1  # a return code
_ARGUMENTS, _SCRATCH = 3, 2  # words of a kernel's arguments before its buffers; the one of the scratch memory
_TABLE = 3  # words of a launch's table before its kernels (`_Table`); scratch is where it is in arguments
_TASKS_OF_A_THREAD = 2  # of a contraction: a thread that is held up leaves work to the others

__all__ = ["ProgramEmitter", "costs", "emit_kernel", "emit_program", "kernel_modules"]


def costs(target: Target) -> Costs:
    """What the scheduler asks this backend."""

    def scratch_bytes(kernel: Kernel) -> Dim:
        if isinstance(kernel, NestKernel):
            return _nests().nest_scratch_bytes(kernel)
        if isinstance(kernel, Attention):
            return _attention().attention_scratch_bytes(kernel, target)
        if isinstance(kernel, SortKernel):
            return _sorts().sort_scratch_bytes(kernel)
        return _contractions().contract_scratch_bytes(kernel, target) if isinstance(kernel, ContractKernel) else 0

    def tasks(kernel: Contraction) -> Dim:
        if isinstance(kernel, ContractKernel):
            return _contractions().contract_tasks(kernel, target)
        return _attention().attention_tasks(kernel, target)

    def grid(kernel: Kernel) -> tuple[GridAxis, ...]:
        if isinstance(kernel, LoopKernel):
            return plan_loops(kernel, target).grid
        if isinstance(kernel, ContractKernel):
            return _contractions().contract_grid(kernel, target)
        return _attention().attention_grid(kernel, target) if isinstance(kernel, Attention) else ()

    return Costs(scratch_bytes, tasks, lambda kernel: _sorts().sort_tasks(kernel), grid)


def _attention() -> ModuleType:
    """The module of attention, which most programs have none of."""
    from tjit.codegen.llvm import attention

    return attention


def _contractions() -> ModuleType:
    """The module of contractions: it takes as long to import as the rest, and small programs have none."""
    from tjit.codegen.llvm import contract

    return contract


def _nests() -> ModuleType:
    """The module of nests, which most programs have none of."""
    from tjit.codegen.llvm import nest

    return nest


def _sorts() -> ModuleType:
    """The module of sorts, which most programs have none of."""
    from tjit.codegen.llvm import sort

    return sort


def emit_kernel(kernel: Kernel, target: Target) -> tuple[ir.Module, tuple]:
    """The module of a kernel, and the functions it is joined with (name, emit)."""
    if isinstance(kernel, ContractKernel):
        return _contractions().emit_contract(kernel, target)
    if isinstance(kernel, Attention):
        return _attention().emit_attention(kernel, target)
    if isinstance(kernel, LoopKernel):
        return emit_loops(kernel, target), ()
    if isinstance(kernel, NestKernel):
        return _nests().emit_nest(kernel, target), ()
    if isinstance(kernel, SortKernel):
        return _sorts().emit_sort(kernel, target), ()
    return emit_scatter(kernel, target), ()


def kernel_modules(plan: Schedule, target: Target) -> dict[str, Kernel]:
    """The distinct kernels of a schedule, by name."""
    return {step.kernel.name: step.kernel for step in kernel_steps(plan)}


def emit_program(plan: Schedule, target: Target, name: str = "tjit.main", profiled: bool = False) -> ir.Module:
    """The module of the program function and of its `.plan`, by the convention of docs/design/0001.

    `profiled`: with notes of when kernels ran, in one more buffer.
    """
    module = ir.Module(name=name, context=ir.Context())
    module.triple = target.triple
    _emitter(profiled)(plan, module, name).emit()
    _emit_plan(plan, module, name)
    return module


def _emitter(profiled: bool) -> type[ProgramEmitter]:
    if not profiled:
        return ProgramEmitter
    from tjit.codegen.llvm.profiled import ProfiledEmitter  # only while a profile is open

    return ProfiledEmitter


def _symbols(b: ir.IRBuilder, plan: Schedule, pointer: ir.Value) -> Integers:
    ints = Integers(b)
    for i, symbol in enumerate(plan.symbols):
        ints.symbols[symbol.name] = b.load(b.gep(pointer, [i64(i)], source_etype=I64), typ=I64)
    return ints


def _emit_plan(plan: Schedule, module: ir.Module, name: str) -> None:
    function = plain_function(module, ir.FunctionType(ir.VoidType(), [PTR, PTR]), f"{name}.plan")
    symbols, out = function.args
    b = Builder(function.append_basic_block("entry"))
    ints = _symbols(b, plan, symbols)
    values = [plan.arena, *(d for p in plan.outputs for d in p.type.shape)]
    for i, d in enumerate(values):
        b.store(ints.dim(d), b.gep(out, [i64(i)], source_etype=I64))
    b.ret_void()


_EmitTask = Callable[["_Table", ir.Value, ir.Value], None]


class ProgramEmitter:
    """Emits the program function.

    Attributes:
        setup: stands in the entry block, which runs once: addresses, and arguments of kernels that run many times.
        b: stands where the present step goes.
        stands_for: what a body's input or output is outside.
        arenas: what a body's temp lies in.
        moving: where the address of a buffer is kept that changes places with another one.
        depth: of loops and branches around the present step.
    """

    def __init__(self, plan: Schedule, module: ir.Module, name: str) -> None:
        self.plan = plan
        self.module = module
        function = plain_function(module, ir.FunctionType(I32, [PTR, PTR, PTR]), name)
        self.pool, self.buffers, symbols = function.args
        self.setup = Builder(function.append_basic_block("entry"))
        self.known = _symbols(self.setup, plan, symbols)
        self.start = function.append_basic_block("start")
        self.b = Builder(self.start)
        self.ints = Integers(self.b, self.known.symbols)
        self.pointers: dict[Placed, ir.Value] = {}
        self.stands_for: dict[Placed, Placed] = {}
        self.arenas: dict[Placed, Placed] = {}
        self.moving: dict[Placed, ir.Value] = {}
        self.depth = 0
        self.parallel_for = ir.Function(
            module, ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64, I64, I64]), "tjit.parallel_for"
        )
        self.kernels: dict[str, ir.Function] = {}
        self.symbols_of: dict[str, tuple[Symbol, ...]] = {}  # by the kernel's name
        self.may_fail: dict[str, bool] = {}  # likewise
        self.threads: ir.Value | None = None
        self.busy_tasks: ir.Value | None = None
        self.constants = 0

    def emit(self) -> None:
        steps = list(numbered(self.plan))
        self.numbers = {id(step): n for n, step in steps}
        kernels = [step for step in self.plan.steps if isinstance(step, Step)]
        most = max((len(step.kernel.buffers) for step in kernels), default=0)
        binds = sum(isinstance(step, Bind) for step in self.plan.steps)
        self.args = stack(self.setup, ir.ArrayType(PTR, _ARGUMENTS + most))
        self.dims = stack(self.setup, ir.ArrayType(I64, max(1, len(self.plan.symbols) + binds)))
        self.errors = stack(self.setup, ir.ArrayType(I32, 1 + max((n for n, _ in steps), default=0)))
        heap = [step.placed for _, step in steps if isinstance(step, Allocate)]
        self.slots = {placed: self._slot() for placed in heap}
        self.leave = self.b.append_basic_block("leave") if heap else None
        self.code = stack(self.setup, I32) if heap else None
        self._steps(self.plan.steps)
        self._return(ir.Constant(I32, 0))
        self._emit_leave()
        self.setup.branch(self.start)

    def _steps(self, steps: Sequence[AnyStep]) -> None:
        for first, *others in launches(steps):
            step = first
            if others:
                self._launch([s for s in (first, *others) if isinstance(s, Step)])
            elif isinstance(step, Step):
                self._step(step)
            elif isinstance(step, Bind):
                self._bind(step)
            elif isinstance(step, Check):
                self._return_if(self.b.not_(self._flag(step.source)), self._code(step))
            elif isinstance(step, Allocate):
                self._allocate(step.placed)
            else:
                self._control(step)

    # -- control flow --------------------------------------------------------------------------------------------------

    def _control(self, step: If | For | While) -> None:
        self.depth += 1
        for body in bodies(step):
            self.stands_for.update(zip(body.plan.inputs, body.inputs, strict=True))
            self.stands_for.update(zip(body.plan.outputs, body.outputs, strict=True))
            if step.arena is not None:
                self.arenas.update(dict.fromkeys(body.plan.temps, step.arena))
        if isinstance(step, If):
            self._if(step)
        else:
            self._start_rotations(step)
            if isinstance(step, For):
                with counted_loop(self.b, i64(0), self.ints.dim(step.trip), i64(1)) as i:
                    self.ints.symbols[step.counter] = i
                    self._steps(step.body.plan.steps)
                    self._rotate(step.body)
            else:
                self._while(step)
            self._end_rotations(step.body)
        self.depth -= 1

    def _if(self, step: If) -> None:
        b = self.b
        then, otherwise, after = (b.append_basic_block(name) for name in ("then", "else", "after"))
        b.cbranch(self._flag(step.condition), then, otherwise)
        for block, body in ((then, step.then), (otherwise, step.otherwise)):
            b.position_at_end(block)
            self._steps(body.plan.steps)
            b.branch(after)
        b.position_at_end(after)

    def _while(self, step: While) -> None:
        b = self.b
        test, body, after = (b.append_basic_block(name) for name in ("test", "body", "after"))
        b.branch(test)
        b.position_at_end(test)
        self._steps(step.test.plan.steps)
        b.cbranch(self._flag(step.condition), body, after)
        b.position_at_end(body)
        self._steps(step.body.plan.steps)
        self._rotate(step.body)
        b.branch(test)
        b.position_at_end(after)

    def _start_rotations(self, step: For | While) -> None:
        """Keep the addresses of what changes places."""
        for source, target, spare in step.body.rotations:
            position = step.body.plan.inputs.index(target)
            slots = stack(self.setup, PTR), stack(self.setup, PTR)
            self.b.store(self._pointer(step.body.inputs[position]), slots[0])
            self.b.store(self._pointer(spare), slots[1])
            for body in bodies(step):
                self.moving[body.plan.inputs[position]] = slots[0]
            self.moving[source] = slots[1]

    def _rotate(self, body: Body) -> None:
        b = self.b
        for source, target, _ in body.rotations:
            old, new = (b.load(self.moving[p], typ=PTR) for p in (target, source))
            b.store(new, self.moving[target])
            b.store(old, self.moving[source])

    def _end_rotations(self, body: Body) -> None:
        """Have each value where the steps behind the loop look for it."""
        b = self.b
        for _, target, _ in body.rotations:
            home = self._pointer(body.inputs[body.plan.inputs.index(target)])
            found = b.load(self.moving[target], typ=PTR)
            away, after = b.append_basic_block("away"), b.append_basic_block("home")
            b.cbranch(b.icmp_unsigned("!=", found, home), away, after)
            b.position_at_end(away)
            copy = declare(b, "memcpy", ir.FunctionType(PTR, [PTR, PTR, I64]))
            b.call(copy, [home, found, self.ints.dim(target.type.nbytes)])
            b.branch(after)
            b.position_at_end(after)

    def _flag(self, placed: Placed) -> ir.Value:
        kind = element_type(placed.type.dtype)
        return self.b.icmp_unsigned("!=", self.b.load(self._pointer(placed), typ=kind), ir.Constant(kind, 0))

    def _bind(self, step: Bind) -> None:
        b, dtype = self.b, step.source.type.dtype
        value = b.load(self._pointer(step.source), typ=element_type(dtype))
        if dtype.bits < 64:
            value = b.sext(value, I64) if dtype.is_signed else b.zext(value, I64)
        failed = b.icmp_signed("<", value, i64(step.low))
        if step.high is not None:
            failed = b.or_(failed, b.icmp_signed(">", value, self.ints.dim(step.high)))
        self._return_if(failed, self._code(step))
        self.ints.symbols[step.symbol] = value

    def _code(self, step: AnyStep) -> ir.Value:
        return ir.Constant(I32, 1 + self.numbers[id(step)])

    # -- leaving -------------------------------------------------------------------------------------------------------

    def _return_if(self, failed: ir.Value, code: ir.Value) -> None:
        """Leave before later steps write to the caller's memory what follows from a failed check."""
        b = self.b
        stop, go_on = b.append_basic_block("failed"), b.append_basic_block("passed")
        b.cbranch(failed, stop, go_on)
        b.position_at_end(stop)
        self._return(code)
        b.position_at_end(go_on)

    def _return(self, code: ir.Value) -> None:
        if self.leave is None:
            self.b.ret(code)
        else:
            self.b.store(code, self.code)
            self.b.branch(self.leave)

    def _emit_leave(self) -> None:
        """Free what the program allocated, wherever it leaves."""
        if self.leave is None:
            return
        b = self.b
        b.position_at_end(self.leave)
        for slot in self.slots.values():
            b.call(self._free(), [b.load(slot, typ=PTR)])
        b.ret(b.load(self.code, typ=I32))

    # -- memory --------------------------------------------------------------------------------------------------------

    def _slot(self) -> ir.Value:
        """Where the address of memory on the heap is kept; null before it is allocated."""
        slot = stack(self.setup, PTR)
        self.setup.store(ir.Constant(PTR, None), slot)
        return slot

    def _allocate(self, placed: Placed) -> None:
        b, slot = self.b, self.slots[placed]
        b.call(self._free(), [b.load(slot, typ=PTR)])
        size = self.ints.max(self.ints.dim(placed.type.nbytes), i64(1))
        found = b.call(declare(b, "malloc", ir.FunctionType(PTR, [I64])), [size])
        b.store(found, slot)
        failed = b.icmp_unsigned("==", found, ir.Constant(PTR, None))
        self._return_if(failed, ir.Constant(I32, OUT_OF_MEMORY))

    def _free(self) -> ir.Function:
        return declare(self.b, "free", ir.FunctionType(ir.VoidType(), [PTR]))

    def _pointer(self, placed: Placed) -> ir.Value:
        """The address of a buffer; most are the same throughout, and computed once."""
        placed = self._outside(placed)
        slot = self.slots.get(placed) or self.moving.get(placed)
        if slot is not None:
            return self.b.load(slot, typ=PTR)
        found = self.pointers.get(placed)
        if found is None:
            found = self.pointers[placed] = self._address(placed)
        return found

    def _outside(self, placed: Placed) -> Placed:
        """What a buffer is where its address is known."""
        while placed in self.stands_for and placed not in self.moving:
            placed = self.stands_for[placed]
        return placed

    def _moves(self, placed: Placed) -> bool:
        """Whether the address changes while the program runs."""
        placed = self._outside(placed)
        return placed in self.slots or placed in self.moving

    def _address(self, placed: Placed) -> ir.Value:
        plan = self.plan
        if placed.kind == "constant":
            return self._constant(placed)
        if placed.kind == "temp":
            outer = self.arenas.get(placed)
            arena = self._buffer(len(plan.inputs) + len(plan.outputs)) if outer is None else self._pointer(outer)
            return self.setup.gep(arena, [self.known.dim(placed.offset)], source_etype=ir.IntType(8))
        return self._buffer(placed.position + (len(plan.inputs) if placed.kind == "output" else 0))

    def _buffer(self, i: int) -> ir.Value:
        b = self.setup
        return b.load(b.gep(self.buffers, [i64(i)], source_etype=PTR), typ=PTR)

    def _constant(self, placed: Placed) -> ir.Value:
        assert placed.data is not None
        data = np.ascontiguousarray(placed.data).tobytes()
        kind = ir.ArrayType(ir.IntType(8), max(1, len(data)))
        found = ir.GlobalVariable(self.module, kind, f"constant.{self.constants}")
        self.constants += 1
        found.linkage, found.global_constant, found.align = "internal", True, 64
        found.initializer = ir.Constant(kind, bytearray(data or b"\0"))
        found.type = PTR
        return found

    # -- kernels -------------------------------------------------------------------------------------------------------

    def _step(self, step: Step) -> None:
        b, kernel, n = self.b, step.kernel, self.numbers[id(step)]
        error = self._error(n)
        args = self._arguments(step, self._dims(kernel), error)
        checked = self.may_fail.get(kernel.name)
        if checked is None:
            checked = self.may_fail[kernel.name] = _may_fail(kernel)
        if checked:
            b.store(ir.Constant(I32, 0), error)
        function = self._kernel(kernel.name)
        extent = kernel.tasks
        if isinstance(extent, int) and extent == 1:
            b.call(function, [args, i64(0), i64(1)])
        else:
            tasks = self.ints.dim(extent)
            if isinstance(kernel, Contraction):
                # each task packs panels of its own: no more than keep all threads busy (the bits are the same)
                tasks = self.ints.min(tasks, self._busy_tasks())
            words, scratch = i64(0), i64(0)
            if step.scratch is not None:
                words, scratch = i64(_ARGUMENTS + len(step.arguments)), self.ints.dim(step.scratch.type.nbytes)
            b.call(self.parallel_for, [self.pool, function, args, tasks, words, scratch])
        if checked:
            found = b.load(error, typ=I32)
            failed = b.icmp_signed("!=", found, ir.Constant(I32, 0))
            self._return_if(failed, b.add(found, ir.Constant(I32, n)))

    def _launch(self, steps: Sequence[Step]) -> None:
        """Run kernels in one fork-join; those of a chain one by one where its parts would leave threads idle."""
        chain = steps[0].chain
        if not chain:
            rows = _task_rows(steps, self._places(steps))
            self._fork(steps, "launch", self._call_task, rows, i64(len(rows) // 3))
            return
        parts = self._parts(chain)
        with self.b.if_else(self._is_even(parts)) as (together, apart):
            with together:
                self._fork(steps, "chain", self._call_steps, _chain_rows(steps, self._places(steps)), parts)
            with apart:
                for step in steps:
                    self._step(step)

    def _fork(self, steps: Sequence[Step], name: str, emit: _EmitTask, rows: Sequence[int], tasks: ir.Value) -> None:
        """Run tasks by a table (`_Table`). A thread with scratch has a copy of it, and so of the arguments in it."""
        scratch = next((step.scratch for step in steps if step.scratch is not None), None)
        memory, size = ir.Constant(PTR, None), i64(0)
        if scratch is not None:
            memory, size = self._pointer(scratch), self.ints.dim(scratch.type.nbytes)
        places = self._places(steps)
        words = places[-1] + 1 + _ARGUMENTS + len(steps[-1].arguments)
        table = stack(self.setup, ir.ArrayType(PTR, words))
        self.depth += 1  # the arguments are filled before the loops around
        for place, step in zip(places, steps, strict=True):
            at = self.setup.gep(table, [i64(place + 1)], source_etype=PTR)
            self.setup.store(self._kernel(step.kernel.name), self.setup.gep(table, [i64(place)], source_etype=PTR))
            self._arguments(step, self._dims(step.kernel), self._error(0), at)
        self.depth -= 1
        for i, value in enumerate((self._rows(rows), i64(len(rows) // 3), memory)):
            self.setup.store(value, self.setup.gep(table, [i64(i)], source_etype=PTR))
        run = self._runner(name, emit)
        self.b.call(self.parallel_for, [self.pool, run, table, tasks, i64(words), size])

    def _places(self, steps: Sequence[Step]) -> list[int]:
        """Where each kernel is in a launch's table."""
        sizes = [1 + _ARGUMENTS + len(step.arguments) for step in steps]
        return [_TABLE + sum(sizes[:n]) for n in range(len(steps))]

    def _parts(self, most: int) -> ir.Value:
        """How many parts of `most` or of a divisor keep all threads busy: a contraction packs panels for each."""
        halves = [most >> n for n in range(1, most.bit_length()) if most % (1 << n) == 0]
        found = i64(most)
        for fewer in dict.fromkeys((*halves, 1)):
            found = self.b.select(self.b.icmp_signed(">=", i64(fewer), self._busy_tasks()), i64(fewer), found)
        return found

    def _is_even(self, parts: ir.Value) -> ir.Value:
        """Whether threads that do as many parts as the one that does most would do few more than there are."""
        b, threads = self.b, self._threads()
        rounds = b.sdiv(b.add(parts, b.sub(threads, i64(1))), threads)
        return b.icmp_signed("<=", b.mul(b.mul(rounds, threads), i64(7)), b.mul(parts, i64(8)))

    def _rows(self, words: Sequence[int]) -> ir.Value:
        kind = ir.ArrayType(I32, len(words))
        found = ir.GlobalVariable(self.module, kind, self.module.get_unique_name("rows"))
        found.linkage, found.global_constant, found.initializer = "internal", True, ir.Constant(kind, list(words))
        found.type = PTR
        return found

    def _runner(self, name: str, emit: _EmitTask) -> ir.Function:
        """The kernel of a launch, whose tasks `emit` spells."""
        name = f"{self.b.function.name}.{name}"
        found = self.module.globals.get(name)
        if found is None:
            found = plain_function(self.module, _KERNEL, name)
            found.linkage = "internal"
            pointer, task, tasks = found.args
            table = _Table(Builder(found.append_basic_block("entry")), pointer)
            emit(table, task, tasks)
            table.b.ret_void()
        return found

    def _call_task(self, table: _Table, task: ir.Value, tasks: ir.Value) -> None:
        """Side by side: the task's row is (place, task, tasks) of a kernel."""
        place, own, count = table.row(task)
        table.call(place, own, count)

    def _call_steps(self, table: _Table, task: ir.Value, tasks: ir.Value) -> None:
        """A chain: each row is (place, sign of tasks, whether it has scratch) of a kernel."""
        b = table.b
        with counted_loop(b, i64(0), b.ptrtoint(table.word(1), I64), i64(1)) as n:
            place, sign, has_scratch = table.row(n)
            with b.if_then(b.icmp_signed("!=", has_scratch, i64(0))):
                b.store(table.word(_SCRATCH), b.gep(table.pointer, [b.add(place, i64(1 + _SCRATCH))], source_etype=PTR))
            table.call(place, task, b.mul(tasks, sign))

    def _error(self, n: int) -> ir.Value:
        return self.setup.gep(self.errors, [i64(n)], source_etype=I32)

    def _dims(self, kernel: Kernel) -> ir.Value:
        """The values of the kernel's symbols; in a loop those that do not change are stored before it."""
        symbols = self.symbols_of.get(kernel.name)
        if symbols is None:
            symbols = self.symbols_of[kernel.name] = kernel_symbols(kernel)
        if not symbols:
            return ir.Constant(PTR, None)
        array = stack(self.setup, ir.ArrayType(I64, len(symbols))) if self.depth else self.dims
        for i, symbol in enumerate(symbols):
            once = self.depth and symbol.name in self.known.symbols
            b = self.setup if once else self.b
            b.store(self.ints.symbols[symbol.name], b.gep(array, [i64(i)], source_etype=I64))
        return array

    def _arguments(self, step: Step, dims: ir.Value, error: ir.Value, array: ir.Value | None = None) -> ir.Value:
        """The argument array of a kernel; in a loop it is filled before it, but for addresses that change."""
        placed = [step.scratch, *step.arguments]
        null = ir.Constant(PTR, None)
        values = [dims, error, *(null if p is None else self._pointer(p) for p in placed)]
        if array is None:
            array = stack(self.setup, ir.ArrayType(PTR, len(values))) if self.depth else self.args
        for i, (p, value) in enumerate(zip((None, None, *placed), values, strict=True)):
            once = self.depth and not (p is not None and self._moves(p))
            b = self.setup if once else self.b
            b.store(value, b.gep(array, [i64(i)], source_etype=PTR))
        return array

    def _busy_tasks(self) -> ir.Value:
        """How many tasks keep all threads busy, also where one is held up."""
        if self.busy_tasks is None:
            b, threads = self.setup, self._threads()
            several = b.mul(threads, i64(_TASKS_OF_A_THREAD))
            self.busy_tasks = b.select(b.icmp_signed(">", threads, i64(1)), several, threads)
        return self.busy_tasks

    def _threads(self) -> ir.Value:
        if self.threads is None:
            function = ir.Function(self.module, ir.FunctionType(I64, [PTR]), "tjit.pool_threads")
            self.threads = self.setup.call(function, [self.pool])
        return self.threads

    def _kernel(self, name: str) -> ir.Function:
        found = self.kernels.get(name)
        if found is None:
            found = self.kernels[name] = ir.Function(self.module, _KERNEL, name)
        return found


def _chain_rows(steps: Sequence[Step], places: Sequence[int]) -> list[int]:
    """For each step of a chain: place in the table, -1 where tasks have to be whole rows, 1 where it has scratch."""
    found: list[int] = []
    for place, step in zip(places, steps, strict=True):
        found += [place, -1 if isinstance(step.kernel, ContractKernel) else 1, int(step.scratch is not None)]
    return found


def _task_rows(steps: Sequence[Step], places: Sequence[int]) -> list[int]:
    """For each task of steps side by side: place in the table, task, tasks."""
    found: list[int] = []
    for place, step in zip(places, steps, strict=True):
        assert isinstance(step.kernel.tasks, int)
        for task in range(step.kernel.tasks):
            found += [place, task, step.kernel.tasks]
    return found


class _Table:
    """The table of a launch, while its runner is emitted: rows, their number, scratch memory, then the kernels.

    Each kernel's place has its address, and behind it its arguments.
    """

    def __init__(self, b: ir.IRBuilder, pointer: ir.Value) -> None:
        self.b, self.pointer = b, pointer

    def word(self, n: int | ir.Value) -> ir.Value:
        place = i64(n) if isinstance(n, int) else n
        return self.b.load(self.b.gep(self.pointer, [place], source_etype=PTR), typ=PTR)

    def row(self, n: ir.Value) -> list[ir.Value]:
        b, rows = self.b, self.word(0)
        places = (b.add(b.mul(n, i64(3)), i64(i)) for i in range(3))
        return [b.sext(b.load(b.gep(rows, [place], source_etype=I32), typ=I32), I64) for place in places]

    def call(self, place: ir.Value, task: ir.Value, tasks: ir.Value) -> None:
        b, kernel = self.b, self.word(place)
        kernel.type = _KERNEL.as_pointer()  # llvmlite finds the signature in the pointer's type
        b.call(kernel, [b.gep(self.pointer, [b.add(place, i64(1))], source_etype=PTR), task, tasks])


def _may_fail(kernel: Kernel) -> bool:
    """Whether the kernel reads or writes at computed places, which it checks."""
    if isinstance(kernel, ScatterKernel):
        return True
    if isinstance(kernel, NestKernel):
        return bool(kernel.checks)
    if isinstance(kernel, Attention):
        roots = list(kernel.reads)
    elif isinstance(kernel, ContractKernel):
        roots = [kernel.a, kernel.b, *(s.value for s in kernel.epilogue)]
    elif isinstance(kernel, SortKernel):
        roots = [kernel.value]
    else:
        roots = [s.value for loop in kernel.loops for s in loop.body]
    return any(isinstance(e, Load) and e.bindings for root in roots for e in walk(root))
