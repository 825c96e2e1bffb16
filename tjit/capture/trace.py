"""Record the ops that a Python function applies to traced tensors as the nodes of a graph."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tjit.capture.scopes import Scope
from tjit.dtypes import i64
from tjit.errors import CaptureError
from tjit.ir.dims import Dim, DimExpr, Symbol, add_runtime
from tjit.ir.graph import Graph, GraphBuilder, Literal, Operand, Value
from tjit.ir.op import Op
from tjit.ir.printer import RESERVED
from tjit.ir.types import TensorType
from tjit.location import Location, user_location
from tjit.ops.apply import check_devices, mark_seen, refresh, result_types, state, with_history
from tjit.ops.control import BIND
from tjit.ops.views import write_through
from tjit.tensor import Tensor, Traced, active

__all__ = ["NumberTensor", "Trace", "decomposed_types", "inline", "result_class", "trace_graph", "tracing"]


class NumberTensor(Tensor):
    """A number that a loop or branch computes: 0-d, it promotes as a Python number does."""

    _number = True


def _rebinding(compute: Callable[[Any, Any], Any]) -> Callable[..., Any]:
    """`x += 1` of a number: another number, as in Python."""
    return lambda self, other: compute(self, other)


for _name, _compute in {
    "iadd": operator.add, "isub": operator.sub, "imul": operator.mul, "itruediv": operator.truediv,
    "ifloordiv": operator.floordiv, "imod": operator.mod, "ipow": operator.pow, "ilshift": operator.lshift,
    "irshift": operator.rshift, "iand": operator.and_, "ior": operator.or_, "ixor": operator.xor,
}.items():  # fmt: skip
    setattr(NumberTensor, f"__{_name}__", _rebinding(_compute))


def result_class(operands: Sequence[Any]) -> type[Tensor]:
    """The class of handles on what an op on `operands` makes: a number only of numbers."""
    tensors = [o for o in operands if isinstance(o, Tensor)]
    numbers = all(o._number for o in tensors) if tensors else False
    return NumberTensor if numbers else Tensor


class Trace:
    """The state of one capture.

    Attributes:
        scope: the graph's or the region's that is being captured.
        whole: the graph's scope.
        lifted: eager tensors met while capturing, in order: they become inputs of the graph.
        grads: what `.grad` of tensors was set to.
        forced_location: of the op whose gradient is being derived; nodes then point there.
        refused: the first error about a value that is not known yet, which the function may have caught.
        unrolled: lines of loops that could not be captured with one body, and why.
        may_lift: False inside decompositions, which see only their operands.
        marks: whether what is computed without a history is noted as such: not while gradients are derived that may be
            differentiated themselves.
        runtime: names of the symbols that have their values only while the program runs.
        converts: whether functions that the user's code calls are rewritten.
        numpy: whether a function of NumPy arrays is captured.
    """

    converts = False
    numpy = False

    def __init__(self, builder: GraphBuilder, may_lift: bool = True) -> None:
        self.scope = self.whole = Scope(builder)
        self.may_lift = may_lift
        self.lifted: list[Tensor] = []
        self.grads: dict[int, tuple[Tensor, Tensor | None]] = {}
        self.unrolled: list[tuple[Location | None, Exception]] = []
        self._names = 0
        self.forced_location: Location | None = None
        self.refused: CaptureError | None = None
        self._twins: dict[int, Traced] = {}
        self.untracked: set[Value] = set()  # computed while the tape does not record
        self.marks = True
        self.runtime: set[str] = set()
        self.inputs: dict[Value, Tensor] = {}  # graph inputs, to the tensor that each stands for

    @property
    def builder(self) -> GraphBuilder:
        """Of the whole graph: what has its inputs."""
        return self.scope.root.builder

    @property
    def is_inside(self) -> bool:
        """Whether a loop or branch is being captured."""
        return self.scope.outer is not None

    # -- values --------------------------------------------------------------------------------------------------------

    def location(self) -> Location | None:
        return self.forced_location or user_location()

    def value_of(self, tensor: Tensor) -> Value:
        """The value that `tensor` stands for now."""
        return self.scope.value(self.traced(tensor), tensor)

    def traced(self, tensor: Tensor) -> Traced:
        """The handle of a tensor, up to date; a view of what is outside of a region is made again inside.

        But a leaf of gradients, `x.detach().requires_grad_()`, is itself.
        """
        if not isinstance(tensor._data, Traced):
            return self._twin(tensor)
        if tensor._view is not None:
            elsewhere = tensor._data.scope is not self.scope and not tensor._requires_grad
            if elsewhere or tensor._seen != tensor._storage.version:
                self._again(tensor)
        return tensor._data

    def _again(self, view: Tensor) -> None:
        if isinstance(view._data, Traced) and view._data.scope is not self.scope:
            self.scope.keep_history(view)
        refresh(view)

    def _twin(self, tensor: Tensor) -> Traced:
        """The traced data of an eager tensor, which becomes an input of the graph when first met."""
        twin = self._twins.get(id(tensor))
        if twin is None:
            if not self.may_lift:
                raise CaptureError(f"a decomposition uses an outer {tensor.type_} tensor", self.location())
            value = self.builder.input(tensor.type_, tensor.__dict__.get("name"))
            self.lift(tensor)
            twin = self._twins[id(tensor)] = Traced(value)
            twin.scope = self.scope.root
            self.inputs[value] = tensor
        return twin

    def lift(self, tensor: Tensor) -> None:
        """An eager tensor was met for the first time."""
        self.lifted.append(tensor)

    def snapshot(self, tensor: Tensor) -> Tensor:
        """A tensor that stands for the present value of `tensor`, whatever is written later."""
        return Tensor(Traced(self.value_of(tensor)))

    # -- the Tracer protocol -------------------------------------------------------------------------------------------

    def apply(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
        values = tuple(o if isinstance(o, Literal) else self.value_of(o) for o in operands)
        types = tuple(v.type for v in values)
        check_devices(op, types, operands)
        results = result_types(op, types, values, attrs)
        nodes = self.scope.builder.add(op, values, attrs, location=self.location(), types=results)
        if not state.grad:
            self.mark_untracked(nodes)
        kind = result_class(operands)
        return tuple((Tensor if kind is NumberTensor and value.type.ndim else kind)(Traced(value)) for value in nodes)

    def assign(self, target: Tensor, value: Tensor) -> None:
        """Make `value` the value of `target`, of everything it is a view of, and of their other views."""
        self._write(target, value)
        target._storage.version += 1
        mark_seen(target)

    def _write(self, target: Tensor, value: Tensor, by: Traced | None = None) -> None:
        """Have a tensor and what it is a view of hold `value`. `by`: the loop's variable that it was written by."""
        self.scope.root.behind.update(handle for handle in self.scope.handles_of(target) if handle is not by)
        value = with_history(target, value)
        new = self.value_of(value)
        traced = self.traced(target)
        bound = self.scope.variable_of(traced)
        if bound is not None:
            self.scope.root.through.add(traced)
            self._write(bound, value, traced)
        if target._view is not None and isinstance(target._data, Traced):
            base, op, attrs = target._view
            self._write(base, write_through(op, attrs, base, value))
        # an eager tensor has memory of its own: a view that overlaps with another input is refused at the call
        self.scope.set(traced, new, target)
        if value.requires_grad and state.grad:
            if traced.scope is not self.scope:
                self.scope.keep_history(target)
            target._grad_fn, target._index = value._grad_fn, value._index

    # -- regions -------------------------------------------------------------------------------------------------------

    @contextmanager
    def apart(self) -> Iterator[Scope]:
        """Capture nodes that are no part of the graph: they read only what is made for them."""
        outer = self.scope
        self.scope = active.scope = Scope(GraphBuilder("apart"))
        try:
            with self.differentiable():
                yield self.scope
        finally:
            self.scope = active.scope = outer

    @contextmanager
    def differentiable(self) -> Iterator[None]:
        """What is derived inside may be differentiated itself, though the tape does not record it now."""
        marks, self.marks = self.marks, False
        for name in self.runtime:
            add_runtime(Symbol(name))
        try:
            yield
        finally:
            self.marks = marks

    def mark_untracked(self, values: Iterable[Value]) -> None:
        """Note that values are computed while the tape does not record."""
        if self.marks:
            self.untracked.update(values)

    @contextmanager
    def region(self, scope: Scope | None = None) -> Iterator[Scope]:
        """Capture a region: nodes go to a scope of its own (or to that of a region that goes on), until the end."""
        outer, grads = self.scope, dict(self.grads)
        self.scope = active.scope = scope or Scope(GraphBuilder("region"), outer)
        try:
            yield self.scope
            if {k: id(g) for k, (_, g) in self.grads.items()} != {k: id(g) for k, (_, g) in grads.items()}:
                raise CaptureError(
                    "backward() sets .grad inside of a loop or branch",
                    user_location(),
                    hint="use grads = tjit.autograd.grad(loss, parameters) there",
                )
        finally:
            self.scope.restore_histories()
            for tensor in self.scope.written.values():
                tensor._storage.version += 1  # what views saw inside is gone
            self.grads = grads
            self.scope = active.scope = outer

    def grad_of(self, tensor: Tensor) -> Tensor | None:
        if id(tensor) in self.grads:
            return self.grads[id(tensor)][1]
        return tensor._grad

    def set_grad(self, tensor: Tensor, grad: Tensor | None) -> None:
        self.grads[id(tensor)] = (tensor, grad)

    def example(self, tensor: Tensor) -> Any:
        """What a traced tensor is for example inputs; None where there are none."""
        return None

    def number(self, d: DimExpr) -> Tensor:
        """A dim as a traced number."""
        from tjit.ops.creation import full

        return NumberTensor(full((), d, dtype=i64)._data)

    def fresh_name(self, prefix: str) -> str:
        """A symbol's name that this trace has not used."""
        self._names += 1
        name = f"{prefix}{self._names - 1}"
        if name in RESERVED:  # i8 is a dtype
            return self.fresh_name(prefix)
        self.runtime.add(name)
        return name

    def bind(self, number: Tensor, low: int, high: Dim | None) -> Dim:
        """A 0-d integer as a dim in [low, high]; the program ends with an error where it is outside of them."""
        value = self.value_of(number)
        key = (self.scope.formula(value), str(high))
        bound = self.scope.bound
        if key not in bound:
            symbol = Symbol(self.fresh_name("u"), low, high)
            add_runtime(symbol)
            attrs = {"symbol": symbol.name, "low": low, "high": high}
            self.scope.builder.add(BIND, (value,), attrs, location=self.location())
            bound[key] = symbol.dim
        return bound[key]

    # -- results -------------------------------------------------------------------------------------------------------

    def handle_of(self, value: Value) -> Tensor | None:
        """The tensor that an input of the graph stands for; None for a lifted number."""
        return self.inputs.get(value)

    def writes(self) -> list[Tensor]:
        """The tensors behind inputs whose memory the function changes."""
        return [t for v, t in self.inputs.items() if self.value_of(t) is not v]

    def inputs_of(self, tensor: Tensor) -> Value:
        """The graph input that `tensor` came in as."""
        return next(v for v, t in self.inputs.items() if t is tensor)


