"""Cut a long reduction with few results into partial ones, and what follows reductions from them where that is better.

The cuts depend on shapes only, so the order of summation, and with it the bits of the result, does not depend on the
threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tjit.codegen.axes import collapse, rebuild
from tjit.codegen.kernel import (
    Axis,
    Buffer,
    Compute,
    Expr,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Reduced,
    Scan,
    Statement,
    Store,
    fold_up,
    walk,
)
from tjit.codegen.lanes import column_axis, stores_across
from tjit.codegen.scalars import held
from tjit.ir.dims import Dim, Symbol, coefficient, minimum, product, substitute
from tjit.ir.types import TensorType

__all__ = ["parts_axis", "split_loops", "split_reduction"]

_FEW_POINTS = 64
_LONG = 1 << 16  # elements
_TALL = 1 << 20
_PARTS = 32
_TALL_COLUMN = 1 << 8  # elements: a block of columns has a page for each, of what is read and of what is written
_TALLEST_COLUMN = 1 << 12  # elements: a block of columns is no longer in the second-level cache for the last loop
_BEYOND_CACHES = 1 << 23  # bytes
_FEW_ELEMENTS = 1 << 14  # below, another kernel costs more than it saves
_SPLITTABLE = frozenset({"sum", "prod", "max", "min", "any", "all"})


def parts_axis(axis: Axis, parts: Dim) -> Axis:
    """The axis over parts of `axis`, marked like it where the program has symbols of such names."""
    name = axis.symbol.name
    mark = name[: len(name) - len(name.lstrip("_"))]
    return Axis(Symbol(f"{mark}part", 0, parts - 1), parts)


def split_reduction(kernel: LoopKernel, new_buffer: Callable[[TensorType], Buffer]) -> list[LoopKernel]:
    """`kernel`, or a kernel of partial reductions over parts of the outermost axis and one that joins them."""
    whole, kernel = kernel, collapse(kernel)  # one long axis falls into parts where a few long rows do not
    if not _should_split(kernel):
        return [whole]
    first, *rest = kernel.loops
    axis = first.axes[0]
    length = -(-axis.extent // _PARTS)
    parts = -(-axis.extent // length)
    part = parts_axis(axis, parts)
    inside = Axis(Symbol(f"{axis.symbol.name}s", 0, length - 1), minimum(length, axis.extent - part.index * length))
    values = {axis.symbol: part.index * length + inside.index}
    at = (part.index, *(a.index for a in kernel.parallel))
    shape: tuple[Dim, ...] = (parts, *(a.extent for a in kernel.parallel))
    reduced: dict[int, Reduce] = {}
    memo: dict[int, Expr] = {}
    body: list[Statement] = []
    partials: list[Store] = []
    joined: list[Reduce] = []
    for statement in first.body:
        value = rebuild(statement.value, values, reduced, memo)
        if isinstance(statement, Store):
            body.append(replace(statement, value=value, index=tuple(substitute(d, values) for d in statement.index)))
        if not isinstance(statement, Reduce):
            continue
        new = replace(statement, value=value, dtype=held(statement.dtype))
        body.append(new)
        buffer = new_buffer(TensorType(new.dtype, shape))
        partials.append(Store(buffer, at, Reduced(new), statement.location))
        joined.append(replace(statement, value=Load(buffer, at)))
        reduced[id(statement)] = joined[-1]
    outputs = tuple(dict.fromkeys((*(s.buffer for s in body if isinstance(s, Store)), *(s.buffer for s in partials))))
    partial = replace(
        kernel,
        parallel=(part, *kernel.parallel),
        loops=(Loop((inside, *first.axes[1:]), tuple(body)), Loop((), tuple(partials))),
        outputs=outputs,
    )
    later = _later_loops(rest, reduced)
    kept = tuple(b for b in kernel.outputs if b not in outputs)
    join = replace(kernel, loops=(Loop((part,), tuple(joined)), *later), outputs=kept)
    return [partial, join]


def _later_loops(loops: list[Loop], reduced: dict[int, Reduce]) -> list[Loop]:
    memo: dict[int, Expr] = {}
    return [
        Loop(loop.axes, tuple(replace(s, value=rebuild(s.value, {}, reduced, memo)) for s in loop.body))
        for loop in loops
    ]


def _should_split(kernel: LoopKernel) -> bool:
    reductions = [s for s in kernel.loops[0].body if isinstance(s, Reduce)] if kernel.loops else []
    if not reductions or not kernel.loops[0].axes:
        return False
    if any(loop.axes for loop in kernel.loops[1:]) or any(s.kind not in _SPLITTABLE for s in reductions):
        return False
    if any(isinstance(s, Reduce) for loop in kernel.loops[1:] for s in loop.body):
        return False
    if any(isinstance(s, Scan) for loop in kernel.loops for s in loop.body):
        return False
    points = product(a.extent for a in kernel.parallel)
    length = product(a.extent for a in kernel.loops[0].axes)
    outer = kernel.loops[0].axes[0].extent
    if not (isinstance(points, int) and isinstance(length, int) and isinstance(outer, int)):
        return False
    if points <= _FEW_POINTS:
        return points * length >= _LONG and outer >= _PARTS
    # a tall block of columns: a part's rows are few enough pages for the processor to keep track of
    return points * length >= _TALL and outer >= 8 * _PARTS and _walks_down_columns(kernel)


def _walks_down_columns(kernel: LoopKernel) -> bool:
    """Whether neighbours in memory are parallel points of their own, not elements of one sum."""
    row, column = kernel.loops[0].axes[-1].symbol, kernel.parallel[-1].symbol
    loads = [e for s in kernel.loops[0].body for e in walk(s.value) if isinstance(e, Load)]
    offsets = [e.buffer.offset(e.index) for e in loads]
    return any(coefficient(o, column) == 1 for o in offsets) and not any(coefficient(o, row) == 1 for o in offsets)


def split_loops(kernel: LoopKernel, new_buffer: Callable[[TensorType], Buffer]) -> list[LoopKernel]:
    """`kernel`, or one of the first loop's reductions and those of what comes after them.

    Block after block of tall columns is slower to read, and to write, than all rows are a second time: each reduction
    can then be cut into parts, and what is stored for each element goes by rows. Likewise what is stored across the
    lanes of the reductions goes through tiles.
    """
    if not _should_split_loops(kernel):
        return [kernel]
    first, *rest = kernel.loops
    made = {id(s) for s in first.body}
    own = [loop for loop in rest if not loop.axes and all(id(r) in made for r in _reductions_read(loop))]
    later = [loop for loop in rest if loop not in own]
    at = tuple(a.index for a in kernel.parallel)
    shape = tuple(a.extent for a in kernel.parallel)
    loads: dict[int, Expr] = {}
    kept: list[Statement] = []
    for reduce in dict.fromkeys(r for loop in later for r in _reductions_read(loop) if id(r) in made):
        buffer = new_buffer(TensorType(reduce.dtype, shape))
        loads[id(reduce)] = Load(buffer, at)
        kept.append(Store(buffer, at, Reduced(reduce), reduce.location))
    reduced = replace(kernel, loops=(first, *own, Loop((), tuple(kept))))
    following = replace(kernel, loops=_with_loads(later, loads))
    if _only_stores(following.loops):
        (loop,) = following.loops
        following = replace(kernel, parallel=(*loop.axes, *kernel.parallel), loops=(Loop((), loop.body),))
    outputs = [tuple(dict.fromkeys(b for loop in k.loops for b in _stored(loop))) for k in (reduced, following)]
    return [replace(reduced, outputs=outputs[0]), *split_loops(replace(following, outputs=outputs[1]), new_buffer)]


def _with_loads(loops: list[Loop], values: dict[int, Expr]) -> tuple[Loop, ...]:
    """Loops in which reductions that were made before are what `values` says of them, by id."""

    def new(e: Expr) -> Expr:
        if isinstance(e, Compute):
            return replace(e, operands=tuple(memo[id(o)] for o in e.operands))
        return values.get(id(e.reduce), e) if isinstance(e, Reduced) else e

    def statement(s: Statement) -> Statement:
        result = replace(s, value=fold_up(s.value, memo, new))
        if isinstance(result, Reduce):
            values[id(s)] = Reduced(result)
        return result

    memo: dict[int, Expr] = {}
    return tuple(replace(loop, body=tuple(map(statement, loop.body))) for loop in loops)


def _reductions_read(loop: Loop) -> list[Reduce]:
    return [e.reduce for s in loop.body for e in walk(s.value) if isinstance(e, Reduced)]


def _stored(loop: Loop) -> list[Buffer]:
    return [s.buffer for s in loop.body if isinstance(s, Store)]


def _only_stores(loops: tuple[Loop, ...]) -> bool:
    """Whether loops are one that computes each element by itself."""
    return len(loops) == 1 and len(loops[0].axes) > 0 and all(isinstance(s, Store) for s in loops[0].body)


def _should_split_loops(kernel: LoopKernel) -> bool:
    """Whether what comes after the first loop's reductions is better done by kernels of their own."""
    if not kernel.loops or not kernel.loops[0].axes or not _may_split(kernel):
        return False
    first, *others = kernel.loops
    later = [loop for loop in others if loop.axes]
    if not later or not all(isinstance(s, Reduce) for s in first.body):
        return False
    points = product(a.extent for a in (*kernel.parallel, *first.axes))
    few = isinstance(points, int) and points < _FEW_ELEMENTS
    return (stores_across(kernel) and not few) or _has_tall_columns(kernel, later)


def _has_tall_columns(kernel: LoopKernel, later: list[Loop]) -> bool:
    """Whether columns are tall and many, and looked at by several loops."""
    first = kernel.loops[0]
    rows, points = (product(a.extent for a in axes) for axes in (first.axes, kernel.parallel))
    if not (isinstance(rows, int) and isinstance(points, int)) or rows < _TALL_COLUMN or column_axis(kernel) is None:
        return False
    # of a single reduction both parts run at memory's speed
    alone = len(later) == 1 and _only_stores((later[0],))
    size = max(e.dtype.itemsize for s in first.body for e in walk(s.value))
    return rows * points * size >= _BEYOND_CACHES and (alone or rows >= _TALLEST_COLUMN)


def _may_split(kernel: LoopKernel) -> bool:
    """Whether loops of the kernel may be kernels of their own."""
    if any(isinstance(s, Scan) or (isinstance(s, Store) and s.buffer.row) for loop in kernel.loops for s in loop.body):
        return False
    written = {b.name for loop in kernel.loops if not loop.axes for b in _stored(loop)}
    loads = [e for loop in kernel.loops for s in loop.body for e in walk(s.value) if isinstance(e, Load)]
    return not any(e.bindings or e.buffer.name in written for e in loads)
