"""Graph to kernels, their order, and their buffers. Everything is decided here; emitters only spell it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from tjit.codegen.axes import arrange, expressions, kernel_buffers, statements
from tjit.codegen.buffers import Lifetime, plan_arena
from tjit.codegen.build import Expander, _contiguous, build_contract, build_loops, build_scatter, copy_kernel
from tjit.codegen.fusion import fuse
from tjit.codegen.hazards import reads_what_it_overwrites
from tjit.codegen.items import Group, Item, Program
from tjit.codegen.kernel import Buffer, Const, ContractKernel, Kernel, Load, LoopKernel, Store, walk
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.rename import rename_buffers
from tjit.codegen.split import split_reduction
from tjit.dtypes import u8
from tjit.ir.dims import Dim, Symbol, symbols
from tjit.ir.graph import Graph, Literal, Value
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = ["Placed", "Schedule", "Step", "schedule"]


@dataclass(eq=False)
class Placed:
    """A program's buffer: where the memory of one value is.

    Attributes:
        kind: "input", "output", "temp" (in the arena) or "constant".
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


@dataclass(eq=False)
class Step:
    """One kernel call: `arguments` are the buffers for `kernel.buffers`; `scratch` is its scratch memory."""

    kernel: Kernel
    arguments: tuple[Placed, ...]
    location: Location | None
    scratch: Placed | None = None


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
    steps: tuple[Step, ...]
    arena: Dim
    target: str = "cpu"
    temps: tuple[Placed, ...] = field(default=())

    def __str__(self) -> str:
        return print_schedule(self)


@dataclass
class Costs:
    """What the scheduler asks a backend.

    Attributes:
        scratch_bytes: kernel to bytes of scratch memory.
        contract_tasks: contraction to the number of tasks to cut it into.
    """

    scratch_bytes: Callable[[Kernel], Dim] = lambda kernel: 0
    contract_tasks: Callable[[ContractKernel], Dim] = lambda kernel: 1


def schedule(graph: Graph, costs: Costs | None = None, strides: Sequence[tuple[Dim, ...] | None] = ()) -> Schedule:
    """The schedule of a graph of primitives.

    Args:
        costs: the backend's answers.
        strides: for each input, the strides of its elements, or None for a contiguous one.
    """
    return _Scheduler(graph, costs or Costs(), strides).run()


def _input_names(graph: Graph) -> list[str]:
    """A name of its own for each input: buffers of one name are one memory, and temps are b0, b1, ..."""
    taken: set[str] = set()
    names: list[str] = []
    for i, value in enumerate(graph.inputs):
        name = value.name or f"in{i}"
        reserved = value.name is not None and re.fullmatch(r"(b|c|in|out)\d+", value.name)
        while name in taken or reserved:
            name, reserved = f"{name}.{i}", None
        taken.add(name)
        names.append(name)
    return names


