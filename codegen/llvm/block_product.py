"""Products of blocks that fit in the caches: the microkernel over all register tiles of a block.

Like the microkernels, the function's text depends on the tile and the target alone: it is compiled once.
"""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.contract_sides import Dependency
from tjit.codegen.llvm.microkernel import MICROKERNEL, Tile, emit_microkernel
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, declare, element_type, i64, least
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["BLOCK_PRODUCT", "BlockProduct"]

# (rows, last, columns, k, a, a_row, a_k, b, b_k, b_tile, c, c_row, add): strides in elements. Tile i of the rows
# begins at min(i * tile rows, last); tile j of the columns reads b at j * b_tile.
# c[i, j] = (add ? c[i, j] : 0) + sum over p < k of a[i, p] * b[p, j], for whole tiles: up to a tile's rows less one and
# a vector's lanes less one beyond `rows` and `columns`.
BLOCK_PRODUCT = ir.FunctionType(ir.VoidType(), [I64, I64, I64, I64, PTR, I64, I64, PTR, I64, I64, PTR, I64, I64])
_NAMES = ("rows", "last", "columns", "k", "a", "a_row", "a_k", "b", "b_k", "b_tile", "c", "c_row", "add")


@dataclass(frozen=True, slots=True)
class BlockProduct:
    """Tiles of `rows` rows and two vectors, and of one vector at the end of the columns."""

    dtype: DType
    rows: int

    def name(self, target: Target) -> str:
        return f"tjit.product.{self.dtype}.{self.rows}x{target.lanes(self.dtype.itemsize)}"

    def dependencies(self, target: Target) -> tuple[Dependency, ...]:
        """The function, and the microkernels that it calls."""
        tiles = [Tile(self.dtype, self.rows, vectors, masked=False) for vectors in (2, 1)]
        made = [Dependency(t.name(target), lambda t=t: emit_microkernel(t, target)) for t in tiles]
        return *made, Dependency(self.name(target), lambda: self._emit(target))

    def _emit(self, target: Target) -> ir.Module:
        module = ir.Module(name=self.name(target), context=ir.Context())
        module.triple = target.triple
        function = ir.Function(module, BLOCK_PRODUCT, self.name(target))
        for argument, name in zip(function.args, _NAMES, strict=True):
            argument.name = name
        x = dict(zip(_NAMES, function.args, strict=True))
        b = Builder(function.append_basic_block("entry"))
        lanes, element = target.lanes(self.dtype.itemsize), element_type(self.dtype)

        def at(pointer: ir.Value, offset: ir.Value) -> ir.Value:
            return b.gep(pointer, [offset], source_etype=element)

        with counted_loop(b, i64(0), x["rows"], i64(self.rows)) as i:
            row = least(b, i, x["last"])
            a, c = at(x["a"], b.mul(row, x["a_row"])), at(x["c"], b.mul(row, x["c_row"]))
            with counted_loop(b, i64(0), x["columns"], i64(2 * lanes)) as j:
                panel = at(x["b"], b.mul(b.udiv(j, i64(2 * lanes)), x["b_tile"]))
                left = b.sub(x["columns"], j)
                operands = [x["k"], a, x["a_row"], x["a_k"], panel, x["b_k"], at(c, j), x["c_row"], left, x["add"]]
                with b.if_else(b.icmp_signed(">", left, i64(lanes))) as (wide, narrow):
                    for branch, vectors in ((wide, 2), (narrow, 1)):
                        with branch:
                            tile = Tile(self.dtype, self.rows, vectors, masked=False)
                            b.call(declare(b, tile.name(target), MICROKERNEL), operands)
        b.ret_void()
        return module
