"""Choices about a loop kernel's axes: which merge, which one is the lanes, how the work is cut into tasks."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from itertools import count
from typing import Any

from tjit.codegen.digits import split_digits
from tjit.codegen.flat_conditions import merge_alike, with_flat_conditions
from tjit.codegen.kernel import (
    Axis,
    Buffer,
    Compute,
    Const,
    Expr,
    Index,
    Load,
    Loop,
    LoopKernel,
    Reduced,
    Scan,
    Scanned,
    Statement,
    Store,
    fold_up,
    varies,
    walk,
)
from tjit.codegen.lanes import column_axis, contiguous_count, crosses, loop_accesses, short_rows
from tjit.codegen.run_on import fills_a_vector, running_on, split_axes
from tjit.ir.dims import Dim, Symbol, coefficient, minimum, product, substitute, symbols, upper_bound
from tjit.passes.costs import EXPENSIVE

__all__ = [
    "TASK_COST",
    "arrange",
    "collapse",
    "expressions",
    "kernel_buffers",
    "rebuild",
    "statements",
    "work",
]

TASK_COST = 24_000.0  # in units of about 1 ns / 4: below, waking a thread costs more than it saves
_MAX_TASKS = 64
_EXPENSIVE_COST = 4.0
_MOST_PHASES = 4  # steps between lanes that are still whole vectors
_LARGE = 1 << 24  # bytes: with what the kernel reads, no last-level cache keeps them until they are read
_CROWDED = 28 << 20  # bytes read and written: a last-level cache of 32 MB that others use as well
_LIGHT = 8  # computations of an element: below, memory is what a kernel waits for
_LONG = 64  # elements along the lanes, of which the last vector is a small part


def arrange(kernel: LoopKernel, temps: Collection[str] = ()) -> LoopKernel:
    """Merge axes, choose the vector axis and the number of tasks.

    Args:
        temps: names of buffers that later kernels of the program read.
    """
    pointwise = not any(loop.axes for loop in kernel.loops)
    kernel = collapse(with_flat_conditions(kernel) if pointwise else kernel)
    kernel = _arrange_points(kernel) if pointwise else _split_vector(_choose_vector(kernel))
    kernel = _past_caches(kernel, temps)
    return replace(kernel, tasks=_tasks(kernel))


def _arrange_points(kernel: LoopKernel) -> LoopKernel:
    """Choose the lanes of a kernel without loops, over digits of its axes where indices divide them."""
    axes, values = split_axes(kernel)
    apart = collapse(_rebuild_kernel(kernel, axes, [()] * len(kernel.loops), values)) if values else kernel
    found = running_on(apart)
    if found is None and values:
        found = _choose_vector(apart)
        found = found if found.vector is not None and _is_enough(found.vector, found) else None
    return found or _split_vector(_choose_vector(kernel))


def _is_enough(axis: Axis, kernel: LoopKernel) -> bool:
    """Whether few lanes along an axis are off."""
    stores = [s for s in statements(kernel) if isinstance(s, Store)]
    return not isinstance(axis.extent, int) or axis.extent >= _LONG or fills_a_vector(axis, stores)


def statements(kernel: LoopKernel) -> list[Statement]:
    return [s for loop in kernel.loops for s in loop.body]


def expressions(kernel: LoopKernel) -> tuple[Expr, ...]:
    """Every expression of the kernel, each once."""
    return _expressions(kernel.loops)


@lru_cache(maxsize=16)  # each decision about a kernel looks through its expressions
def _expressions(loops: tuple[Loop, ...]) -> tuple[Expr, ...]:
    seen: set[int] = set()
    return tuple(e for loop in loops for s in loop.body for e in walk(s.value, seen))


def kernel_buffers(exprs: Sequence[Expr], stores: Sequence[Store]) -> tuple[Buffer, ...]:
    """The buffers read and written, in order of first appearance, row scratch left out."""
    found: dict[Buffer, None] = {}
    for expr in exprs:
        if isinstance(expr, Load) and not expr.buffer.row:
            found[expr.buffer] = None
    for store in stores:
        if not store.buffer.row:
            found[store.buffer] = None
    return tuple(found)


def rebuild(expr: Expr, values: dict[Symbol, Dim], made: Mapping[int, Any], memo: dict[int, Expr]) -> Expr:
    """`expr` with axis symbols replaced; `made` maps old Reduce and Scan statements (by id) to new ones."""

    def new(e: Expr) -> Expr:
        if isinstance(e, Compute):
            return Compute(e.op, tuple(memo[id(o)] for o in e.operands), e.attrs, e.dtype, e.location)
        if isinstance(e, Load):
            return replace(
                e,
                index=tuple(substitute(d, values) for d in e.index),
                conditions=tuple((substitute(i, values), substitute(n, values)) for i, n in e.conditions),
                bindings=tuple((s, memo[id(v)], n) for s, v, n in e.bindings),
            )
        if isinstance(e, Index):
            return replace(e, value=substitute(e.value, values))
        if isinstance(e, Scanned):
            return Scanned(made[id(e.scan)])
        return Reduced(made[id(e.reduce)]) if isinstance(e, Reduced) else e

    return fold_up(expr, memo, new)


def _rebuild_kernel(
    kernel: LoopKernel, parallel: tuple[Axis, ...], loop_axes: list[tuple[Axis, ...]], values: dict[Symbol, Dim]
) -> LoopKernel:
    made: dict[int, Any] = {}
    memo: dict[int, Expr] = {}
    loops = []
    for loop, axes in zip(kernel.loops, loop_axes, strict=True):
        body: list[Statement] = []
        for s in loop.body:
            value = rebuild(s.value, values, made, memo)
            if isinstance(s, Store):
                body.append(replace(s, value=value, index=tuple(substitute(d, values) for d in s.index)))
                continue
            new = replace(s, value=value)
            if isinstance(new, Scan) and new.start is not None:
                new = replace(new, start=rebuild(new.start, values, made, memo))
            made[id(s)] = new
            body.append(new)
        loops.append(replace(loop, axes=axes, body=tuple(body)))
    return replace(kernel, parallel=parallel, loops=tuple(loops))


# -- merging axes ------------------------------------------------------------------------------------------------------


def _accesses(kernel: LoopKernel) -> list[Dim]:
    """The linear offset of every load and store."""
    found = [s.buffer.offset(s.index) for s in statements(kernel) if isinstance(s, Store)]
    found += [e.buffer.offset(e.index) for e in expressions(kernel) if isinstance(e, Load)]
    return list(dict.fromkeys(found, None))


def _positions(kernel: LoopKernel) -> list[Dim]:
    """What matters of axes beside offsets: of conditions and of places that are numbers."""
    found: list[Dim] = []
    for e in expressions(kernel):
        if isinstance(e, Load):
            found += (d for pair in e.conditions for d in pair)
        elif isinstance(e, Index):
            found.append(e.value)
    return list(dict.fromkeys(found, None))


def _apart(kernel: LoopKernel) -> set[Symbol]:
    """Axes that stay as they are: of indices beside those that are looked up."""
    picked = (e for e in expressions(kernel) if isinstance(e, Load) and e.bindings)
    return {s for e in picked for d in e.index for s in symbols(d)}


@lru_cache(maxsize=8)  # asked for before it is known whether a kernel is split, and again after that
def collapse(kernel: LoopKernel) -> LoopKernel:
    """Make one axis of two neighbours wherever every access walks them as one."""
    dims, apart = [*_accesses(kernel), *_positions(kernel)], _apart(kernel)
    values: dict[Symbol, Dim] = {}

    def merged(axes: tuple[Axis, ...], shared: bool) -> tuple[Axis, ...]:
        result: list[Axis] = []
        for axis in axes:
            free = result and not {result[-1].symbol, axis.symbol} & apart and not shared
            if free and merge_alike(result[-1], axis, dims):
                outer = result.pop()
                extent = outer.extent * axis.extent
                both = Axis(Symbol(axis.symbol.name, 0, extent - 1), extent)
                values[outer.symbol] = 0
                values[axis.symbol] = both.index
                result.append(both)
            else:
                result.append(axis)
        return tuple(result)

    parallel = merged(kernel.parallel, False)
    loop_axes = _collapse_loops(kernel, merged)
    if not values:
        return kernel
    # a chain of merges names symbols that were merged again
    for s in values:
        values[s] = substitute(values[s], {k: v for k, v in values.items() if k != s and k.name != s.name})
    return _rebuild_kernel(kernel, parallel, loop_axes, values)


def _collapse_loops(kernel: LoopKernel, merged) -> list[tuple[Axis, ...]]:
    """Loops share symbols: they are merged only where all loops of more than one axis have the same axes."""
    many = [loop.axes for loop in kernel.loops if len(loop.axes) > 1]
    same = all(axes == many[0] for axes in many)
    singles = {a.symbol for loop in kernel.loops if len(loop.axes) == 1 for a in loop.axes}
    if not many or not same or singles & {a.symbol for a in many[0]} or _row_buffers(kernel):
        return [loop.axes for loop in kernel.loops]
    new = merged(many[0], False)
    return [new if len(loop.axes) > 1 else loop.axes for loop in kernel.loops]


def _row_buffers(kernel: LoopKernel) -> bool:
    return any(isinstance(s, Store) and s.buffer.row for s in statements(kernel))


# -- the lanes ---------------------------------------------------------------------------------------------------------


def _choose_vector(kernel: LoopKernel) -> LoopKernel:
    """The axis along which most accesses are contiguous: a loop's last, or a parallel one, which then comes last."""
    inner = [loop.axes[-1] for loop in kernel.loops if loop.axes]
    accesses = _accesses(kernel)
    if not inner:
        if not kernel.parallel:
            return kernel
        best = max(reversed(kernel.parallel), key=lambda a: contiguous_count(a, accesses))
        cross = _cross_axis(kernel, best)
        if best is not kernel.parallel[-1] and not _stores_run(kernel, best, cross):
            best = kernel.parallel[-1]
            cross = _cross_axis(kernel, best)
        return _with_last(kernel, best, cross)
    column = None if _row_buffers(kernel) else column_axis(kernel)
    if column is None and (short := short_rows(kernel)) is not None:
        crossed = any(crosses(a, kernel.parallel[-1], short) for loop in kernel.loops for a in loop_accesses(loop))
        tiled = crossed or _row_buffers(kernel)  # a row for each lane is a tile
        return replace(kernel, vector=kernel.parallel[-1], cross=short if tiled else None)
    return replace(kernel, vector=inner[0]) if column is None else _with_last(kernel, column)


