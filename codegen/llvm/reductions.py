"""Reductions in registers: one running vector per statement and per vector in flight, joined in a fixed order."""

from __future__ import annotations

import functools
from collections.abc import Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Compute, Expr, Reduce
from tjit.codegen.llvm.expressions import ExprEmitter, features_of
from tjit.codegen.llvm.floats import any_lane
from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.vectors import I32, I64, declare, numbers, stack
from tjit.codegen.scalars import held
from tjit.dtypes import DType, bool_, f64
from tjit.dtypes import i32 as int32
from tjit.dtypes import i64 as int64
from tjit.ir.dims import Dim, DimExpr, coefficient

__all__ = ["Accumulation", "counted", "is_better_later", "join", "neutral", "running_dtype"]

_FEW = 1 << 31  # points: their positions are numbers of 32 bits, as many as f32 in a vector


def neutral(kind: str, dtype: DType) -> bool | int | float:
    """What changes nothing under the reduction."""
    if kind in ("sum", "any"):
        return 0
    if kind in ("prod", "all"):
        return 1
    lowest = kind in ("max", "argmax", "logaddexp")
    if dtype.is_floating_point:
        return float("-inf") if lowest else float("inf")
    if dtype is bool_:
        return not lowest
    low = -(1 << (dtype.bits - 1)) if dtype.is_signed else 0
    high = (1 << (dtype.bits - 1)) - 1 if dtype.is_signed else (1 << dtype.bits) - 1
    return low if lowest else high


def running_dtype(reduce: Reduce) -> DType:
    """The dtype of the running value: f32 for f16 and bf16, whose sum is rounded once."""
    if _is_arg(reduce.kind):
        return reduce.value.dtype
    return bool_ if reduce.kind in ("any", "all") else held(reduce.dtype)


def counted(reduce: Reduce) -> Expr | None:
    """The bool that a sum counts, whose lanes along a row are bits of which a processor counts those that are set."""
    value = reduce.value
    if reduce.kind != "sum" or not isinstance(value, Compute) or value.op.name != "cast" or value.dtype.kind != "int":
        return None
    return value.operands[0] if value.operands[0].dtype is bool_ and reduce.dtype is value.dtype else None


def _is_arg(kind: str) -> bool:
    return kind.startswith("arg")


def join(s: LlvmScalars, kind: str, x: Lane, y: Lane) -> Lane:
    """x and y reduced to one."""
    if kind == "sum":
        return s.add(x, y)
    if kind == "prod":
        return s.mul(x, y)
    if kind in ("max", "argmax"):
        return s.maximum(x, y)
    if kind in ("min", "argmin"):
        return s.minimum(x, y)
    if kind == "logaddexp":
        return _log_add_exp(s, x, y)
    return s.bit_or(x, y) if kind == "any" else s.bit_and(x, y)


def _log_add_exp(s: LlvmScalars, x: Lane, y: Lane) -> Lane:
    zero, most = s.const(0.0, x), s.const(708.0 if x.dtype is f64 else 87.0, x)
    larger = s.maximum(x, y)
    distance = s.select(s.eq(x, y), zero, s.abs(s.sub(x, y)))  # two equal infinities differ by 0, not nan
    near = s.add(larger, s.log1p(s.exp(s.neg(s.minimum(distance, most)))))
    return s.select(s.gt(distance, most), larger, near)  # the smaller is nothing: its exponential is no normal number


def _is_better(s: LlvmScalars, kind: str, x: Lane, xi: Lane, y: Lane, yi: Lane) -> Lane:
    """Whether candidate (y, at yi) replaces (x, at xi): nan is extreme, the first of equals wins."""
    beats = s.gt(y, x) if kind == "argmax" else s.lt(y, x)
    earlier = s.lt(yi, xi)
    tie = s.bit_and(s.eq(y, x), earlier)
    result = s.bit_or(beats, tie)
    if x.dtype.is_floating_point:
        nan_x, nan_y = s.ne(x, x), s.ne(y, y)
        first_nan = s.bit_and(nan_y, s.bit_or(s.bit_not(nan_x), earlier))
        result = s.bit_or(result, first_nan)
    return result


