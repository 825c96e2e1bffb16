"""Kernel expressions as LLVM values: consecutive values of one axis in the lanes of a vector."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from functools import lru_cache

import llvmlite.ir as ir

from tjit.codegen.kernel import Accumulator, Compute, Const, Expr, Index, Load, Reduced, Scanned, Store, varies
from tjit.codegen.lanes import NEAR
from tjit.codegen.llvm.floats import any_lane
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.lookups import Key, lookup, table_key
from tjit.codegen.llvm.scalars import Features, Lane, LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I32, I64, masked_load, masked_store, numbers, poison, splat, stack, zeros
from tjit.codegen.run_on import MOST_WINDOWS, RunOn, windows
from tjit.dtypes import DType, bool_, iinfo
from tjit.dtypes import i64 as int64
from tjit.errors import CodegenError
from tjit.ir.dims import Dim, Symbol, apart, coefficient, fold, substitute, symbols

__all__ = ["EmitterOf", "ExprEmitter", "Lanes", "features_of", "scopes"]

_NEAR = 4  # elements from lane to lane: the lines between are written anyway
_LINE = 64  # bytes: buffers that are stored past the caches are aligned to as many


def features_of(target: Target) -> Features:
    """What the scalar operations may use on `target`."""
    arm = target.architecture == "aarch64"
    modern = arm or target.vector_bytes >= 32
    return Features(fma=target.fma, rounding=modern, half=modern, avx512=not arm and target.vector_bytes == 64)


class Lanes:
    """Which axes run along the lanes, how many there are, and which of them are active.

    Attributes:
        symbol: the axis; lane j stands for its value plus j. None: one lane.
        mask: i1 vector of active lanes; None: all.
        run: the lanes run on over more axes: lane j is element first + j, counted from the values that these have.
        aligned: the axis is at a multiple of the width.
    """

    __slots__ = ("aligned", "first", "mask", "run", "symbol", "width")

    def __init__(
        self,
        symbol: Symbol | None,
        width: int,
        mask: ir.Value | None = None,
        run: RunOn | None = None,
        first: int = 0,
        *,
        aligned: bool = False,
    ) -> None:
        self.symbol = symbol
        self.width = width if symbol is not None else 1
        self.mask = mask
        self.run = run
        self.first = first
        self.aligned = aligned

    @property
    def symbols(self) -> frozenset[Symbol]:
        """The axes that differ from lane to lane."""
        if self.symbol is None or self.width == 1:
            return frozenset()
        return frozenset((self.symbol,) if self.run is None else (a.symbol for a in self.run.axes))

    def steps(self, d: Dim) -> tuple[int, ...] | None:
        """How much more `d` is in each lane than where the axes are; None: that is not constant."""
        if self.run is not None:
            return self.run.steps(d, self.first, self.width)
        k = 0 if self.symbol is None else coefficient(d, self.symbol)
        if k is None and self.aligned:
            assert self.symbol is not None
            return _steps_from_multiple(d, self.symbol, self.width)
        return tuple(range(0, k * self.width, k)) if isinstance(k, int) and k else (0,) * self.width if k == 0 else None


@lru_cache(4096)
def _steps_from_multiple(d: Dim, symbol: Symbol, width: int) -> tuple[int, ...] | None:
    """How much more `d` is where `symbol` is 1, 2, ... more than a multiple of `width`; None: that is not constant."""
    start = Symbol(f"{symbol.name}.start", 0, None).dim * width
    first = substitute(d, {symbol: start})
    steps = [substitute(d, {symbol: start + j}) - first for j in range(width)]
    numbers = tuple(step for step in steps if isinstance(step, int))
    return numbers if len(numbers) == width else None


class ExprEmitter:
    """Emits expressions at the builder's position.

    Attributes:
        ints: index arithmetic; its `symbols` hold the present value of every axis (of lane 0 for the lane axis).
        pointers: of buffers, by name.
        reduced: what finished reductions are, by the id of their statement.
        scanned: what scans have come to in the lanes, likewise.
        accumulator: what `Accumulator` is, in a contraction's epilogue.
        error: pointer to the i32 set on a failed check.
        columns: lanes are parallel points of their own, with a result of each reduction in each lane.
        past_caches: stores that may go past the caches do; their buffers are aligned.
        tables: the registers of tables that lanes pick entries of.
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
        self.past_caches = False
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
        self.scalar = scalar or (self if lanes.width == 1 else self._uniform())
        self.tables: Mapping[Key, Sequence[ir.Value]] = scalar.tables if scalar is not None else {}
        self._lane = lanes.symbols
        self._varies: dict[int, bool] = {}
        self._memo: dict[int, Lane] = {}
        self._positions: dict[Dim, ir.Value] = {}
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
        both = (self, self.scalar)
        saved = [(dict(e._memo), dict(e._positions), dict(e._bounds)) for e in both]
        try:
            yield
        finally:
            for e, kept in zip(both, saved, strict=True):
                e._memo, e._positions, e._bounds = kept

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
            waiting = [o for o in top.operands if id(o) not in self._memo] if isinstance(top, Compute) else ()
            if waiting and not uniform:
                stack += reversed(waiting)
                continue
            stack.pop()
            if id(top) not in self._memo:
                self._memo[id(top)] = self._broadcast(self.scalar.emit(top)) if uniform else self._emit(top)
                self._kept.append(top)
        return self._memo[id(expr)]

    def _is_uniform(self, expr: Expr) -> bool:
        """Whether it is the same in every lane, and there are several."""
        if self.lanes.width == 1 or isinstance(expr, Const):
            return False
        return not varies(expr, self._lane, self._varies, self.columns)

    def _broadcast(self, lane: Lane) -> Lane:
        """A one-lane value in every lane; one that is a vector already as it is."""
        if self.lanes.width == 1 or isinstance(lane.value.type, ir.VectorType):
            return lane
        return Lane(splat(self.b, lane.value, self.lanes.width), lane.dtype, rounded=lane.rounded)

    def _emit(self, expr: Expr) -> Lane:
        return self.scalars.rounded(self._evaluated(expr))  # what an op computes is a number of its dtype

    def _evaluated(self, expr: Expr) -> Lane:
        if isinstance(expr, Compute):
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

    # -- index arithmetic ----------------------------------------------------------------------------------------------

    def positions(self, d: Dim) -> ir.Value:
        """The value of an index expression in every lane, as i64."""
        known = self._positions.get(d)
        if known is None:
            known = self._positions[d] = self._position(d)
        return known

    def _position(self, d: Dim) -> ir.Value:
        width, lane = self.lanes.width, self.lanes.symbol
        if width == 1:
            return self.ints.dim(d)
        steps = self.lanes.steps(d)
        if steps is not None:
            start = splat(self.b, self.ints.dim(d), width)
            return self.b.add(start, numbers(steps, I64)) if any(steps) else start
        k = coefficient(d, lane) if lane is not None else 0
        if k is not None and self.lanes.run is None:
            start = splat(self.b, self.ints.dim(d), width)
            step = splat(self.b, self.ints.dim(k), width)
            return self.b.add(start, self.b.mul(step, numbers(range(width), I64)))
        return self._folded(d, self._lane_vectors())

    def _folded(self, d: Dim, vectors: dict[Symbol, ir.Value]) -> ir.Value:
        """A dim in each lane; `vectors` are symbols with a value of their own in each lane."""
        same, own = apart(d, vectors.keys())
        if self.lanes.width == 1 or same == 0:
            return self._vector(d, vectors)
        start = splat(self.b, self.ints.dim(same), self.lanes.width)
        return self.b.add(start, self._vector(own, vectors)) if own != 0 else start

    def _vector(self, d: Dim, vectors: dict[Symbol, ir.Value]) -> ir.Value:
        """A dim in vector arithmetic."""
        width, s = self.lanes.width, self.scalars

        def symbol(x: Symbol) -> Lane:
            if x in vectors:
                return Lane(vectors[x], int64)
            return self._broadcast(Lane(self.ints.symbols[x.name], int64))

        def apply(name: str, x: Lane, y: Lane) -> Lane:
            operations = {
                "+": s.add,
                "*": s.mul,
                "//": s.floor_div,
                "%": s.floor_mod,
                "min": s.minimum,
                "max": s.maximum,
            }
            return operations[name](x, y)

        value = fold(d, constant=lambda c: s.constant(c, int64), symbol=symbol, apply=apply).value
        assert width == 1 or isinstance(value.type, ir.VectorType)
        return value

    # -- memory --------------------------------------------------------------------------------------------------------

    def _load(self, load: Load) -> Lane:
        inside = self._inside(load)
        if inside is not None and not any(inside):
            return self.scalars.constant(load.fill, load.dtype)
        valid, sure = self._guards(load) if inside is None else (None, None)
        picked = self._pick(load)
        offset = load.buffer.offset(load.index)
        pointer = self.pointers[load.buffer.name]
        element = self._element(load.dtype)
        table = self.tables.get(table_key(load) or ("", 0)) if picked else None
        if table is not None:
            (index,) = picked.values()
            loaded = self.b.bitcast(lookup(self.b, table, index), self.scalars.memory_type(load.dtype))
        elif picked:
            places = self._picked_places(pointer, self._folded(offset, {**picked, **self._lane_vectors()}), element)
            loaded = self._load_each(places, element, self._in_each(valid, sure))
        elif inside is not None:
            loaded = self._load_run(pointer, offset, element, load.dtype.itemsize, inside)
        else:
            loaded = self._load_affine(pointer, offset, element, load.dtype.itemsize, valid, sure)
        result = self.scalars.from_memory(loaded, load.dtype)
        if inside is not None and not all(inside):
            valid = numbers(tuple(map(int, inside)), ir.IntType(1))
        valid = sure if valid is None else self._in_each(valid, sure)
        if valid is None:
            return result
        fill = self.scalars.constant(load.fill, load.dtype)
        return self.scalars.select(Lane(valid, bool_), result, fill)

    def _inside(self, load: Load) -> tuple[bool, ...] | None:
        """Which of the lanes that run on meet the conditions, where that is known and lanes lie at known distances."""
        run, offset = self.lanes.run, load.buffer.offset(load.index)
        if load.bindings or self.lanes.steps(offset) is None:
            return None
        inside = [True] * self.lanes.width
        if run is None:
            plain = self.lanes.symbol is None or coefficient(offset, self.lanes.symbol) is not None
            return None if plain or load.conditions else tuple(inside)
        for e, n in load.conditions:
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
                found = self.bind(value, extent, self._conditions(load))
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
        offset, element = load.buffer.offset(load.index), self._element(load.dtype)
        pointer, valid = self.pointers[load.buffer.name], self._conditions(load)
        return self._load_affine(pointer, offset, element, load.dtype.itemsize, valid, None)

    def _lane_vectors(self) -> dict[Symbol, ir.Value]:
        """The values of the lanes' axes in each lane."""
        return {symbol: self.positions(symbol.dim) for symbol in sorted(self.lanes.symbols)}

    def _load_affine(
        self,
        pointer: ir.Value,
        offset: Dim,
        element: ir.Type,
        size: int,
        valid: ir.Value | None,
        sure: ir.Value | None,
    ) -> ir.Value:
        """Lanes where `offset` says; `valid` and `sure` are of `_guards`."""
        width, lane = self.lanes.width, self.lanes.symbol
        k = 0 if lane is None else coefficient(offset, lane)
        mask = self._both(valid, self.lanes.mask)
        step = k if isinstance(k, int) and self.lanes.run is None else 0
        if width == 1 or step == 1 or (1 < step <= NEAR and (mask is None or self.target.masks)):
            at = self._address(pointer, offset, element)
            sure = self._both(valid, sure) if width == 1 else sure
            # not masks that are all off: a processor takes long over those beyond the memory there is
            at = at if sure is None else self.b.select(sure, at, self._dummy())
            if width == 1:
                return self.b.load(at, typ=element, align=size)
            if mask is not None:
                return self._load_masked(at, element, step, size, mask)
            if step == 1:
                return self.b.load(at, typ=ir.VectorType(element, width), align=size)
            return self._load_near(at, step, element, size)
        mask = self._in_each(mask, sure)
        if step == -1 and mask is None:
            return self._load_near(self._address(pointer, offset, element), step, element, size)
        return self._load_each(self._places(pointer, offset, element), element, self._in_each(valid, sure))

    def _load_run(
        self, pointer: ir.Value, offset: Dim, element: ir.Type, size: int, inside: tuple[bool, ...]
    ) -> ir.Value:
        """Lanes that run on from row to row: picked out of the vectors that hold those inside; the others are any."""
        steps, width, mask = self.lanes.steps(offset), self.lanes.width, self.lanes.mask
        assert steps is not None
        kind, at = ir.VectorType(element, width), self._address(pointer, offset, element)
        if all(inside) and steps == tuple(range(steps[0], steps[0] + width)):
            at = self._moved(at, steps[0], element)
            return self.b.load(at, typ=kind, align=size) if mask is None else masked_load(self.b, at, mask, kind, size)
        wanted = [s for s, on in zip(steps, inside, strict=True) if on]
        starts = windows(wanted, width)
        if len(starts) > MOST_WINDOWS or not self.target.masks:
            on = None if all(inside) else numbers(tuple(map(int, inside)), ir.IntType(1))
            return self._load_each(self._places(pointer, offset, element), element, on)
        if len(set(wanted)) == 1 and mask is None:
            return splat(self.b, self.b.load(self._moved(at, wanted[0], element), typ=element, align=size), width)
        result = poison(kind)
        for start in starts:
            places = [s - start if on else -1 for s, on in zip(steps, inside, strict=True)]
            window = masked_load(self.b, self._moved(at, start, element), self._used(places), kind, size)
            picked = [width + p if 0 <= p < width else j for j, p in enumerate(places)]
            result = self.b.shuffle_vector(result, window, numbers(tuple(picked)))
        return result

    def _used(self, places: Sequence[int]) -> ir.Value:
        """Which elements of a vector the active lanes take, given the element of each lane (-1: none).

        Active lanes come first, so that an element is used if the first lane that takes it is active.
        """
        width, mask = self.lanes.width, self.lanes.mask
        if mask is None:
            return numbers(tuple(int(i in places) for i in range(width)), ir.IntType(1))
        off = ir.Constant(ir.VectorType(ir.IntType(1), width), None)
        lanes = tuple(places.index(i) if i in places else width for i in range(width))
        return self.b.shuffle_vector(mask, off, numbers(lanes))

    def _moved(self, at: ir.Value, step: int, element: ir.Type) -> ir.Value:
        """The address `step` elements further."""
        return self.b.gep(at, [ir.Constant(I64, step)], source_etype=element) if step else at

    def _load_near(self, first: ir.Value, k: int, element: ir.Type, size: int) -> ir.Value:
        """Lanes `k` elements apart, or backwards: picked out of whole vectors that end with the last lane's element."""
        width = self.lanes.width
        kind = ir.VectorType(element, width)
        span = (width - 1) * abs(k) + 1
        start = 1 - span if k < 0 else 0
        places = [start + min(n * width, span - width) for n in range(abs(k))]
        result = poison(kind)
        for n, place in enumerate(places):
            at = self.b.gep(first, [ir.Constant(I64, place)], source_etype=element)
            loaded = self.b.load(at, typ=kind, align=size)
            inside = [(j * k - place, j * k >= start + n * width) for j in range(width)]
            picked = [width + i if new and 0 <= i < width else j for j, (i, new) in enumerate(inside)]
            result = self.b.shuffle_vector(result, loaded, numbers(tuple(picked)))
        return result

    def _address(self, pointer: ir.Value, offset: Dim, element: ir.Type) -> ir.Value:
        """pointer + offset, the part of the offset that no loop changes apart, so that it can be hoisted."""
        fixed = substitute(offset, {s: 0 for s in symbols(offset) if s in self._lane})
        base = self.b.gep(pointer, [self.ints.dim(fixed)], source_etype=element, inbounds=False)
        if fixed == offset:
            return base
        return self.b.gep(base, [self.ints.dim(offset - fixed)], source_etype=element, inbounds=False)

    def _load_each(self, places: Iterable[ir.Value], element: ir.Type, valid: ir.Value | None) -> ir.Value:
        """Lane by lane, from anywhere; lanes that must not touch memory read a dummy."""
        loaded = [self.b.load(at, typ=element) for at in self._guarded(places, self._both(valid, self.lanes.mask))]
        if self.lanes.width == 1:
            return loaded[0]
        result = poison(ir.VectorType(element, self.lanes.width))
        for j, value in enumerate(loaded):
            result = self.b.insert_element(result, value, ir.Constant(I32, j))
        return result

    def _places(self, pointer: ir.Value, offset: Dim, element: ir.Type) -> Iterator[ir.Value]:
        """The address of each lane's element."""
        steps = self.lanes.steps(offset)
        if steps is None:
            yield from self._picked_places(pointer, self.positions(offset), element)
            return
        at = self._address(pointer, offset, element)
        for step in steps:
            yield self._moved(at, step, element)

    def _picked_places(self, pointer: ir.Value, offsets: ir.Value, element: ir.Type) -> Iterator[ir.Value]:
        """The address of each lane's element, given the offsets as a vector."""
        for n in range(self.lanes.width):
            offset = offsets if self.lanes.width == 1 else self.b.extract_element(offsets, ir.Constant(I32, n))
            yield self.b.gep(pointer, [offset], source_etype=element)

    def _guarded(self, places: Iterable[ir.Value], mask: ir.Value | None) -> Iterator[ir.Value]:
        """The addresses of the lanes that are on, and a dummy's for the others."""
        for n, at in enumerate(places):
            if mask is None:
                yield at
            else:
                on = mask if self.lanes.width == 1 else self.b.extract_element(mask, ir.Constant(I32, n))
                yield self.b.select(on, at, self._dummy())

    def _element(self, dtype: DType) -> ir.Type:
        """The type of one element in memory."""
        kind = self.scalars.memory_type(dtype)
        return kind.element if isinstance(kind, ir.VectorType) else kind

    def _dummy(self) -> ir.Value:
        """Memory that may always be read and written."""
        name = "dummy"
        found = self.pointers.get(name)
        if found is None:
            kind = ir.VectorType(I64, NEAR * self.target.vector_bytes // 8)  # what one load reads at most
            with self.b.goto_block(self.b.function.entry_basic_block):
                found = stack(self.b, kind, align=16)
                # a load of memory never written would be undefined
                self.b.store(zeros(kind), found, align=16)
            self.pointers[name] = found
        return found

    def _conditions(self, load: Load) -> ir.Value | None:
        """i1 (vector): whether the access is inside."""
        valid: ir.Value | None = None
        for e, n in load.conditions:
            position, extent = self.positions(e), self.positions(n)
            # one unsigned comparison is both bounds: extents are not negative
            inside = self.b.icmp_unsigned("<", position, extent)
            valid = self._both(valid, inside)
        return valid

    def _guards(self, load: Load) -> tuple[ir.Value | None, ir.Value | None]:
        """What of the conditions differs from lane to lane, and what is the same in all lanes, as all is in one."""
        if self.lanes.width == 1:
            return None, self._conditions(load)
        own = tuple(pair for pair in load.conditions if any(s in self._lane for d in pair for s in symbols(d)))
        shared = tuple(pair for pair in load.conditions if pair not in own)
        return (
            self._conditions(replace(load, conditions=own)),
            self.scalar._conditions(replace(load, conditions=shared)),
        )

    def _in_each(self, valid: ir.Value | None, sure: ir.Value | None) -> ir.Value | None:
        """Both of `_guards` in each lane."""
        return valid if sure is None else self._both(valid, self._broadcast(Lane(sure, bool_)).value)

    def _both(self, x: ir.Value | None, y: ir.Value | None) -> ir.Value | None:
        return y if x is None else x if y is None else self.b.and_(x, y)

    def bind(self, value: Expr, extent: Dim, valid: ir.Value | None) -> ir.Value:
        """An index computed per element: checked, and 0 where it is not in [0, extent)."""
        index = self.emit(value)
        outside = self._outside(index, extent)
        if outside is None:
            return self.scalars.cast(index, int64).value
        active = self._both(valid, self.lanes.mask)
        self._report(outside if active is None else self.b.and_(outside, active))
        inside = self.b.select(outside, self.scalars.constant(0, index.dtype).value, index.value)
        return self.scalars.cast(Lane(inside, index.dtype), int64).value

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

    def _report(self, failed: ir.Value) -> None:
        if self.error is None:
            return
        with self.b.if_then(any_lane(self.b, failed), likely=False):
            self.b.store(ir.Constant(I32, 1), self.error)

    def store(self, store: Store) -> None:
        """Write the active lanes."""
        self.put(store, self.emit(store.value))

    def put(self, store: Store, lane: Lane) -> None:
        """Write a value where `store` says."""
        self.write(store, self.scalars.to_memory(self.scalars.cast(lane, store.buffer.dtype)))

    def write(self, store: Store, value: ir.Value) -> None:
        """Write the active lanes of a value that is as it is to be in memory."""
        element = self._element(store.buffer.dtype)
        offset = store.buffer.offset(store.index)
        pointer = self.pointers[store.buffer.name]
        width, symbol = self.lanes.width, self.lanes.symbol
        size = store.buffer.dtype.itemsize
        if width == 1:
            self.b.store(value, self._address(pointer, offset, element), align=size)
            return
        k = coefficient(offset, symbol) if symbol is not None else 0
        if isinstance(k, int) and k == 1:
            at = self._moved(self._address(pointer, offset, element), self.lanes.first, element)
            if self.lanes.mask is None:
                past = self.past_caches and store.past_caches
                stored = self.b.store(value, at, align=min(width * size, _LINE) if past else size)
                if past:
                    stored.set_metadata("nontemporal", self.b.module.add_metadata([ir.Constant(I32, 1)]))
            else:
                masked_store(self.b, value, at, self.lanes.mask, size)
            return
        if isinstance(k, int) and 1 < k <= _NEAR and self.target.masks:
            self._store_near(value, self._address(pointer, offset, element), k, size)
            return
        for n, at in enumerate(self._guarded(self._places(pointer, offset, element), self.lanes.mask)):
            self.b.store(self.b.extract_element(value, ir.Constant(I32, n)), at)

    def _load_masked(self, at: ir.Value, element: ir.Type, step: int, size: int, mask: ir.Value) -> ir.Value:
        """Every `step`-th element where lanes are on: whole vectors under a mask."""
        b, width = self.b, self.lanes.width
        wide = ir.VectorType(element, step * (width - 1) + 1)
        if step == 1:
            return masked_load(b, at, mask, wide, size)
        loaded = masked_load(b, at, self._spread_mask(mask, step), wide, size)
        return b.shuffle_vector(loaded, poison(wide), numbers(tuple(range(0, wide.count, step))))

    def _store_near(self, value: ir.Value, at: ir.Value, step: int, size: int) -> None:
        """Write every `step`-th element: whole vectors under a mask."""
        places = _spread_places(self.lanes.width, step)
        spread = self.b.shuffle_vector(value, poison(value.type), places)
        masked_store(self.b, spread, at, self._spread_mask(self.lanes.mask, step), size)

    def _spread_mask(self, mask: ir.Value | None, step: int) -> ir.Value:
        """Lanes `step` apart, those between are off."""
        kind = ir.VectorType(ir.IntType(1), self.lanes.width)
        mask = ir.Constant(kind, [1] * self.lanes.width) if mask is None else mask
        return self.b.shuffle_vector(mask, zeros(kind), _spread_places(self.lanes.width, step))


# the emitter of lanes, given that of what is the same in all of them
EmitterOf = Callable[[Lanes, "ExprEmitter | None"], ExprEmitter]


@contextmanager
def scopes(emitters: Iterable[ExprEmitter]) -> Iterator[None]:
    """The `scope` of each of several emitters."""
    with ExitStack() as stack:
        for emitter in emitters:
            stack.enter_context(emitter.scope())
        yield


def _spread_places(width: int, step: int) -> ir.Constant:
    return numbers(tuple(i // step if i % step == 0 else width for i in range(step * (width - 1) + 1)))