def _split_vector(kernel: LoopKernel) -> LoopKernel:
    """Run the lanes along the higher digit where indices divide their axis by a small number: they are affine in it."""
    axis = kernel.vector
    if axis is None or axis not in kernel.parallel or not isinstance(axis.extent, int) or kernel.cross is not None:
        return kernel
    places = (Load(s.buffer, s.index) for s in statements(kernel) if isinstance(s, Store))
    digits = split_digits(axis.symbol, *places, *(s.value for s in statements(kernel)))
    if len(digits.radices) != 1 or digits.radices[0] > _MOST_PHASES or axis.extent % digits.radices[0]:
        return kernel
    (radix,) = digits.radices
    length = axis.extent // radix
    used = {a.symbol.name for a in (*kernel.parallel, *(a for loop in kernel.loops for a in loop.axes))}
    fresh = next(name for n in count() if (name := f"{axis.symbol.name}{n}") not in used)
    phase = Axis(Symbol(fresh, 0, radix - 1), radix)
    run = Axis(Symbol(axis.symbol.name, 0, length - 1), length)
    parallel = (*(a for a in kernel.parallel if a is not axis), phase, run)
    values = {axis.symbol: phase.index + run.index * radix}
    split = _rebuild_kernel(kernel, parallel, [loop.axes for loop in kernel.loops], values)
    return replace(split, vector=run)


