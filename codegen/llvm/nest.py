"""Nests: scalars in registers, elements as loads and stores, loops and branches for LLVM to optimise.

The kernel's function only unpacks its arguments; the nest is a function whose pointers LLVM may take to be apart.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir

from tjit.codegen.kernel import (
    Assign,
    Bind,
    Branch,
    Buffer,
    Check,
    Counted,
    Expr,
    Fold,
    Let,
    Local,
    NestKernel,
    NestStatement,
    Reduce,
    Repeat,
    Store,
    kernel_symbols,
    nest_statements,
)
from tjit.codegen.llvm.accesses import Access, Accesses
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.reductions import Accumulation, neutral
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, PTR, declare, i64, stack
from tjit.codegen.scalars import held
from tjit.dtypes import bool_
from tjit.dtypes import i64 as int64
from tjit.ir.dims import Dim, is_one, product

__all__ = ["emit_nest", "nest_scratch_bytes"]

_LINE = 64
_FLOAT_FOLDS = {"sum": "fadd", "prod": "fmul", "max": "maximum", "min": "minimum"}  # nan goes through all of them
_STACK_BYTES = 2048  # scratch arrays up to here are in the frame, where LLVM may make registers of them


def emit_nest(kernel: NestKernel, target: Target) -> ir.Module:
    """The module that defines `kernel.name` by the convention of docs/design/0001."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    _emit_entry(kernel, _Nest(kernel, target, module).emit())
    return module


def nest_scratch_bytes(kernel: NestKernel) -> Dim:
    """Scratch memory of a nest."""
    return _scratch_places(kernel)[1]


def _scratch_places(kernel: NestKernel) -> tuple[dict[str, Dim], Dim]:
    """Where each scratch buffer begins, and the bytes of all."""
    offset: Dim = 0
    places: dict[str, Dim] = {}
    for buffer, most in kernel.scratch:
        if not _is_on_stack(buffer, most):
            places[buffer.name] = offset
            offset = offset + (most * buffer.dtype.itemsize + _LINE - 1) // _LINE * _LINE
    return places, offset


def _is_on_stack(buffer: Buffer, most: Dim) -> bool:
    return isinstance(most, int) and most * buffer.dtype.itemsize <= _STACK_BYTES


def _emit_entry(kernel: NestKernel, nest: ir.Function) -> None:
    function = ir.Function(nest.module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), kernel.name)
    b = Builder(function.append_basic_block("entry"))

    def argument(i: int) -> ir.Value:
        return b.load(b.gep(function.args[0], [i64(i)], source_etype=PTR), typ=PTR)

    symbols = kernel_symbols(kernel)
    dims = argument(0)
    values = [b.load(b.gep(dims, [i64(i)], source_etype=I64), typ=I64) for i in range(len(symbols))]
    ints = Integers(b, {s.name: v for s, v in zip(symbols, values, strict=True)})
    scratch = argument(2)
    places, _ = _scratch_places(kernel)
    pointers = [argument(3 + i) for i in range(len(kernel.buffers))]
    pointers += [b.gep(scratch, [ints.dim(d)], source_etype=ir.IntType(8)) for d in places.values()]
    b.call(nest, [argument(1), *pointers, *values])
    b.ret_void()


class _Memory(Accesses):
    """Single elements."""

    def address(self, access: Access) -> ir.Value:
        return self.b.gep(access.pointer, [self.positions(access.offset)], source_etype=access.element, inbounds=True)


class _Expressions(ExprEmitter):
    """Expressions of a nest: one lane, and the nest's locals."""

    def __init__(self, builder: ir.IRBuilder, target: Target, ints: Integers, pointers: dict[str, ir.Value]) -> None:
        super().__init__(builder, target, Lanes(None, 1), ints, pointers)
        self.memory = _Memory(target, self.positions, pointers)
        self.values: dict[str, Lane] = {}
        self.variables: dict[str, ir.Value] = {}

    def fresh(self, expr: Expr) -> Lane:
        """The value of `expr` now: memory and variables may have changed since it was last asked for."""
        self._memo.clear()
        self._kept.clear()
        return self.emit(expr)

    def _emit(self, expr: Expr) -> Lane:
        return self._local(expr) if isinstance(expr, Local) else super()._emit(expr)

    def _local(self, local: Local) -> Lane:
        if local.name in self.values:
            return self.values[local.name]
        slot = self.variables[local.name]
        return Lane(self.b.load(slot, typ=self.scalars.register_type(local.dtype)), local.dtype)


