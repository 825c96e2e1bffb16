"""What tensors do in Python: numbers, containers, conversion, memory, copying, pickling. Attached to `Tensor` here."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.autograd.tape import backward as run_backward
from tjit.devices import Device, as_device
from tjit.dtypes import DType, as_dtype
from tjit.errors import AutogradError, CaptureError, DTypeError, TypeRuleError
from tjit.location import user_location
from tjit.ops.apply import apply, assign, state
from tjit.ops.compare import isclose
from tjit.ops.conversion import cast
from tjit.ops.creation import as_tensor, full_like, usable_device
from tjit.ops.join import unbind
from tjit.ops.movement import broadcast_to
from tjit.ops.operands import common_dtype
from tjit.ops.public import public
from tjit.ops.shape import CLONE, clone, detach
from tjit.ops.strides import is_contiguous, strides_of
from tjit.tensor import Tensor, attach

__all__ = ["RemovableHandle", "from_dlpack", "is_tensor", "result_type", "strided"]


def _attach(fn: Callable[..., Any]) -> Callable[..., Any]:
    setattr(Tensor, fn.__name__, fn)
    return fn


def _no_value(x: Tensor, what: str, hint: str) -> Tensor:
    """x, whose elements are known: while tjit.jit.trace captures those that it has for the example inputs.

    Raises:
        CaptureError: x stands for a value that is not known yet; capture fails even if that is caught.
    """
    if state.trace is not None and x.is_traced:
        found = state.trace.example(x)
        if found is not None:
            _warn_traced(what)
            return Tensor(found)
    if state.trace is not None:
        error = CaptureError(
            f"a {x.type_} tensor has no {what} while the function is captured", user_location(), hint=hint
        )
        state.trace.refused = state.trace.refused or error
        raise error
    return x


def _warn_traced(what: str) -> None:
    from tjit.jit.warning import TracerWarning  # a module of its own: jit itself needs the compiler

    warnings.warn(
        f"Converting a tensor to a {what} might cause the trace to be incorrect: what the example inputs give becomes "
        "a constant of the trace. tjit.jit.script keeps branches and loops.",
        TracerWarning,
        stacklevel=4,
    )


# Numbers


@public(function=False)
def item(x: Tensor) -> bool | int | float:
    """The one element as a Python number.

    Raises:
        TypeRuleError: x has not exactly one element.
        CaptureError: a function is being captured.
    """
    x = _no_value(x, "Python value", "keep .item() outside of the compiled function, or use the 0-d tensor itself")
    if x.array.size != 1:
        raise TypeRuleError(f"a Tensor with {x.array.size} elements cannot be converted to Scalar", user_location())
    return x.array.item()


@public(function=False)
def tolist(x: Tensor) -> Any:
    """The elements as nested lists of Python numbers; of a 0-d tensor the number."""
    x = _no_value(x, "elements", "keep .tolist() outside of the compiled function")
    return x.array.tolist()


@_attach
def __bool__(self: Tensor) -> bool:
    self = _no_value(self, "truth value", "use tjit.where(condition, a, b), or decide outside of the compiled function")
    if self.array.size != 1:
        count = "no values" if self.array.size == 0 else "more than one value"
        raise TypeRuleError(
            f"Boolean value of Tensor with {count} is ambiguous", user_location(), hint="use .any() or .all()"
        )
    return bool(self.array.item())


@_attach
def __float__(self: Tensor) -> float:
    self = _no_value(self, "Python value", "keep float(...) outside of the compiled function, or use .float()")
    return float(item(self))


@_attach
def __int__(self: Tensor) -> int:
    self = _no_value(self, "Python value", "keep int(...) outside of the compiled function, or use .long()")
    return int(item(self))


@_attach
def __index__(self: Tensor) -> int:
    self = _no_value(self, "Python value", "index a tensor with it: x[i]")
    if self.array.size != 1 or self.dtype.is_floating_point:
        raise DTypeError("only integer tensors of a single element can be converted to an index", user_location())
    return int(self.array.item())


@_attach
def __round__(self: Tensor, ndigits: int | None = None) -> Any:
    return self.round(decimals=ndigits or 0)


@_attach
def __format__(self: Tensor, spec: str) -> str:
    if not spec:
        return repr(self) if self.ndim or self.is_traced else str(item(self))
    _no_value(self, "Python value", "print it outside of the compiled function, or without a format")
    if self.ndim:
        hint = "format its elements, or a 0-d tensor such as x.sum()"
        raise DTypeError(f"a {self.type_} tensor has no format {spec!r}", user_location(), hint=hint)
    return format(item(self), spec)


# Containers


@_attach
def __len__(self: Tensor) -> int:
    if self.ndim == 0:
        raise DTypeError("len() of a 0-d tensor", user_location())
    extent = self.shape[0]
    if not isinstance(extent, int):
        raise CaptureError(f"the length {extent} is not the same on every call", user_location(), hint="use x.shape[0]")
    return extent


@_attach
def __iter__(self: Tensor) -> Iterator[Tensor]:
    if self.ndim == 0:
        raise DTypeError("iteration over a 0-d tensor", user_location())
    return iter(unbind(self, 0))


@_attach
def __contains__(self: Tensor, element: Any) -> bool:
    return bool((self == element).any())


@public()
def equal(x: Tensor, other: Tensor) -> bool:
    """Whether the shapes and all elements are equal.

    Raises:
        CaptureError: a function is being captured.
    """
    _no_value(x, "Python value", "use (x == y).all(), a tensor")
    return tuple(x.shape) == tuple(other.shape) and bool((x == other).all())


@public()
def allclose(x: Tensor, other: Tensor, rtol: float = 1e-5, atol: float = 1e-8, equal_nan: bool = False) -> bool:
    """Whether |x - other| <= atol + rtol |other| for all elements.

    Raises:
        CaptureError: a function is being captured.
    """
    _no_value(x, "Python value", "use tjit.isclose(x, y).all(), a tensor")
    return bool(isclose(x, other, rtol, atol, equal_nan).all())


@public()
def numel(x: Tensor) -> Any:
    """Number of elements."""
    return x.numel()


@public()
def is_nonzero(x: Tensor) -> bool:
    """The truth value of a tensor of one element."""
    return bool(x)


def is_tensor(obj: Any) -> bool:
    """Whether obj is a Tensor."""
    return isinstance(obj, Tensor)


def result_type(x: Any, other: Any) -> DType:
    """The dtype of an elementwise result of two tensors or numbers."""
    return common_dtype(x, other)


# Arrays


@public(function=False)
def numpy(x: Tensor, *, force: bool = False) -> np.ndarray:
    """The NumPy array that x wraps: no copy; writing one changes the other.

    Raises:
        AutogradError: x requires grad, and `force` is False.
    """
    x = _no_value(x, "elements", "use tjit's functions, or keep .numpy() outside of the compiled function")
    if x.requires_grad and not force:
        raise AutogradError(
            "can't call numpy() on a tensor that requires grad", user_location(), hint="use tensor.detach().numpy()"
        )
    return x.array


@_attach
def __array__(self: Tensor, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
    return np.array(numpy(self), dtype, copy=copy)


attach(__array_priority__=1000)


@_attach
def __dlpack__(self: Tensor, **keywords: Any) -> Any:
    if self.requires_grad:
        raise BufferError("can't export tensors that require gradient, use tensor.detach()")
    return numpy(self).__dlpack__(**keywords)


@_attach
def __dlpack_device__(self: Tensor) -> tuple[int, int]:
    return self.array.__dlpack_device__()


@public(method=False)
def from_dlpack(source: Any) -> Tensor:
    """A tensor that shares memory with any object that speaks DLPack."""
    array = np.from_dlpack(source)
    if not array.flags.writeable:
        array = _writeable(array)
    return Tensor(array)


def _writeable(array: np.ndarray) -> np.ndarray:
    """The same memory as a writeable array: older DLPack exporters cannot say that it may be written."""
    return np.asarray(_Memory(array))


class _Memory:
    def __init__(self, array: np.ndarray) -> None:
        self.owner = array
        self.__array_interface__ = {**array.__array_interface__, "data": (array.ctypes.data, False)}


# Conversion


@public(function=False)
def to(
    x: Tensor,
    *args: Any,
    dtype: Any = None,
    device: Any = None,
    copy: bool = False,
    non_blocking: bool = False,
    **ignored: Any,
) -> Tensor:
    """x with another dtype, or on another device: `to(dtype)`, `to(device)`, `to(device, dtype)`, `to(other)`.

    Returns:
        x itself where nothing changes and `copy` is False.
    """
    for arg in args:
        if isinstance(arg, Tensor):
            dtype, device = arg.dtype, arg.device
        elif isinstance(arg, (str, Device)) or (isinstance(arg, int) and not isinstance(arg, bool)):
            device = arg
        elif arg is not None and not isinstance(arg, bool):
            dtype = arg
    x = _moved(x, x.device if device is None else as_device(device))
    kind = x.dtype if dtype is None else as_dtype(dtype)
    if kind is not x.dtype:
        return cast(x, kind)
    return clone(x) if copy else x


def _moved(x: Tensor, device: Device) -> Tensor:
    if device == x.device:
        return x
    usable_device(device)
    raise CaptureError(
        f"a {x.type_} tensor cannot move to {device} inside a compiled function",
        user_location(),
        hint="move it before the call",
    )


@public(function=False)
def type(x: Tensor, dtype: Any = None, non_blocking: bool = False) -> Any:
    """x cast to `dtype`; without one, PyTorch's name of the type: "torch.FloatTensor"."""
    if dtype is not None:
        return to(x, dtype=_legacy_dtype(dtype))
    return f"torch.{_LEGACY[x.dtype.name]}Tensor"


