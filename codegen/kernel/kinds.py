"""The kinds of kernel, and what is asked of any of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Union

from tjit.codegen.kernel.contractions import Attention, Contraction, ContractKernel
from tjit.codegen.kernel.exprs import Axis, Expr, Index, Load, Store, walk
from tjit.codegen.kernel.loops import LoopKernel, ScatterKernel, SortKernel
from tjit.codegen.kernel.nests import Bind, Counted, Fold, NestKernel, nest_statements, statement_exprs
from tjit.ir.dims import Dim, Symbol, symbols
from tjit.location import Location

__all__ = ["Divided", "Kernel", "failure_locations", "kernel_exprs", "kernel_symbols"]

Divided = Union[Contraction, SortKernel]  # the backend says into how many tasks
Kernel = Union[LoopKernel, Contraction, ScatterKernel, SortKernel, NestKernel]


def kernel_exprs(kernel: Kernel) -> Iterator[Expr]:
    """Every expression of a kernel and those under it, each once, operands first."""
    seen: set[int] = set()
    for root in _roots(kernel):
        yield from walk(root, seen)


def _roots(kernel: Kernel) -> Iterator[Expr]:
    if isinstance(kernel, LoopKernel):
        yield from (statement.value for loop in kernel.loops for statement in loop.body)
    elif isinstance(kernel, ContractKernel):
        yield from (kernel.a, kernel.b, *(store.value for store in kernel.epilogue))
    elif isinstance(kernel, Attention):
        yield from (*kernel.reads, *(store.value for store in kernel.stores))
    elif isinstance(kernel, ScatterKernel):
        yield from (kernel.value, *(value for _, value, _ in kernel.bindings))
    elif isinstance(kernel, SortKernel):
        yield from (kernel.value, *(store.value for store in kernel.stores))
    else:
        yield from (e for statement in nest_statements(kernel.body) for e in statement_exprs(statement))


@lru_cache(maxsize=256)  # layers that are alike share kernels, and each step is asked twice
def failure_locations(kernel: Kernel) -> tuple[Location | None, ...]:
    """Where a kernel's indices are written in the user's program: any of them may have been out of range."""
    picked = [e.location for e in kernel_exprs(kernel) if isinstance(e, Load) and e.bindings]
    own = [] if picked and not isinstance(kernel, ScatterKernel) else [kernel.location]
    return tuple(dict.fromkeys((*own, *picked)))


def kernel_symbols(kernel: Kernel) -> tuple[Symbol, ...]:
    """The program's symbols that a kernel uses, by name: what `args[0]` of its function holds."""
    uses = _Uses()
    uses.dims(kernel.tasks)
    if isinstance(kernel, NestKernel):
        uses.nest(kernel)
    elif isinstance(kernel, LoopKernel):
        uses.loops(kernel)
    elif isinstance(kernel, Attention):
        uses.all(kernel.axes, kernel.reads, kernel.stores)
    elif isinstance(kernel, ContractKernel):
        axes = (*kernel.batch, kernel.m, kernel.n, kernel.k)
        uses.all(axes, (kernel.a, kernel.b), kernel.epilogue)
    elif isinstance(kernel, SortKernel):
        uses.dims(kernel.count)
        uses.all((*kernel.parallel, kernel.row), (kernel.value,), kernel.stores)
    else:
        uses.dims(*kernel.index, *kernel.target.strides)
        uses.bindings(kernel.bindings)
        uses.all(kernel.axes, (kernel.value, *(value for _, value, _ in kernel.bindings)), ())
    return tuple(sorted(uses.found - uses.bound, key=lambda s: s.name))


class _Uses:
    """Collects the symbols of what a kernel is made of.

    Attributes:
        found: in any dim.
        bound: by the kernel itself, through axes and bindings.
    """

    def __init__(self) -> None:
        self.found: set[Symbol] = set()
        self.bound: set[Symbol] = set()

    def all(self, axes: Iterable[Axis], exprs: Iterable[Expr], stores: Iterable[Store]) -> None:
        for axis in axes:
            self.axis(axis)
        for expr in exprs:
            self.expr(expr)
        for store in stores:
            self.dims(*store.index, *store.buffer.strides)
            self.expr(store.value)

    def dims(self, *dims: Dim) -> None:
        for d in dims:
            self.found.update(symbols(d))

    def axis(self, axis: Axis) -> None:
        self.bound.add(axis.symbol)
        self.dims(axis.extent)

    def bindings(self, bindings: Iterable[tuple[Symbol, Expr, Dim]]) -> None:
        for symbol, _, extent in bindings:
            self.bound.add(symbol)
            self.dims(extent)

    def expr(self, root: Expr) -> None:
        for expr in walk(root):
            if isinstance(expr, Load):
                self.dims(*expr.index, *expr.buffer.strides, *(d for pair in expr.conditions for d in pair))
                self.bindings(expr.bindings)
            elif isinstance(expr, Index):
                self.dims(expr.value)

    def loops(self, kernel: LoopKernel) -> None:
        statements = [s for loop in kernel.loops for s in loop.body]
        stores = [s for s in statements if isinstance(s, Store)]
        axes = (*kernel.parallel, *(a for loop in kernel.loops for a in loop.axes))
        self.all(axes, (s.value for s in statements if not isinstance(s, Store)), stores)

    def nest(self, kernel: NestKernel) -> None:
        for statement in nest_statements(kernel.body):
            if isinstance(statement, Counted):
                self.axis(statement.axis)
                self.dims(statement.start, statement.end)
            elif isinstance(statement, Fold):
                self.all(statement.axes, (), ())
            elif isinstance(statement, Bind):
                self.bound.add(statement.symbol)
                self.dims(0 if statement.high is None else statement.high)
            elif isinstance(statement, Store):
                self.dims(*statement.index, *statement.buffer.strides)
            self.all((), statement_exprs(statement), ())
        self.dims(*(most for _, most in kernel.scratch))
