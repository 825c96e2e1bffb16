"""A Python function and its arguments in, a graph out, with all that a call must do around it."""

from __future__ import annotations

import functools
import gc
import operator
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.autograd.tape import grad
from tjit.capture.aliases import Chain, chain_of, chain_symbols
from tjit.capture.calls import callee
from tjit.capture.containers import Containers
from tjit.capture.guards import same
from tjit.capture.inputs import array_leaf, array_of, strides_of_argument
from tjit.capture.places import MISSING, Place, Watch, replaced
from tjit.capture.pytree import Tree, flatten, unflatten
from tjit.capture.refusals import check_keys, check_kind, check_plain, endless, leaked
from tjit.capture.replay import Leaf, Of, Recording, Replay, Step, fits_input
from tjit.capture.trace import NumberTensor, Trace, tracing
from tjit.dataclass import dataclass
from tjit.errors import CaptureError
from tjit.ir.dims import Dim, DimExpr, runtime_symbols
from tjit.ir.graph import Graph, GraphBuilder, Literal, Value
from tjit.ir.types import TensorType
from tjit.location import definition
from tjit.numpy_api.array import MaskedRead, NumpyTensor, is_array, parts
from tjit.numpy_api.operands import as_array, real_dtype, split_complex
from tjit.ops import arithmetic, rounding
from tjit.ops.apply import TapeNode, state
from tjit.ops.creation import zeros
from tjit.ops.join import stack
from tjit.ops.numbers import InconclusiveNumberError, Number
from tjit.tensor import Size, Tensor, Traced

