"""Kernels from groups of items: axes named, expressions written out, loops formed."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.codegen.expander import BufferOf, Expander, Indices
from tjit.codegen.items import Group, Item, Program, Read, bare_symbol
from tjit.codegen.kernel import (
    Accumulator,
    Axis,
    Buffer,
    ContractKernel,
    Expr,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Reduced,
    Scan,
    Scanned,
    ScatterKernel,
    Statement,
    Store,
)
from tjit.codegen.lanes import column_axis, stores_across
from tjit.codegen.scalars import held
from tjit.dataclass import dataclass
from tjit.dtypes import f32, f64, i32, i64
from tjit.ir.dims import Dim, Symbol, is_one, product, substitute, symbols
from tjit.ir.graph import Value
from tjit.location import Location
from tjit.ops.movement import _reshape_index
from tjit.passes.costs import EXPENSIVE

__all__ = ["build_contract", "build_loops", "build_scatter", "contiguous", "copy_axes", "copy_kernel"]

SCAN_KINDS = {"cumsum": "sum", "cumprod": "prod", "cummax": "max", "cummin": "min", "logcumsumexp": "logaddexp"}
_ROW_BYTES = 32 * 1024  # scratch of one parallel point: stays in the first-level cache


# -- loop kernels ------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Row:
    """A value that loop `writer` leaves in a row buffer, and loops `readers` load."""

    key: tuple[Value, Indices]
    writer: int
    readers: list[int]
    load: Load


class _Loops:
    """Builds one LoopKernel."""

    def __init__(
        self, program: Program, group: Group, buffer_of: BufferOf, store_to: BufferOf, needed: Callable[[Value], bool]
    ) -> None:
        self.needed = needed
        self.program = program
        self.group = group
        self.store_to = store_to
        self.names: dict[Symbol, Symbol] = {}
        self.parallel: list[Axis] = []
        self.loops: list[list[Axis]] = []
        self.loop_of: dict[Item, int] = {}
        self.symbols_of: dict[Item, dict[Symbol, Dim]] = {}
        self.expander = Expander(program, buffer_of)
        self.reduced: dict[Item, Reduce] = {}
        self.scanned: dict[Item, Scan] = {}
        self.left: set[Item] = set()  # scans that a later loop reads from memory
        self.backwards: dict[int, bool] = {}  # the direction of loops with scans
        self.rows: list[_Row] = []
        self.current = 0
        extents: dict[Symbol, Dim] = {}
        for item in group.items:
            for s, d in zip(item.symbols, item.domain, strict=True):
                extents[group.axis[s]] = d
        self.extents = extents
        for s in group.parallel:
            axis = Axis(program.named(f"p{len(self.parallel)}", extents[s]), extents[s])
            self.names[s] = axis.symbol
            self.parallel.append(axis)

    def build(self, name: str, location: Location | None) -> LoopKernel:
        for item in self.group.items:
            self._place(item)
        for item in self.group.items:
            self._declare(item)
        bodies = self._bodies()
        if _keeps_rows(self._kernel(name, bodies, location)):
            self.rows = self._choose_rows()
        if self.rows or self.left:
            bodies = self._bodies()
        stores = self._reduction_stores()
        if stores and (self.loops[-1] or any(isinstance(s, Reduce) for s in bodies[-1])):
            self.loops.append([])
            bodies.append([])
        bodies[-1].extend(stores)
        return self._kernel(name, bodies, location)

    def _kernel(self, name: str, bodies: list[list[Statement]], location: Location | None) -> LoopKernel:
        loops = tuple(
            Loop(tuple(axes), tuple(body), self.backwards.get(n, False))
            for n, (axes, body) in enumerate(zip(self.loops, bodies, strict=True))
        )
        outputs = [s.buffer for body in bodies for s in body if isinstance(s, Store) and not s.buffer.row]
        return LoopKernel(name, (), tuple(dict.fromkeys(outputs)), tuple(self.parallel), loops, None, 1, location)

    def _reduction_stores(self) -> list[Statement]:
        """Reductions that other kernels or the caller read go to memory."""
        found: list[Statement] = []
        for item, reduce in self.reduced.items():
            if self.needed(item.value):
                at = tuple(substitute(d, self.symbols_of[item]) for d in item.value_index())
                found.append(Store(self.store_to(item.value), at, Reduced(reduce), item.node.location))
        return found

    def _place(self, item: Item) -> None:
        """Choose the item's loop: the first with its extents that comes after what it needs."""
        group = self.group
        own = [
            s
            for s, d in zip(item.symbols, item.domain, strict=True)
            if not is_one(d) and group.axis[s] not in group.parallel
        ]
        extents = [item.extent(s) for s in own]
        after = 0
        for read in item.reads:
            producer = self.program.item_of.get(read.value)
            if producer in self.loop_of:
                after = max(after, self.loop_of[producer] + self._is_waited_for(producer, item, read))
        for at in range(after, len(self.loops)):
            if [a.extent for a in self.loops[at]] == extents and self._runs_as(item, at):
                break
        else:
            at = len(self.loops)
            # loops of equal extents use the same symbols: what they share is then the same expression
            self.loops.append([Axis(self.program.named(f"r{k}", d), d) for k, d in enumerate(extents)])
        self.loop_of[item] = at
        if item.kind == "scan":
            self.backwards[at] = item.node.attrs["reverse"]
        values: dict[Symbol, Dim] = {}
        for s, axis in zip(own, self.loops[at], strict=True):
            values[s] = axis.index
        for s, d in zip(item.symbols, item.domain, strict=True):
            if is_one(d):
                values[s] = 0
            elif s not in values:
                values[s] = self.names[group.axis[s]].dim
        self.symbols_of[item] = values

    def _is_waited_for(self, producer: Item, reader: Item, read: Read) -> bool:
        """Whether the whole of the producer's loop comes before an element that the reader takes."""
        if producer.kind != "scan":
            return producer.kind == "reduce"
        here = dict(zip(reader.symbols, reader.domain, strict=True))
        for d in producer.looped:
            made, taken = producer.symbols[d], bare_symbol(read.index[d])
            if is_one(producer.domain[d]):
                continue
            if taken is None or taken not in here or self.group.axis[taken] is not self.group.axis[made]:
                return True
        own = [s for s in reader.symbols if not is_one(here[s]) and self.group.axis[s] not in self.group.parallel]
        return len(own) != 1

    def _runs_as(self, item: Item, at: int) -> bool:
        """Whether the loop goes in a scan's direction, or may."""
        reverse = item.node.attrs["reverse"] if item.kind == "scan" else None
        return reverse is None or self.backwards.get(at, reverse) == reverse

    def _declare(self, item: Item) -> None:
        """Say what stands for the item's value inside this kernel."""
        points = {a.symbol for a in self.parallel}

        def reduced(index: Indices) -> Expr | None:
            return Reduced(self.reduced[item])

        def scanned(index: Indices) -> Expr | None:
            if self.loop_of[item] == self.current:
                return Scanned(self.scanned[item])
            self.left.add(item)
            return Load(self.store_to(item.value), index)

        def stored(index: Indices) -> Expr | None:
            if self.loop_of[item] >= self.current or self.program.producer[item.value].op.kind != "elementwise":
                return None
            # an earlier loop of the same parallel point left it in memory
            made = tuple(substitute(d, self.symbols_of[item]) for d in item.value_index())
            for m, t in zip(made, index, strict=True):
                if _mentions(m, points) and m != t:
                    return None
            return Load(self.store_to(item.value), _as_stored(item, index))

        self.expander.member[item.value] = {"reduce": reduced, "scan": scanned}.get(item.kind, stored)

    def _bodies(self) -> list[list[Statement]]:
        """The statements of every loop, in order; `used` notes what each loop computes."""
        bodies: list[list[Statement]] = [[] for _ in self.loops]
        self.reduced.clear()
        self.scanned.clear()
        self.used: list[set[Any]] = [set() for _ in self.loops]
        for item in sorted(self.group.items, key=lambda i: self.loop_of[i]):
            self.current = self.loop_of[item]
            self.expander.touched = self.used[self.current]
            if not bodies[self.current]:
                bodies[self.current] += self._start_loop()
            bodies[self.current].extend(self._statements(item))
        return bodies

    def _start_loop(self) -> list[Statement]:
        """Make the expander see what earlier loops left in memory; leave in row buffers what later loops need."""
        self.expander.memo.clear()
        self.expander.rows = {row.key: row.load for row in self.rows if self.current in row.readers}
        stores: list[Statement] = []
        for row in self.rows:
            if row.writer == self.current:
                value = self.expander.operand(*row.key)
                stores.append(Store(row.load.buffer, row.load.index, value, self.program.producer[row.key[0]].location))
        return stores

    def _statements(self, item: Item) -> list[Statement]:
        statement = self._statement(item)
        if not isinstance(statement, Scan) or not (item in self.left or self.needed(item.value)):
            return [statement]
        at = tuple(substitute(d, self.symbols_of[item]) for d in item.value_index())
        return [statement, Store(self.store_to(item.value), at, Scanned(statement), statement.location)]

    def _statement(self, item: Item) -> Statement:
        values = self.symbols_of[item]
        index = tuple(substitute(s.dim, values) for s in item.symbols)
        location = item.node.location
        if item.kind == "reduce":
            op, operand = item.node.op.name, item.node.operands[0]
            value = self.expander.operand(operand, index)
            reduce = Reduce(f"s{len(self.reduced)}", op, value, item.value.type.dtype, location)
            self.reduced[item] = reduce
            return reduce
        if item.kind == "scan":
            value = self.expander.operand(item.node.operands[0], index)
            kind, dtype = SCAN_KINDS[item.node.op.name], item.value.type.dtype
            self.scanned[item] = scan = Scan(f"scan{len(self.scanned)}", kind, value, dtype, None, location)
            return scan
        at = tuple(substitute(d, values) for d in item.value_index())
        if item.kind == "update":
            return Store(self.store_to(item.value), at, _new_part(self.expander, item, values), location)
        value = self.expander.node(item.node, at)
        key = (item.value, at)
        self.expander.memo[key] = value
        buffer = self.store_to(item.value)
        return Store(buffer, index if item.domain != item.value.type.shape else at, value, location)

    def _choose_rows(self) -> list[_Row]:
        """Expensive values that several loops compute: the first leaves them in a row buffer for the others."""
        if len(self.loops) < 2:
            return []
        rows: list[_Row] = []
        covered: set[Value] = set()
        position = self.program.position
        # the last value first: what it is made of is then not kept besides
        for key in sorted(set().union(*self.used), key=lambda k: -position.get(k[0], -1)):
            value, index = key
            where = [n for n, used in enumerate(self.used) if key in used]
            axes = self.loops[where[0]]
            readers = [n for n in where[1:] if self.loops[n] == axes]  # others have points that the writer has not
            if (
                not readers
                or value in covered
                or not self._is_expensive(value)
                or not self._row_fits(axes, value, index)
            ):
                continue
            shape = tuple(a.extent for a in axes)
            buffer = Buffer(f"row{len(rows)}", value.type.dtype, shape, contiguous(shape), row=True)
            rows.append(_Row(key, where[0], readers, Load(buffer, tuple(a.index for a in axes))))
            self._cover(value, covered)
        return rows

    def _is_expensive(self, value: Value) -> bool:
        node = self.program.producer.get(value)
        inline = value not in self.expander.member and not self.program.in_memory(value)
        return inline and node is not None and node.op.name in EXPENSIVE

    def _row_fits(self, axes: list[Axis], value: Value, index: Indices) -> bool:
        """Whether there is one value for each point of the loop, and all of them fit in the first-level cache."""
        if not axes or not all(any(i == a.index for i in index) for a in axes):
            return False
        size = product(a.extent for a in axes) * value.type.dtype.itemsize
        return isinstance(size, int) and size <= _ROW_BYTES

    def _cover(self, value: Value, covered: set[Value]) -> None:
        stack = [value]
        while stack:
            v = stack.pop()
            if v in covered:
                continue
            covered.add(v)
            node = self.program.producer.get(v)
            if node is not None and node.op.kind == "elementwise":
                stack.extend(o for o in node.operands if isinstance(o, Value) and not self.program.in_memory(o))


