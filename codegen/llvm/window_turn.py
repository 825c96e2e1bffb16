"""What brings the finished sums of a tile into lines along n: a transposition, or the totals of vectors."""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import function_module
from tjit.codegen.llvm.packing import transposed
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, PTR, counted_loop, element_type, i64, numbers, poison
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["TURN", "Total", "Turn", "emit_total", "emit_turn"]

TURN = ir.FunctionType(ir.VoidType(), [PTR, PTR])  # (sums, lines)


@dataclass(frozen=True, slots=True)
class Total:
    """`count` vectors, each to be added up to one element; `line` of them to a line of the result, `stride` apart."""

    dtype: DType
    lines: int
    count: int
    stride: int

    def name(self, target: Target) -> str:
        lanes = target.lanes(self.dtype.itemsize)
        return f"tjit.total.{self.dtype}.{self.lines}x{self.count}x{lanes}.{self.stride}"


def emit_total(total: Total, target: Target) -> ir.Module:
    """A module with the one function `total.name(target)` of type `TURN`: (vectors, sums)."""
    with function_module(total.name(target), TURN, target.triple) as (module, b, function):
        source, result = function.args
        lanes, size = target.lanes(total.dtype.itemsize), total.dtype.itemsize
        element = element_type(total.dtype)
        add = b.add if isinstance(element, ir.IntType) else b.fadd
        with (
            counted_loop(b, i64(0), i64(total.lines), i64(1)) as i,
            counted_loop(b, i64(0), i64(total.count), i64(1)) as j,
        ):
            n = b.add(b.mul(i, i64(total.count)), j)
            at = b.gep(source, [b.mul(n, i64(lanes))], source_etype=element)
            value = b.load(at, typ=ir.VectorType(element, lanes), align=size)
            half = lanes // 2
            while half:
                low, high = numbers(tuple(range(half))), numbers(tuple(range(half, 2 * half)))
                undefined = poison(value.type)
                value = add(b.shuffle_vector(value, undefined, low), b.shuffle_vector(value, undefined, high))
                half //= 2
            place = b.add(b.mul(i, i64(total.stride)), j)
            b.store(b.extract_element(value, I32(0)), b.gep(result, [place], source_etype=element), align=size)
    return module


@dataclass(frozen=True, slots=True)
class Turn:
    """A tile of `rows` x (`vectors` of lanes), as it is transposed: its rows are padded to whole vectors."""

    dtype: DType
    rows: int
    vectors: int

    def name(self, target: Target) -> str:
        return f"tjit.turn.{self.dtype}.{self.rows}x{self.vectors}x{target.lanes(self.dtype.itemsize)}"


def emit_turn(turn: Turn, target: Target) -> ir.Module:
    """A module with the one function `turn.name(target)` of type `TURN`: (tile, transposed tile)."""
    with function_module(turn.name(target), TURN, target.triple) as (module, b, function):
        source, result = function.args
        lanes = target.lanes(turn.dtype.itemsize)
        element, width = element_type(turn.dtype), turn.vectors * lanes
        vector, size = ir.VectorType(element, lanes), turn.dtype.itemsize
        # one square in the code, however many there are: LLVM is slow at shuffles
        with (
            counted_loop(b, i64(0), i64(turn.rows), i64(lanes)) as i,
            counted_loop(b, i64(0), i64(width), i64(lanes)) as j,
        ):
            at = b.gep(source, [b.add(b.mul(i, i64(width)), j)], source_etype=element)
            to = b.gep(result, [b.add(b.mul(j, i64(turn.rows)), i)], source_etype=element)
            rows = [b.gep(at, [i64(r * width)], source_etype=element) for r in range(lanes)]
            for r, column in enumerate(transposed(b, [b.load(row, typ=vector, align=size) for row in rows])):
                b.store(column, b.gep(to, [i64(r * turn.rows)], source_etype=element), align=size)
    return module