def is_better_later(s: LlvmScalars, kind: str, x: Lane, y: Lane) -> Lane:
    """`_is_better` where y comes after x."""
    if not x.dtype.is_floating_point:
        return s.gt(y, x) if kind == "argmax" else s.lt(y, x)
    stays = s.le(y, x) if kind == "argmax" else s.ge(y, x)  # not where y is nan
    return s.bit_and(s.bit_not(stays), s.eq(x, x))


class Accumulation:
    """The reductions of one loop while it runs. State lives in stack slots, which LLVM turns into registers.

    Args:
        width: lanes of the loop's axis; 1: each lane of the emitter has reductions of its own.
        unroll: running vectors of each statement.
        entry: the function's first block.
        points: how many the loop has. None: not known.
        backwards: the loop goes from the last point to the first.
        placed: arg reductions keep places; else their extremes alone, which `take_extremes` gives.
    """

    def __init__(
        self,
        emitter: ExprEmitter,
        reduces: Sequence[Reduce],
        width: int,
        unroll: int = 1,
        entry: ir.Block | None = None,
        *,
        points: Dim | None = None,
        backwards: bool = False,
        placed: bool = True,
    ) -> None:
        self.b = emitter.b
        self.target = emitter.target
        self.reduces = reduces
        self.width = max(width, emitter.lanes.width)
        self.scalars = LlvmScalars(self.b, self.width, features_of(self.target))
        self.one = LlvmScalars(self.b, 1, features_of(self.target))
        self.counts = {id(r) for r in reduces if width > 1 and self.target.masks and counted(r) is not None}
        self.slots: dict[int, list[ir.Value]] = {}
        self.nans: dict[int, ir.Value] = {}
        self._unseen: dict[int, Lane] = {}
        self.places: dict[int, list[ir.Value]] = {}
        self.place = int32 if isinstance(points, int) and points < _FEW else int64
        self.backwards, self.placed = backwards, placed
        for reduce in reduces:
            dtype = running_dtype(reduce)
            start = self._of(reduce).constant(neutral(reduce.kind, dtype), dtype)
            self.slots[id(reduce)] = [self._slot(start, entry) for _ in range(unroll)]
            if width > 1 and self._is_float_extreme(reduce):
                self.nans[id(reduce)] = self._slot(self.scalars.constant(False, bool_), entry)
            if self._keeps_place(reduce):
                # where the extreme is what all begins with, it is the first
                place = self.scalars.constant(0, self.place)
                self.places[id(reduce)] = [self._slot(place, entry) for _ in range(unroll)]

    def _of(self, reduce: Reduce) -> LlvmScalars:
        """What a running value is computed with: a count is one number, not one for each lane."""
        return self.one if id(reduce) in self.counts else self.scalars

    def _keeps_place(self, reduce: Reduce) -> bool:
        return self.placed and _is_arg(reduce.kind)

    def _is_float_extreme(self, reduce: Reduce) -> bool:
        """Whether nan is noted apart: a maximum that gives it is four instructions, one that passes it over is one."""
        extreme = reduce.kind in ("max", "min") or (_is_arg(reduce.kind) and not self.placed)
        return extreme and running_dtype(reduce).is_floating_point

    def _slot(self, start: Lane, entry: ir.Block | None) -> ir.Value:
        slot = stack(self.b, start.value.type, block=entry)
        self.b.store(start.value, slot)
        return slot

    def update(self, n: int, emitter: ExprEmitter, position: Dim | ir.Value) -> None:
        """Take in what the emitter's lanes hold, into the n-th running vector."""
        s = self.scalars
        mask = emitter.lanes.mask
        for reduce in self.reduces:
            dtype = running_dtype(reduce)
            if id(reduce) in self.counts:
                self._count(reduce, n, emitter)
                continue
            value = s.cast(emitter.emit(reduce.value), dtype)
            slot = self.slots[id(reduce)][n]
            running = Lane(self.b.load(slot, typ=value.value.type), dtype)
            if self._keeps_place(reduce):
                self._update_place(reduce, n, emitter, position, value, running)
                continue
            if mask is not None:
                value = s.select(Lane(mask, bool_), value, s.constant(neutral(reduce.kind, dtype), dtype))
            self.b.store(self._join(s, reduce, running, value).value, slot)
            if id(reduce) in self.nans:
                self._note_nan(reduce, value)

    def _count(self, reduce: Reduce, n: int, emitter: ExprEmitter) -> None:
        """Add how many active lanes are set."""
        b, asked, slot = self.b, counted(reduce), self.slots[id(reduce)][n]
        assert asked is not None
        lanes = emitter.emit(asked).value
        lanes = lanes if emitter.lanes.mask is None else b.and_(lanes, emitter.lanes.mask)
        bits = ir.IntType(self.width)
        count = b.call(declare(b, f"llvm.ctpop.i{self.width}", ir.FunctionType(bits, [bits])), [b.bitcast(lanes, bits)])
        count = self.one.cast(Lane(count if self.width == 64 else b.zext(count, I64), int64), running_dtype(reduce))
        running = b.load(slot, typ=count.value.type)
        b.store(b.add(running, count.value), slot)

    def _join(self, s: LlvmScalars, reduce: Reduce, x: Lane, y: Lane) -> Lane:
        """x and y reduced to one, where nan is not noted apart."""
        if id(reduce) not in self.nans:
            return join(s, reduce.kind, x, y)
        before = s.gt(y, x) if reduce.kind in ("max", "argmax") else s.lt(y, x)
        return s.select(before, y, x)

    def _note_nan(self, reduce: Reduce, value: Lane) -> None:
        """Note whether a vector has nan, together with the next one: one comparison does for both."""
        other = self._unseen.pop(id(reduce), None)
        if other is None:
            self._unseen[id(reduce)] = value
        else:
            self._note_either(reduce, other, value)

    def _note_either(self, reduce: Reduce, x: Lane, y: Lane) -> None:
        slot = self.nans[id(reduce)]
        seen = self.b.load(slot, typ=self.scalars.register_type(bool_))
        self.b.store(self.b.or_(seen, self.b.fcmp_unordered("uno", x.value, y.value)), slot)

    def end_points(self) -> None:
        """Note what is still to be noted of the vectors that came in since the last call."""
        for reduce in self.reduces:
            value = self._unseen.pop(id(reduce), None)
            if value is not None:
                self._note_either(reduce, value, value)

    def _update_place(
        self, reduce: Reduce, n: int, emitter: ExprEmitter, position: Dim | ir.Value, value: Lane, running: Lane
    ) -> None:
        s = self.scalars
        place = self.places[id(reduce)][n]
        at = self._position(emitter, position) if isinstance(position, (int, DimExpr)) else Lane(position, int64)
        at = s.cast(at, self.place)
        known = Lane(self.b.load(place, typ=at.value.type), self.place)
        if self.backwards:
            take = _is_better(s, reduce.kind, running, known, value, at)
        else:
            take = is_better_later(s, reduce.kind, running, value)
        if emitter.lanes.mask is not None:
            take = s.bit_and(take, Lane(emitter.lanes.mask, bool_))
        self.b.store(s.select(take, value, running).value, self.slots[id(reduce)][n])
        self.b.store(s.select(take, at, known).value, place)

    def _position(self, emitter: ExprEmitter, position: Dim) -> Lane:
        """A position in every lane."""
        symbol, s = emitter.lanes.symbol, self.scalars
        step = 0 if symbol is None else coefficient(position, symbol)
        if self.place is int64 or not isinstance(step, int) or step not in (0, 1):
            return Lane(emitter.positions(position), int64)
        first = s.splat(self.b.trunc(emitter.ints.dim(position), I32), int32)
        return first if step == 0 else s.add(first, Lane(numbers(range(self.width)), int32))

    def _joined(self) -> dict[int, tuple[Lane, Lane | None]]:
        """The running vectors of each statement as one, pairwise."""
        result: dict[int, tuple[Lane, Lane | None]] = {}
        for reduce in self.reduces:
            s, dtype = self._of(reduce), running_dtype(reduce)
            kind = s.register_type(dtype)
            values = [(Lane(self.b.load(slot, typ=kind), dtype), None) for slot in self.slots[id(reduce)]]
            if self._keeps_place(reduce):
                place = s.register_type(self.place)
                places = [Lane(self.b.load(p, typ=place), self.place) for p in self.places[id(reduce)]]
                values = [(v, p) for (v, _), p in zip(values, places, strict=True)]
            while len(values) > 1:
                pairs = zip(values[::2], values[1::2], strict=False)
                odd = [values[-1]] if len(values) % 2 else []
                values = [self._two(s, reduce, x, y) for x, y in pairs] + odd
            result[id(reduce)] = values[0]
        return result

    def _two(
        self, s: LlvmScalars, reduce: Reduce, x: tuple[Lane, Lane | None], y: tuple[Lane, Lane | None]
    ) -> tuple[Lane, Lane | None]:
        if x[1] is None or y[1] is None:
            return self._join(s, reduce, x[0], y[0]), None
        take = _is_better(s, reduce.kind, x[0], x[1], y[0], y[1])
        return s.select(take, y[0], x[0]), s.select(take, y[1], x[1])

    def finish_lanes(self) -> dict[int, Lane]:
        """The results, one in each lane."""
        joined = self._joined()
        return {id(r): self._result(r, self.scalars, joined[id(r)]) for r in self.reduces}

    def finish(self) -> dict[int, Lane]:
        """The results, reduced across the lanes too; those without places are `take_extremes`."""
        joined, one = self._joined(), self.one
        known = [r for r in self.reduces if self.placed or not _is_arg(r.kind)]
        return {id(r): self._result(r, one, self._across(r, joined[id(r)])) for r in known}

    def take_extremes(self) -> list[Lane]:
        """What each arg reduction without a place has come to, of all lanes; it then begins anew."""
        joined, reduces = self._joined(), [r for r in self.reduces if _is_arg(r.kind)]
        found = [self._across(r, joined[id(r)])[0] for r in reduces]
        for reduce in reduces:
            dtype = running_dtype(reduce)
            for slot in self.slots[id(reduce)]:
                self.b.store(self.scalars.constant(neutral(reduce.kind, dtype), dtype).value, slot)
            if id(reduce) in self.nans:
                self.b.store(self.scalars.constant(False, bool_).value, self.nans[id(reduce)])
        return found

    def decided(self) -> ir.Value:
        """i1: whether every one of these any and all has come to what nothing changes."""
        joined = self._joined()
        each = (self._across(r, joined[id(r)])[0].value for r in self.reduces)
        ends = [v if r.kind == "any" else self.b.not_(v) for r, v in zip(self.reduces, each, strict=True)]
        return functools.reduce(self.b.and_, ends)

    def _across(self, reduce: Reduce, value: tuple[Lane, Lane | None]) -> tuple[Lane, Lane | None]:
        """The lanes of a running vector as one."""
        width = self.width
        if id(reduce) in self.counts:
            return value
        if width > 1 and reduce.kind in ("any", "all"):
            bits = value[0].value if reduce.kind == "any" else self.b.not_(value[0].value)
            found = any_lane(self.b, bits)
            return Lane(found if reduce.kind == "any" else self.b.not_(found), bool_), None
        while width > 1:
            width //= 2
            s = LlvmScalars(self.b, width, features_of(self.target))
            value = self._two(s, reduce, self._half(value, width, 0), self._half(value, width, 1))
        return value if id(reduce) not in self.nans else (self._or_nan(reduce, value[0]), None)

    def _or_nan(self, reduce: Reduce, value: Lane) -> Lane:
        """The extreme in one lane, or nan where that was noted."""
        one = self.one
        seen = any_lane(self.b, self.b.load(self.nans[id(reduce)], typ=self.scalars.register_type(bool_)))
        return one.select(Lane(seen, bool_), one.constant(float("nan"), value.dtype), value)

    def _half(self, value: tuple[Lane, Lane | None], width: int, which: int) -> tuple[Lane, Lane | None]:
        def half(lane: Lane) -> Lane:
            if width == 1:
                return Lane(self.b.extract_element(lane.value, ir.Constant(I32, which)), lane.dtype)
            picks = numbers(range(which * width, (which + 1) * width))
            return Lane(self.b.shuffle_vector(lane.value, lane.value, picks), lane.dtype)

        return half(value[0]), None if value[1] is None else half(value[1])

    def _result(self, reduce: Reduce, s: LlvmScalars, value: tuple[Lane, Lane | None]) -> Lane:
        if value[1] is not None:
            return s.cast(value[1], int64)
        return s.cast(value[0], reduce.dtype)
