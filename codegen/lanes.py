"""Which axis suits the lanes of a kernel with loops: along a loop, along columns, or over short rows of one each."""

from __future__ import annotations

from collections.abc import Iterable

from tjit.codegen.kernel import Axis, Compute, Load, Loop, LoopKernel, Reduce, Scan, Statement, Store, varies, walk
from tjit.ir.dims import Dim, Symbol, coefficient, symbols
from tjit.passes.costs import EXPENSIVE

__all__ = ["NEAR", "column_axis", "contiguous_count", "crosses", "loop_accesses", "short_rows", "stores_across"]

_LONGEST_ROW = 128  # elements: of a tile's rows, which fit in the first-level cache
_LEAST_ROWS = 256  # below, the microsecond saved is not worth code that takes 25 ms longer to compile
_VECTOR = 64  # bytes
_LEAST_LANE = 4  # bytes: smaller elements are transposed no faster
_TRANSPOSE = 9  # instructions for each vector of a tile that is transposed
# instructions that take a vector into a reduction, whose lanes are one row or have one each, and that join the lanes
_JOIN = {"any": (1, 1, 4), "all": (1, 1, 4), "max": (1, 1, 10), "min": (1, 1, 10), "argmax": (3, 4, 24)}
_FLOAT_JOIN = {"max": (2, 3, 18), "min": (2, 3, 18), "argmax": (5, 8, 40), "logaddexp": (50, 50, 200)}
_CHEAP = (1, 1, 7)  # the same, of other reductions
_WAIT = 30  # instructions that could be done while a row waits for another loop's reduction, or for one dear operation
_DEAR = 16  # instructions of an expensive operation
NEAR = 4  # elements: lanes this far from each other are read with what lies between, and picked out


def column_axis(kernel: LoopKernel) -> Axis | None:
    """The parallel axis along which more of what the loops access lies close than along their own; None: none."""
    inner = dict.fromkeys(loop.axes[-1] for loop in kernel.loops if loop.axes)
    if not inner or not kernel.parallel:
        return None
    accesses = [place for loop in kernel.loops if loop.axes for place in _places(loop)]
    columns = {a: _closeness(a, accesses) for a in kernel.parallel}
    best = max(reversed(kernel.parallel), key=columns.__getitem__)
    rows = tuple(map(sum, zip(*(_closeness(a, accesses) for a in inner), strict=True)))
    return best if columns[best] > rows and _points_enough(best) else None


def stores_across(kernel: LoopKernel) -> bool:
    """Whether the last loop only stores, along another axis than lanes run for the reductions before it."""
    looped = [loop for loop in kernel.loops if loop.axes]
    if len(looped) < 2 or not kernel.parallel:
        return False
    *before, last = looped
    stores = [s for s in last.body if isinstance(s, Store) and not s.buffer.row]
    if len(stores) < len(last.body) or not any(isinstance(s, Reduce) for loop in before for s in loop.body):
        return False
    lanes = column_axis(kernel) or last.axes[-1]
    others = [a for a in (*kernel.parallel, *last.axes) if a.symbol != lanes.symbol]
    return any(crosses(s, lanes, other) for s in stores for other in others)


def loop_accesses(loop: Loop) -> list[Load | Store]:
    """What a loop loads and stores at each of its points."""
    axes = frozenset(a.symbol for a in loop.axes)
    seen: set[int] = set()
    found: list[Load | Store] = [e for s in loop.body for e in walk(s.value, seen) if isinstance(e, Load)]
    found += [s for s in loop.body if isinstance(s, Store)]
    return [a for a in found if not axes.isdisjoint(symbols(a.buffer.offset(a.index))) or _is_picked(a, axes)]


def _is_picked(access: Load | Store, over: frozenset[Symbol]) -> bool:
    """Whether an index that depends on the symbols `over` picks the element."""
    return isinstance(access, Load) and any(varies(value, over, {}) for _, value, _ in access.bindings)


def _places(loop: Loop) -> Iterable[Load | Store]:
    """What a loop loads and stores at each of its points, each place once."""
    return {(a.buffer.offset(a.index), a.index[-1]): a for a in loop_accesses(loop)}.values()


def _closeness(axis: Axis, accesses: list[Load | Store]) -> tuple[int, ...]:
    """How few accesses step far along an axis, how many run along it, and in how many it steps the last dim.

    The last dim's stride is the least, as a rule. What does not depend on the axis is one element for all lanes.
    """
    steps = [_step(a, axis) for a in accesses]
    far = sum(not isinstance(k, int) or abs(k) > NEAR for k in steps)
    last = sum(coefficient(a.index[-1], axis.symbol) not in (0, None) for a in accesses)
    return -far, contiguous_count(axis, [a.buffer.offset(a.index) for a in accesses]), last


