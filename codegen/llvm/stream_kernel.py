"""The microkernel for one or two rows: b streams past once, in long pieces, and the sums stay in the first-level cache.

Where a large b is used by so few rows, memory is all that counts: several rows of b are read side by side from end to
end, which prefetchers follow. It depends on no shape of a program, and it is called by the same signature.
"""

from __future__ import annotations

from collections.abc import Callable

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.microkernel import MICROKERNEL
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import (
    I32,
    counted_loop,
    element_type,
    i64,
    masked_load,
    masked_store,
    multiply_add,
    numbers,
    prefetch,
    splat,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["STREAM_ROWS", "StreamTile", "emit_stream_kernel"]

STREAM_ROWS = 2  # at most
_SECOND_LEVEL = 2  # of caches, as llvm.prefetch counts locality
_STEPS = 8  # rows of b side by side


@dataclass(frozen=True, slots=True)
class StreamTile:
    """The shape of a stream kernel: `rows` rows of c, of any number of columns.

    Attributes:
        dtype: of a, c and the sums.
        source: dtype of b.
        is_far: whether b is read from memory rather than from a cache: then later rows are asked for early.
        in_order: whether rows of b are read one after the other rather than side by side.
    """

    dtype: DType
    source: DType
    rows: int
    is_far: bool
    in_order: bool = False

    @property
    def steps(self) -> int:
        """Rows of b that are read side by side."""
        return 1 if self.in_order else _STEPS // self.rows

    def name(self, target: Target) -> str:
        far = ".ordered" if self.in_order else ".far" if self.is_far else ""
        return f"tjit.stream.{self.dtype}.{self.source}.{self.rows}x{target.lanes(self.dtype.itemsize)}{far}"


def emit_stream_kernel(tile: StreamTile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `MICROKERNEL`."""
    module = ir.Module(name=tile.name(target), context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, MICROKERNEL, tile.name(target))
    for pointer in (1, 4, 6):
        function.args[pointer].add_attribute("noalias")
    _StreamKernel(function, tile, target).emit()
    return module


@dataclass(frozen=True, slots=True)
class _Piece:
    """Columns from `j` on: `width` lanes, of which `mask` are on."""

    j: ir.Value
    width: int
    mask: ir.Value | None = None


class _StreamKernel:
    """The one emission of a stream kernel."""

    def __init__(self, function: ir.Function, tile: StreamTile, target: Target) -> None:
        self.tile, self.target = tile, target
        self.lanes = target.lanes(tile.dtype.itemsize)
        self.element = element_type(tile.dtype)
        self.b = Builder(function.append_basic_block("entry"))
        self.k, self.a, self.a_row, self.a_k, self.rows_b, self.b_k, self.c, self.c_row, self.columns, add = (
            function.args
        )
        self.scalars = {width: LlvmScalars(self.b, width, features_of(target)) for width in (1, self.lanes)}
        self.is_first = self.b.icmp_signed("==", add, i64(0))

    def emit(self) -> None:
        b, steps = self.b, self.tile.steps
        with b.if_then(self.is_first):
            self._each_piece(self._clear)
        whole = b.and_(self.k, i64(-steps))
        with counted_loop(b, i64(0), whole, i64(steps)) as p:
            self._accumulate(p, steps)
        with counted_loop(b, whole, self.k, i64(1)) as p:
            self._accumulate(p, 1)
        b.ret_void()

    def _each_piece(self, body: Callable[[_Piece], None]) -> None:
        """`body` for all columns: vectors, then the lanes that are left."""
        b = self.b
        whole = b.and_(self.columns, i64(-self.lanes))
        with counted_loop(b, i64(0), whole, i64(self.lanes)) as j:
            body(_Piece(j, self.lanes))
        if not self.target.masks:
            with counted_loop(b, whole, self.columns, i64(1)) as j:
                body(_Piece(j, 1))
            return
        with b.if_then(b.icmp_signed("<", whole, self.columns)):
            left = splat(b, b.trunc(b.sub(self.columns, whole), I32), self.lanes)
            body(_Piece(whole, self.lanes, b.icmp_signed("<", numbers(range(self.lanes)), left)))

    def _clear(self, piece: _Piece) -> None:
        kind = self._kind(piece)
        zero = ir.Constant(kind, 0.0 if isinstance(kind, (ir.FloatType, ir.DoubleType)) else None)
        for i in range(self.tile.rows):
            self._store(zero, self._at_c(i, piece), piece)

    def _accumulate(self, p: ir.Value, steps: int) -> None:
        """Add to c the products of `steps` elements of each row of a with rows of b."""
        b, tile = self.b, self.tile
        offsets = [
            [b.add(b.mul(i64(i), self.a_row), b.mul(b.add(p, i64(s)), self.a_k)) for s in range(steps)]
            for i in range(tile.rows)
        ]
        x = [[b.load(self._at(self.a, offset), typ=self.element) for offset in row] for row in offsets]
        wide = [[splat(b, value, self.lanes) for value in row] for row in x]
        source = self.scalars[1].memory_type(tile.source)
        rows_b = [b.gep(self.rows_b, [b.mul(b.add(p, i64(s)), self.b_k)], source_etype=source) for s in range(steps)]

        ahead = b.mul(i64(steps), self.b_k)

        def update(piece: _Piece) -> None:
            places = [b.gep(row, [piece.j], source_etype=source) for row in rows_b]
            if tile.is_far and not tile.in_order and piece.width > 1 and piece.mask is None:
                # a piece ends where the next rows' begins: no processor foresees that
                for place in places:
                    prefetch(b, b.gep(place, [ahead], source_etype=source), _SECOND_LEVEL)
            y = [self._load_b(place, piece) for place in places]
            for i, row in enumerate(wide if piece.width > 1 else x):
                at = self._at_c(i, piece)
                total = self._load(at, piece)
                for left, right in zip(row, y, strict=True):
                    total = multiply_add(b, left, right, total, fused=self.target.fma)
                self._store(total, at, piece)

        self._each_piece(update)

    def _kind(self, piece: _Piece) -> ir.Type:
        return self.element if piece.width == 1 else ir.VectorType(self.element, piece.width)

    def _at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=self.element)

    def _at_c(self, i: int, piece: _Piece) -> ir.Value:
        return self._at(self.c, self.b.add(self.b.mul(i64(i), self.c_row), piece.j))

    def _load(self, at: ir.Value, piece: _Piece) -> ir.Value:
        size = self.tile.dtype.itemsize
        if piece.mask is None:
            return self.b.load(at, typ=self._kind(piece), align=size)
        return masked_load(self.b, at, piece.mask, self._kind(piece), size)

    def _load_b(self, at: ir.Value, piece: _Piece) -> ir.Value:
        scalars, source = self.scalars[piece.width], self.tile.source
        kind = scalars.memory_type(source)
        if piece.mask is None:
            loaded = self.b.load(at, typ=kind, align=source.itemsize)
        else:
            loaded = masked_load(self.b, at, piece.mask, kind, source.itemsize)
        return scalars.cast(scalars.from_memory(loaded, source), self.tile.dtype).value

    def _store(self, value: ir.Value, at: ir.Value, piece: _Piece) -> None:
        if piece.mask is None:
            self.b.store(value, at, align=self.tile.dtype.itemsize)
        else:
            masked_store(self.b, value, at, piece.mask, self.tile.dtype.itemsize)