class _Scheduler:
    def __init__(self, graph: Graph, costs: Costs, strides: Sequence[tuple[Dim, ...] | None]) -> None:
        self.graph = graph
        self.costs = costs
        self.program: Program = fuse(graph)
        self.buffers: dict[Placed, Buffer] = {}
        self.placed_as: dict[Buffer, Placed] = {}
        self.returned = {v for v in graph.outputs if isinstance(v, Value)}
        self.order = {group: n for n, group in enumerate(self.program.groups)}
        self.readers: dict[Value, list[Item]] = {}
        for item in self.program.items:
            for value in dict.fromkeys(read.value for read in item.reads):
                self.readers.setdefault(value, []).append(item)
        self.placed: dict[Value, Placed] = {}
        self.steps: list[Step] = []
        self.temps: list[Placed] = []
        self.constants: list[Placed] = []
        self.aliases: dict[tuple[Buffer, tuple[Dim, ...]], Buffer] = {}
        self.alias_base: dict[Buffer, Buffer] = {}
        strides = tuple(strides) or (None,) * len(graph.inputs)
        self.inputs = tuple(
            Placed(name, v.type, "input", i, strides=s)
            for i, (name, v, s) in enumerate(zip(_input_names(graph), graph.inputs, strides, strict=True))
        )
        self.placed.update(zip(graph.inputs, self.inputs, strict=True))

    def run(self) -> Schedule:
        self._place_outputs()
        for group in self.program.groups:
            self._group(group)
        self._finish_outputs()
        arena = self._plan()
        names = {s for p in (*self.inputs, *self.outputs) for d in p.type.shape for s in symbols(d)}
        names |= {s for p in self.inputs for d in p.strides or () for s in symbols(d)}
        return Schedule(
            self.graph.name,
            tuple(sorted(names, key=lambda s: s.name)),
            self.inputs,
            self.outputs,
            tuple(self.constants),
            tuple(sorted(self.graph.writes.values())),
            tuple(self.steps),
            arena,
            temps=tuple(self.temps),
        )

    # -- buffers -------------------------------------------------------------------------------------------------------

    def _place_outputs(self) -> None:
        """Give outputs their buffers; a written-back value goes straight to the input's if nothing reads that later."""
        returned = [i for i in range(len(self.graph.outputs)) if i not in self.graph.writes]
        self.output_of = {i: Placed(f"out{n}", self.graph.outputs[i].type, "output", n) for n, i in enumerate(returned)}
        self.outputs = tuple(self.output_of[i] for i in returned)
        self.copies: list[tuple[Any, Placed]] = []
        for i, value in enumerate(self.graph.outputs):
            target = self.inputs[self.graph.writes[i]] if i in self.graph.writes else self.output_of[i]
            if (
                not isinstance(value, Value)
                or value in self.placed
                or value not in self.program.item_of
                or (target.kind == "input" and not self._may_overwrite(value, self.graph.inputs[target.position]))
            ):
                self.copies.append((value, target))
            else:
                self.placed[value] = target

    def _may_overwrite(self, value: Value, source: Value) -> bool:
        """Whether no later kernel reads `source`. What its own kernel reads is looked at when that is built."""
        item = self.program.item_of[value]
        own = self.program.group_of[item]
        if source in self.returned or item.kind == "index":
            return False
        return all(
            self.order[self.program.group_of[other]] <= self.order[own] for other in self.readers.get(source, ())
        )

    def _finish_outputs(self) -> None:
        # reads of an input that is overwritten by a copy come first: plain outputs, then write-backs
        for value, target in sorted(self.copies, key=lambda c: c[1].kind == "input"):
            buffer = self._buffer(target)
            if isinstance(value, Literal):
                self._loop_step(copy_kernel(Const(value.value, value.dtype), buffer, "fill"))
            else:
                source = self.placed.get(value) or self._constant(value)
                if source is not target:
                    read = self._buffer(source)
                    self._loop_step(copy_kernel(lambda at, read=read: Load(read, at), buffer, "copy"))

    def _constant(self, value: Value) -> Placed:
        node = self.program.producer[value]
        assert node.op.name == "constant", node
        data = np.asarray(node.attrs["value"], value.type.dtype.numpy).reshape(value.type.shape)
        placed = Placed(f"c{len(self.constants)}", value.type, "constant", len(self.constants), data=data)
        self.constants.append(placed)
        self.placed[value] = placed
        return placed

    def _buffer(self, placed: Placed) -> Buffer:
        found = self.buffers.get(placed)
        if found is None:
            shape = placed.type.shape
            found = Buffer(placed.name, placed.type.dtype, shape, placed.strides or _contiguous(shape))
            self.buffers[placed] = found
            self.placed_as[found] = placed
        return found

    def _buffer_of(self, value: Value) -> Buffer:
        return self._buffer(self.placed.get(value) or self._new_temp(value))

    def _new_temp(self, value: Value) -> Placed:
        node = self.program.producer.get(value)
        if node is not None and node.op.name == "constant":
            return self._constant(value)
        placed = self._temp(value.type)
        self.placed[value] = placed
        return placed

    def _temp(self, type: TensorType) -> Placed:
        placed = Placed(f"b{len(self.temps)}", type, "temp")
        self.temps.append(placed)
        return placed

    def _store_to(self, value: Value) -> Buffer:
        item = self.program.item_of.get(value)
        buffer = self._buffer_of(value)
        if item is not None and item.domain != value.type.shape and item.kind == "store":
            # stored through the domain's shape: the same memory, seen with other extents
            return self._alias(buffer, item.domain)
        return buffer

    def _alias(self, buffer: Buffer, shape: tuple[Dim, ...]) -> Buffer:
        key = (buffer, shape)
        found = self.aliases.get(key)
        if found is None:
            found = self.aliases[key] = Buffer(buffer.name, buffer.dtype, shape, _contiguous(shape))
            self.alias_base[found] = buffer
        return found

    # -- kernels -------------------------------------------------------------------------------------------------------

    def _group(self, group: Group) -> None:
        name = "_".join(dict.fromkeys(i.node.op.name for i in group.items))[:48]
        if group.kind == "contract":
            self._contract_step(self._built(build_contract, group, name))
        elif group.kind == "index":
            (item,) = group.items
            base = item.node.operands[0]
            target = self._buffer_of(item.value)
            self._loop_step(self._copy_operand(item, base, target))
            kernel = build_scatter(self.program, item, self._buffer_of, self._store_to, name)
            exprs = [e for root in (kernel.value, *(b[1] for b in kernel.bindings)) for e in walk(root)]
            buffers = tuple(dict.fromkeys((*kernel_buffers(exprs, []), target)))
            self._step(replace(kernel, buffers=buffers))
        else:
            self._loop_step(self._built(build_loops, group, name))

    def _built(self, build: Callable[..., Any], group: Group, name: str) -> Any:
        """The kernel of a group; where it would read what it overwrites, that goes elsewhere and is copied later."""
        kernel = build(self.program, group, self._buffer_of, self._store_to, self._needed(group), name)
        moved = False
        for item in group.items:
            placed = self.placed.get(item.value)
            if placed is not None and placed.kind == "input" and reads_what_it_overwrites(kernel, self._buffer(placed)):
                self.copies.append((item.value, placed))
                self.placed[item.value] = self._temp(item.value.type)
                moved = True
        return self._built(build, group, name) if moved else kernel

    def _copy_operand(self, item: Any, operand: Any, target: Buffer) -> LoopKernel:
        expander = Expander(self.program, self._buffer_of)
        return copy_kernel(lambda at: expander.operand(operand, at), target, "copy", item.node.location)

    def _needed(self, group: Group) -> Callable[[Value], bool]:
        def needed(value: Value) -> bool:
            if value in self.returned or (group.kind == "contract" and len(group.items) == 1):
                return True
            return any(self.program.group_of[item] is not group for item in self.readers.get(value, ()))

        return needed

    def _contract_step(self, kernel: ContractKernel) -> None:
        exprs = [e for root in (kernel.a, kernel.b, *(s.value for s in kernel.epilogue)) for e in walk(root)]
        kernel = replace(kernel, buffers=kernel_buffers(exprs, list(kernel.epilogue)))
        self._step(replace(kernel, tasks=self.costs.contract_tasks(kernel)))

    def _loop_step(self, kernel: LoopKernel) -> None:
        for part in split_reduction(kernel, self._partial):
            part = arrange(part)
            stores = [s for s in statements(part) if isinstance(s, Store)]
            self._step(replace(part, buffers=kernel_buffers(expressions(part), stores)))

    def _partial(self, type: TensorType) -> Buffer:
        return self._buffer(self._temp(type))

    def _step(self, kernel: Kernel) -> None:
        arguments = tuple(self.placed_as[self.alias_base.get(b, b)] for b in kernel.buffers)
        kernel = _named(rename_buffers(kernel))
        nbytes = self.costs.scratch_bytes(kernel)
        scratch = None
        if not (isinstance(nbytes, int) and nbytes == 0):
            scratch = Placed(f"scratch{len(self.steps)}", TensorType(u8, (nbytes,)), "temp")
            self.temps.append(scratch)
        self.steps.append(Step(kernel, arguments, kernel.location, scratch))

    def _plan(self) -> Dim:
        """Place the temps in the arena by their lifetimes."""
        first: dict[Placed, int] = {}
        last: dict[Placed, int] = {}
        for n, step in enumerate(self.steps):
            for placed in (*step.arguments, *((step.scratch,) if step.scratch else ())):
                first.setdefault(placed, n)
                last[placed] = n
        live = [p for p in self.temps if p in first]
        offsets, size = plan_arena([Lifetime(p.type.nbytes, first[p], last[p]) for p in live])
        for placed, offset in zip(live, offsets, strict=True):
            placed.offset = offset
        self.temps = live
        return size


