"""Scans: what a loop's values have come to so far, in a register or a row of memory, and across a vector's lanes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Scan
from tjit.codegen.llvm.expressions import ExprEmitter, features_of
from tjit.codegen.llvm.reductions import join, neutral
from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.vectors import I32, element_type, numbers, stack
from tjit.codegen.scalars import held
from tjit.codegen.scans import running_dtype
from tjit.dtypes import DType, bool_

__all__ = ["RowState", "Running", "registers"]

Slots = Mapping[int, ir.Value]


def registers(emitter: ExprEmitter, scans: Iterable[Scan], entry: ir.Block | None = None) -> Slots:
    """Stack slots for what scans have come to in the emitter's lanes: LLVM turns them into registers.

    Args:
        entry: the function's first block.
    """
    s = emitter.scalars
    return {id(scan): stack(emitter.b, s.register_type(running_dtype(scan)), block=entry) for scan in scans}


class RowState:
    """Memory in the frame for what scans have come to in each of `size` columns."""

    def __init__(self, b: ir.IRBuilder, scans: Sequence[Scan], size: int, entry: ir.Block) -> None:
        self.b = b
        self.elements = {id(scan): element_type(running_dtype(scan)) for scan in scans}
        kinds = {key: ir.ArrayType(kind, size) for key, kind in self.elements.items()}
        self.rows = {key: stack(b, kind, align=128, block=entry) for key, kind in kinds.items()}  # a vector's alignment

    def slots(self, column: ir.Value) -> Slots:
        return {key: self.b.gep(row, [column], source_etype=self.elements[key]) for key, row in self.rows.items()}


class Running:
    """The scans of one loop while it runs.

    Args:
        width: lanes that follow each other along the loop's axis; 1: each lane is a scan of its own.
        slots: where the state is.
        reverse: the loop goes backwards.
    """

    def __init__(self, emitter: ExprEmitter, width: int, slots: Slots, *, reverse: bool) -> None:
        self.b = emitter.b
        self.width = width
        self.slots = slots
        self.reverse = reverse
        # of rows, the state is one number
        self.state = emitter.scalars if width == 1 else LlvmScalars(self.b, 1, features_of(emitter.target))

    def begin(self, scans: Iterable[Scan], emitter: ExprEmitter) -> None:
        """Before the first point."""
        for scan in scans:
            dtype = running_dtype(scan)
            start = self._nothing(self.state, scan, dtype) if scan.start is None else emitter.emit(scan.start)
            self.b.store(start.value, self.slots[id(scan)])

    def _nothing(self, s: LlvmScalars, scan: Scan, dtype: DType) -> Lane:
        """What changes nothing: of sums -0, which leaves even the sign of a zero."""
        return s.constant(-0.0 if scan.kind == "sum" and dtype.is_floating_point else neutral(scan.kind, dtype), dtype)

    def step(self, scan: Scan, emitter: ExprEmitter) -> Lane:
        """Take in what the emitter's lanes hold; what the scan has come to at each."""
        dtype = held(scan.dtype)
        value = emitter.scalars.cast(emitter.emit(scan.value), dtype)
        found = self._alone(scan, value) if self.width == 1 else self._across(scan, value, emitter)
        return emitter.scalars.cast(found, scan.dtype)

    def _alone(self, scan: Scan, value: Lane) -> Lane:
        s = self.state
        total = join(s, scan.kind, self._running(scan), s.cast(value, running_dtype(scan)))
        self.b.store(total.value, self.slots[id(scan)])
        return s.cast(total, value.dtype)

    def _running(self, scan: Scan) -> Lane:
        dtype = running_dtype(scan)
        return Lane(self.b.load(self.slots[id(scan)], typ=self.state.register_type(dtype)), dtype)

    def _across(self, scan: Scan, value: Lane, emitter: ExprEmitter) -> Lane:
        s = emitter.scalars
        nothing = self._nothing(s, scan, value.dtype)
        if emitter.lanes.mask is not None:
            value = s.select(Lane(emitter.lanes.mask, bool_), value, nothing)
        inside = self._within_lanes(s, scan.kind, value, nothing)
        before, dtype = self._running(scan), running_dtype(scan)
        last = ir.Constant(I32, 0 if self.reverse else self.width - 1)
        total = self.state.cast(Lane(self.b.extract_element(inside.value, last), value.dtype), dtype)
        self.b.store(join(self.state, scan.kind, before, total).value, self.slots[id(scan)])
        return join(s, scan.kind, s.splat(self.state.cast(before, value.dtype).value, value.dtype), inside)

    def _within_lanes(self, s: LlvmScalars, kind: str, value: Lane, nothing: Lane) -> Lane:
        """Each lane joined with those before it: with its neighbour, then with the two before both, and so on."""
        shift = 1
        while shift < self.width:
            from_lane = (j + shift if self.reverse else j - shift for j in range(self.width))
            picks = tuple(k if 0 <= k < self.width else self.width + j for j, k in enumerate(from_lane))
            moved = self.b.shuffle_vector(value.value, nothing.value, numbers(picks))
            value = join(s, kind, Lane(moved, value.dtype), value)
            shift *= 2
        return value
