"""Whether a kernel may write over memory that it reads."""

from __future__ import annotations

from collections.abc import Iterator

from tjit.codegen.kernel import Axis, Buffer, ContractKernel, Expr, Kernel, Load, LoopKernel, Store, walk
from tjit.ir.dims import Dim, Symbol, coefficient, is_one, symbols

__all__ = ["reads_what_it_overwrites"]


def reads_what_it_overwrites(kernel: Kernel, buffer: Buffer) -> bool:
    """Whether some read of `buffer` could see what the kernel itself has written there.

    A read is safe at the very element that its statement, or a later one of the same loop, writes; and in an earlier
    loop, within the same parallel point, which must own what it writes. Several stores, which fusion takes together
    only where they write apart, leave no read safe.
    """
    if isinstance(kernel, ContractKernel):
        return _contract(kernel, buffer)
    if not isinstance(kernel, LoopKernel):
        return True
    stores = [(n, s) for n, loop in enumerate(kernel.loops) for s in loop.body if isinstance(s, Store)]
    written = [(n, s) for n, s in stores if _writes(s, buffer)]
    if not written:
        return False
    (at, store), *others = written
    inside = {a.symbol for loop in kernel.loops for a in loop.axes}
    if not all(_owns(s, kernel.parallel, inside) for _, s in written):
        return True
    if others:
        seen: set[int] = set()
        return any(True for loop in kernel.loops for s in loop.body for _ in _loads(s.value, buffer, seen))
    return any(_unsafe(kernel, at, store, buffer))


def _writes(store: Store, buffer: Buffer) -> bool:
    return store.buffer.name == buffer.name


def _owns(store: Store, parallel: tuple[Axis, ...], inside: set[Symbol]) -> bool:
    """Whether every parallel point writes elements of its own: each axis moves an index that no other axis moves."""
    moving = {a.symbol for a in parallel} | inside
    alone = {
        found[0]
        for d in store.index
        if len(found := [s for s in symbols(d) if s in moving]) == 1 and _steps(d, found[0])
    }
    return all(a.symbol in alone or is_one(a.extent) for a in parallel)


def _steps(d: Dim, symbol: Symbol) -> bool:
    """Whether `d` differs wherever the symbol does."""
    k = coefficient(d, symbol)
    return isinstance(k, int) and k != 0


def _unsafe(kernel: LoopKernel, at: int, store: Store, buffer: Buffer) -> Iterator[bool]:
    points = {a.symbol for a in kernel.parallel}
    for n, loop in enumerate(kernel.loops):
        seen: set[int] = set()
        stored = False
        for statement in loop.body:
            before = set(seen)
            for load in _loads(statement.value, buffer, seen):
                if n > at:
                    yield True
                elif n < at:
                    yield not _same_point(load, store, points)
                else:
                    yield not _same_element(load, store) or (stored and id(load) not in before)
            stored = stored or statement is store


def _loads(expr: Expr, buffer: Buffer, seen: set[int]) -> Iterator[Load]:
    for e in walk(expr, seen):
        if isinstance(e, Load) and e.buffer.name == buffer.name:
            yield e


def _same_element(load: Load, store: Store) -> bool:
    plain = not load.bindings and not load.conditions
    return plain and load.buffer.offset(load.index) == store.buffer.offset(store.index)


def _same_point(load: Load, store: Store, points: set) -> bool:
    """Whether a read touches only what the parallel point itself writes."""
    if load.bindings or load.buffer is not store.buffer:
        return _same_element(load, store)
    return all(not _mentions(w, points) or r == w for r, w in zip(load.index, store.index, strict=True))


def _mentions(d: Dim, points: set) -> bool:
    return any(s in points for s in symbols(d))


def _contract(kernel: ContractKernel, buffer: Buffer) -> bool:
    stores = [s for s in kernel.epilogue if _writes(s, buffer)]
    if not stores:
        return False
    operands = [*_loads(kernel.a, buffer, set()), *_loads(kernel.b, buffer, set())]
    if not operands and not any(list(_loads(store.value, buffer, set())) for store in kernel.epilogue):
        return False
    if operands or len(stores) > 1 or not _owns(stores[0], (*kernel.batch, kernel.m, kernel.n), set()):
        return True
    stored, seen = False, set[int]()
    for store in kernel.epilogue:
        before = set(seen)
        for load in _loads(store.value, buffer, seen):
            if not _same_element(load, stores[0]) or (stored and id(load) not in before):
                return True
        stored = stored or store is stores[0]
    return False
