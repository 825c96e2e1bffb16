"""Kernel expressions as LLVM values: consecutive values of one axis in the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager

import llvmlite.ir as ir

from tjit.codegen.kernel import Accumulator, Compute, Const, Expr, Index, Load, Reduced, Scanned, Store, varies
from tjit.codegen.llvm.accesses import Access, Accesses, both
from tjit.codegen.llvm.floats import any_lane
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.interleaved import Turns
from tjit.codegen.llvm.lookups import Key, lookup, table_key
from tjit.codegen.llvm.positions import Lanes, Positions, in_every_lane
from tjit.codegen.llvm.scalars import Features, Lane, LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, lanes_below, numbers
from tjit.codegen.places import sign_along
from tjit.dtypes import bool_, iinfo
from tjit.dtypes import i64 as int64
from tjit.errors import CodegenError
from tjit.ir.dims import Dim, Symbol, coefficient, substitute, symbols

__all__ = ["EmitterOf", "ExprEmitter", "features_of", "scopes"]


def features_of(target: Target) -> Features:
    """What the scalar operations may use on `target`."""
    arm = target.architecture == "aarch64"
    modern = arm or target.vector_bytes >= 32
    return Features(fma=target.fma, rounding=modern, half=modern, avx512=not arm and target.vector_bytes == 64)


class ExprEmitter:
    """Emits expressions at the builder's position.

    Attributes:
        ints: index arithmetic; its `symbols` hold the present value of every axis (of lane 0 for the lane axis).
        pointers: of buffers, by name.
        positions: index expressions in every lane.
        memory: loads and stores.
        reduced: what finished reductions are, by the id of their statement.
        scanned: what scans have come to in the lanes, likewise.
        accumulator: what `Accumulator` is, in a contraction's epilogue.
        error: pointer to the i32 set on a failed check.
        columns: lanes are parallel points of their own, with a result of each reduction in each lane.
        past_caches: stores that may go past the caches do; their buffers are aligned.
        tables: the registers of tables that lanes pick entries of.
        turns: the loads that take turns with others.
    """

    def __init__(
        self,
        builder: ir.IRBuilder,
        target: Target,
        lanes: Lanes,
        ints: Integers,
        pointers: dict[str, ir.Value],
        *,
        error: ir.Value | None = None,
        reduced: dict[int, Lane] | None = None,
        accumulator: Lane | None = None,
        scalar: ExprEmitter | None = None,
        columns: bool = False,
    ) -> None:
        self.columns = columns
        self.past_caches = scalar.past_caches if scalar is not None else False
        self.b = builder
        self.target = target
        self.lanes = lanes
        self.ints = ints
        self.pointers = pointers
        self.error = error
        self.reduced = {} if reduced is None else reduced
        self.accumulator = accumulator
        self.scanned: dict[int, Lane] = {}
        self.scalars = LlvmScalars(builder, lanes.width, features_of(target))
        self.positions = Positions(builder, lanes, ints, self.scalars)
        self.memory = Accesses(target, self.positions, pointers)
        self.scalar = scalar or (self if lanes.width == 1 else self._uniform())
        self.tables: Mapping[Key, Sequence[ir.Value]] = scalar.tables if scalar is not None else {}
        self.turns: Turns = scalar.turns if scalar is not None else {}
        self._lane = lanes.symbols
        self._varies: dict[int, bool] = {}
        self._memo: dict[int, Lane] = {}
        self._bounds: dict[tuple[int, Dim, tuple[tuple[Dim, Dim], ...]], ir.Value] = {}
        self._kept: list[Expr] = []  # ids stay valid while what they name is alive

    def _uniform(self) -> ExprEmitter:
        """The emitter of what is the same in every lane."""
        return ExprEmitter(
            self.b, self.target, Lanes(None, 1), self.ints, self.pointers, error=self.error, reduced=self.reduced
        )

    @contextmanager
    def scope(self) -> Iterator[None]:
        """What is emitted inside is forgotten at the end: it does not dominate what follows."""
        pair = (self, self.scalar)
        saved = [(dict(e._memo), dict(e.positions.known), dict(e._bounds), dict(e.memory.windows)) for e in pair]
        try:
            yield
        finally:
            for e, kept in zip(pair, saved, strict=True):
                e._memo, e.positions.known, e._bounds, e.memory.windows = kept

    def hoist(self, roots: Iterable[Expr], over: frozenset[Symbol], reduced: bool = False) -> None:
        """Emit here every largest part of the roots that does not depend on the symbols `over`.

        Args:
            reduced: reductions are still to come: what depends on one stays.
        """
        memo: dict[int, bool] = {}
        seen: set[int] = set()
        stack = [*roots][::-1]
        while stack:
            expr = stack.pop()
            if isinstance(expr, (Const, Reduced, Scanned, Accumulator)) or id(expr) in self._memo or id(expr) in seen:
                continue
            seen.add(id(expr))
            if not varies(expr, over, memo, reduced):
                self.emit(expr)
            elif isinstance(expr, Compute):
                stack += reversed(expr.operands)
            elif isinstance(expr, Load):
                stack += self._hoist_indices(expr, over, memo, reduced)

    def _hoist_indices(self, load: Load, over: frozenset[Symbol], memo: dict[int, bool], reduced: bool) -> list[Expr]:
        """Emit here the indices of a load that do not depend on the symbols `over`; the others."""
        guards = any(s in over for pair in load.conditions for d in pair for s in symbols(d))
        left = []
        for _, value, extent in load.bindings:
            if guards or varies(value, over, memo, reduced):
                left.append(value)
            else:
                self._bound(load, value, extent)
        return left

    def know(self, expr: Expr, value: Lane) -> None:
        """Take `value` for what `expr` is."""
        self._memo[id(expr)] = value
        self._kept.append(expr)

    def emit(self, expr: Expr) -> Lane:
        """The value of `expr` in every lane."""
        stack = [expr]  # not recursion: expressions may be thousands of operations deep
        while stack:
            top = stack[-1]
            uniform = id(top) in self._memo or self._is_uniform(top)
            waiting = [o for o in self._operands(top) if id(o) not in self._memo]
            if waiting and not uniform:
                stack += reversed(waiting)
                continue
            stack.pop()
            if id(top) not in self._memo:
                self._memo[id(top)] = self._broadcast(self.scalar.emit(top)) if uniform else self._emit(top)
                self._kept.append(top)
        return self._memo[id(expr)]

    def _operands(self, expr: Expr) -> tuple[Expr, ...]:
        """What is computed in lanes before `expr` is."""
        return expr.operands if isinstance(expr, Compute) and self._sign(expr) is None else ()

    def _sign(self, expr: Compute) -> tuple[Dim, bool] | None:
        """What a comparison of places asks of each lane, where they run along one axis."""
        symbol = self.lanes.symbol
        return None if self.lanes.width == 1 or symbol is None or self.lanes.run else sign_along(expr, symbol)

    def _lanes_of_sign(self, d: Dim, holds: bool) -> Lane:
        """The lanes in which d >= 0 is `holds`, for d that changes by one from lane to lane."""
        assert self.lanes.symbol is not None
        first, rises = self.ints.dim(d), coefficient(d, self.lanes.symbol) == 1
        # those that come first: below 0 where d rises, from 0 on where it falls
        before = self.ints.sub(ir.Constant(I64, 0), first) if rises else self.ints.add(first, ir.Constant(I64, 1))
        mask = lanes_below(self.b, before, self.lanes.width)
        return Lane(mask if holds != rises else self.b.not_(mask), bool_)

    def _is_uniform(self, expr: Expr) -> bool:
        """Whether it is the same in every lane, and there are several."""
        if self.lanes.width == 1 or isinstance(expr, Const):
            return False
        return not varies(expr, self._lane, self._varies, self.columns)

    def _broadcast(self, lane: Lane) -> Lane:
        return in_every_lane(self.b, lane, self.lanes.width)

    def _emit(self, expr: Expr) -> Lane:
        return self.scalars.rounded(self._evaluated(expr))  # what an op computes is a number of its dtype

    def _evaluated(self, expr: Expr) -> Lane:
        if isinstance(expr, Compute):
            sign = self._sign(expr)
            if sign is not None:
                return self._lanes_of_sign(*sign)
            operands = [self._memo[id(o)] for o in expr.operands]
            assert expr.op.scalar is not None, expr.op.name
            return expr.op.scalar(self.scalars, *operands, **dict(expr.attrs))
        if isinstance(expr, Load):
            return self._load(expr)
        if isinstance(expr, Const):
            return self.scalars.constant(expr.value, expr.dtype)
        if isinstance(expr, Index):
            return self._index(expr)
        if isinstance(expr, Reduced):
            return self._broadcast(self.reduced[id(expr.reduce)])
        if isinstance(expr, Scanned):
            return self.scanned[id(expr.scan)]
        if self.accumulator is None:
            raise CodegenError("an accumulator outside of a contraction")
        return self.accumulator

    def _index(self, expr: Index) -> Lane:
        steps = self.lanes.steps(expr.value) if self.lanes.width > 1 else None
        if steps is None or expr.dtype.is_floating_point or expr.dtype is bool_:
            return self.scalars.cast(Lane(self.positions(expr.value), int64), expr.dtype)
        # in the integers that are wanted: narrow ones are more to a vector, and wrap around to the same
        start = self._broadcast(self.scalar.scalars.cast(Lane(self.ints.dim(expr.value), int64), expr.dtype))
        if not any(steps):
            return start
        assert isinstance(start.value.type, ir.VectorType)
        return Lane(self.b.add(start.value, numbers(steps, start.value.type.element)), expr.dtype)

    # -- memory --------------------------------------------------------------------------------------------------------

    def _load(self, load: Load) -> Lane:
        own, shared = self._split_conditions(load)
        inside = self._inside(load, own)
        if inside is not None and not any(inside):
            return self.scalars.constant(load.fill, load.dtype)
        valid = self._conditions(own) if inside is None else None
        sure = (self if self.lanes.width == 1 else self.scalar)._conditions(shared)
        picked = self._pick(load)
        access = self._access(load)
        table = self.tables.get(table_key(load) or ("", 0)) if picked else None
        if table is not None:
            (index,) = picked.values()
            loaded = self.b.bitcast(lookup(self.b, table, index), self.scalars.memory_type(load.dtype))
        elif picked:
            offsets = self.positions.folded(access.offset, {**picked, **self.positions.lane_vectors()})
            places = self.memory.picked_places(access.pointer, offsets, access.element)
            loaded = self.memory.load_each(places, access.element, self.memory.in_each(valid, sure))
        elif inside is not None:
            loaded = self.memory.load_run(access, inside, sure)
        else:
            loaded = self.memory.load(access, valid, sure)
        result = self.scalars.from_memory(loaded, load.dtype)
        if inside is not None and not all(inside):
            valid = numbers(tuple(map(int, inside)), ir.IntType(1))
        valid = sure if valid is None else self.memory.in_each(valid, sure)
        if valid is None:
            return result
        fill = self.scalars.constant(load.fill, load.dtype)
        return self.scalars.select(Lane(valid, bool_), result, fill)

    def _inside(self, load: Load, own: Conditions) -> tuple[bool, ...] | None:
        """Which of the lanes that run on meet their `own` conditions, where that and the lanes' distances are known."""
        run, offset = self.lanes.run, load.buffer.offset(load.index)
        if load.bindings or self.lanes.steps(offset) is None:
            return None
        inside = [True] * self.lanes.width
        if run is None:
            plain = self.lanes.symbol is None or coefficient(offset, self.lanes.symbol) is not None
            return None if plain or own else tuple(inside)
        for e, n in own:
            first, steps = substitute(e, {a.symbol: 0 for a in run.axes[:-1]}), self.lanes.steps(e)
            if steps is None or not isinstance(first, int) or not isinstance(n, int):
                return None
            inside = [on and 0 <= first + step < n for on, step in zip(inside, steps, strict=True)]
        return tuple(inside)

    def _pick(self, load: Load) -> dict[Symbol, ir.Value]:
        """Give the symbols that the load binds their values; those with one of their own in each lane are returned."""
        picked: dict[Symbol, ir.Value] = {}
        for symbol, value, extent in load.bindings:
            index = self._bound(load, value, extent)
            if isinstance(index.type, ir.VectorType):
                picked[symbol] = index
            else:
                self.ints.symbols[symbol.name] = index
        return picked

    def _bound(self, load: Load, value: Expr, extent: Dim) -> ir.Value:
        """A checked index of a load: one for all lanes where it is the same in all of them, else a vector."""
        key = (id(value), extent, load.conditions)
        found = self._bounds.get(key)
        if found is None:
            if self._is_picked_once(load, value):
                found = self.scalar._bound(load, value, extent)
            else:
                found = self.bind(value, extent, self._conditions(load.conditions))
            self._bounds[key] = found
            self._kept.append(value)
        return found

    def _is_picked_once(self, load: Load, value: Expr) -> bool:
        """Whether an index is the same in every lane, there are several, and they all use it or none does."""
        if self.lanes.width == 1 or any(s in self._lane for pair in load.conditions for d in pair for s in symbols(d)):
            return False
        return isinstance(value, Const) or self._is_uniform(value)

    def raw(self, load: Load) -> ir.Value:
        """The element as it is in memory, in every lane; 0 where the conditions do not hold. There are no bindings."""
        return self.memory.load(self._access(load), self._conditions(load.conditions), None)

    def address(self, at: Load | Store) -> ir.Value:
        """Of the element of lane 0."""
        return self.memory.address(self._access(at))

    def _access(self, at: Load | Store) -> Access:
        """Where the elements of a load or a store lie."""
        buffer = at.buffer
        kind = self.scalars.memory_type(buffer.dtype)
        element = kind.element if isinstance(kind, ir.VectorType) else kind
        offset = buffer.offset(at.index)
        turns = self.turns.get((buffer.name, offset), (0,)) if isinstance(at, Load) and not at.conditions else (0,)
        return Access(self.pointers[buffer.name], offset, element, buffer.dtype.itemsize, turns)

    def _conditions(self, conditions: Conditions) -> ir.Value | None:
        """i1 (vector): whether an access is inside; None: it always is."""
        valid: ir.Value | None = None
        for e, n in conditions:
            position, extent = self.positions(e), self.positions(n)
            # one unsigned comparison is both bounds: extents are not negative
            inside = self.b.icmp_unsigned("<", position, extent)
            valid = both(self.b, valid, inside)
        return valid

    def _split_conditions(self, load: Load) -> tuple[Conditions, Conditions]:
        """What of the conditions differs from lane to lane, and what is the same in all lanes, as all is in one."""
        if self.lanes.width == 1:
            return (), load.conditions
        own = tuple(pair for pair in load.conditions if any(s in self._lane for d in pair for s in symbols(d)))
        return own, tuple(pair for pair in load.conditions if pair not in own)

    def bind(self, value: Expr, extent: Dim, valid: ir.Value | None) -> ir.Value:
        """An index computed per element: checked, and 0 where it is not in [0, extent)."""
        index = self.emit(value)
        outside = self._outside(index, extent)
        if outside is None:
            return self.scalars.cast(index, int64).value
        active = both(self.b, valid, self.lanes.mask)
        failed = outside if active is None else self.b.and_(outside, active)
        zero = self.scalars.constant(0, index.dtype).value
        reported = self._report(failed)
        if failed is outside and reported is not None and self.lanes.width == 1:
            checked = self.b.phi(zero.type)
            checked.add_incoming(index.value, reported[0])
            checked.add_incoming(zero, reported[1])
        else:
            checked = self.b.select(outside, zero, index.value)
        return self.scalars.cast(Lane(checked, index.dtype), int64).value

    def _outside(self, index: Lane, extent: Dim) -> ir.Value | None:
        """i1 (vector): whether an index is not in [0, extent); None: none is."""
        dtype = index.dtype
        if isinstance(extent, int) and dtype is not int64 and dtype.kind == "int":
            most = iinfo(dtype).max
            if extent <= most:
                n = self.scalars.constant(extent, dtype).value
                return self.b.icmp_unsigned(">=", index.value, n)  # negative ones too
            if not dtype.is_signed:
                return None
        n = self._broadcast(Lane(self.ints.dim(extent), int64)).value
        # negative ones too: extents are not negative
        return self.b.icmp_unsigned(">=", self.scalars.cast(index, int64).value, n)

    def _report(self, failed: ir.Value) -> tuple[ir.Block, ir.Block] | None:
        """Note a failure; the blocks that one comes from without it and with it, None where failures are not noted."""
        if self.error is None:
            return None
        before = self.b.block
        with self.b.if_then(any_lane(self.b, failed), likely=False):
            self.b.store(ir.Constant(I32, 1), self.error)
            inside = self.b.block
        return before, inside

    def store(self, store: Store) -> None:
        """Write the active lanes."""
        self.put(store, self.emit(store.value))

    def put(self, store: Store, lane: Lane) -> None:
        """Write a value where `store` says."""
        self.write(store, self.scalars.to_memory(self.scalars.cast(lane, store.buffer.dtype)))

    def write(self, store: Store, value: ir.Value) -> None:
        """Write the active lanes of a value that is as it is to be in memory."""
        self.memory.store(value, self._access(store), past_caches=self.past_caches and store.past_caches)


# (e, n): an access is inside where 0 <= e < n
Conditions = tuple[tuple[Dim, Dim], ...]

# the emitter of lanes, given that of what is the same in all of them
EmitterOf = Callable[[Lanes, "ExprEmitter | None"], ExprEmitter]


@contextmanager
def scopes(emitters: Iterable[ExprEmitter]) -> Iterator[None]:
    """The `scope` of each of several emitters."""
    with ExitStack() as stack:
        for emitter in emitters:
            stack.enter_context(emitter.scope())
        yield
