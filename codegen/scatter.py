"""Choices about a scatter's axes: which one is the lanes, which one tasks share."""

from __future__ import annotations

from dataclasses import replace

from tjit.codegen.kernel import Axis, ScatterKernel, varies
from tjit.ir.dims import coefficient, is_one, maximum, minimum, product

__all__ = ["arrange_scatter", "keeps_apart"]

_TASK_POINTS = 16384
_MOST_TASKS = 64
_LINE = 64  # elements: tasks that share an axis of neighbours meet in no line of a cache


def keeps_apart(kernel: ScatterKernel, axis: Axis) -> bool:
    """Whether points that differ in `axis` are sure to be different elements."""
    return any(isinstance(d - axis.index, int) for d in kernel.index) and not any(s == 0 for s in kernel.target.strides)


def arrange_scatter(kernel: ScatterKernel) -> ScatterKernel:
    """Choose lanes and tasks among the axes that keep points apart: the order in each element stays as it is."""
    apart = [axis for axis in kernel.axes if keeps_apart(kernel, axis)]
    vector = next((axis for axis in reversed(apart) if _is_line(kernel, axis)), None)
    if not apart:
        return kernel
    shared = max(apart, key=lambda axis: axis.extent if isinstance(axis.extent, int) else _MOST_TASKS)
    units = (shared.extent + (_LINE - 1)) // _LINE if shared is apart[-1] else shared.extent
    work = product(axis.extent for axis in kernel.axes) // _TASK_POINTS
    tasks = maximum(1, minimum(minimum(units, _MOST_TASKS), work))
    return replace(kernel, shared=shared, vector=vector, tasks=tasks)


def _is_line(kernel: ScatterKernel, axis: Axis) -> bool:
    """Whether points along `axis` are neighbours in the target, and are so for one value of each binding."""
    if is_one(axis.extent):
        return False
    memo: dict[int, bool] = {}
    picked = any(varies(value, frozenset((axis.symbol,)), memo) for _, value, _ in kernel.bindings)
    return not picked and coefficient(kernel.target.offset(kernel.index), axis.symbol) == 1
