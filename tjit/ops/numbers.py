"""Python floats that are inputs of the graph being captured, so that their values may change between calls."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from typing import Any

from tjit.dtypes import default_dtype, f64
from tjit.errors import CaptureError
from tjit.ir.dims import DimExpr
from tjit.ir.graph import Literal
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops.apply import apply, state
from tjit.tensor import Tensor

__all__ = ["InconclusiveNumberError", "Number", "number_tensor", "plain_tensor"]

# Frames of capture may look at the class of a Number; whoever else asks for it decides something by it.
_CAPTURE = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "capture") + os.sep


class InconclusiveNumberError(CaptureError):
    """The function asks a lifted number for its value. Capture then takes the value of the call.

    Attributes:
        places: where the numbers come from that it asks for.
    """

    def __init__(self, places: frozenset[Any]) -> None:
        super().__init__("a Python number that changes between calls is asked for its value", user_location())
        self.places = places


class Number:
    """Stands for a Python float whose value a call gives. What it cannot say raises InconclusiveNumberError.

    It is no Tensor: what asks for its class, its value, its order or its text asks what only a value can say.

    Args:
        make: gives the 0-d f64 tensor that has the value; called when it is first needed.
        places: where the value comes from.
    """

    __slots__ = ("__weakref__", "_make", "_places", "_tensor")

    def __init__(self, make: Callable[[], Tensor], places: frozenset[Any]) -> None:
        self._make = make
        self._places = places
        self._tensor: Tensor | None = None

    def _ask(self, *_: Any) -> Any:
        error = InconclusiveNumberError(self._places)
        if state.trace is not None and state.trace.refused is None:
            state.trace.refused = error  # whoever catches it goes on without the value
        raise error

    __bool__ = __float__ = __int__ = __index__ = __complex__ = __hash__ = __repr__ = __str__ = __format__ = _ask
    __round__ = __trunc__ = __floor__ = __ceil__ = __divmod__ = __rdivmod__ = __reduce_ex__ = _ask
    # where Python raises ZeroDivisionError or OverflowError, or gives a complex number, depends on the value
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __pow__ = _ask
    __array_ufunc__ = None  # arrays leave arithmetic with it to it

    def _compare(self, other: Any) -> Any:
        return NotImplemented if issubclass(type(other), Tensor) else self._ask()

    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _compare

    @property
    def __class__(self) -> type:  # pyright: ignore[reportIncompatibleMethodOverride]  # no setter
        if not sys._getframe(1).f_code.co_filename.startswith(_CAPTURE):
            self._ask()
        return Number

    def __getattr__(self, name: str) -> Any:
        if hasattr(0.0, name):
            self._ask()
        raise AttributeError(f"'float' object has no attribute {name!r}")

    def __copy__(self) -> Number:
        return self

    def __deepcopy__(self, memo: Any) -> Number:
        return self

    def __pos__(self) -> Number:
        return self

    def __neg__(self) -> Number:
        return _computed("neg", self)

    def __abs__(self) -> Number:
        return _computed("abs", self)

    def __add__(self, other: Any) -> Any:
        return _computed("add", self, other)

    def __radd__(self, other: Any) -> Any:
        return _computed("add", other, self)

    def __sub__(self, other: Any) -> Any:
        return _computed("sub", self, other)

    def __rsub__(self, other: Any) -> Any:
        return _computed("sub", other, self)

    def __mul__(self, other: Any) -> Any:
        return _computed("mul", self, other)

    def __rmul__(self, other: Any) -> Any:
        return _computed("mul", other, self)

    def __truediv__(self, other: Any) -> Any:
        if type(other) is Number or (type(other) in _PLAIN and not other):
            self._ask()  # Python raises ZeroDivisionError where it is 0
        return _computed("div", self, other)

    def __rtruediv__(self, other: Any) -> Any:
        return self._ask() if type(other) in _PLAIN else NotImplemented

    def __rpow__(self, other: Any) -> Any:
        return self._ask() if type(other) in _PLAIN else NotImplemented


_PLAIN = (bool, int, float)


def number_tensor(number: Number) -> Tensor:
    """The 0-d f64 tensor that has a number's value, and promotes as a Python number does."""
    if number._tensor is None:
        number._tensor = number._make()
    return number._tensor


def plain_tensor(number: Number) -> Tensor:
    """What `tjit.tensor` makes of a float: a 0-d tensor of the default dtype."""
    from tjit.ops.elementwise import cast

    return cast(_strong(number), default_dtype())


def _strong(number: Number) -> Tensor:
    if state.trace is None:
        number._ask()
    trace: Any = state.trace
    return trace.snapshot(number_tensor(number))


def _computed(name: str, *operands: Any) -> Any:
    """The number that Python's arithmetic on floats gives."""
    numbers = [o for o in operands if type(o) is Number]
    if any(type(o) is DimExpr for o in operands):
        numbers[0]._ask()
    if any(type(o) is not Number and type(o) not in _PLAIN for o in operands):
        return NotImplemented
    ready = [_strong(o) if type(o) is Number else Literal(float(o), f64) for o in operands]
    value = apply(_op(name), *ready)
    trace: Any = state.trace
    return trace.computed_number(value, frozenset().union(*(n._places for n in numbers)))


def _op(name: str) -> Op:
    from tjit.ops import arithmetic, rounding

    return {
        "add": arithmetic.ADD,
        "sub": arithmetic.SUB,
        "mul": arithmetic.MUL,
        "div": arithmetic.DIV,
        "neg": arithmetic.NEG,
        "abs": rounding.ABS,
    }[name]
