"""Cut a contraction of few results over a long k into parts, so that all threads take part.

Like `split_reduction`, the cut depends on shapes only: the bits of the result do not depend on the threads.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from tjit.codegen.axes import rebuild
from tjit.codegen.digits import expression_dims, split_digits
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
    fold_up,
    walk,
)
from tjit.codegen.split import parts_axis
from tjit.ir.dims import Dim, Symbol, coefficient, product, symbols
from tjit.ir.op import OPS
from tjit.ir.types import TensorType

__all__ = ["join_parts", "split_contraction"]

_FEW_RESULTS = 64 * 64
_FEW_OF_WINDOWS = 10 * _FEW_RESULTS
_LONG = 4096  # steps of k
_WORK = 1 << 19  # multiplications: less is done sooner than shared
_PARTS = 16
_STEPS = 1024  # of a part at least
_ROWS = 32  # enough for all threads
_FEW_ROWS = 4  # of the other operand


def split_contraction(
    kernel: ContractKernel, new_buffer: Callable[[TensorType], Buffer]
) -> tuple[list[ContractKernel], LoopKernel] | None:
    """Kernels of partial sums and the one that adds them up and runs the epilogue; None: `kernel` is left as it is.

    k is cut into equal parts, which are one kernel with a batch axis more, and a rest shorter than one of them.
    """
    extent = kernel.k.extent
    if not isinstance(extent, int) or extent < _LONG:
        return None
    most = min(_PARTS, extent // _STEPS)
    length = extent // most if _should_split(kernel, extent) else _part_of_windows(kernel, extent, most)
    if length is None:
        return None
    parts, rest = divmod(extent, length)
    shape = (parts + (rest > 0), *(axis.extent for axis in (*kernel.batch, kernel.m, kernel.n)))
    buffer = new_buffer(TensorType(kernel.accumulate, shape))
    part = parts_axis(kernel.k, parts)
    kernels = [_partial(replace(kernel, batch=(part, *kernel.batch)), buffer, part.index, part.index * length, length)]
    if rest:
        kernels.append(_partial(kernel, buffer, parts, parts * length, rest))
    axes = (*kernel.batch, kernel.m, kernel.n)
    return kernels, join_parts(kernel, parts_axis(kernel.k, shape[0]), buffer, axes, kernel.epilogue)


def _should_split(kernel: ContractKernel, extent: int) -> bool:
    results = product(axis.extent for axis in (*kernel.batch, kernel.m, kernel.n))
    if not isinstance(results, int) or results > _FEW_RESULTS or results * extent < _WORK:
        return False
    if results >= _ROWS and _has_rows_along_k(kernel):
        return False
    return all(_is_strided(side, kernel.k.symbol) for side in (kernel.a, kernel.b))


def _part_of_windows(kernel: ContractKernel, extent: int, most: int) -> int | None:
    """Steps of k in one of `most` parts of a contraction with windows, values of its highest digit; None: it is whole.

    Threads that share its results each copy what all of these read, unless there is a batch to share out.
    """
    batch = product(axis.extent for axis in kernel.batch)
    results = batch * kernel.m.extent * kernel.n.extent
    if not isinstance(results, int) or results > _FEW_OF_WINDOWS or results * extent < _WORK:
        return None
    if not isinstance(batch, int) or batch >= _PARTS:
        return None
    digits = split_digits(kernel.k.symbol, kernel.a, kernel.b)
    if not digits.radices or extent % digits.radices[-1] or not _has_windows(kernel):
        return None
    unit = digits.radices[-1]
    length = -(-(extent // unit) // most) * unit
    return length if length < extent else None


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
    side = kernel.a if many is kernel.m else kernel.b
    while isinstance(side, Compute) and side.op.name == "cast":
        (side,) = side.operands
    if not isinstance(side, Load) or few.extent > _FEW_ROWS:
        return False
    return coefficient(side.buffer.offset(side.index), kernel.k.symbol) == 1


def _is_strided(expr: Expr, k: Symbol) -> bool:
    """Whether a part of k reads a part of the same array, with the same strides."""
    while isinstance(expr, Compute) and expr.op.name == "cast":
        (expr,) = expr.operands
    if not isinstance(expr, Load) or expr.bindings or expr.conditions:
        return False
    return all(isinstance(coefficient(d, k), int) for d in expr.index)


def _partial(kernel: ContractKernel, buffer: Buffer, part: Dim, start: Dim, length: int) -> ContractKernel:
    """The sums over k from `start` on, into place `part` of the buffer."""
    k = Axis(Symbol(kernel.k.symbol.name, 0, length - 1), length)
    values: dict[Symbol, Dim] = {kernel.k.symbol: start + k.index}
    own = [axis.index for axis in (*kernel.batch, kernel.m, kernel.n)]
    results = own[-(len(buffer.shape) - 1) :]
    store = Store(buffer, (part, *results), Accumulator(kernel.accumulate), kernel.location)
    a, b = (rebuild(side, values, {}, {}) for side in (kernel.a, kernel.b))
    return replace(kernel, k=k, a=a, b=b, outputs=(buffer,), epilogue=(store,))


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
            whole = Reduced(total)
            if e.dtype is total.dtype:
                return whole
            return Compute(OPS["cast"], (whole,), (("dtype", e.dtype),), e.dtype, total.location)
        if isinstance(e, Compute):
            return replace(e, operands=tuple(memo[id(o)] for o in e.operands))
        if isinstance(e, Load) and e.bindings:
            return replace(e, bindings=tuple((s, memo[id(v)], n) for s, v, n in e.bindings))
        return e

    return fold_up(expr, memo, new)