class _Nest:
    """Emits the function of the loops: (error, buffers, scratch buffers, symbols)."""

    def __init__(self, kernel: NestKernel, target: Target, module: ir.Module) -> None:
        self.kernel = kernel
        self.target = target
        symbols = kernel_symbols(kernel)
        places, _ = _scratch_places(kernel)
        memory = [PTR] * (1 + len(kernel.buffers) + len(places))
        kind = ir.FunctionType(ir.VoidType(), [*memory, *[I64] * len(symbols)])
        self.function = ir.Function(module, kind, f"{kernel.name}.nest")
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")  # inlined, the pointers would be any pointers
        self.error, *others = self.function.args
        pointers = dict(zip([*(b.name for b in kernel.buffers), *places], others, strict=False))
        self.b = Builder(self.function.append_basic_block("entry"))
        self.entry = self.b.block
        names = [s.name for s in symbols]
        self.ints = Integers(self.b, dict(zip(names, others[len(pointers) :], strict=True)))
        self._describe([self.error, *pointers.values()])
        self.exprs = _Expressions(self.b, target, self.ints, pointers)
        self._make_room(pointers)

    def _describe(self, pointers: list[ir.Argument]) -> None:
        """What LLVM may know of the arguments."""
        for pointer in pointers:
            pointer.add_attribute("noalias")
        for buffer, pointer in zip(self.kernel.buffers, pointers[1:], strict=False):
            size = product(buffer.shape) * buffer.dtype.itemsize
            whole = all(s == product(buffer.shape[d + 1 :]) for d, s in enumerate(buffer.strides))
            if whole and isinstance(size, int) and size > 0:
                pointer.attributes.dereferenceable = size

    def _make_room(self, pointers: dict[str, ir.Value]) -> None:
        """Frame memory for variables (which become registers) and small arrays."""
        scalars = self.exprs.scalars
        for statement in nest_statements(self.kernel.body):
            for local in statement.locals if isinstance(statement, Assign) else ():
                if local.name not in self.exprs.variables:
                    self.exprs.variables[local.name] = stack(self.b, scalars.register_type(local.dtype))
        for buffer, most in self.kernel.scratch:
            if _is_on_stack(buffer, most):
                assert isinstance(most, int)
                element = scalars.memory_type(buffer.dtype)
                pointers[buffer.name] = stack(self.b, ir.ArrayType(element, max(1, most)), _LINE)

    def emit(self) -> ir.Function:
        self._body(self.kernel.body)
        self.b.ret_void()
        return self.function

    # -- statements ----------------------------------------------------------------------------------------------------

    def _body(self, body: tuple[NestStatement, ...]) -> None:
        for statement in body:
            self._statement(statement)

    def _statement(self, statement: NestStatement) -> None:
        exprs = self.exprs
        if isinstance(statement, Let):
            exprs.values[statement.local.name] = exprs.fresh(statement.value)
        elif isinstance(statement, Store):
            exprs.put(statement, exprs.fresh(statement.value))
        elif isinstance(statement, Assign):
            self._assign(statement)
        elif isinstance(statement, Counted):
            self._counted(statement)
        elif isinstance(statement, Repeat):
            self._repeat(statement)
        elif isinstance(statement, Branch):
            self._branch(statement)
        elif isinstance(statement, Fold):
            exprs.values[statement.local.name] = self._fold(statement)
        elif isinstance(statement, Bind):
            self._bind(statement)
        else:
            self._check(statement)

    def _assign(self, statement: Assign) -> None:
        lanes = [self.exprs.fresh(value) for value in statement.values]
        for local, lane in zip(statement.locals, lanes, strict=True):
            self.b.store(self.exprs.scalars.cast(lane, local.dtype).value, self.exprs.variables[local.name])

    def _counted(self, statement: Counted) -> None:
        name = statement.axis.symbol.name
        start, trips = self.ints.dim(statement.start), statement.end - statement.start
        if is_one(trips):
            self.ints.symbols[name] = start
            with self.exprs.scope():
                self._body(statement.body)
            return
        with self.ints.loop(start, self.ints.dim(statement.end)) as i, self.exprs.scope():
            self.ints.symbols[name] = i
            self._body(statement.body)

    def _repeat(self, statement: Repeat) -> None:
        b = self.b
        head, body, after = (b.append_basic_block(name) for name in ("test", "body", "after"))
        b.branch(head)
        b.position_at_end(head)
        with self.exprs.scope():
            self._body(statement.test)
            b.cbranch(self._bool(statement.condition), body, after)
            b.position_at_end(body)
            self._body(statement.body)
            b.branch(head)
        b.position_at_end(after)

    def _branch(self, statement: Branch) -> None:
        b = self.b
        then, otherwise, after = (b.append_basic_block(name) for name in ("then", "else", "after"))
        b.cbranch(self._bool(statement.condition), then, otherwise)
        for block, body in ((then, statement.then), (otherwise, statement.otherwise)):
            b.position_at_end(block)
            with self.exprs.scope():
                self._body(body)
            b.branch(after)
        b.position_at_end(after)

    def _bool(self, condition: Expr) -> ir.Value:
        return self.exprs.scalars.cast(self.exprs.fresh(condition), bool_).value

    def _bind(self, statement: Bind) -> None:
        b, ints = self.b, self.ints
        value = self.exprs.scalars.cast(self.exprs.fresh(statement.value), int64).value
        inside = b.icmp_signed(">=", value, i64(statement.low))
        if statement.high is not None:
            inside = b.and_(inside, b.icmp_signed("<=", value, ints.dim(statement.high)))
        self._require(inside, statement.number)
        ints.symbols[statement.symbol.name] = value

    def _check(self, statement: Check) -> None:
        self._require(self._bool(statement.value), statement.number)

    def _require(self, condition: ir.Value, number: int) -> None:
        """End here with a failure unless `condition`."""
        b = self.b
        failed, passed = b.append_basic_block("failed"), b.append_basic_block("passed")
        b.cbranch(condition, passed, failed)
        b.position_at_end(failed)
        b.store(ir.Constant(I32, number + 1), self.error)
        b.ret_void()
        b.position_at_end(passed)

    # -- reductions ----------------------------------------------------------------------------------------------------

    def _fold(self, fold: Fold) -> Lane:
        if fold.kind in _FLOAT_FOLDS and fold.local.dtype.is_floating_point:
            return self._float_fold(fold)
        reduce = Reduce(fold.local.name, fold.kind, fold.value, fold.local.dtype)
        running = Accumulation(self.exprs, [reduce], 1, entry=self.entry)

        def step() -> None:
            self.exprs.fresh(fold.value)
            running.update(0, self.exprs, _linear(fold))

        self._over(fold, step)
        return running.finish()[id(reduce)]

    def _float_fold(self, fold: Fold) -> Lane:
        """Steps that LLVM may spread over several accumulators; nothing else may change its rounding."""
        b, scalars, dtype = self.b, self.exprs.scalars, held(fold.local.dtype)
        kind = scalars.register_type(dtype)
        slot = stack(b, kind, block=self.entry)
        b.store(scalars.constant(neutral(fold.kind, dtype), dtype).value, slot)

        def step() -> None:
            value = scalars.cast(self.exprs.fresh(fold.value), dtype).value
            b.store(self._combined(fold.kind, b.load(slot, typ=kind), value), slot)

        self._over(fold, step)
        return scalars.cast(Lane(b.load(slot, typ=kind), dtype), fold.local.dtype)

    def _combined(self, kind: str, x: ir.Value, y: ir.Value) -> ir.Value:
        if kind in ("sum", "prod"):
            return (self.b.fadd if kind == "sum" else self.b.fmul)(x, y, flags=("reassoc",))
        name = f"llvm.{_FLOAT_FOLDS[kind]}.{'f64' if isinstance(x.type, ir.DoubleType) else 'f32'}"
        return self.b.call(declare(self.b, name, ir.FunctionType(x.type, [x.type] * 2)), [x, y])

    def _over(self, fold: Fold, step: Callable[[], None], depth: int = 0) -> None:
        if depth < len(fold.axes):
            axis = fold.axes[depth]
            with self.ints.loop(i64(0), self.ints.dim(axis.extent)) as i, self.exprs.scope():
                self.ints.symbols[axis.symbol.name] = i
                self._over(fold, step, depth + 1)
            return
        self._body(fold.body)
        step()


def _linear(fold: Fold) -> Dim:
    """The row-major position of a reduction's point."""
    position: Dim = 0
    for axis in fold.axes:
        position = position * axis.extent + axis.index
    return position