@contextmanager
def tracing(trace: Trace | None):
    """Make `trace` the active one."""
    previous, scope = state.trace, active.scope
    state.trace, active.scope = trace, None if trace is None else trace.scope
    try:
        yield trace
    finally:
        state.trace, active.scope = previous, scope


def inline(
    builder: GraphBuilder,
    fn: Callable[..., Any],
    operands: Sequence[Operand],
    attrs: dict[str, Any],
    location: Location | None = None,
) -> tuple[Operand, ...]:
    """Trace `fn(*operands, **attrs)` into `builder`; its nodes get `location`."""
    trace = Trace(builder, may_lift=False)
    trace.forced_location = location
    previous, state.grad = state.grad, False
    try:
        with tracing(trace):
            handles = [o if isinstance(o, Literal) else Tensor(Traced(o)) for o in operands]
            results = fn(*handles, **attrs)
            results = results if isinstance(results, tuple) else (results,)
            return tuple(r if isinstance(r, Literal) else trace.value_of(r) for r in results)
    finally:
        state.grad = previous


def trace_graph(
    name: str, fn: Callable[..., Any], types: Sequence[TensorType], names: Sequence[str] = (), **attrs: Any
) -> Graph:
    """The graph of `fn` applied to tensors of `types`; `fn` must use nothing but its operands."""
    builder = GraphBuilder(name)
    values = [builder.input(t, names[i] if i < len(names) else None) for i, t in enumerate(types)]
    outputs = inline(builder, fn, values, attrs, user_location())
    return builder.finish(outputs)


_DECOMPOSED: dict[Any, tuple[TensorType, ...]] = {}


def decomposed_types(
    op: Op, operand_types: tuple[TensorType, ...], operands: tuple[Any, ...], attrs: dict[str, Any]
) -> tuple[TensorType, ...]:
    """The result types of a composite, by tracing its decomposition. `operands` tell which are literals."""
    signature = tuple(o if isinstance(o, Literal) else t for o, t in zip(operands, operand_types, strict=True))
    key = (op.name, signature, tuple(sorted(attrs.items())))
    types = _DECOMPOSED.get(key)
    if types is None:
        assert op.decompose is not None
        builder = GraphBuilder(op.name)
        fresh = [s if isinstance(s, Literal) else builder.input(s) for s in signature]
        types = tuple(o.type for o in inline(builder, op.decompose, fresh, attrs))
        _DECOMPOSED[key] = types
    return types


state.__class__.decomposed_types = staticmethod(decomposed_types)
