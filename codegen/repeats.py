"""Groups that repeat an earlier one, as the layers of a network do: its kernels serve again, on other buffers.

The kernels of a group follow from what its items compute, from which values are in memory, where they lie among each
other, and which are read later. A `form` is all of that with values numbered as they are met: groups of one form have
the same kernels, and are built once.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence

from tjit.codegen.items import Group, Program
from tjit.codegen.kernel import Kernel
from tjit.codegen.steps import AnyStep, Placed, Step
from tjit.dataclass import dataclass
from tjit.ir.graph import Node, Value, exactly
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = ["Form", "Recipe", "form_of", "likely_repeats", "recipe_of"]

Memory = Callable[[Value], tuple[Value, Placed | None]]  # what a value shares its memory with, and where that is


@dataclass(frozen=True)
class Form:
    """What a group is but for which values it is about: these, by number."""

    key: Hashable
    values: tuple[Value, ...]


@dataclass(frozen=True)
class Recipe:
    """The steps of a form.

    Attributes:
        made: in order, the temps that they need: the number of a value that is placed, or type and name of a part.
        steps: kernel, arguments, scratch: the number of a value that is in memory, or ~n for the n-th of `made`.
    """

    made: tuple[int | tuple[TensorType, str], ...]
    steps: tuple[tuple[Kernel, tuple[int, ...], Location | None, int | None], ...]

    def again(
        self, values: Sequence[Value], place: Callable[[Value], Placed], temp: Callable[..., Placed]
    ) -> Iterator[Step]:
        """The steps for other values of the same form."""
        made = [place(values[one]) if isinstance(one, int) else temp(*one) for one in self.made]

        def memory(number: int) -> Placed:
            return made[~number] if number < 0 else place(values[number])

        for kernel, arguments, location, scratch in self.steps:
            yield Step(kernel, tuple(map(memory, arguments)), location, None if scratch is None else memory(scratch))


def likely_repeats(groups: Sequence[Group]) -> set[int]:
    """The groups, by id, that look like another at first sight."""
    alike: dict[Hashable, list[int]] = {}
    for group in groups:
        look = tuple((item.node.op.name, item.domain, len(item.inlined)) for item in group.items)
        alike.setdefault(look, []).append(id(group))
    return {one for found in alike.values() if len(found) > 1 for one in found}


def form_of(program: Program, group: Group, needed: Callable[[Value], bool], memory: Memory) -> Form | None:
    """The form of a group of loops or of a contraction; None where it has parts that no form describes."""
    if any(item.kind not in ("store", "reduce", "scan", "contract") for item in group.items):
        return None
    form = _Former(program, group, needed, memory).form()
    try:
        hash(form)
    except TypeError:  # an attribute that has none
        return None
    return form


def recipe_of(form: Form, made: Sequence[Placed], steps: Sequence[AnyStep], memory: Memory) -> Recipe | None:
    """What the steps of a group and the memory made for them say of its form; None where they have more to them."""
    numbers = {id(p): ~n for n, p in enumerate(made)}
    numbers |= {id(p): n for n, value in enumerate(form.values) if (p := memory(value)[1]) is not None}
    kernels = [step for step in steps if isinstance(step, Step)]
    used = [p for step in kernels for p in (*step.arguments, step.scratch) if p is not None]
    if len(kernels) < len(steps) or any(id(p) not in numbers for p in used):
        return None
    if any(p.kind == "constant" and numbers[id(p)] < 0 for p in made):
        return None
    return Recipe(
        tuple((p.type, p.name.rstrip("0123456789")) if numbers[id(p)] < 0 else numbers[id(p)] for p in made),
        tuple(
            (
                step.kernel,
                tuple(numbers[id(p)] for p in step.arguments),
                step.location,
                None if step.scratch is None else numbers[id(step.scratch)],
            )
            for step in kernels
        ),
    )


class _Former:
    """Numbers the values of one group."""

    def __init__(self, program: Program, group: Group, needed: Callable[[Value], bool], memory: Memory) -> None:
        self.program, self.group, self.needed, self.memory = program, group, needed, memory
        self.numbers: dict[Value, int] = {}
        self.met: dict[int, int] = {}  # memory, by id
        self.written_out: set[Value] = set()

    def form(self) -> Form | None:
        group, program = self.group, self.program
        axes = {s: n for n, s in enumerate(dict.fromkeys(group.axis.values()))}
        items = tuple(
            (
                item.kind,
                item.domain,
                tuple(axes[group.axis[s]] for s in item.symbols),
                self.needed(item.value),
                self._node(item.node),
                tuple(map(self._node, item.inlined)),
            )
            for item in group.items
        )
        own = {item.value for item in group.items}
        places = []
        for value in self.numbers:
            if value in own or program.in_memory(value):
                places.append(self._place(value))
            elif value in self.written_out:
                places.append(None)
            else:
                return None  # read through nodes that were not noted
        position = program.position
        order = sorted(range(len(self.numbers)), key=[position.get(v, -1) for v in self.numbers].__getitem__)
        parallel = tuple(axes[s] for s in group.parallel)
        return Form((group.kind, parallel, items, tuple(places), tuple(order)), tuple(self.numbers))

    def _node(self, node: Node) -> Hashable:
        numbers = self.numbers
        results = []
        for result in node.results:
            self.written_out.add(result)
            results.append((numbers.setdefault(result, len(numbers)), result.type.dtype, result.type.shape))
        operands = [numbers.setdefault(o, len(numbers)) if isinstance(o, Value) else exactly(o) for o in node.operands]
        attrs = [(k, exactly(v)) for k, v in node.attrs.items()] if node.attrs else ()
        return node.op.name, node.location, *operands, *attrs, *results

    def _place(self, value: Value) -> Hashable:
        """Where a value lies: the number of its memory, for two may share it, and what that is."""
        root, placed = self.memory(value)
        if placed is not None:
            return self.met.setdefault(id(placed), len(self.met)), placed.kind, placed.type, placed.strides
        producer = self.program.producer.get(root)
        is_constant = producer is not None and producer.op.name == "constant"
        return self.met.setdefault(id(root), len(self.met)), "constant" if is_constant else "temp", root.type, None
