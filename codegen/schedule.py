"""Graph to kernels, their order, and their buffers. Everything is decided here; emitters only spell it."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from dataclasses import field, replace
from itertools import count
from typing import Any, TypeGuard

import numpy as np

from tjit.codegen.attention import build_attention
from tjit.codegen.axes import arrange, expressions, kernel_buffers, statements
from tjit.codegen.buffers import largest
from tjit.codegen.build import build_contract, build_loops, build_scatter, contiguous, copy_axes, copy_kernel
from tjit.codegen.fusion import fuse
from tjit.codegen.grids import GridAxis, Slabs
from tjit.codegen.hazards import reads_what_it_overwrites
from tjit.codegen.items import Group, Item, Program
from tjit.codegen.kernel import (
    Attention,
    AttentionGradientKernel,
    Blocking,
    Buffer,
    Const,
    Contraction,
    ContractKernel,
    Divided,
    Kernel,
    Load,
    Loop,
    LoopKernel,
    SortKernel,
    Store,
    walk,
)
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.launches import join_steps
from tjit.codegen.memory import plan_memory
from tjit.codegen.regions import control_step
from tjit.codegen.rename import rename_buffers
from tjit.codegen.repeats import Recipe, form_of, likely_repeats, recipe_of
from tjit.codegen.scans import split_scan
from tjit.codegen.scatter import arrange_scatter
from tjit.codegen.sorts import build_sort
from tjit.codegen.split import split_loops, split_reduction
from tjit.codegen.split_attention import split_attention_gradient
from tjit.codegen.split_k import split_contraction
from tjit.codegen.steps import AnyStep, Placed, Schedule, Step
from tjit.codegen.storage import plan_storage
from tjit.codegen.whole_digits import with_whole_digits
from tjit.dataclass import dataclass
from tjit.dtypes import u8
from tjit.errors import CodegenError
from tjit.ir.dims import Dim, symbols
from tjit.ir.graph import TAPE, Graph, Literal, Node, Operand, Value
from tjit.ir.op import OPS
from tjit.ir.scope import bound_names
from tjit.ir.types import TensorType

__all__ = ["Costs", "Placed", "Schedule", "Scheduler", "Step", "schedule"]


@dataclass
class Costs:
    """What the scheduler asks a backend.

    Attributes:
        scratch_bytes: kernel to the bytes of scratch memory that it needs in each thread.
        contract_tasks: contraction or attention to the number of tasks to cut it into.
        sort_tasks: the same of a sort.
        grid: kernel to what its tasks are equal ranges of; (): that is not known.
        blocking: contraction to how it is cut, where that is measured.
        decided: told each distinct kernel as soon as it is known; few of them may turn out not to be needed.
    """

    scratch_bytes: Callable[[Kernel], Dim] = lambda kernel: 0
    contract_tasks: Callable[[Contraction], Dim] = lambda kernel: 1
    sort_tasks: Callable[[SortKernel], Dim] = lambda kernel: 1
    grid: Callable[[Kernel], Sequence[GridAxis]] = lambda kernel: ()
    blocking: Callable[[ContractKernel], Blocking] | None = None
    decided: Callable[[Kernel], None] = lambda kernel: None
    _answers: dict[str, tuple[Kernel, Dim]] = field(default_factory=dict)  # kernel's text to the one chosen, bytes
    _slabs: dict[str, Slabs] = field(default_factory=dict)  # by the kernel's name

    def chosen(self, kernel: Kernel) -> tuple[Kernel, Dim]:
        """A kernel with its tasks and its name, and its bytes of scratch. Asks the backend once for equal kernels."""
        text = _text(kernel)
        key = f"{kernel.name} {text}"
        if key not in self._answers:
            if isinstance(kernel, ContractKernel) and self.blocking is not None:
                kernel = replace(kernel, blocking=self.blocking(kernel))
            if isinstance(kernel, Divided):
                tasks = self.sort_tasks(kernel) if isinstance(kernel, SortKernel) else self.contract_tasks(kernel)
                kernel = replace(kernel, tasks=tasks)
                text = _text(kernel)
            kernel = replace(kernel, name=_named(kernel, text))
            self._answers[key] = kernel, self.scratch_bytes(kernel)
            self._slabs[kernel.name] = Slabs(kernel, self.grid(kernel))
            self.decided(kernel)
        known, nbytes = self._answers[key]
        if isinstance(kernel, ContractKernel) and isinstance(known, ContractKernel):
            kernel = replace(kernel, blocking=known.blocking)
        if isinstance(kernel, Divided) and isinstance(known, Divided):
            kernel = replace(kernel, tasks=known.tasks)
        return replace(kernel, name=known.name), nbytes

    def slabs(self, kernel: Kernel) -> Slabs:
        """What the tasks of a chosen kernel touch."""
        return self._slabs[kernel.name]


def schedule(
    graph: Graph,
    costs: Costs | None = None,
    strides: Sequence[tuple[Dim, ...] | None] = (),
    *,
    nests: bool = True,
    wide: bool = False,
) -> Schedule:
    """The schedule of a graph of primitives.

    Args:
        costs: the backend's answers.
        strides: for each input, the strides of its elements, or None for a contiguous one.
        nests: have loops over single elements be kernels of their own. Without, the program has every loop.
        wide: as of `Program`: f16 and bf16 are rounded where they are stored, not after each op.
    """
    names = {s.name for v in graph.inputs for d in v.type.shape for s in symbols(d)}
    names |= {s.name for dims in strides for d in dims or () for s in symbols(d)}
    mark = _mark(names | bound_names(graph.nodes))
    scheduler = Scheduler(graph, costs or Costs(), strides, names, nests=nests, mark=mark, wide=wide)
    scheduler.check_outputs()
    return scheduler.run()


def _mark(names: Collection[str]) -> str:
    """What kernels' own symbols begin with where the program's have names like them."""
    mark = ""
    while any(re.fullmatch(mark + r"([dgprxy]\d+s?|k\d*|part)", name) for name in names):
        mark += "_"
    return mark


def _input_names(graph: Graph) -> list[str]:
    """A name of its own for each input: buffers of one name are one memory, and temps are b0, b1, ..."""
    taken: set[str] = set()
    names: list[str] = []
    for i, value in enumerate(graph.inputs):
        name = value.name or f"in{i}"
        reserved = value.name is not None and re.fullmatch(r"(b|c|in|out|tape_b|tape_out)\d+", value.name)
        while name in taken or reserved:
            name, reserved = f"{name}.{i}", None
        taken.add(name)
        names.append(name)
    return names


class Scheduler:
    """Makes the schedule of a graph, or of a region seen as one.

    Attributes:
        known: the symbols that the program's inputs give; others are bound while it runs.
        mark: what the names of kernels' own symbols begin with.
        is_loop: it is of a body that runs again and again, and may leave values in temps: `rotations` are pairs of a
            temp and the input that it becomes.
    """

    def __init__(
        self,
        graph: Graph,
        costs: Costs,
        strides: Sequence[tuple[Dim, ...] | None],
        known: Collection[str],
        numbers: Iterator[int] | None = None,
        nests: bool = True,
        mark: str = "",
        wide: bool = False,
    ) -> None:
        self.nests = nests
        self.mark = mark
        self.numbers = count() if numbers is None else numbers  # of temps: one count for regions inside too
        self.storage = plan_storage(graph)
        self.graph = graph = self.storage.graph
        self.costs = costs
        self.known = known
        self.program: Program = fuse(self.storage, mark, wide=wide)
        self.buffers: dict[Placed, Buffer] = {}
        self.placed_as: dict[Buffer, Placed] = {}
        self.overwritten = set(self.storage.overwrites.values())
        self.sharing: dict[Value, list[Value]] = {}
        for value in self.storage.overwrites:
            self.sharing.setdefault(self.storage.root(value), []).append(value)
        self.aside: list[tuple[Value, Item]] = []
        self.is_loop = False
        self.rotations: list[tuple[Placed, Placed]] = []
        self.returned = {v for v in graph.outputs if isinstance(v, Value)}
        self.order = {group: n for n, group in enumerate(self.program.groups)}
        self.readers: dict[Value, list[Item]] = {}
        for item in self.program.items:
            for value in dict.fromkeys(read.value for read in item.reads):
                self.readers.setdefault(value, []).append(item)
        self.placed: dict[Value, Placed] = {}
        self.steps: list[AnyStep] = []
        self.temps: list[Placed] = []
        self.constants: list[Placed] = []
        self.likely_repeats = likely_repeats(self.program.groups)
        self.recipes: dict[Hashable, Recipe] = {}
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
        join_steps(self.steps, self.costs.slabs, self._fixed())
        steps, temps, arena = plan_memory(self.steps, self._fixed(), self.known)
        names = {s for p in (*self.inputs, *self.outputs) for d in p.type.shape for s in symbols(d)}
        names |= {s for p in self.inputs for d in p.strides or () for s in symbols(d)}
        names = {s for s in names if s.name in self.known}
        return Schedule(
            self.graph.name,
            tuple(sorted(names, key=lambda s: s.name)),
            self.inputs,
            self.outputs,
            tuple(self.constants),
            tuple(sorted(self.graph.writes.values())),
            tuple(steps),
            arena,
            temps=tuple(temps),
        )

    def inner(self, graph: Graph, strides: Sequence[tuple[Dim, ...] | None]) -> Scheduler:
        """The scheduler of a region inside."""
        return Scheduler(graph, self.costs, strides, self.known, self.numbers, self.nests, self.mark, self.program.wide)

    def check_outputs(self) -> None:
        """
        Raises:
            CodegenError: the size of an output is known only while the program runs.
        """
        for i, output in enumerate(self.graph.outputs):
            for d in output.type.shape:
                for s in symbols(d):
                    if s.name not in self.known:
                        raise CodegenError(
                            f"output {i} is {output.type}, and {s} is known only while the program runs",
                            hint="return an array whose size the arguments give, and what part of it counts",
                        )

    # -- buffers -------------------------------------------------------------------------------------------------------

    def _place_outputs(self) -> None:
        """Give outputs their buffers; a written-back value goes straight to the input's if nothing reads that later."""
        returned = [i for i in range(len(self.graph.outputs)) if i not in self.graph.writes]
        outputs = [(n, i, self.graph.outputs[i]) for n, i in enumerate(returned)]
        self.output_of = {i: Placed(f"{_stem(o, 'out')}{n}", o.type, "output", n) for n, i, o in outputs}
        self.outputs = tuple(self.output_of[i] for i in returned)
        self.copies: list[tuple[Any, Placed]] = []
        for i, value in enumerate(self.graph.outputs):
            target = self.inputs[self.graph.writes[i]] if i in self.graph.writes else self.output_of[i]
            root = self.storage.root(value) if isinstance(value, Value) else None
            if (
                root is None
                or root in self.placed
                or (root not in self.program.item_of and root not in self.storage.blank)
                or (target.kind == "input" and not self._may_overwrite(root, self.graph.inputs[target.position]))
            ):
                self.copies.append((value, target))
            else:
                self.placed[root] = target

    def _may_overwrite(self, value: Value, source: Value) -> bool:
        """Whether no later kernel reads `source`. What its own kernel reads is looked at when that is built."""
        if value in self.storage.blank:
            return False  # its parts are written by several kernels
        item = self.program.item_of[value]
        if item.kind == "sort":
            return False  # of a row that is written already, zeros are looked up
        # what a branch or a composite reads is not looked at
        own = self.order[self.program.group_of[item]] - (item.kind in ("control", "composite"))
        there = (source, *self.sharing.get(source, ()))
        if any(v in self.returned for v in there):
            return False
        readers = (other for v in there for other in self.readers.get(v, ()))
        return all(self.order[self.program.group_of[other]] <= own for other in readers)

    def _fixed(self) -> list[Placed]:
        """The temps but for those that change places with what is around this schedule."""
        moving = {source for source, _ in self.rotations}
        return [p for p in self.temps if p not in moving]

    def _rotate(self, pending: list[tuple[Placed | Literal, Placed]]) -> list[tuple[Placed | Literal, Placed]]:
        """Have temps change places with the inputs that they would be copied to; the copies that are left."""
        left: list[tuple[Placed | Literal, Placed]] = []
        for source, target in pending:
            if self._may_rotate(source, target):
                self.rotations.append((source, target))
            else:
                left.append((source, target))
        return left

    def _may_rotate(self, source: Placed | Literal, target: Placed) -> TypeGuard[Placed]:
        if isinstance(source, Literal) or source.kind != "temp" or source.type != target.type:
            return False
        taken = any(source is s for s, _ in self.rotations)
        return not taken and target.kind == "input" and target.strides is None

    def _finish_outputs(self) -> None:
        """Copy what is not where it has to end, each source before it is overwritten itself."""
        pending: list[tuple[Placed | Literal, Placed]]
        pending = [(v if isinstance(v, Literal) else self._source(v), target) for v, target in self.copies]
        pending = [(source, target) for source, target in pending if source is not target]
        if self.is_loop:
            pending = self._rotate(pending)
        while pending:
            free = next((c for c in pending if not any(o[0] is c[1] for o in pending if o is not c)), None)
            if free is not None:
                pending.remove(free)
                self._copy(*free)
                continue
            source = pending[0][0]  # a ring: one of them waits elsewhere
            assert isinstance(source, Placed)
            kept = self.temp(source.type)
            self._copy(source, kept)
            pending = [(kept if s is source else s, target) for s, target in pending]

    def _source(self, value: Value) -> Placed:
        return self.placed.get(self.storage.root(value)) or self._constant(value)

    def _copy(self, source: Placed | Literal, target: Placed) -> None:
        buffer = self.buffer(target)
        if isinstance(source, Literal):
            self._loop_step(copy_kernel(self.program, Const(source.value, source.dtype), buffer, "fill"))
        else:
            read = self.buffer(source)
            self._loop_step(copy_kernel(self.program, lambda at: Load(read, at), buffer, "copy"))

    def _constant(self, value: Value) -> Placed:
        node = self.program.producer[value]
        assert node.op.name == "constant", node
        data = np.asarray(node.attrs["value"], value.type.dtype.numpy).reshape(value.type.shape)
        placed = Placed(f"c{len(self.constants)}", value.type, "constant", len(self.constants), data=data)
        self.constants.append(placed)
        self.placed[value] = placed
        return placed

    def buffer(self, placed: Placed) -> Buffer:
        found = self.buffers.get(placed)
        if found is None:
            shape = placed.type.shape
            found = Buffer(placed.name, placed.type.dtype, shape, placed.strides or contiguous(shape))
            self.buffers[placed] = found
            self.placed_as[found] = placed
        return found

    def _buffer_of(self, value: Value) -> Buffer:
        return self.buffer(self.place(value))

    def place(self, value: Value) -> Placed:
        """Where a value is in memory: what it shares memory with, or a new temp."""
        root = self.storage.root(value)
        found = self.placed.get(root)
        if found is None:
            node = self.program.producer.get(root)
            if node is not None and node.op.name == "constant":
                return self._constant(root)
            found = self.placed[root] = self.temp(root.type, _stem(root, "b"))
        return found

    def temp(self, type: TensorType, name: str = "b") -> Placed:
        """A new buffer in the arena, or on the heap if nothing bounds its size before the program runs."""
        size = largest(type.nbytes, self.known)
        placed = Placed(f"{name}{next(self.numbers)}", type, "temp" if size is not None else "heap")
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
            found = self.aliases[key] = Buffer(buffer.name, buffer.dtype, shape, contiguous(shape))
            self.alias_base[found] = buffer
        return found

    # -- kernels -------------------------------------------------------------------------------------------------------

    def _group(self, group: Group) -> None:
        likely = id(group) in self.likely_repeats
        form = form_of(self.program, group, self._needed(group), self._memory) if likely else None
        recipe = None if form is None else self.recipes.get(form.key)
        if form is not None and recipe is not None:
            self.steps += recipe.again(form.values, self.place, self.temp)
            return
        temps, constants, steps, copies = map(len, (self.temps, self.constants, self.steps, self.copies))
        self._build_group(group)
        if form is not None and len(self.copies) == copies:  # else an item was moved out of the way
            made = (*self.constants[constants:], *self.temps[temps:])
            recipe = recipe_of(form, made, self.steps[steps:], self._memory)
            if recipe is not None:
                self.recipes[form.key] = recipe

    def _memory(self, value: Value) -> tuple[Value, Placed | None]:
        root = self.storage.root(value)
        return root, self.placed.get(root)

    def _build_group(self, group: Group) -> None:
        name = "_".join(dict.fromkeys(i.node.op.name for i in group.items))[:48]
        if group.kind == "contract":
            self._contract_step(self._built(build_contract, group, name))
        elif group.kind == "composite":
            self._composite(group, name)
        elif group.kind == "sort":
            self._sort_step(self._built(build_sort, group, name))
        elif group.kind == "control":
            self._control(group.items[0].node)
        elif group.kind == "index":
            (item,) = group.items
            target = self._buffer_of(item.value)
            kernel = arrange_scatter(build_scatter(self.program, item, self._buffer_of, self._store_to, name))
            exprs = [e for root in (kernel.value, *(b[1] for b in kernel.bindings)) for e in walk(root)]
            buffers = tuple(dict.fromkeys((*kernel_buffers(exprs, []), target)))
            self._step(replace(kernel, buffers=buffers))
        else:
            self._loop_step(self._built(build_loops, group, name))
        self._copy_back()

    def _control(self, node: Node) -> None:
        """One kernel where threads have nothing to share, else a step around the schedules of the regions."""
        from tjit.codegen.nest import build_nest, is_nest  # few programs have loops

        if not self.nests or not is_nest(node):
            self.steps.append(control_step(self, node))
            return
        inside = {value: made for made in _nodes_inside(node) for value in made.results}

        def buffer_of(value: Value) -> Buffer:
            if value in inside and value not in self.placed:
                self.program.producer[value] = inside[value]  # a constant
            return self._buffer_of(value)

        try:
            self._step(build_nest(node, buffer_of, node.op.name))
        except CodegenError:  # values that `is_nest` took for apart lie in one memory
            self.steps.append(control_step(self, node))

    def _built(self, build: Callable[..., Any], group: Group, name: str) -> Any:
        """The kernel of a group; where it would read what it overwrites, that goes elsewhere and is copied later."""
        kernel = build(self.program, group, self._buffer_of, self._store_to, self._needed(group), name)
        moved = False
        for item in group.items:
            if item.kind == "update":
                buffer = self._buffer_of(item.value)
            elif (placed := self.placed.get(item.value)) is not None and placed.kind == "input":
                buffer = self.buffer(placed)
            else:
                continue
            if reads_what_it_overwrites(kernel, buffer):
                self._move(item)
                moved = True
        return self._built(build, group, name) if moved else kernel

    def _move(self, item: Item) -> None:
        """Have an item's value made elsewhere: an update's part until the kernel has run, others until all have."""
        if item.kind != "update":
            self.copies.append((item.value, self.placed[item.value]))
            self.placed[item.value] = self.temp(item.value.type)
            return
        part = item.node.operands[1]
        value = Value(part.type)
        self.aside.append((value, replace(item)))
        node = Node(OPS["alias"], (part,), {}, (value,), location=item.node.location)
        item.node, item.value, item.kind = node, value, "store"
        self.program.producer[value], self.program.item_of[value] = node, item

    def _copy_back(self) -> None:
        """Write the parts that the last kernel left elsewhere where they belong."""
        for value, item in self.aside:
            attrs, read = item.node.attrs, self._buffer_of(value)
            axes = copy_axes(self.program, value.type.shape)
            at = tuple(a.index for a in axes)
            index = tuple(start + i * step for start, i, step in zip(attrs["starts"], at, attrs["steps"], strict=True))
            target = self._buffer_of(item.value)
            store = Store(target, index, Load(read, at), item.node.location)
            self._loop_step(LoopKernel("copy", (), (target,), axes, (Loop((), (store,)),), None, 1, item.node.location))
        self.aside.clear()

    def _needed(self, group: Group) -> Callable[[Value], bool]:
        def needed(value: Value) -> bool:
            if (
                value in self.returned
                or value in self.overwritten
                or (group.kind == "contract" and len(group.items) == 1)
            ):
                return True
            return any(self.program.group_of[item] is not group for item in self.readers.get(value, ()))

        return needed

    def _contract_step(self, kernel: ContractKernel) -> None:
        split = split_contraction(kernel, self._partial)
        if split is None:
            self._whole_contraction(kernel)
            return
        partial, join = split
        for part in partial:
            self._whole_contraction(part)
        self._loop_step(join)

    def _whole_contraction(self, kernel: ContractKernel) -> None:
        exprs = [e for root in (kernel.a, kernel.b, *(s.value for s in kernel.epilogue)) for e in walk(root)]
        self._step(replace(kernel, buffers=kernel_buffers(exprs, list(kernel.epilogue))))

    def _composite(self, group: Group, name: str) -> None:
        kernel = build_attention(self.program, group.items[0], self._buffer_of, self._needed(group), name)
        split = split_attention_gradient(kernel, self._partial) if isinstance(kernel, AttentionGradientKernel) else None
        if split is None:
            self._attention_step(kernel)
            return
        parts, join = split
        for part in parts:
            self._attention_step(part)
        self._loop_step(join)

    def _attention_step(self, kernel: Attention) -> None:
        exprs = [e for root in kernel.reads for e in walk(root)]
        self._step(replace(kernel, buffers=kernel_buffers(exprs, list(kernel.stores))))

    def _sort_step(self, kernel: SortKernel) -> None:
        kernel = replace(kernel, buffers=kernel_buffers(list(walk(kernel.value)), list(kernel.stores)))
        self._step(kernel)

    def _loop_step(self, kernel: LoopKernel) -> None:
        for part in split_loops(kernel, self._partial):
            self._cut_loops(part)

    def _cut_loops(self, kernel: LoopKernel) -> None:
        blocks = split_scan(kernel, self._partial)
        whole = blocks if len(blocks) > 1 else split_reduction(kernel, self._partial)
        for part in (arrange(p, self._temps_of(p)) for w in whole for p in with_whole_digits(w)):
            stores = [s for s in statements(part) if isinstance(s, Store)]
            self._step(replace(part, buffers=kernel_buffers(expressions(part), stores)))

    def _temps_of(self, kernel: LoopKernel) -> frozenset[str]:
        """The names of buffers that a kernel writes for later ones."""
        written = {s.buffer for s in statements(kernel) if isinstance(s, Store) and not s.buffer.row}
        return frozenset(b.name for b in written if self.placed_as[self.alias_base.get(b, b)].kind == "temp")

    def _partial(self, type: TensorType) -> Buffer:
        return self.buffer(self.temp(type))

    def _step(self, kernel: Kernel) -> None:
        arguments = tuple(self.placed_as[self.alias_base.get(b, b)] for b in kernel.buffers)
        kernel, nbytes = self.costs.chosen(rename_buffers(kernel))
        scratch = None
        if not (isinstance(nbytes, int) and nbytes == 0):
            scratch = self.temp(TensorType(u8, (nbytes,)), "scratch")
        self.steps.append(Step(kernel, arguments, kernel.location, scratch))


def _stem(value: Operand, other: str) -> str:
    """How a buffer's name begins: what gradients keep of a loop's trips is a tape."""
    return f"{TAPE}_{other}" if isinstance(value, Value) and value.name == TAPE else other


def _nodes_inside(node: Node) -> Iterator[Node]:
    for region in node.regions:
        for inner in region.nodes:
            yield inner
            yield from _nodes_inside(inner)


def _text(kernel: Kernel) -> str:
    return print_kernel(kernel, name="_", locations=False)


def _named(kernel: Kernel, text: str) -> str:
    """A name that the kernel's text gives: equal kernels are one function wherever they occur."""
    return f"{kernel.name}.{hashlib.blake2b(text.encode(), digest_size=6).hexdigest()}"