def _with_last(kernel: LoopKernel, axis: Axis, cross: Axis | None = None) -> LoopKernel:
    last = (axis,) if cross is None else (cross, axis)
    first = (a for a in kernel.parallel if a not in last)
    return replace(kernel, parallel=(*first, *last), vector=axis, cross=cross)


def _cross_axis(kernel: LoopKernel, vector: Axis) -> Axis | None:
    """The axis along which most accesses run that step over elements along `vector`."""
    found = [e for e in expressions(kernel) if isinstance(e, Load)]
    found += [s for s in statements(kernel) if isinstance(s, Store)]
    counts = {a: sum(crosses(e, vector, a) for e in found) for a in kernel.parallel if a is not vector}
    best = max(reversed(counts), key=counts.__getitem__, default=None)
    return best if best is not None and counts[best] else None


def _stores_run(kernel: LoopKernel, vector: Axis, cross: Axis | None) -> bool:
    """Whether every store runs along the lanes, or along `cross`."""
    stores = [s for s in statements(kernel) if isinstance(s, Store)]
    along = [coefficient(s.buffer.offset(s.index), vector.symbol) == 1 for s in stores]
    return all(a or (cross is not None and crosses(s, vector, cross)) for a, s in zip(along, stores, strict=True))


def _past_caches(kernel: LoopKernel, temps: Collection[str]) -> LoopKernel:
    """Mark the stores of whole aligned vectors to large arrays that the kernel does not read.

    They save reading in what is overwritten: 1.3 to 1.6 times faster where memory is the limit, 0.8 where it is not.
    """
    if kernel.vector is None:
        return kernel
    exprs, memo = expressions(kernel), {}
    along = frozenset((kernel.vector.symbol,))
    computed = [e for e in exprs if isinstance(e, Compute) and varies(e, along, memo)]
    if len(computed) > _LIGHT or any(e.op.name in EXPENSIVE for e in computed):
        return kernel
    loads = [e for e in exprs if isinstance(e, Load)]
    read = {e.buffer.name for e in loads}
    streams = {e.buffer.name: e.buffer for e in loads if not e.bindings}
    flat = not any(loop.axes for loop in kernel.loops)

    def marked(s: Statement) -> Statement:
        if not isinstance(s, Store) or s.buffer.name in read or not _aligned(s, kernel):
            return s
        beside = [] if s.buffer.name in temps else [*streams.values()]
        return replace(s, past_caches=True) if _is_large(s.buffer, beside) else s

    def with_marked(loop: Loop) -> Loop:
        is_row = bool(loop.axes) and loop.axes[-1].symbol in along
        return replace(loop, body=tuple(map(marked, loop.body))) if flat or is_row else loop

    return replace(kernel, loops=tuple(map(with_marked, kernel.loops)))


