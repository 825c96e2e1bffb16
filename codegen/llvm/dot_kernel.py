"""The other microkernel: dot products with lanes along k, for a few rows of a and a b whose rows of k are contiguous.

It reads b as it lies, where the register tile of `microkernel` would need it packed: right for weights that few rows
of a use. Like that one it depends on no shape of a program, and it is called by the same signature.
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
    I64,
    counted_loop,
    element_type,
    i64,
    least,
    masked_load,
    multiply_add,
    numbers,
    splat,
    stack,
    zeros,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["DotTile", "emit_dot_kernel"]


@dataclass(frozen=True, slots=True)
class DotTile:
    """The shape of a dot kernel: `rows` of a at a time with a group of b's; c may have any number of columns.

    c[i, j] = (add ? c[i, j] : 0) + sum over p < k of a[i*a_row + p] * b[j*b_k + p]: here b_k is from row to row of b.

    Attributes:
        dtype: of a, c and the sums.
        source: dtype of b.
        in_order: whether rows of b are read one after the other rather than side by side.
    """

    dtype: DType
    source: DType
    rows: int
    in_order: bool = False

    @property
    def group(self) -> int:
        """Rows of b that are read for one step of the columns."""
        return 8 if self.rows <= 2 else 4

    def name(self, target: Target) -> str:
        order = ".ordered" if self.in_order else ""
        return f"tjit.dot.{self.dtype}.{self.source}.{self.rows}x{target.lanes(self.dtype.itemsize)}{order}"


def emit_dot_kernel(tile: DotTile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `MICROKERNEL`."""
    module = ir.Module(name=tile.name(target), context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, MICROKERNEL, tile.name(target))
    for pointer in (1, 4, 6):
        function.args[pointer].add_attribute("noalias")
    _DotKernel(function, tile, target).emit()
    return module