_LEGACY = {
    "f32": "Float", "f64": "Double", "f16": "Half", "bf16": "BFloat16", "u8": "Byte",
    "i8": "Char", "i16": "Short", "i32": "Int", "i64": "Long", "bool": "Bool",
}  # fmt: skip


def _legacy_dtype(dtype: Any) -> Any:
    names = {f"torch.{legacy}Tensor": name for name, legacy in _LEGACY.items()}
    return names.get(dtype, dtype) if isinstance(dtype, str) else dtype


@public(function=False)
def type_as(x: Tensor, other: Tensor) -> Tensor:
    """x cast to other's dtype."""
    return to(x, other.dtype)


def _attach_cast(name: str, dtype: DType) -> None:
    def method(self: Tensor, *, memory_format: Any = None) -> Tensor:
        return to(self, dtype)

    method.__name__ = name
    method.__doc__ = f"The tensor cast to {dtype.long_name}; itself where it has that dtype."
    setattr(Tensor, name, method)


for _name, _dtype in {
    "float": dtypes.f32, "double": dtypes.f64, "half": dtypes.f16, "bfloat16": dtypes.bf16, "int": dtypes.i32,
    "long": dtypes.i64, "short": dtypes.i16, "char": dtypes.i8, "byte": dtypes.u8, "bool": dtypes.bool_,
}.items():  # fmt: skip
    _attach_cast(_name, _dtype)


