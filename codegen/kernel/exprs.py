"""What kernels compute: expressions over axes, and the statements that keep or store their values."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, Union

from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, Symbol, symbols
from tjit.ir.op import OPS, Op
from tjit.location import Location

__all__ = [
    "Accumulator",
    "Axis",
    "Buffer",
    "Compute",
    "Const",
    "Expr",
    "Index",
    "Load",
    "Local",
    "Reduce",
    "Reduced",
    "Scan",
    "Scanned",
    "Statement",
    "Store",
    "converted",
    "fold_up",
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
        location: of what is in error where a value of `bindings` is.
    """

    buffer: Buffer
    index: tuple[Dim, ...]
    bindings: tuple[tuple[Symbol, Expr, Dim], ...] = ()
    conditions: tuple[tuple[Dim, Dim], ...] = ()
    fill: bool | int | float = 0
    location: Location | None = None

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
