"""A schedule as one native function: shape arithmetic, buffer offsets, and the kernels in order."""

from __future__ import annotations

from types import ModuleType

import llvmlite.ir as ir
import numpy as np

from tjit.codegen.kernel import ContractKernel, Kernel, Load, LoopKernel, ScatterKernel, kernel_symbols, walk
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.loops import emit_loops
from tjit.codegen.llvm.scatter import emit_scatter
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, PTR, i64, plain_function, stack
from tjit.codegen.schedule import Costs, Placed, Schedule, Step
from tjit.ir.dims import Dim

__all__ = ["costs", "emit_kernel", "emit_program", "kernel_modules"]


def costs(target: Target) -> Costs:
    """What the scheduler asks this backend."""

    def scratch_bytes(kernel: Kernel) -> Dim:
        return _contractions().contract_scratch_bytes(kernel, target) if isinstance(kernel, ContractKernel) else 0

    return Costs(scratch_bytes, lambda kernel: _contractions().contract_tasks(kernel, target))


def _contractions() -> ModuleType:
    """The module of contractions: it takes as long to import as the rest, and small programs have none."""
    from tjit.codegen.llvm import contract

    return contract


def emit_kernel(kernel: Kernel, target: Target) -> tuple[ir.Module, tuple]:
    """The module of a kernel, and the functions it is joined with (name, emit)."""
    if isinstance(kernel, ContractKernel):
        return _contractions().emit_contract(kernel, target)
    if isinstance(kernel, LoopKernel):
        return emit_loops(kernel, target), ()
    return emit_scatter(kernel, target), ()


def kernel_modules(plan: Schedule, target: Target) -> dict[str, Kernel]:
    """The distinct kernels of a schedule, by name."""
    return {step.kernel.name: step.kernel for step in plan.steps}


def emit_program(plan: Schedule, target: Target, name: str = "tjit.main") -> ir.Module:
    """The module of the program function and of its `.plan`, by the convention of docs/design/0001."""
    module = ir.Module(name=name, context=ir.Context())
    module.triple = target.triple
    _Program(plan, module, name).emit()
    _emit_plan(plan, module, name)
    return module


def _symbols(b: ir.IRBuilder, plan: Schedule, pointer: ir.Value) -> Integers:
    ints = Integers(b)
    for i, symbol in enumerate(plan.symbols):
        ints.symbols[symbol.name] = b.load(b.gep(pointer, [i64(i)], source_etype=I64), typ=I64)
    return ints


def _emit_plan(plan: Schedule, module: ir.Module, name: str) -> None:
    function = plain_function(module, ir.FunctionType(ir.VoidType(), [PTR, PTR]), f"{name}.plan")
    symbols, out = function.args
    b = ir.IRBuilder(function.append_basic_block("entry"))
    ints = _symbols(b, plan, symbols)
    values = [plan.arena, *(d for p in plan.outputs for d in p.type.shape)]
    for i, d in enumerate(values):
        b.store(ints.dim(d), b.gep(out, [i64(i)], source_etype=I64))
    b.ret_void()


