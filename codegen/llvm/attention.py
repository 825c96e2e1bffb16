"""Attention and its gradients, a block of queries and a block of keys at a time (docs/design/0008).

The products are those of `block_product`, on rows as they lie in memory; the queries of a block alone are packed. Of
the scores one block's are in memory at a time, in scratch. Sums over keys and over queries run in blocks that depend on
the shapes only: the number of tasks changes no bit.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import llvmlite.ir as ir

from tjit.codegen.grids import GridAxis
from tjit.codegen.kernel import Attention, AttentionGradientKernel, AttentionKernel
from tjit.codegen.llvm.attention_parts import Parts
from tjit.codegen.llvm.attention_plan import AttentionPlan, Matrix, plan_attention
from tjit.codegen.llvm.block_product import BLOCK_PRODUCT, BlockProduct
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.contract_lanes import emit_fill, load_arguments
from tjit.codegen.llvm.contract_sides import Dependency, Range, Strided
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.packing import PACK, Packing, emit_packing
from tjit.codegen.llvm.plain import plain_function
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, declare, element_type, i64
from tjit.ir.dims import Dim

__all__ = ["attention_grid", "attention_scratch_bytes", "attention_tasks", "emit_attention"]

_NO_LAST = 1 << 62


def attention_tasks(kernel: Attention, target: Target) -> Dim:
    """Into how many tasks `kernel` may be cut at most; any number from 1 to this gives the same bits."""
    return plan_attention(kernel, target).tasks


def attention_scratch_bytes(kernel: Attention, target: Target) -> Dim:
    """Bytes of a thread's scratch memory."""
    return plan_attention(kernel, target).scratch_bytes


def attention_grid(kernel: Attention, target: Target) -> tuple[GridAxis, ...]:
    """What tasks are equal ranges of, where it falls into equal pieces."""
    return plan_attention(kernel, target).grid


