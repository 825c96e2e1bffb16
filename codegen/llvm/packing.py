"""Packing: an operand of a contraction copied into panels that the microkernel reads in order.

A panel holds `width` rows (m or n) for every k: element (row, p) lies at p*width + row. A packing function's text
depends on width, dtypes, which stride is 1 and the target, on no shape of a program: kernels share it by name.
"""

from __future__ import annotations

from dataclasses import dataclass

import llvmlite.ir as ir

from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, element_type, i64, least, numbers
from tjit.dtypes import DType

__all__ = ["PACK", "Packing", "emit_packing", "transposed"]

# (rows, k, source, row_stride, k_stride, panels): strides in elements. Panels lie k*width elements apart, and up to
# one vector behind the last panel is overwritten. The rows that the last panel lacks hold anything.
PACK = ir.FunctionType(ir.VoidType(), [I64, I64, PTR, I64, I64, PTR])
_NAMES = ("rows", "k", "source", "row_stride", "k_stride", "panels")
_BLOCK = 16  # of k, copied from each source row before the next panel: both sides stay within few pages


@dataclass(frozen=True, slots=True)
class Packing:
    """One packing function.

    Attributes:
        source, target: dtypes in memory and in the panels; `target` holds all of `source`.
        order: "rows" where row_stride is 1, "k" where k_stride is 1, "any" else.
    """

    source: DType
    target: DType
    width: int
    order: str

    def name(self, target: Target) -> str:
        lanes = target.lanes(self.target.itemsize)
        return f"tjit.pack.{self.source}.{self.target}.{self.width}.{self.order}.{lanes}"


def emit_packing(packing: Packing, target: Target) -> ir.Module:
    """A module with the one function `packing.name(target)` of type `PACK`."""
    module = ir.Module(name=packing.name(target), context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, PACK, packing.name(target))
    for argument, name in zip(function.args, _NAMES, strict=True):
        argument.name = name
    for pointer in (2, 5):
        function.args[pointer].add_attribute("noalias")
    emitter = _Packing(function, packing, target)
    {"rows": emitter.copy, "k": emitter.transpose, "any": emitter.gather}[packing.order]()
    emitter.b.ret_void()
    return module


