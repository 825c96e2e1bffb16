"""The parts of an attention that run over lanes: weights from scores, and what leaves scratch memory.

Scores lie with the queries of a block along the lanes and a line for each key, so that maxima and sums over keys need
no step across lanes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

import llvmlite.ir as ir

from tjit.codegen.kernel import AttentionGradientKernel, AttentionKernel, Axis, Store
from tjit.codegen.llvm.attention_plan import AttentionPlan
from tjit.codegen.llvm.contract_lanes import Part
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.vectors import counted_loop, element_type, i64, stack
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bool_

__all__ = ["Parts"]

_LOWEST = float("-inf")


@dataclass(frozen=True)
class Parts:
    """Emits the internal functions of a kernel's module. All take the kernel's arguments and the batch first."""

    module: ir.Module
    plan: AttentionPlan

    @property
    def _dtype(self) -> DType:
        return self.plan.kernel.accumulate

    @property
    def _block(self) -> int:
        """Elements of each line of the state: a row's maximum, its sum, and what its sums are to be multiplied by."""
        return self.plan.state_line

    def _part(self, name: str, parameters: Sequence[str]) -> Part:
        return Part(self.module, self.plan.kernel, self.plan.target, name, parameters)

    def weights(self) -> ir.Function:
        """(scores, state, m, rows, n, keys): make products the weights of a block, relative to the maxima so far."""
        kernel = self.plan.kernel
        assert isinstance(kernel, AttentionKernel)
        part = self._part("weights", ("scores", "state", "m", "rows", "n", "keys"))

        def column(e: ExprEmitter, lanes: _Lanes, i: ir.Value) -> None:
            s = e.scalars
            first = s.splat(part.b.icmp_signed("==", part["n"], i64(0)), bool_)
            top, total, factor = (lanes.at("state", part.ints.add(i64(k * self._block), i)) for k in range(3))
            lowest, zero = s.constant(_LOWEST, self._dtype), s.constant(0.0, self._dtype)
            before = s.select(first, lowest, lanes.load(top))
            highest = lanes.variable(before)
            with e.scope():
                e.hoist([kernel.score], frozenset((kernel.n.symbol,)))
                with self._keys(part, i) as at:
                    place = lanes.at("scores", at)
                    e.accumulator = lanes.load(place)
                    with e.scope():
                        score = e.emit(kernel.score)
                    lanes.store(score, place)
                    known = lanes.load(highest)
                    lanes.store(s.select(s.gt(score, known), score, known), highest)
            now = lanes.load(highest)
            lanes.store(now, top)
            # rows that have seen nothing yet: their weights are exp(-inf)
            shift = s.select(s.eq(now, lowest), zero, now)
            shrunk = s.exp(s.sub(before, shift))
            lanes.store(shrunk, factor)
            old = s.select(first, zero, s.mul(lanes.load(total), shrunk))
            sums = lanes.variable(zero)
            with self._keys(part, i) as at:
                place = lanes.at("scores", at)
                weight = s.exp(s.sub(lanes.load(place), shift))
                lanes.store(weight, place)
                lanes.store(s.add(lanes.load(sums), weight), sums)
            lanes.store(s.add(old, lanes.load(sums)), total)

        self._over_queries(part, column)
        part.b.ret_void()
        return part.function

    def rescale(self) -> ir.Function:
        """(sums, state, rows): bring the sums of earlier blocks to the present maxima."""
        part = self._part("rescale", ("sums", "state", "rows"))
        b, ints, v = part.b, part.ints, self.plan.kernel.v
        width = ints.dim(self.plan.width(v))

        def column(e: ExprEmitter, j: ir.Value) -> None:
            lanes = _Lanes(part, e, self._dtype)
            with counted_loop(b, i64(0), part["rows"], i64(1)) as i:
                factor = lanes.each("state", ints.add(i64(2 * self._block), i))
                place = lanes.at("sums", ints.add(ints.mul(i, width), j))
                lanes.store(e.scalars.mul(lanes.load(place), factor), place)

        part.lanes(v.symbol, width, self.plan.lanes, column, full=True)
        b.ret_void()
        return part.function

    def finish(self) -> ir.Function:
        """(sums, state, m, rows): divide a block's sums by those of its weights, and write what is asked for."""
        kernel = self.plan.kernel
        assert isinstance(kernel, AttentionKernel)
        part = self._part("finish", ("sums", "state", "m", "rows"))

        def row(e: ExprEmitter, lanes: _Lanes, i: ir.Value) -> None:
            s = e.scalars
            top, total, factor = (lanes.at("state", part.ints.add(i64(k * self._block), i)) for k in range(3))
            sum_, zero = lanes.load(total), s.constant(0.0, self._dtype)
            share = s.div(s.constant(1.0, self._dtype), sum_)
            log_sum = s.add(s.log(sum_), lanes.load(top))
            if kernel.zero_blind or not isinstance(kernel.n.extent, int):
                blind = s.eq(sum_, zero)
                if not kernel.zero_blind:  # there may be no key at all
                    none = part.b.icmp_signed("==", part.ints.dim(kernel.n.extent), i64(0))
                    blind = s.bit_and(blind, s.splat(none, bool_))
                share = s.select(blind, zero, share)
                log_sum = s.select(blind, s.constant(float("inf"), self._dtype), log_sum)
            lanes.store(share, factor)
            if kernel.log_sum is not None:
                with e.scope():
                    e.accumulator = log_sum
                    e.store(kernel.log_sum)

        self._over_queries(part, row)
        self._write_rows(part, kernel.output, kernel.m, kernel.v, scaled=True)
        part.b.ret_void()
        return part.function

    def gradients(self) -> ir.Function:
        """(scores, cotangents, m, rows, n, keys): make products weights, and cotangents those of the products."""
        kernel = self.plan.kernel
        assert isinstance(kernel, AttentionGradientKernel)
        part = self._part("gradients", ("scores", "cotangents", "m", "rows", "n", "keys"))

        def column(e: ExprEmitter, lanes: _Lanes, i: ir.Value) -> None:
            s = e.scalars
            with e.scope():
                log_sum, delta = (s.cast(e.emit(x), self._dtype) for x in (kernel.log_sum, kernel.delta))
                scale = s.constant(kernel.scale, self._dtype)
                e.hoist([kernel.score], frozenset((kernel.n.symbol,)))
                with self._keys(part, i) as at:
                    place, other = lanes.at("scores", at), lanes.at("cotangents", at)
                    e.accumulator = lanes.load(place)
                    with e.scope():
                        weight = s.exp(s.sub(e.emit(kernel.score), log_sum))
                    lanes.store(weight, place)
                    change = s.sub(lanes.load(other), delta)
                    lanes.store(s.mul(s.mul(weight, change), scale), other)

        self._over_queries(part, column)
        part.b.ret_void()
        return part.function

    def write(self, name: str, store: Store, row: Axis, column: Axis) -> ir.Function:
        """(sums, m, rows): write rows of sums where `store` says."""
        part = self._part(name, ("sums", "m", "rows"))
        self._write_rows(part, store, row, column, scaled=False)
        part.b.ret_void()
        return part.function

    def _write_rows(self, part: Part, store: Store, row: Axis, column: Axis, *, scaled: bool) -> None:
        ints, width = part.ints, self.plan.width(column)

        def piece(e: ExprEmitter, j: ir.Value) -> None:
            lanes = _Lanes(part, e, self._dtype)
            ints.symbols[column.symbol.name] = j
            with ints.loop(i64(0), part["rows"]) as i, e.scope():
                ints.symbols[row.symbol.name] = ints.add(part["m"], i)
                value = lanes.load(lanes.at("sums", ints.add(ints.mul(i, ints.dim(width)), j)))
                if scaled:
                    value = e.scalars.mul(value, lanes.each("state", ints.add(i64(2 * self._block), i)))
                e.accumulator = value
                e.store(store)

        extent = column.extent
        full = isinstance(extent, int) and extent % self.plan.lanes == 0
        part.lanes(column.symbol, ints.dim(extent), self.plan.lanes, piece, full=full)

    def _over_queries(self, part: Part, body: Callable[[ExprEmitter, _Lanes, ir.Value], None]) -> None:
        """Emit `body` for the queries of a block, a vector of them at a time, from `i` on."""
        symbol = self.plan.kernel.m.symbol

        def vector(e: ExprEmitter, i: ir.Value) -> None:
            part.ints.symbols[symbol.name] = part.ints.add(part["m"], i)
            body(e, _Lanes(part, e, self._dtype), i)

        part.lanes(symbol, part["rows"], self.plan.lanes, vector)

    @contextmanager
    def _keys(self, part: Part, i: ir.Value) -> Iterator[ir.Value]:
        """Over the keys of a block: where their scores with the queries from `i` on lie."""
        ints, symbol = part.ints, self.plan.kernel.n.symbol
        with counted_loop(part.b, i64(0), part["keys"], i64(1)) as j:
            ints.symbols[symbol.name] = ints.add(part["n"], j)
            yield ints.add(ints.mul(j, i64(self.plan.queries)), i)


@dataclass(frozen=True)
class _Lanes:
    """Scratch memory of the sums' dtype as the lanes of an emitter."""

    part: Part
    emitter: ExprEmitter
    dtype: DType

    def at(self, parameter: str, offset: ir.Value) -> ir.Value:
        return self.part.b.gep(self.part[parameter], [offset], source_etype=element_type(self.dtype))

    def load(self, place: ir.Value) -> Lane:
        kind = self.emitter.scalars.register_type(self.dtype)
        return Lane(self.part.b.load(place, typ=kind, align=self.dtype.itemsize), self.dtype)

    def store(self, value: Lane, place: ir.Value) -> None:
        self.part.b.store(value.value, place, align=self.dtype.itemsize)

    def each(self, parameter: str, offset: ir.Value) -> Lane:
        """One element in every lane."""
        one = self.part.b.load(self.at(parameter, offset), typ=element_type(self.dtype))
        return self.emitter.scalars.splat(one, self.dtype)

    def variable(self, value: Lane) -> ir.Value:
        place = stack(self.part.b, value.value.type, block=self.part.function.entry_basic_block)
        self.store(value, place)
        return place
