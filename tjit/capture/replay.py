"""What Python computes from numbers that are inputs: recorded at capture, and done again at each call."""

from __future__ import annotations

import operator
import weakref
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from tjit.capture.guards import same
from tjit.capture.places import MISSING, Place
from tjit.dataclass import dataclass
from tjit.dtypes import f64, i64
from tjit.location import Location, user_location
from tjit.ops.numbers import InconclusiveNumberError, Number
from tjit.tensor import Tensor

__all__ = ["Leaf", "Of", "Recording", "Replay", "Step", "fits_input"]


class Of(int):
    """An operand that is the value of a step."""

    __slots__ = ()


class Leaf(NamedTuple):
    """A number that a call gives: the position of a leaf of its arguments, or a place, and its type."""

    where: int | Place
    kind: type

    def now(self, leaves: Sequence[Any]) -> Any:
        """What it is at a call with these leaves."""
        return self.where.now() if isinstance(self.where, Place) else leaves[self.where]


class Step(NamedTuple):
    """`fn(*operands)`: what type it has, or what it raises; and what it has to be (MISSING: anything).

    Attributes:
        is_total: whether it never raises, and always has that type: where it is not read it need not be done.
        location: of the user's line that was told the answer.
    """

    fn: Callable[..., Any]
    operands: tuple[Any, ...]
    kind: type
    is_total: bool
    answer: Any = MISSING
    location: Location | None = None

    def now(self, values: Mapping[int, Any]) -> Any:
        """What it gives, or the class of the exception that it raises."""
        try:
            return self.fn(*[values[o] if type(o) is Of else o for o in self.operands])
        except Exception as error:
            return type(error)

    def agrees(self, result: Any) -> bool:
        """Whether a call where it gives this goes on as the capture did."""
        if issubclass(self.kind, Exception):
            return result is self.kind
        return type(result) is self.kind and (self.answer is MISSING or same(result, self.answer))


# of ints, and of floats
_TOTAL = (operator.add, operator.sub, operator.mul, operator.neg, operator.pos, abs)


def fits_input(value: Any) -> bool:
    """Whether a number can be an input of a program."""
    return isinstance(value, float) or -(1 << 63) <= value < 1 << 63


