"""Tables in memory that fit in registers: what each lane picks of them is one permutation for two registers of entries.

    parallel (p0: 1048576) tasks 64 vector p0
      b2[p0] = (b1[g1] at g1=b0[p0] in 256)

A lane by itself costs a load, and two steps to take its index out of a vector and to put the element into one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import llvmlite.ir as ir

from tjit.codegen.kernel import Load, LoopKernel, Store, varies, walk
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import declare, i64, lanes_below, masked_load, numbers, poison, zeros
from tjit.dtypes import DType
from tjit.ir.dims import Symbol

__all__ = ["Key", "load_tables", "lookup", "table_key", "tables_of"]

_BITS = 512  # of a register
_MOST = {1: 4, 2: 8, 4: 16, 8: 8}  # registers of a table, by the bytes of an entry: beyond, loads are as fast
_NAMES = {8: "qi", 16: "hi", 32: "d", 64: "q"}

Key = tuple[str, int]  # of a table: its buffer's name, and its entries


def tables_of(kernel: LoopKernel, target: Target) -> dict[Key, DType]:
    """The dtypes of the tables that are kept in registers."""
    if target.architecture != "x86_64" or 8 * target.vector_bytes != _BITS or kernel.vector is None:
        return {}
    stored = {s.buffer.name for loop in kernel.loops for s in loop.body if isinstance(s, Store)}
    seen: set[int] = set()
    exprs = [e for loop in kernel.loops for s in loop.body for e in walk(s.value, seen)]
    loads = [e for e in exprs if isinstance(e, Load) and _differs(e, kernel.vector.symbol)]
    found = {key: e.dtype for e in loads if (key := table_key(e)) and key[0] not in stored and _fits(key, e, target)}
    used = sum(_registers(entries, dtype) for (_, entries), dtype in found.items())
    return found if used <= max(_MOST.values()) else {}


def table_key(load: Load) -> Key | None:
    """What names the table whose entry a load picks; None: it picks none of one dim."""
    if len(load.bindings) != 1 or load.buffer.row:
        return None
    ((symbol, _, extent),) = load.bindings
    if not isinstance(extent, int) or extent < 1 or load.buffer.offset(load.index) != symbol.dim:
        return None
    return load.buffer.name, extent


def _fits(key: Key, load: Load, target: Target) -> bool:
    if load.dtype.kind == "bool" or (load.dtype.itemsize == 1 and not target.has("avx512vbmi")):
        return False
    return _registers(key[1], load.dtype) <= _MOST[load.dtype.itemsize]


def _registers(entries: int, dtype: DType) -> int:
    return -(-entries * dtype.itemsize * 8 // _BITS)


def _differs(load: Load, lanes: Symbol) -> bool:
    """Whether each lane has an index of its own."""
    return any(varies(value, frozenset({lanes}), {}) for _, value, _ in load.bindings)


def load_tables(
    b: ir.IRBuilder, tables: Mapping[Key, DType], pointers: Mapping[str, ir.Value]
) -> dict[Key, list[ir.Value]]:
    """The registers of each table, as integers; beyond a table's end they are 0."""
    return {key: _loaded(b, pointers[key[0]], key[1], dtype.itemsize) for key, dtype in tables.items()}


def _loaded(b: ir.IRBuilder, pointer: ir.Value, entries: int, size: int) -> list[ir.Value]:
    kind = ir.VectorType(ir.IntType(8 * size), _BITS // 8 // size)
    found = []
    for first in range(0, entries, kind.count):
        at = b.gep(pointer, [i64(first)], source_etype=kind.element)
        if entries - first >= kind.count:
            found.append(b.load(at, typ=kind, align=size))
        else:
            found.append(masked_load(b, at, lanes_below(b, i64(entries - first), kind.count), kind, size))
    return found


def lookup(b: ir.IRBuilder, table: Sequence[ir.Value], index: ir.Value) -> ir.Value:
    """The entries of a table that the lanes' indices count, all of them inside of it; as integers."""
    kind = table[0].type
    count, lanes = index.type.count, kind.count
    if index.type.element.width != kind.element.width:
        change = b.trunc if index.type.element.width > kind.element.width else b.zext
        index = change(index, ir.VectorType(kind.element, count))
    parts = []
    for first in range(0, count, lanes):
        places = tuple(min(i, count - 1) for i in range(first, first + lanes))
        part = index if count == lanes else b.shuffle_vector(index, poison(index.type), numbers(places))
        parts.append(_found(b, table, part))
    while len(parts) > 1:
        both = tuple(range(2 * parts[0].type.count))
        parts = [b.shuffle_vector(x, y, numbers(both)) for x, y in zip(parts[::2], parts[1::2], strict=True)]
    whole = parts[0]
    return whole if whole.type.count == count else b.shuffle_vector(whole, poison(whole.type), numbers(range(count)))


def _found(b: ir.IRBuilder, table: Sequence[ir.Value], index: ir.Value) -> ir.Value:
    """The entries for one register of indices: of two registers by permutation, then by the higher bits."""
    kind = table[0].type
    name = _NAMES[kind.element.width]
    if len(table) == 1:
        name = {"d": "si", "q": "di"}.get(name, name)
        function = declare(b, f"llvm.x86.avx512.permvar.{name}.512", ir.FunctionType(kind, [kind, kind]))
        return b.call(function, [table[0], index])
    function = declare(b, f"llvm.x86.avx512.vpermi2var.{name}.512", ir.FunctionType(kind, [kind] * 3))
    pairs = [(table[i], table[min(i + 1, len(table) - 1)]) for i in range(0, len(table), 2)]
    parts = [b.call(function, [low, index, high]) for low, high in pairs]
    bit = 2 * kind.count
    while len(parts) > 1:
        mask = ir.Constant(kind, [bit] * kind.count)
        upper = b.icmp_unsigned("!=", b.and_(index, mask), zeros(kind))
        parts = [b.select(upper, parts[min(i + 1, len(parts) - 1)], parts[i]) for i in range(0, len(parts), 2)]
        bit *= 2
    return parts[0]