class _Program:
    def __init__(self, plan: Schedule, module: ir.Module, name: str) -> None:
        self.plan = plan
        self.module = module
        function = plain_function(module, ir.FunctionType(I32, [PTR, PTR, PTR]), name)
        self.pool, self.buffers, symbols = function.args
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.ints = _symbols(self.b, plan, symbols)
        self.pointers: dict[Placed, ir.Value] = {}
        self.parallel_for = ir.Function(
            module, ir.FunctionType(ir.VoidType(), [PTR, PTR, PTR, I64]), "tjit.parallel_for"
        )
        self.kernels: dict[str, ir.Function] = {}
        self.threads: ir.Value | None = None

    def emit(self) -> None:
        b, plan = self.b, self.plan
        most = max((len(s.kernel.buffers) for s in plan.steps), default=0)
        self.args = stack(b, ir.ArrayType(PTR, 3 + most))
        self.dims = stack(b, ir.ArrayType(I64, max(1, len(plan.symbols))))
        self.errors = stack(b, ir.ArrayType(I32, max(1, len(plan.steps))))
        for n, step in enumerate(plan.steps):
            self._step(n, step)
        b.ret(ir.Constant(I32, 0))

    def _return_if_failed(self, n: int) -> None:
        """Leave before later kernels write to the caller's memory what follows from a failed check."""
        b = self.b
        failed = b.icmp_signed("!=", b.load(self._error(n), typ=I32), ir.Constant(I32, 0))
        stop, go_on = b.append_basic_block("failed"), b.append_basic_block("passed")
        b.cbranch(failed, stop, go_on)
        b.position_at_end(stop)
        b.ret(ir.Constant(I32, 1 + n))
        b.position_at_end(go_on)

    def _error(self, n: int) -> ir.Value:
        return self.b.gep(self.errors, [i64(n)], source_etype=I32)

    def _pointer(self, placed: Placed) -> ir.Value:
        found = self.pointers.get(placed)
        if found is None:
            found = self.pointers[placed] = self._address(placed)
        return found

    def _address(self, placed: Placed) -> ir.Value:
        b, plan = self.b, self.plan
        if placed.kind == "constant":
            return self._constant(placed)
        if placed.kind == "temp":
            arena = self._buffer(len(plan.inputs) + len(plan.outputs))
            return b.gep(arena, [self.ints.dim(placed.offset)], source_etype=ir.IntType(8))
        return self._buffer(placed.position + (len(plan.inputs) if placed.kind == "output" else 0))

    def _buffer(self, i: int) -> ir.Value:
        return self.b.load(self.b.gep(self.buffers, [i64(i)], source_etype=PTR), typ=PTR)

    def _constant(self, placed: Placed) -> ir.Value:
        assert placed.data is not None
        data = np.ascontiguousarray(placed.data).tobytes()
        kind = ir.ArrayType(ir.IntType(8), max(1, len(data)))
        found = ir.GlobalVariable(self.module, kind, f"constant.{placed.position}")
        found.linkage, found.global_constant, found.align = "internal", True, 64
        found.initializer = ir.Constant(kind, bytearray(data or b"\0"))
        found.type = PTR
        return found

    def _step(self, n: int, step: Step) -> None:
        b, kernel = self.b, step.kernel
        symbols = kernel_symbols(kernel)
        for i, symbol in enumerate(symbols):
            b.store(self.ints.symbols[symbol.name], b.gep(self.dims, [i64(i)], source_etype=I64))
        null = ir.Constant(PTR, None)
        scratch = self._pointer(step.scratch) if step.scratch is not None else null
        values = [self.dims, self._error(n), scratch, *map(self._pointer, step.arguments)]
        for i, value in enumerate(values):
            b.store(value, b.gep(self.args, [i64(i)], source_etype=PTR))
        checked = _may_fail(kernel)
        if checked:
            b.store(ir.Constant(I32, 0), self._error(n))
        function = self._kernel(kernel.name)
        extent = 1 if isinstance(kernel, ScatterKernel) else kernel.tasks
        if isinstance(extent, int) and extent == 1:
            b.call(function, [self.args, i64(0), i64(1)])
        else:
            tasks = self.ints.dim(extent)
            if isinstance(kernel, ContractKernel):
                # each task packs panels of its own: no more of them than threads (the bits are the same)
                tasks = self.ints.min(tasks, self._threads())
            b.call(self.parallel_for, [self.pool, function, self.args, tasks])
        if checked:
            self._return_if_failed(n)

    def _threads(self) -> ir.Value:
        if self.threads is None:
            function = ir.Function(self.module, ir.FunctionType(I64, [PTR]), "tjit.pool_threads")
            with self.b.goto_block(self.b.function.entry_basic_block):
                self.threads = self.b.call(function, [self.pool])
        return self.threads

    def _kernel(self, name: str) -> ir.Function:
        found = self.kernels.get(name)
        if found is None:
            kind = ir.FunctionType(ir.VoidType(), [PTR, I64, I64])
            found = self.kernels[name] = ir.Function(self.module, kind, name)
        return found


def _may_fail(kernel: Kernel) -> bool:
    """Whether the kernel reads or writes at computed places, which it checks."""
    if isinstance(kernel, ScatterKernel):
        return True
    if isinstance(kernel, ContractKernel):
        roots = [kernel.a, kernel.b, *(s.value for s in kernel.epilogue)]
    else:
        roots = [s.value for loop in kernel.loops for s in loop.body]
    return any(isinstance(e, Load) and e.bindings for root in roots for e in walk(root))
