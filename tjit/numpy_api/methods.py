"""The methods, attributes and operators of captured arrays, as ndarray has them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np

from tjit.errors import CaptureError, DTypeError
from tjit.location import user_location
from tjit.numpy_api.array import ArrayMethods, ComplexTensor, MaskedRead, NumpyTensor, built, each, number, parts, plain
from tjit.numpy_api.elementwise import binary, call_ufunc, inplace, store
from tjit.numpy_api.functions import FUNCTIONS, array_function, array_ufunc, imag, real
from tjit.numpy_api.keys import read, write
from tjit.numpy_api.operands import to_dtype
from tjit.numpy_api.products import matmul
from tjit.ops.apply import state
from tjit.tensor import Tensor

__all__: list[str] = []

_OPERATORS = {
    "add": np.add, "sub": np.subtract, "mul": np.multiply, "truediv": np.true_divide, "floordiv": np.floor_divide,
    "mod": np.remainder, "pow": np.power, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor,
    "lshift": np.left_shift, "rshift": np.right_shift,
}  # fmt: skip
_COMPARISONS = {
    "eq": np.equal, "ne": np.not_equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal,
}  # fmt: skip


def _attach(name: str, member: Any) -> None:
    setattr(ArrayMethods, name, member)


for _name, _ufunc in _OPERATORS.items():
    _forward, _reflected = binary(_ufunc, _name)
    _attach(f"__{_name}__", _forward)
    _attach(f"__r{_name}__", _reflected)
    _attach(f"__i{_name}__", inplace(_ufunc))
for _name, _ufunc in _COMPARISONS.items():
    _attach(f"__{_name}__", binary(_ufunc, _name)[0])


def _unary(ufunc: np.ufunc) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        result = call_ufunc(ufunc, self)
        return number(result) if self._number else result

    return method


_attach("__neg__", _unary(np.negative))
_attach("__pos__", _unary(np.positive))
_attach("__abs__", _unary(np.absolute))
_attach("__invert__", _unary(np.invert))


def _divmod(self: Any, other: Any) -> Any:
    return call_ufunc(np.divmod, self, other)


def _matmul(self: Any, other: Any) -> Any:
    if type(other) is not NumpyTensor and isinstance(other, Tensor):
        return plain(self) @ other
    return matmul(self, other)


def _rmatmul(self: Any, other: Any) -> Any:
    if type(other) is not NumpyTensor and isinstance(other, Tensor):
        return other @ plain(self)
    return matmul(other, self)


def _imatmul(self: Any, other: Any) -> Any:
    return store(self, matmul(self, other))


_attach("__divmod__", _divmod)
_attach("__rdivmod__", lambda self, other: call_ufunc(np.divmod, other, self))
_attach("__matmul__", _matmul)
_attach("__rmatmul__", _rmatmul)
_attach("__imatmul__", _imatmul)
_attach("__getitem__", read)
_attach("__setitem__", write)
_attach("__array_ufunc__", array_ufunc)
_attach("__array_function__", array_function)
_attach("__array_priority__", 2000)


# Python's protocols


def _refuse(x: Any, what: str, hint: str) -> Any:
    error = CaptureError(
        f"a {x.dtype} array of shape {_shape_text(x)} has no {what} while the function is captured",
        user_location(),
        hint=hint,
    )
    if state.trace is not None:
        state.trace.refused = state.trace.refused or error
    raise error


def _shape_text(x: Any) -> str:
    return "unknown" if isinstance(x, MaskedRead) else f"[{', '.join(map(str, x.shape))}]"


def _known(x: Any) -> Any:
    """The one element, where capture knows it; None where it does not."""
    if not isinstance(x, NumpyTensor) or x.known is None or x._storage.version or x.known.size != 1:
        return None
    return x.known.item()


def _as_python(convert: Callable[[Any], Any], what: str, hint: str) -> Callable[[Any], Any]:
    def method(self: Any) -> Any:
        known = _known(self)
        return _refuse(self, what, hint) if known is None else convert(known)

    return method


def _to_bool(self: Any) -> bool:
    known = _known(self)
    if known is not None:
        return bool(known)
    return _refuse(self, "truth value", "use np.where(condition, a, b), or decide outside of the compiled function")


_VALUE_HINT = "keep it as an array: x.astype(...), or compute it outside of the compiled function"
_attach("__bool__", _to_bool)
_attach("__int__", _as_python(int, "Python value", _VALUE_HINT))
_attach("__float__", _as_python(float, "Python value", _VALUE_HINT))
_attach("__complex__", _as_python(complex, "Python value", _VALUE_HINT))
_attach("__index__", _as_python(lambda v: v.__index__(), "Python value", "index an array with it: x[i]"))
_attach("__array__", lambda self, *args, **keywords: _refuse(self, "elements", "use np. functions that tjit knows"))


def _len(self: Any) -> int:
    if not self.shape:
        raise DTypeError("len() of an array of no dims", user_location())
    extent = self.shape[0]
    if not isinstance(extent, int):
        raise CaptureError(f"the length {extent} is not the same on every call", user_location(), hint="use x.shape[0]")
    return extent


def _iter(self: Any) -> Iterator[Any]:
    if isinstance(self, NumpyTensor) and self.known is not None and not self._storage.version:
        return iter(self.known)
    return iter([self[i] for i in range(_len(self))])


def _contains(self: Any, element: Any) -> Any:
    raise CaptureError(
        "`in` asks for a Python bool of an array's elements", user_location(), hint="use (x == element).any()"
    )


_attach("__len__", _len)
_attach("__iter__", _iter)
_attach("__contains__", _contains)
_attach("__round__", lambda self, ndigits=None: _round(self, ndigits))
_attach("__copy__", lambda self: FUNCTIONS[np.copy](self))
_attach("__deepcopy__", lambda self, memo: FUNCTIONS[np.copy](self))


def _round(x: Any, ndigits: int | None) -> Any:
    rounded = FUNCTIONS[np.round](x, ndigits or 0)
    return rounded if ndigits is not None or x.dtype.kind not in "f" else to_dtype(rounded, np.int64)


def _text(self: Any) -> str:
    return f"array(shape={_shape_text(self)}, dtype={self.dtype}, captured)"


_attach("__repr__", _text)
_attach("__str__", _text)
_attach("__format__", lambda self, spec: _text(self) if not spec else _refuse(self, "Python value", _VALUE_HINT))


# Attributes


def _set_part(index: int) -> Callable[[Any, Any], None]:
    def assign_part(self: Any, value: Any) -> None:
        if index and not isinstance(self, ComplexTensor):
            raise DTypeError(f"an array of {self.dtype} has no imaginary part to write", user_location())
        target = built([parts(self)[index]], scalar=False)
        target[...] = value

    return assign_part


def _flat(self: Any) -> Any:
    flat = FUNCTIONS[np.ravel](self)
    if any(t._view is None for t in parts(flat)):
        raise CaptureError("x.flat of an array that is not contiguous", user_location(), hint="use x.ravel(), a copy")
    return flat


def _strides(self: Any) -> tuple[Any, ...]:
    raise CaptureError("an array has no strides while the function is captured", user_location(), hint="pass them in")


for _name, _member in {
    "T": property(lambda self: FUNCTIONS[np.transpose](self)),
    "mT": property(lambda self: FUNCTIONS[np.swapaxes](self, -1, -2)),
    "real": property(real, _set_part(0)),
    "imag": property(imag, _set_part(1)),
    "flat": property(_flat),
    "strides": property(_strides),
    "itemsize": property(lambda self: self.dtype.itemsize),
    "nbytes": property(lambda self: self.size * self.dtype.itemsize),
    "base": property(lambda self: None),
}.items():
    _attach(_name, _member)


def _size(self: Any) -> Any:
    from tjit.numpy_api.array import size_of

    return size_of(self)


for _class in (NumpyTensor, ComplexTensor):
    _class.size = property(_size)  # pyright: ignore[reportAttributeAccessIssue]  # attached, as all members


# Methods


def _method(fn: Any) -> Callable[..., Any]:
    implementation = FUNCTIONS[fn]
    name = getattr(fn, "__name__", "")
    inherited = getattr(Tensor, name, None)

    def method(self: Any, *args: Any, **keywords: Any) -> Any:
        if inherited is not None and isinstance(self, NumpyTensor) and not keywords.keys().isdisjoint(_TORCH):
            return inherited(plain(self), *args, **keywords)  # PyTorch's spelling asks for PyTorch's method
        return implementation(self, *args, **keywords)

    method.__name__ = name
    return method


_TORCH = {"dim", "keepdim"}

for _fn in (
    np.sum, np.prod, np.mean, np.std, np.var, np.max, np.min, np.argmax, np.argmin, np.any, np.all, np.cumsum,
    np.cumprod, np.clip, np.round, np.ravel, np.swapaxes, np.squeeze, np.repeat, np.take, np.trace, np.diagonal,
    np.dot, np.nonzero, np.argsort, np.compress, np.copy,
):  # fmt: skip
    _attach(_fn.__name__.replace("amax", "max").replace("amin", "min"), _method(_fn))


def _astype(
    self: Any, dtype: Any, order: str = "K", casting: str = "unsafe", subok: bool = True, copy: bool = True
) -> Any:
    result = to_dtype(self, dtype)
    return FUNCTIONS[np.copy](result) if result is self and copy else result


def _spread(args: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple(args[0]) if len(args) == 1 and isinstance(args[0], (tuple, list)) else args


def _reshape(self: Any, *shape: Any, order: str = "C", copy: Any = None) -> Any:
    return FUNCTIONS[np.reshape](self, _spread(shape), order)


def _transpose(self: Any, *axes: Any) -> Any:
    listed = None if not axes or axes[0] is None else _spread(axes)
    return FUNCTIONS[np.transpose](self, listed)


def _flatten(self: Any, order: str = "C") -> Any:
    return FUNCTIONS[np.copy](FUNCTIONS[np.ravel](self, order))


def _fill(self: Any, value: Any) -> None:
    self[...] = value


def _item(self: Any, *args: Any) -> Any:
    """The one element, or that at a position: a 0-d array, which computes as a Python number does."""
    element = self[_spread(args)] if len(args) > 1 else FUNCTIONS[np.ravel](self)[args[0] if args else 0]
    return number(element)


def _view_as(self: Any, *args: Any, **keywords: Any) -> Any:
    if args and all(isinstance(a, int) or type(a).__name__ == "DimExpr" for a in args):
        return built([plain(self).view(*args)], scalar=False)  # PyTorch's
    if not args and not keywords:
        return each(lambda t: t.reshape(tuple(t.shape)), self, scalar=False)
    raise CaptureError(
        "x.view(dtype) reads memory as another type", user_location(), hint="use x.astype(dtype), which converts"
    )


def _resize(self: Any, *args: Any, **keywords: Any) -> Any:
    raise CaptureError("x.resize changes an array's shape in place", user_location(), hint="use np.pad or x.reshape")


def _sort(self: Any, *args: Any, **keywords: Any) -> None:
    self[...] = FUNCTIONS[np.sort](self, *args, **keywords)


def _conjugate(self: Any, out: Any = None) -> Any:
    return call_ufunc(np.conjugate, self, out=out)


def _put(self: Any, indices: Any, values: Any, mode: str = "raise") -> None:
    _flat(self)[indices] = values


def _tolist(self: Any) -> Any:
    if not self.shape:
        return _item(self)
    return [_tolist(row) for row in _iter(self)]


for _name, _member in {
    "astype": _astype, "reshape": _reshape, "transpose": _transpose, "flatten": _flatten, "fill": _fill, "item": _item,
    "view": _view_as, "resize": _resize, "sort": _sort, "conj": _conjugate, "conjugate": _conjugate, "put": _put,
    "tolist": _tolist, "ptp": lambda self, axis=None, out=None, keepdims=False: FUNCTIONS[np.ptp](
        self, axis, out, keepdims
    ),
}.items():  # fmt: skip
    _attach(_name, _member)
