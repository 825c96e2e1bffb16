"""The Tensor: an eager value, or, while a function is captured, a handle on a value of the graph.

Methods and operators are attached by `tjit.ops`, from the registry of public functions.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np

from tjit import dtypes
from tjit.devices import Device, cpu
from tjit.dtypes import DType
from tjit.errors import AutogradError, CaptureError
from tjit.ir.dims import Dim, product
from tjit.ir.graph import Value
from tjit.ir.types import TensorType
from tjit.location import user_location

if TYPE_CHECKING:
    from tjit.autograd.tape import TapeNode

__all__ = ["Modified", "Size", "Storage", "Tensor", "Traced", "active", "attach"]


class Size(tuple):
    """A shape. Prints as PyTorch's."""

    __slots__ = ()

    def numel(self) -> Dim:
        return product(self)

    def __repr__(self) -> str:
        return f"torch.Size([{', '.join(map(str, self))}])"

    def __getitem__(self, key: Any) -> Any:
        item = tuple.__getitem__(self, key)
        return Size(item) if isinstance(key, slice) else item


class Storage:
    """What a tensor and its views share: a count of the writes to it."""

    __slots__ = ("version",)

    def __init__(self) -> None:
        self.version = 0


class Laid:
    """The data of a frozen tensor of which programs have the only copy, in an order of their own.

    Attributes:
        type: of the tensor.
        restored: gives a read-only array of it.
    """

    __slots__ = ("restored", "type")

    def __init__(self, type: TensorType, restored: Callable[[], np.ndarray]) -> None:
        self.type = type
        self.restored = restored


class _Active(threading.local):
    """Per thread: the scope whose nodes are being captured."""

    scope: Any = None


active = _Active()


class Traced:
    """The data of a tensor while capturing: the value it stands for now, in the scope (region) that it was made in."""

    __slots__ = ("scope", "value")

    def __init__(self, value: Value) -> None:
        self.value = value
        self.scope = active.scope


class Modified:
    """The data of a tensor that was saved for backward and then written in place."""

    __slots__ = ("type",)

    def __init__(self, type: TensorType) -> None:
        self.type = type


if TYPE_CHECKING:

    def _binary(self: Tensor, other: Any) -> Tensor: ...


def _legacy_data(data: Any, second: Any, sizes: tuple[int, ...]) -> np.ndarray:
    """The array of `Tensor(2, 3)` or `Tensor([1, 2])`, PyTorch's old constructor: sizes, or elements as floats."""
    if isinstance(data, int):
        extents = (data,) if second is False else (data, second, *sizes)
        return np.zeros(extents, dtypes.default_dtype().numpy)
    return np.array(getattr(data, "array", data), dtypes.default_dtype().numpy)


