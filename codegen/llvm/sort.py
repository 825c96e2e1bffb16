"""Sort kernels: each row's elements become integers that order as they do, which are sorted in scratch.

An element of the scratch is a key and, below it, the place in the row: so all are distinct, and whatever sorts them
keeps the order of equal keys. Short rows are sorted several at once, a lane of vectors each. Of others, few elements
are inserted one by one, many sorted digit by digit; where only the first few are wanted, what is larger than the last
of them so far is passed over.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import llvmlite.ir as ir

from tjit.codegen.kernel import SortKernel, kernel_symbols
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.floats import any_lane
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.keys import Keys
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.sort_digits import COUNTS_BYTES, emit_digit_sort, emit_insertion_sort
from tjit.codegen.llvm.sort_lanes import Columns, lanes_of
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, i64, lanes_below, least, splat, stack
from tjit.ir.dims import Dim, minimum, product

__all__ = ["emit_sort", "sort_scratch_bytes", "sort_tasks"]

_FEW = 24  # elements that are inserted one by one
_SHARE = 8  # of a row's elements one in so many is few enough to be selected
_MOST = 1 << 12  # selected, at most
_ROOM = 256  # for candidates besides those selected so far
_SHORT = 1 << 10  # elements of rows that are sorted several at once
_FIRST_OF_LANES = 8  # elements that are kept in registers for the first of each lane's row
_LONGEST_OF_LANES = 1 << 12  # of rows whose first elements are
_TASK_ELEMENTS = 1 << 11
_MAX_TASKS = 16


class _Plan:
    """How a kernel sorts, as a function of shapes."""

    def __init__(self, kernel: SortKernel) -> None:
        self.kernel = kernel
        self.keys = Keys(kernel.value.dtype, descending=kernel.descending, placed=kernel.placed)

    @cached_property
    def by_lanes(self) -> bool:
        """Whether each lane of vectors has a row of its own."""
        n, rows = self.kernel.row.extent, product(a.extent for a in self.kernel.parallel)
        if not isinstance(n, int) or (isinstance(rows, int) and 2 * rows <= lanes_of(self.keys)):
            return False
        return 1 < n <= _LONGEST_OF_LANES if self.keeps_first else 1 < n <= _SHORT and not self.selects

    @property
    def keeps_first(self) -> bool:
        """Whether the first few elements are wanted that fit in registers."""
        count, n = self.kernel.count, self.kernel.row.extent
        few = _FIRST_OF_LANES // self.keys.parts
        return isinstance(count, int) and isinstance(n, int) and 0 < count <= few and 4 * count <= n

    @cached_property
    def selects(self) -> bool:
        n, count = self.kernel.row.extent, self.kernel.count
        if not isinstance(count, int) or not 0 < count <= _MOST:
            return False
        return not isinstance(n, int) or n >= max(_SHARE * count, 2 * _ROOM)

    @cached_property
    def first(self) -> int:
        """How many candidates are taken before any is passed over: a multiple of every vector's width."""
        assert isinstance(self.kernel.count, int)
        return -(-(2 * self.kernel.count + _ROOM) // 64) * 64

    @cached_property
    def room(self) -> Dim:
        """Elements of each of the two buffers, a vector more than are counted."""
        if self.by_lanes:
            return self.pitch * lanes_of(self.keys)
        return self.first + 128 if self.selects else self.kernel.row.extent + 64

    @property
    def pitch(self) -> int:
        """Elements from one row to the next, of rows that are sorted together."""
        assert isinstance(self.kernel.row.extent, int)
        return -(-self.kernel.row.extent // 64) * 64 + 8  # another set of the cache for each row

    @property
    def bytes(self) -> Dim:
        """Scratch of one thread, in whole cache lines."""
        both = 2 * self.room * (self.keys.element.width // 8) + COUNTS_BYTES
        return (both + 63) // 64 * 64


def sort_tasks(kernel: SortKernel) -> Dim:
    """How many ranges the rows are cut into, by shapes alone."""
    rows = product(a.extent for a in kernel.parallel)
    work = rows * kernel.row.extent // _TASK_ELEMENTS
    if isinstance(work, int) and isinstance(rows, int):
        plan = _Plan(kernel)
        units = -(-rows // lanes_of(plan.keys)) if plan.by_lanes else rows
        return max(1, min(units, work, _MAX_TASKS))
    return 1 if rows == 1 else minimum(work + 1, _MAX_TASKS)


def sort_scratch_bytes(kernel: SortKernel) -> Dim:
    """Of one thread."""
    return _Plan(kernel).bytes


def emit_sort(kernel: SortKernel, target: Target) -> ir.Module:
    """The module that defines `kernel.name` by the convention of docs/design/0001."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    _Sort(kernel, target, module).emit()
    return module


class _Sort:
    def __init__(self, kernel: SortKernel, target: Target, module: ir.Module) -> None:
        self.kernel, self.target = kernel, target
        self.plan = _Plan(kernel)
        self.keys = self.plan.keys
        self.element = self.keys.element
        self.module = module
        function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), kernel.name)
        self.args, self.task, self.tasks = function.args
        self.b = Builder(function.append_basic_block("entry"))
        self.entry = self.b.block
        self.ints = Integers(self.b)
        self.width = target.lanes(max(4, kernel.value.dtype.itemsize)) if self.element.width <= 64 else 1

    def emit(self) -> None:
        self._load_arguments()
        ints = self.ints
        rows = ints.dim(product(a.extent for a in self.kernel.parallel))
        lanes = lanes_of(self.keys) if self.plan.by_lanes else 1
        units = ints.div(ints.add(rows, i64(lanes - 1)), i64(lanes))
        first = ints.div(ints.mul(self.task, units), self.tasks)
        last = ints.div(ints.mul(ints.add(self.task, i64(1)), units), self.tasks)
        self.extent, self.count = ints.dim(self.kernel.row.extent), ints.dim(self.kernel.count)
        with counted_loop(self.b, first, last, i64(1)) as unit, self.scalar.scope():
            if self.plan.by_lanes:
                self._sort_lanes(ints.mul(unit, i64(lanes)), rows, lanes)
            else:
                self._bind(unit)
                self._write(self._selected() if self.plan.selects else self._sorted())
        self.b.ret_void()

    def _bind(self, row: ir.Value) -> None:
        """Give the parallel axes the values of a row."""
        for axis in reversed(self.kernel.parallel):
            extent = self.ints.dim(axis.extent)
            self.ints.symbols[axis.symbol.name] = self.ints.mod(row, extent)
            row = self.ints.div(row, extent)

    def _sort_lanes(self, first: ir.Value, rows: ir.Value, lanes: int) -> None:
        """The rows from `first` on, one in each lane; beyond the last row the last again, which is not written."""
        b, pitch = self.b, self.plan.pitch
        with counted_loop(b, i64(0), i64(lanes), i64(1)) as lane, self.scalar.scope():
            self._bind(self.ints.min(self.ints.add(first, lane), self.ints.sub(rows, i64(1))))
            self._fill(b.gep(self.one, [self.ints.mul(lane, i64(pitch))], source_etype=self.element), self.extent)
        registers = self.target.registers * self.target.vector_bytes // 64
        columns = Columns(b, self.keys, self.other, pitch, registers)
        columns.fill(self.one, pitch, self.extent)
        if self.plan.keeps_first:
            assert isinstance(self.kernel.count, int)
            columns.select(self.extent, self.kernel.count)
        else:
            assert isinstance(self.kernel.row.extent, int)
            columns.sort(self.kernel.row.extent)
        columns.drain(self.one, pitch, self.count)
        with counted_loop(b, i64(0), least(b, i64(lanes), self.ints.sub(rows, first)), i64(1)) as lane:
            self._bind(self.ints.add(first, lane))
            self._write(b.gep(self.one, [self.ints.mul(lane, i64(pitch))], source_etype=self.element))

    def _load_arguments(self) -> None:
        b, kernel = self.b, self.kernel

        def argument(i: int) -> ir.Value:
            return b.load(b.gep(self.args, [i64(i)], source_etype=PTR), typ=PTR)

        for i, symbol in enumerate(kernel_symbols(kernel)):
            self.ints.symbols[symbol.name] = b.load(b.gep(argument(0), [i64(i)], source_etype=I64), typ=I64)
        self.error = argument(1)
        room = self.ints.dim(self.plan.room)
        self.counts = argument(2)
        self.one = b.gep(self.counts, [i64(COUNTS_BYTES)], source_etype=ir.IntType(8))
        self.other = b.gep(self.one, [room], source_etype=self.element)
        pointers = {buffer.name: argument(3 + i) for i, buffer in enumerate(kernel.buffers)}
        self.scalar = ExprEmitter(b, self.target, Lanes(None, 1), self.ints, pointers, error=self.error)

    # -- keys into scratch ---------------------------------------------------------------------------------------------

    @contextmanager
    def _vector(self, start: ir.Value, stop: ir.Value | None) -> Iterator[tuple[ir.Value, ir.Value, ir.Value | None]]:
        """(keys, elements, mask) of the vector of the row that begins at `start`; a `stop` masks what is beyond."""
        with self._lanes(start, stop) as emitter:
            keys = self.keys.of(emitter.scalars, emitter.emit(self.kernel.value))
            yield keys, self.keys.elements(self.b, keys, start, self.width), emitter.lanes.mask

    @contextmanager
    def _lanes(self, start: ir.Value, stop: ir.Value | None) -> Iterator[ExprEmitter]:
        """The emitter of the vector of the row that begins at `start`; a `stop` masks what is beyond."""
        axis, width = self.kernel.row.symbol, self.width
        self.ints.symbols[axis.name] = start
        emitter = self.scalar
        if width > 1:
            mask = None if stop is None else lanes_below(self.b, self.ints.sub(stop, start), width)
            lanes = Lanes(axis, width, mask)
            emitter = ExprEmitter(
                self.b, self.target, lanes, self.ints, self.scalar.pointers, error=self.error, scalar=self.scalar
            )
        with self.scalar.scope():
            yield emitter

    def _fill(self, base: ir.Value, stop: ir.Value) -> None:
        """The elements of the row up to `stop`, and some of no meaning after them."""
        whole = self.ints.whole_steps(i64(0), stop, self.width)
        for start, end, limit in ((i64(0), whole, None), (whole, stop, stop)):
            with (
                counted_loop(self.b, start, end, i64(self.width)) as i,
                self._vector(i, limit) as (_, elements, _),
            ):
                self._put(base, i, elements)

    def _put(self, base: ir.Value, at: ir.Value, value: ir.Value) -> None:
        size = self.element.width // 8
        self.b.store(value, self.b.gep(base, [at], source_etype=self.element), align=min(size, 16))

    def _at(self, base: ir.Value, at: ir.Value) -> ir.Value:
        return self.b.load(self.b.gep(base, [at], source_etype=self.element), typ=self.element)

    # -- all elements --------------------------------------------------------------------------------------------------

    def _sorted(self) -> ir.Value:
        """Where the row's elements are, in order."""
        self._fill(self.one, self.extent)
        n = self.kernel.row.extent
        if isinstance(n, int):
            return self._by_insertion() if n <= _FEW else self._by_digits(self.one, self.other, self.extent)
        slot = stack(self.b, PTR, block=self.entry)
        with self.b.if_else(self.b.icmp_signed("<=", self.extent, i64(_FEW))) as (few, many):
            with few:
                self.b.store(self._by_insertion(), slot)
            with many:
                self.b.store(self._by_digits(self.one, self.other, self.extent), slot)
        return self.b.load(slot, typ=PTR)

    def _by_insertion(self) -> ir.Value:
        function = emit_insertion_sort(self.module, f"{self.kernel.name}.insert", self.element)
        self.b.call(function, [self.one, self.extent])
        return self.one

    @cached_property
    def _digit_sort(self) -> ir.Function:
        return emit_digit_sort(self.module, f"{self.kernel.name}.digits", self.keys)

    def _by_digits(self, one: ir.Value, other: ir.Value, n: ir.Value) -> ir.Value:
        return self.b.call(self._digit_sort, [one, other, self.counts, n])

    # -- the first few -------------------------------------------------------------------------------------------------

    def _selected(self) -> ir.Value:
        """Where the first `count` elements are, in order."""
        b, first = self.b, i64(self.plan.first)
        taken = least(b, self.extent, first)
        self._fill(self.one, taken)
        self.here, self.spare, self.taken = (stack(b, kind, block=self.entry) for kind in (PTR, PTR, I64))
        self.last = stack(b, self.keys.key, block=self.entry)
        for value, slot in ((self.one, self.here), (self.other, self.spare), (taken, self.taken)):
            b.store(value, slot)
        with b.if_then(b.icmp_signed(">", self.extent, first)):
            self._keep_first()
            whole = self.ints.whole_steps(first, self.extent, self.width)
            for start, end, limit in ((first, whole, None), (whole, self.extent, self.extent)):
                with counted_loop(b, start, end, i64(self.width)) as i:
                    self._consider(i, limit)
        self._sort_taken()
        return b.load(self.here, typ=PTR)

    def _sort_taken(self) -> None:
        b = self.b
        here, spare = b.load(self.here, typ=PTR), b.load(self.spare, typ=PTR)
        found = self._by_digits(here, spare, b.load(self.taken, typ=I64))
        b.store(b.select(b.icmp_unsigned("==", found, here), spare, here), self.spare)
        b.store(found, self.here)

    def _keep_first(self) -> None:
        """Drop all candidates but the first `count`; what is to come in has a smaller key than the last of them."""
        self._sort_taken()
        b = self.b
        last = self._at(b.load(self.here, typ=PTR), self.ints.sub(self.count, i64(1)))
        b.store(self.keys.key_of(b, last), self.last)
        b.store(self.count, self.taken)

    def _consider(self, start: ir.Value, stop: ir.Value | None) -> None:
        """Take in those of a vector that come before the last candidate. What is equal to it comes after it."""
        b = self.b
        with self._vector(start, stop) as (keys, elements, mask):
            last = b.load(self.last, typ=self.keys.key)
            before = b.icmp_unsigned("<", keys, splat(b, last, self.width) if self.width > 1 else last)
            before = before if mask is None else b.and_(before, mask)
            bits = before if self.width == 1 else b.bitcast(before, ir.IntType(self.width))
            with b.if_then(b.icmp_unsigned("!=", bits, ir.Constant(bits.type, 0)), likely=False):
                self._append(before, elements)

    def _append(self, chosen: ir.Value, elements: ir.Value) -> None:
        b = self.b
        here, taken = b.load(self.here, typ=PTR), b.load(self.taken, typ=I64)
        for n in range(self.width):
            one = (elements, chosen)
            if self.width > 1:
                lane = ir.Constant(ir.IntType(32), n)
                one = (b.extract_element(elements, lane), b.extract_element(chosen, lane))
            self._put(here, taken, one[0])
            taken = b.add(taken, b.zext(one[1], I64))
        b.store(taken, self.taken)
        with b.if_then(b.icmp_signed(">=", taken, i64(self.plan.first)), likely=False):
            self._keep_first()

    # -- results -------------------------------------------------------------------------------------------------------

    def _write(self, base: ir.Value) -> None:
        """Store the results of the present row, whose elements are at `base`, in order."""
        whole = self.ints.whole_steps(i64(0), self.count, self.width)
        for start, end, limit in ((i64(0), whole, None), (whole, self.count, self.count)):
            with counted_loop(self.b, start, end, i64(self.width)) as i, self._lanes(i, limit) as emitter:
                elements = self._elements(base, i)
                self._put_results(emitter, elements)
                if self.width > 1 and self.keys.signs_zero:
                    self._put_zeros(base, i, elements, limit)

    def _elements(self, base: ir.Value, at: ir.Value) -> ir.Value:
        kind = ir.VectorType(self.element, self.width) if self.width > 1 else self.element
        align = min(self.element.width // 8, 16)
        return self.b.load(self.b.gep(base, [at], source_etype=self.element), typ=kind, align=align)

    def _put_results(self, emitter: ExprEmitter, elements: ir.Value) -> None:
        place = self.keys.place_of(self.b, elements)
        for store in self.kernel.stores:
            lane = place
            if store.value is self.kernel.element:
                lane = self.keys.value_of(emitter.scalars, elements, lambda: self._original(place))
            assert lane is not None  # elements have a place where one is stored
            emitter.put(store, lane)

    def _put_zeros(self, base: ir.Value, start: ir.Value, elements: ir.Value, stop: ir.Value | None) -> None:
        """Store a vector's results again, one by one, if there is a zero, whose sign no key tells."""
        b, name = self.b, self.kernel.row.symbol.name
        with b.if_then(any_lane(b, self.keys.zeros(b, elements)), likely=False):
            end = b.add(start, i64(self.width))
            with (
                counted_loop(b, start, end if stop is None else least(b, end, stop), i64(1)) as i,
                self.scalar.scope(),
            ):
                self.ints.symbols[name] = i
                self._put_results(self.scalar, self._at(base, i))

    def _original(self, place: Lane | None) -> Lane:
        """The row's element at a place: what a key does not tell."""
        assert place is not None
        known = self.ints.symbols[self.kernel.row.symbol.name]
        self.ints.symbols[self.kernel.row.symbol.name] = place.value
        with self.scalar.scope():
            found = self.scalar.emit(self.kernel.value)
        self.ints.symbols[self.kernel.row.symbol.name] = known
        return found
