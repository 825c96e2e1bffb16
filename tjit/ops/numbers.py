"""Python numbers that are inputs of the program being captured, so that their values may change between calls."""

from __future__ import annotations

import functools
import math
import operator
import os
import sys
from collections.abc import Callable
from typing import Any, Protocol

import numpy as np

from tjit.dtypes import default_dtype
from tjit.errors import CaptureError
from tjit.location import user_location
from tjit.tensor import Tensor

__all__ = [
    "PLAIN", "InconclusiveNumberError", "Number", "NumberRecorder", "number_tensor", "plain_tensor", "recorded",
]  # fmt: skip

# Frames of capture may look at the class of a Number; whoever else asks for it is told that of the number.
_CAPTURE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "capture") + os.sep
PLAIN = (int, float, bool, np.float64)


class InconclusiveNumberError(CaptureError):
    """A number that changes between calls cannot be an input here. Capture then takes the value of the call.

    Attributes:
        places: where the numbers come from.
    """

    def __init__(self, places: frozenset[Any]) -> None:
        super().__init__("a Python number that changes between calls is where only its value can be", user_location())
        self.places = places


class NumberRecorder(Protocol):
    """What a capture does with its numbers.

    Attributes:
        tensor: gives the 0-d tensor, of i64 or f64, that has a number's value.
    """

    tensor: Callable[[Number], Tensor]

    def compute(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """`fn(*operands)`, done again at each call: a Number where that is an int or a float."""
        ...

    def tell(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """`fn(*operands)` of this call; the program is for calls where it is the same."""
        ...


class Number:
    """Stands for a Python int or float whose value a call gives.

    Arithmetic with other numbers is Python's, and recorded. Whoever asks what a value alone can say is told it of the
    call that is captured, and that is recorded too: the program serves the calls that would be told the same.

    Args:
        recorder: of the capture.
        step: where it is in what is recorded.
        value: of this call.
    """

    __slots__ = ("__weakref__", "_recorder", "_step", "_value")

    def __init__(self, recorder: NumberRecorder, step: int, value: Any) -> None:
        self._recorder = recorder
        self._step = step
        self._value = value

    __array_ufunc__ = None  # arrays leave arithmetic with it to it

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # no setter
        return Number if sys._getframe(1).f_code.co_filename.startswith(_CAPTURE) else type(self._value)

    def __getattr__(self, name: str) -> Any:
        if not hasattr(self._value, name):
            return getattr(self._value, name)  # there is none, whatever the value
        found = getattr(type(self._value), name)
        return functools.partial(recorded, found, self) if callable(found) else getattr(told(self), name)

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: Any) -> Number:
        return self

    def __reduce_ex__(self, protocol: Any) -> Any:
        return told(self).__reduce_ex__(protocol)

    def __format__(self, spec: str) -> str:
        return format(told(self), spec)

    def __round__(self, digits: Any = None) -> Any:
        return recorded(round, self) if digits is None else recorded(round, self, digits)

    def __pow__(self, exponent: Any, modulus: Any = None) -> Any:
        return _binary(pow, self, exponent) if modulus is None else recorded(pow, self, exponent, modulus)

    def __rpow__(self, base: Any) -> Any:
        return _binary(pow, base, self)


def recorded(fn: Callable[..., Any], /, *operands: Any, **keywords: Any) -> Any:
    """`fn(*operands, **keywords)`, where `fn` depends on nothing else: recorded if Numbers are among the operands."""
    number = next((o for o in operands if type(o) is Number), None)
    if number is None or keywords:
        return fn(*operands, **keywords)
    if all(type(o) is Number or type(o) in PLAIN for o in operands):
        return number._recorder.compute(fn, operands)
    return fn(*(told(o) if type(o) is Number else o for o in operands))


def told(number: Number) -> Any:
    """The value itself."""
    return number._recorder.tell(_itself, (number,))


def _itself(value: Any) -> Any:
    return value


def _binary(fn: Callable[..., Any], a: Any, b: Any) -> Any:
    """What an operator gives. Tensors and the like are asked after it."""
    other = b if type(a) is Number else a
    return NotImplemented if _is_ours(type(other)) else recorded(fn, a, b)


def _is_ours(kind: type) -> bool:
    return kind is not Number and kind.__module__.startswith("tjit.")


def _compared(fn: Callable[..., Any], a: Any, b: Any) -> Any:
    if _is_ours(type(b)):
        return NotImplemented
    if type(b) is Number or type(b) in PLAIN:
        return a._recorder.tell(fn, (a, b))
    return fn(told(a), b)


def _operators(name: str, fn: Callable[..., Any]) -> None:
    setattr(Number, f"__{name}__", lambda self, other: _binary(fn, self, other))
    setattr(Number, f"__r{name}__", lambda self, other: _binary(fn, other, self))


for _name in ("add", "sub", "mul", "truediv", "floordiv", "mod", "lshift", "rshift"):
    _operators(_name, getattr(operator, _name))
for _name, _fn in {"and": operator.and_, "or": operator.or_, "xor": operator.xor, "divmod": divmod}.items():
    _operators(_name, _fn)
for _name in ("lt", "le", "gt", "ge", "eq", "ne"):
    setattr(Number, f"__{_name}__", functools.partialmethod(functools.partial(_compared, getattr(operator, _name))))
for _name, _fn in {
    "neg": operator.neg, "pos": operator.pos, "abs": abs, "invert": operator.invert,
    "trunc": math.trunc, "floor": math.floor, "ceil": math.ceil,
}.items():  # fmt: skip
    setattr(Number, f"__{_name}__", lambda self, fn=_fn: recorded(fn, self))
for _name, _fn in {
    "bool": bool, "int": int, "float": float, "complex": complex, "index": operator.index, "hash": hash, "repr": repr,
    "str": str,
}.items():  # fmt: skip
    setattr(Number, f"__{_name}__", lambda self, fn=_fn: self._recorder.tell(fn, (self,)))


def number_tensor(number: Number) -> Tensor:
    """The 0-d tensor, of i64 or f64, that has a number's value, and promotes as a Python number does."""
    return number._recorder.tensor(number)


def plain_tensor(number: Number) -> Tensor:
    """What `tjit.tensor` makes of a number: a 0-d tensor of i64 or the default dtype."""
    from tjit.ops.elementwise import cast

    tensor = Tensor(number_tensor(number)._data)
    return cast(tensor, default_dtype()) if tensor.dtype.is_floating_point else tensor
