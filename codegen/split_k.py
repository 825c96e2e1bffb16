"""Cut a contraction of few results over a long k into parts, so that all threads take part.

Like `split_reduction`, the cut depends on shapes only: the bits of the result do not depend on the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import isqrt

from tjit.codegen.axes import rebuild
from tjit.codegen.digits import Digits, expression_dims, split_digits
from tjit.codegen.kernel import (
    Accumulator,
    AttentionGradientKernel,
    Axis,
    Buffer,
    Compute,
    ContractKernel,
    Expr,
    Load,
    Loop,
    LoopKernel,
    Reduce,
    Reduced,
    Store,
    converted,
    fold_up,
    walk,
)
from tjit.codegen.split import parts_axis
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol, coefficient, product, substitute, symbols
from tjit.ir.types import TensorType

__all__ = ["join_parts", "split_contraction"]

_FEW_RESULTS = 64 * 64
_MOST_RESULTS = 1 << 18
_FEW_OF_WINDOWS = 10 * _FEW_RESULTS
_LONG = 4096  # steps of k
_LONG_FOR_SIDE = 24  # times the side of a square of as many results: adding up parts is then a small part of all
_LONG_TO_GATHER = 16  # the same where an operand has no neighbours: each task gathers all of it that it reads
_WORK = 1 << 19  # multiplications: less is done sooner than shared
_PARTS = 16
_PARTIAL = 1 << 18  # sums that are kept for parts beyond the first _PARTS / 2
_STEPS = 1024  # of a part at least
_ROWS = 32  # enough for all threads
_FEW_ROWS = 4  # of the other operand
_VECTOR = 64  # bytes


@dataclass(frozen=True, slots=True)
class _Cut:
    """k in `parts` of equal `length`, numbered by `part` over `axes`, and a `rest` of steps behind them."""

    axes: tuple[Axis, ...]
    part: Dim
    parts: int
    length: int
    rest: int


def split_contraction(
    kernel: ContractKernel, new_buffer: Callable[[TensorType], Buffer]
) -> tuple[list[ContractKernel], LoopKernel] | None:
    """Kernels of partial sums and the one that adds them up and runs the epilogue; None: `kernel` is left as it is.

    k is cut into equal parts, which are one kernel with a batch axis or two more, and what is left behind them.
    """
    extent, results = kernel.k.extent, product(axis.extent for axis in (*kernel.batch, kernel.m, kernel.n))
    if not isinstance(extent, int) or not isinstance(results, int) or extent < _LONG or results * extent < _WORK:
        return None
    is_plain = _should_split(kernel, extent, results)
    cut = _cut(kernel, extent, results) if is_plain else _cut_of_windows(kernel, extent, results)
    if cut is None:
        return None
    count = cut.parts + (cut.rest > 0)
    axes = (*kernel.batch, *(_results(kernel) if is_plain else (kernel.m, kernel.n)))
    buffer = new_buffer(TensorType(kernel.accumulate, (count, *(axis.extent for axis in axes))))

    def partial(kernel: ContractKernel, part: Dim, length: int) -> ContractKernel:
        at = (part, *(axis.index for axis in axes))
        store = Store(buffer, at, Accumulator(kernel.accumulate), kernel.location)
        return _partial(kernel, store, part * cut.length, length)

    kernels = [partial(replace(kernel, batch=(*cut.axes, *kernel.batch)), cut.part, cut.length)]
    if cut.rest:
        kernels.append(partial(kernel, cut.parts, cut.rest))
    return kernels, join_parts(kernel, parts_axis(kernel.k, count), buffer, axes, kernel.epilogue)


def _cut(kernel: ContractKernel, extent: int, results: int) -> _Cut:
    """Parts for all threads: of several steps of k's highest digit, or equal pieces of each of them."""
    wanted = min(_PARTS, max(_PARTS // 2, _PARTIAL // results), extent // _STEPS) & -2
    *lower, top = (1, *(radix for radix in _digits(kernel).radices if radix <= extent))
    steps = extent // top
    if steps >= wanted:
        parts = min(range(wanted, wanted // 2, -2), key=lambda parts: steps % parts * top // _STEPS)
        return _cut_by(kernel, extent, steps // parts * top)
    most = max(1, min(-(-wanted // steps), top // _STEPS))
    pieces = max(c for c in range(1, most + 1) if top % c == 0 and top // c % lower[-1] == 0)
    outer = parts_axis(kernel.k, steps)
    inner = Axis(Symbol(f"{outer.symbol.name}s", 0, pieces - 1), pieces)
    return _Cut((outer, inner), outer.index * pieces + inner.index, steps * pieces, top // pieces, extent % top)


def _cut_by(kernel: ContractKernel, extent: int, length: int) -> _Cut:
    parts, rest = divmod(extent, length)
    axis = parts_axis(kernel.k, parts)
    return _Cut((axis,), axis.index, parts, length, rest)


def _digits(kernel: ContractKernel) -> Digits:
    return split_digits(kernel.k.symbol, kernel.a, kernel.b)


def _should_split(kernel: ContractKernel, extent: int, results: int) -> bool:
    if results > _FEW_RESULTS and not _is_long_for(results, extent, kernel):
        return False
    if results >= _ROWS and _has_rows_along_k(kernel):
        return False
    return _is_strided(kernel, kernel.a, kernel.m) and _is_strided(kernel, kernel.b, kernel.n)


def _is_long_for(results: int, extent: int, kernel: ContractKernel) -> bool:
    """Whether parts of k, which need fewer panels than parts of m or n, are worth being added up."""
    enough = min(kernel.m.extent, kernel.n.extent) >= _ROWS
    lie_together = all(
        _is_along(kernel, side, row.symbol) or _is_along_k(kernel, side)
        for side, row in ((kernel.a, kernel.m), (kernel.b, kernel.n))
    )
    least = _LONG_FOR_SIDE if lie_together else _LONG_TO_GATHER
    return enough and results <= _MOST_RESULTS and extent >= least * isqrt(results)


def _cut_of_windows(kernel: ContractKernel, extent: int, results: int) -> _Cut | None:
    """Parts of a contraction with windows, of several steps of k's highest digit each; None: it is whole.

    Threads that share its results each copy what all of these read, unless there is a batch to share out.
    """
    batch = product(axis.extent for axis in kernel.batch)
    if results > _FEW_OF_WINDOWS or not isinstance(batch, int) or batch >= _PARTS:
        return None
    radices = _digits(kernel).radices
    if not radices or extent % radices[-1] or not _has_windows(kernel):
        return None
    steps = extent // radices[-1]
    length = -(-steps // _parts(steps, min(_PARTS, extent // _STEPS))) * radices[-1]
    return _cut_by(kernel, extent, length) if length < extent else None


def _parts(steps: int, wanted: int) -> int:
    """About as many parts as are wanted, of equal length where that is possible: else the last needs its own kernel."""
    near = range(-(-wanted * 2 // 3), wanted * 3 // 2 + 1)
    equal = [parts for parts in near if steps % parts == 0]
    return min(equal, key=lambda parts: max(parts / wanted, wanted / parts), default=wanted)


def _has_windows(kernel: ContractKernel) -> bool:
    """Whether steps of k and positions along n, or m, move along one dim of an operand, indexed by nothing computed."""
    sides = ((kernel.a, kernel.m), (kernel.b, kernel.n))
    if any(isinstance(e, Load) and e.bindings for side, _ in sides for e in walk(side)):
        return False
    return any(
        {kernel.k.symbol, axis.symbol}.issubset(symbols(d)) for side, axis in sides for d in expression_dims(side)
    )


def _has_rows_along_k(kernel: ContractKernel) -> bool:
    """Whether each result, or a few, is of a row of its own, contiguous along k: threads then take whole rows."""
    few, many = sorted((kernel.m, kernel.n), key=lambda axis: axis.extent)
    return few.extent <= _FEW_ROWS and _is_along_k(kernel, kernel.a if many is kernel.m else kernel.b)


def _is_along_k(kernel: ContractKernel, side: Expr) -> bool:
    """Whether neighbours along k are neighbours in memory."""
    return _is_along(kernel, side, _digits(kernel).lowest)


def _is_along(kernel: ContractKernel, side: Expr, symbol: Symbol) -> bool:
    """Whether neighbours along a row, or along k's lowest digit, are neighbours in memory."""
    load = _without_casts(side)
    if not isinstance(load, Load):
        return False
    place = substitute(load.buffer.offset(load.index), {kernel.k.symbol: _digits(kernel).value})
    return coefficient(place, symbol) == 1


def _without_casts(expr: Expr) -> Expr:
    while isinstance(expr, Compute) and expr.op.name == "cast":
        (expr,) = expr.operands
    return expr


def _is_strided(kernel: ContractKernel, side: Expr, row: Axis) -> bool:
    """Whether a part of k reads a part of the same array, with the same strides; windows have kernels of their own."""
    load, k, digits = _without_casts(side), kernel.k.symbol, _digits(kernel)
    if not isinstance(load, Load) or load.bindings or load.conditions:
        return False
    index = [substitute(d, {k: digits.value}) for d in load.index]
    strided = (digits.lowest, *digits.higher, row.symbol) if digits.radices else (k,)
    return all(isinstance(coefficient(d, symbol), int) for d in index for symbol in strided)


def _results(kernel: ContractKernel) -> tuple[Axis, Axis]:
    """m and n in the order in which partial sums lie: the lanes run along the last."""
    a, b = (kernel.m, kernel.a), (kernel.n, kernel.b)
    pays = _step_cost(kernel, b, a) * 8 < _step_cost(kernel, a, b) * 7  # it is put back when parts are added up
    return (kernel.n, kernel.m) if pays else (kernel.m, kernel.n)


def _step_cost(kernel: ContractKernel, a: tuple[Axis, Expr], b: tuple[Axis, Expr]) -> Dim:
    """Of one step of k, in vectors: what is multiplied, and elements of b that are neighbours along k, transposed."""
    vectors = -(-b[0].extent * kernel.accumulate.itemsize // _VECTOR)
    return a[0].extent * vectors + b[0].extent * _is_along_k(kernel, b[1])


def _partial(kernel: ContractKernel, store: Store, start: Dim, length: int) -> ContractKernel:
    """The `store` of sums over k from `start` on."""
    k = Axis(Symbol(kernel.k.symbol.name, 0, length - 1), length)
    values: dict[Symbol, Dim] = {kernel.k.symbol: start + k.index}
    a, b = (rebuild(side, values, {}, {}) for side in (kernel.a, kernel.b))
    return replace(kernel, k=k, a=a, b=b, outputs=(store.buffer,), epilogue=(store,))


def join_parts(
    kernel: ContractKernel | AttentionGradientKernel,
    part: Axis,
    buffer: Buffer,
    axes: tuple[Axis, ...],
    stores: tuple[Store, ...],
) -> LoopKernel:
    """What adds up the parts of a buffer, [part, *axes], and runs the `stores` of `kernel` on the sums."""
    at = (part.index, *(axis.index for axis in axes))
    total = Reduce("s0", "sum", Load(buffer, at), buffer.dtype, kernel.location)
    memo: dict[int, Expr] = {}
    joined = tuple(replace(s, value=_with_total(s.value, total, memo)) for s in stores)
    loops = (Loop((part,), (total,)), Loop((), joined))
    outputs = tuple(dict.fromkeys(s.buffer for s in stores))
    return LoopKernel(kernel.name, (), outputs, axes, loops, None, 1, kernel.location)


def _with_total(expr: Expr, total: Reduce, memo: dict[int, Expr]) -> Expr:
    """A stored expression with the joined sum for the accumulator."""

    def new(e: Expr) -> Expr:
        if isinstance(e, Accumulator):
            return converted(Reduced(total), e.dtype, total.location)
        if isinstance(e, Compute):
            return replace(e, operands=tuple(memo[id(o)] for o in e.operands))
        if isinstance(e, Load) and e.bindings:
            return replace(e, bindings=tuple((s, memo[id(v)], n) for s, v, n in e.bindings))
        return e

    return fold_up(expr, memo, new)
