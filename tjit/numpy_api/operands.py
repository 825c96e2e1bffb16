"""From what a NumPy function was given to arrays of this package, and the dtypes that NumPy would compute in."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.dtypes import DType, i64
from tjit.errors import DTypeError
from tjit.ir.dims import DimExpr
from tjit.location import user_location
from tjit.numpy_api.array import Array, ComplexTensor, MaskedRead, NumpyTensor, built, is_array, number, parts
from tjit.ops.apply import state
from tjit.ops.conversion import cast
from tjit.ops.creation import full
from tjit.ops.numbers import Number, number_tensor
from tjit.tensor import Tensor

__all__ = ["as_array", "kind_of", "lifted", "operand", "real_dtype", "resolve", "result_type", "to_dtype", "weak_kind"]

_WEAK = {"bool": np.dtype(bool), "int": int, "float": float}


def operand(x: Any) -> Any:
    """x as an array of this package, a `MaskedRead`, a Python number, or a NumPy scalar.

    Raises:
        DTypeError: it is none of these.
    """
    if type(x) is Number:  # it answers no other question about itself
        return number(number_tensor(x))
    if is_array(x) or type(x) in (bool, int, float, complex):
        return x
    if isinstance(x, Tensor):
        return number(x) if x._number else built([x], scalar=False)
    if type(x) is DimExpr:
        return number(full((), x, dtype=i64))
    if isinstance(x, np.generic):
        return x
    if isinstance(x, np.ndarray):
        return lifted(x)
    if isinstance(x, (list, tuple)):
        from tjit.numpy_api.creation import array

        return array(x)
    if isinstance(x, (bool, int, float, complex)):
        return x
    raise DTypeError(f"expected an array or a number, not {type(x).__name__} {x!r}", user_location())


def as_array(x: Any) -> Array:
    """x as an array, numbers as scalars."""
    x = operand(x)
    if isinstance(x, MaskedRead):
        x.refuse(user_location())
    if is_array(x):
        return x
    dtype = np.dtype(type(x))
    return built([full((), part, dtype=_own(real_dtype(dtype))) for part in _split(x, dtype)])


def _split(x: Any, dtype: np.dtype[Any]) -> tuple[Any, ...]:
    x = x.item() if isinstance(x, np.generic) else x
    return (x.real, x.imag) if dtype.kind == "c" else (x,)


def lifted(array: np.ndarray) -> Array:
    """An ndarray from outside of the captured function, as an input of the graph. One array is one input."""
    assert state.trace is not None
    known: dict[int, Any] = state.trace.__dict__.setdefault("lifted_arrays", {})
    if id(array) not in known:
        known[id(array)] = (array, _lifted(array))
    return known[id(array)][1]


def _lifted(array: np.ndarray) -> Array:
    if array.dtype.kind != "c":
        dtypes.from_numpy(array.dtype)
        return built([Tensor(array)], scalar=False)
    return split_complex(Tensor(complex_view(array)))


def complex_view(array: np.ndarray) -> np.ndarray:
    """The memory of a complex array as floats: one more dim, of real and imaginary part.

    Raises:
        DTypeError: neither complex64 nor complex128.
    """
    if array.dtype not in (np.complex64, np.complex128):
        raise DTypeError(
            f"tjit has no dtype {array.dtype!r}", user_location(), hint="convert to complex64 or complex128"
        )
    return array[..., None].view(real_dtype(array.dtype))


def split_complex(x: Tensor) -> ComplexTensor:
    """A complex array on the memory of a float tensor whose last dim is real and imaginary part."""
    from tjit.ops.join import select

    return ComplexTensor(select(x, -1, 0), select(x, -1, 1))


def weak_kind(dtype: DType) -> Any:
    """What a traced Python number of a dtype promotes as."""
    return _WEAK[dtype.kind]


def kind_of(x: Any) -> Any:
    """An operand for NumPy's promotion: its dtype; of a number Python's type."""
    if isinstance(x, NumpyTensor) and x._number:
        return weak_kind(x.type_.dtype)
    if isinstance(x, ComplexTensor) and x._number:
        return complex
    if type(x) in (int, float, complex):
        return type(x)
    return np.dtype(bool) if type(x) is bool else x.dtype


@lru_cache(4096)
def resolve(ufunc: np.ufunc, kinds: tuple[Any, ...], dtype: Any = None) -> tuple[np.dtype[Any], ...]:
    """The dtypes that a ufunc computes in, operands' first.

    Raises:
        TypeError: NumPy has no loop for them.
    """
    if not any(isinstance(k, np.dtype) for k in kinds):  # of Python numbers alone NumPy would make objects
        kinds = tuple(map(np.dtype, kinds))
    named: dict[str, Any] = {"casting": "same_kind"}
    if dtype is not None:
        named["signature"] = (None,) * ufunc.nin + (np.dtype(dtype),) * ufunc.nout
    return ufunc.resolve_dtypes((*kinds, *(None,) * ufunc.nout), **named)


def result_type(*xs: Any) -> np.dtype[Any]:
    """`np.result_type` of operands; of weak numbers alone, Python's own types."""
    kinds = [kind_of(x) for x in xs]
    return np.result_type(*(k if isinstance(k, np.dtype) else k(0) for k in kinds))


def real_dtype(dtype: Any) -> np.dtype[Any]:
    """The dtype of the parts of a complex one; any other is its own."""
    dtype = np.dtype(dtype)
    return np.dtype(f"f{dtype.itemsize // 2}") if dtype.kind == "c" else dtype


def _own(dtype: np.dtype[Any]) -> DType:
    return dtypes.from_numpy(dtype)


def to_dtype(x: Any, dtype: Any) -> Any:
    """An operand converted to a dtype, as `astype` does; a complex one to a real dtype loses its imaginary part."""
    dtype = np.dtype(dtype)
    if isinstance(x, MaskedRead):
        return MaskedRead(to_dtype(x.full, dtype), x.mask)
    if not is_array(x):
        x = as_array(x)
    own = _own(real_dtype(dtype))
    if dtype.kind == "b" and isinstance(x, ComplexTensor):
        return built([(x.re != 0) | (x.im != 0)], x.scalar)
    tensors = [t if t.dtype is own else cast(t, own) for t in parts(x)]
    if dtype.kind == "c" and len(tensors) == 1:
        tensors.append(full(tuple(tensors[0].shape), 0.0, dtype=own))
    tensors = tensors if dtype.kind == "c" else tensors[:1]
    same = len(tensors) == len(parts(x)) and all(a is b for a, b in zip(tensors, parts(x), strict=True))
    return x if same and not x._number else built(tensors, x.scalar or not x.shape)