def emit_attention(kernel: Attention, target: Target) -> tuple[ir.Module, tuple[Dependency, ...]]:
    """The module that defines `kernel.name`, and the functions it is joined with."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    emitter = (_Forward if isinstance(kernel, AttentionKernel) else _Backward)(module, plan_attention(kernel, target))
    emitter.emit()
    return module, emitter.dependencies


class _Emission:
    """What both emissions share."""

    def __init__(self, module: ir.Module, plan: AttentionPlan) -> None:
        self.plan, self.kernel, self.module = plan, plan.kernel, module
        # these loops only call: optimising them gains nothing
        function = plain_function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), self.kernel.name)
        self.args, self.task, self.tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.ints = Integers(self.b)
        self.pointers = load_arguments(self.b, self.ints, self.args, self.kernel)
        self.made = Parts(module, plan)
        self.parts: dict[str, ir.Function] = {}
        dtype = self.kernel.accumulate
        self.element = element_type(dtype)
        self.packing = Packing(dtype, dtype, plan.columns, "k")
        self.slots: dict[str, ir.Value] = {}
        self._place_scratch(self.b.load(self.b.gep(self.args, [i64(2)], source_etype=PTR), typ=PTR))

    @property
    def dependencies(self) -> tuple[Dependency, ...]:
        packing, target = self.packing, self.plan.target
        pack = Dependency(packing.name(target), lambda: emit_packing(packing, target))
        return *self._product.dependencies(target), pack

    @property
    def _product(self) -> BlockProduct:
        return BlockProduct(self.kernel.accumulate, self.plan.rows)

    def _place_scratch(self, scratch: ir.Value) -> None:
        """Share out the scratch memory."""
        for name, size in self.plan.slots().items():
            self.slots[name] = scratch
            scratch = self._at(scratch, self.ints.dim(size))

    def _at(self, pointer: ir.Value, offset: ir.Value) -> ir.Value:
        return self.b.gep(pointer, [offset], source_etype=self.element)

    def _cells(self, cells: Dim) -> tuple[ir.Value, ir.Value]:
        """The first of this task's cells, and the one after the last."""
        ints, count = self.ints, self.ints.dim(cells)
        first = ints.div(ints.mul(self.task, count), self.tasks)
        return first, ints.div(ints.mul(ints.add(self.task, i64(1)), count), self.tasks)

    def _bind_batch(self, linear: ir.Value) -> None:
        for axis in reversed(self.kernel.batch):
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(linear, extent)
            linear = self.ints.div(linear, extent)

    def _call(self, name: str, make: Callable[[], ir.Function], *operands: ir.Value) -> None:
        """Call a part, made the first time."""
        if name not in self.parts:
            self.parts[name] = make()
        batch = [self.ints.symbols[axis.symbol.name] for axis in self.kernel.batch]
        self.b.call(self.parts[name], [self.args, *batch, *operands])

    # -- operands ------------------------------------------------------------------------------------------------------

    def _fill(self, name: str, matrix: Matrix, rows: Range) -> None:
        """Evaluate rows of an operand into its slot, where it is not read in place."""
        if matrix.buffer is not None:
            return
        kernel = _with_columns(self.kernel, matrix)
        part, target, symbol = f"fill_{name}", self.plan.target, matrix.row.symbol
        make = partial(emit_fill, self.module, kernel, target, part, matrix.expr, symbol, "k")
        columns = self.ints.dim(matrix.column.extent)
        stride = self.ints.dim(matrix.stride)
        self._call(part, make, self.slots[name], stride, rows.start, rows.size, i64(0), columns)

    def _rows(self, name: str, matrix: Matrix, first: ir.Value, filled: ir.Value | None = None) -> Strided:
        """An operand's rows from `first` on; `filled`: the row that its slot begins with."""
        ints, stride = self.ints, self.ints.dim(matrix.stride)
        if matrix.buffer is None:
            first = first if filled is None else ints.sub(first, filled)
            return Strided(self._at(self.slots[name], ints.mul(first, stride)), stride, i64(1))
        offset = ints.add(ints.dim(matrix.base), ints.mul(first, stride))
        return Strided(self._at(self.pointers[matrix.buffer.name], offset), stride, i64(1))

    def _pack(self, name: str, rows: Strided, count: ir.Value, matrix: Matrix) -> None:
        """Queries into panels: their elements along k."""
        function = declare(self.b, self.packing.name(self.plan.target), PACK)
        columns = self.ints.dim(matrix.column.extent)
        panels, width = self.slots[name], i64(self.plan.columns)
        self.b.call(function, [count, columns, rows.pointer, rows.row, rows.k, panels, width])

    def _queries(self, i: ir.Value) -> Range:
        return Range(i, self.ints.min(i64(self.plan.queries), self.ints.sub(self.ints.dim(self.kernel.m.extent), i)))

    def _limit(self, queries: Range) -> ir.Value:
        """The number of keys that some query of a block sees, in whole tiles."""
        ints, plan = self.ints, self.plan
        extent = ints.dim(self.kernel.n.extent)
        if not self.kernel.causal:
            return extent
        beyond = ints.sub(i64(plan.queries + plan.rows - 1), ints.dim(self.kernel.first_key))
        last = ints.max(ints.add(queries.start, beyond), i64(0))
        return ints.min(extent, ints.mul(ints.div(last, i64(plan.rows)), i64(plan.rows)))

    # -- products ------------------------------------------------------------------------------------------------------

    @property
    def _first_score(self) -> ir.Value:
        """The first tile of the last rows may begin before the block."""
        return i64(self.plan.rows * self.plan.queries)

    def _block(self, slot: str) -> ir.Value:
        return self._at(self.slots[slot], self._first_score)

    def _products(self, slot: str, keys: Range, rows: Strided, matrix: Matrix, panels: str, queries: Range) -> None:
        """Lines of products of keys (or values) with the packed queries."""
        ints, width = self.ints, self.plan.columns
        last = ints.sub(keys.size, i64(self.plan.rows)) if matrix.buffer is not None else i64(_NO_LAST)
        k = ints.dim(matrix.column.extent)
        b = (self.slots[panels], i64(width), ints.mul(k, i64(width)))
        c = (self._block(slot), i64(self.plan.queries))
        self._multiply(keys.size, last, queries.size, k, rows, b, c, i64(0))

    def _sums_over_keys(self, slot: str, scores: str, keys: Range, rows: Strided, width: Dim, queries: Range) -> None:
        """Add the keys' (or values') rows, times what `scores` holds, to a line for each query."""
        ints = self.ints
        a = Strided(self._block(scores), i64(1), i64(self.plan.queries))
        b = (rows.pointer, rows.row, i64(self.plan.columns))
        add = self.b.zext(self.b.icmp_signed(">", keys.start, i64(0)), I64)
        columns = ints.dim(width)
        self._multiply(queries.size, i64(_NO_LAST), columns, keys.size, a, b, (self.slots[slot], columns), add)

    def _sums_over_queries(
        self, slot: str, scores: str, keys: Range, rows: Strided, width: Dim, count: ir.Value
    ) -> None:
        """Add the queries' rows, times what `scores` holds, to a line for each key."""
        ints = self.ints
        a = Strided(self._block(scores), i64(self.plan.queries), i64(1))
        b = (rows.pointer, rows.row, i64(self.plan.columns))
        columns = ints.dim(width)
        c = (self._at(self.slots[slot], ints.mul(keys.start, columns)), columns)
        self._multiply(keys.size, i64(_NO_LAST), columns, count, a, b, c, i64(1))

    def _multiply(
        self,
        rows: ir.Value,
        last: ir.Value,
        columns: ir.Value,
        k: ir.Value,
        a: Strided,
        b: tuple[ir.Value, ir.Value, ir.Value],
        c: tuple[ir.Value, ir.Value],
        add: ir.Value,
    ) -> None:
        function = declare(self.b, self._product.name(self.plan.target), BLOCK_PRODUCT)
        self.b.call(function, [rows, last, columns, k, a.pointer, a.row, a.k, *b, *c, add])


