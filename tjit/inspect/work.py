"""How much a kernel does: bytes and scalar operations, counted from its loops."""

from __future__ import annotations

from collections.abc import Iterable

from tjit.codegen.kernel import (
    Axis,
    Branch,
    Compute,
    ContractKernel,
    Counted,
    Expr,
    Fold,
    Kernel,
    LoopKernel,
    NestKernel,
    NestStatement,
    Reduce,
    Repeat,
    ScatterKernel,
    kernel_symbols,
    statement_exprs,
    walk,
)
from tjit.codegen.steps import Step
from tjit.ir.dims import Dim, substitute, symbols

__all__ = ["kernel_bytes", "kernel_operations"]


def kernel_bytes(step: Step) -> Dim:
    """Bytes of the buffers that a step touches, each counted once."""
    total: Dim = 0
    for placed in step.arguments:
        total = total + placed.type.nbytes
    return total


def kernel_operations(kernel: Kernel) -> Dim:
    """Scalar operations: each elementwise op and each step of a reduction is one, a multiply-add two."""
    if isinstance(kernel, ContractKernel):
        return _contract_operations(kernel)
    if isinstance(kernel, ScatterKernel):
        return _points(kernel.axes) * (_computes([kernel.value]) + int(kernel.add))
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