def _step(access: Load | Store, axis: Axis) -> Dim | None:
    """How many elements one step along an axis is; None: an index picks it, or it is not always as many."""
    return (
        None
        if _is_picked(access, frozenset({axis.symbol}))
        else coefficient(access.buffer.offset(access.index), axis.symbol)
    )


def short_rows(kernel: LoopKernel) -> Axis | None:
    """The axis of all loops where each lane is to have a row of its own, which passes through transposed tiles.

    None where rows are long, or to be read otherwise than along them.
    """
    loop_axes = {loop.axes for loop in kernel.loops if loop.axes}
    if len(loop_axes) != 1 or not kernel.parallel:
        return None
    axis, *others = loop_axes.pop()
    lanes = kernel.parallel[-1]
    few = isinstance(lanes.extent, int) and lanes.extent < _LEAST_ROWS
    if others or few or not isinstance(axis.extent, int) or axis.extent > _LONGEST_ROW:
        return None
    accesses = [a for loop in kernel.loops for a in loop_accesses(loop)]
    if not all(_suits_lanes(a, lanes, axis) for a in accesses) or _reads_what_it_stored(kernel):
        return None
    return axis if _is_cheaper_by_lanes(kernel, axis.extent, [a for a in accesses if crosses(a, lanes, axis)]) else None


def _suits_lanes(access: Load | Store, lanes: Axis, axis: Axis) -> bool:
    """Whether an access is of whole vectors when rows are lanes: through a tile, or as it is."""
    if isinstance(access, Load) and access.bindings:
        return False
    step = coefficient(access.buffer.offset(access.index), lanes.symbol)
    return access.buffer.row or crosses(access, lanes, axis) or (isinstance(step, int) and abs(step) <= NEAR)


def _reads_what_it_stored(kernel: LoopKernel) -> bool:
    """Whether a loop reads memory that an earlier one has written, which tiles write last."""
    written: set[str] = set()
    for loop in kernel.loops:
        loads = (e for s in loop.body for e in walk(s.value) if isinstance(e, Load) and not e.buffer.row)
        if any(e.buffer.name in written for e in loads):
            return True
        written.update(s.buffer.name for s in loop.body if isinstance(s, Store))
    return False


def _is_cheaper_by_lanes(kernel: LoopKernel, length: int, crossing: list[Load | Store]) -> bool:
    """Whether vectors of rows take fewer instructions than rows of vectors, whose lanes have to be joined."""
    tiles = len({(a.buffer.name, a.buffer.offset(a.index)) for a in crossing})
    rows = _VECTOR // max((_LEAST_LANE, *(a.buffer.dtype.itemsize for a in crossing)))
    looped = [s for loop in kernel.loops if loop.axes for s in loop.body]
    by_rows, by_lanes = (sum(_instructions(s, way) for s in looped) for way in (0, 1))
    point = sum(_instructions(s, 1) for loop in kernel.loops if not loop.axes for s in loop.body)
    joins = [sum(_join(s)[2] for s in loop.body if isinstance(s, Reduce)) for loop in kernel.loops]
    last = [e for loop in kernel.loops if not loop.axes for s in loop.body for e in walk(s.value)]
    alone = sum(isinstance(e, Compute) and e.op.name in EXPENSIVE for e in last)
    waits = _WAIT * (max(0, sum(join > 0 for join in joins) - 1) + alone)
    whole = rows * (-(-length // rows) * by_rows + sum(joins) + waits + point)
    return length * (by_lanes + _TRANSPOSE * tiles) + point < whole


def _join(reduce: Reduce | Scan) -> tuple[int, int, int]:
    kind = reduce.kind.replace("argmin", "argmax")
    floats = _FLOAT_JOIN if reduce.value.dtype.is_floating_point else {}
    return floats.get(kind) or _JOIN.get(kind, _CHEAP)


def _instructions(statement: Statement, way: int) -> int:
    """Of a vector, about; `way`: 0 where its lanes are of one row, 1 where each has a row of its own."""
    computed = sum(_DEAR if e.op.name in EXPENSIVE else 1 for e in walk(statement.value) if isinstance(e, Compute))
    return computed + (1 if isinstance(statement, Store) else 1 + _join(statement)[way])


def _points_enough(axis: Axis) -> bool:
    return not isinstance(axis.extent, int) or axis.extent >= 4


def contiguous_count(axis: Axis, accesses: list[Dim]) -> int:
    """How many accesses, given by their offsets, run along an axis."""
    return sum(isinstance(k, int) and k == 1 for k in (coefficient(o, axis.symbol) for o in accesses))


def crosses(access: Load | Store, vector: Axis, cross: Axis) -> bool:
    """Whether an access steps over elements from lane to lane, but not along `cross`."""
    if isinstance(access, Load) and access.bindings:
        return False
    offset = access.buffer.offset(access.index)
    along = coefficient(offset, vector.symbol)
    near = isinstance(along, int) and abs(along) <= NEAR
    return along is not None and not near and coefficient(offset, cross.symbol) == 1