class Tensor:
    """A multidimensional array of one dtype.

    Attributes:
        _data: NumPy array (eager), `Traced` (capturing), `Laid` or `Modified`.
        _storage: shared with every view of the same memory.
        _view: (base tensor, op, attrs) where this is a view made by `op`.
        _seen: version of the storage that `_data.value` and `_grad_fn` of a view were computed from.
        _grad_fn, _index: the tape node that made this tensor, and which of its results this is.
    """

    __slots__ = (
        "__dict__",
        "__weakref__",
        "_data",
        "_grad",
        "_grad_fn",
        "_index",
        "_requires_grad",
        "_seen",
        "_storage",
        "_view",
    )

    _number = False  # a traced number: promotes as Python's
    _is_numpy = False  # a traced ndarray: computes as NumPy's

    _data: np.ndarray | Traced | Laid | Modified
    _storage: Storage
    _view: tuple[Tensor, Any, dict[str, Any]] | None
    _grad: Tensor | None
    _grad_fn: TapeNode | None

    if TYPE_CHECKING:  # what the registry and `tjit.surface` attach
        grad: Tensor | None
        data: Tensor
        T: Tensor
        mT: Tensor

        def __getattr__(self, name: str) -> Any: ...
        def __getitem__(self, key: Any) -> Tensor: ...
        def __setitem__(self, key: Any, value: Any) -> None: ...
        def __iter__(self) -> Iterator[Tensor]: ...
        def __len__(self) -> int: ...
        def __index__(self) -> int: ...
        def __float__(self) -> float: ...
        def __int__(self) -> int: ...
        def __neg__(self) -> Tensor: ...
        def __abs__(self) -> Tensor: ...
        def __invert__(self) -> Tensor: ...
        def __eq__(self, other: Any) -> Tensor: ...  # pyright: ignore[reportIncompatibleMethodOverride]  # elementwise
        def __ne__(self, other: Any) -> Tensor: ...  # pyright: ignore[reportIncompatibleMethodOverride]  # elementwise
        def __hash__(self) -> int: ...

        __lt__ = __le__ = __gt__ = __ge__ = __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _binary
        __truediv__ = __rtruediv__ = __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = __rpow__ = _binary
        __matmul__ = __rmatmul__ = __and__ = __rand__ = __or__ = __ror__ = __xor__ = __rxor__ = _binary
        __lshift__ = __rlshift__ = __rshift__ = __rrshift__ = _binary

    def __init__(self, data: Any = (), requires_grad: Any = False, *sizes: int) -> None:
        if not isinstance(data, (np.ndarray, Traced, Laid, Modified)):
            data, requires_grad = _legacy_data(data, requires_grad, sizes), False
        self._data = data
        self._requires_grad = requires_grad
        self._grad = None
        self._grad_fn = None
        self._index = 0
        self._storage = Storage()
        self._view = None
        self._seen = 0

    def __class_getitem__(cls, dims: Any) -> Any:
        """An annotation that declares a shape of Dims, names, ints and None (any extent): `Tensor["batch", 784]`."""
        return Annotated[cls, dims if isinstance(dims, tuple) else (dims,)]

    # -- type ----------------------------------------------------------------------------------------------------------

    @property
    def type_(self) -> TensorType:
        """The IR type: dtype, shape and device."""
        data = self._data
        if isinstance(data, np.ndarray):
            return TensorType(dtypes.from_numpy(data.dtype), data.shape)
        return data.value.type if isinstance(data, Traced) else data.type

    @property
    def dtype(self) -> DType:
        data = self._data
        return dtypes.from_numpy(data.dtype) if isinstance(data, np.ndarray) else self.type_.dtype

    @property
    def shape(self) -> Size:
        data = self._data
        return Size(data.shape if isinstance(data, np.ndarray) else self.type_.shape)

    @property
    def device(self) -> Device:
        return cpu if isinstance(self._data, np.ndarray) else self.type_.device

    @property
    def ndim(self) -> int:
        return len(self.shape)

    @property
    def is_traced(self) -> bool:
        """Whether this stands for a value of a graph that is being captured."""
        return isinstance(self._data, Traced)

    @property
    def is_frozen(self) -> bool:
        """Whether nothing changes the elements any more (`tjit.jit.freeze`)."""
        return "_frozen" in self.__dict__

    @property
    def array(self) -> np.ndarray:
        """The NumPy array of an eager tensor, without a copy.

        Raises:
            CaptureError: the tensor is traced: it has no elements yet.
            AutogradError: the tensor was saved for backward and then modified in place.
        """
        data = self._data
        if isinstance(data, np.ndarray):
            return data
        if isinstance(data, Laid):
            return data.restored()
        if isinstance(data, Modified):
            raise AutogradError(
                f"a {data.type} tensor needed for backward was modified by an in-place operation",
                user_location(),
                hint="use the out-of-place form, or clone() before modifying",
            )
        from tjit.ops.apply import state

        if state.trace is None:
            raise CaptureError(
                f"a {data.value.type} tensor was kept from the capture of a compiled function, where it had no "
                "elements",
                user_location(),
                hint="return tensors from a compiled function; do not store them in globals or attributes",
            )
        raise CaptureError(
            f"a {self.type_} tensor has no elements while the function is captured",
            user_location(),
            hint="keep .item(), .tolist(), .numpy() and print of its elements outside of the compiled function",
        )

    def size(self, dim: int | None = None) -> Any:
        """The shape, or the extent of one dim."""
        return self.shape if dim is None else self.shape[dim]

    def dim(self) -> int:
        """Number of dims."""
        return self.ndim

    def numel(self) -> Dim:
        """Number of elements."""
        return product(self.shape)

    # -- autograd state ------------------------------------------------------------------------------------------------

    @property
    def requires_grad(self) -> bool:
        return self._requires_grad or self._grad_fn is not None

    @requires_grad.setter
    def requires_grad(self, value: bool) -> None:
        self.requires_grad_(value)

    def requires_grad_(self, requires_grad: bool = True) -> Tensor:
        """Track gradients of this leaf, or stop tracking.

        Raises:
            AutogradError: the dtype is not float, or the tensor is not a leaf.
        """
        if self._grad_fn is not None:
            if not requires_grad:
                raise AutogradError("only leaf tensors can stop requiring grad", user_location(), hint="use detach()")
            return self
        if requires_grad and not self.dtype.is_floating_point:
            raise AutogradError(f"only float tensors can require gradients, not {self.type_}", user_location())
        self._requires_grad = requires_grad
        return self

    @property
    def is_leaf(self) -> bool:
        return self._grad_fn is None

    @property
    def grad_fn(self) -> TapeNode | None:
        return self._grad_fn


def attach(**members: Any) -> None:
    """Give the class what modules above this one define."""
    for name, member in members.items():
        setattr(Tensor, name, member)
