"""Accesses that run along another axis than the lanes: they pass through tiles in the first-level cache, transposed.

A block of `cross` by `vector` positions is worked off at a time: what its loads read along `cross` is put into scratch
along the lanes, the statements run on that, and what they store along `cross` leaves through scratch again. So every
cache line of every array is read or written once, whole, and no lane by itself. Where `cross` is the axis of a kernel's
loops, a block has all of it: short rows, of which each lane has one.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import llvmlite.ir as ir

from tjit.codegen.axes import expressions, statements
from tjit.codegen.kernel import (
    Buffer,
    Compute,
    Expr,
    Load,
    LoopKernel,
    Reduced,
    Scan,
    Scanned,
    Statement,
    Store,
    fold_up,
)
from tjit.codegen.lanes import crosses
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.transpose import transposed
from tjit.codegen.llvm.vectors import counted_loop, i64, numbers, splat
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, Symbol

__all__ = ["Tiles"]

_WIDTH, _HEIGHT = 64, 128  # of a block, in elements: what is read ahead of a row is used by the next block
_SCRATCH = 64 * 1024  # bytes of all of a block's scratch, at most where that leaves a tile
_TILE = 16  # vectors that are transposed together, at most
_ROW_TILE = 8  # the same, of rows that are short: theirs would be filled in part

Body = Callable[[ir.Value, ir.Value, "ir.Value | None"], None]


@dataclass(frozen=True)
class _Staged:
    """An access along `cross`, and the scratch that stands for its buffer."""

    access: Load | Store
    scratch: Buffer


class Tiles:
    """The blocks of a kernel with a `cross` axis.

    Attributes:
        loops: the kernel's, with scratch in the place of what is accessed along `cross`.
        scratch: the scratch buffers, each [cross, vector] of one block.
        height, width: of a block, along `cross` and along the lanes.
        height_symbol, width_symbol: where the present block starts along each.
    """

    def __init__(self, kernel: LoopKernel, target: Target, step: int) -> None:
        assert kernel.cross is not None
        assert kernel.vector is not None
        self.cross, self.vector = kernel.cross, kernel.vector
        self.target = target
        mark = self.vector.symbol.name
        self.height_symbol, self.width_symbol = Symbol(f"{mark}.cross", 0, None), Symbol(f"{mark}.along", 0, None)
        self.loads: dict[tuple[str, Dim, tuple], _Staged] = {}
        self.stores: list[_Staged] = []
        self.rows: dict[Buffer, Buffer] = {}
        self.whole = self.cross not in kernel.parallel
        self.width = -(-_WIDTH // step) * step
        self.height = self._whole_height() if self.whole else self._height(kernel)
        self._memo: dict[int, Expr] = {}
        self._made: dict[int, Any] = {}
        self.loops = tuple(replace(loop, body=tuple(map(self._statement, loop.body))) for loop in kernel.loops)

    def _height(self, kernel: LoopKernel) -> int:
        size = sum(a.buffer.dtype.itemsize for a in _crossing(kernel)) or 1
        height = _HEIGHT
        while height > _TILE and height * self.width * size > _SCRATCH:
            height //= 2
        return height

    def _whole_height(self) -> int:
        assert isinstance(self.cross.extent, int)
        return -(-self.cross.extent // _ROW_TILE) * _ROW_TILE

    def transposed_together(self, dtype: DType) -> int:
        """How many vectors of as many elements are transposed at once."""
        return min(_ROW_TILE if self.whole else _TILE, self.target.lanes(dtype.itemsize))

    @property
    def scratch(self) -> list[Buffer]:
        return [*(staged.scratch for staged in (*self.loads.values(), *self.stores)), *self.rows.values()]

    # -- the statements on scratch -------------------------------------------------------------------------------------

    def _statement(self, statement: Statement) -> Statement:
        value = self._expr(statement.value)
        if isinstance(statement, Store):
            return self._store(statement, value)
        new = replace(statement, value=value)
        if isinstance(new, Scan) and new.start is not None:
            new = replace(new, start=self._expr(new.start))
        self._made[id(statement)] = new
        return new

    def _store(self, store: Store, value: Expr) -> Store:
        if store.buffer.row:
            return Store(self._row(store.buffer), self._place(), value, store.location)
        if not self._crosses(store):
            return replace(store, value=value)
        staged = _Staged(store, self._new_scratch(store.buffer.dtype))
        self.stores.append(staged)
        return Store(staged.scratch, self._place(), value, store.location)

    def _expr(self, expr: Expr) -> Expr:
        return fold_up(expr, self._memo, self._rebuilt)

    def _rebuilt(self, expr: Expr) -> Expr:
        if isinstance(expr, Compute):
            return replace(expr, operands=tuple(self._memo[id(o)] for o in expr.operands))
        if isinstance(expr, Reduced):
            return Reduced(self._made[id(expr.reduce)])
        if isinstance(expr, Scanned):
            return Scanned(self._made[id(expr.scan)])
        return self._rebuilt_load(expr) if isinstance(expr, Load) else expr

    def _rebuilt_load(self, load: Load) -> Load:
        if load.bindings:
            return replace(load, bindings=tuple((s, self._memo[id(e)], n) for s, e, n in load.bindings))
        if load.buffer.row:
            return replace(load, buffer=self._row(load.buffer), index=self._place())
        if not self._crosses(load):
            return load
        key = (load.buffer.name, load.buffer.offset(load.index), load.conditions)
        staged = self.loads.get(key)
        if staged is None:
            staged = self.loads[key] = _Staged(load, self._new_scratch(load.dtype))
        return replace(load, buffer=staged.scratch, index=self._place())

    def _row(self, buffer: Buffer) -> Buffer:
        """Scratch for a row buffer of every lane."""
        if buffer not in self.rows:
            self.rows[buffer] = self._new_scratch(buffer.dtype)
        return self.rows[buffer]

    def _crosses(self, access: Load | Store) -> bool:
        return crosses(access, self.vector, self.cross)

    def _new_scratch(self, dtype: DType) -> Buffer:
        name = f"tile{len(self.loads) + len(self.stores) + len(self.rows)}"
        return Buffer(name, dtype, (self.height, self.width), (self.width, 1), row=True)

    def _place(self) -> tuple[Dim, Dim]:
        """Where in scratch the present point is."""
        return self.cross.index - self.height_symbol.dim, self.vector.index - self.width_symbol.dim

    # -- into scratch and out of it ------------------------------------------------------------------------------------

    def fill(self, b: ir.IRBuilder, ints: Integers, pointers: dict[str, ir.Value]) -> None:
        """Put what the present block loads along `cross` into scratch."""
        for staged in self.loads.values():
            assert isinstance(staged.access, Load)
            _Transfer(self, staged, b, ints, pointers).fill(staged.access)

    def drain(self, b: ir.IRBuilder, ints: Integers, pointers: dict[str, ir.Value]) -> None:
        """Write what the present block stored along `cross` from scratch to where it belongs."""
        for staged in self.stores:
            assert isinstance(staged.access, Store)
            _Transfer(self, staged, b, ints, pointers).drain(staged.access)


class _Transfer:
    """Moves one block of one access between its buffer and its scratch."""

    def __init__(
        self, tiles: Tiles, staged: _Staged, b: ir.IRBuilder, ints: Integers, pointers: dict[str, ir.Value]
    ) -> None:
        self.tiles, self.b, self.ints, self.pointers = tiles, b, ints, pointers
        self.dtype = staged.access.buffer.dtype
        self.count = tiles.transposed_together(self.dtype)
        self.base = pointers[staged.scratch.name]
        self.row = ints.symbols[tiles.height_symbol.name]
        self.column = ints.symbols[tiles.width_symbol.name]
        self.rows = ints.min(i64(tiles.height), ints.sub(ints.dim(tiles.cross.extent), self.row))
        self.columns = ints.min(i64(tiles.width), ints.sub(ints.dim(tiles.vector.extent), self.column))

    def fill(self, load: Load) -> None:
        def body(i: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
            read = []
            for n in range(self.count):
                at = self.ints.add(j, i64(n))
                if not self._whole(self.tiles.vector.extent):
                    # beyond the last column the last one again, which nothing reads
                    at = self.ints.min(at, self.ints.sub(self.columns, i64(1)))
                read.append(self._emitter(i, at, mask).raw(load))
            for n, column in enumerate(transposed(self.b, read)):
                self.b.store(column, self._scratch_at(self.ints.add(i, i64(n)), j), align=self.dtype.itemsize)

        self._each_tile(body)

    def drain(self, store: Store) -> None:
        def body(i: ir.Value, j: ir.Value, mask: ir.Value | None) -> None:
            kept = [self._scratch_row(self.ints.add(i, i64(n)), j, store) for n in range(self.count)]
            for n, column in enumerate(transposed(self.b, kept)):
                at = self.ints.add(j, i64(n))
                self._emitter(i, at, self._only_if(at, mask)).write(store, column)

        self._each_tile(body)

    def _only_if(self, at: ir.Value, mask: ir.Value | None) -> ir.Value | None:
        """`mask`, and no lane of a column beyond the last."""
        if self._whole(self.tiles.vector.extent):
            return mask
        inside = splat(self.b, self.b.icmp_signed("<", at, self.columns), self.count)
        return inside if mask is None else self.b.and_(inside, mask)

    def _each_tile(self, body: Body) -> None:
        """The tiles of the block; those over the edge of `cross` with a mask of the lanes inside.

        Where masks cost nothing all tiles have one, which is half the code.
        """
        step, exact = i64(self.count), self._whole(self.tiles.cross.extent)
        whole = i64(0) if self.tiles.target.masks else self.ints.mul(self.ints.div(self.rows, step), step)
        with counted_loop(self.b, i64(0), self.columns, step) as j:
            if exact or not self.tiles.target.masks:
                with counted_loop(self.b, i64(0), self.rows if exact else whole, step) as i:
                    body(i, j, None)
            if not exact:
                with counted_loop(self.b, whole, self.rows, step) as i:
                    left = splat(self.b, self.ints.sub(self.rows, i), self.count)
                    body(i, j, self.b.icmp_signed("<", numbers(range(self.count), left.type.element), left))

    def _whole(self, extent: Dim) -> bool:
        return isinstance(extent, int) and extent % self.count == 0

    def _emitter(self, i: ir.Value, j: ir.Value, mask: ir.Value | None) -> ExprEmitter:
        """An emitter at a place of the block, with lanes along `cross`."""
        tiles, symbols = self.tiles, self.ints.symbols
        symbols[tiles.cross.symbol.name] = self.ints.add(self.row, i)
        symbols[tiles.vector.symbol.name] = self.ints.add(self.column, j)
        lanes = Lanes(tiles.cross.symbol, self.count, mask)
        return ExprEmitter(self.b, tiles.target, lanes, self.ints, self.pointers)

    def _scratch_at(self, i: ir.Value, j: ir.Value) -> ir.Value:
        place = self.ints.add(self.ints.mul(i, i64(self.tiles.width)), j)
        offset = self.ints.mul(place, i64(self.dtype.itemsize))
        return self.b.gep(self.base, [offset], source_etype=ir.IntType(8))

    def _scratch_row(self, i: ir.Value, j: ir.Value, store: Store) -> ir.Value:
        kind = self._emitter(i, j, None).scalars.memory_type(store.buffer.dtype)
        return self.b.load(self._scratch_at(i, j), typ=kind, align=self.dtype.itemsize)


def _crossing(kernel: LoopKernel) -> list[Load | Store]:
    assert kernel.cross is not None
    assert kernel.vector is not None
    found = [e for e in expressions(kernel) if isinstance(e, Load)]
    found += [s for s in statements(kernel) if isinstance(s, Store)]
    return [a for a in found if crosses(a, kernel.vector, kernel.cross)]
