"""Apply an op: run its reference on eager tensors, or add a node to the graph being captured. Records the tape."""

from __future__ import annotations

import itertools
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, Protocol

import numpy as np

from tjit import recording
from tjit.errors import AutogradError, CaptureError, TjitError, TypeRuleError
from tjit.ir.dims import DimExpr
from tjit.ir.graph import Literal
from tjit.ir.op import Op
from tjit.ir.types import TensorType
from tjit.location import Location, user_location
from tjit.quiet import quietly
from tjit.tensor import Tensor, attach

__all__ = [
    "TapeNode",
    "Total",
    "Tracer",
    "apply",
    "assign",
    "is_recording",
    "refresh",
    "result_types",
    "state",
    "tape_moment",
]


class Tracer(Protocol):
    """What captures ops: `tjit.capture.trace.Trace`."""

    converts: bool
    numpy: bool
    forced_location: Location | None
    refused: CaptureError | None

    @property
    def is_inside(self) -> bool: ...
    def example(self, tensor: Tensor) -> Any: ...
    def bind(self, number: Tensor, low: int, high: Any) -> Any: ...
    def number(self, d: DimExpr) -> Tensor: ...
    def apply(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[Tensor, ...]: ...
    def snapshot(self, tensor: Tensor) -> Tensor: ...
    def location(self) -> Location | None: ...
    def assign(self, target: Tensor, value: Tensor) -> None: ...
    def grad_of(self, tensor: Tensor) -> Tensor | None: ...
    def set_grad(self, tensor: Tensor, grad: Tensor | None) -> None: ...


class _State(threading.local):
    """Per thread: the active trace, and whether the tape records."""

    trace: Tracer | None = None
    grad: bool = True
    decomposed_types: Callable[..., tuple[TensorType, ...]] | None = None


state = _State()
_ORDER = itertools.count()


class Total(NamedTuple):
    """What a rule gives where it has added to the cotangent that it was given, rather than what is to be added."""

    value: Tensor


def tape_moment() -> int:
    """A number between the `TapeNode.order` of what is on the tape and of what will be."""
    return next(_ORDER)


class TapeNode:
    """One op on the tape: what backward needs.

    Attributes:
        operands: the op's operands; tensors are kept as they were, by the `versions` of their storages.
        edges: for each operand, (tape node that made it, which result), (leaf tensor, 0), or None.
        results: the data and types of the results, for `vjp`'s y.
        hooks: what `register_hook` was given, for each result.
    """

    __slots__ = (
        "attrs",
        "edges",
        "freed",
        "hooks",
        "location",
        "op",
        "operands",
        "order",
        "result_versions",
        "results",
        "types",
        "versions",
    )

    def __init__(self, op: Op, operands: tuple[Any, ...], attrs: dict[str, Any], results: tuple[Tensor, ...]) -> None:
        self.op = op
        self.attrs = attrs
        self.edges = tuple(_edge(o) for o in operands)
        self.order = next(_ORDER)
        self.freed = False
        self.hooks: dict[int, list[Callable[[Tensor], Tensor | None]]] = {}
        self.types = tuple(r.type_ for r in results)
        if state.trace is None:
            self.operands, self.results = operands, tuple((r._data, r._storage) for r in results)
            self.location = None
        else:  # traced tensors are handles: keep the values they stand for now
            self.operands = tuple(state.trace.snapshot(o) if isinstance(o, Tensor) else o for o in operands)
            self.results = tuple((state.trace.snapshot(r)._data, r._storage) for r in results)
            self.location = state.trace.location()
        self.versions = tuple(o._storage.version if isinstance(o, Tensor) else 0 for o in self.operands)
        self.result_versions = tuple(storage.version for _, storage in self.results)

    def add_result(self, result: Tensor) -> None:
        """The op gives one more result, while it is captured."""
        self.types += (result.type_,)
        self.results += ((result._data, result._storage),)
        self.result_versions += (result._storage.version,)

    def name(self) -> str:
        """PyTorch's name: `SumBackward0`."""
        return "".join(part.capitalize() for part in self.op.name.split("_")) + "Backward0"

    def __repr__(self) -> str:
        return f"<{self.name()}>"


def _edge(operand: Any) -> tuple[Any, int] | None:
    if not isinstance(operand, Tensor):
        return None
    if operand._grad_fn is not None:
        return operand._grad_fn, operand._index
    return (operand, 0) if operand._requires_grad else None


def is_recording(operands: tuple[Any, ...]) -> bool:
    """Whether an op on `operands` goes on the tape."""
    return state.grad and any(isinstance(o, Tensor) and o.requires_grad for o in operands)


def result_types(
    op: Op, types: tuple[TensorType, ...], operands: tuple[Any, ...], attrs: dict[str, Any]
) -> tuple[TensorType, ...]:
    """The types of an op's results: by its type rule, or for a composite without one by its decomposition."""
    try:
        if op.infer is None:
            assert state.decomposed_types is not None
            return state.decomposed_types(op, types, operands, attrs)
        inferred = op.infer(*types, **attrs)
    except TjitError as error:
        error.location = error.location or user_location()
        raise
    return inferred if isinstance(inferred, tuple) else (inferred,)


def apply(op: Op, *operands: Tensor | Literal, **attrs: Any) -> Any:
    """The result of `op` (a tuple where it has several).

    Raises:
        TypeRuleError: the op's type rule refuses, or tensors are on different devices.
    """
    for operand in operands:
        if isinstance(operand, Tensor) and operand._view is not None and operand._seen != operand._storage.version:
            refresh(operand)
    trace = state.trace
    if trace is not None:
        results = trace.apply(op, operands, attrs)
    elif recording.active is None:
        results = _eager(op, operands, attrs)
    else:
        results = recording.active.op(_eager, op, operands, attrs)
    if op.differentiable and is_recording(operands):
        node = TapeNode(op, operands, attrs, results)
        for index, result in enumerate(results):
            if result.dtype.is_floating_point:
                result._grad_fn, result._index = node, index
    if op.view and isinstance(operands[0], Tensor):
        for result in results:
            result._storage = operands[0]._storage
            result._view = (operands[0], op, attrs)
            result._seen = result._storage.version
    return results[0] if len(results) == 1 else results


def _eager(op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[Tensor, ...]:
    operand_types = tuple(o.type_ if isinstance(o, Tensor) else o.type for o in operands)
    check_devices(op, operand_types, operands)
    types = result_types(op, operand_types, operands, attrs)
    outputs = quietly(_computed, op, operands, attrs)
    order = None if op.view else "C"  # NumPy's follows the operands'; the same views and copies are to be made in both
    return tuple(Tensor(np.asarray(a, t.dtype.numpy, order)) for a, t in zip(outputs, types, strict=True))


def _computed(op: Op, operands: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[Any, ...]:
    arrays = op.reference(*(_array(o) for o in operands), **attrs)
    return arrays if isinstance(arrays, tuple) else (arrays,)


def check_devices(op: Op, types: tuple[TensorType, ...], operands: tuple[Any, ...]) -> None:
    """All tensors of one op are on one device.

    Raises:
        TypeRuleError: they are not.
    """
    devices = {t.device for t, o in zip(types, operands, strict=True) if isinstance(o, Tensor)}
    if len(devices) > 1:
        names = " and ".join(sorted(map(str, devices)))
        raise TypeRuleError(
            f"{op.name} needs its tensors on one device, not {names}", user_location(), hint="move one with .to(device)"
        )


def _array(operand: Tensor | Literal) -> Any:
    return operand.array if isinstance(operand, Tensor) else operand.dtype.numpy.type(operand.value)


def assign(target: Tensor, value: Tensor) -> Tensor:
    """Write `value`, of the target's type, into the target's memory, as every in-place op does. Returns the target.

    Raises:
        AutogradError: the target, or what it is a view of, is a leaf that requires grad, and the tape records.
    """
    _check_leaf(target)
    if state.trace is not None:
        state.trace.assign(target, value)
        return target
    memory = target.array
    if not memory.flags.writeable:
        raise _not_writeable(target)
    if recording.active is None:
        memory[...] = value.array
    else:
        recording.active.copy(memory, value.array)
    _rebase(target, value)
    target._storage.version += 1
    mark_seen(target)
    return target


def refresh(view: Tensor) -> None:
    """Bring a view up to date after what it is a view of was written: its history, and while capturing its value."""
    assert view._view is not None
    base, op, attrs = view._view
    if base._view is not None and base._seen != base._storage.version:
        refresh(base)
    recording, state.grad = state.grad, True
    trace = state.trace
    if not view.is_traced:
        state.trace = None  # an eager view is brought up to date eagerly, also while capturing
    try:
        again = apply(op, base, **attrs)
    finally:
        state.grad, state.trace = recording, trace
    if trace is not None and view.is_traced:
        view._data = again._data
    view._grad_fn, view._index = again._grad_fn, again._index
    view._seen = view._storage.version


def _not_writeable(target: Tensor) -> TypeRuleError:
    if 0 in target.array.strides:
        return TypeRuleError(
            f"more than one element of the written-to {target.type_} tensor refers to a single memory location",
            user_location(),
            hint="clone() it before the in-place operation",
        )
    return TypeRuleError(f"the memory of this {target.type_} tensor is read-only", user_location(), hint="clone() it")


def _check_leaf(target: Tensor) -> None:
    tensor: Tensor | None = target
    while tensor is not None and state.grad:
        if tensor._requires_grad and tensor._grad_fn is None:
            raise AutogradError(
                "a leaf tensor that requires grad is being used in an in-place operation",
                user_location(),
                hint="wrap the update in `with tjit.no_grad():`",
            )
        tensor = tensor._view[0] if tensor._view and tensor._view[1].differentiable else None


def _rebase(target: Tensor, value: Tensor) -> None:
    """Give the target, and the bases it is a view of, the history of the write."""
    if not state.grad or not (value.requires_grad or target.requires_grad):
        return
    value = with_history(target, value)
    target._grad_fn, target._index = value._grad_fn, value._index
    if target._view is None or not target._view[1].differentiable:
        return
    base, op, attrs = target._view
    from tjit.ops.views import write_through  # views are written with public ops, which are written with apply

    _rebase(base, write_through(op, attrs, _before(base), value))


def with_history(target: Tensor, value: Tensor) -> Tensor:
    """`value`, on the tape of the target that it overwrites, which goes on requiring grad, with a gradient of zeros."""
    if value.requires_grad or not target.requires_grad or not state.grad:
        return value
    from tjit.ops.index import SLICE_UPDATE

    rank = target.ndim
    return apply(SLICE_UPDATE, _before(target), value, starts=(0,) * rank, stops=tuple(target.shape), steps=(1,) * rank)


def _before(target: Tensor) -> Tensor:
    """The target's data as a tensor of its own, with the target's history."""
    old = Tensor(target._data)
    old._grad_fn, old._index, old._requires_grad = target._grad_fn, target._index, target._requires_grad
    return old


def mark_seen(target: Tensor) -> None:
    """Note that a tensor, and what it is a view of, are up to date."""
    tensor: Tensor | None = target
    while tensor is not None:
        tensor._seen = tensor._storage.version
        tensor = tensor._view[0] if tensor._view else None


def _get_grad(tensor: Tensor) -> Tensor | None:
    if tensor._grad_fn is not None and tensor._grad is None and "retains_grad" not in tensor.__dict__:
        warnings.warn(
            "The .grad attribute of a Tensor that is not a leaf Tensor is being accessed: backward() does not fill it. "
            "Call .retain_grad() on the tensor before backward(), or read .grad of the leaf.",
            stacklevel=2,
        )
    return tensor._grad if state.trace is None else state.trace.grad_of(tensor)


def _set_grad(tensor: Tensor, grad: Tensor | None) -> None:
    if state.trace is None:
        tensor._grad = grad
    else:
        state.trace.set_grad(tensor, grad)


attach(grad=property(_get_grad, _set_grad, doc="The gradient that backward() accumulated, or None."))
