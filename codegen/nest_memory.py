"""What a nest may do in memory: which reads a write disturbs, and how large its own arrays become."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence

from tjit.codegen.kernel import Axis, Buffer, Compute, Expr, Load, walk
from tjit.ir.dims import (
    Dim,
    Symbol,
    at_least,
    coefficient,
    is_one,
    lower_bound,
    maximum,
    substitute,
    symbols,
    upper_bound,
)
from tjit.passes.costs import EXPENSIVE

__all__ = ["are_apart", "is_disturbed", "is_small", "loads_of", "most_elements", "shared_loads"]

Index = tuple[Dim, ...]

_LINE_ELEMENTS = 1 << 15  # of one dim, if it is always so long: kernels share them out among threads
_BLOCK_ELEMENTS = 1 << 10  # of several dims
_FEW_FUNCTIONS = 64  # evaluations of exp and the like, which only explicit vectors make fast
_VECTORISED = frozenset({"sqrt", "div", "floor_divide", "remainder", "rsqrt"})


def loads_of(exprs: Iterable[Expr]) -> Iterator[Load]:
    """The loads in expressions, each once."""
    seen: set[int] = set()
    return (e for expr in exprs for e in walk(expr, seen) if isinstance(e, Load))


def shared_loads(exprs: Iterable[Expr], buffer: Buffer) -> list[Load]:
    """The loads from one buffer."""
    return [e for e in loads_of(exprs) if e.buffer.name == buffer.name]


def are_apart(read: Index, written: Index) -> bool:
    """Whether no values of the symbols make the two indices one element; of two shapes of one memory all may meet."""
    return len(read) == len(written) and any(
        at_least(r - w, 1) or at_least(w - r, 1) for r, w in zip(read, written, strict=True)
    )


def is_disturbed(read: Index, written: Index, axes: Sequence[Axis]) -> bool:
    """Whether a loop over `axes` that writes at `written` could change what it reads later at `read`."""
    if len(read) != len(written):
        return True
    return not _is_before(read, written, axes) and not _is_apart_inside(read, written, axes)


def _is_before(read: Index, written: Index, axes: Sequence[Axis]) -> bool:
    """Whether every element is read no later than at the point that writes it."""
    steps: dict[Symbol, Dim] = {}
    for r, w in zip(read, written, strict=True):
        own = [a.symbol for a in axes if a.symbol in symbols(w)]
        if not own and not any(a.symbol in symbols(r) for a in axes):
            continue  # apart or not, the same for all points
        if len(own) != 1 or own[0] in steps or not _is_positive(coefficient(w, own[0])):
            return False
        difference = r - w
        if any(a.symbol in symbols(difference) for a in axes):
            return False
        steps[own[0]] = difference
    for axis in axes:  # the first axis that differs decides: forward is read before it is written
        step = steps.get(axis.symbol)
        if step is None or not at_least(step, 0):
            return False
        if at_least(step, 1):
            return True
    return True


def _is_positive(k: Dim | None) -> bool:
    return k is not None and at_least(k, 1)


def _is_apart_inside(read: Index, written: Index, axes: Sequence[Axis]) -> bool:
    """Whether no point reads what any other writes: the points that write have symbols of their own."""
    others: dict[Symbol, Dim] = {a.symbol: Symbol(f"{a.symbol}'", a.symbol.minimum, a.symbol.maximum).dim for a in axes}
    return are_apart(read, tuple(substitute(w, others) for w in written))


def most_elements(shape: Index, ranges: Mapping[Symbol, Dim]) -> Dim | None:
    """An upper bound of an array's size without the symbols of `ranges`, which have these maxima; None: unbounded."""
    most: Dim = 1
    for extent in shape:
        found = _most(extent, ranges)
        if found is None:
            return None
        most = most * maximum(found, 0)  # a loop that does not run has a negative extent
    return most


def _most(extent: Dim, ranges: Mapping[Symbol, Dim]) -> Dim | None:
    for _ in range(len(ranges) + 1):
        inner = [s for s in symbols(extent) if s in ranges]
        if not inner:
            return extent
        # innermost first: a maximum may mention the counters around it
        within = {s for i in inner for s in symbols(ranges[i])}
        chosen = next((s for s in inner if s not in within), inner[0])
        k = coefficient(extent, chosen)
        if k is None or not (at_least(k, 0) or at_least(-k, 0)):
            return None
        extent = substitute(extent, {chosen: ranges[chosen] if at_least(k, 0) else chosen.minimum})
    return None


def is_small(axes: Sequence[Axis], exprs: Iterable[Expr]) -> bool:
    """Whether one thread should walk these axes: a line of moderate length, or a small block."""
    extents = [a.extent for a in axes if not is_one(a.extent)]
    if not extents:
        return True
    most = [upper_bound(e) for e in extents]
    size = None if None in most else math.prod(e for e in most if e is not None)
    if _calls_functions(exprs) and (size is None or size > _FEW_FUNCTIONS):
        return False
    if len(extents) == 1:
        return lower_bound(extents[0]) <= _LINE_ELEMENTS
    return size is not None and size <= _BLOCK_ELEMENTS


def _calls_functions(exprs: Iterable[Expr]) -> bool:
    seen: set[int] = set()
    slow = EXPENSIVE - _VECTORISED
    return any(isinstance(e, Compute) and e.op.name in slow for expr in exprs for e in walk(expr, seen))
