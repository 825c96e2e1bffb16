"""Packing of filters whose steps of k lie in short runs in memory: the taps of one channel, or every other of them."""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.builder import function_module
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.packing import PACK, transposed
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import counted_loop, element_type, i64, least, masked_load, numbers, prefetch
from tjit.codegen.llvm.window_blocks import Blocks
from tjit.dataclass import dataclass
from tjit.dtypes import DType

__all__ = ["TapsPacking", "emit_taps_packing", "taps_near"]

_MOST_TAPS = 50
_AHEAD = 4  # runs of taps that are asked for before they are packed


@dataclass(frozen=True, slots=True)
class TapsPacking:
    """One packing function for a few steps of k, close together in memory, of `width` rows: a multiple of the lanes.

    Attributes:
        source, target: dtypes in memory and in the panel.
        places: of the steps in memory, from the first, rising.
    """

    source: DType
    target: DType
    width: int
    places: tuple[int, ...]

    def name(self, target: Target) -> str:
        lanes = target.lanes(self.target.itemsize)
        return f"tjit.pack_taps.{self.source}.{self.target}.{self.width}.{'_'.join(map(str, self.places))}.{lanes}"


def taps_near(k: Blocks, steps: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """How many of k's lowest digits, which move by `steps` in memory, have all their values close together there.

    And where these are, from the first.
    """
    places = [0]
    for digit, step in enumerate(steps[: k.level + 1]):
        values = k.span_of(digit)
        if k.digits[digit].extent % values or places[-1] + (values - 1) * step >= _MOST_TAPS:
            return digit, tuple(places)
        places = [value * step + place for value in range(values) for place in places]
    return min(k.level + 1, len(steps)), tuple(places)


def emit_taps_packing(packing: TapsPacking, target: Target) -> ir.Module:
    """A module with the one function `packing.name(target)` of type `PACK`, for one panel.

    Its k_stride is how far from these steps those are that the next call packs.
    """
    with function_module(packing.name(target), PACK, target.triple) as (module, b, function):
        rows, _, source, row_stride, following, panel, _ = function.args
        lanes = target.lanes(packing.target.itemsize)
        scalars = LlvmScalars(b, lanes, features_of(target))
        memory = scalars.memory_type(packing.source)
        element = element_type(packing.target)
        from_element = ir.IntType(packing.source.bits)
        last, ahead = b.sub(rows, i64(1)), b.mul(following, i64(_AHEAD))
        with counted_loop(b, i64(0), i64(packing.width), i64(lanes)) as column:
            lines = [b.mul(least(b, b.add(column, i64(r)), last), row_stride) for r in range(lanes)]
            for first in range(0, packing.places[-1] + 1, lanes):
                wanted = [(step, at - first) for step, at in enumerate(packing.places) if 0 <= at - first < lanes]
                if not wanted:
                    continue
                mask = b.icmp_signed("<", numbers(range(lanes)), numbers((wanted[-1][1] + 1,) * lanes))
                square = []
                for line in lines:
                    at = b.gep(source, [b.add(line, i64(first))], source_etype=from_element)
                    prefetch(b, b.gep(at, [ahead], source_etype=from_element))
                    loaded = masked_load(b, at, mask, memory, packing.source.itemsize)
                    square.append(scalars.cast(scalars.from_memory(loaded, packing.source), packing.target).value)
                columns = transposed(b, square)
                for step, lane in wanted:
                    to = b.gep(panel, [b.add(column, i64(step * packing.width))], source_etype=element)
                    b.store(columns[lane], to, align=packing.target.itemsize)
    return module
