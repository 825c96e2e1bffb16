"""Packing: an operand of a contraction copied into panels that the microkernel reads in order.

A panel holds `width` rows (m or n) for every step of k: lane (row, step) lies at step*width + row. A lane is one
element, or those of a few neighbours along k that an instruction of the target takes together, zeros beyond the last.
A packing function's text depends on dtypes, which stride is 1 and the target, on no shape of a program: kernels share
it by name. Only where whole rows are copied does it depend on the width.
"""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.lane_dots import I8_DOT, lane_sum
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import (
    I32,
    I64,
    PTR,
    counted_loop,
    element_type,
    fenced,
    i64,
    least,
    masked_load,
    numbers,
    prefetch,
    splat,
    zeros,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["PACK", "Packing", "emit_packing", "transposed"]

# (rows, k, source, row_stride, k_stride, panels, width): strides in elements. Panels lie steps*width lanes apart, and
# up to one vector behind the last panel is overwritten. The rows that the last panel lacks hold anything.
PACK = ir.FunctionType(ir.VoidType(), [I64, I64, PTR, I64, I64, PTR, I64])
_NAMES = ("rows", "k", "source", "row_stride", "k_stride", "panels", "width")
_FENCED = 8  # rows: few are joined quickly
_BLOCK = 16  # source rows that are copied for all panels before the next ones: both sides stay within few pages
_AHEAD = 4  # steps, of elements that lie apart


@dataclass(frozen=True, slots=True)
class Packing:
    """One packing function.

    Attributes:
        source, target: dtypes in memory and in the panels; `target` holds all of `source`.
        order: "rows" where row_stride is 1, "k" where k_stride is 1, "any" else.
        group: elements of a lane: of several, each is its bits in `target`, and together they are 32.
        flips: whether the highest bit of each element of a lane is turned over: a signed byte x becomes x + 128.
        offsets: whether each panel has one more step: what -128 times the elements of a row add up to, in i32.
    """

    source: DType
    target: DType
    width: int
    order: str
    group: int = 1
    flips: bool = False
    offsets: bool = False

    @property
    def is_of_one_width(self) -> bool:
        """Whether the function is of panels of this width, not of any."""
        return self.order == "rows" or self.offsets

    @property
    def lane_bytes(self) -> int:
        return self.target.itemsize * self.group

    def name(self, target: Target) -> str:
        lane = str(self.target)
        if self.group > 1:
            lane += f"x{self.group}{'flipped' * self.flips}{'offset' * self.offsets}"
        width = f".{self.width}" if self.is_of_one_width else ""
        return f"tjit.pack.{self.source}.{lane}{width}.{self.order}.{target.lanes(self.lane_bytes)}"


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
    if packing.offsets:
        emitter.add_offsets()
    emitter.b.ret_void()
    return module


class _Packing:
    """The one emission of a packing function."""

    def __init__(self, function: ir.Function, packing: Packing, target: Target) -> None:
        self.packing, self.target = packing, target
        self.lanes = target.lanes(packing.lane_bytes)
        self.b = Builder(function.append_basic_block("entry"))
        self.rows, self.k, self.source, self.row_stride, self.k_stride, self.panels, width = function.args
        self.width = i64(packing.width) if packing.is_of_one_width else width
        self.lane = element_type(packing.target) if packing.group == 1 else I32
        self.whole, self.steps = self._count_steps()

    def _count_steps(self) -> tuple[ir.Value, ir.Value]:
        """Steps of k whose lanes are whole, and all."""
        b, group = self.b, self.packing.group
        if group == 1:
            return self.k, self.k
        return b.sdiv(self.k, i64(group)), b.sdiv(b.add(self.k, i64(group - 1)), i64(group))

    def copy(self) -> None:
        """Rows are neighbours in memory: copy `width` of them at a time."""
        b = self.b
        full = b.mul(b.sdiv(self.rows, self.width), self.width)
        block = i64(_BLOCK // self.packing.group)
        with counted_loop(b, i64(0), self.whole, block) as p0:
            p1 = least(b, b.add(p0, block), self.whole)
            with counted_loop(b, i64(0), full, self.width) as row, counted_loop(b, p0, p1, i64(1)) as p:
                panel = self._panel(row, p)
                at = 0
                for size in _powers_of_two(self.packing.width, self.lanes):
                    self._store(self._lanes_of_rows(row, p, at, size), panel, at)
                    at += size
        if self.target.masks:
            self._copy_edge(full)
        else:
            self._copy_rows(full, i64(0), self.whole)
        if self.packing.group > 1:
            self._copy_rows(i64(0), self.whole, self.steps)

    def _copy_edge(self, row: ir.Value) -> None:
        """The panel at `row`, which is not full, for whole steps."""
        b = self.b
        left = b.trunc(b.sub(self.rows, row), I32)
        with b.if_then(b.icmp_signed("<", row, self.rows)), counted_loop(b, i64(0), self.whole, i64(1)) as p:
            panel = self._panel(row, p)
            at = 0
            for size in _powers_of_two(self.packing.width, self.lanes):
                mask = b.icmp_signed("<", numbers(range(at, at + size)), splat(b, left, size)) if size > 1 else None
                if mask is None:
                    with b.if_then(b.icmp_signed("<", I32(at), left)):
                        self._store(self._lanes_of_rows(row, p, at, size), panel, at)
                else:
                    self._store(self._lanes_of_rows(row, p, at, size, mask), panel, at)
                at += size

    def transpose(self) -> None:
        """Elements along k are neighbours: transpose squares of vectors."""
        b, lanes = self.b, self.lanes
        # the last square overlaps the one before it; too few steps for one are copied
        stop = b.select(b.icmp_signed("<", self.whole, i64(lanes)), i64(0), self.whole)
        every_row = counted_loop(b, i64(0), self.rows, self.width)
        last = b.mul(b.udiv(b.sub(self.width, i64(1)), i64(lanes)), i64(lanes))
        # one square in the code, however many are side by side: LLVM is slow at shuffles
        with every_row as row, counted_loop(b, i64(0), self.width, i64(lanes)) as before:
            # the last square first: its lanes beyond the width fall on the next step, which the first square writes
            self._transpose_squares(row, b.sub(last, before), stop)
        self._copy_rows(i64(0), stop, self.steps)

    def _transpose_squares(self, row: ir.Value, column: ir.Value, stop: ir.Value) -> None:
        """`lanes` rows of the panel at `row`, from `column` of it on, for steps below `stop`: none, or a square's."""
        b, lanes = self.b, self.lanes
        first, last = b.add(row, column), b.sub(least(b, self.rows, b.add(row, self.width)), i64(1))
        sources = [self._source(least(b, b.add(first, i64(r)), last), i64(0)) for r in range(lanes)]
        with counted_loop(b, i64(0), stop, i64(lanes)) as start:
            p = least(b, start, b.sub(stop, i64(lanes)))
            vectors = [self._lanes_along_k(s, p) for s in sources]
            panel = b.gep(self._panel(row, p), [column], source_etype=self.lane)
            for vector in transposed(b, vectors):
                self._store(vector, panel, 0)
                panel = b.gep(panel, [self.width], source_etype=self.lane)

    def gather(self) -> None:
        """No stride is 1: element by element, each step far from the one before."""
        self._copy_rows(i64(0), i64(0), self.steps, _AHEAD)

    def _copy_rows(self, first: ir.Value, start: ir.Value, stop: ir.Value, ahead: int = 0) -> None:
        """Rows from `first` on, steps [start, stop), lane by lane; zeros where a panel has no row.

        ahead: how many steps ahead memory is asked for.
        """
        b = self.b
        with b.if_then(b.icmp_signed("<", start, stop)), counted_loop(b, first, self.rows, self.width) as row:
            count = least(b, b.sub(self.rows, row), self.width)
            with counted_loop(b, start, stop, i64(1)) as p:
                panel = self._panel(row, p)
                with counted_loop(b, i64(0), count, i64(1)) as r:
                    if ahead:
                        prefetch(b, self._source(b.add(row, r), b.add(p, i64(ahead))))
                    self._store_at(self._one_lane(b.add(row, r), p), panel, r)
                with counted_loop(b, count, self.width, i64(1)) as r:
                    zero = ir.Constant(self.lane, None if isinstance(self.lane, ir.IntType) else 0.0)
                    self._store_at(zero, panel, r)

    def add_offsets(self) -> None:
        """The last step of each panel, from those before it, which the cache has."""
        b, kind = self.b, ir.VectorType(I32, self.lanes)
        zero, ones = zeros(kind), self._constant(kind, 0x01010101)
        with counted_loop(b, i64(0), self.rows, self.width) as row:
            panel = self._panel(row, i64(0))
            for at in range(0, self.packing.width, self.lanes):
                before, body, after = b.block, b.append_basic_block("steps"), b.append_basic_block("summed")
                b.cbranch(b.icmp_signed("<", i64(0), self.steps), body, after)
                b.position_at_end(body)
                p, total = b.phi(I64), b.phi(kind)
                place = b.gep(panel, [b.add(b.mul(p, self.width), i64(at))], source_etype=self.lane)
                added = lane_sum(b, I8_DOT, total, ones, b.load(place, typ=kind, align=self.packing.lane_bytes))
                following = b.add(p, i64(1))
                b.cbranch(b.icmp_signed("<", following, self.steps), body, after)
                for phi, first, later in ((p, i64(0), following), (total, zero, added)):
                    phi.add_incoming(first, before)
                    phi.add_incoming(later, body)
                b.position_at_end(after)
                result = b.phi(kind)
                result.add_incoming(zero, before)
                result.add_incoming(added, body)
                offset = b.mul(result, self._constant(kind, -128))
                self._store_at(offset, panel, b.add(b.mul(self.steps, self.width), i64(at)))

    # lanes, as the panels hold them

    def _lanes_of_rows(self, row: ir.Value, p: ir.Value, at: int, size: int, mask: ir.Value | None = None) -> ir.Value:
        """Step p of `size` rows from row + at on, which are neighbours; memory is touched where `mask` is on."""
        if self.packing.group == 1:
            return self._load(self._source(row, p), at, size, mask)
        b, group = self.b, self.packing.group
        first = b.mul(p, i64(group))
        parts = [self._source(row, b.add(first, i64(e))) for e in range(group)]
        return self._joined([self._bits(self._element(x, i64(at)), size, mask) for x in parts])

    def _lanes_along_k(self, source: ir.Value, p: ir.Value) -> ir.Value:
        """`lanes` steps from p on of the row at `source`, whose elements are neighbours."""
        if self.packing.group == 1:
            return self._load(self._element(source, p), 0, self.lanes)
        b, group = self.b, self.packing.group
        bits = self._bits(self._element(source, b.mul(p, i64(group))), self.lanes * group)
        return self._flipped(b.bitcast(bits, ir.VectorType(I32, self.lanes)))

    def _one_lane(self, row: ir.Value, p: ir.Value) -> ir.Value:
        if self.packing.group == 1:
            return self._read(self._source(row, p), 1)
        b, group = self.b, self.packing.group
        parts = []
        for e in range(group):
            k = b.add(b.mul(p, i64(group)), i64(e))
            x = self._bits(self._source(row, least(b, k, b.sub(self.k, i64(1)))), 1)
            parts.append(b.select(b.icmp_signed("<", k, self.k), x, ir.Constant(x.type, 0)))
        return self._joined(parts)

    def _joined(self, parts: list[ir.Value]) -> ir.Value:
        """The elements of each lane side by side, the first in the lowest bits."""
        b, bits = self.b, self.packing.target.bits
        if isinstance(parts[0].type, ir.VectorType):
            return self._flipped(self._interleaved(parts))
        total = b.zext(parts[0], I32)
        for e, part in enumerate(parts[1:], 1):
            total = b.or_(total, b.shl(b.zext(part, I32), I32(e * bits)))
        return self._flipped(total)

    def _interleaved(self, parts: list[ir.Value]) -> ir.Value:
        """The elements of vectors by turns: one shuffle, for which a processor may have one instruction."""
        b, size, group = self.b, parts[0].type.count, len(parts)
        while len(parts) > 2:
            whole = numbers(range(2 * parts[0].type.count))
            parts = [b.shuffle_vector(x, y, whole) for x, y in zip(parts[::2], parts[1::2], strict=True)]
        first, second = parts
        turns = numbers(tuple(e * size + lane for lane in range(size) for e in range(group)))
        return b.bitcast(b.shuffle_vector(first, second, turns), ir.VectorType(I32, size))

    def _flipped(self, lanes: ir.Value) -> ir.Value:
        if not self.packing.flips:
            return lanes
        bits = self.packing.target.bits
        high = sum(1 << (e * bits + bits - 1) for e in range(self.packing.group))
        return self.b.xor(lanes, self._constant(lanes.type, high))

    def _constant(self, kind: ir.Type, value: int) -> ir.Constant:
        return ir.Constant(kind, [value] * kind.count if isinstance(kind, ir.VectorType) else value)

    def _bits(self, pointer: ir.Value, size: int, mask: ir.Value | None = None) -> ir.Value:
        """The bits of `size` elements in the target dtype, an integer or the source's own; one: a scalar."""

        def kind(dtype: DType) -> ir.Type:
            element = ir.IntType(dtype.bits)
            return element if size == 1 else ir.VectorType(element, size)

        source, target = self.packing.source, self.packing.target
        loaded = self._loaded(pointer, kind(source), mask)
        if source.bits == target.bits:
            return loaded
        return (self.b.sext if source.is_signed else self.b.zext)(loaded, kind(target))

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
        in_panel = b.add(self.steps, i64(1)) if self.packing.offsets else self.steps
        offset = b.add(b.mul(row, in_panel), b.mul(p, self.width))
        return b.gep(self.panels, [offset], source_etype=self.lane)

    def _load(self, pointer: ir.Value, offset: int, size: int, mask: ir.Value | None = None) -> ir.Value:
        return self._read(self._element(pointer, i64(offset)) if offset else pointer, size, mask)

    def _loaded(self, pointer: ir.Value, kind: ir.Type, mask: ir.Value | None) -> ir.Value:
        align = self.packing.source.itemsize
        if mask is None:
            return self.b.load(pointer, typ=kind, align=align)
        return masked_load(self.b, pointer, mask, kind, align)

    def _read(self, pointer: ir.Value, size: int, mask: ir.Value | None = None) -> ir.Value:
        """`size` elements, as the panels hold them; one: a scalar."""
        scalars = LlvmScalars(self.b, size, features_of(self.target))
        source = self.packing.source
        loaded = self._loaded(pointer, scalars.memory_type(source), mask)
        return scalars.cast(scalars.from_memory(loaded, source), self.packing.target).value

    def _store(self, value: ir.Value, panel: ir.Value, offset: int) -> None:
        self._store_at(value, panel, i64(offset))

    def _store_at(self, value: ir.Value, panel: ir.Value, offset: ir.Value) -> None:
        pointer = self.b.gep(panel, [offset], source_etype=self.lane)
        self.b.store(value, pointer, align=self.packing.lane_bytes)


def _powers_of_two(total: int, largest: int) -> list[int]:
    """`total` as a falling sum of powers of two, none above `largest`."""
    sizes = []
    while total:
        size = min(largest, 1 << (total.bit_length() - 1))
        sizes.append(size)
        total -= size
    return sizes


def transposed(b: ir.IRBuilder, rows: list[ir.Value]) -> list[ir.Value]:
    """Columns of a square of vectors: log2(n) rounds that interleave the first half with the second.

    Halfway floats are fenced off: LLVM would spend a third of the time of a whole module on joining the rounds, which
    no instruction does.
    """
    n = len(rows)
    low = numbers(tuple(i // 2 + n * (i % 2) for i in range(n)))
    high = numbers(tuple(n // 2 + i // 2 + n * (i % 2) for i in range(n)))
    rounds = n.bit_length() - 1
    for done in range(1, rounds + 1):
        pairs = zip(rows[: n // 2], rows[n // 2 :], strict=True)
        rows = [b.shuffle_vector(x, y, mask) for x, y in pairs for mask in (low, high)]
        if n >= _FENCED and done == rounds // 2:
            rows = [fenced(b, row) for row in rows]
    return rows
