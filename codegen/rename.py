"""Rename a kernel's buffers by position."""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.kernel import (
    Assign,
    Attention,
    AttentionKernel,
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
    Reduced,
    Repeat,
    Scan,
    Scanned,
    SortKernel,
    Statement,
    Store,
    fold_up,
)

__all__ = ["rename_buffers"]


def rename_buffers(kernel: Kernel) -> Kernel:
    """The kernel with buffers named b0, b1, ... in the order of `kernel.buffers`."""
    base = {b.name: f"b{n}" for n, b in enumerate(dict.fromkeys(kernel.buffers))}
    return _Renamer(base).kernel(kernel)


class _Renamer:
    def __init__(self, names: dict[str, str]) -> None:
        self.names = names
        self.buffers: dict[Buffer, Buffer] = {}
        self.exprs: dict[int, Expr] = {}
        self.reduces: dict[int, Reduce] = {}
        self.scans: dict[int, Scan] = {}

    def buffer(self, b: Buffer) -> Buffer:
        if b not in self.buffers:
            self.buffers[b] = b if b.row else replace(b, name=self.names[b.name])
        return self.buffers[b]

    def expr(self, e: Expr) -> Expr:
        return fold_up(e, self.exprs, self.renamed)

    def renamed(self, e: Expr) -> Expr:
        """`e`, after what it is computed from."""
        if isinstance(e, Compute):
            return Compute(e.op, tuple(self.exprs[id(o)] for o in e.operands), e.attrs, e.dtype, e.location)
        if isinstance(e, Load):
            bindings = tuple((s, self.exprs[id(v)], n) for s, v, n in e.bindings)
            return Load(self.buffer(e.buffer), e.index, bindings, e.conditions, e.fill, e.location)
        if isinstance(e, Scanned):
            return Scanned(self.scans[id(e.scan)])
        return Reduced(self.reduces[id(e.reduce)]) if isinstance(e, Reduced) else e

    def store(self, s: Store) -> Store:
        return replace(s, buffer=self.buffer(s.buffer), value=self.expr(s.value))

    def statement(self, s: Statement) -> Statement:
        if isinstance(s, Store):
            return self.store(s)
        if isinstance(s, Scan):
            start = None if s.start is None else self.expr(s.start)
            self.scans[id(s)] = scan = replace(s, value=self.expr(s.value), start=start)
            return scan
        self.reduces[id(s)] = new = replace(s, value=self.expr(s.value))
        return new

    def nest(self, body: tuple[NestStatement, ...]) -> tuple[NestStatement, ...]:
        return tuple(map(self.nest_statement, body))

    def nest_statement(self, s: NestStatement) -> NestStatement:
        if isinstance(s, Store):
            return self.store(s)
        if isinstance(s, Assign):
            return replace(s, values=tuple(map(self.expr, s.values)))
        if isinstance(s, Counted):
            return replace(s, body=self.nest(s.body))
        if isinstance(s, Repeat):
            return replace(s, test=self.nest(s.test), condition=self.expr(s.condition), body=self.nest(s.body))
        if isinstance(s, Fold):
            return replace(s, body=self.nest(s.body), value=self.expr(s.value))
        if isinstance(s, Branch):
            then, otherwise = self.nest(s.then), self.nest(s.otherwise)
            return replace(s, condition=self.expr(s.condition), then=then, otherwise=otherwise)
        return replace(s, value=self.expr(s.value))

    def attention(self, kernel: Attention, buffers: tuple[Buffer, ...]) -> Attention:
        query, key, value, *_, score = map(self.expr, kernel.reads)
        reads = {"query": query, "key": key, "value": value, "score": score}
        stores = tuple(map(self.store, kernel.stores))
        if isinstance(kernel, AttentionKernel):
            log_sum = stores[1] if kernel.log_sum is not None else None
            return replace(kernel, buffers=buffers, **reads, output=stores[0], log_sum=log_sum)
        more = {"gradient": kernel.gradient, "log_sum": kernel.log_sum, "delta": kernel.delta}
        reads |= {name: self.expr(e) for name, e in more.items()}
        names = ("query_gradient", "key_gradient", "value_gradient")
        return replace(kernel, buffers=buffers, **reads, **dict(zip(names, stores, strict=True)))

    def kernel(self, kernel: Kernel) -> Kernel:
        buffers = tuple(map(self.buffer, kernel.buffers))
        if isinstance(kernel, Attention):
            return self.attention(kernel, buffers)
        outputs = tuple(map(self.buffer, kernel.outputs))
        if isinstance(kernel, LoopKernel):
            loops = tuple(replace(x, body=tuple(map(self.statement, x.body))) for x in kernel.loops)
            return replace(kernel, buffers=buffers, outputs=outputs, loops=loops)
        if isinstance(kernel, NestKernel):
            return replace(kernel, buffers=buffers, outputs=outputs, body=self.nest(kernel.body))
        if isinstance(kernel, ContractKernel):
            epilogue = tuple(self.statement(s) for s in kernel.epilogue)
            return replace(
                kernel,
                buffers=buffers,
                outputs=outputs,
                a=self.expr(kernel.a),
                b=self.expr(kernel.b),
                epilogue=epilogue,
            )
        if isinstance(kernel, SortKernel):
            stores = tuple(replace(s, buffer=self.buffer(s.buffer)) for s in kernel.stores)
            return replace(kernel, buffers=buffers, outputs=outputs, value=self.expr(kernel.value), stores=stores)
        bindings = tuple((s, self.expr(v), n) for s, v, n in kernel.bindings)
        return replace(
            kernel,
            buffers=buffers,
            outputs=outputs,
            target=self.buffer(kernel.target),
            bindings=bindings,
            value=self.expr(kernel.value),
        )
