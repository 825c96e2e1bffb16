"""What a program does, step by step: kernel calls, control flow around steps, and the buffers that they touch."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import field
from typing import Union

import numpy as np

from tjit.codegen.kernel import Kernel, NestKernel, failure_locations
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol
from tjit.ir.graph import TAPE
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = [
    "Allocate",
    "AnyStep",
    "Bind",
    "Body",
    "Check",
    "For",
    "If",
    "Placed",
    "Schedule",
    "Step",
    "While",
    "bodies",
    "failures",
    "kernel_steps",
    "numbered",
    "tapes_of",
    "touched",
]


@dataclass(eq=False)
class Placed:
    """A program's buffer: where the memory of one value is.

    Attributes:
        kind: "input", "output", "temp" (in the arena), "constant", or "heap" (allocated by the program, for sizes that
            only it knows).
        position: of the input, output or constant.
        offset: bytes into the arena.
    """

    name: str
    type: TensorType
    kind: str
    position: int = 0
    offset: Dim = 0
    data: np.ndarray | None = None
    strides: tuple[Dim, ...] | None = None

    def __str__(self) -> str:
        return f"{self.name}: {self.type}"

    @property
    def is_tape(self) -> bool:
        """Whether it is what a loop's gradient keeps of each trip, as the name says."""
        return self.kind != "input" and self.name.startswith(TAPE)


@dataclass(eq=False)
class Step:
    """One kernel call: `arguments` are the buffers for `kernel.buffers`.

    Attributes:
        scratch: memory that the kernel needs in each thread; this is the caller's.
        joined: it shares the fork-join of the step before it.
        chain: into how many tasks its launch is cut, each of which does its part of one step after the other; 0: the
            step has tasks of its own, side by side with those of others.
    """

    kernel: Kernel
    arguments: tuple[Placed, ...]
    location: Location | None
    scratch: Placed | None = None
    joined: bool = False
    chain: int = 0


@dataclass(eq=False)
class Bind:
    """From here on `symbol` is the integer in `source`, which has to be in [low, high] (high None: any from low on)."""

    symbol: str
    source: Placed
    low: int
    high: Dim | None
    location: Location | None


@dataclass(eq=False)
class Check:
    """The program ends here with the user's message unless the bool in `source` is true."""

    source: Placed
    message: str
    location: Location | None


@dataclass(eq=False)
class Allocate:
    """From here on `placed`, of kind "heap", has memory of its own; what it had before is freed."""

    placed: Placed
    location: Location | None = None


@dataclass(eq=False)
class Body:
    """A region's schedule, with the buffers around it that stand for its inputs and outputs.

    Attributes:
        rotations: (temp, input, buffer around): the body of a loop leaves the input's next value in the temp, and the
            two change places after each trip instead of a copy. The temp is the buffer around, at first.
    """

    name: str
    plan: Schedule
    inputs: tuple[Placed, ...]
    outputs: tuple[Placed, ...]
    rotations: tuple[tuple[Placed, Placed, Placed], ...] = ()


@dataclass(eq=False)
class If:
    """One of two bodies, by the bool in `condition`. `arena` holds the temps of whichever runs."""

    condition: Placed
    then: Body
    otherwise: Body
    arena: Placed | None
    location: Location | None


@dataclass(eq=False)
class For:
    """The body for `counter` = 0, 1, ..., trip - 1. `arena` holds its temps."""

    counter: str
    trip: Dim
    body: Body
    arena: Placed | None
    location: Location | None


@dataclass(eq=False)
class While:
    """The body as long as `test` leaves true in `condition`. `arena` holds the temps of both, one after the other."""

    condition: Placed
    test: Body
    body: Body
    arena: Placed | None
    location: Location | None


AnyStep = Union[Step, Bind, Check, Allocate, If, For, While]


@dataclass(eq=False)
class Schedule:
    """What the program does.

    Attributes:
        symbols: in the order in which their values are passed.
        inputs: one per graph input.
        outputs: one per graph output that is not written back.
        writes: positions of inputs that the program writes.
        arena: bytes of memory for intermediates.
    """

    name: str
    symbols: tuple[Symbol, ...]
    inputs: tuple[Placed, ...]
    outputs: tuple[Placed, ...]
    constants: tuple[Placed, ...]
    writes: tuple[int, ...]
    steps: tuple[AnyStep, ...]
    arena: Dim
    target: str = "cpu"
    temps: tuple[Placed, ...] = field(default=())

    def __str__(self) -> str:
        from tjit.codegen.schedule_text import print_schedule

        return print_schedule(self)


def bodies(step: AnyStep) -> tuple[Body, ...]:
    """The schedules inside a step, in the order in which they print."""
    if isinstance(step, If):
        return step.then, step.otherwise
    if isinstance(step, For):
        return (step.body,)
    return (step.test, step.body) if isinstance(step, While) else ()


def touched(step: AnyStep) -> tuple[Placed, ...]:
    """The buffers of the schedule around it that a step reads or writes."""
    if isinstance(step, Step):
        return (*step.arguments, *_present(step.scratch))
    if isinstance(step, (Bind, Check)):
        return (step.source,)
    if isinstance(step, Allocate):
        return (step.placed,)
    own = () if isinstance(step, For) else (step.condition,)
    inside = (placed for body in bodies(step) for placed in (*body.inputs, *body.outputs))
    spare = (outer for body in bodies(step) for _, _, outer in body.rotations)
    return (*own, *_present(step.arena), *inside, *spare)


def _present(placed: Placed | None) -> tuple[Placed, ...]:
    return () if placed is None else (placed,)


def numbered(plan: Schedule) -> Iterator[tuple[int, AnyStep]]:
    """Every step and those inside it, each with the number that it has in dumps.

    The program returns this number plus that of the failure inside the step, which count from 1.
    """
    n = 0
    for step in _each(plan.steps):
        yield n, step
        n += max(1, len(_failures(step)))


def failures(plan: Schedule) -> tuple[tuple[int, str, int, str | None], ...]:
    """What a program returns, less 1, with the file and line and, for an `assert`, the message that it stands for."""
    return tuple(
        (n + i, location.file if location else "", location.line if location else 0, message)
        for n, step in numbered(plan)
        for i, found in enumerate(_failures(step))
        for location, message in found
        if location is not None or message is not None
    )


def _failures(step: AnyStep) -> list[list[tuple[Location | None, str | None]]]:
    """For each failure of a step, what it may stand for."""
    if isinstance(step, Step) and isinstance(step.kernel, NestKernel):
        return [[(node.location, node.attrs.get("message"))] for node in step.kernel.checks]
    if isinstance(step, Step):
        return [[(location, None) for location in failure_locations(step.kernel)]]
    return [[(step.location, step.message if isinstance(step, Check) else None)]]


def _each(steps: Sequence[AnyStep]) -> Iterator[AnyStep]:
    for step in steps:
        yield step
        for body in bodies(step):
            yield from _each(body.plan.steps)


def kernel_steps(plan: Schedule) -> list[Step]:
    """Every kernel call of a schedule, inside loops and branches too."""
    return [step for _, step in numbered(plan) if isinstance(step, Step)]


def tapes_of(plan: Schedule) -> list[Placed]:
    """The memory in which a program keeps what gradients need of loops' trips, inside loops and branches too."""
    inner = [p for _, step in numbered(plan) for body in bodies(step) for p in body.plan.temps if p.is_tape]
    return [p for p in (*plan.outputs, *plan.temps) if p.is_tape] + inner
