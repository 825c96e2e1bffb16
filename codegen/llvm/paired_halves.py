"""bf16 two elements at a time: even ones in the lanes of one vector, odd ones in those of another.

A 32-bit word of memory is an even element below an odd one. Cleared below, it is the odd one as f32; moved up, the even
one. So no element crosses lanes on its way to f32 and back, as elements one behind the other do.
"""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.axes import expressions, statements
from tjit.codegen.kernel import Compute, Expr, Index, Load, LoopKernel, Store, walk
from tjit.codegen.llvm.accesses import LINE, store_at
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.vectors import I32
from tjit.dtypes import bf16
from tjit.ir.dims import Symbol, coefficient, symbols

__all__ = ["comes_in_pairs", "emit_pairs"]

# with tables: LLVM mixes the code of two vectors, and would spill
_FILLS_REGISTERS = frozenset({"asinh", "erf", "erfinv", "tanh"})


def comes_in_pairs(kernel: LoopKernel) -> bool:
    """Whether all that differs along the lanes is read and written as bf16, element by element."""
    vector = kernel.vector
    if vector is None or kernel.parallel[-1:] != (vector,) or kernel.cross is not None or kernel.beyond:
        return False
    if len(kernel.loops) != 1 or kernel.loops[0].axes:
        return False
    dense = all(isinstance(s, Store) and _is_dense(s, vector.symbol) for s in statements(kernel))
    return dense and all(_is_paired(e, vector.symbol) for e in expressions(kernel))


def _is_dense(access: Load | Store, lane: Symbol) -> bool:
    """Whether it is of one bf16 behind the other along the lanes."""
    return access.buffer.dtype is bf16 and coefficient(access.buffer.offset(access.index), lane) == 1


def _is_paired(expr: Expr, lane: Symbol) -> bool:
    """Whether an expression is the same in all lanes, a dense load, or follows from what it is of."""
    if isinstance(expr, Compute):
        return expr.op.name not in _FILLS_REGISTERS
    if isinstance(expr, Index):
        return lane not in symbols(expr.value)
    if not isinstance(expr, Load):
        return True
    if expr.bindings or expr.conditions:
        return False
    return _is_dense(expr, lane) or not any(lane in symbols(d) for d in expr.index)


def emit_pairs(kernel: LoopKernel, even: ExprEmitter, odd: ExprEmitter) -> None:
    """All stores of a kernel that `comes_in_pairs`, for the elements that begin where both emitters are."""
    assert kernel.vector is not None
    lane, known = kernel.vector.symbol, set[int]()
    for store in statements(kernel):  # in order, since a store may write over what was to be read before
        assert isinstance(store, Store)
        for expr in walk(store.value, known):
            if isinstance(expr, Load) and _is_dense(expr, lane):
                _know(expr, even, odd)
        _store(store, even, odd)


def _know(load: Load, even: ExprEmitter, odd: ExprEmitter) -> None:
    """Give both emitters their elements of the words of `load`."""
    b, kind = even.b, ir.VectorType(I32, even.lanes.width)
    words = b.load(even.address(load), typ=kind, align=bf16.itemsize)
    for emitter, value in (even, b.shl(words, _each(even, 16))), (odd, b.and_(words, _each(odd, 0xFFFF0000))):
        emitter.know(load, Lane(emitter.scalars.f32.from_bits(value), bf16, rounded=True))


def _store(store: Store, even: ExprEmitter, odd: ExprEmitter) -> None:
    b = even.b
    low, high = (
        e.scalars.f32.to_bits(e.scalars.rounded(e.scalars.cast(e.emit(store.value), bf16)).value) for e in (even, odd)
    )
    words, past = b.or_(high, b.lshr(low, _each(even, 16))), even.past_caches and store.past_caches
    align = min(even.lanes.width * I32.width // 8, LINE) if past else bf16.itemsize
    store_at(b, words, even.address(store), align, past_caches=past)


def _each(emitter: ExprEmitter, bits: int) -> ir.Value:
    return emitter.scalars.f32.iconst(bits)