@public(function=False)
def cpu(x: Tensor) -> Tensor:
    """x on the CPU."""
    return _moved(x, as_device("cpu"))


@public(function=False)
def cuda(x: Tensor, device: Any = None, non_blocking: bool = False) -> Tensor:
    """x on a GPU.

    Raises:
        TypeRuleError: there is none.
    """
    return _moved(x, as_device("cuda" if device is None else device))


# Memory


attach(
    is_cuda=property(lambda self: self.device.type == "cuda"),
    is_cpu=property(lambda self: self.device.type == "cpu"),
    itemsize=property(lambda self: self.dtype.itemsize),
    nbytes=property(lambda self: self.type_.nbytes),
    **dict.fromkeys(("is_sparse", "is_quantized", "is_mkldnn", "is_meta"), False),
)


class _Layout:
    def __repr__(self) -> str:
        return "torch.strided"


strided = _Layout()
attach(layout=strided)


@public(function=False)
def element_size(x: Tensor) -> int:
    """Bytes of one element."""
    return x.dtype.itemsize


@public(function=False)
def nelement(x: Tensor) -> Any:
    """Number of elements."""
    return x.numel()


@public(function=False)
def stride(x: Tensor, dim: int | None = None) -> Any:
    """The distance in elements between neighbours along every dim, or along one."""
    own = strides_of(x)
    return own if dim is None else own[dim]


