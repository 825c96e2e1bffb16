"""How a loop kernel is emitted: its lanes, the vectors side by side, and the units of work that tasks are ranges of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import cached_property, lru_cache

from tjit.codegen.axes import expressions
from tjit.codegen.grids import GridAxis, whole_pieces
from tjit.codegen.kernel import (
    Axis,
    Compute,
    Expr,
    Index,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Scan,
    Statement,
    Store,
    varies,
    walk,
)
from tjit.codegen.lanes import NEAR
from tjit.codegen.llvm.first_places import are_looked_for
from tjit.codegen.llvm.lookups import Key, table_key, tables_of
from tjit.codegen.llvm.paired_halves import comes_in_pairs
from tjit.codegen.llvm.reductions import counted, running_dtype
from tjit.codegen.llvm.rows_ahead import RowsAhead, find_rows_ahead
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.wide_columns import block_of_columns, goes_by_rows
from tjit.codegen.places import in_lanes
from tjit.codegen.run_on import RunOn, run_on
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.dtypes import i64 as int64
from tjit.ir.dims import Dim, Symbol, coefficient, product, symbols

__all__ = ["LoopPlan", "plan_loops", "takes_rows_together"]

LIGHT = 8  # computations: below, several vectors are in flight at once
_MOST_BY_LANE = 16  # lanes: each is code of its own
_BLOCK = 2048  # lanes' axis: elements of one unit of work
_MANY = 256  # points: of as many, those along the lanes' axis need not be cut
_SMALL = 8  # times smaller than a block has to be
_FEW = 1 << 11  # columns: what a mask costs in a thousand calls is less than compiling a second body
_FEW_POINTS = 1 << 16  # the same, of the columns' rows
_NEAR_BYTES = 1 << 19  # what indices pick from: the second-level cache keeps it
_SMALL_BYTES = 4  # of an element
_LANES_APART = 4  # side by side, where lanes are no vector
_NARROW_BLOCK = 256  # the same, where an access strides along it: its cache lines fit in the first-level cache


@dataclass(frozen=True, slots=True)
class Shape:
    """How many lanes, and how many vectors side by side."""

    width: int
    unroll: int


def _equal_block(extent: Dim, step: int, most: int, *, whole: bool = False) -> int:
    """A block of at most `most` steps, and no small one, that the axis is 16 times of, or 8 or 4, if there is one.

    Args:
        whole: the axis needs not fall into pieces, if one block holds it.
    """
    if isinstance(extent, int) and not (whole and extent <= step * most):
        for pieces in (16, 8, 4):
            steps, rest = divmod(extent, step * pieces)
            if rest == 0 and steps >= 1:
                found = next((n for n in range(most, 0, -1) if steps % n == 0), 1)
                if found == steps or found * _SMALL >= most:
                    return step * found
    return step * most


def takes_rows_together(loop: Loop) -> bool:
    """Whether a vector of columns is busy enough alone: sums of which several are in flight at once."""
    light = sum(isinstance(e, Compute) for s in loop.body for e in walk(s.value)) <= LIGHT
    return light and bool(loop.axes) and all(isinstance(s, Reduce) for s in loop.body)


def _picked_span(load: Load, lane: Symbol) -> int:
    """The bytes between the first and the last element that the lanes' own indices may pick; 0: that is not known."""
    offset, own = load.buffer.offset(load.index), frozenset((lane,))
    reach = [(coefficient(offset, s), n) for s, value, n in load.bindings if varies(value, own, {})]
    return sum(k * n * load.dtype.itemsize for k, n in reach if isinstance(k, int) and isinstance(n, int))


def _running(reduce: Reduce, *, looked_for: bool) -> DType:
    """The dtype of what a vector of a reduction has come to; a place that is looked for afterwards is none."""
    return int64 if reduce.kind.startswith("arg") and not looked_for else running_dtype(reduce)


@lru_cache(maxsize=8)
def plan_loops(kernel: LoopKernel, target: Target) -> LoopPlan:
    """Decide how `kernel` is emitted for `target`."""
    return LoopPlan(kernel, target)