class _DotKernel:
    """The one emission of a dot kernel."""

    def __init__(self, function: ir.Function, tile: DotTile, target: Target) -> None:
        self.tile, self.target = tile, target
        self.lanes = target.lanes(tile.dtype.itemsize)
        self.element = element_type(tile.dtype)
        self.vector = ir.VectorType(self.element, self.lanes)
        self.b = Builder(function.append_basic_block("entry"))
        self.k, self.a, self.a_row, _, self.rows_b, self.b_row, self.c, self.c_row, self.columns, add = function.args
        self.add = self.b.icmp_signed("!=", add, i64(0))
        self.sums = stack(self.b, ir.ArrayType(self.element, 16), 64)
        self.scalars = LlvmScalars(self.b, self.lanes, features_of(target))
        self.scalar = LlvmScalars(self.b, 1, features_of(target))

    def emit(self) -> None:
        b, tile = self.b, self.tile
        last = b.sub(self.columns, i64(1))
        with counted_loop(b, i64(0), self.columns, i64(tile.group)) as j:
            # past the last column its row is read again, and what comes of it is not stored
            columns = [least(b, b.add(j, i64(n)), last) for n in range(tile.group)]
            source = self._memory_element()
            rows_b = [b.gep(self.rows_b, [b.mul(n, self.b_row)], source_etype=source) for n in columns]
            rows_a = [self._at(self.a, b.mul(i64(i), self.a_row)) for i in range(tile.rows)]
            sums = self._sum_in_order(rows_a, rows_b) if tile.in_order else self._sum(rows_a, rows_b)
            self._keep(sums)
            self._write(j, least(b, b.sub(self.columns, j), i64(tile.group)))
        b.ret_void()

    def _sum(self, rows_a: list[ir.Value], rows_b: list[ir.Value]) -> list[ir.Value]:
        """The sums of all pairs of rows, still spread over lanes: pair (i, j) at i*group + j."""
        b = self.b
        zero = [zeros(self.vector)] * (len(rows_a) * len(rows_b))
        whole = b.and_(self.k, i64(-self.lanes))
        sums = self._loop(i64(0), whole, self.lanes, zero, rows_a, rows_b, self._load, self._load_b)
        if self.target.masks:
            return self._loop(whole, self.k, self.lanes, sums, rows_a, rows_b, self._load_tail, self._load_b_tail)
        return self._loop(whole, self.k, 1, sums, rows_a, rows_b, self._load_one, self._load_b_one)

    def _sum_in_order(self, rows_a: list[ir.Value], rows_b: list[ir.Value]) -> list[ir.Value]:
        """As `_sum`, which takes the steps of each pair in the same order."""
        sums = [self._sum(rows_a, [row]) for row in rows_b]
        return [of_row[i] for i in range(len(rows_a)) for of_row in sums]

    def _loop(
        self,
        start: ir.Value,
        stop: ir.Value,
        step: int,
        initial: list[ir.Value],
        rows_a: list[ir.Value],
        rows_b: list[ir.Value],
        load_a: Callable[[ir.Value, ir.Value], ir.Value],
        load_b: Callable[[ir.Value, ir.Value], ir.Value],
    ) -> list[ir.Value]:
        b = self.b
        before, body, after = b.block, b.append_basic_block("steps"), b.append_basic_block("summed")
        b.cbranch(b.icmp_signed("<", start, stop), body, after)
        b.position_at_end(body)
        p = b.phi(I64, "p")
        sums = [b.phi(self.vector) for _ in initial]
        y = [load_b(row, p) for row in rows_b]
        updated: list[ir.Value] = []
        for i, row in enumerate(rows_a):
            x = load_a(row, p)
            for j, value in enumerate(y):
                s = sums[i * len(y) + j]
                updated.append(multiply_add(b, x, value, s, fused=self.target.fma))
        following = b.add(p, i64(step))
        b.cbranch(b.icmp_signed("<", following, stop), body, after)
        end = b.block
        b.position_at_end(after)
        results = []
        for phi, first, value in zip([p, *sums], [start, *initial], [following, *updated], strict=True):
            phi.add_incoming(first, before)
            phi.add_incoming(value, end)
        for first, value in zip(initial, updated, strict=True):
            result = b.phi(self.vector)
            result.add_incoming(first, before)
            result.add_incoming(value, end)
            results.append(result)
        return results

    # what a step reads: whole vectors, the lanes that are left, or one element in lane 0

    def _load(self, row: ir.Value, p: ir.Value) -> ir.Value:
        return self.b.load(self._at(row, p), typ=self.vector, align=self.tile.dtype.itemsize)

    def _load_tail(self, row: ir.Value, p: ir.Value) -> ir.Value:
        return masked_load(self.b, self._at(row, p), self._mask(p), self.vector, self.tile.dtype.itemsize)

    def _load_one(self, row: ir.Value, p: ir.Value) -> ir.Value:
        return self._first_lane(self.b.load(self._at(row, p), typ=self.element))

    def _load_b(self, row: ir.Value, p: ir.Value) -> ir.Value:
        kind = self.scalars.memory_type(self.tile.source)
        return self._widen(self.scalars, self.b.load(self._at_b(row, p), typ=kind, align=self.tile.source.itemsize))

    def _load_b_tail(self, row: ir.Value, p: ir.Value) -> ir.Value:
        kind = self.scalars.memory_type(self.tile.source)
        size = self.tile.source.itemsize
        return self._widen(self.scalars, masked_load(self.b, self._at_b(row, p), self._mask(p), kind, size))

    def _load_b_one(self, row: ir.Value, p: ir.Value) -> ir.Value:
        loaded = self.b.load(self._at_b(row, p), typ=self._memory_element())
        return self._first_lane(self._widen(self.scalar, loaded))

    def _widen(self, scalars: LlvmScalars, loaded: ir.Value) -> ir.Value:
        return scalars.cast(scalars.from_memory(loaded, self.tile.source), self.tile.dtype).value

    def _first_lane(self, x: ir.Value) -> ir.Value:
        return self.b.insert_element(zeros(self.vector), x, ir.Constant(I32, 0))

    def _mask(self, p: ir.Value) -> ir.Value:
        left = splat(self.b, self.b.trunc(self.b.sub(self.k, p), I32), self.lanes)
        return self.b.icmp_signed("<", numbers(range(self.lanes)), left)

    def _memory_element(self) -> ir.Type:
        return self.scalar.memory_type(self.tile.source)

    def _at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=self.element)

    def _at_b(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=self._memory_element())

    # the sums of lanes, and where they go

    def _keep(self, vectors: list[ir.Value]) -> None:
        """Write the sum of all lanes of vectors[n] to sums[n]."""
        size = min(self.lanes, 1 << (len(vectors) - 1).bit_length())
        for start in range(0, len(vectors), size):
            total = self._reduce(vectors[start : start + size], size)
            self.b.store(total, self._at(self.sums, i64(start)), align=self.tile.dtype.itemsize)

    def _reduce(self, vectors: list[ir.Value], size: int) -> ir.Value:
        """One vector of `size` lanes: lane n is the sum of all lanes of vectors[n]."""
        n = self.lanes
        vectors = [*vectors, *([zeros(self.vector)] * (size - len(vectors)))]
        # interleave the first half of the vectors with the second, and add the two halves that come of it
        low = [i // 2 + n * (i % 2) for i in range(n)]
        high = [n // 2 + i for i in low]
        while len(vectors) > 1:
            half = len(vectors) // 2
            pairs = zip(vectors[:half], vectors[half:], strict=True)
            vectors = [self._plus(self._shuffle(x, y, low), self._shuffle(x, y, high)) for x, y in pairs]
        (total,) = vectors
        while total.type.count > size:  # lane t*size + n is a part of sum n
            half = total.type.count // 2
            first, second = list(range(half)), list(range(half, 2 * half))
            total = self._plus(self._shuffle(total, total, first), self._shuffle(total, total, second))
        return total

    def _write(self, j: ir.Value, count: ir.Value) -> None:
        """Move the sums of one group, `count` columns from j on, to c."""
        b, tile = self.b, self.tile
        whole = ir.VectorType(self.element, tile.group)
        for i in range(tile.rows):
            sums = self._at(self.sums, i64(i * tile.group))
            to = self._at(self.c, b.add(b.mul(i64(i), self.c_row), j))
            with b.if_else(b.icmp_signed("==", count, i64(tile.group))) as (full, edge):
                with full:
                    self._move(sums, to, whole)
                with edge, counted_loop(b, i64(0), count, i64(1)) as n:
                    self._move(self._at(sums, n), self._at(to, n), self.element)

    def _move(self, source: ir.Value, to: ir.Value, kind: ir.Type) -> None:
        b, size = self.b, self.tile.dtype.itemsize
        value = b.load(source, typ=kind, align=size)
        total = self._plus(b.load(to, typ=kind, align=size), value)
        b.store(b.select(self.add, total, value), to, align=size)

    def _plus(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.b.fadd(x, y) if self.tile.dtype.is_floating_point else self.b.add(x, y)

    def _shuffle(self, x: ir.Value, y: ir.Value, lanes: list[int]) -> ir.Value:
        return self.b.shuffle_vector(x, y, numbers(tuple(lanes)))