@public(function=False, aliases=())
def data_ptr(x: Tensor) -> int:
    """The address of the first element."""
    return x.array.ctypes.data


@public(function=False)
def storage_offset(x: Tensor) -> int:
    """How many elements of its memory come before the first one of x."""
    array = x.array
    base = array
    while isinstance(base.base, np.ndarray):
        base = base.base
    return (array.ctypes.data - base.ctypes.data) // array.itemsize


@public(function=False)
def get_device(x: Tensor) -> int:
    """The GPU's number; -1 on the CPU."""
    return -1 if x.device.index is None else x.device.index


@public()
def is_floating_point(x: Tensor) -> bool:
    """Whether the dtype is a float."""
    return x.dtype.is_floating_point


@public()
def is_complex(x: Tensor) -> bool:
    """Whether the dtype is complex: never."""
    return False


@public()
def is_signed(x: Tensor) -> bool:
    """Whether the dtype holds negative numbers."""
    return x.dtype.is_signed


@public(function=False)
def is_same_size(x: Tensor, other: Tensor) -> bool:
    """Whether the shapes are equal."""
    return tuple(x.shape) == tuple(other.shape)


def _is_contiguous(self: Tensor, memory_format: Any = None) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    return is_contiguous(self)


attach(is_contiguous=_is_contiguous)


def _get_data(self: Tensor) -> Tensor:
    return detach(self)


def _set_data(self: Tensor, value: Tensor) -> None:
    if self.is_frozen:
        raise TypeRuleError(
            f"this {self.type_} tensor is frozen: it cannot be given other memory",
            user_location(),
            hint="change it before tjit.jit.freeze, or clone() it",
        )
    if state.trace is not None:
        state.trace.assign(self, value)
    else:
        self._data, self._storage, self._view = value.array, value._storage, None


attach(
    data=property(_get_data, _set_data, doc="The same memory, off the tape; assigning gives the tensor other memory.")
)


# Writing


@public(function=False)
def copy_(x: Tensor, src: Any, non_blocking: bool = False) -> Tensor:
    """Write src, broadcast and cast, into x. Gradients flow to src.

    Raises:
        TypeRuleError: src does not broadcast to x's shape.
    """
    src = as_tensor(src)
    return assign(x, broadcast_to(cast(src, x.dtype), tuple(x.shape)))


@public(function=False)
def fill_(x: Tensor, value: Any) -> Tensor:
    """Write `value`, a number or a 0-d tensor, into every element."""
    if isinstance(value, Tensor):
        return copy_(x, value)
    return assign(x, full_like(x, value))


@public(function=False)
def zero_(x: Tensor) -> Tensor:
    """Write zeros into every element."""
    return assign(x, full_like(x, 0))


@public(function=False)
def set_(x: Tensor, source: Tensor) -> Tensor:
    """Give x the memory of `source`.

    Raises:
        TypeRuleError: x is frozen (`tjit.jit.freeze`).
    """
    _set_data(x, source)
    return x


# Autograd


@public(function=False)
def backward(
    x: Tensor, gradient: Any = None, retain_graph: bool | None = None, create_graph: bool = False, inputs: Any = None
) -> None:
    """Add the gradient of x to `.grad` of the leaves it was computed from.

    Args:
        gradient: the cotangent of x; may be left out for one element.
        retain_graph: keep what backward needs, for another backward (default: as create_graph).
        create_graph: make the gradients differentiable.
        inputs: only these leaves.

    Raises:
        AutogradError: x is not on the tape, is no scalar and has no gradient, or its tape was freed.
    """
    keep = create_graph if retain_graph is None else retain_graph
    wanted = [inputs] if isinstance(inputs, Tensor) else inputs
    run_backward([x], [gradient], retain_graph=keep, create_graph=create_graph, inputs=wanted)


