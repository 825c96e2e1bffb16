"""Transposition in registers alone, where a kernel reads one array along another axis than its lanes.

    parallel (p0: 1000, p1: 1000) tasks 41 vector p1 across p0
      b1[p0, p1] = b0[p1, p0]

Vectors along p0 of as many rows as there are lanes are read, transposed, and are then vectors along p1. Tile after tile
goes along p0, where b0 lies close: the processor asks for what comes by itself. What else is read lies close along p1,
and tiles then go that way: two streams of three are in order instead of one.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import llvmlite.ir as ir

from tjit.codegen.axes import expressions, statements
from tjit.codegen.kernel import Axis, Compute, Load, LoopKernel, Store
from tjit.codegen.lanes import crosses
from tjit.codegen.llvm.expressions import EmitterOf, ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.loop_plan import LIGHT
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.transpose import transposed
from tjit.codegen.llvm.vectors import counted_loop, i64
from tjit.ir.dims import coefficient

__all__ = ["RegisterTiles", "fits_registers"]

_LINE = 64  # bytes


def fits_registers(kernel: LoopKernel, target: Target, width: int) -> bool:
    """Whether tiles of `width` by `width` are all that the kernel needs."""
    cross, vector = kernel.cross, kernel.vector
    if cross is None or vector is None or cross not in kernel.parallel or any(loop.axes for loop in kernel.loops):
        return False
    exprs, stores = expressions(kernel), [s for s in statements(kernel) if isinstance(s, Store)]
    if any(crosses(s, vector, cross) for s in stores) or sum(isinstance(e, Compute) for e in exprs) > LIGHT:
        return False
    loads = _crossing(kernel, cross, vector)
    if len({(e.buffer.name, e.buffer.offset(e.index)) for e in loads}) != 1 or any(e.conditions for e in loads):
        return False
    # parts of lines, as of smaller elements, meet the other parts no more where rows are powers of two apart
    whole = all(a.dtype.itemsize * width == _LINE for a in (loads[0], *(s.buffer for s in stores)))
    return whole and 2 * width <= target.registers and _may_overlap(kernel, width)


def _crossing(kernel: LoopKernel, cross: Axis, vector: Axis) -> list[Load]:
    """The loads along `cross`."""
    return [e for e in expressions(kernel) if isinstance(e, Load) and crosses(e, vector, cross)]


def _may_overlap(kernel: LoopKernel, width: int) -> bool:
    """Whether the last tile along each axis may begin early, so that it is whole.

    Along the lanes points are then computed twice, and stored beside the lines' edges.
    """
    assert kernel.cross is not None
    assert kernel.vector is not None
    extents = kernel.cross.extent, kernel.vector.extent
    if not all(isinstance(n, int) and n >= width for n in extents):
        return False
    stores = [s for s in statements(kernel) if isinstance(s, Store)]
    read = {e.buffer.name for e in expressions(kernel) if isinstance(e, Load)}
    return extents[1] % width == 0 or not any(s.buffer.name in read or s.past_caches for s in stores)


def _reads_along(kernel: LoopKernel, vector: Axis) -> bool:
    """Whether something is read that lies close along the lanes."""
    loads = (e for e in expressions(kernel) if isinstance(e, Load))
    return any(coefficient(e.buffer.offset(e.index), vector.symbol) == 1 for e in loads)


class RegisterTiles:
    """The blocks of a kernel that `fits_registers`.

    Attributes:
        height, width: of a block, along `cross` and along the lanes: as long as the second-level cache keeps, for lines
            that two tiles write a part of.
    """

    def __init__(self, b: ir.IRBuilder, ints: Integers, kernel: LoopKernel, lanes: int, emitter_of: EmitterOf) -> None:
        assert kernel.cross is not None
        assert kernel.vector is not None
        self.b, self.ints, self.kernel, self.lanes, self.emitter_of = b, ints, kernel, lanes, emitter_of
        self.cross, self.vector = kernel.cross, kernel.vector
        self.loads = _crossing(kernel, self.cross, self.vector)
        self.along = _reads_along(kernel, self.vector)
        self.height, self.width = (64, 1024) if self.along else (1024, 64)

    def emit(self, top: ir.Value, start: ir.Value, run: Callable[[ExprEmitter], None]) -> None:
        """The block at `top` along `cross` and `start` along the lanes; `run` emits the statements."""
        lanes, ints = self.lanes, self.ints
        assert isinstance(self.cross.extent, int)
        assert isinstance(self.vector.extent, int)
        stop = ints.min(ints.add(start, i64(self.width)), i64(self.vector.extent))
        bottom = ints.add(top, i64(self.height))
        left = self.cross.extent % lanes
        rows = partial(counted_loop, self.b, top, ints.min(bottom, i64(self.cross.extent - left)), i64(lanes))
        columns = partial(counted_loop, self.b, start, stop, i64(lanes))
        if self.along:
            with rows() as i, columns() as j:
                self._tile(i, self._whole(j), run)
        else:
            with columns() as j, rows() as i:
                self._tile(i, self._whole(j), run)
        if left:
            with self.b.if_then(self.b.icmp_signed(">=", bottom, i64(self.cross.extent)), likely=None), columns() as j:
                self._tile(i64(self.cross.extent - lanes), self._whole(j), run, done=lanes - left)

    def _whole(self, j: ir.Value) -> ir.Value:
        """Where along the lanes the tile at `j` begins, so that it is whole."""
        assert isinstance(self.vector.extent, int)
        return self.ints.min(j, i64(self.vector.extent - self.lanes)) if self.vector.extent % self.lanes else j

    def _tile(self, i: ir.Value, j: ir.Value, run: Callable[[ExprEmitter], None], done: int = 0) -> None:
        """The tile that begins at i along `cross` and j along the lanes, but for the first `done` points of `cross`."""
        symbols = self.ints.symbols
        symbols[self.cross.symbol.name] = i
        read = []
        for n in range(self.lanes):
            symbols[self.vector.symbol.name] = self.ints.add(j, i64(n))
            read.append(self.emitter_of(Lanes(self.cross.symbol, self.lanes), None).raw(self.loads[0]))
        symbols[self.vector.symbol.name] = j
        for n, row in list(enumerate(transposed(self.b, read)))[done:]:
            symbols[self.cross.symbol.name] = self.ints.add(i, i64(n))
            emitter = self.emitter_of(Lanes(self.vector.symbol, self.lanes), None)
            for load in self.loads:
                emitter.know(load, emitter.scalars.from_memory(row, load.dtype))
            run(emitter)