def _keeps_rows(kernel: LoopKernel) -> bool:
    """Whether row buffers suit a kernel: blocks of columns would not fit in them, and no kernel reads another's."""
    return column_axis(kernel) is None and not stores_across(kernel)


def _as_stored(item: Item, index: Indices) -> Indices:
    """Where the value's element at `index` lies in memory that is seen with the domain's extents."""
    type = item.value.type
    return index if item.domain == type.shape else _reshape_index(index, type.with_shape(item.domain), type.shape)


def _new_part(expander: Expander, item: Item, values: dict[Symbol, Dim]) -> Expr:
    """What an update writes at a point of its domain."""
    return expander.operand(item.node.operands[1], tuple(substitute(d, values) for d in item.part_index()))


def _mentions(d: Dim, points: set[Symbol]) -> bool:
    return any(s in points for s in symbols(d))


def contiguous(shape: Indices) -> Indices:
    strides: list[Dim] = []
    step: Dim = 1
    for d in reversed(shape):
        strides.append(step)
        step = step * d
    return tuple(reversed(strides))


def build_loops(
    program: Program, group: Group, buffer_of: BufferOf, store_to: BufferOf, needed: Callable[[Value], bool], name: str
) -> LoopKernel:
    """The kernel of a group without a contraction. Its axes, vector and tasks are still to be chosen."""
    last = group.items[-1]
    return _Loops(program, group, buffer_of, store_to, needed).build(name, last.node.location)


