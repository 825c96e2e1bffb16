"""How much a kernel does: bytes and scalar operations, counted from its loops."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tjit.codegen.kernel import (
    Attention,
    AttentionKernel,
    Axis,
    Branch,
    Buffer,
    Compute,
    ContractKernel,
    Counted,
    Expr,
    Fold,
    Kernel,
    Load,
    LoopKernel,
    NestKernel,
    NestStatement,
    Reduce,
    Repeat,
    ScatterKernel,
    SortKernel,
    Store,
    kernel_symbols,
    statement_exprs,
    walk,
)
from tjit.codegen.steps import Schedule, Step, kernel_steps
from tjit.ir.dims import Dim, minimum, substitute, symbols
from tjit.recording import Work

__all__ = ["kernel_bytes", "kernel_operations", "kernel_works"]


def kernel_works(plan: Schedule) -> tuple[Work, ...]:
    """What each kernel step of a schedule does, in the order in which the steps print."""
    return tuple(
        Work(step.kernel.name, kernel_bytes(step), kernel_operations(step.kernel), _itemsize(step), step.location)
        for step in kernel_steps(plan)
    )


def _itemsize(step: Step) -> int:
    """Of the widest floats that a step touches; f16 and bf16 are computed with as f32."""
    return max([4, *(p.type.dtype.itemsize for p in step.arguments if p.type.dtype.is_floating_point)])


def kernel_bytes(step: Step) -> Dim:
    """Bytes of the buffers that a step touches, each counted once, and no more of one than its loops ask for."""
    asked = _accesses(step.kernel)
    total: Dim = 0
    for buffer, placed in zip(step.kernel.buffers, step.arguments, strict=True):
        whole, most = placed.type.nbytes, asked.get(id(buffer))
        total = total + (whole if most is None else minimum(whole, most * placed.type.dtype.itemsize))
    return total


def _accesses(kernel: Kernel) -> dict[int, Dim]:
    """How many elements a kernel reads or writes of each buffer (by id), one at each point of the loops around."""
    found: dict[int, Dim] = {}
    for points, exprs, stores in _regions(kernel):
        seen: set[int] = set()
        loads = [e.buffer for expr in exprs for e in walk(expr, seen) if isinstance(e, Load)]
        for buffer in (*loads, *stores):
            found[id(buffer)] = found.get(id(buffer), 0) + points
    return found


def _regions(kernel: Kernel) -> Iterator[tuple[Dim, list[Expr], list[Buffer]]]:
    """For each loop: its points, what it computes, and where it stores. None of a nest: it jumps about."""
    if isinstance(kernel, ContractKernel):
        batch = _points(kernel.batch)
        yield batch * _points((kernel.m, kernel.k)), [kernel.a], []
        yield batch * _points((kernel.k, kernel.n)), [kernel.b], []
        values, targets = [s.value for s in kernel.epilogue], [s.buffer for s in kernel.epilogue]
        yield batch * _points((kernel.m, kernel.n)), values, targets
    elif isinstance(kernel, ScatterKernel):
        yield _points(kernel.axes), [kernel.value, *(e for _, e, _ in kernel.bindings)], [kernel.target]
    elif isinstance(kernel, LoopKernel):
        for loop in kernel.loops:
            values = [s.value for s in loop.body]
            stores = [s.buffer for s in loop.body if isinstance(s, Store)]
            yield _points(kernel.parallel) * _points(loop.axes), values, stores


def kernel_operations(kernel: Kernel) -> Dim:
    """Scalar operations: each elementwise op and each step of a reduction is one, a multiply-add two."""
    if isinstance(kernel, ContractKernel):
        return _contract_operations(kernel)
    if isinstance(kernel, Attention):
        return _attention_operations(kernel)
    if isinstance(kernel, ScatterKernel):
        return _points(kernel.axes) * (_computes([kernel.value]) + int(kernel.add))
    if isinstance(kernel, SortKernel):
        digits = kernel.value.dtype.itemsize
        return _points((*kernel.parallel, kernel.row)) * (_computes([kernel.value]) + digits)
    if isinstance(kernel, NestKernel):
        return _nest_operations(kernel)
    return _loop_operations(kernel)


def _nest_operations(kernel: NestKernel) -> Dim:
    """Counters in extents count as half of their range, a `while` as one run, a branch as both sides."""
    total = _body_operations(kernel.body)
    known = kernel_symbols(kernel)
    return substitute(total, {s: s.minimum for s in symbols(total) if s not in known})


def _body_operations(body: tuple[NestStatement, ...]) -> Dim:
    total: Dim = 0
    for statement in body:
        own = _computes(statement_exprs(statement)) + int(isinstance(statement, Fold))
        if isinstance(statement, (Counted, Fold)):
            total = total + _loop_body_operations(statement, own + _body_operations(statement.body))
        elif isinstance(statement, Repeat):
            total = total + own + _body_operations(statement.test) + _body_operations(statement.body)
        elif isinstance(statement, Branch):
            total = total + own + _body_operations(statement.then) + _body_operations(statement.otherwise)
        else:
            total = total + own
    return total


def _loop_body_operations(loop: Counted | Fold, inner: Dim) -> Dim:
    if isinstance(loop, Counted):
        return (loop.end - loop.start) * substitute(inner, {loop.axis.symbol: loop.axis.extent // 2})
    for axis in loop.axes:
        inner = axis.extent * substitute(inner, {axis.symbol: axis.extent // 2})
    return inner


def _contract_operations(kernel: ContractKernel) -> Dim:
    outer = _points((*kernel.batch, kernel.m, kernel.n))
    inner = outer * _points((kernel.k,)) * (2 + _computes([kernel.a, kernel.b]))
    return inner + outer * _computes([store.value for store in kernel.epilogue])


def _attention_operations(kernel: Attention) -> Dim:
    """A causal one sees half of the positions."""
    seen = _points((*kernel.batch, kernel.m, kernel.n)) // (2 if kernel.causal else 1)
    k, v = kernel.k.extent, kernel.v.extent
    products = k + v if isinstance(kernel, AttentionKernel) else 3 * k + 2 * v
    weights = 4 if isinstance(kernel, AttentionKernel) else 5
    return seen * (2 * products + _computes([kernel.score]) + weights)


def _loop_operations(kernel: LoopKernel) -> Dim:
    total: Dim = 0
    for loop in kernel.loops:
        reductions = sum(isinstance(s, Reduce) for s in loop.body)
        total = total + _points(loop.axes) * (_computes([s.value for s in loop.body]) + reductions)
    return _points(kernel.parallel) * total


def _points(axes: Iterable[Axis]) -> Dim:
    total: Dim = 1
    for axis in axes:
        total = total * axis.extent
    return total


def _computes(roots: Iterable[Expr]) -> int:
    seen: set[int] = set()
    return sum(isinstance(expr, Compute) for root in roots for expr in walk(root, seen))