@dataclass(frozen=True)
class LoopPlan:
    """The decisions for one kernel on one target."""

    kernel: LoopKernel
    target: Target

    @cached_property
    def columns(self) -> bool:
        """Whether the lanes are parallel points of their own."""
        return self.kernel.vector is not None and any(a is self.kernel.vector for a in self.kernel.parallel)

    @cached_property
    def run(self) -> RunOn | None:
        """How the lanes run over several axes; None: they run along one."""
        return run_on(self.kernel)

    @cached_property
    def strided(self) -> bool:
        """Whether it goes down the rows of one narrow block: strided reads, whose cache lines serve all of them."""
        return self.columns and self.run is None and self._has_strides()

    @cached_property
    def by_rows(self) -> bool:
        """Whether scans of columns go row by row."""
        return self.columns and self._scans_columns()

    @cached_property
    def wide(self) -> bool:
        """Whether reductions of columns go row by row."""
        return goes_by_rows(self.kernel)

    @cached_property
    def pairs(self) -> bool:
        """Whether two vectors side by side are the even and the odd elements of words."""
        return self.target.vector_bytes == 64 and comes_in_pairs(self.kernel)

    @cached_property
    def few(self) -> bool:
        """Whether columns are so few that one body under a mask does for all: each body is code to compile."""
        if not self.columns or self.kernel.cross is not None:
            return False
        columns = product(a.extent for a in self.kernel.parallel)
        if not isinstance(columns, int) or columns > _FEW:
            return False
        looped = [loop for loop in self.kernel.loops if loop.axes]
        points = [columns * product(a.extent for a in loop.axes) for loop in looped]
        return all(map(takes_rows_together, looped)) and all(isinstance(n, int) and n <= _FEW_POINTS for n in points)

    @cached_property
    def tables(self) -> Mapping[Key, DType]:
        """The tables that are kept in registers."""
        return tables_of(self.kernel, self.target)

    @cached_property
    def shape(self) -> Shape:
        return self._choose_shape()

    @cached_property
    def units(self) -> tuple[Sequence[Axis], Dim, int]:
        """The axes whose points are counted, the blocks per point of the lanes' axis, and a block's size."""
        if not self.columns:
            return self.kernel.parallel, 1, 1
        if self.run is not None:
            rows = self.run.rows(self.shape.width)
            extent = self.run.axes[-1].extent
            block = _equal_block(extent, rows, max(1, _BLOCK // (rows * self.run.inner)))
            return self.kernel.parallel[: -len(self.run.axes)], (extent + (block - 1)) // block, block
        *outer, inner = self.kernel.parallel
        if self.wide:
            block = block_of_columns(self.kernel, self.shape.width)
            return outer, (inner.extent + (block - 1)) // block, block
        step = self.shape.width * self.shape.unroll
        reduces = any(loop.axes for loop in self.kernel.loops)
        size = _NARROW_BLOCK if self.strided and not self.by_rows else _BLOCK  # scans: long runs in memory
        if reduces and not self.by_rows:
            block = step
        else:
            block = _equal_block(inner.extent, step, max(1, size // step), whole=self._fall_into_pieces(outer))
        return outer, (inner.extent + (block - 1)) // block, block

    def _fall_into_pieces(self, axes: Sequence[Axis]) -> bool:
        """Whether axes have points for the tasks of any machine, in equal pieces where `grids` asks for such."""
        points = product(a.extent for a in axes)
        if not isinstance(points, int) or points < _MANY:
            return False
        return points % 16 == 0 or any(isinstance(e, Load) and e.bindings for e in expressions(self.kernel))

    @cached_property
    def rows_ahead(self) -> RowsAhead | None:
        """The rows of tables that are asked for ahead of their points."""
        plain = self.columns and self.run is None and not (self.strided or self.by_rows or self.wide)
        return find_rows_ahead(self.kernel, self.units[2]) if plain and self.kernel.cross is None else None

    @property
    def grid(self) -> tuple[GridAxis, ...]:
        """What equal ranges of the units are ranges of."""
        if self.kernel.cross is not None:
            outer = self.kernel.parallel[:-1]
            return whole_pieces(*((a, 1) for a in (outer if self.kernel.cross not in outer else outer[:-1])))
        outer, _, block = self.units
        pieces = [(axis, 1) for axis in outer]
        if self.columns:
            along = self.kernel.vector if self.run is None else self.run.axes[-1]
            assert along is not None
            pieces = [(along, block), *pieces] if self.strided else [*pieces, (along, block)]
        return whole_pieces(*pieces)

    def _choose_shape(self) -> Shape:
        if self.kernel.vector is None:
            return Shape(1, 1)
        statements = [s for loop in self.kernel.loops for s in loop.body]
        seen: set[int] = set()
        exprs = [e for s in statements for e in walk(s.value, seen)]
        dtypes = self._lane_dtypes(exprs)
        floats = [max(4, d.itemsize) for d in dtypes if d.is_floating_point]
        sizes = floats or [max(1, d.itemsize) for d in dtypes] or [4]
        width = max(1, self.target.lanes(max(sizes)))
        heavy = sum(isinstance(e, Compute) for e in exprs)
        reduces = any(isinstance(s, (Reduce, Scan)) for s in statements)
        many = 8 if self.columns and self.target.registers >= 32 else 4  # columns: whole cache lines of each row
        many = 2 if self.by_rows else 4 if self.kernel.cross is not None else many
        many = min(many, max(1, self.target.registers * 3 // 4 // self._running_vectors()))
        light = many if reduces or self.kernel.cross is not None else 2
        unroll = light if heavy <= LIGHT else 2 if heavy <= 3 * LIGHT and reduces else 1
        if self.pairs:
            unroll = 2
        if any(isinstance(e, Load) and self._by_lane(e) for e in exprs):
            width, unroll = min(width, _MOST_BY_LANE), 1
            if self._copies_from_afar(statements):
                return Shape(1, _LANES_APART)
        if self.run is not None:
            return Shape(width, 1)
        extent = self.kernel.vector.extent
        if self.few:
            unroll = 1
        if isinstance(extent, int) and self.columns:
            unroll = max(1, min(unroll, -(-extent // width)))
        while isinstance(extent, int) and not self.columns and unroll > 1 and extent < width * unroll:
            unroll //= 2
        while isinstance(extent, int) and width > 4 and extent <= width // 2:
            width //= 2
        return Shape(width, unroll)

    def _copies_from_afar(self, statements: Sequence[Statement]) -> bool:
        """Whether all that lanes do is to copy what indices pick, from more memory than a near cache keeps.

        Loads then wait longer than the queue is of instructions that put them into vectors: of 8 bytes these are few.
        """
        assert self.kernel.vector is not None
        lane = self.kernel.vector.symbol
        loads = [s.value for s in statements if isinstance(s, Store) and isinstance(s.value, Load)]
        small = all(e.dtype.itemsize <= _SMALL_BYTES for e in loads)
        return small and len(loads) == len(statements) and any(_picked_span(e, lane) > _NEAR_BYTES for e in loads)

    def _lane_dtypes(self, exprs: Sequence[Expr]) -> list[DType]:
        """Of what differs from lane to lane: what is the same in all, like an optimizer's rate, takes no vector."""
        assert self.kernel.vector is not None
        memo: dict[int, bool] = {}
        lane = frozenset((self.kernel.vector.symbol,))
        body = [(s, loop) for loop in self.kernel.loops for s in loop.body]
        roots = [self._counted(s) or s.value for s, _ in body]
        own = [e for e in in_lanes(roots, self.kernel.vector.symbol) if varies(e, lane, memo, reduced=self.columns)]
        reduces = [(s, loop) for s, loop in body if isinstance(s, Reduce) and not self._counted(s) and not self.columns]
        running = [_running(s, looked_for=are_looked_for(loop)) for s, loop in reduces]
        # positions are i64 beside elements of any size
        kept = [e.dtype for e in own if not isinstance(e, Index) or e.dtype.is_floating_point]
        return [*kept, *running] or [e.dtype for e in exprs]

    def _counted(self, statement: Statement) -> Expr | None:
        """The bool of which a sum along the lanes counts those that are set."""
        along = self.target.masks and not self.columns
        return counted(statement) if along and isinstance(statement, Reduce) else None

    def _running_vectors(self) -> int:
        """How many vectors the loop with the most reductions keeps in registers, for each vector of lanes."""
        kinds = [[s.kind for s in loop.body if isinstance(s, Reduce)] for loop in self.kernel.loops]
        return max(1, *(sum(2 if kind.startswith("arg") else 1 for kind in found) for found in kinds))

    def _by_lane(self, load: Load) -> bool:
        """Whether each lane has an index or a condition of its own: code of as many parts as there are lanes."""
        assert self.kernel.vector is not None
        if table_key(load) in self.tables:
            return False
        lane = self.kernel.vector.symbol
        memo: dict[int, bool] = {}
        step = coefficient(load.buffer.offset(load.index), lane)
        near = isinstance(step, int) and (step == -1 or 0 < step <= NEAR) and self.target.masks  # one load under a mask
        guarded = any(lane in symbols(d) for pair in load.conditions for d in pair) and not near
        return guarded or any(varies(value, frozenset({lane}), memo) for _, value, _ in load.bindings)

    def _has_strides(self) -> bool:
        """Whether a load steps over many elements from lane to lane, and over few from row to row."""
        seen: set[int] = set()
        exprs = (e for loop in self.kernel.loops for s in loop.body for e in walk(s.value, seen))
        return any(self._crosses_lines(e) for e in exprs if isinstance(e, Load) and not e.bindings)

    def _crosses_lines(self, load: Load) -> bool:
        vector = self.kernel.vector
        assert vector is not None
        offset = load.buffer.offset(load.index)
        k = coefficient(offset, vector.symbol)
        if isinstance(k, int) and abs(k) <= NEAR:
            return False
        rows = [coefficient(offset, a.symbol) for a in self.kernel.parallel if a is not vector]
        return any(not isinstance(c, int) or 0 < abs(c) <= NEAR for c in rows)

    def _scans_columns(self) -> bool:
        """Whether the kernel may go row by row with what the columns' scans have come to in the first-level cache."""
        if len(self.kernel.loops) != 1 or len(self.kernel.loops[0].axes) != 1:
            return False
        body = self.kernel.loops[0].body
        scans = any(isinstance(s, Scan) for s in body) and not any(isinstance(s, Reduce) for s in body)
        return scans and self.kernel.cross is None
