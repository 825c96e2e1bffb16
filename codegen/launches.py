"""Which steps share a fork-join: neighbours, none of which reads or writes what another one writes.

An optimizer's kernels, one a parameter, are the case in mind: by themselves most are too short for threads.
"""

from __future__ import annotations

from collections.abc import Sequence

from tjit.codegen.axes import TASK_COST, expressions, work
from tjit.codegen.kernel import Load, LoopKernel
from tjit.codegen.steps import AnyStep, Placed, Step, touched

__all__ = ["join_steps", "launches"]

_MOST_TASKS = 4096  # of a launch: each is a row of a table
_LARGE = 1 << 20  # bytes of a temp: the steps of a launch cannot use one memory one after the other


def join_steps(steps: Sequence[AnyStep]) -> None:
    """Mark the steps that share a fork-join with the step before them, where all together are worth one."""
    launch: list[Step] = []
    for step in steps:
        if not (isinstance(step, Step) and _may_join(step)):
            _close(launch)
            launch = []
        elif launch and not _waits(step, launch) and _tasks([*launch, step]) <= _MOST_TASKS:
            launch.append(step)
        else:
            _close(launch)
            launch = [step]
    _close(launch)


def launches(steps: Sequence[AnyStep]) -> list[list[AnyStep]]:
    """The steps, those that share a fork-join together."""
    found: list[list[AnyStep]] = []
    for step in steps:
        if isinstance(step, Step) and step.joined:
            found[-1].append(step)
        else:
            found.append([step])
    return found


def _may_join(step: Step) -> bool:
    """Whether all that counts of a step is known, it cannot fail, and it is no user of much memory."""
    kernel = step.kernel
    if not isinstance(kernel, LoopKernel) or not isinstance(kernel.tasks, int) or not isinstance(work(kernel), int):
        return False
    if any(isinstance(e, Load) and e.bindings for e in expressions(kernel)):
        return False
    return all(p.kind != "heap" and not _is_large_temp(p) for p in touched(step))


def _is_large_temp(placed: Placed) -> bool:
    nbytes = placed.type.nbytes
    return placed.kind == "temp" and (not isinstance(nbytes, int) or nbytes > _LARGE)


def _waits(step: Step, launch: Sequence[Step]) -> bool:
    """Whether a step has to wait for one of the others, or would write what one of them reads."""
    writes = _written(step)
    return any(not writes.isdisjoint(touched(o)) or not _written(o).isdisjoint(touched(step)) for o in launch)


def _written(step: Step) -> set[Placed]:
    outputs = set(map(id, step.kernel.outputs))
    return {p for b, p in zip(step.kernel.buffers, step.arguments, strict=True) if id(b) in outputs}


def _tasks(launch: Sequence[Step]) -> int:
    return sum(k.tasks for k in _kernels(launch) if isinstance(k.tasks, int))


def _kernels(launch: Sequence[Step]) -> list[LoopKernel]:
    return [step.kernel for step in launch if isinstance(step.kernel, LoopKernel)]


def _close(launch: Sequence[Step]) -> None:
    costs = [cost for kernel in _kernels(launch) if isinstance(cost := work(kernel), int)]
    if len(launch) > 1 and sum(costs) >= 2 * TASK_COST:
        for step in launch[1:]:
            step.joined = True
