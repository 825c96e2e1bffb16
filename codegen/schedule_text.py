"""Schedules as text: buffers, then every step with the loops of its kernel, bodies of control flow indented.

"and" marks a kernel that runs side by side with the one before it, "then" one whose part t of as many as "in" says runs
right after that one's, on the same thread. "in place" marks what a kernel writes over: memory that held a value before.
"""

from __future__ import annotations

from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.steps import Allocate, Bind, Body, Check, For, If, Placed, Schedule, Step, While, bodies, numbered

__all__ = ["print_schedule"]


def print_schedule(plan: Schedule) -> str:
    """The schedule as text."""
    return "\n".join(_Printer(plan).lines)


class _Printer:
    def __init__(self, plan: Schedule) -> None:
        steps = list(numbered(plan))
        self.numbers = {id(step): n for n, step in steps}
        self.filled: set[Placed] = set()
        kernels = sum(isinstance(step, Step) for _, step in steps)
        head = f"schedule {plan.name} on {plan.target}, {kernels} kernels"
        self.lines = [f"{head}, peak {plan.arena} B besides inputs and outputs"]
        if plan.symbols:
            self.lines.append(f"  symbols {', '.join(map(str, plan.symbols))}")
        self.lines += [f"  {p.kind} {p}{' written' if p.position in plan.writes else ''}" for p in plan.inputs]
        self.lines += [f"  tape {p} {p.type.nbytes} B" for p in plan.outputs if p.is_tape]
        self.memory(plan, 1)
        self.steps(plan, 1)
        self.lines.append(f"  return {', '.join(p.name for p in plan.outputs)}")

    def line(self, depth: int, text: str) -> None:
        self.lines.append("  " * depth + text)

    def memory(self, plan: Schedule, depth: int) -> None:
        for placed in plan.constants:
            self.line(depth, f"constant {placed}")
        for placed in plan.temps:
            where = "on the heap" if placed.kind == "heap" else f"at {placed.offset}"
            what = f"tape {placed} {placed.type.nbytes} B" if placed.is_tape else f"temp {placed}"
            self.line(depth, f"{what} {where}")

    def steps(self, plan: Schedule, depth: int) -> None:
        self.filled.update(plan.inputs)
        for step in plan.steps:
            where = f"  # {step.location.short}" if step.location else ""
            head = self.kernel(step) if isinstance(step, Step) else _head(step)
            self.line(depth, f"k{self.numbers[id(step)]} {head}{where}")
            if isinstance(step, Step):
                self.lines += ["  " * (depth + 1) + line for line in print_kernel(step.kernel).splitlines()[1:]]
            for body in bodies(step):
                self.body(body, depth + 1)

    def kernel(self, step: Step) -> str:
        kernel = step.kernel
        written = {id(b) for b in kernel.outputs}
        pairs = list(zip(kernel.buffers, step.arguments, strict=True))
        inputs = ", ".join(p.name for b, p in pairs if id(b) not in written)
        outputs = [p for b, p in pairs if id(b) in written]
        text = ", ".join(f"{p}{' in place' if p in self.filled else ''}" for p in outputs)
        self.filled.update(outputs)
        return f"{_place_in_launch(step)}{kernel.name} ({inputs}) -> {text}"

    def body(self, body: Body, depth: int) -> None:
        plan = body.plan
        turns = "".join(
            f", {source.name} = {outer.name} becomes {target.name}" for source, target, outer in body.rotations
        )
        self.line(depth, f"{body.name} ({', '.join(_renamed(body, plan))}), {plan.arena} B{turns}")
        self.memory(plan, depth + 1)
        self.steps(plan, depth + 1)


def _place_in_launch(step: Step) -> str:
    """How a step runs with the one before it: side by side, or the same thread goes on with the same part."""
    if not step.joined:
        return f"in {step.chain} parts " if step.chain else ""
    return "then " if step.chain else "and "


def _renamed(body: Body, plan: Schedule) -> list[str]:
    """What the names inside stand for outside; `inout` is written."""
    inputs = [
        f"{'inout ' if inner.position in plan.writes else ''}{_is(inner, outer)}"
        for inner, outer in zip(plan.inputs, body.inputs, strict=True)
    ]
    outputs = [f"out {_is(inner, outer)}" for inner, outer in zip(plan.outputs, body.outputs, strict=True)]
    return inputs + outputs


def _is(inner: Placed, outer: Placed) -> str:
    return f"{inner.name} = {outer.name}"


def _head(step: Bind | Check | Allocate | If | For | While) -> str:
    if isinstance(step, Bind):
        return f"bind {step.symbol} = {step.source.name} in [{step.low}, {'inf' if step.high is None else step.high}]"
    if isinstance(step, Check):
        return f"check {step.source.name}, or {step.message!r}"
    if isinstance(step, Allocate):
        return f"allocate {step.placed}"
    arena = "" if step.arena is None else f", temps in {step.arena.name}"
    if isinstance(step, For):
        return f"for {step.counter} < {step.trip}{arena}"
    if isinstance(step, If):
        return f"if {step.condition.name}{arena}"
    return f"while {step.condition.name}{arena}"