# -- the other kernels -------------------------------------------------------------------------------------------------


def build_contract(
    program: Program, group: Group, buffer_of: BufferOf, store_to: BufferOf, needed: Callable[[Value], bool], name: str
) -> ContractKernel:
    """The kernel of a contraction and its epilogue. `needed` says whether the plain sum is read elsewhere."""
    item = next(i for i in group.items if i.kind == "contract")
    node, domain = item.node, item.domain
    a, b = node.operands
    axes = [Axis(program.named(f"p{n}", d), d) for n, d in enumerate(domain)]
    k = Axis(program.named("k", a.type.shape[-1]), a.type.shape[-1])
    *batch, m, n = axes
    names = {item_symbol: axis.index for item_symbol, axis in zip(item.symbols, axes, strict=True)}
    by_axis = {group.axis[s]: d for s, d in names.items()}
    batch_index = tuple(x.index for x in batch)
    expander = Expander(program, buffer_of)
    a_expr = expander.number(a, (*batch_index, m.index, k.index))
    b_expr = expander.number(b, (*batch_index, k.index, n.index))
    dtype = item.value.type.dtype
    own_index = tuple(x.index for x in axes)
    accumulator = Accumulator(held(dtype) if program.wide else dtype)
    expander.member[item.value] = lambda index: accumulator
    epilogue: list[Store] = []
    if needed(item.value):
        epilogue.append(Store(store_to(item.value), own_index, accumulator, node.location))
    for other in group.items:
        if other is item:
            continue
        values = {s: by_axis.get(group.axis[s], 0) for s in other.symbols}
        at = tuple(substitute(d, values) for d in other.value_index())
        if other.kind == "update":
            part = _new_part(expander, other, values)
            epilogue.append(Store(store_to(other.value), at, part, other.node.location))
            continue
        expander.member[other.value] = lambda index: None
        value = expander.node(other.node, at)
        expander.memo[other.value, at] = value
        index = tuple(values[s] if not is_one(d) else 0 for s, d in zip(other.symbols, other.domain, strict=True))
        epilogue.append(
            Store(
                store_to(other.value),
                index if other.domain != other.value.type.shape else at,
                value,
                other.node.location,
            )
        )
    # integers wrap: sums in i32 have the bits of narrower results
    accumulate = f64 if dtype is f64 else f32 if dtype.is_floating_point else i32 if dtype.itemsize <= 4 else i64
    outputs = tuple(dict.fromkeys(s.buffer for s in epilogue))
    return ContractKernel(
        name, (), outputs, tuple(batch), m, n, k, a_expr, b_expr, accumulate, tuple(epilogue), 1, node.location
    )


