"""Kernels with reductions or row buffers: a program takes one or several parallel points and their rows.

Rows that fit lie in registers whole; longer ones are walked in blocks with one accumulator a lane, and what row buffers
hold is computed again.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tjit.codegen.kernel import Buffer, Load, Loop, LoopKernel, Reduce, Scan, Store, walk
from tjit.codegen.scalars import held
from tjit.codegen.triton.expressions import Expressions, Row, lane, unflatten
from tjit.codegen.triton.scalars import Scalar
from tjit.codegen.triton.source import Source, TritonKernel, literal, power_of_two, type_name
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bool_, i32, i64
from tjit.errors import CodegenError
from tjit.ir import dims
from tjit.ir.dims import Dim, Symbol

__all__ = ["emit_rows", "written"]

_WHOLE_ROW = 16384  # longest row held in registers
_ROW_BLOCK = 2048
_COLUMNS, _COLUMN_ROWS = 64, 64  # tile of a reduction over rows


def emit_rows(kernel: LoopKernel, constants: Mapping[str, int]) -> TritonKernel:
    """The source of a kernel with reductions or row buffers; `constants` override block sizes."""
    return _Rows(kernel, constants).emit()


def written(loops: tuple[Loop, ...]) -> set[Buffer]:
    """The buffers that `loops` store to, row buffers left out."""
    return {s.buffer for loop in loops for s in loop.body if isinstance(s, Store) and not s.buffer.row}


@dataclass(frozen=True, slots=True)
class _Reduction:
    """How a kind of reduction combines: `dtype` is that of the accumulator."""

    combine: str
    neutral: bool | int | float
    dtype: DType

    @staticmethod
    def of(statement: Reduce, value: DType) -> _Reduction:
        kind = statement.kind
        if kind in ("sum", "prod"):
            return _Reduction(f"combine_{kind}", 0 if kind == "sum" else 1, _accumulator(statement.dtype))
        if kind in ("any", "all"):
            return _Reduction(f"combine_{kind}", 0 if kind == "any" else 1, i32)
        dtype = _accumulator(value)
        return _Reduction(f"combine_{kind}", _extreme(dtype, lowest=kind.endswith("max")), dtype)


def _accumulator(dtype: DType) -> DType:
    """Narrow ints and bools are reduced as i32, narrow floats as f32."""
    return i32 if dtype.kind != "float" and dtype.itemsize < 4 else held(dtype)


def _extreme(dtype: DType, *, lowest: bool) -> int | float:
    if dtype.is_floating_point:
        return float("-inf") if lowest else float("inf")
    info = np.iinfo(dtype.numpy)
    return int(info.min if lowest else info.max)


@dataclass(frozen=True, slots=True)
class _Space:
    """The elements that a loop nest visits at one point.

    Attributes:
        count: number of elements, which may depend on the parallel point; `limit` is the most there are.
        whole: one block covers them: `size` lanes of the constant `block`.
        shape: of a value with every lane.
    """

    count: Dim
    limit: Dim
    symbol: Symbol
    name: str
    whole: bool
    size: int
    block: str
    shape: str

    @property
    def mask_text(self) -> str:
        return f"{self.name}_mask"


class _Rows:
    """Emits a kernel with reductions or row buffers."""

    def __init__(self, kernel: LoopKernel, constants: Mapping[str, int]) -> None:
        self.kernel = kernel
        self.constants = constants
        self.source = Source(kernel)
        self.e = Expressions(self.source)
        self.points = dims.product(axis.extent for axis in kernel.parallel)
        self.point_symbols = {axis.symbol for axis in kernel.parallel}
        counts = [self._limit(dims.product(axis.extent for axis in loop.axes)) for loop in kernel.loops]
        self.across = bool(kernel.parallel) and kernel.vector == kernel.parallel[-1]  # lanes are points
        self.widest: int = max((c if isinstance(c, int) else _ROW_BLOCK for c in counts), default=1)
        self.static = all(isinstance(c, int) for c in counts)
        self.block_points = self._choose_points()
        self.spaces: dict[Dim, _Space] = {}
        self.constant_names: dict[Dim, str] = {}
        self.point_lane: frozenset[str] = frozenset()
        self.tile = 1

    def _limit(self, count: Dim) -> Dim:
        """The largest `count` over the parallel points."""
        if not self.point_symbols & set(dims.symbols(count)):
            return count
        limit = dims.upper_bound(count)
        if limit is None:
            message = f"kernel {self.kernel.name} has a loop of {count} with no known bound"
            raise CodegenError(message, self.kernel.location)
        return limit

    def _choose_points(self) -> int:
        """Parallel points of a program: one where rows are long."""
        few = power_of_two(self.points) if isinstance(self.points, int) else 1 << 20
        if self.across:
            wanted = _COLUMNS if self.widest > 16 or not self.static else 256
        else:
            wanted = max(1, 1024 // power_of_two(self.widest)) if self.static else 1
        return self.constants.get("BLOCK_P", min(wanted, few))

    @property
    def _single(self) -> bool:
        """One point a program: values of a row have one dim."""
        return self.block_points == 1

    def emit(self) -> TritonKernel:
        self._emit_points()
        stored: set[Buffer] = set()
        for loop in self.kernel.loops:
            if stored & {e.buffer for s in self._body(loop) for e in _loads(s)}:
                self.source.line("tl.debug_barrier()", "reads what the loop above wrote")
            self._emit_loop(loop)
            stored |= written((loop,))
        programs = self.points if self._single else (self.points + (self.block_points - 1)) // self.block_points
        warps = min(16, max(1, self.tile // 256))
        return self.source.finish(programs, warps=warps)

    def _emit_points(self) -> None:
        if self.points == 1:
            self.e.axes.update({axis.symbol: 0 for axis in self.kernel.parallel})
            return
        parallel = self.kernel.parallel
        stem = parallel[0].symbol.name if len(parallel) == 1 else "p"
        symbol, name = lane(self.source, stem, self.points)
        program = self.source.widen("tl.program_id(0)")
        self.e.axes.update(unflatten(parallel, symbol.dim))
        self.e.lanes[symbol] = (name, "")
        self.point_lane = frozenset((name,))
        if self._single:
            self.source.line(f"{name} = {program}")
            return
        block = self.source.constant("BLOCK_P", self.block_points)
        self.source.line(f"{name} = ({program} * {block} + tl.arange(0, {block})){self._side(points=True)}")
        if not isinstance(self.points, int) or self.points % self.block_points:
            mask = self.source.bind(f"{name} < {self.e.index(self.points).text}", f"{name}_mask")
            self.e.lanes[symbol] = (name, mask)

    def _side(self, *, points: bool) -> str:
        """Points run down and elements across, or the other way where lanes are points."""
        if self._single:
            return ""
        return "[:, None]" if points != self.across else "[None, :]"

    @property
    def _axis(self) -> int:
        return 0 if self._single or self.across else 1

    # loops
    def _body(self, loop: Loop) -> list[Reduce | Store]:
        """The statements of `loop`, none of which is a scan."""
        body: list[Reduce | Store] = []
        for statement in loop.body:
            if isinstance(statement, Scan):
                message = f"kernel {self.kernel.name} has a scan, which Triton's emitter does not spell"
                raise CodegenError(message, statement.location or self.kernel.location)
            body.append(statement)
        return body

    def _space(self, loop: Loop) -> _Space:
        count = dims.product(axis.extent for axis in loop.axes)
        if count in self.spaces:
            return self.spaces[count]
        longest = _COLUMN_ROWS if self.across else max(1, _WHOLE_ROW // self.block_points)
        limit = self._limit(count)
        whole = isinstance(limit, int) and power_of_two(limit) <= longest
        default = (
            power_of_two(limit) if isinstance(limit, int) and whole else _COLUMN_ROWS if self.across else _ROW_BLOCK
        )
        if not whole and not self.across:
            default = max(1, default // self.block_points)
        size = default if whole else self.constants.get("BLOCK_R", default)
        stem = loop.axes[0].symbol.name if len(loop.axes) == 1 else "r"
        symbol, name = lane(self.source, stem, count)
        block = self.source.constant("BLOCK_R", size)
        self.tile = max(self.tile, size * self.block_points)
        points = "BLOCK_P" if "BLOCK_P" in self.source.constants else "1"
        shape = f"({block},)" if self._single else f"({block}, {points})" if self.across else f"({points}, {block})"
        space = _Space(count, limit, symbol, name, whole, size, block, shape)
        if whole:
            self.spaces[count] = space
            lanes = f"tl.arange(0, {block}){self._side(points=False)}"
            self.source.line(f"{name} = {self.source.widen(lanes)}")
            self._enter(space)
        return space

    def _enter(self, space: _Space) -> None:
        """The lanes of `space` are defined: define their mask."""
        self.e.lanes[space.symbol] = (space.name, "")
        if not isinstance(space.count, int) or space.count % space.size or space.count == 0:
            count = self.e.index(space.count)
            mask = self.source.bind(f"{space.name} < {count.text}", space.mask_text)
            self.e.lanes[space.symbol] = (space.name, mask)
            self.e.mask_lanes[mask] = count.lanes

    def _emit_loop(self, loop: Loop) -> None:
        self.e.forget()
        if dims.product(axis.extent for axis in loop.axes) == 1:
            self.e.axes.update({axis.symbol: 0 for axis in loop.axes})
            self._emit_once(loop)
            return
        space = self._space(loop)
        self.e.axes.update(unflatten(loop.axes, space.symbol.dim))
        if space.whole:
            for statement in self._body(loop):
                self._emit_whole(statement, loop, space)
        else:
            self._emit_blocks(loop, space)

    def _emit_once(self, loop: Loop) -> None:
        for statement in self._body(loop):
            if isinstance(statement, Reduce):
                self._finish_reduce(statement, self._element(statement))
            elif statement.buffer.row:
                self._fill_row(statement, loop, keep=True)
            else:
                self.e.store(statement)

    def _emit_whole(self, statement: Reduce | Store, loop: Loop, space: _Space) -> None:
        if isinstance(statement, Store):
            if statement.buffer.row:
                self._fill_row(statement, loop, keep=True)
            else:
                self.e.store(statement)
            return
        lanes = self._masked(statement, space, whole=True)
        self._finish_reduce(statement, lanes, space)

    def _emit_blocks(self, loop: Loop, space: _Space) -> None:
        reduces = [s for s in loop.body if isinstance(s, Reduce)]
        accumulators = {id(s): self._open(s, space) for s in reduces}
        start = self.source.fresh(f"{space.name}_start")
        end = self.e.index(space.limit).text
        with self.source.loop(start, "0", end, space.block):
            lanes = f"tl.arange(0, {space.block}){self._side(points=False)}"
            self.source.line(f"{space.name} = {start} + {self.source.widen(lanes)}")
            self._enter(space)
            for statement in self._body(loop):
                if isinstance(statement, Reduce):
                    self._accumulate(statement, accumulators[id(statement)], space)
                elif statement.buffer.row:
                    self._fill_row(statement, loop, keep=False)
                else:
                    self.e.store(statement)
        self.e.forget()
        for statement in reduces:
            names = accumulators[id(statement)]
            reduction = self._reduction(statement)
            value = Scalar(names[0], reduction.dtype, self.point_lane | {space.name})
            self._finish_reduce(statement, [value, *names[1:]], space)

    def _fill_row(self, statement: Store, loop: Loop, *, keep: bool) -> None:
        row = self.e.rows[statement.buffer] = Row(loop.axes, statement)
        if keep:
            value = self.e.rounded(self.e.evaluate(statement.value), statement.buffer)
            row.variables[tuple(self.e.lane_form(d) for d in statement.index)] = value

    # reductions
    def _reduction(self, statement: Reduce) -> _Reduction:
        return _Reduction.of(statement, statement.value.dtype)

    def _element(self, statement: Reduce) -> list[Scalar | str]:
        """What one lane contributes."""
        scalars = self.e.scalars
        value = self.e.evaluate(statement.value)
        reduction = self._reduction(statement)
        if statement.kind in ("any", "all"):
            value = scalars.cast(value, bool_)
        return [scalars.cast(value, reduction.dtype) if value.dtype is not reduction.dtype else value, "0"]

    def _masked(self, statement: Reduce, space: _Space, *, whole: bool) -> list[Scalar | str]:
        """The elements of a block, neutral in the lanes out of range."""
        value = self._element(statement)[0]
        assert isinstance(value, Scalar)
        reduction = self._reduction(statement)
        _, mask = self.e.lanes[space.symbol]
        if not mask and whole and space.name not in value.lanes:
            mask = f"{space.name} >= 0"  # gives the value its lanes
        lanes = value.lanes | {space.name} | self.e.mask_lanes.get(mask, frozenset())
        if mask:
            neutral = self.e.scalars.constant(reduction.neutral, reduction.dtype)
            text = self.e.scalars.typed(value)
            filler = neutral.text if value.value is None else self.e.scalars.typed(neutral)
            value = Scalar(f"tl.where({mask}, {text}, {filler})", reduction.dtype, lanes)
        return [value, space.name]

    def _open(self, statement: Reduce, space: _Space) -> list[str]:
        """Accumulators before a loop over blocks."""
        reduction = self._reduction(statement)
        dtype = held(reduction.dtype)
        self.source.comment = self._comment(statement)
        neutral = literal(reduction.neutral, dtype)
        acc = self.source.fresh(f"{statement.name}_acc")
        self.source.line(f"{acc} = tl.full({space.shape}, {neutral}, {type_name(dtype)})")
        self.source.comment = ""
        if not statement.kind.startswith("arg"):
            return [acc]
        at = self.source.fresh(f"{statement.name}_at")
        never = 2**62 if self.source.wide else 2**31 - 1
        self.source.line(f"{at} = tl.full({space.shape}, {never}, {self.source.integer})")
        return [acc, at]

    def _accumulate(self, statement: Reduce, names: list[str], space: _Space) -> None:
        value, position = self._masked(statement, space, whole=False)
        assert isinstance(value, Scalar)
        combine = self.source.helper(self._reduction(statement).combine)
        text = self.e.scalars.typed(value)
        if len(names) == 1:
            self.source.line(f"{names[0]} = {combine}({names[0]}, {text})", self._comment(statement))
            return
        acc, at = names
        index = f"tl.broadcast_to({position}, {space.shape})"
        value_text = f"tl.broadcast_to({text}, {space.shape})"
        self.source.line(f"{acc}, {at} = {combine}({acc}, {at}, {value_text}, {index})", self._comment(statement))

    def _comment(self, statement: Reduce) -> str:
        return statement.kind + ("" if statement.location is None else f", {statement.location.short}")

    def _finish_reduce(self, statement: Reduce, lanes: list[Scalar | str], space: _Space | None = None) -> None:
        """Reduce across the lanes of a block: the result of the statement."""
        value, position = lanes[0], lanes[-1]
        assert isinstance(value, Scalar)
        reduction = self._reduction(statement)
        result = statement.dtype
        comment = self._comment(statement)
        name = self.source.fresh(statement.name)
        is_arg = statement.kind.startswith("arg")
        if space is None:
            text = "tl.full((), 0, tl.int64)" if is_arg else self.e.scalars.typed(self._converted(value, result))
            self.source.line(f"{name} = {text}", comment)
            self.e.reduced[id(statement)] = Scalar(name, result, frozenset() if is_arg else value.lanes)
            return
        combine = self.source.helper(reduction.combine)
        keep = "" if self._single else ", keep_dims=True"
        text = self.e.scalars.typed(value)
        points = value.lanes - {space.name}
        if is_arg:
            extreme = self.source.fresh(f"{statement.name}_value")
            values = self.source.bind(f"tl.broadcast_to({text}, {space.shape})")
            indices = self.source.bind(f"tl.broadcast_to({position}, {space.shape})")
            self.source.line(
                f"{extreme}, {name} = tl.reduce(({values}, {indices}), {self._axis}, {combine}{keep})", comment
            )
            if not self.source.wide:
                self.source.line(f"{name} = {name}.to(tl.int64)")
            self.e.reduced[id(statement)] = self._converted(Scalar(name, i64, points | self.point_lane), result)
            return
        reduced = Scalar(f"tl.reduce({text}, {self._axis}, {combine}{keep})", reduction.dtype, points)
        converted = self._converted(reduced, result)
        self.source.line(f"{name} = {converted.text}", comment)
        self.e.reduced[id(statement)] = Scalar(name, result, points)

    def _converted(self, value: Scalar, dtype: DType) -> Scalar:
        return self.e.scalars.cast(value, dtype)


def _loads(statement: Reduce | Store) -> list[Load]:
    return [e for e in walk(statement.value) if isinstance(e, Load)]