def _is_large(buffer: Buffer, beside: Sequence[Buffer]) -> bool:
    """Whether the caches keep little of an array that is written, by itself or with those that are read beside it."""
    written = _nbytes(buffer)
    if written is None or written >= _LARGE:
        return written is not None
    read = sum(min(_nbytes(b) or 0, written) for b in beside)
    return 2 * written >= _LARGE and written + read >= _CROWDED


def _nbytes(buffer: Buffer) -> int | None:
    size = product(buffer.shape)
    return size * buffer.dtype.itemsize if isinstance(size, int) else None


def _aligned(store: Store, kernel: LoopKernel) -> bool:
    """Whether every row along the lanes starts at a cache line if the buffer does."""
    assert kernel.vector is not None
    offset = store.buffer.offset(store.index)
    if coefficient(offset, kernel.vector.symbol) != 1:
        return False
    first = substitute(offset, {a.symbol: 0 for a in (kernel.vector, *kernel.beyond)})
    steps = [coefficient(first, a.symbol) for a in kernel.parallel]
    rest = substitute(first, {a.symbol: 0 for a in kernel.parallel})
    line = 64 // store.buffer.dtype.itemsize
    return all(isinstance(d, int) and d % line == 0 for d in (rest, *steps))


# -- tasks -------------------------------------------------------------------------------------------------------------


def _tasks(kernel: LoopKernel) -> Dim:
    """How many equal ranges the parallel space is cut into: by cost, from shapes alone."""
    points, cost = product(a.extent for a in kernel.parallel), work(kernel)
    most = upper_bound(cost)
    if most is not None and most < 2 * TASK_COST:
        return 1  # whatever the symbols are: no task to hand out
    if isinstance(cost, int):
        return max(1, min(_MAX_TASKS, int(cost / TASK_COST))) if points != 1 else 1
    return minimum(cost // int(TASK_COST) + 1, _MAX_TASKS)


@lru_cache(maxsize=256)  # asked for tasks, and for which kernels share a fork-join
def work(kernel: LoopKernel) -> Dim:
    """The cost of a kernel, in quarters of a nanosecond, roughly."""
    points = product(a.extent for a in kernel.parallel)
    first = {a.symbol: 0 for a in kernel.parallel}  # an extent may depend on the parallel point: the first is typical
    total: Dim = 0
    for loop in kernel.loops:
        cost = sum(_cost(s) for s in loop.body)
        total = total + product(substitute(a.extent, first) for a in loop.axes) * max(1, round(cost))
    return points * total


def _cost(statement: Statement) -> float:
    """Rough cost of one element, in quarters of a nanosecond, with vectors."""
    total = 0.5 if isinstance(statement, Store) else 0.25
    for e in walk(statement.value):
        if isinstance(e, Compute):
            total += _EXPENSIVE_COST if e.op.name in EXPENSIVE else 0.2
        elif isinstance(e, Load):
            total += 0.5 if not e.bindings else 4.0
        elif isinstance(e, Const):
            continue
    return total