__all__ = ["Captured", "Result", "Source", "capture_function"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where an input of the graph comes from at each call.

    kind: "argument" (the `position`-th array argument), "tensor" (an eager tensor met while capturing), "grad" (the
    `.grad` of `tensor`), "leaf" (the `position`-th leaf of the arguments, a number), "number" (a number at `place`),
    "held" (the tensor at `place`, at capture `tensor`), or "step" (the `position`-th value of the replay).
    """

    kind: str
    position: int = 0
    tensor: Tensor | None = None
    place: Place | None = None

    @property
    def is_number(self) -> bool:
        return self.kind in ("leaf", "number", "step")


@dataclass(frozen=True, slots=True)
class Result:
    """What a leaf of the returned value is.

    kind: "output" (the `position`-th returned output; `value` says what NumPy code returns: "array", "scalar",
        "complex array", "complex scalar", "complex number", or a Python "number"), "number" (the `position`-th value
        of the replay), "argument" (an argument handed back), "tensor" (an eager tensor handed back), "dim" (a symbolic
        dim or a shape of such), "value" (a Python value), or "view" (of another result, `base`, by the ops in `chain`).
    """

    kind: str
    position: int = 0
    value: Any = None
    requires_grad: bool = False
    freed: bool = False  # requires grad, but a backward() inside has freed its history
    base: Result | None = None
    chain: Chain = ()


@dataclass
class Captured:
    """A captured function.

    Attributes:
        graph: inputs as `sources`; outputs are the returned ones, then new gradients, then those written back.
        sources: one per graph input.
        tree, results: the structure of the returned value, and its leaves.
        grads: (source of the tensor whose `.grad` is set, output position or None for `.grad = None`).
        requires: positions of inputs that require grad and reach a returned output that does.
        joint: where there are some: the graph with one more input for the cotangent of each returned output that
            requires grad, in order, and one more output for the gradient of each input in `requires`.
        wanted: requires_grad of every lifted tensor as capture saw it.
        sets_numbers: places of numbers that the program is given and the function sets: no other call has the same.
        replay: what Python computes from numbers before the program runs.
    """

    graph: Graph
    sources: tuple[Source, ...]
    tree: Tree
    results: tuple[Result, ...]
    grads: tuple[tuple[Source, int | None], ...]
    requires: tuple[int, ...]
    joint: Graph | None
    wanted: tuple[tuple[Tensor, bool], ...]
    grad_absent: tuple[Tensor, ...]
    untracked: frozenset[Value] = frozenset()  # computed under no_grad
    checkpoint: bool = False  # whether backward is to compute everything again
    places: tuple[Place, ...] = ()  # attributes and variables that every call sets
    changes: bool = False  # whether lists or dicts among the arguments are others after the call
    sets_numbers: frozenset[Place] = frozenset()
    replay: Replay | None = None

    @property
    def leaves_more(self) -> bool:
        """Whether `tree` is (returned, values of `places`, (args, kwargs) as the function leaves them, or None)."""
        return bool(self.places) or self.changes


class _FunctionTrace(Trace):
    """A trace of a whole function: lifts numbers and gradients too."""

    def __init__(self, builder: GraphBuilder, leaves: Sequence[Any], names: Sequence[str], watch: Watch) -> None:
        super().__init__(builder)
        self.leaves = leaves
        self.names = names
        self.watch = watch
        self.sources: list[Source] = []
        self.arguments: dict[int, int] = {}
        self.grad_absent: dict[int, Tensor] = {}
        self.lifted_grads: dict[int, Tensor] = {}
        self.numbers: dict[Place, tuple[float, Tensor]] = {}  # what `lift_number` found and gave
        self.sets_numbers: set[Place] = set()
        self.recording = Recording(self.tensor_of)
        self.places: dict[Place, tuple[Any, Number]] = {}  # what they held, and what stands for it
        self.held: dict[int, Place] = {}  # where tensors are read that others take the place of, by their id
        self.number_values: dict[int, Value] = {}  # in the graph, by their place in the recording
        self.given: list[int] = []  # of them, those that are inputs
        self.number_arrays: dict[int, np.ndarray] = {}  # what inputs are at this call, by the input's position
        self.wanted: set[int] = set()  # steps whose values every call puts somewhere
        self.histories: dict[int, tuple[Tensor, bool, TapeNode | None, int]] = {}

    def lift(self, tensor: Tensor) -> None:
        """While capturing, a tensor with a history is a leaf: what made it is outside of the graph."""
        place = self.held.get(id(tensor))
        self.sources.append(Source("tensor" if place is None else "held", tensor=tensor, place=place))
        self.histories[id(tensor)] = (tensor, tensor._requires_grad, tensor._grad_fn, tensor._index)
        if tensor._grad_fn is not None:
            tensor._grad_fn, tensor._requires_grad = None, True

    def restore(self) -> None:
        """Give the eager tensors that capture met their own histories back."""
        for tensor, requires, grad_fn, index in self.histories.values():
            tensor._requires_grad, tensor._grad_fn, tensor._index = requires, grad_fn, index

    def computed_outside(self, tensor: Tensor) -> bool:
        """Whether a tensor from outside of the function has a history there."""
        history = self.histories.get(id(tensor))
        return tensor.__dict__.get("_computed_outside", False) if history is None else history[2] is not None

    def example(self, tensor: Tensor) -> np.ndarray | None:
        """What a traced tensor is for the arguments of this call; None where branches and loops become nodes."""
        if self.converts or self.is_inside:
            return None
        from tjit.ir.evaluate import evaluate
        from tjit.passes.dead_nodes import eliminate_dead_nodes

        graph = eliminate_dead_nodes(self.builder.finish([self.value_of(tensor)]))
        arrays = [array_of(leaf) for leaf in self.leaves if array_leaf(leaf)]
        return evaluate(graph, [self._source_array(i, s, arrays) for i, s in enumerate(self.sources)])[0]

    def _source_array(self, i: int, source: Source, arrays: Sequence[np.ndarray]) -> np.ndarray:
        if source.kind == "argument":
            return arrays[source.position]
        if source.kind in ("tensor", "held"):
            assert source.tensor is not None
            return source.tensor.array
        if source.kind == "grad":
            assert source.tensor is not None
            assert source.tensor._grad is not None
            return source.tensor._grad.array
        return self.number_arrays[i]

    def grad_of(self, tensor: Tensor) -> Tensor | None:
        """`.grad` as the function sees it: set during capture, or an input of its own."""
        if id(tensor) in self.grads:
            return self.grads[id(tensor)][1]
        self.check_held(tensor)
        if tensor._grad is None:
            if self.outlives(tensor):
                self.grad_absent[id(tensor)] = tensor
            return None
        handle = self.lifted_grads.get(id(tensor))
        if handle is None:
            # a handle of its own: the tensor in `.grad` may be another one at the next call
            value = self.builder.input(tensor._grad.type_, _grad_name(tensor))
            self.sources.append(Source("grad", tensor=tensor))
            handle = self.lifted_grads[id(tensor)] = Tensor(Traced(value))
            self.inputs[value] = handle
        return handle

    def left(self) -> list[tuple[Place, Any]]:
        """Places that the function has set to what every call sets them to, and what was there before."""
        untouched = {place for place, (_, number) in self.places.items() if place.now() is number}
        found = {place: before for place, before in self.watch.left(_is_set) if place not in untouched}
        set_plainly = self.places.keys() - untouched - found.keys()
        return [*found.items(), *((place, self.places[place][0]) for place in set_plainly)]

    def outlives(self, tensor: Tensor) -> bool:
        """Whether a tensor is there after the call: it is from outside, and not made by the function."""
        return not tensor.is_traced or id(tensor) in self.arguments

    def lift_number(self, holder: Any, key: Any) -> Any:
        """`holder[key]`, a float that may change between calls, as a 0-d tensor of f64; anything else as it is."""
        value = holder[key]
        if not isinstance(value, float):
            return value
        place = Place(holder, key)
        if place not in self.numbers:
            if self.watch.before(place) not in (value, MISSING):
                return value  # the function has set it, by what is guarded
            made = self._number_input(Source("number", place=place), place.name, value)
            self.numbers[place] = value, Tensor(self._of_root(made))
        found, number = self.numbers[place]
        if value is found or value == found:
            return number
        self.sets_numbers.add(place)
        return value

    def keep_numbers(self) -> None:
        """Have numbers that the function has set be what they were when it was called."""
        for i, source in enumerate(self.sources):
            place = source.place
            if place is None or place not in self.numbers:
                continue
            found, now = self.numbers[place][0], place.now()
            if now is not found and now != found:
                self.sets_numbers.add(place)
                self.sources[i] = replace(source, place=Place({place.key: found}, place.key))

    def _number_input(self, source: Source, name: str, value: Any) -> Value:
        dtype = dtypes.f64 if isinstance(value, float) else dtypes.i64
        self.number_arrays[len(self.sources)] = np.array(value, dtype.numpy)
        self.sources.append(source)
        return self.builder.input(TensorType(dtype, ()), name)

    def _of_root(self, value: Value) -> Traced:
        """A handle on a value of the graph, wherever it is made."""
        traced = Traced(value)
        traced.scope = self.scope.root
        return traced

    def hold(self, places: Iterable[Place]) -> None:
        """Read tensors at these places at each call, instead of those that are there now."""
        self.held = {id(place.now()): place for place in places}

    def check_held(self, tensor: Tensor) -> None:
        """A tensor is not what a call finds at a place.

        Raises:
            InconclusiveNumberError: it is.
        """
        if id(tensor) in self.held:
            raise InconclusiveNumberError(frozenset((self.held[id(tensor)],)))

    def stand_in(self, place: Place) -> Number:
        """What a place holds during the capture in place of its number."""
        number = self.recording.leaf(place, place.now())
        self.places[place] = place.now(), number
        return number

    def tensor_of(self, number: Number) -> Tensor:
        """A lifted number as a value of the graph: an input, or float arithmetic on such."""
        if not fits_input(number._value):
            raise InconclusiveNumberError(self.recording.origins(number._step))
        return NumberTensor(self._of_root(self._value_at(number._step)))

    def _value_at(self, at: int) -> Value:
        """The value of the graph that is this one of the recording."""
        if at not in self.number_values:
            leaf, step = self.recording.leaf_at(at), self.recording.step_at(at)
            is_in_graph = step is not None and step.kind is float and step.is_total and step.fn in _IN_GRAPH
            value = self._computed(step) if step and is_in_graph else self._given(at, leaf)
            self.number_values[at] = value
        return self.number_values[at]

    def _given(self, at: int, leaf: Leaf | None) -> Value:
        value = self.recording.values[at]
        self.given.append(at)
        if leaf is None:
            return self._number_input(Source("step", at), "number", value)
        if isinstance(leaf.where, Place):
            return self._number_input(Source("number", place=leaf.where), leaf.where.name, value)
        return self._number_input(Source("leaf", leaf.where), self.names[leaf.where], value)

    def _computed(self, step: Step) -> Value:
        """Float arithmetic, which the program does as Python does."""
        ready = [self._value_at(o) if type(o) is Of else Literal(float(o), dtypes.f64) for o in step.operands]
        (value,) = self.builder.add(_IN_GRAPH[step.fn], ready, location=self.location())
        self.mark_untracked((value,))
        return value

    def check_numbers(self) -> None:
        """No lifted number outlives the capture.

        Raises:
            InconclusiveNumberError: the function stored one where a plain number belongs.
        """
        self.recording.check(gc.collect)


_IN_GRAPH = {
    operator.add: arithmetic.ADD,
    operator.sub: arithmetic.SUB,
    operator.mul: arithmetic.MUL,
    operator.truediv: arithmetic.DIV,
    operator.neg: arithmetic.NEG,
    abs: rounding.ABS,
}


def _is_set(value: Any, before: Any) -> bool:
    """Whether what a place came to hold is for every call to set: a plain value, traced tensors, lifted numbers."""
    if type(value) in _PLAIN:
        return type(before) in (*_PLAIN, Number) and not same(value, before)
    return any(type(x) is Number or (isinstance(x, Tensor) and x.is_traced) for x in flatten(value)[0])


_PLAIN = (bool, int, float, str, type(None))


def _frozen(sources: Sequence[Source], written: Collection[int]) -> frozenset[int]:
    """The positions of inputs that hold the same elements at every call."""
    marked = {i for i, s in enumerate(sources) if s.kind == "tensor" and s.tensor is not None and s.tensor.is_frozen}
    return frozenset(marked.difference(written))


def _grad_name(tensor: Tensor) -> str:
    return f"{tensor.__dict__.get('name', 'x')}_grad"


def capture_function(
    fn: Callable[..., Any],
    tree: Tree,
    leaves: Sequence[Any],
    shapes: Sequence[tuple[Dim, ...] | None],
    names: Sequence[str],
    name: str,
    numbers: Collection[int | Place] = (),
    rewrites: bool = True,
    watch: Watch | None = None,
    views: bool = True,
    changes: bool = False,
) -> Captured:
    """Capture `fn(*args, **kwargs)`, where `(args, kwargs)` has the structure `tree` and the `leaves`.

    Args:
        shapes: for each leaf the shape to capture with (symbolic or not), None where the leaf is a Python value.
        names: of the leaves, for dumps.
        numbers: the ints and floats that are inputs: positions of leaves, and places. Also places of tensors, which are
            read there at each call.
        watch: where the function may leave tensors that outlive the call.
        rewrites: capture branches and loops on tensors as nodes. False: what these leaves do is what is captured.
        views: whether results that share memory with arguments are views of these, and no outputs of the graph.
        changes: whether lists and dicts among the arguments that the function changes are results.

    Raises:
        CaptureError: the function cannot be captured.
        InconclusiveNumberError: not with these numbers as inputs.
    """
    check_kind(fn)
    trace = _FunctionTrace(GraphBuilder(name), leaves, names, watch or Watch())
    trace.converts = rewrites
    places = [place for place in numbers if isinstance(place, Place)]
    trace.hold(place for place in places if isinstance(place.now(), Tensor))
    try:
        with replaced({place: trace.stand_in(place) for place in places if not isinstance(place.now(), Tensor)}):
            captured = _capture(trace, fn, tree, leaves, shapes, names, numbers, views, changes)
    finally:
        trace.places.clear()
        trace.recording.close()
    trace.check_numbers()
    return captured


def _capture(
    trace: _FunctionTrace,
    fn: Callable[..., Any],
    tree: Tree,
    leaves: Sequence[Any],
    shapes: Sequence[tuple[Dim, ...] | None],
    names: Sequence[str],
    numbers: Collection[int | Place],
    views: bool,
    changes: bool,
) -> Captured:
    handles: list[Any] = []
    arrays: list[Any] = []
    same: dict[int, Any] = {}  # one array passed twice is one input
    position = -1
    for i, (leaf, shape, leaf_name) in enumerate(zip(leaves, shapes, names, strict=True)):
        position += shape is not None
        if i in numbers:
            handles.append(trace.recording.leaf(i, leaf))
            continue
        if shape is None or id(leaf) in same:
            handles.append(same.get(id(leaf), leaf))
            continue
        with tracing(trace):
            handle = same[id(leaf)] = _argument(trace, leaf, shape, leaf_name, position)
        arrays.append(handle)
        handles.append(handle)
    args, kwargs = unflatten(tree, handles)
    containers = Containers((args, kwargs)) if changes else None
    recording = state.grad
    trace.numpy = not any(isinstance(leaf, Tensor) for leaf in leaves)
    try:
        with tracing(trace), runtime_symbols(trace.number):
            returned = callee(fn)(*args, **kwargs)
        if trace.refused is not None:
            raise trace.refused  # the function caught it and went on: what it made is not what it would compute
        if state.grad is not recording:
            raise CaptureError(
                "the function leaves the grad mode changed", hint="use `with tjit.no_grad():`, which gives it back"
            )
        changed = containers is not None and containers.changed()
        captured = _Finish(trace, arrays, views).run(returned, (args, kwargs) if changed else None)
        for place, before in trace.left():
            place.put(before)
        return captured
    except RecursionError as error:
        raise endless(error) from None
    except CaptureError as error:
        error.location = error.location or definition(fn)
        raise
    finally:
        state.grad = recording
        for place, before in trace.left():
            if type(place.now()) not in _PLAIN:  # where the function failed it leaves what it has set
                place.put(before)
        trace.restore()


def _argument(trace: _FunctionTrace, leaf: Any, shape: tuple[Dim, ...], name: str, position: int) -> Any:
    is_complex = not isinstance(leaf, Tensor) and leaf.dtype.kind == "c"
    dtype = leaf.dtype if isinstance(leaf, Tensor) else dtypes.from_numpy(real_dtype(leaf.dtype))
    value = trace.builder.input(TensorType(dtype, (*shape, 2) if is_complex else shape), name)
    trace.sources.append(Source("argument", position))
    strides = strides_of_argument(leaf, shape, name)
    if not isinstance(leaf, Tensor):
        return _numpy_argument(trace, value, strides, is_complex, position)
    handle = _laid_out(Tensor(Traced(value), requires_grad=leaf.requires_grad), strides)
    if leaf._grad_fn is not None:
        handle.__dict__["_computed_outside"] = True
    trace.inputs[value] = handle
    trace.arguments[id(handle)] = position
    return handle


def _laid_out(handle: Tensor, strides: tuple[Dim, ...] | None) -> Tensor:
    if strides is not None:
        handle.__dict__["_strides"] = strides
    return handle


def _numpy_argument(
    trace: _FunctionTrace, value: Value, strides: tuple[Dim, ...] | None, is_complex: bool, position: int
) -> Any:
    """What stands for an ndarray: it computes as NumPy does."""
    if is_complex and strides is not None:
        strides = (*(2 * s for s in strides), 1)
    handle = _laid_out(Tensor(Traced(value)) if is_complex else NumpyTensor(Traced(value)), strides)
    trace.inputs[value] = handle
    array = split_complex(handle) if is_complex else handle
    trace.arguments[id(array)] = position
    return array


class _Finish:
    """From the end of a trace to its result."""

    def __init__(self, trace: _FunctionTrace, arrays: list[Tensor], views: bool) -> None:
        self.trace = trace
        self.arrays = arrays
        self.views = views
        self.outputs: list[Value] = []
        self.position: dict[Value, int] = {}
        self.freed: set[int] = set()  # ids of tape nodes
        self.returned: set[int] = set()  # ids of returned leaves

    def run(self, returned: Any, changed: Any) -> Captured:
        """The result, given what is returned and, where they are others now, the arguments' containers."""
        trace = self.trace
        trace.keep_numbers()
        left = [place for place, _ in trace.left()]
        if left or changed is not None:
            returned = returned, [place.now() for place in left], changed
        leaves, tree = flatten(returned, whole=True)
        check_keys(tree)
        self.freed = _freed(leaves)
        self.returned = {id(leaf) for leaf in leaves}
        with tracing(trace):
            results = tuple(self._result(leaf) for leaf in leaves)
            set_grads = [(t, g) for t, g in trace.grads.values() if trace.outlives(t) and not self._unchanged(t, g)]
            grads = tuple(self._grad(t, g) for t, g in set_grads)
            written = [(trace.inputs_of(t), self._written(t)) for t in trace.writes()]
        self._check_values()
        requires = self._requires([leaf for leaf, r in zip(leaves, results, strict=True) if r.kind == "output"])
        returned_nodes = len(trace.builder.nodes)
        writes: dict[int, int] = {}
        inputs = {v: i for i, v in enumerate(trace.builder.inputs)}
        for source, value in written:
            writes[len(self.outputs)] = inputs[source]
            self.outputs.append(value)
        graph = replace(trace.builder.finish(self.outputs, writes), frozen=_frozen(trace.sources, writes.values()))
        joint = self._joint(leaves, results, requires, writes) if requires else None
        assert len(graph.nodes) == returned_nodes
        known = [entry for entry in trace.histories.values() if id(entry[0]) not in trace.held]
        lifted = tuple((tensor, requires) for tensor, requires, _, _ in known)
        return Captured(
            graph,
            tuple(trace.sources),
            tree,
            results,
            grads,
            requires if joint else (),
            joint,
            lifted,
            tuple(trace.grad_absent.values()),
            frozenset(trace.untracked),
            places=tuple(left),
            changes=changed is not None,
            sets_numbers=frozenset(trace.sets_numbers),
            replay=trace.recording.replay(trace.given, trace.wanted),
        )

    def _output(self, value: Value) -> int:
        """The position of `value` among the outputs; one value is returned once."""
        if value not in self.position:
            self.position[value] = len(self.outputs)
            self.outputs.append(value)
        return self.position[value]

    def _result(self, leaf: Any) -> Result:
        found = self._view(leaf)
        return self._of_its_own(leaf) if found is None else found

    def _view(self, leaf: Any) -> Result | None:
        """A result that shares memory with an argument, a tensor from outside or another result."""
        if not self.views or not isinstance(leaf, Tensor) or leaf._number or getattr(leaf, "scalar", False):
            return None
        root, chain = chain_of(leaf)
        root = self._handle(root)
        is_known = id(root) in self.trace.arguments or not root.is_traced or id(root) in self.returned
        if not chain or not is_known or not chain_symbols(chain) <= self._input_symbols():
            return None
        return Result("view", requires_grad=leaf.requires_grad, base=self._of_its_own(root), chain=chain)

    def _handle(self, tensor: Tensor) -> Tensor:
        """The argument that a tensor is a twin of (NumPy's arrays have one that is a plain tensor), or itself."""
        return self._twins.get(id(tensor._data), tensor)

    @functools.cached_property
    def _twins(self) -> dict[int, Tensor]:
        """The arguments, by the identity of what they hold."""
        return {id(h._data): h for h in reversed(self.arrays) if isinstance(h, Tensor)}

    def _input_symbols(self) -> set[str]:
        return {str(d) for v in self.trace.builder.inputs for d in v.type.shape if isinstance(d, DimExpr)}

    def _of_its_own(self, leaf: Any) -> Result:
        if is_array(leaf):
            return self._numpy_result(leaf)
        if isinstance(leaf, np.ndarray):
            raise CaptureError(
                f"the function returns a NumPy array of shape {leaf.shape} that is fixed at capture",
                hint="compute it from the arguments with tjit functions",
            )
        if isinstance(leaf, DimExpr) or (isinstance(leaf, Size) and any(isinstance(d, DimExpr) for d in tuple(leaf))):
            return Result("dim", value=leaf)
        if isinstance(leaf, Number):
            self.trace.wanted.add(leaf._step)
            return Result("number", leaf._step)
        if not isinstance(leaf, Tensor):
            check_plain(leaf)
            return Result("value", value=leaf)
        if id(leaf) in self.trace.arguments:
            return Result("argument", self.trace.arguments[id(leaf)])
        if not leaf.is_traced:
            self.trace.check_held(leaf)
            return Result("tensor", value=leaf)
        freed = id(leaf._grad_fn) in self.freed
        position = self._output(self.trace.value_of(leaf))
        form = "number" if leaf._number and not leaf.requires_grad else None
        return Result("output", position, form, requires_grad=leaf.requires_grad and not freed, freed=freed)

    def _numpy_result(self, leaf: Any) -> Result:
        """An array of NumPy code: as ndarray, NumPy scalar or Python number."""
        if id(leaf) in self.trace.arguments:
            return Result("argument", self.trace.arguments[id(leaf)])
        if isinstance(leaf, MaskedRead):
            leaf.refuse(leaf.where)
        tensors = parts(as_array(leaf))
        form = "number" if leaf._number else "scalar" if leaf.scalar else "array"
        if len(tensors) == 1:
            return Result("output", self._output(self.trace.value_of(tensors[0])), form)
        joined = stack(list(tensors), -1)
        return Result("output", self._output(self.trace.value_of(joined)), f"complex {form}")

    def _unchanged(self, tensor: Tensor, grad: Tensor | None) -> bool:
        """Whether `.grad` is the tensor it was, perhaps written in place (then it is among the writes)."""
        return grad is not None and grad is self.trace.lifted_grads.get(id(tensor))

    def _written(self, tensor: Tensor) -> Value:
        """The value that is written to a tensor from outside at the end."""
        if tensor._grad_fn is not None:
            raise CaptureError(
                f"the function writes a value with a gradient to a {tensor.type_} tensor from outside, "
                "which could not go on from there",
                tensor._grad_fn.location,
                hint="write under `with tjit.no_grad():`, write value.detach(), or return the value",
            )
        return self.trace.value_of(tensor)

    def _check_values(self) -> None:
        """Every value comes from this capture.

        Raises:
            CaptureError: a traced tensor of another one was used.
        """
        known: set[Value] = set(self.trace.builder.inputs)
        for node in self.trace.builder.nodes:
            for operand in node.reads():
                if isinstance(operand, Value) and operand not in known:
                    raise leaked(operand, node.location)
            known.update(node.results)
        for value in self.outputs:
            if value not in known:
                raise leaked(value, None)

    def _grad(self, tensor: Tensor, grad: Tensor | None) -> tuple[Source, int | None]:
        if grad is not None and self.trace.computed_outside(tensor):
            raise CaptureError(
                f"backward() inside of the function reaches a {tensor.type_} tensor that was computed outside of it",
                hint="pass it as tensor.detach(), or call backward() on what the function returns",
            )
        self.trace.check_held(tensor)
        position = self.trace.arguments.get(id(tensor))
        source = Source("tensor", tensor=tensor) if position is None else Source("argument", position)
        return source, None if grad is None else self._output(self.trace.value_of(grad))

    def _joint(
        self, leaves: list[Any], results: tuple[Result, ...], requires: tuple[int, ...], writes: dict[int, int]
    ) -> Graph | None:
        """The graph with the gradients of what is returned, from the tape that capture recorded."""
        trace, builder = self.trace, self.trace.builder
        wanted = [trace.inputs[builder.inputs[i]] for i in requires]
        seeded: dict[int, Tensor] = {}
        for leaf, result in zip(leaves, results, strict=True):
            if result.kind == "output" and result.requires_grad:
                seeded.setdefault(result.position, leaf)
        outputs = [seeded[p] for p in sorted(seeded)]
        cotangents = [Tensor(Traced(builder.input(t.type_, f"d{n}"))) for n, t in enumerate(outputs)]
        with tracing(trace), runtime_symbols(trace.number), trace.differentiable():
            found = grad(outputs, wanted, cotangents, retain_graph=True, allow_unused=True)
            gradients = [
                trace.value_of(zeros(w.shape, dtype=w.dtype) if g is None else g)
                for g, w in zip(found, wanted, strict=True)
            ]
        return builder.finish([*self.outputs, *gradients], writes)

    def _requires(self, leaves: list[Any]) -> tuple[int, ...]:
        """Input positions that returned tensors have a history on, one that a backward() can go back on."""
        inputs = {id(self.trace.handle_of(v)): i for i, v in enumerate(self.trace.builder.inputs)}
        whole = [t._grad_fn for t in leaves if _has_history(t) and id(t._grad_fn) not in self.freed]
        ends = [edge[0] for node in _reached(whole) for edge in node.edges if edge is not None]
        return tuple(sorted({inputs[id(end)] for end in ends if id(end) in inputs}))


def _has_history(leaf: Any) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_traced and leaf._grad_fn is not None


def _reached(nodes: Sequence[TapeNode]) -> list[TapeNode]:
    """The tape nodes that these depend on and they themselves, each after what it depends on."""
    found = {id(node): node for node in nodes}
    stack = list(found.values())
    while stack:
        for edge in stack.pop().edges:
            if edge is not None and isinstance(edge[0], TapeNode) and id(edge[0]) not in found:
                found[id(edge[0])] = edge[0]
                stack.append(edge[0])
    return sorted(found.values(), key=lambda node: node.order)


def _freed(leaves: list[Any]) -> set[int]:
    """The ids of the tape nodes behind returned tensors from which backward() would come upon a freed one."""
    found: set[int] = set()
    for node in _reached([t._grad_fn for t in leaves if _has_history(t)]):
        if node.freed or any(edge is not None and id(edge[0]) in found for edge in node.edges):
            found.add(id(node))
    return found
