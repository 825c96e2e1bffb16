"""How an attention is cut: blocks of queries and of keys, tasks and scratch, as functions of shapes only."""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache

from tjit.codegen.grids import GridAxis, whole_pieces
from tjit.codegen.kernel import Attention, AttentionGradientKernel, Axis, Buffer, Expr, Load
from tjit.codegen.llvm.contract_blocks import round_up
from tjit.codegen.llvm.target import Target
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, coefficient, maximum, minimum, product, substitute, symbols

__all__ = ["AttentionPlan", "Matrix", "plan_attention"]

_QUERIES = 64  # of a block: their scores with a block of keys stay in the second-level cache
_KEYS = 384
_TASK_FLOPS = 1 << 19
_MOST_TASKS = 64


@dataclass(frozen=True, slots=True)
class Matrix:
    """An operand as rows of contiguous elements of the sums' dtype.

    Attributes:
        row, column: its axes.
        buffer, base, stride: where it lies in memory, by the batch and the program's symbols; None: it is evaluated
            into scratch memory, with lines `stride` apart, up to `rows` of them.
    """

    expr: Expr
    row: Axis
    column: Axis
    buffer: Buffer | None
    base: Dim
    stride: Dim
    rows: Dim


@dataclass(frozen=True, slots=True)
class AttentionPlan:
    """The decisions for one kernel on one target.

    Attributes:
        rows, columns: of the register tile; columns are two vectors.
        queries, keys: of a block.
        query, key, value, gradient: the operands; `query` and `gradient` have a block of rows.
        cells: what tasks are ranges of: blocks of queries, or for gradients whole batches.
    """

    kernel: Attention
    target: Target
    rows: int
    lanes: int
    queries: int
    keys: int
    query: Matrix
    key: Matrix
    value: Matrix
    gradient: Matrix | None

    @property
    def columns(self) -> int:
        return 2 * self.lanes

    @property
    def state_line(self) -> int:
        """Room for one number for each query of a block."""
        return -(-self.queries // self.columns) * self.columns

    @property
    def batch(self) -> Dim:
        return product(axis.extent for axis in self.kernel.batch)

    @property
    def blocks(self) -> Dim:
        """Of queries."""
        return round_up(self.kernel.m.extent, self.queries) // self.queries

    @property
    def cells(self) -> Dim:
        return self.batch if self.gradient is not None else self.batch * self.blocks

    @property
    def grid(self) -> tuple[GridAxis, ...]:
        """What tasks are equal ranges of."""
        batch = [(axis, 1) for axis in self.kernel.batch]
        return whole_pieces(*batch, *([] if self.gradient is not None else [(self.kernel.m, self.queries)]))

    @property
    def tasks(self) -> Dim:
        k = self.kernel
        flops = self.batch * k.m.extent * k.n.extent * (k.k.extent + k.v.extent) * 2
        return maximum(1, minimum(minimum(self.cells, _MOST_TASKS), flops // _TASK_FLOPS))

    def width(self, axis: Axis) -> Dim:
        """Elements of a line along `axis` in scratch memory: whole vectors."""
        return round_up(axis.extent, self.lanes)

    def slots(self) -> dict[str, Dim]:
        """Elements of the parts of the scratch memory."""
        k, v = self.width(self.kernel.k), self.width(self.kernel.v)
        block = self.state_line
        scores = (self.keys + 2 * self.rows) * self.queries + self.lanes  # tiles at the ends reach beyond
        queries = round_up(self.queries, self.rows)
        keys = round_up(self.kernel.n.extent, self.rows) + self.rows
        sizes: dict[str, Dim] = {"query_panels": block * self.kernel.k.extent + self.lanes, "scores": scores}
        if self.gradient is None:
            sizes |= {"sums": queries * v, "state": 3 * block}
        else:
            panels = block * self.kernel.v.extent + self.lanes
            sizes |= {"gradient_panels": panels, "cotangents": scores, "query_sums": queries * k}
            sizes |= {"key_sums": keys * k, "value_sums": keys * v}
        for name, matrix in self.matrices():
            if matrix.buffer is None:
                sizes[name] = round_up(matrix.rows, self.rows) * matrix.stride + self.lanes
        return {name: round_up(size, 16) for name, size in sizes.items()}

    def matrices(self) -> Iterable[tuple[str, Matrix]]:
        yield from (("query", self.query), ("key", self.key), ("value", self.value))
        if self.gradient is not None:
            yield "gradient", self.gradient

    @property
    def scratch_bytes(self) -> Dim:
        """Of one thread."""
        return round_up(sum(self.slots().values(), start=0) * self.kernel.accumulate.itemsize, 64)


@lru_cache(maxsize=8)
def plan_attention(kernel: Attention, target: Target) -> AttentionPlan:
    """Decide how `kernel` runs on `target`."""
    lanes = target.lanes(kernel.accumulate.itemsize)
    rows = 8 if target.registers >= 32 else 4  # with two vectors they are in registers; blocks are multiples of them
    queries = _even(kernel.m.extent, max(_QUERIES, 2 * lanes), lanes)
    keys = _even(kernel.n.extent, _KEYS, rows)

    def matrix(expr: Expr, row: Axis, column: Axis, most: Dim, *, tiles: bool, whole: bool) -> Matrix:
        """tiles: rows are read in tiles; whole: columns in vectors."""
        placed = _in_place(kernel, expr, row, column)
        few = tiles and not (isinstance(row.extent, int) and row.extent >= rows)
        torn = whole and not (isinstance(column.extent, int) and column.extent % lanes == 0)
        if placed is None or few or torn:
            return Matrix(expr, row, column, None, 0, round_up(column.extent, lanes), most)
        return Matrix(expr, row, column, *placed, most)

    m, n, k, v = kernel.m, kernel.n, kernel.k, kernel.v
    is_gradient = isinstance(kernel, AttentionGradientKernel)
    return AttentionPlan(
        kernel=kernel,
        target=target,
        rows=rows,
        lanes=lanes,
        queries=queries,
        keys=keys,
        query=matrix(kernel.query, m, k, queries, tiles=False, whole=is_gradient),
        key=matrix(kernel.key, n, k, n.extent, tiles=True, whole=is_gradient),
        value=matrix(kernel.value, n, v, n.extent, tiles=is_gradient, whole=True),
        gradient=matrix(kernel.gradient, m, v, queries, tiles=False, whole=True) if is_gradient else None,
    )


def _in_place(kernel: Attention, expr: Expr, row: Axis, column: Axis) -> tuple[Buffer, Dim, Dim] | None:
    """Buffer, base and stride of the rows, where `expr` is a plain read of contiguous rows."""
    if not isinstance(expr, Load) or expr.bindings or expr.conditions or expr.dtype is not kernel.accumulate:
        return None
    offset = expr.buffer.offset(expr.index)
    stride = coefficient(offset, row.symbol)
    if coefficient(offset, column.symbol) != 1 or stride is None:
        return None
    base = substitute(offset, {row.symbol: 0, column.symbol: 0})
    own = {axis.symbol for axis in (kernel.m, kernel.n, kernel.k, kernel.v)}
    if own.intersection(symbols(base)) or {a.symbol for a in kernel.axes}.intersection(symbols(stride)):
        return None
    return expr.buffer, base, stride


def _even(extent: Dim, most: int, unit: int) -> int:
    """Blocks of about `most`, as equal as multiples of `unit` allow."""
    if not isinstance(extent, int):
        return most
    count = max(1, (extent + most // 3) // most)
    return -(-extent // (count * unit)) * unit
