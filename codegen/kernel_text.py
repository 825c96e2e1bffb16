"""Kernels as text: what dumps show, and what a kernel's identity is made of."""

from __future__ import annotations

from tjit.codegen.kernel import (
    Accumulator,
    Assign,
    Attention,
    AttentionGradientKernel,
    AttentionKernel,
    Bind,
    Branch,
    Buffer,
    Check,
    Compute,
    Const,
    ContractKernel,
    Counted,
    Expr,
    Fold,
    Index,
    Kernel,
    Let,
    Load,
    Local,
    LoopKernel,
    NestKernel,
    NestStatement,
    Reduce,
    Reduced,
    Repeat,
    Scan,
    Scanned,
    ScatterKernel,
    SortKernel,
    Store,
    walk,
)
from tjit.ir.dims import Dim
from tjit.location import Location

__all__ = ["print_kernel"]


def print_kernel(kernel: Kernel, *, name: str | None = None, locations: bool = True) -> str:
    """The text of a kernel; equal texts (under one name, without locations) are equal programs."""
    return _Printer(locations).kernel(kernel, name or kernel.name)


class _Printer:
    def __init__(self, locations: bool) -> None:
        self.locations = locations
        self.lines: list[str] = []
        self.names: dict[int, str] = {}
        self.seen: set[int] = set()

    def kernel(self, kernel: Kernel, name: str) -> str:
        outputs = set(map(id, kernel.outputs))
        listed = ", ".join(("out " if id(b) in outputs else "") + _buffer(b) for b in kernel.buffers)
        self.line(0, f"kernel {name}({listed})", kernel.location)
        if isinstance(kernel, LoopKernel):
            self.loops(kernel)
        elif isinstance(kernel, ContractKernel):
            self.contract(kernel)
        elif isinstance(kernel, AttentionKernel):
            self.attention(kernel)
        elif isinstance(kernel, AttentionGradientKernel):
            self.attention_gradient(kernel)
        elif isinstance(kernel, NestKernel):
            self.nest(kernel)
        elif isinstance(kernel, SortKernel):
            self.sort(kernel)
        else:
            self.scatter(kernel)
        return "\n".join(self.lines)

    def line(self, depth: int, text: str, location: Location | None = None) -> None:
        note = f"  # {location.short}" if self.locations and location is not None else ""
        self.lines.append("  " * depth + text + note)

    def loops(self, kernel: LoopKernel) -> None:
        axes = ", ".join(map(str, kernel.parallel)) or "1"
        vector = f" vector {kernel.vector.symbol}" if kernel.vector is not None else ""
        cross = f" across {kernel.cross.symbol}" if kernel.cross is not None else ""
        beyond = f" on over ({', '.join(a.symbol for a in kernel.beyond)})" if kernel.beyond else ""
        self.line(1, f"parallel ({axes}) tasks {kernel.tasks}{vector}{cross}{beyond}")
        for loop in kernel.loops:
            depth = 2
            if loop.axes:
                self.line(2, f"for ({', '.join(map(str, loop.axes))}){' backwards' if loop.reverse else ''}")
                depth = 3
            for statement in loop.body:
                if isinstance(statement, Reduce):
                    text = f"{statement.name}: {statement.dtype} = {statement.kind} {self.expr(statement.value, depth)}"
                    self.line(depth, text, statement.location)
                elif isinstance(statement, Scan):
                    self.scan(statement, depth)
                else:
                    self.store(statement, depth)

    def scan(self, scan: Scan, depth: int) -> None:
        start = "" if scan.start is None else f" from {self.expr(scan.start, depth)}"
        text = f"{scan.name}: {scan.dtype} = running {scan.kind}{start} of {self.expr(scan.value, depth)}"
        self.line(depth, text, scan.location)

    def contract(self, kernel: ContractKernel) -> None:
        axes = ", ".join(map(str, (*kernel.batch, kernel.m, kernel.n)))
        blocking = f" blocks ({kernel.blocking})" if str(kernel.blocking) else ""
        self.line(1, f"parallel ({axes}) tasks {kernel.tasks}{blocking}")
        a, b = self.expr(kernel.a, 2), self.expr(kernel.b, 2)
        self.line(2, f"acc: {kernel.accumulate} = sum over ({kernel.k}) of {a} * {b}")
        for store in kernel.epilogue:
            self.store(store, 2)

    def attention(self, kernel: AttentionKernel) -> None:
        self.weights(kernel)
        sums = f"sum over ({kernel.n})"
        blind = " or 0" if kernel.zero_blind else ""
        self.line(2, f"weight: {kernel.accumulate} = exp(score) / {sums} of exp(score){blind}")
        self.line(2, f"acc over ({kernel.v}) = {sums} of weight * {self.expr(kernel.value, 2)}")
        self.store(kernel.output, 2)
        if kernel.log_sum is not None:
            self.line(2, f"acc = log({sums} of exp(score))")
            self.store(kernel.log_sum, 2)

    def attention_gradient(self, kernel: AttentionGradientKernel) -> None:
        self.weights(kernel)
        g, value, delta = (self.expr(e, 2) for e in (kernel.gradient, kernel.value, kernel.delta))
        query, key = self.expr(kernel.query, 2), self.expr(kernel.key, 2)
        self.line(2, f"weight: {kernel.accumulate} = exp(score - {self.expr(kernel.log_sum, 2)})")
        self.line(2, f"ds = weight * (sum over ({kernel.v}) of {g} * {value} - {delta}) * {kernel.scale!r}")
        sums = f"sum over ({kernel.n}) of ds * {key}", f"sum over ({kernel.m}) of ds * {query}"
        for text, store in zip((*sums, f"sum over ({kernel.m}) of weight * {g}"), kernel.stores, strict=True):
            self.line(2, f"acc = {text}")
            self.store(store, 2)

    def weights(self, kernel: Attention) -> None:
        seen = f" to {kernel.m.index - kernel.first_key}" if kernel.causal else ""
        self.line(1, f"parallel ({', '.join(map(str, (*kernel.batch, kernel.m)))}) tasks {kernel.tasks}")
        a, b = self.expr(kernel.query, 2), self.expr(kernel.key, 2)
        self.line(2, f"for ({kernel.n}){seen}: acc: {kernel.accumulate} = sum over ({kernel.k}) of {a} * {b}")
        self.line(3, f"score = {self.expr(kernel.score, 3)}")

    def scatter(self, kernel: ScatterKernel) -> None:
        shared = f", {kernel.tasks} tasks over {kernel.shared.symbol}" if kernel.shared is not None else ""
        vector = f" vector {kernel.vector.symbol}" if kernel.vector is not None else ""
        self.line(1, f"for ({', '.join(map(str, kernel.axes)) or '1'}) in order{shared}{vector}")
        for symbol, value, extent in kernel.bindings:
            self.line(2, f"{symbol} = {self.expr(value, 2)} in {extent}")
        sign = "+=" if kernel.add else "="
        self.line(2, f"{kernel.target.name}[{_dims(kernel.index)}] {sign} {self.expr(kernel.value, 2)}")

    def sort(self, kernel: SortKernel) -> None:
        axes = ", ".join(map(str, kernel.parallel)) or "1"
        self.line(1, f"parallel ({axes}) tasks {kernel.tasks}")
        order = "from the greatest" if kernel.descending else "from the least"
        value = self.expr(kernel.value, 2)
        self.line(2, f"sort ({kernel.row}) by {value} {order}, the first {kernel.count}")
        for store in kernel.stores:
            self.store(store, 2)

    def nest(self, kernel: NestKernel) -> None:
        for buffer, most in kernel.scratch:
            self.line(1, f"scratch {_buffer(buffer)} of {most} at most")
        self.statements(kernel.body, 1)

    def statements(self, body: tuple[NestStatement, ...], depth: int) -> None:
        for statement in body:
            self.names.clear()  # what a statement computes is no other's
            self.seen.clear()
            if isinstance(statement, Counted):
                start = f" from {statement.start}" if statement.start != 0 else ""
                stop = f" to {statement.stop}" if statement.end != statement.axis.extent else ""
                self.line(depth, f"for ({statement.axis}){start}{stop}")
                self.statements(statement.body, depth + 1)
            elif isinstance(statement, Repeat):
                self.line(depth, "loop")
                self.statements(statement.test, depth + 1)
                self.line(depth + 1, f"while {self.expr(statement.condition, depth + 1)}")
                self.statements(statement.body, depth + 1)
            elif isinstance(statement, Branch):
                self.line(depth, f"if {self.expr(statement.condition, depth)}")
                self.statements(statement.then, depth + 1)
                if statement.otherwise:
                    self.line(depth, "else")
                    self.statements(statement.otherwise, depth + 1)
            else:
                self.simple(statement, depth)

    def simple(self, statement: Let | Assign | Bind | Check | Fold | Store, depth: int) -> None:
        if isinstance(statement, Store):
            self.store(statement, depth)
        elif isinstance(statement, Assign):
            names = ", ".join(x.name for x in statement.locals)
            self.line(depth, f"{names} = {', '.join(self.expr(v, depth) for v in statement.values)}")
        elif isinstance(statement, Let):
            local = statement.local
            self.line(depth, f"{local.name}: {local.dtype} = {self.top(statement.value, depth)}", statement.location)
        elif isinstance(statement, Bind):
            high = "" if statement.high is None else f" <= {statement.high}"
            text = f"{statement.symbol} = {self.expr(statement.value, depth)}"
            bounds = f"{statement.low} <= {statement.symbol}{high}"
            self.line(depth, f"{text}, check {statement.number}: {bounds}", statement.location)
        elif isinstance(statement, Check):
            self.line(depth, f"check {statement.number}: {self.expr(statement.value, depth)}", statement.location)
        else:
            local, axes = statement.local, ", ".join(map(str, statement.axes))
            self.line(depth, f"{local.name}: {local.dtype} = {statement.kind} over ({axes})", statement.location)
            self.statements(statement.body, depth + 1)
            self.line(depth + 1, f"of {self.expr(statement.value, depth + 1)}")

    def top(self, expr: Expr, depth: int) -> str:
        """`expr`, a computation without a name of its own."""
        return self.compute(expr, depth) if isinstance(expr, Compute) else self.expr(expr, depth)

    def compute(self, expr: Compute, depth: int) -> str:
        operands = [self.expr(o, depth) for o in expr.operands]
        attrs = [f"{k}={v}" for k, v in expr.attrs]
        return f"{expr.op.name}({', '.join((*operands, *attrs))})"

    def store(self, store: Store, depth: int) -> None:
        text = f"{store.buffer.name}[{_dims(store.index)}] = {self.expr(store.value, depth)}"
        self.line(depth, f"{text} past the caches" if store.past_caches else text, store.location)

    def expr(self, expr: Expr, depth: int) -> str:
        """A name for `expr`; computations become lines of their own, once."""
        if isinstance(expr, Compute):
            for e in walk(expr, self.seen):
                if isinstance(e, Compute):
                    self.named(e, depth)
            return self.names[id(expr)]
        return self.leaf(expr, depth)

    def named(self, expr: Compute, depth: int) -> None:
        text = self.compute(expr, depth)
        name = self.names[id(expr)] = f"t{len(self.names)}"
        self.line(depth, f"{name}: {expr.dtype} = {text}", expr.location)

    def leaf(self, expr: Expr, depth: int) -> str:
        if isinstance(expr, Const):
            return f"{expr.value!r}:{expr.dtype}"
        if isinstance(expr, Index):
            return f"index({expr.value}):{expr.dtype}"
        if isinstance(expr, Reduced):
            return expr.reduce.name
        if isinstance(expr, Scanned):
            return expr.scan.name
        if isinstance(expr, Local):
            return expr.name
        if isinstance(expr, Accumulator):
            return f"acc:{expr.dtype}"
        assert isinstance(expr, Load)
        text = f"{expr.buffer.name}[{_dims(expr.index)}]"
        if expr.bindings:
            text += " at " + ", ".join(f"{s}={self.expr(v, depth)} in {n}" for s, v, n in expr.bindings)
        if expr.conditions:
            text += " if " + " and ".join(f"0 <= {e} < {n}" for e, n in expr.conditions) + f" else {expr.fill!r}"
        return f"({text})" if expr.bindings or expr.conditions else text


def _dims(dims: tuple[Dim, ...]) -> str:
    return ", ".join(map(str, dims))


def _buffer(buffer: Buffer) -> str:
    row = "row " if buffer.row else ""
    return f"{row}{buffer} strides ({_dims(buffer.strides)})"