class _Packing:
    """The one emission of a packing function."""

    def __init__(self, function: ir.Function, packing: Packing, target: Target) -> None:
        self.packing, self.target = packing, target
        self.width = i64(packing.width)
        self.lanes = target.lanes(packing.target.itemsize)
        self.b = ir.IRBuilder(function.append_basic_block("entry"))
        self.rows, self.k, self.source, self.row_stride, self.k_stride, self.panels = function.args

    def copy(self) -> None:
        """Rows are neighbours in memory: copy `width` of them at a time."""
        b = self.b
        full = b.mul(b.sdiv(self.rows, self.width), self.width)
        with counted_loop(b, i64(0), self.k, i64(_BLOCK)) as p0:
            p1 = least(b, b.add(p0, i64(_BLOCK)), self.k)
            with counted_loop(b, i64(0), full, self.width) as row, counted_loop(b, p0, p1, i64(1)) as p:
                source, panel = self._source(row, p), self._panel(row, p)
                at = 0
                for size in _powers_of_two(self.packing.width, self.lanes):
                    self._store(self._load(source, at, size), panel, at)
                    at += size
        with b.if_then(b.icmp_signed("<", full, self.rows)), counted_loop(b, i64(0), self.k, i64(1)) as p:
            self._copy_elements(full, b.sub(self.rows, full), p)

    def transpose(self) -> None:
        """Elements along k are neighbours: transpose squares of vectors."""
        b, lanes = self.b, self.lanes
        whole = b.and_(self.k, i64(-lanes))
        with counted_loop(b, i64(0), self.rows, self.width) as row:
            # one square in the code, however many are side by side: LLVM is slow at shuffles
            with counted_loop(b, i64(0), self.width, i64(lanes)) as before:
                # the last square first: its lanes beyond the width fall on the next k, which the first square writes
                column = b.sub(i64((self.packing.width - 1) // lanes * lanes), before)
                self._transpose_squares(row, column, whole)
            with counted_loop(b, whole, self.k, i64(1)) as p:
                self._copy_elements(row, least(b, b.sub(self.rows, row), self.width), p)

    def _transpose_squares(self, row: ir.Value, column: ir.Value, whole: ir.Value) -> None:
        """`lanes` rows of the panel at `row`, from `column` of it on, for k below `whole`."""
        b, lanes, width = self.b, self.lanes, self.packing.width
        count = min(lanes, width)
        first, last = b.add(row, column), b.sub(self.rows, i64(1))
        sources = [self._source(least(b, b.add(first, i64(r)), last), i64(0)) for r in range(count)]
        with counted_loop(b, i64(0), whole, i64(lanes)) as p:
            vectors = [self._load(self._element(s, p), 0, lanes) for s in sources]
            vectors += [vectors[-1]] * (lanes - count)
            panel = b.gep(self._panel(row, p), [column], source_etype=element_type(self.packing.target))
            for i, vector in enumerate(transposed(b, vectors)):
                self._store(vector, panel, i * width)

    def gather(self) -> None:
        """No stride is 1: element by element."""
        b = self.b
        with counted_loop(b, i64(0), self.rows, self.width) as row, counted_loop(b, i64(0), self.k, i64(1)) as p:
            self._copy_elements(row, least(b, b.sub(self.rows, row), self.width), p)

    def _copy_elements(self, row: ir.Value, count: ir.Value, p: ir.Value) -> None:
        """The panel at `row`, step p: `count` elements one by one, then zeros."""
        b = self.b
        element = element_type(self.packing.target)
        panel = self._panel(row, p)
        with counted_loop(b, i64(0), count, i64(1)) as r:
            value = self._read(self._source(b.add(row, r), p), 1)
            b.store(value, b.gep(panel, [r], source_etype=element))
        with counted_loop(b, count, self.width, i64(1)) as r:
            b.store(
                ir.Constant(element, None if isinstance(element, ir.IntType) else 0.0),
                b.gep(panel, [r], source_etype=element),
            )

    def _source(self, row: ir.Value, p: ir.Value) -> ir.Value:
        b = self.b
        strides = {"rows": (None, self.k_stride), "k": (self.row_stride, None), "any": (self.row_stride, self.k_stride)}
        row_stride, k_stride = strides[self.packing.order]
        row = row if row_stride is None else b.mul(row, row_stride)
        p = p if k_stride is None else b.mul(p, k_stride)
        return self._element(self.source, b.add(row, p))

    def _element(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=element_type(self.packing.source))

    def _panel(self, row: ir.Value, p: ir.Value) -> ir.Value:
        """Where step p of the panel that starts at `row` lies."""
        b = self.b
        offset = b.add(b.mul(row, self.k), b.mul(p, self.width))
        return b.gep(self.panels, [offset], source_etype=element_type(self.packing.target))

    def _load(self, pointer: ir.Value, offset: int, size: int) -> ir.Value:
        return self._read(self._element(pointer, i64(offset)) if offset else pointer, size)

    def _read(self, pointer: ir.Value, size: int) -> ir.Value:
        """`size` elements, as the panels hold them; one: a scalar."""
        scalars = LlvmScalars(self.b, size, features_of(self.target))
        source = self.packing.source
        loaded = self.b.load(pointer, typ=scalars.memory_type(source), align=source.itemsize)
        return scalars.cast(scalars.from_memory(loaded, source), self.packing.target).value

    def _store(self, value: ir.Value, panel: ir.Value, offset: int) -> None:
        b = self.b
        pointer = b.gep(panel, [i64(offset)], source_etype=element_type(self.packing.target)) if offset else panel
        b.store(value, pointer, align=self.packing.target.itemsize)


def _powers_of_two(total: int, largest: int) -> list[int]:
    """`total` as a falling sum of powers of two, none above `largest`."""
    sizes = []
    while total:
        size = min(largest, 1 << (total.bit_length() - 1))
        sizes.append(size)
        total -= size
    return sizes


def transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Columns of a square of vectors: log2(n) rounds that interleave the first half with the second."""
    n = len(rows)
    low = numbers(tuple(i // 2 + n * (i % 2) for i in range(n)))
    high = numbers(tuple(n // 2 + i // 2 + n * (i % 2) for i in range(n)))
    for _ in range(n.bit_length() - 1):
        pairs = zip(rows[: n // 2], rows[n // 2 :], strict=True)
        rows = [b.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
    return rows