class _Forward(_Emission):
    """The one emission of an attention: cells are blocks of queries."""

    def emit(self) -> None:
        b, ints, plan = self.b, self.ints, self.plan
        blocks = ints.dim(plan.blocks)
        filled = b.alloca(I64)
        b.store(i64(-1), filled)
        with ints.loop(*self._cells(plan.cells)) as cell:
            batch = ints.div(cell, blocks)
            self._bind_batch(batch)
            with b.if_then(b.icmp_signed("!=", batch, b.load(filled, typ=I64))):
                whole = Range(i64(0), ints.dim(self.kernel.n.extent))
                self._fill("key", plan.key, whole)
                self._fill("value", plan.value, whole)
                b.store(batch, filled)
            self._cell(self._queries(ints.mul(ints.mod(cell, blocks), i64(plan.queries))))
        b.ret_void()

    def _cell(self, queries: Range) -> None:
        ints, plan = self.ints, self.plan
        self._fill("query", plan.query, queries)
        rows = self._rows("query", plan.query, queries.start, queries.start)
        self._pack("query_panels", rows, queries.size, plan.query)
        limit = self._limit(queries)
        with ints.loop(i64(0), ints.max(limit, i64(1)), plan.keys) as j:
            self._keys(queries, Range(j, ints.min(i64(plan.keys), ints.sub(limit, j))))
        self._call("finish", self.made.finish, self.slots["sums"], self.slots["state"], queries.start, queries.size)

    def _keys(self, queries: Range, keys: Range) -> None:
        plan, slots = self.plan, self.slots
        rows = self._rows("key", plan.key, keys.start)
        self._products("scores", keys, rows, plan.key, "query_panels", queries)
        block, state = self._block("scores"), slots["state"]
        spans = (queries.start, queries.size, keys.start, keys.size)
        self._call("weights", self.made.weights, block, state, *spans)
        with self.b.if_then(self.b.icmp_signed(">", keys.start, i64(0))):
            self._call("rescale", self.made.rescale, slots["sums"], state, queries.size)
        values = self._rows("value", plan.value, keys.start)
        self._sums_over_keys("sums", "scores", keys, values, plan.width(self.kernel.v), queries)