@public(function=False)
def detach_(x: Tensor) -> Tensor:
    """Take x off the tape, in place.

    Raises:
        AutogradError: x is a view: its base would keep the history.
    """
    if x._view is not None and x._grad_fn is not None:
        raise AutogradError("can't detach views in-place", user_location(), hint="use detach() instead")
    x._grad_fn, x._requires_grad = None, False
    return x


class RemovableHandle:
    """What `register_hook` returns: `remove()` takes the hook back."""

    def __init__(self, hooks: list[Callable[..., Any]], hook: Callable[..., Any]) -> None:
        self._hooks = hooks
        self._hook = hook

    def remove(self) -> None:
        if self._hook in self._hooks:
            self._hooks.remove(self._hook)


@public(function=False)
def register_hook(x: Tensor, hook: Callable[[Tensor], Tensor | None]) -> RemovableHandle:
    """Call `hook(grad)` whenever the gradient of x is computed; what it returns, if not None, replaces the gradient.

    Raises:
        AutogradError: x does not require grad.
    """
    if not x.requires_grad:
        raise AutogradError("cannot register a hook on a tensor that doesn't require gradient", user_location())
    hooks = _hooks_of(x)
    hooks.append(hook)
    return RemovableHandle(hooks, hook)


def _hooks_of(x: Tensor) -> list[Callable[..., Any]]:
    if x._grad_fn is None:
        return x.__dict__.setdefault("_hooks", [])
    return x._grad_fn.hooks.setdefault(x._index, [])


@public(function=False)
def retain_grad(x: Tensor) -> None:
    """Have backward fill `.grad` of x although x is no leaf.

    Raises:
        AutogradError: x does not require grad.
    """
    if not x.requires_grad:
        raise AutogradError("can't retain_grad on a tensor that has requires_grad=False", user_location())
    if x.is_leaf or x.__dict__.get("retains_grad"):
        return

    def keep(g: Tensor) -> None:
        x.grad = g if x.grad is None else x.grad + g

    x.__dict__["retains_grad"] = True
    _hooks_of(x).append(keep)


# Copying


@_attach
def __deepcopy__(self: Tensor, memo: dict[int, Any]) -> Tensor:
    if id(self) in memo:
        return memo[id(self)]
    if not self.is_leaf:
        raise AutogradError(
            "only tensors created explicitly by the user (graph leaves) support the deepcopy protocol",
            user_location(),
            hint="use detach() or clone()",
        )
    import copy

    fresh = apply(CLONE, detach(self)) if state.trace is not None else None
    data = np.array(self.array) if fresh is None else fresh._data
    result = _rebuilt(self.__class__, data, self._requires_grad, {})
    memo[id(self)] = result
    result._grad = copy.deepcopy(self._grad, memo)
    attributes = {k: v for k, v in self.__dict__.items() if k not in ("_hooks", "_frozen")}
    result.__dict__.update(copy.deepcopy(attributes, memo))
    return result


@_attach
def __copy__(self: Tensor) -> Tensor:
    result = _rebuilt(self.__class__, self._data, self._requires_grad, self.__dict__)
    result._storage, result._view, result._grad = self._storage, self._view, self._grad
    result._grad_fn, result._index, result._seen = self._grad_fn, self._index, self._seen
    return result


@_attach
def __reduce_ex__(self: Tensor, protocol: Any) -> tuple[Any, ...]:
    _no_value(self, "elements", "keep pickling outside of the compiled function")
    attributes = {k: v for k, v in self.__dict__.items() if k not in ("_hooks", "retains_grad", "_frozen")}
    return _rebuilt, (self.__class__, self.array, self.requires_grad, attributes)


def _rebuilt(cls: Any, data: Any, requires_grad: bool, attributes: dict[str, Any]) -> Tensor:
    result = cls.__new__(cls)
    Tensor.__init__(result, data, requires_grad)
    result.__dict__.update(attributes)
    return result
