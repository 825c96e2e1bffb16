"""The classes that stand for ndarrays while capturing, and the way to and from tjit's own tensors.

`plain` gives the tensor of an array, on which tjit's functions compute; `built` makes an array of what they give. A
complex array is two real tensors.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, NoReturn, Union

import numpy as np

from tjit.dtypes import f32
from tjit.errors import CaptureError
from tjit.ir.dims import Dim, product
from tjit.location import Location, user_location
from tjit.ops.apply import state
from tjit.tensor import Tensor

__all__ = [
    "Array",
    "ArrayMethods",
    "ComplexScalar",
    "ComplexTensor",
    "MaskedRead",
    "NumpyNumber",
    "NumpyScalar",
    "NumpyTensor",
    "built",
    "each",
    "is_array",
    "is_number",
    "number",
    "parts",
    "plain",
    "size_of",
]


class ArrayMethods:
    """The methods, operators and attributes of an ndarray; `tjit.numpy_api.methods` attaches them."""

    __slots__ = ()

    if TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any: ...


class NumpyTensor(ArrayMethods, Tensor):
    """A tensor that behaves as an ndarray."""

    __slots__ = ()

    _is_numpy = True
    scalar = False
    known: np.ndarray | None = None  # the elements, where capture knows them
    __hash__ = Tensor.__hash__

    @property
    def dtype(self) -> Any:
        return self.type_.dtype.numpy

    @property
    def shape(self) -> Any:
        return tuple(self.type_.shape)


class NumpyScalar(NumpyTensor):
    """A NumPy scalar, which is what reading an element gives: 0-d, no view, and never written."""

    __slots__ = ()

    scalar = True


class NumpyNumber(NumpyScalar):
    """A Python number that is computed: it promotes as such."""

    __slots__ = ()

    _number = True


class ComplexTensor(ArrayMethods):
    """A complex array: two real tensors, of one float dtype and one shape."""

    __slots__ = ("im", "re")
    __hash__ = object.__hash__
    scalar = False

    @property
    def _number(self) -> bool:
        return False

    def __init__(self, re: Tensor, im: Tensor) -> None:
        self.re = re
        self.im = im

    @property
    def dtype(self) -> np.dtype[Any]:
        return np.dtype(np.complex64 if self.re.type_.dtype is f32 else np.complex128)

    @property
    def shape(self) -> tuple[Dim, ...]:
        return tuple(self.re.shape)

    @property
    def ndim(self) -> int:
        return len(self.shape)


class ComplexScalar(ComplexTensor):
    """A complex NumPy scalar; of two traced Python numbers a complex Python number, of two known ones Python's own."""

    __slots__ = ()

    scalar = True

    def __new__(cls, re: Any, im: Any) -> Any:
        return complex(re, im) if isinstance(re, float) and isinstance(im, float) else object.__new__(cls)

    @property
    def _number(self) -> bool:
        return self.re._number and self.im._number


class MaskedRead(ArrayMethods):
    """`a[mask]`, whose number of elements depends on data: all of `a`, of which what lies where `mask` holds counts.

    Elementwise operations compute on all; it can be reduced, and written where the same mask holds.

    Attributes:
        full: an array.
        mask: bool tensor of full's shape.
        where: the user's line that reads.
    """

    __slots__ = ("full", "mask", "where")
    __hash__ = object.__hash__
    _number = False

    def __init__(self, full: Array, mask: Tensor) -> None:
        self.full = full
        self.mask = mask
        self.where = user_location()

    def refuse(self, location: Location | None) -> NoReturn:
        """Say that it is no array, where one is wanted."""
        raise CaptureError(
            "this needs the elements that a bool mask selects, whose number depends on data",
            location,
            hint="use np.where(mask, x, other), or assign through the mask",
        )

    @property
    def dtype(self) -> Any:
        return self.full.dtype

    @property
    def shape(self) -> Any:
        raise CaptureError(
            "the shape of what a bool mask selects depends on data",
            user_location(),
            hint="assign it back through the same mask, reduce it, or use np.where(mask, x, other)",
        )

    ndim = size = shape


Array = Union[NumpyTensor, ComplexTensor]


def is_array(x: Any) -> bool:
    """Whether x stands for an ndarray."""
    return issubclass(type(x), ArrayMethods)  # a lifted number tells nobody its class


def is_number(x: Any) -> bool:
    """Whether x promotes as a Python number does: one, or a traced one."""
    return type(x) in (bool, int, float, complex) or (isinstance(x, (Tensor, ComplexTensor)) and x._number)


def plain(x: Tensor) -> Tensor:
    """A tensor with the meaning that tjit's functions know, on the same memory."""
    if not isinstance(x, NumpyTensor):
        return x
    twin: Tensor | None = x.__dict__.get("_plain")
    if twin is None:
        twin = x.__dict__["_plain"] = Tensor(x._data)
        twin._requires_grad = x._requires_grad
        if "_strides" in x.__dict__:
            twin.__dict__["_strides"] = x.__dict__["_strides"]
    if twin._data is not x._data and x._view is None:
        twin._data = x._data
    if twin._storage is not x._storage:
        twin._storage, twin._view, twin._seen = x._storage, x._view, x._seen
        twin._grad_fn, twin._index = x._grad_fn, x._index
    return twin


def _real(x: Tensor, scalar: bool) -> NumpyTensor:
    scalar = scalar and not x.type_.shape
    if scalar and x._view is not None:  # a scalar is no view: later writes do not change it
        assert state.trace is not None
        x = state.trace.snapshot(x) if x.is_traced else x
    result = (NumpyScalar if scalar else NumpyTensor)(x._data)
    result._storage, result._view, result._seen = x._storage, x._view, x._seen
    result._grad_fn, result._index, result._requires_grad = x._grad_fn, x._index, x._requires_grad
    if type(x) is Tensor:
        result.__dict__["_plain"] = x
    return result


def built(tensors: Sequence[Tensor], scalar: bool = True) -> Any:
    """An array of one real tensor, or of two as a complex one; one of no dims is a scalar where `scalar` says so."""
    if len(tensors) == 1:
        return _real(tensors[0], scalar)
    re, im = tensors
    scalar = scalar and not re.type_.shape
    if scalar:
        assert state.trace is not None
        re, im = (state.trace.snapshot(t) if t._view is not None and t.is_traced else t for t in (re, im))
    return (ComplexScalar if scalar else ComplexTensor)(re, im)


def parts(x: Any) -> tuple[Tensor, ...]:
    """The tensors of an array: one, or real and imaginary part."""
    return (x.re, x.im) if isinstance(x, ComplexTensor) else (plain(x),)


def each(fn: Callable[..., Tensor], x: Any, *others: Any, scalar: bool = True) -> Any:
    """The array whose tensors are `fn` of x's and the others' tensors."""
    columns = zip(*(parts(a) for a in (x, *others)), strict=True)
    return built([fn(*tensors) for tensors in columns], scalar)


def number(x: Any) -> Any:
    """A traced 0-d value as a Python number; a complex one as it is."""
    return x if isinstance(x, ComplexTensor) else NumpyNumber(plain(x)._data)


def size_of(x: Any) -> Dim:
    """How many elements an array has."""
    return product(x.shape)
