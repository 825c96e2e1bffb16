"""The register tile of a contraction: rows x columns sums over k, kept in registers.

A microkernel's text depends on its dtype, its tile and the target, on no shape of a program: it is compiled once and
serves every contraction kernel, which declare it and are joined with it by name.
"""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.lane_dots import LaneDot, lane_sum
from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import (
    I32,
    I64,
    PTR,
    byte_gep,
    element_type,
    i64,
    masked_load,
    masked_store,
    multiply_add,
    numbers,
    prefetch,
    splat,
    zeros,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["MICROKERNEL", "Tile", "emit_microkernel", "register_tile"]

# (k, a, a_row, a_k, b, b_k, c, c_row, columns, add): strides in elements.
# c[i, j] = (add ? c[i, j] : 0) + sum over p < k of a[i*a_row + p*a_k] * b[p*b_k + j]
# With a dot instruction an element of a and of b is a lane of several, and k counts lanes.
MICROKERNEL = ir.FunctionType(ir.VoidType(), [I64, PTR, I64, I64, PTR, I64, PTR, I64, I64, I64])
_AHEAD = 8  # steps of k
_AHEAD_BYTES = 4096  # at least, for panels in memory: prefetchers stop at the end of a page
_LINE = 64  # bytes of a cache line
_NAMES = ("k", "a", "a_row", "a_k", "b", "b_k", "c", "c_row", "columns", "add")


@dataclass(frozen=True, slots=True)
class Tile:
    """The shape of a microkernel.

    Attributes:
        rows, vectors: rows x (vectors of lanes along n) sums.
        masked: the last vector has `columns` - (vectors - 1) * lanes valid lanes; no other memory is touched.
        half: the last vector has half of the lanes, which a processor works off in half the time.
        dot: the instruction that multiplies, if it is not multiply and add.
        stored: what c holds: the sums' dtype, or f16 or bf16. Those have nothing added to them.
    """

    dtype: DType
    rows: int
    vectors: int
    masked: bool
    dot: LaneDot | None = None
    half: bool = False
    stored: DType | None = None

    def name(self, target: Target) -> str:
        mask = "_half" * self.half + "_masked" * self.masked
        terms = f"{self.dtype}.{self.dot}" if self.dot else str(self.dtype)
        terms = f"{terms}.{self.stored}" if self.stored else terms
        return f"tjit.contract.{terms}.{self.rows}x{self.vectors}x{target.lanes(self.dtype.itemsize)}{mask}"


def register_tile(target: Target) -> tuple[int, int]:
    """Rows and vectors of the largest tile that stays in registers: sums, one row of b and one element of a."""
    if target.vector_bytes == 64:
        return 14, 2
    if target.registers >= 32:
        return 8, 3
    return 6, 2


def emit_microkernel(tile: Tile, target: Target) -> ir.Module:
    """A module with the one function `tile.name(target)` of type `MICROKERNEL`."""
    module = ir.Module(name=tile.name(target), context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, MICROKERNEL, tile.name(target))
    for argument, name in zip(function.args, _NAMES, strict=True):
        argument.name = name
    for pointer in (1, 4, 6):
        function.args[pointer].add_attribute("noalias")
    _Microkernel(function, tile, target).emit()
    return module


class _Microkernel:
    """The one emission of a microkernel."""

    def __init__(self, function: ir.Function, tile: Tile, target: Target) -> None:
        self.tile, self.target = tile, target
        self.lanes = target.lanes(tile.dtype.itemsize)
        self.element = element_type(tile.dtype)
        self.factor = self.element if tile.dot is None else I32  # of products, or several in one lane
        self.widths = [self.lanes] * (tile.vectors - 1) + [self.lanes // 2 if tile.half else self.lanes]
        self.vectors = [ir.VectorType(self.element, width) for width in self.widths]
        self.function = function
        self.builder = Builder(function.append_basic_block("entry"))
        self.args = dict(zip(_NAMES, function.args, strict=True))

    def emit(self) -> None:
        b = self.builder
        size = ir.Constant(I64, self.tile.dtype.itemsize)
        a_row = b.mul(self.args["a_row"], size, "a_row_bytes")
        rows = [b.mul(a_row, ir.Constant(I64, i)) for i in range(self.tile.rows)]
        a_k = b.mul(self.args["a_k"], size, "a_k_bytes")
        b_k = b.mul(self.args["b_k"], size, "b_k_bytes")
        ahead = b.mul(b_k, i64(_AHEAD))
        ahead = b.select(b.icmp_signed("<", ahead, i64(_AHEAD_BYTES)), i64(_AHEAD_BYTES), ahead)
        mask = self._mask() if self.tile.masked else None
        starts = self._starts(b_k, mask)
        entry, loop, done = b.block, self.function.append_basic_block("loop"), self.function.append_basic_block("done")
        b.cbranch(b.icmp_signed(">", self.args["k"], ir.Constant(I64, 0)), loop, done)

        b.position_at_end(loop)
        left = b.phi(I64, "left")
        a, bp = b.phi(PTR, "ap"), b.phi(PTR, "bp")
        sums = [[b.phi(kind) for kind in self.vectors] for _ in range(self.tile.rows)]
        columns = [self._load_factors(bp, j, mask) for j in range(self.tile.vectors)]
        self._prefetch(byte_gep(b, bp, ahead))
        updated = []
        for i in range(self.tile.rows):
            x = b.load(byte_gep(b, a, rows[i]), typ=self.factor)
            wide = {width: splat(b, x, width) for width in self.widths}
            factors = zip(self.widths, columns, sums[i], strict=True)
            updated.append([self._multiply_add(wide[width], y, s) for width, y, s in factors])
        next_left = b.sub(left, ir.Constant(I64, 1))
        next_a, next_b = byte_gep(b, a, a_k), byte_gep(b, bp, b_k)
        b.cbranch(b.icmp_signed(">", next_left, ir.Constant(I64, 0)), loop, done)
        for phi, start, following in (
            (left, self.args["k"], next_left),
            (a, self.args["a"], next_a),
            (bp, self.args["b"], next_b),
        ):
            phi.add_incoming(start, entry)
            phi.add_incoming(following, loop)
        for i in range(self.tile.rows):
            for j in range(self.tile.vectors):
                sums[i][j].add_incoming(starts[j], entry)
                sums[i][j].add_incoming(updated[i][j], loop)

        b.position_at_end(done)
        finals = []
        for i in range(self.tile.rows):
            finals.append([])
            for j, kind in enumerate(self.vectors):
                final = b.phi(kind)
                final.add_incoming(starts[j], entry)
                final.add_incoming(updated[i][j], loop)
                finals[i].append(final)
        self._write(finals, mask)

    def _starts(self, b_k: ir.Value, mask: ir.Value | None) -> list[ir.Value]:
        """What the sums of each vector of columns start from: zero, or what panels of b hold behind the last step."""
        if self.tile.dot is None or not self.tile.dot.unsigned_a:
            return [zeros(kind) for kind in self.vectors]
        offsets = byte_gep(self.builder, self.args["b"], self.builder.mul(b_k, self.args["k"]))
        return [self._load_factors(offsets, j, mask) for j in range(self.tile.vectors)]

    def _prefetch(self, row: ir.Value) -> None:
        """Ask for the b of a later step: rows in place lie on pages of their own, which no processor foresees."""
        b = self.builder
        step = max(1, _LINE // self.target.vector_bytes)
        for j in range(0, self.tile.vectors, step):
            # the end of a line's worth: rows rarely begin with a line, and the tile before had the first one
            at = b.gep(row, [i64((j + step) * self.lanes - 1)], source_etype=self.element)
            prefetch(b, at)

    def _write(self, sums: list[list[ir.Value]], mask: ir.Value | None) -> None:
        b = self.builder
        if self.tile.stored is not None:
            self._write_rounded(sums, self.tile.stored, mask)
            b.ret_void()
            return
        with b.if_else(b.icmp_signed("!=", self.args["add"], ir.Constant(I64, 0))) as (adding, storing):
            for branch, add in ((adding, True), (storing, False)):
                with branch:
                    c = self.args["c"]
                    for i, row in enumerate(sums):
                        if i:
                            c = b.gep(c, [self.args["c_row"]], source_etype=self.element)
                        for j, value in enumerate(row):
                            if add:
                                value = self._add(self._load(c, j, mask), value)
                            self._store(value, c, j, mask)
        b.ret_void()

    def _write_rounded(self, sums: list[list[ir.Value]], dtype: DType, mask: ir.Value | None) -> None:
        b, c = self.builder, self.args["c"]
        for i, row in enumerate(sums):
            if i:
                c = b.gep(c, [self.args["c_row"]], source_etype=element_type(dtype))
            for j, (value, width) in enumerate(zip(row, self.widths, strict=True)):
                narrow = LlvmScalars(b, width, features_of(self.target)).to_memory(Lane(value, dtype))
                self._store(narrow, c, j, mask, dtype)

    def _mask(self) -> ir.Value:
        """Lane j is on where j < columns - (vectors - 1) * lanes."""
        b = self.builder
        valid = b.sub(self.args["columns"], ir.Constant(I64, (self.tile.vectors - 1) * self.lanes))
        lanes = numbers(range(self.widths[-1]))
        limit = splat(b, b.trunc(valid, I32), self.widths[-1])
        return b.icmp_signed("<", lanes, limit, "mask")

    def _load_factors(self, row: ir.Value, j: int, mask: ir.Value | None) -> ir.Value:
        return self._load(row, j, mask, ir.VectorType(self.factor, self.widths[j]))

    def _load(self, row: ir.Value, j: int, mask: ir.Value | None, kind: ir.VectorType | None = None) -> ir.Value:
        b, kind = self.builder, kind or self.vectors[j]
        pointer = b.gep(row, [ir.Constant(I64, j * self.lanes)], source_etype=self.element) if j else row
        if mask is None or j < self.tile.vectors - 1:
            return b.load(pointer, typ=kind, align=self.tile.dtype.itemsize)
        return masked_load(b, pointer, mask, kind, self.tile.dtype.itemsize)

    def _store(self, value: ir.Value, row: ir.Value, j: int, mask: ir.Value | None, dtype: DType | None = None) -> None:
        b, dtype = self.builder, dtype or self.tile.dtype
        pointer = b.gep(row, [ir.Constant(I64, j * self.lanes)], source_etype=element_type(dtype)) if j else row
        if mask is None or j < self.tile.vectors - 1:
            b.store(value, pointer, align=dtype.itemsize)
        else:
            masked_store(b, value, pointer, mask, dtype.itemsize)

    def _multiply_add(self, x: ir.Value, y: ir.Value, s: ir.Value) -> ir.Value:
        if self.tile.dot is not None:
            return lane_sum(self.builder, self.tile.dot, s, x, y)
        return multiply_add(self.builder, x, y, s, fused=self.target.fma)

    def _add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        return self.builder.fadd(x, y) if self.tile.dtype.is_floating_point else self.builder.add(x, y)