class Recording:
    """The numbers of a capture.

    Args:
        tensor: gives the 0-d tensor that stands for a number in the graph.
    """

    def __init__(self, tensor: Callable[[Number], Tensor]) -> None:
        self.tensor: Callable[[Number], Tensor] = tensor
        self.leaves: list[Leaf] = []
        self.values: list[Any] = []  # of this call: of the leaves, then of the steps
        self.steps: list[Step] = []
        self.is_open = True
        self._origins: list[frozenset[Any]] = []
        self._known: dict[Any, int] = {}
        self._made: list[weakref.ref[Number]] = []

    def leaf(self, where: int | Place, value: Any) -> Number:
        """A number of the call; all of them come before what is computed."""
        assert not self.steps
        self.leaves.append(Leaf(where, type(value)))
        self.values.append(value)
        self._origins.append(frozenset((where,)))
        return self._number(len(self.leaves) - 1, value)

    def origins(self, at: int) -> frozenset[Any]:
        """The leaves that a value was computed from, by their `where`."""
        return self._origins[at]

    def leaf_at(self, at: int) -> Leaf | None:
        """The leaf that is the value `at`; None: it is computed."""
        return self.leaves[at] if at < len(self.leaves) else None

    def step_at(self, at: int) -> Step | None:
        """The step that computes the value `at`; None: it is a leaf."""
        return self.steps[at - len(self.leaves)] if at >= len(self.leaves) else None

    def compute(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """`fn(*operands)`: a Number where that is an int or a float, else told."""
        values = [o._value if type(o) is Number else o for o in operands]
        try:
            result = fn(*values)
        except Exception as error:
            if self.is_open:
                self._add(fn, operands, type(error), MISSING, None)
            raise
        if not self.is_open:
            return result
        if type(result) not in (int, float, np.float64):
            self._add(fn, operands, type(result), result, result)
            return result
        return self._number(self._add(fn, operands, type(result), MISSING, result), result)

    def tell(self, fn: Callable[..., Any], operands: tuple[Any, ...]) -> Any:
        """`fn(*operands)` of this call, which others have to agree with."""
        result = fn(*(o._value if type(o) is Number else o for o in operands))
        if self.is_open:
            self._add(fn, operands, type(result), result, result)
        return result

    def _add(self, fn: Callable[..., Any], operands: tuple[Any, ...], kind: type, answer: Any, value: Any) -> int:
        """The position of a step; one that is there already is not done again."""
        found = tuple(Of(o._step) if type(o) is Number else o for o in operands)
        key = (fn, tuple((type(o), repr(o)) for o in found), answer is MISSING)
        if key not in self._known:
            self._known[key] = len(self.values)
            self.values.append(value)
            is_total = answer is MISSING and self._is_total(fn, found, kind)
            location = None if is_total else user_location()
            self.steps.append(Step(fn, found, kind, is_total, answer, location))
            self._origins.append(frozenset().union(*(self._origins[o] for o in found if type(o) is Of)))
        return self._known[key]

    def _is_total(self, fn: Callable[..., Any], operands: tuple[Any, ...], kind: type) -> bool:
        if any(type(o) is Of and self._kind(o) is not kind for o in operands):
            return False
        divides = fn is operator.truediv and kind is float and type(operands[1]) is not Of
        return fn in _TOTAL or (divides and operands[1] != 0)

    def _number(self, step: int, value: Any) -> Number:
        number = Number(self, step, value)
        self._made.append(weakref.ref(number))
        return number

    def close(self) -> None:
        """End the capture: numbers that are left are plain ones to whoever has them."""
        self.is_open = False
        self.tensor = _plain_tensor

    def check(self, collect: Callable[[], Any]) -> None:
        """No number outlives the capture.

        Raises:
            InconclusiveNumberError: the function stored one where nothing replaces it at each call.
        """
        if any(number() is not None for number in self._made):
            collect()
        left = [self.origins(number._step) for made in self._made if (number := made()) is not None]
        if left:
            raise InconclusiveNumberError(frozenset().union(*left))

    def replay(self, inputs: Collection[int], wanted: Collection[int]) -> Replay | None:
        """What calls have to do; None where they give no numbers.

        Args:
            inputs: values that the program is given.
            wanted: those that are put somewhere.
        """
        first = len(self.leaves)
        needed = {*inputs, *wanted}
        for at in reversed(range(first, len(self.values))):
            step = self.steps[at - first]
            if at in needed or not step.is_total:
                needed.add(at)
                needed.update(o for o in step.operands if type(o) is Of)
        steps = tuple((at, s) for at, s in enumerate(self.steps, first) if at in needed)
        narrow = tuple(at for at in inputs if self._kind(at) is int)
        return Replay(tuple(self.leaves), steps, narrow, bool(steps or wanted)) if self.leaves else None

    def _kind(self, at: int) -> type:
        return type(self.values[at])


def _plain_tensor(number: Number) -> Tensor:
    from tjit.ops.creation import full

    return full((), number._value, dtype=f64 if isinstance(number._value, float) else i64)


@dataclass(frozen=True)
class Replay:
    """What a call does with its numbers before the program runs.

    Attributes:
        leaves: the numbers that the call gives: values 0, 1, ...
        steps: (which value it is, the step), in order.
        narrow: values that have to fit 64 bits.
        in_python: whether there is more to do than to give the numbers to the program.
    """

    leaves: tuple[Leaf, ...]
    steps: tuple[tuple[int, Step], ...]
    narrow: tuple[int, ...]
    in_python: bool

    def run(self, leaves: Sequence[Any]) -> dict[int, Any] | None:
        """The values for a call with these leaves; None where it is to be captured anew."""
        values: dict[int, Any] = {}
        for at, leaf in enumerate(self.leaves):
            values[at] = now = leaf.now(leaves)
            if type(now) is not leaf.kind:
                return None
        if self._departure(values) is not None:
            return None
        return values if all(fits_input(values[at]) for at in self.narrow) else None

    def _departure(self, values: dict[int, Any]) -> Step | None:
        """The first step that goes another way than at capture; up to there they add their values."""
        for at, step in self.steps:
            values[at] = result = step.now(values)
            if not step.agrees(result):
                return step
        return None

    def reason(self, leaves: Sequence[Any]) -> str | None:
        """Why it does not go through, in words, and where; None where it does, or its numbers are of other types."""
        values = {at: leaf.now(leaves) for at, leaf in enumerate(self.leaves)}
        if any(type(values[at]) is not leaf.kind for at, leaf in enumerate(self.leaves)):
            return None
        step = self._departure(values)
        if step is None:
            return None
        now, at = step.now(values), "" if step.location is None else f"\n  at {step.location.describe()}"
        was = step.kind.__name__ if step.answer is MISSING else repr(step.answer)
        is_now = repr(now) if type(now) is step.kind else getattr(now, "__name__", type(now).__name__)
        return f"what is asked of a number was {was} and is {is_now}{at}"
