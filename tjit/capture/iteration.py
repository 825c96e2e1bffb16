"""What a `for` goes over with one body for all trips: ranges, the rows of tensors, and these zipped or numbered."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tjit.capture.leaves import is_dim
from tjit.errors import CaptureError
from tjit.ir.dims import Dim, at_least, maximum, minimum
from tjit.location import user_location
from tjit.ops.apply import state
from tjit.tensor import Tensor

__all__ = ["Checkpointed", "Iteration", "iteration_of", "range_", "zip_"]


class Iteration:
    """`trip` items; `item(i)` is the i-th, for an int or the dim of a loop's counter.

    `checkpoint`: the loop's gradient computes each trip again from what the loop carries.
    """

    def __init__(self, trip: Dim, item: Callable[[Dim], Any], checkpoint: bool = False) -> None:
        self.trip = trip
        self.item = item
        self.checkpoint = checkpoint

    def __iter__(self) -> Iterator[Any]:
        if not isinstance(self.trip, int):
            raise CaptureError(
                f"iteration over {self.trip} items, a number that depends on the call, outside of a `for` statement",
                user_location(),
                hint="write a `for` statement",
            )
        return map(self.item, range(self.trip))

    def __len__(self) -> int:
        return self.trip  # pyright: ignore[reportReturnType]  # an expression raises


class Checkpointed:
    """What `tjit.checkpointed` gives a `for` to go over."""

    def __init__(self, items: Any) -> None:
        self.items = items

    def __iter__(self) -> Iterator[Any]:
        return iter(self.items)

    def __len__(self) -> int:
        return len(self.items)


def range_(*bounds: Any) -> Any:
    """`range(...)`, of bounds that may be symbolic dims or 0-d integer tensors."""
    start, stop, step = (0, bounds[0], 1) if len(bounds) == 1 else (*bounds, 1)[:3]
    if all(isinstance(b, int) for b in (start, stop, step)):
        return range(start, stop, step)
    if not isinstance(step, int) or step == 0:
        raise CaptureError("range needs a step that is known at capture", user_location(), hint="use a while loop")
    if isinstance(start, Tensor):
        # start + step * k: the bounds of what is computed are not known, those of k are
        count = (stop - start + (step - 1 if step > 0 else step + 1)) // step
        trip = _bound(count)
        return Iteration(trip, lambda i: start + i * step)
    if isinstance(stop, Tensor):
        stop = _bound(stop if at_least(start, 0) else stop - start) + (0 if at_least(start, 0) else start)
    distance = stop - start if step > 0 else start - stop
    size = abs(step)
    trip = maximum((distance + (size - 1)) // size if size > 1 else distance, 0)
    return Iteration(trip, lambda i: start + i * step)


def _bound(count: Tensor) -> Dim:
    """A number of trips as a dim."""
    from tjit.ops.elementwise import clamp

    if count.ndim or count.dtype.is_floating_point:
        raise CaptureError(f"range takes integers, not a {count.type_} tensor", user_location(), hint="use int(x)")
    assert state.trace is not None
    return state.trace.bind(clamp(count, min=0), 0, None)


def iteration_of(items: Any) -> Iteration | None:
    """The iteration over a range or a tensor's rows; None for what Python goes over itself."""
    if isinstance(items, Iteration):
        return items
    if isinstance(items, Checkpointed):
        found = iteration_of(items.items)
        return None if found is None else Iteration(found.trip, found.item, checkpoint=True)
    if isinstance(items, range):
        return Iteration(len(items), lambda i: items.start + i * items.step)
    if isinstance(items, Tensor) and items.ndim:
        return Iteration(items.shape[0], lambda i: items[i])
    return None


def zip_(*iterables: Any, strict: bool = False) -> Any:
    """`zip(...)`: an iteration where all are, and one of them is more than a range."""
    parts = [iteration_of(x) for x in iterables]
    if not parts or any(p is None for p in parts) or all(isinstance(x, range) for x in iterables):
        return zip(*iterables, strict=strict)
    found = [p for p in parts if p is not None]
    if strict:
        _check_strict([p.trip for p in found])
    trip = found[0].trip
    for p in found[1:]:
        trip = minimum(trip, p.trip)
    return Iteration(trip, lambda i: tuple(p.item(i) for p in found))


def _check_strict(trips: Sequence[Dim]) -> None:
    """What `zip(..., strict=True)` asks of the numbers of items.

    Raises:
        ValueError: they differ, as Python says it.
        CaptureError: they may differ from call to call.
    """
    for n, trip in enumerate(trips[1:], 2):
        if trip == trips[0]:
            continue
        if isinstance(trip, int) and isinstance(trips[0], int):
            before = "argument 1" if n == 2 else f"arguments 1-{n - 1}"
            raise ValueError(f"zip() argument {n} is {'longer' if trip > trips[0] else 'shorter'} than {before}")
        raise CaptureError(
            f"zip(strict=True) of {trips[0]} and {trip} items, numbers that depend on the call",
            user_location(),
            hint="leave strict=True out, and assert that the lengths are equal",
        )


def enumerate_(items: Any, start: Any = 0) -> Any:
    """`enumerate(items, start)`."""
    found = None if isinstance(items, range) else iteration_of(items)
    return enumerate(items, start) if found is None else Iteration(found.trip, lambda i: (start + i, found.item(i)))


def reversed_(items: Any) -> Any:
    """`reversed(items)`."""
    found = None if isinstance(items, range) else iteration_of(items)
    if found is None:
        return reversed(items)
    return Iteration(found.trip, lambda i: found.item(found.trip - 1 - i))


def len_(x: Any) -> Any:
    """`len(x)`, a dim where it is symbolic."""
    if isinstance(x, Iteration):
        return x.trip
    return x.shape[0] if isinstance(x, Tensor) and x.ndim and is_dim(x.shape[0]) else len(x)
