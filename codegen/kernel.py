"""The kernel IR: one loop program. The scheduler writes it, the backends spell it, and it prints as text.

    kernel softmax(%x: f32[3000, 1000], out b0: f32[3000, 1000])  # model.py:7
      parallel (p0: 3000)
        for (r0: 1000) vector r0
          m = max %x[p0, r0]
        for (r0: 1000) vector r0
          t0: f32 = exp(sub(%x[p0, r0], m))
          s = sum t0
          row0[r0] = t0
        for (r0: 1000) vector r0
          b0[p0, r0] = div(row0[r0], s)

Axes are symbols of `ir.dims`, so an index is a `Dim`. The loops of a kernel run in order for each parallel point.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, Union

from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, Symbol, symbols
from tjit.ir.graph import Node
from tjit.ir.op import OPS, Op
from tjit.location import Location

__all__ = [
    "Accumulator",
    "Assign",
    "Attention",
    "AttentionGradientKernel",
    "AttentionKernel",
    "Axis",
    "Bind",
    "Blocking",
    "Branch",
    "Buffer",
    "Check",
    "Compute",
    "Const",
    "ContractKernel",
    "Contraction",
    "Counted",
    "Divided",
    "Expr",
    "Fold",
    "Index",
    "Kernel",
    "Let",
    "Load",
    "Local",
    "Loop",
    "LoopKernel",
    "NestKernel",
    "NestStatement",
    "Reduce",
    "Reduced",
    "Repeat",
    "Scan",
    "Scanned",
    "ScatterKernel",
    "SortKernel",
    "Statement",
    "Store",
    "converted",
    "fold_up",
    "kernel_symbols",
    "nest_statements",
    "statement_exprs",
    "varies",
    "walk",
]


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Axis:
    """A loop: its symbol and its extent (an int, or an expression of the program's symbols)."""

    symbol: Symbol
    extent: Dim

    @property
    def index(self) -> Dim:
        return self.symbol.dim

    def __str__(self) -> str:
        return f"{self.symbol}: {self.extent}"


@dataclass(frozen=True, eq=False, slots=True)
class Buffer:
    """Memory that a kernel reads or writes: element (i, j, ...) lies at i*strides[0] + j*strides[1] + ... elements.

    `row` buffers are private to one parallel point: scratch that stays in the first-level cache.
    """

    name: str
    dtype: DType
    shape: tuple[Dim, ...]
    strides: tuple[Dim, ...]
    row: bool = False

    def offset(self, index: tuple[Dim, ...]) -> Dim:
        """The linear offset, in elements, of an index."""
        total: Dim = 0
        for i, stride in zip(index, self.strides, strict=True):
            total = total + i * stride
        return total

    def __str__(self) -> str:
        return f"{self.name}: {self.dtype}[{', '.join(map(str, self.shape))}]"


@dataclass(frozen=True, eq=False, slots=True)
class Load:
    """An element of a buffer.

    Attributes:
        index: one expression per dim of the buffer, over axes, program symbols and the symbols of `bindings`.
        bindings: symbols that stand for integers computed per element (gather): symbol, expression, extent. A value
            outside of [0, extent) is reported as an error, and the access is moved inside.
        conditions: pairs (e, n): unless 0 <= e < n for all, the element is `fill` and memory is not touched.
    """

    buffer: Buffer
    index: tuple[Dim, ...]
    bindings: tuple[tuple[Symbol, Expr, Dim], ...] = ()
    conditions: tuple[tuple[Dim, Dim], ...] = ()
    fill: bool | int | float = 0

    @property
    def dtype(self) -> DType:
        return self.buffer.dtype


@dataclass(frozen=True, eq=False, slots=True)
class Const:
    value: bool | int | float
    dtype: DType


@dataclass(frozen=True, eq=False, slots=True)
class Index:
    """An index expression as a number."""

    value: Dim
    dtype: DType


@dataclass(frozen=True, eq=False, slots=True)
class Compute:
    """An elementwise op on expressions; `op.scalar` is its body. Attrs are the node's. `dtype` is the result's."""

    op: Op
    operands: tuple[Expr, ...]
    attrs: tuple[tuple[str, Any], ...]
    dtype: DType
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Reduced:
    """The result of an earlier `Reduce` of this kernel, at the same parallel point."""

    reduce: Reduce

    @property
    def dtype(self) -> DType:
        return self.reduce.dtype


@dataclass(frozen=True, eq=False, slots=True)
class Scanned:
    """What a `Scan` before it in the same loop has come to, at the loop's present point."""

    scan: Scan

    @property
    def dtype(self) -> DType:
        return self.scan.dtype


@dataclass(frozen=True, eq=False, slots=True)
class Accumulator:
    """In a contraction's epilogue: the finished sum at (batch, m, n)."""

    dtype: DType


@dataclass(frozen=True, eq=False, slots=True)
class Local:
    """A scalar of a nest, in a register: what the latest `Let`, `Assign` or `Fold` made it."""

    name: str
    dtype: DType


Expr = Union[Load, Const, Index, Compute, Reduced, Scanned, Accumulator, Local]


@dataclass(frozen=True, eq=False, slots=True)
class Reduce:
    """name = kind over the enclosing loop's axes of value.

    kind: "sum", "prod", "max", "min", "any", "all", "argmax", "argmin", "logaddexp". Max and min propagate nan. The arg
    kinds give the i64 position of the first extreme (a nan is extreme) in row-major order of the loop's axes.
    """

    name: str
    kind: str
    value: Expr
    dtype: DType
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Scan:
    """The running kind ("sum", "prod", "max", "min", "logaddexp") of value along the loop's one axis, in its direction.

    Attributes:
        dtype: of the results. Sums and products of f16, bf16 and f32 run in something wider (`running_dtype`).
        start: what comes before the first point (a `Reduced`, of the running dtype); None: nothing.
    """

    name: str
    kind: str
    value: Expr
    dtype: DType
    start: Expr | None = None
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Store:
    """buffer[index] = value, rounded to the buffer's dtype.

    Attributes:
        past_caches: the buffer is larger than the caches: it would drive out what is in them, and be read in first.
    """

    buffer: Buffer
    index: tuple[Dim, ...]
    value: Expr
    location: Location | None = None
    past_caches: bool = False


Statement = Union[Reduce, Scan, Store]


@dataclass(frozen=True, eq=False, slots=True)
class Loop:
    """A loop nest over `axes` (outermost first) around statements; no axes: once per parallel point.

    Attributes:
        reverse: from the last point to the first, as its scans run. Other statements do not care.
    """

    axes: tuple[Axis, ...]
    body: tuple[Statement, ...]
    reverse: bool = False


@dataclass(frozen=True, eq=False, slots=True)
class LoopKernel:
    """Parallel axes around loops.

    Attributes:
        vector: the axis whose consecutive values are the lanes. An axis of the loops (lanes are then reduced across at
            the end of a reduction), or the last parallel axis (lanes are then independent points); None: scalar.
        tasks: number of equal ranges the linear parallel space is cut into, at most; 1: not worth a thread.
            Depends on shapes only.
        cross: where accesses that step over elements along `vector` are contiguous: they pass through transposed
            tiles. The last parallel axis but one, or the only axis of all loops, which is short. None: there are none.
        beyond: the axes that the lanes run on over where those of `vector` are too few, from the inside out: the last
            parallel axes but one (`run_on.running_on`).
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    parallel: tuple[Axis, ...]
    loops: tuple[Loop, ...]
    vector: Axis | None
    tasks: Dim = 1
    location: Location | None = None
    cross: Axis | None = None
    beyond: tuple[Axis, ...] = ()


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a contraction is cut, where that was measured; None: as the backend reckons.

    Attributes:
        k, m, n: about how many steps, rows and columns a block has.
        packs_a, packs_b: whether the operand is packed, where it could be read in place.
    """

    k: int | None = None
    m: int | None = None
    n: int | None = None
    packs_a: bool | None = None
    packs_b: bool | None = None

    def __str__(self) -> str:
        blocks = [f"{name} {size}" for name, size in (("k", self.k), ("m", self.m), ("n", self.n)) if size]
        packs = [(name, on) for name, on in (("a", self.packs_a), ("b", self.packs_b)) if on is not None]
        return ", ".join([*blocks, *(f"{name} {'packed' if on else 'in place'}" for name, on in packs)])


@dataclass(frozen=True, eq=False, slots=True)
class ContractKernel:
    """acc[batch, m, n] = sum over k of a * b, then the epilogue's stores at each (batch, m, n).

    Attributes:
        a: expression over batch, m and k axes; usually a `Load`, any prologue else.
        b: expression over batch, k and n axes.
        accumulate: dtype of the sum: f32 for f16, bf16 and f32; f64; i32 for ints up to it; i64.
        epilogue: stores over batch, m and n; their expressions read `Accumulator` and may load other buffers.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    a: Expr
    b: Expr
    accumulate: DType
    epilogue: tuple[Store, ...]
    tasks: Dim = 1
    location: Location | None = None
    blocking: Blocking = Blocking()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Attention:
    """What attention and its gradients share.

    Attributes:
        query, key, value: expressions over batch and (m, k), (n, k), (n, v).
        score: expression over batch, m and n, that reads `Accumulator`; -inf where n is not seen.
        causal: n + first_key > m is not seen.
        first_key: what stands before the kernel's own keys, over batch.
    """

    name: str
    buffers: tuple[Buffer, ...] = ()
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    v: Axis
    query: Expr
    key: Expr
    value: Expr
    score: Expr
    causal: bool
    first_key: Dim = 0
    accumulate: DType
    tasks: Dim = 1
    location: Location | None = None

    @property
    def stores(self) -> tuple[Store, ...]:
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        return tuple(dict.fromkeys(store.buffer for store in self.stores))

    @property
    def reads(self) -> tuple[Expr, ...]:
        raise NotImplementedError

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (*self.batch, self.m, self.n, self.k, self.v)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AttentionKernel(_Attention):
    """Weights over n for each (batch, m), and the sums over n of weight * value; no weights are in memory.

    acc = sum over k of query * key; weight = exp(score) / sum over n of exp(score).

    Attributes:
        zero_blind: a row that sees nothing is zero, and its log-sum-exp inf; else they are what arithmetic gives.
        output: at (batch, m, v), of `Accumulator`.
        log_sum: the log of the sum over n of exp(score), at (batch, m); None where nothing reads it.
    """

    zero_blind: bool
    output: Store
    log_sum: Store | None

    @property
    def stores(self) -> tuple[Store, ...]:
        return (self.output,) if self.log_sum is None else (self.output, self.log_sum)

    @property
    def reads(self) -> tuple[Expr, ...]:
        return self.query, self.key, self.value, self.score


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AttentionGradientKernel(_Attention):
    """The cotangents of an attention's query, key and value, from that of its output; the weights are computed again.

    weight = exp(score - log_sum); ds = weight * (sum over v of gradient * value - delta) * scale;
    of query: the sum over n of ds * key; of key: that over m of ds * query; of value: that over m of weight * gradient.

    Attributes:
        gradient: of the output: expression over batch, m and v.
        log_sum, delta: expressions over batch and m.
        scale: the derivative of the score by acc, where it is not -inf.
        query_gradient, key_gradient, value_gradient: at (batch, m, k), (batch, n, k), (batch, n, v), of `Accumulator`.
    """

    gradient: Expr
    log_sum: Expr
    delta: Expr
    scale: float
    query_gradient: Store
    key_gradient: Store
    value_gradient: Store

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.query_gradient, self.key_gradient, self.value_gradient

    @property
    def reads(self) -> tuple[Expr, ...]:
        return self.query, self.key, self.value, self.gradient, self.log_sum, self.delta, self.score


@dataclass(frozen=True, eq=False, slots=True)
class ScatterKernel:
    """target[index] += value (or = value, where `add` is False) for every point of `axes`, in row-major order.

    Several points may meet in one element, and the order fixes the result's bits. `index` may use symbols of `bindings`
    as in `Load`.

    Attributes:
        shared: an axis whose points are different elements: each task does all points of its range of it.
        vector: an axis whose points are neighbours in the target, with one value of each binding; the innermost.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    axes: tuple[Axis, ...]
    target: Buffer
    index: tuple[Dim, ...]
    bindings: tuple[tuple[Symbol, Expr, Dim], ...]
    value: Expr
    add: bool = True
    location: Location | None = None
    shared: Axis | None = None
    vector: Axis | None = None
    tasks: Dim = 1


@dataclass(frozen=True, eq=False, slots=True)
class SortKernel:
    """The first `count` elements of every row in order, and the places in the row that they come from.

    Equal elements keep their order, and nan is the greatest.

    Attributes:
        row: the axis of a row's elements; a row has fewer than 2**32.
        value: an element, over the parallel axes and the row's.
        element: what stands for the element that comes at a place of the order, in `stores`.
        place: what stands for where it was.
        stores: of these two, over the parallel axes and the row's, whose value is the place in the order.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    parallel: tuple[Axis, ...]
    row: Axis
    value: Expr
    descending: bool
    count: Dim
    element: Local
    place: Local
    stores: tuple[Store, ...]
    tasks: Dim = 1
    location: Location | None = None

    @property
    def placed(self) -> bool:
        """Whether places are stored."""
        return any(s.value is self.place for s in self.stores)


@dataclass(frozen=True, eq=False, slots=True)
class Let:
    """local = value, the only time in a run of the statements around it."""

    local: Local
    value: Expr
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Assign:
    """locals = values, all at once: the values read the locals as they were. The locals are variables."""

    locals: tuple[Local, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Bind:
    """symbol = value, an integer that the rest of the region may index with.

    Unless low <= value <= high (high None: unbounded), the kernel reports failure `number` + 1 and ends.
    """

    symbol: Symbol
    value: Expr
    low: int
    high: Dim | None
    number: int
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Check:
    """Unless the bool `value` is true, the kernel reports failure `number` + 1 and ends."""

    value: Expr
    number: int
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """local = kind (as in `Reduce`) over `axes` of value, with `body` run at each point before it.

    Sums may be added in another, fixed order.
    """

    local: Local
    kind: str
    axes: tuple[Axis, ...]
    body: tuple[NestStatement, ...]
    value: Expr
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Counted:
    """A loop over an axis, or over its part from `start` up to, but not with, `stop` (None: to its end)."""

    axis: Axis
    body: tuple[NestStatement, ...]
    start: Dim = 0
    stop: Dim | None = None

    @property
    def end(self) -> Dim:
        return self.axis.extent if self.stop is None else self.stop


@dataclass(frozen=True, eq=False, slots=True)
class Repeat:
    """test, then out of the loop unless `condition`, then body, and again."""

    test: tuple[NestStatement, ...]
    condition: Expr
    body: tuple[NestStatement, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    condition: Expr
    then: tuple[NestStatement, ...]
    otherwise: tuple[NestStatement, ...]


NestStatement = Union[Let, Assign, Bind, Check, Fold, Store, Counted, Repeat, Branch]


@dataclass(frozen=True, eq=False, slots=True)
class NestKernel:
    """Native loops and branches around scalars and single elements, in order, on one thread.

    Attributes:
        scratch: buffers in the scratch memory, and for each an upper bound of its elements by the kernel's symbols.
        checks: the nodes (bind, check, gather, take) whose failure is number i + 1.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    body: tuple[NestStatement, ...]
    scratch: tuple[tuple[Buffer, Dim], ...] = ()
    checks: tuple[Node, ...] = ()
    tasks: Dim = 1
    location: Location | None = None


Attention = Union[AttentionKernel, AttentionGradientKernel]
Contraction = Union[ContractKernel, Attention]
Divided = Union[Contraction, SortKernel]  # the backend says into how many tasks
Kernel = Union[LoopKernel, Contraction, ScatterKernel, SortKernel, NestKernel]


def nest_statements(body: tuple[NestStatement, ...]) -> Iterator[NestStatement]:
    """Every statement of a nest, those inside of others after them."""
    for statement in body:
        yield statement
        if isinstance(statement, (Counted, Fold)):
            yield from nest_statements(statement.body)
        elif isinstance(statement, Repeat):
            yield from nest_statements(statement.test)
            yield from nest_statements(statement.body)
        elif isinstance(statement, Branch):
            yield from nest_statements(statement.then)
            yield from nest_statements(statement.otherwise)


def statement_exprs(statement: NestStatement) -> tuple[Expr, ...]:
    """The expressions that a statement itself holds."""
    if isinstance(statement, Assign):
        return statement.values
    if isinstance(statement, (Repeat, Branch)):
        return (statement.condition,)
    return () if isinstance(statement, Counted) else (statement.value,)


def walk(expr: Expr, seen: set[int] | None = None) -> list[Expr]:
    """Every expression under `expr` that is not `seen` (by id), operands first, each once."""
    seen = set() if seen is None else seen
    found: list[Expr] = []
    entered: set[int] = set()
    stack = [expr]  # not recursion: an unrolled program is thousands of operations deep
    while stack:
        top = stack.pop()
        key = id(top)
        if key in seen:
            continue
        if key not in entered and (parts := _parts(top)):
            entered.add(key)
            stack.append(top)
            stack.extend(reversed(parts))
        else:
            seen.add(key)
            found.append(top)
    return found


def fold_up(expr: Expr, memo: dict[int, T], compute: Callable[[Expr], T]) -> T:
    """`compute(expr)`, after that of everything under it, each once. `memo` holds the results by id."""
    stack = [expr]
    while stack:
        top = stack[-1]
        waiting = [part for part in _parts(top) if id(part) not in memo]
        if waiting:
            stack += reversed(waiting)
            continue
        stack.pop()
        if id(top) not in memo:
            memo[id(top)] = compute(top)
    return memo[id(expr)]


def converted(expr: Expr, dtype: DType, location: Location | None) -> Expr:
    """`expr` as a number of `dtype`."""
    return expr if expr.dtype is dtype else Compute(OPS["cast"], (expr,), (("dtype", dtype),), dtype, location)


def varies(expr: Expr, over: frozenset[Symbol], memo: dict[int, bool], reduced: bool = False) -> bool:
    """Whether `expr` depends on one of the symbols `over`. `reduced`: whether results of reductions do."""

    def depends(e: Expr) -> bool:
        if isinstance(e, Compute):
            return any(memo[id(o)] for o in e.operands)
        if isinstance(e, Load):
            dims = (*e.index, *(d for pair in e.conditions for d in pair))
            return any(s in over for d in dims for s in symbols(d)) or any(memo[id(v)] for _, v, _ in e.bindings)
        if isinstance(e, Index):
            return any(s in over for s in symbols(e.value))
        return isinstance(e, (Accumulator, Scanned)) or (reduced and isinstance(e, Reduced))

    known = memo.get(id(expr))
    return fold_up(expr, memo, depends) if known is None else known


def _parts(expr: Expr) -> tuple[Expr, ...]:
    """What `expr` is computed from."""
    if isinstance(expr, Compute):
        return expr.operands
    return tuple(value for _, value, _ in expr.bindings) if isinstance(expr, Load) and expr.bindings else ()


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
