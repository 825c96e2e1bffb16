"""Which steps share a fork-join: neighbours side by side, or in a chain, part by part (docs/design/0011).

An optimizer's kernels, one a parameter, are the case in mind where no step waits for another: by themselves most are
too short for threads. Layers of a network are that of a chain: what becomes of a sample waits for no other sample.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Sequence
from functools import lru_cache
from math import gcd

from tjit.codegen.axes import TASK_COST, expressions, work
from tjit.codegen.grids import Slabs
from tjit.codegen.kernel import Attention, ContractKernel, Kernel, Load, LoopKernel
from tjit.codegen.steps import AnyStep, Placed, Step, touched
from tjit.dtypes import DType
from tjit.ir.dims import product

__all__ = ["join_steps", "launches"]

_MOST_TASKS = 4096  # of a launch: each is a row of a table
_LARGE = 1 << 20  # bytes of a temp: the steps of a launch cannot use one memory one after the other
_MOST_TEMPS = 4 << 20  # bytes of all of a chain's temps
_MOST_PARTS = 64
_ODD = 6  # parts: of fewer that are odd, one of two threads has much more than the other
_READ_BY_ALL = 1 << 20  # bytes that each part of a step reads: of more, the caches keep too little from part to part
_FLOPS = 25  # of a contraction, as long as a unit of `work`


def join_steps(
    steps: Sequence[AnyStep], slabs: Callable[[Kernel], Slabs], temps: Collection[Placed] = frozenset()
) -> None:
    """Mark the steps that share a fork-join with the step before them, where all together are worth one.

    Args:
        slabs: what the tasks of a kernel touch.
        temps: buffers that may lie anywhere: those of a chain take each other's memory.
    """
    users = Counter(p for step in steps for p in set(touched(step)))
    launch: _SideBySide | _Chain | None = None
    for step in (*steps, None):
        if isinstance(step, Step) and launch is not None and (longer := launch.extended(step)) is not None:
            launch = longer
            continue
        if launch is not None:
            launch.close()
        if isinstance(launch, _Chain) and launch.steps[0].chain:
            launch.share_memory({p for p in temps if p in launch.touched and users[p] == len(launch.touched[p][1])})
        launch = _SideBySide(step, slabs) if isinstance(step, Step) else None


def launches(steps: Sequence[AnyStep]) -> list[list[AnyStep]]:
    """The steps, those that share a fork-join together."""
    found: list[list[AnyStep]] = []
    for step in steps:
        if isinstance(step, Step) and step.joined:
            found[-1].append(step)
        else:
            found.append([step])
    return found


class _SideBySide:
    """Steps of which none waits for another; one alone may be any step, and become a chain."""

    def __init__(self, step: Step, slabs: Callable[[Kernel], Slabs]) -> None:
        self.slabs = slabs
        self.steps = [step]
        self.may_join = _may_join(step, slabs)
        self.touched, self.written = set(touched(step)), _written(step)
        self.tasks = _tasks(step)

    def extended(self, step: Step) -> _SideBySide | _Chain | None:
        """The launch with one more step; None: that cannot be."""
        tasks = self.tasks + _tasks(step)
        if self.may_join and _may_join(step, self.slabs) and not self._is_before(step) and tasks <= _MOST_TASKS:
            self.steps.append(step)
            self.touched.update(touched(step))
            self.written.update(_written(step))
            self.tasks = tasks
            return self
        if len(self.steps) > 1 or gcd(*(self.slabs(s.kernel).pieces for s in (*self.steps, step))) < 2:
            return None
        first = _Chain(self.slabs).extended(self.steps[0])
        return None if first is None else first.extended(step)

    def _is_before(self, step: Step) -> bool:
        """Whether a step has to wait for one of these, or would write what one of them reads."""
        return not (self.touched.isdisjoint(_written(step)) and self.written.isdisjoint(touched(step)))

    def close(self) -> None:
        if (
            len(self.steps) > 1
            and sum(_cost(self.slabs(step.kernel).kernel) or 0 for step in self.steps) >= 2 * TASK_COST
        ):
            for step in self.steps[1:]:
                step.joined = True


class _Chain:
    """Steps that are cut into the same parts.

    Attributes:
        pieces: any divisor of it is a number of such parts.
        touched: for each buffer that a step touches, how many slabs all of these walk together, and who writes it.
    """

    def __init__(self, slabs: Callable[[Kernel], Slabs]) -> None:
        self.slabs = slabs
        self.steps: list[Step] = []
        self.cost = 0
        self.pieces = 0
        self.touched: dict[Placed, tuple[int, set[Step], bool]] = {}

    def extended(self, step: Step) -> _Chain | None:
        """This chain with one more step, or None, with what it was before."""
        slabs = self.slabs(step.kernel)
        cost = _cost(slabs.kernel)
        if cost is None or gcd(self.pieces, slabs.pieces) < 2 or not all(map(_is_known, touched(step))):
            return None
        longer = _Chain(self.slabs)
        longer.steps, longer.cost = [*self.steps, step], self.cost + cost
        longer.touched = {**self.touched, **_touched_with(step, slabs, self.touched)}
        shared = (n for n, users, written in longer.touched.values() if written and len(users) > 1)
        longer.pieces = gcd(self.pieces, slabs.pieces, *shared)
        if longer.parts < 2 or longer._temps() > _MOST_TEMPS or _read_by_all(step, slabs) > _READ_BY_ALL:
            return None
        return longer

    @property
    def parts(self) -> int:
        """How many, each of them worth a task; 1: there is no such number."""
        most = max(2, min(_MOST_PARTS, int(self.cost / TASK_COST)))
        found = [n for n in range(2, most + 1) if self.pieces % n == 0]
        return max(found, key=lambda n: (n % 2 == 0 or n > _ODD, n), default=1)

    def _temps(self) -> int:
        return sum(_bytes(p) for p in self.touched if p.kind == "temp")

    def close(self) -> None:
        if len(self.steps) < 2 or self.cost < 2 * TASK_COST:
            return
        scratch = max((s.scratch for s in self.steps if s.scratch is not None), key=_bytes, default=None)
        for n, step in enumerate(self.steps):
            step.joined, step.chain = n > 0, self.parts
            step.scratch = None if step.scratch is None else scratch  # one after the other

    def share_memory(self, own: Collection[Placed]) -> None:
        """Have temps of one size take the memory of those that no later step of the chain touches.

        Part t of one is then part t of the other, which the same thread has done with. `own`: temps of this chain.
        """
        parts = self.parts
        apart = {p for p in own if self.touched[p][0] % parts == 0}
        last = {p: step for step in self.steps for p in step.arguments}
        free: dict[tuple[DType, int], list[Placed]] = {}
        home: dict[Placed, Placed] = {}
        for step in self.steps:
            found = [p for p in dict.fromkeys(step.arguments) if p in apart]
            for p in found:
                if p not in home:
                    others = free.get((p.type.dtype, _bytes(p)))
                    home[p] = others.pop() if others else p
            for p in found:
                if last[p] is step:
                    free.setdefault((p.type.dtype, _bytes(p)), []).append(home[p])
        for step in self.steps:
            step.arguments = tuple(home.get(p, p) for p in step.arguments)


def _touched_with(
    step: Step, slabs: Slabs, known: dict[Placed, tuple[int, set[Step], bool]]
) -> dict[Placed, tuple[int, set[Step], bool]]:
    """What is known of the buffers of one more step."""
    found: dict[Placed, tuple[int, set[Step], bool]] = {}
    writes = _written(step)
    for placed, count in zip(step.arguments, slabs.buffers, strict=True):
        n, users, written = found.get(placed) or known.get(placed) or (0, set(), False)
        found[placed] = gcd(n, count), {*users, step}, written or placed in writes
    return found


def _read_by_all(step: Step, slabs: Slabs) -> int:
    """The bytes of what each part of a step reads."""
    return sum(_bytes(p) for p, whole in zip(step.arguments, slabs.whole, strict=True) if whole)


def _is_known(placed: Placed) -> bool:
    return placed.kind != "heap" and isinstance(placed.type.nbytes, int)


def _bytes(placed: Placed) -> int:
    nbytes = placed.type.nbytes
    return nbytes if isinstance(nbytes, int) else 0


def _may_join(step: Step, slabs: Callable[[Kernel], Slabs]) -> bool:
    """Whether all that counts of a step is known, it cannot fail, and it is no user of much memory."""
    kernel = slabs(step.kernel).kernel  # equal to the step's, and what was asked of it is kept
    if not isinstance(kernel, LoopKernel) or not isinstance(kernel.tasks, int) or _cost(kernel) is None:
        return False
    if any(isinstance(e, Load) and e.bindings for e in expressions(kernel)):
        return False
    return all(p.kind != "heap" and not _is_large_temp(p) for p in touched(step))


def _is_large_temp(placed: Placed) -> bool:
    nbytes = placed.type.nbytes
    return placed.kind == "temp" and (not isinstance(nbytes, int) or nbytes > _LARGE)


def _written(step: Step) -> set[Placed]:
    outputs = set(map(id, step.kernel.outputs))
    return {p for b, p in zip(step.kernel.buffers, step.arguments, strict=True) if id(b) in outputs}


def _tasks(step: Step) -> int:
    return step.kernel.tasks if isinstance(step.kernel.tasks, int) else 0


@lru_cache(maxsize=256)
def _cost(kernel: Kernel) -> int | None:
    """The cost of a kernel, in units of `work`; None where sizes are not known, or it is of another kind."""
    if isinstance(kernel, LoopKernel):
        found = work(kernel)
    elif isinstance(kernel, ContractKernel):
        found = product(a.extent for a in (*kernel.batch, kernel.m, kernel.n, kernel.k)) * 2 // _FLOPS
    elif isinstance(kernel, Attention):
        found = product(a.extent for a in (*kernel.batch, kernel.m, kernel.n)) * (kernel.k.extent + kernel.v.extent)
        found = found * 2 // _FLOPS
    else:
        return None
    return found if isinstance(found, int) else None
