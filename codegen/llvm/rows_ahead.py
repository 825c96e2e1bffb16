"""Rows of a table that indices pick, asked for while those before them are copied.

    parallel (p0: 8192, p1: 256) tasks 64 vector p1
      b2[p0, p1] = (b1[g1, p1] at g1=b0[p0] in 50000)

A processor asks for a row's later lines by itself once it has read the first ones, but not for another row: that is one
wait for memory a row, unless the index of a later one is looked up now.
"""

from __future__ import annotations

from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.axes import expressions
from tjit.codegen.kernel import Axis, Compute, Const, Expr, Index, Load, LoopKernel, ScatterKernel, varies, walk
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.vectors import byte_gep, i64, prefetch
from tjit.dataclass import dataclass
from tjit.dtypes import i64 as int64
from tjit.ir.dims import coefficient, product

__all__ = ["RowsAhead", "ask_for", "find_rows_ahead", "find_targets_ahead"]

_LINE = 64  # bytes
_IN_FLIGHT = 4096  # bytes of rows asked for: what the memory delivers while it is waited for
_FARTHEST = 16  # rows
_LONGEST = 4096  # bytes of a row: of more, the processor asks for nearly all by itself
_SHORTEST = 64  # bytes of a row: of less, the waits of many rows overlap
_KEPT = 1 << 19  # bytes of a table that the second-level cache keeps
_LIGHT = 8  # computations of an index: it is computed twice


@dataclass(frozen=True)
class RowsAhead:
    """The loads of rows that indices pick, and how many points before its turn a row is asked for."""

    loads: tuple[Load, ...]
    distance: int

    def begin(self, emitter: ExprEmitter, lanes: Axis) -> list[tuple[ir.Value, int]]:
        """Where the rows of the point that the emitter's symbols stand at begin, and the bytes of an element."""
        known = dict(emitter.ints.symbols)
        emitter.ints.symbols[lanes.symbol.name] = i64(0)
        rows = [(_place(emitter, load), load.dtype.itemsize) for load in self.loads]
        emitter.ints.symbols.clear()
        emitter.ints.symbols.update(known)
        return rows


def _place(emitter: ExprEmitter, load: Load) -> ir.Value:
    """The address of the first element; any address at all where an index is outside: nothing is read."""
    b, ints = emitter.b, emitter.ints
    for symbol, value, _ in load.bindings:
        ints.symbols[symbol.name] = emitter.scalars.cast(emitter.emit(value), int64).value
    offset = ints.mul(ints.dim(load.buffer.offset(load.index)), i64(load.dtype.itemsize))
    return byte_gep(b, emitter.pointers[load.buffer.name], offset)


def ask_for(
    b: ir.IRBuilder, rows: Sequence[tuple[ir.Value, int]], start: ir.Value, count: int, *, write: bool = False
) -> None:
    """Ask for `count` elements from `start` on of each row."""
    for row, size in rows:
        at = byte_gep(b, row, b.mul(start, i64(size)))
        for line in range(0, count * size, _LINE):
            prefetch(b, byte_gep(b, at, i64(line)), write=write)


def find_rows_ahead(kernel: LoopKernel, block: int) -> RowsAhead | None:
    """What to ask for in a kernel whose units of work are `block` elements along the lanes; None: nothing."""
    lanes = kernel.vector
    if lanes is None or any(loop.axes for loop in kernel.loops) or len(kernel.parallel) < 2:
        return None
    if not isinstance(lanes.extent, int) or lanes.extent > block:
        return None
    loads = [e for e in expressions(kernel) if isinstance(e, Load) and _is_picked_row(e, lanes)]
    return _rows_ahead(loads, lanes.extent)


def find_targets_ahead(kernel: ScatterKernel) -> RowsAhead | None:
    """What to ask for in a kernel that adds to rows, or writes them; None: nothing."""
    lanes = kernel.vector
    if lanes is None or not isinstance(lanes.extent, int) or not isinstance(kernel.tasks, int):
        return None
    target = Load(kernel.target, kernel.index, kernel.bindings)
    if not _is_picked_row(target, lanes):
        return None
    if kernel.shared is not lanes or kernel.tasks == 1:
        return _rows_ahead([target], lanes.extent)
    # tasks take parts of rows: the processor does not know where in the next row that of this one lies
    parts = [e for e in walk(kernel.value) if isinstance(e, Load) and not e.bindings and _runs(e, lanes)]
    return _rows_ahead([target, *parts], lanes.extent // kernel.tasks)


def _rows_ahead(loads: Sequence[Load], elements: int) -> RowsAhead | None:
    """What to ask for, of rows of so many elements, one for each load at each point."""
    size = sum(elements * load.dtype.itemsize for load in loads)
    if not _SHORTEST <= size <= _LONGEST:
        return None
    return RowsAhead(tuple(loads), max(2, min(_FARTHEST, _IN_FLIGHT // size)))


def _is_picked_row(load: Load, lanes: Axis) -> bool:
    """Whether a load runs along the lanes of a row, of a table that no cache keeps, whose index is soon computed."""
    rows = product(load.buffer.shape) * load.dtype.itemsize
    if not load.bindings or load.conditions or (isinstance(rows, int) and rows <= _KEPT):
        return False
    return _runs(load, lanes) and all(_is_light(value, lanes) for _, value, _ in load.bindings)


def _runs(load: Load, lanes: Axis) -> bool:
    return coefficient(load.buffer.offset(load.index), lanes.symbol) == 1 and not load.conditions


def _is_light(index: Expr, lanes: Axis) -> bool:
    """Whether an index is the same in all lanes, and made of loads and few computations."""
    parts = walk(index)
    computed = sum(isinstance(e, Compute) for e in parts)
    known = all(isinstance(e, (Compute, Const, Index, Load)) for e in parts)
    return known and computed <= _LIGHT and not varies(index, frozenset({lanes.symbol}), {})
