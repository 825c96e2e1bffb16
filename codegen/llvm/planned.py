"""Plans of contractions, made once for kernels that differ in their name and their tasks alone.

The scheduler asks for a contraction's tasks before it names it, and no plan depends on either.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import lru_cache
from operator import attrgetter
from typing import TYPE_CHECKING, TypeVar

from tjit.codegen.kernel import ContractKernel
from tjit.codegen.llvm.target import Target

if TYPE_CHECKING:
    from tjit.codegen.llvm.contract_plan import Plan
    from tjit.codegen.llvm.window_plan import WindowPlan

__all__ = ["once_a_kernel"]

P = TypeVar("P", "Plan", "WindowPlan | None")

_parts = attrgetter(*(field.name for field in fields(ContractKernel) if field.name not in ("name", "tasks")))


class _Unnamed:
    """A kernel, equal to those made of the same objects but for name and tasks."""

    def __init__(self, kernel: ContractKernel) -> None:
        self.kernel = kernel
        self.parts = tuple(map(id, _parts(kernel)))  # of what the kernel keeps alive

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Unnamed) and self.parts == other.parts

    def __hash__(self) -> int:
        return hash(self.parts)


def once_a_kernel(plan: Callable[[ContractKernel, Target], P]) -> Callable[[ContractKernel, Target], P]:
    """`plan`, whose results for the last kernels are kept."""

    @lru_cache(maxsize=8)
    def known(unnamed: _Unnamed, target: Target) -> P:
        return plan(unnamed.kernel, target)

    @lru_cache(maxsize=8)
    def planned(kernel: ContractKernel, target: Target) -> P:
        found = known(_Unnamed(kernel), target)
        if found is None:
            return found
        return replace(found, kernel=replace(found.kernel, name=kernel.name, tasks=kernel.tasks))

    return planned
