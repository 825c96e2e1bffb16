"""Kernels that sort rows."""

from __future__ import annotations

from collections.abc import Callable

from tjit.codegen.expander import BufferOf, Expander
from tjit.codegen.items import Group, Program
from tjit.codegen.kernel import Axis, Local, SortKernel, Store
from tjit.dtypes import i64
from tjit.ir.graph import Value

__all__ = ["build_sort"]


def build_sort(
    program: Program, group: Group, buffer_of: BufferOf, store_to: BufferOf, needed: Callable[[Value], bool], name: str
) -> SortKernel:
    """The kernel of a sort: only of the results that something needs."""
    (item,) = group.items
    node, dim = item.node, item.node.attrs["dim"]
    (x,) = node.operands
    shape = x.type.shape
    row = Axis(program.named("r0", shape[dim]), shape[dim])
    others = [d for d in range(len(shape)) if d != dim]
    parallel = tuple(Axis(program.named(f"p{n}", shape[d]), shape[d]) for n, d in enumerate(others))
    index = [a.index for a in parallel]
    index.insert(dim, row.index)
    value = Expander(program, buffer_of).number(x, tuple(index))
    element, place = Local("element", value.dtype), Local("place", i64)
    stores = tuple(
        Store(store_to(result), tuple(index), local, node.location)
        for result, local in zip(node.results, (element, place), strict=True)
        if needed(result)
    )
    outputs = tuple(s.buffer for s in stores)
    descending, count = node.attrs["descending"], node.attrs["count"]
    return SortKernel(
        name, (), outputs, parallel, row, value, descending, count, element, place, stores, location=node.location
    )
