"""Autotuning: how a hot contraction is cut, by measurement. The choice stays: in this process and in the disk cache.

A kernel is measured as a program of its own, on as many threads as programs use, in memory of its size. From the
backend's own choice on, one decision after the other is varied, and what is clearly faster is kept. The results of
kernels that are cut differently differ in rounding, so what was once chosen is never measured again.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from tjit.codegen.kernel import Blocking, Buffer, ContractKernel, kernel_symbols
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.steps import Placed, Schedule, Step
from tjit.dtypes import u8
from tjit.ir.dims import Dim, product
from tjit.ir.types import TensorType
from tjit.runtime.cache import Cache, default_cache
from tjit.runtime.program import Program, ProgramInfo
from tjit.runtime.threads import get_num_threads
from tjit.runtime.version import compiler_version

if TYPE_CHECKING:
    from tjit.codegen.llvm.target import Target
    from tjit.codegen.schedule import Costs

__all__ = ["tuned_blocking", "tuned_costs"]

_KIND = "tuning"
_HOT = 1 << 21  # operations: some ten microseconds
_MOST_BYTES = 1 << 30
_ROUNDS = 5
_SECONDS = 0.002  # of a way to cut in each round
_MOST_RUNS = 20
_MOST_SECONDS = 1.0  # of runs: a contraction that takes long is tried in fewer ways, fewer times
_GAIN = 0.97  # of the time of the best so far: less is noise
_HOPELESS = 1.1
_LARGEST = 1 << 20  # of a block

# the decisions, in the order in which they are made
_TRIALS: tuple[tuple[str, tuple[Any, ...]], ...] = (
    ("packs_b", (True, False)),
    ("packs_a", (True,)),
    ("n", (128, 256, 1024)),
    ("m", (64, 128, 512)),
    ("k", (256, 384, 1536)),
)
_chosen: dict[str, Blocking] = {}


def tuned_costs(target: Target) -> Costs:
    """What the scheduler asks the LLVM backend, with contractions cut as was measured on this machine."""
    from tjit.codegen.llvm.program import costs
    from tjit.codegen.llvm.target import host_target

    host = host_target()
    is_alike = (target.vector_bytes, target.registers) == (host.vector_bytes, host.registers)
    return replace(costs(target), blocking=tuned_blocking if is_alike else None)


def tuned_blocking(kernel: ContractKernel, cache: Cache | None = None) -> Blocking:
    """How `kernel` is cut on this machine: as was chosen before, or as is found now."""
    if not _is_hot(kernel):
        return kernel.blocking
    key = _key(kernel)
    found = _chosen.get(key)
    if found is None:
        cache = cache or default_cache()
        found = _parsed(cache.get(key, _KIND))
        if found is None:
            found = _measured(kernel)
            cache.put(key, _KIND, json.dumps(asdict(found)).encode(), label=f"{kernel.name}: {found}")
        _chosen[key] = found
    return found


def _is_hot(kernel: ContractKernel) -> bool:
    extents = [axis.extent for axis in (*kernel.batch, kernel.m, kernel.n, kernel.k)]
    if kernel_symbols(kernel) or not all(isinstance(d, int) for d in extents):
        return False
    work, nbytes = product(extents), sum(_elements(b) * b.dtype.itemsize for b in kernel.buffers)
    return isinstance(work, int) and 2 * work >= _HOT and nbytes <= _MOST_BYTES


def _key(kernel: ContractKernel) -> str:
    from tjit.codegen.llvm.target import host_target

    text = print_kernel(kernel, name="_", locations=False)
    return f"{compiler_version()}|{host_target()}|{get_num_threads()}|{text}"


def _parsed(data: bytes | None) -> Blocking | None:
    """The choice that the disk cache held; None for anything that is none."""
    if data is None:
        return None
    try:
        fields = json.loads(data)
        blocks, packs = [fields[name] for name in "kmn"], [fields["packs_a"], fields["packs_b"]]
    except (ValueError, KeyError, TypeError):
        return None
    fits = all(x is None or (type(x) is int and 0 < x <= _LARGEST) for x in blocks)
    return Blocking(*blocks, *packs) if fits and all(x in (None, True, False) for x in packs) else None


# -- measuring ---------------------------------------------------------------------------------------------------------


def _measured(kernel: ContractKernel) -> Blocking:
    """The fastest of the ways to cut `kernel` that differ from the backend's in a decision or several.

    Of those that there is time for: runs take about `_MOST_SECONDS`, and one comparison at least.
    """
    run = _Runner(kernel)
    best = kernel.blocking
    for name, values in _TRIALS:
        for trial in [replace(best, **{name: value}) for value in values]:
            known = (_plan(kernel, best), _plan(kernel, kernel.blocking))
            is_new = _plan(kernel, trial) not in known
            if is_new and run.seconds < _MOST_SECONDS and run.is_faster(trial, best, _ROUNDS):
                best = trial
    return best if best == kernel.blocking or run.is_faster(best, kernel.blocking, 4 * _ROUNDS) else kernel.blocking


def _with(kernel: ContractKernel, blocking: Blocking) -> ContractKernel:
    return replace(kernel, blocking=blocking)


def _plan(kernel: ContractKernel, blocking: Blocking) -> Any:
    """What the backend makes of a choice; equal for choices that come to the same."""
    from tjit.codegen.llvm.contract_plan import plan_contract
    from tjit.codegen.llvm.target import host_target

    return replace(plan_contract(_with(kernel, blocking), host_target()), kernel=kernel)


class _Runner:
    """Runs a kernel in memory of its size.

    Attributes:
        seconds: that all runs have taken.
    """

    def __init__(self, kernel: ContractKernel) -> None:
        self.kernel = kernel
        self.inputs = [_memory(buffer) for buffer in kernel.buffers]
        self.programs: dict[Blocking, Program] = {}
        self.seconds = 0.0

    def is_faster(self, new: Blocking, old: Blocking, rounds: int) -> bool:
        """Whether the shortest run of one is clearly shorter: what else the machine does only adds to a run."""
        best = {new: float("inf"), old: float("inf")}
        for _ in range(rounds):  # by turns: a machine that is busy for a while is so for both
            for blocking in best:
                best[blocking] = min(best[blocking], self._shortest(blocking))
            if best[new] > best[old] * _HOPELESS or self.seconds > _MOST_SECONDS:
                break
        return best[new] < best[old] * _GAIN

    def _shortest(self, blocking: Blocking) -> float:
        """The seconds of the shortest of a few runs."""
        if blocking not in self.programs:
            self.programs[blocking] = _program(_with(self.kernel, blocking))
            self._time(blocking)  # memory that is touched for the first time
        taken: list[float] = []
        while len(taken) < _MOST_RUNS and sum(taken) <= _SECONDS:
            taken.append(self._time(blocking))
        return min(taken)

    def _time(self, blocking: Blocking) -> float:
        """The seconds of one run."""
        start = time.perf_counter()
        self.programs[blocking].run(self.inputs)
        taken = time.perf_counter() - start
        self.seconds += taken
        return taken


def _program(kernel: ContractKernel) -> Program:
    """A program that runs `kernel` on its inputs, outputs among them."""
    from tjit.codegen.llvm.module import compile_schedule
    from tjit.codegen.llvm.program import costs
    from tjit.codegen.llvm.target import host_target

    chosen, nbytes = costs(host_target()).chosen(kernel)
    inputs = tuple(
        Placed(b.name, TensorType(b.dtype, b.shape), "input", i, strides=b.strides)
        for i, b in enumerate(kernel.buffers)
    )
    writes = tuple(i for i, b in enumerate(kernel.buffers) if b in kernel.outputs)
    scratch = None if nbytes == 0 else Placed("scratch", TensorType(u8, (nbytes,)), "temp")
    step = Step(chosen, inputs, None, scratch)
    plan = Schedule("tuning", (), inputs, (), (), writes, (step,), nbytes)
    image = compile_schedule(plan, host_target(), default_cache())
    return Program(image, ProgramInfo((), tuple(p.type for p in inputs), (), (None,) * len(inputs), writes, nbytes))


def _memory(buffer: Buffer) -> np.ndarray:
    """Memory like the buffer's: small numbers, and indices that are in range."""
    flat = np.zeros(_elements(buffer), buffer.dtype.numpy)
    if buffer.dtype.is_floating_point:
        flat[...] = 0.5  # denormal numbers and nan would take other times
    return flat


def _elements(buffer: Buffer) -> int:
    last: Dim = 0
    for extent, stride in zip(buffer.shape, buffer.strides, strict=True):
        last = last + (extent - 1) * stride
    return int(last) + 1 if isinstance(last, int) and last >= 0 else 1
