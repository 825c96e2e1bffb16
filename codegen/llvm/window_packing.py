"""Packing of filters whose steps of k are short runs in memory: the taps of one channel."""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import function_module
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.packing import PACK, transposed
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import counted_loop, element_type, i64, least, masked_load, numbers
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim

__all__ = ["MOST_TAPS", "TapsPacking", "emit_taps_packing", "packs_taps"]

MOST_TAPS = 50


@dataclass(frozen=True, slots=True)
class TapsPacking:
    """One packing function for `taps` steps of k, side by side in memory, of `width` rows: a multiple of the lanes.

    Attributes:
        source, target: dtypes in memory and in the panel.
    """

    source: DType
    target: DType
    width: int
    taps: int

    def name(self, target: Target) -> str:
        lanes = target.lanes(self.target.itemsize)
        return f"tjit.pack_taps.{self.source}.{self.target}.{self.width}.{self.taps}.{lanes}"


def packs_taps(k_stride: Dim, taps: int, target: Target) -> bool:
    """Whether `TapsPacking` is for runs of `taps` steps."""
    return target.masks and k_stride == 1 and 1 < taps <= MOST_TAPS


def emit_taps_packing(packing: TapsPacking, target: Target) -> ir.Module:
    """A module with the one function `packing.name(target)` of type `PACK`, for one panel."""
    with function_module(packing.name(target), PACK, target.triple) as (module, b, function):
        rows, _, source, row_stride, _, panel = function.args
        lanes = target.lanes(packing.target.itemsize)
        scalars = LlvmScalars(b, lanes, features_of(target))
        memory = scalars.memory_type(packing.source)
        element = element_type(packing.target)
        from_element = ir.IntType(packing.source.bits)
        last = b.sub(rows, i64(1))
        with counted_loop(b, i64(0), i64(packing.width), i64(lanes)) as column:
            lines = [b.mul(least(b, b.add(column, i64(r)), last), row_stride) for r in range(lanes)]
            for first in range(0, packing.taps, lanes):
                valid = min(lanes, packing.taps - first)
                mask = b.icmp_signed("<", numbers(range(lanes)), numbers((valid,) * lanes))
                square = []
                for line in lines:
                    at = b.gep(source, [b.add(line, i64(first))], source_etype=from_element)
                    loaded = masked_load(b, at, mask, memory, packing.source.itemsize)
                    square.append(scalars.cast(scalars.from_memory(loaded, packing.source), packing.target).value)
                for tap, vector in enumerate(transposed(b, square)[:valid], first):
                    to = b.gep(panel, [b.add(column, i64(tap * packing.width))], source_etype=element)
                    b.store(vector, to, align=packing.target.itemsize)
    return module
