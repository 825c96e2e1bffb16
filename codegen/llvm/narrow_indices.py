"""Indices as narrow as what they are computed from: more of them fit a vector, and bytes need no check.

where(cast(i, i64) < 0, cast(i, i64) + 256, cast(i, i64)), of i: u8, is i
"""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.kernel import Compute, Const, Expr, Load, LoopKernel, Reduced, Scanned, Store, fold_up, walk
from tjit.dtypes import DType, i64, iinfo

__all__ = ["narrow_index", "with_narrow_indices"]


def with_narrow_indices(kernel: LoopKernel) -> LoopKernel:
    """The kernel with every index that a load binds as narrow as can be. Only of kernels of stores alone."""
    stores = [s for loop in kernel.loops for s in loop.body if isinstance(s, Store)]
    seen: set[int] = set()
    bound = [v for s in stores for e in walk(s.value, seen) if isinstance(e, Load) for _, v, _ in e.bindings]
    if len(stores) < sum(len(loop.body) for loop in kernel.loops) or all(narrow_index(v) is v for v in bound):
        return kernel
    memo: dict[int, Expr] = {}

    def new(e: Expr) -> Expr:
        if isinstance(e, Compute):
            return replace(e, operands=tuple(memo[id(o)] for o in e.operands))
        if isinstance(e, Load) and e.bindings:
            return replace(e, bindings=tuple((s, narrow_index(memo[id(v)]), n) for s, v, n in e.bindings))
        assert not isinstance(e, (Reduced, Scanned))
        return e

    loops = (
        replace(x, body=tuple(replace(s, value=fold_up(s.value, memo, new)) for s in x.body)) for x in kernel.loops
    )
    return replace(kernel, loops=tuple(loops))


def narrow_index(index: Expr) -> Expr:
    """An expression of a narrower integer dtype that is the same number; `index` if none is found."""
    plain = _uncast(index)
    if plain is not None:
        return plain
    if not isinstance(index, Compute) or index.op.name != "where":
        return index
    below, wrapped, same = index.operands
    plain = _uncast(same)
    if plain is None or not (isinstance(below, Compute) and isinstance(wrapped, Compute)):
        return index
    size = wrapped.operands[-1]
    if not _is(below, "lt", same, 0) or not (isinstance(size, Const) and _is(wrapped, "add", same, size.value)):
        return index
    dtype = plain.dtype
    if not dtype.is_signed:
        return plain
    if not 0 <= size.value <= iinfo(dtype).max:
        return index
    compared = replace(below, operands=(plain, Const(0, dtype)))
    moved = replace(wrapped, operands=(plain, Const(size.value, dtype)), dtype=dtype)
    return replace(index, operands=(compared, moved, plain), dtype=dtype)


def _uncast(expr: Expr) -> Expr | None:
    """What is cast to i64 from fewer digits; None for what is no such cast."""
    if not isinstance(expr, Compute) or expr.op.name != "cast" or expr.dtype is not i64:
        return None
    (plain,) = expr.operands
    return plain if _is_narrow(plain.dtype) else None


def _is_narrow(dtype: DType) -> bool:
    return dtype.kind == "int" and dtype.itemsize < i64.itemsize


def _is(expr: Compute, name: str, operand: Expr, value: object) -> bool:
    """Whether it is the op of that name, of that operand and that constant."""
    first, second = expr.operands
    return expr.op.name == name and first is operand and isinstance(second, Const) and second.value == value
