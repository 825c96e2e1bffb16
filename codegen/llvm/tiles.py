"""Accesses that run along another axis than the lanes: they pass through tiles in the first-level cache, transposed.

A block of `cross` by `vector` positions is worked off at a time: what its loads read along `cross` is put into scratch
along the lanes, the statements run on that, and what they store along `cross` leaves through scratch again. So every
cache line of every array is read or written once, whole, and no lane by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import llvmlite.ir as ir

from tjit.codegen.axes import crosses, expressions, statements
from tjit.codegen.kernel import Buffer, Compute, Expr, Load, Loop, LoopKernel, Statement, Store
from tjit.codegen.llvm.expressions import ExprEmitter, Lanes
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.transpose import transposed
from tjit.codegen.llvm.vectors import counted_loop, i64, numbers, splat
from tjit.ir.dims import Dim, Symbol

__all__ = ["Tiles"]

_WIDTH, _HEIGHT = 64, 128  # of a block, in elements: what is read ahead of a row is used by the next block
_SCRATCH = 64 * 1024  # bytes of all of a block's scratch, at most where that leaves a tile
_TILE = 16  # vectors that are transposed together, at most

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
        accesses = _crossing(kernel)
        size = sum(a.buffer.dtype.itemsize for a in accesses) or 1
        self.width = -(-_WIDTH // step) * step
        self.height = _HEIGHT
        while self.height > _TILE and self.height * self.width * size > _SCRATCH:
            self.height //= 2
        memo: dict[int, Expr] = {}
        self.loops = tuple(Loop((), tuple(self._statement(s, memo) for s in loop.body)) for loop in kernel.loops)

    @property
    def scratch(self) -> list[Buffer]:
        return [staged.scratch for staged in (*self.loads.values(), *self.stores)]

    # -- the statements on scratch -------------------------------------------------------------------------------------

    def _statement(self, statement: Statement, memo: dict[int, Expr]) -> Statement:
        value = self._expr(statement.value, memo)
        if not isinstance(statement, Store) or not self._crosses(statement):
            return replace(statement, value=value)
        staged = _Staged(statement, self._new_scratch(statement))
        self.stores.append(staged)
        return Store(staged.scratch, self._place(), value, statement.location)

    def _expr(self, expr: Expr, memo: dict[int, Expr]) -> Expr:
        found = memo.get(id(expr))
        if found is None:
            found = memo[id(expr)] = self._rebuilt(expr, memo)
        return found

    def _rebuilt(self, expr: Expr, memo: dict[int, Expr]) -> Expr:
        if isinstance(expr, Compute):
            return replace(expr, operands=tuple(self._expr(o, memo) for o in expr.operands))
        if isinstance(expr, Load) and expr.bindings:
            return replace(expr, bindings=tuple((s, self._expr(e, memo), n) for s, e, n in expr.bindings))
        if isinstance(expr, Load) and self._crosses(expr):
            key = (expr.buffer.name, expr.buffer.offset(expr.index), expr.conditions)
            staged = self.loads.get(key)
            if staged is None:
                staged = self.loads[key] = _Staged(expr, self._new_scratch(expr))
            return replace(expr, buffer=staged.scratch, index=self._place())
        return expr

    def _crosses(self, access: Load | Store) -> bool:
        return crosses(access, self.vector, self.cross)

    def _new_scratch(self, access: Load | Store) -> Buffer:
        name = f"tile{len(self.loads) + len(self.stores)}"
        return Buffer(name, access.buffer.dtype, (self.height, self.width), (self.width, 1), row=True)

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
        self.count = min(_TILE, tiles.target.lanes(self.dtype.itemsize))
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
