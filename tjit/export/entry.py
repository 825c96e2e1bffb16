"""Capture of an entry point: the graph that every call runs, with its arguments, state and results."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numpy as np

from tjit.capture.function import Captured, Source, capture_function
from tjit.capture.guards import take_guards
from tjit.capture.inputs import array_leaf
from tjit.capture.places import MISSING, Place
from tjit.capture.pytree import Tree, flatten
from tjit.compile import CompiledFunction, leaf_names
from tjit.compiled import BuildOptions
from tjit.dataclass import dataclass
from tjit.errors import ArgumentError, CaptureError
from tjit.export.dims import shapes_of
from tjit.export.naming import unique
from tjit.ir.dims import InconclusiveDimError, inconclusive
from tjit.ir.graph import Graph, Value
from tjit.ir.types import TensorType
from tjit.location import Location
from tjit.ops.numbers import InconclusiveNumberError
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.tensor import Tensor

__all__ = ["Entry", "Field", "capture_entry"]


@dataclass(frozen=True)
class Field:
    """An argument or an output: its name, its type, and whether a call writes to it (arguments only)."""

    name: str
    type: TensorType
    written: bool = False


@dataclass
class Entry:
    """A captured entry point.

    Attributes:
        graph: inputs as `sources`; outputs are `outputs`, then those written back.
        sources: "argument" (by position among `arguments`) or a kind of state.
        tree, leaves: structure of (args, kwargs); a leaf is an argument's position, or ("value", the Python value).
        parameters: names of the arguments, for calls by keyword.
        returns, results: structure of what is returned; a leaf is ("output" | "argument", position), ("state", tensor)
            or ("value", the Python value).
    """

    name: str
    function: Any
    graph: Graph
    sources: tuple[Source, ...]
    arguments: tuple[Field, ...]
    outputs: tuple[Field, ...]
    tree: Tree
    leaves: list[Any]
    returns: Tree
    results: list[tuple[str, Any]]
    options: BuildOptions
    parameters: tuple[str, ...] = ()


def capture_entry(name: str, fn: Any, example_inputs: Any, dynamic: Any) -> Entry:
    """Capture `fn` as it runs call after call, which is what an exported program does.

    Raises:
        CaptureError: it cannot be captured, or its next call would differ from the first in a way that only Python can
            follow.
    """
    options = fn._options if isinstance(fn, CompiledFunction) else BuildOptions()
    function = fn._tjit_function if isinstance(fn, CompiledFunction) else fn
    if not callable(function):
        raise ArgumentError(f"export takes a function or a module, not {type(function).__name__}")
    leaves, tree = flatten((_positional(example_inputs), {}))
    leaves = _apart(leaves)
    names = _unique_names(leaf_names(getattr(function, "forward", function), tree), leaves)
    shapes = shapes_of(leaves, names, dynamic)

    def capture() -> Captured:
        try:
            with inconclusive() as positive:
                captured = capture_function(function, tree, leaves, shapes, names, name, views=False)
        except InconclusiveDimError as error:
            raise CaptureError(
                f"{name} cannot be exported with these dynamic dims: {error.message}",
                error.location,
                hint="leave the dim static, or give its Dim a min and a max that decide the question",
            ) from None
        if captured.sets_numbers:
            raise CaptureError(
                f"{name} changes a number that it gives its optimizer, which a program cannot do",
                hint="step the schedule outside of what is exported",
            )
        if positive:  # the program checks extents against the declared bounds only
            wanted = " and ".join(dict.fromkeys(f"{d} >= 1" for d in positive))
            raise CaptureError(
                f"{name} needs {wanted}, which its dynamic dims do not promise",
                hint="give the Dim a larger min, or leave the dim static",
            )
        return captured

    guards = take_guards(function, [leaf for leaf in leaves if not array_leaf(leaf)])
    captured = _steady(capture)
    changed = guards.changed_values()
    if changed:
        guards.put_back()
        watch = guards.watch()
        _check_alone(
            name, changed, lambda: capture_function(function, tree, leaves, shapes, names, name, changed, watch=watch)
        )
    return _Reduced(name, function, captured, tree, leaves, names, options).entry()


def _check_alone(
    name: str, changed: Mapping[Place, tuple[str, Location | None]], capture: Callable[[], Captured]
) -> None:
    """Python values that the function changes are for themselves: no program could follow what depends on them.

    Args:
        changed: their places, how the user calls them, and a line that reads them.
        capture: captures the function with them as inputs.

    Raises:
        CaptureError: what the program does depends on them.
    """
    numbers = all(type(place.now()) in (int, float) for place in changed)
    try:
        with inconclusive():
            alone = numbers and _is_apart(capture(), changed)
    except InconclusiveNumberError:
        alone = False
    if not alone:
        paths, lines = zip(*changed.values(), strict=True)
        raise CaptureError(
            f"{name} goes by Python values that it changes, which a program cannot: {' and '.join(paths)}",
            next((line for line in lines if line is not None), None),
            hint="change them outside of what is exported (an optimizer's rates are numbers of the package's state, "
            "for its caller to set), or keep them in tensors",
        )


def _is_apart(captured: Captured, changed: Collection[Place]) -> bool:
    """Whether neither the program nor what Python was asked depends on numbers at these places."""
    used = eliminate_dead_nodes(captured.graph).uses()
    read = [s for s, v in zip(captured.sources, captured.graph.inputs, strict=True) if s.is_number and v in used]
    asked = captured.replay is not None and any(step.answer is not MISSING for _, step in captured.replay.steps)
    return not asked and not any(s.kind == "step" or s.place in changed for s in read)


def _positional(example_inputs: Any) -> tuple[Any, ...]:
    if isinstance(example_inputs, (tuple, list)):
        return tuple(example_inputs)
    return (example_inputs,)


def _apart(leaves: Sequence[Any]) -> list[Any]:
    """The leaves with an array that is passed twice as two arrays: a caller of the package may pass different ones."""
    seen: set[int] = set()
    result: list[Any] = []
    for leaf in leaves:
        if array_leaf(leaf) and id(leaf) in seen:
            leaf = leaf.copy() if isinstance(leaf, np.ndarray) else Tensor(leaf.array.copy(), leaf.requires_grad)
        seen.add(id(leaf))
        result.append(leaf)
    return result


def _unique_names(names: Sequence[str], leaves: Sequence[Any]) -> list[str]:
    taken: set[str] = set()
    return [unique(name, taken) if array_leaf(leaf) else name for name, leaf in zip(names, leaves, strict=True)]


# -- .grad -------------------------------------------------------------------------------------------------------------


def _steady(capture: Callable[[], Captured]) -> Captured:
    """The capture that later calls would make: with those `.grad` set that a call leaves set."""
    first = captured = capture()
    if not captured.grads:
        return captured
    owners = _owners(captured)
    with _grads(owners):
        for tensor in owners:
            tensor._grad = None
        captured = capture()
        if first.graph.writes and not captured.graph.writes:
            raise CaptureError(
                "the function uses .grad that something else computes, and sets it to None",
                hint="zero it in place: optimizer.zero_grad(set_to_none=False)",
            )
        left = [s.tensor for s, position in captured.grads if position is not None and s.kind == "tensor"]
        if not left:
            return captured
        for tensor in left:
            assert tensor is not None
            tensor._grad = Tensor(np.zeros(tensor.array.shape, tensor.array.dtype))
        return capture()


def _owners(captured: Captured) -> list[Tensor]:
    tensors = [s.tensor for s in captured.sources] + [s.tensor for s, _ in captured.grads]
    return list({id(t): t for t in tensors if t is not None}.values())


@contextmanager
def _grads(tensors: Sequence[Tensor]) -> Iterator[None]:
    before = [t._grad for t in tensors]
    try:
        yield
    finally:
        for tensor, grad in zip(tensors, before, strict=True):
            tensor._grad = grad


# -- from what Python needs to what a program needs --------------------------------------------------------------------


class _Reduced:
    """A captured function without the outputs and inputs that only Python has a use for."""

    def __init__(
        self,
        name: str,
        function: Any,
        captured: Captured,
        tree: Tree,
        leaves: list[Any],
        names: list[str],
        options: BuildOptions,
    ) -> None:
        self.name, self.function, self.captured = name, function, captured
        self.tree, self.leaves, self.options = tree, leaves, options
        self.names = [n for n, leaf in zip(names, leaves, strict=True) if array_leaf(leaf)]

    def entry(self) -> Entry:
        graph, positions = self._outputs()
        graph, sources = _used_inputs(graph, self.captured.sources)
        written = set(graph.writes.values())
        arguments = tuple(
            Field(self.names[s.position], v.type, i in written)
            for i, (s, v) in enumerate(zip(sources, graph.inputs, strict=True))
            if s.kind == "argument"
        )
        returned = [o for i, o in enumerate(graph.outputs) if i not in graph.writes]
        names = self._output_names(positions, len(returned))
        outputs = tuple(Field(n, o.type) for n, o in zip(names, returned, strict=True))
        results = [self._result(r, positions) for r in self.captured.results]
        parameters = _parameters(self.function, len(self.tree.children[0].children))
        return Entry(
            self.name, self.function, graph, sources, arguments, outputs, self.tree, self._leaves(),
            self.captured.tree, results, self.options, parameters,
        )  # fmt: skip

    def _outputs(self) -> tuple[Graph, dict[int, int]]:
        """The graph without gradients that nobody reads, and new positions of returned outputs."""
        captured, graph = self.captured, self.captured.graph
        kept = sorted({r.position for r in captured.results if r.kind == "output"})
        outputs = [graph.outputs[p] for p in kept]
        writes: dict[int, int] = {}
        grad_inputs = {id(s.tensor): i for i, s in enumerate(captured.sources) if s.kind == "grad"}
        uses = eliminate_dead_nodes(graph).uses()
        for source, position in captured.grads:
            at = grad_inputs.get(id(source.tensor)) if source.kind == "tensor" else None
            if at is None or graph.inputs[at] not in uses:
                continue  # the next call does not read what this one leaves in .grad
            if position is None or graph.outputs[position].type != graph.inputs[at].type:
                raise CaptureError(
                    f"{self.name} reads .grad of a tensor from the call before, and leaves none of that type"
                )
            writes[len(outputs)] = at
            outputs.append(graph.outputs[position])
        for position, at in graph.writes.items():
            writes[len(outputs)] = at
            outputs.append(graph.outputs[position])
        reduced = replace(graph, outputs=tuple(outputs), writes=writes)
        return eliminate_dead_nodes(reduced), {p: n for n, p in enumerate(kept)}

    def _output_names(self, positions: dict[int, int], count: int) -> list[str]:
        names = [""] * count
        taken = set(self.names)
        paths = list(_paths(self.captured.tree, "output"))
        for path, result in zip(paths, self.captured.results, strict=True):
            if result.kind == "output" and not names[positions[result.position]]:
                names[positions[result.position]] = unique(path, taken)
        return names

    def _leaves(self) -> list[Any]:
        positions = iter(range(len(self.names)))
        return [next(positions) if array_leaf(leaf) else ("value", leaf) for leaf in self.leaves]

    def _result(self, result: Any, positions: dict[int, int]) -> tuple[str, Any]:
        if result.kind == "output":
            return "output", positions[result.position]
        if result.kind == "argument":
            return "argument", result.position
        return ("state" if result.kind == "tensor" else "value"), result.value


def _parameters(function: Any, count: int) -> tuple[str, ...]:
    """The names by which a call may pass the arguments; fewer where some have none."""
    parameters = list(inspect.signature(getattr(function, "forward", function)).parameters.values())[:count]
    return tuple(p.name for p in parameters if p.kind is inspect.Parameter.POSITIONAL_OR_KEYWORD)


def _used_inputs(graph: Graph, sources: Sequence[Source]) -> tuple[Graph, tuple[Source, ...]]:
    """Without state that nothing reads or writes. Arguments stay, used or not."""
    uses, outputs, written = graph.uses(), set(graph.outputs), set(graph.writes.values())
    kept = [
        i
        for i, (value, source) in enumerate(zip(graph.inputs, sources, strict=True))
        if source.kind == "argument" or value in uses or value in outputs or i in written
    ]
    moved = {old: new for new, old in enumerate(kept)}
    inputs: tuple[Value, ...] = tuple(graph.inputs[i] for i in kept)
    writes = {position: moved[i] for position, i in graph.writes.items()}
    frozen = frozenset(moved[i] for i in graph.frozen if i in moved)
    return replace(graph, inputs=inputs, writes=writes, frozen=frozen), tuple(sources[i] for i in kept)


def _paths(tree: Tree, path: str) -> Iterator[str]:
    if tree.kind is None:
        yield path
        return
    keys = tree.keys or getattr(tree.kind, "_fields", None) or range(len(tree.children))
    for key, child in zip(keys, tree.children, strict=True):
        first = f"output{key}" if isinstance(key, int) else str(key)
        whole = first if path == "output" else f"{path}_{key}"
        yield from _paths(child, whole)
