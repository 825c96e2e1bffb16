"""The signature of a call: what has to be equal for the same machine code to serve it."""

from __future__ import annotations

from typing import Any

import numpy as np

from tjit.capture.pytree import Tree
from tjit.errors import CaptureError, DTypeError
from tjit.ir.dims import Dim, Symbol, product
from tjit.location import user_location
from tjit.numpy_api.operands import complex_view
from tjit.ops.apply import state
from tjit.ops.strides import merged_dims
from tjit.tensor import Tensor

__all__ = ["Signature", "array_leaf", "array_of", "number_leaf", "read_signature", "stride_dim", "strides_of_argument"]

_CLOSE = 4  # elements


def array_leaf(leaf: Any) -> bool:
    """Whether a leaf of the arguments is an array: an input of the graph. Others are Python values."""
    return isinstance(leaf, (Tensor, np.ndarray))


def array_of(leaf: Any) -> np.ndarray:
    """The memory of an array argument; a complex one as floats, with one more dim."""
    if isinstance(leaf, np.ndarray):
        return complex_view(leaf) if leaf.dtype.kind == "c" else leaf
    return leaf.array


class Signature(tuple):
    """(family, extents): `family` is all but the extents of arrays, and the values of ints and floats.

    Attributes:
        numbers: the ints and floats among the leaves, as text that tells all of them apart. Not compared: a variant may
            serve calls with different ones.
    """

    numbers: tuple[str, ...] = ()

    @property
    def family(self) -> Any:
        return self[0]

    @property
    def extents(self) -> Any:
        return self[1]


def number_leaf(leaf: Any) -> bool:
    """Whether a leaf of the arguments is a number that may become an input."""
    return type(leaf) in _NUMBERS


_NUMBERS = (int, float, np.float64)


def read_signature(tree: Tree, leaves: list[Any]) -> Signature:
    """The signature of a call with these leaves.

    Raises:
        CaptureError: a Python value among them cannot be compared and hashed.
    """
    family: list[Any] = [tree]
    extents: list[tuple[int, ...]] = []
    numbers: list[str] = []
    places: dict[int, int] = {}
    grad = state.grad
    for i, leaf in enumerate(leaves):
        if isinstance(leaf, Tensor):
            array, kind = leaf.array, Tensor
            needs_grad = grad and (leaf._requires_grad or leaf._grad_fn is not None)
        elif isinstance(leaf, np.ndarray):
            array, kind, needs_grad = leaf, np.ndarray, False
            if type(leaf) is not np.ndarray and isinstance(leaf, (np.ma.MaskedArray, np.matrix)):
                raise DTypeError(
                    f"a {type(leaf).__name__} is no plain array", user_location(), hint="pass np.asarray(...) of it"
                )
        else:
            is_number = type(leaf) in _NUMBERS
            family.append((type(leaf),) if is_number else _static(leaf))
            if is_number:
                numbers.append(repr(float(leaf) if type(leaf) is np.float64 else leaf))
            continue
        same = places.setdefault(id(leaf), i)
        shape = array.shape
        layout = None if array.flags.c_contiguous else _layout(array)
        family.append((kind, array.dtype, needs_grad, len(shape), layout, same if same != i else None))
        extents.append(shape)
    family.append(grad)
    signature = Signature((tuple(family), tuple(extents)))
    if numbers:
        signature.numbers = tuple(numbers)
    return signature


def _static(leaf: Any) -> Any:
    """A Python value as part of the signature; True, 1 and 1.0 are three values."""
    if isinstance(leaf, slice):
        return slice, (leaf.start, leaf.stop, leaf.step)
    try:
        hash(leaf)
    except TypeError:
        raise CaptureError(
            f"an argument of type {type(leaf).__name__} cannot be part of a compiled function's signature",
            user_location(),
            hint="pass tensors, arrays, numbers, strings, or lists, tuples, dicts and dataclasses of them",
        ) from None
    if not leaf and isinstance(leaf, (float, complex, np.floating)):
        return type(leaf), repr(leaf)  # 0.0 is not -0.0
    return type(leaf), leaf if leaf == leaf else "nan"


def _layout(array: np.ndarray) -> tuple[Any, ...]:
    """What is fixed of a strided array: strides of few elements, which make other code, and which dims are as one.

    The other strides are read at each call.
    """
    size = array.dtype.itemsize
    if any(s % size for s in array.strides) or not array.flags.aligned:
        raise DTypeError(
            "an array with strides that are no multiple of its element is not supported",
            user_location(),
            hint="pass a copy",
        )
    fixed = tuple(_fixed_stride(s, size) for s in array.strides)
    return (*fixed, *merged_dims(array.shape, array.strides), array.flags.f_contiguous)


def _fixed_stride(step: int, size: int) -> int | None:
    """A stride in elements if it is of few, for which code is made: whole vectors are read, and lanes picked out."""
    return step // size if abs(step) <= _CLOSE * size else None


def stride_dim(step: int, size: int, name: str) -> Dim:
    """A stride in elements as a program knows it: a number where signatures fix it, else a symbol.

    Args:
        step: in bytes.
        size: of an element in bytes.
        name: of the symbol.
    """
    fixed = _fixed_stride(step, size)
    return Symbol(name, -(1 << 40)).dim if fixed is None else fixed


def strides_of_argument(leaf: Any, shape: tuple[Dim, ...], name: str) -> tuple[Dim, ...] | None:
    """The strides in elements of an array argument, symbols where its signature fixes none; None: row-major."""
    array = leaf if isinstance(leaf, np.ndarray) else leaf.array
    if array.flags.c_contiguous:
        return None
    if array.flags.f_contiguous:
        return tuple(product(shape[:d]) for d in range(len(shape)))
    found: list[Dim] = [stride_dim(s, array.itemsize, f"{name}_stride{d}") for d, s in enumerate(array.strides)]
    for d, merged in reversed(list(enumerate(merged_dims(array.shape, array.strides)))):
        if merged:
            found[d] = found[d + 1] * shape[d + 1]
    return tuple(found)