def build_scatter(program: Program, item: Item, buffer_of: BufferOf, store_to: BufferOf, name: str) -> ScatterKernel:
    """scatter, scatter_add and index_add, into a target that already holds a copy of the first operand."""
    node = item.node
    _, picks, source = node.operands
    dim = node.attrs["dim"]
    expander = Expander(program, buffer_of)
    whole = node.op.name in ("index_add", "index_copy")  # the index picks whole slices
    spanned = source.type.shape if whole else picks.type.shape
    axes = tuple(Axis(program.named(f"p{n}", d), d) for n, d in enumerate(spanned))
    at = tuple(a.index for a in axes)
    extent = item.value.type.shape[dim]
    symbol = program.named("g0", extent)
    if whole:
        rank = picks.type.ndim
        pick = expander.operand(picks, at[dim : dim + rank])
        index = (*at[:dim], symbol.dim, *at[dim + rank :])
    else:
        pick = expander.operand(picks, at)
        index = (*at[:dim], symbol.dim, *at[dim + 1 :])
    value = expander.number(source, at)
    target = store_to(item.value)
    add = node.op.name in ("scatter_add", "index_add")
    return ScatterKernel(name, (), (target,), axes, target, index, ((symbol, pick, extent),), value, add, node.location)


def copy_axes(program: Program, shape: Indices) -> tuple[Axis, ...]:
    """An axis for each dim of what is copied."""
    return tuple(Axis(program.named(f"p{n}", d), d) for n, d in enumerate(shape))


def copy_kernel(program: Program, source: Expr | Callable[[Indices], Expr], target: Buffer, name: str) -> LoopKernel:
    """target[...] = source, element by element."""
    axes = copy_axes(program, target.shape)
    at = tuple(a.index for a in axes)
    value = source(at) if callable(source) else source
    return LoopKernel(name, (), (target,), axes, (Loop((), (Store(target, at, value),)),), None, 1)