class _Backward(_Emission):
    """The one emission of the gradients: cells are whole batches."""

    def emit(self) -> None:
        ints, plan = self.ints, self.plan
        with ints.loop(*self._cells(plan.cells)) as cell:
            self._bind_batch(cell)
            whole = Range(i64(0), ints.dim(self.kernel.n.extent))
            self._fill("key", plan.key, whole)
            self._fill("value", plan.value, whole)
            self._clear("key_sums")
            self._clear("value_sums")
            with ints.loop(i64(0), ints.dim(self.kernel.m.extent), plan.queries) as i:
                self._block_of_queries(self._queries(i))
            self._write_whole(whole)
        self.b.ret_void()

    def _clear(self, slot: str) -> None:
        size = self.ints.mul(self.ints.dim(self.plan.slots()[slot]), i64(self.kernel.accumulate.itemsize))
        i8, i1 = ir.IntType(8), ir.IntType(1)
        clear = declare(self.b, "llvm.memset.p0.i64", ir.FunctionType(ir.VoidType(), [PTR, i8, I64, i1]))
        self.b.call(clear, [self.slots[slot], i8(0), size, i1(0)])

    def _write_whole(self, keys: Range) -> None:
        kernel, made = self.kernel, self.made
        assert isinstance(kernel, AttentionGradientKernel)
        for slot, store, column in (
            ("key_sums", kernel.key_gradient, kernel.k),
            ("value_sums", kernel.value_gradient, kernel.v),
        ):
            name = f"write_{slot}"
            self._call(
                name, partial(made.write, name, store, kernel.n, column), self.slots[slot], keys.start, keys.size
            )

    def _block_of_queries(self, queries: Range) -> None:
        ints, plan, kernel, slots = self.ints, self.plan, self.kernel, self.slots
        assert isinstance(kernel, AttentionGradientKernel)
        assert plan.gradient is not None
        operands = (("query", plan.query), ("gradient", plan.gradient))
        rows: dict[str, Strided] = {}
        for name, matrix in operands:
            self._fill(name, matrix, queries)
            rows[name] = self._rows(name, matrix, queries.start, queries.start)
            self._pack(f"{name}_panels", rows[name], queries.size, matrix)
        limit = self._limit(queries)
        with ints.loop(i64(0), ints.max(limit, i64(1)), plan.keys) as j:
            keys = Range(j, ints.min(i64(plan.keys), ints.sub(limit, j)))
            self._keys(queries, keys, rows["query"], rows["gradient"])
        name, store = "write_query_sums", kernel.query_gradient
        make = partial(self.made.write, name, store, kernel.m, kernel.k)
        self._call(name, make, slots["query_sums"], queries.start, queries.size)

    def _keys(self, queries: Range, keys: Range, query: Strided, gradient: Strided) -> None:
        plan, kernel = self.plan, self.kernel
        key, value = self._rows("key", plan.key, keys.start), self._rows("value", plan.value, keys.start)
        self._products("scores", keys, key, plan.key, "query_panels", queries)
        self._products("cotangents", keys, value, plan.value, "gradient_panels", queries)
        blocks = self._block("scores"), self._block("cotangents")
        spans = (queries.start, queries.size, keys.start, keys.size)
        self._call("gradients", self.made.gradients, *blocks, *spans)
        k, v = plan.width(kernel.k), plan.width(kernel.v)
        self._sums_over_queries("value_sums", "scores", keys, gradient, v, queries.size)
        self._sums_over_queries("key_sums", "cotangents", keys, query, k, queries.size)
        self._sums_over_keys("query_sums", "cotangents", keys, key, k, queries)


def _with_columns(kernel: Attention, matrix: Matrix) -> Attention:
    """The kernel as `emit_fill` sees it, which evaluates along k."""
    return kernel if matrix.column is kernel.k else replace(kernel, k=kernel.v, v=kernel.k)