def _named(kernel: Kernel) -> Kernel:
    """The kernel under a name that its text gives: equal kernels are one function wherever they occur."""
    text = print_kernel(kernel, name="_", locations=False)
    return replace(kernel, name=f"{kernel.name}.{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}")


def print_schedule(plan: Schedule) -> str:
    """The schedule as text: buffers, then one line and the loops of every kernel."""
    lines = [
        f"schedule {plan.name} on {plan.target}, {len(plan.steps)} kernels, "
        f"peak {plan.arena} B besides inputs and outputs"
    ]
    if plan.symbols:
        lines.append(f"  symbols {', '.join(map(str, plan.symbols))}")
    lines += [f"  {p.kind} {p}{' written' if p.position in plan.writes else ''}" for p in plan.inputs]
    lines += [f"  constant {p}" for p in plan.constants]
    lines += [f"  temp {p} at {p.offset}" for p in plan.temps]
    for n, step in enumerate(plan.steps):
        kernel = step.kernel
        written = {id(b) for b in kernel.outputs}
        pairs = list(zip(kernel.buffers, step.arguments, strict=True))
        inputs = ", ".join(p.name for b, p in pairs if id(b) not in written)
        outputs = ", ".join(str(p) for b, p in pairs if id(b) in written)
        where = f"  # {step.location.short}" if step.location else ""
        lines.append(f"  k{n} {kernel.name} ({inputs}) -> {outputs}{where}")
        lines += ["    " + line for line in print_kernel(kernel).splitlines()[1:]]
    lines.append(f"  return {', '.join(p.name for p in plan.outputs)}")
    return "\n".join(lines)
