"""Scans of few long rows, cut into blocks so that all threads take part.

One kernel reduces each block, a second scans each from what the blocks before it come to. The cut depends on shapes
only, so bits do not depend on threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from tjit.codegen.axes import rebuild
from tjit.codegen.kernel import (
    Axis,
    Buffer,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Reduced,
    Scan,
    Scanned,
    Statement,
    Store,
    walk,
)
from tjit.codegen.scalars import held
from tjit.dtypes import DType, f32, f64
from tjit.ir.dims import Dim, Symbol, coefficient, minimum, product, substitute
from tjit.ir.types import TensorType

__all__ = ["running_dtype", "split_scan"]

_FEW_ROWS = 8
_FEW_COLUMNS = 128
_LONG = 1 << 17  # elements of the whole scan
_BLOCK = 1 << 9  # elements of a row's block, at least
_BLOCKS = 32


def running_dtype(scan: Scan) -> DType:
    """What a scan keeps from one point to the next: sums and products of long rows would lose digits in f32."""
    dtype = held(scan.dtype)
    return f64 if dtype is f32 and scan.kind in ("sum", "prod") else dtype


def split_scan(kernel: LoopKernel, new_buffer: Callable[[TensorType], Buffer]) -> list[LoopKernel]:
    """`kernel`, or a kernel that reduces blocks of its rows and one that scans them."""
    if not _should_split(kernel):
        return [kernel]
    (axis,) = kernel.loops[0].axes
    length = max(_BLOCK, -(-axis.extent // _BLOCKS))
    length = -(-length // 64) * 64  # of whole vectors and cache lines
    blocks = -(-axis.extent // length)
    mark = axis.symbol.name[: len(axis.symbol.name) - len(axis.symbol.name.lstrip("_"))]
    block = Axis(Symbol(f"{mark}part", 0, blocks - 1), blocks)
    inside = Axis(Symbol(f"{axis.symbol.name}s", 0, length - 1), minimum(length, axis.extent - block.index * length))
    cut = _Cut(kernel, block, inside, {axis.symbol: block.index * length + inside.index})
    totals = [new_buffer(TensorType(running_dtype(s), cut.shape)) for s in cut.scans]
    return [cut.reductions(totals), cut.rescans(totals)] if blocks > 1 else [kernel]


class _Cut:
    """A kernel's only loop cut into blocks: `values` gives the old axis by the new ones."""

    def __init__(self, kernel: LoopKernel, block: Axis, inside: Axis, values: dict[Symbol, Dim]) -> None:
        self.kernel, self.block, self.inside, self.values = kernel, block, inside, values
        self.loop = kernel.loops[0]
        self.scans = [s for s in self.loop.body if isinstance(s, Scan)]
        self.shape: tuple[Dim, ...] = (block.extent, *(a.extent for a in kernel.parallel))
        self.points = tuple(a.index for a in kernel.parallel)

    def reductions(self, totals: list[Buffer]) -> LoopKernel:
        """Every block of every scan reduced, in the dtype that the scan runs in."""
        memo: dict[int, Any] = {}
        reduces = [
            Reduce(s.name, s.kind, rebuild(s.value, self.values, {}, memo), running_dtype(s), s.location)
            for s in self.scans
        ]
        at = (self.block.index, *self.points)
        stores = tuple(Store(t, at, Reduced(r), r.location) for t, r in zip(totals, reduces, strict=True))
        loops = (Loop((self.inside,), tuple(reduces)), Loop((), stores))
        return replace(self.kernel, parallel=self._parallel(), loops=loops, outputs=tuple(totals))

    def rescans(self, totals: list[Buffer]) -> LoopKernel:
        """Every block scanned from what those before it come to."""
        earlier = self._earlier()
        place = self.block.index + 1 + earlier.index if self.loop.reverse else earlier.index
        starts = [
            Reduce(f"{s.name}start", s.kind, Load(t, (place, *self.points)), running_dtype(s), s.location)
            for s, t in zip(self.scans, totals, strict=True)
        ]
        loops = (Loop((earlier,), tuple(starts)), replace(self.loop, axes=(self.inside,), body=self._body(starts)))
        return replace(self.kernel, parallel=self._parallel(), loops=loops)

    def _earlier(self) -> Axis:
        """The blocks that come before."""
        last = self.block.extent - 1
        count = last - self.block.index if self.loop.reverse else self.block.index
        return Axis(Symbol(f"{self.inside.symbol.name}b", 0, last), count)

    def _body(self, starts: list[Reduce]) -> tuple[Statement, ...]:
        start_of = {id(s): Reduced(r) for s, r in zip(self.scans, starts, strict=True)}
        made: dict[int, Any] = {}
        memo: dict[int, Any] = {}
        body: list[Statement] = []
        for s in self.loop.body:
            value = rebuild(s.value, self.values, made, memo)
            if isinstance(s, Scan):
                made[id(s)] = new = replace(s, value=value, start=start_of[id(s)])
                body.append(new)
            elif isinstance(s, Store):
                body.append(replace(s, value=value, index=tuple(substitute(d, self.values) for d in s.index)))
        return tuple(body)

    def _parallel(self) -> tuple[Axis, ...]:
        return (self.block, *self.kernel.parallel)


def _should_split(kernel: LoopKernel) -> bool:
    if len(kernel.loops) != 1 or len(kernel.loops[0].axes) != 1:
        return False
    body = kernel.loops[0].body
    scans = [s for s in body if isinstance(s, Scan)]
    if not scans or any(isinstance(s, Reduce) or (isinstance(s, Store) and s.buffer.row) for s in body):
        return False
    if any(isinstance(e, Scanned) for s in scans for e in walk(s.value)):
        return False  # a scan of what another comes to: its blocks would wait for the other's
    length, points = kernel.loops[0].axes[0].extent, product(a.extent for a in kernel.parallel)
    if not (isinstance(length, int) and isinstance(points, int)):
        return False
    few = _FEW_COLUMNS if _walks_down_columns(kernel) else _FEW_ROWS
    return points < few and points * length >= _LONG and length >= 2 * _BLOCK


def _walks_down_columns(kernel: LoopKernel) -> bool:
    """Whether neighbours in memory are parallel points of their own, not elements of one row."""
    if not kernel.parallel:
        return False
    row, column = kernel.loops[0].axes[0].symbol, kernel.parallel[-1].symbol
    loads = [e for s in kernel.loops[0].body for e in walk(s.value) if isinstance(e, Load)]
    offsets = [e.buffer.offset(e.index) for e in loads]
    return any(coefficient(o, column) == 1 for o in offsets) and not any(coefficient(o, row) == 1 for o in offsets)
