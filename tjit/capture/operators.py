"""What rewritten source calls: Python decides where a condition is Python's, nodes are made where it is a tensor.

`tjit.capture.source` writes the calls; docs/design/0004 says what becomes of them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tjit.capture.branch import branch, check
from tjit.capture.iteration import Iteration, enumerate_, iteration_of, len_, range_, reversed_, zip_
from tjit.capture.leaves import is_dim
from tjit.capture.loops import BreaksError, KnownTestError, NoTensorsError, capture_for, capture_while
from tjit.capture.regions import part
from tjit.capture.scopes import substitute
from tjit.capture.state import INTERNAL, UNDEFINED, State, restore, snapshot
from tjit.capture.trace import NumberTensor, Trace
from tjit.dtypes import bool_
from tjit.errors import CaptureError
from tjit.ir.dims import as_number, at_least, is_runtime
from tjit.location import user_location
from tjit.ops.apply import state as active
from tjit.tensor import Tensor, Traced

__all__ = [
    "UNDEFINED", "State", "and_", "assert_", "enumerate_", "first_false", "first_true", "for_", "if_", "if_expr",
    "len_", "not_", "or_", "range_", "reversed_", "while_", "zip_",
]  # fmt: skip

_CHEAP = 16  # nodes
_PURE = ("elementwise", "movement", "create")
_FEW = 4  # trips of which each is captured by itself
_MANY = 1024  # trips that are too many for that, also where one body for all is not possible


def _trace() -> Trace | None:
    return active.trace if isinstance(active.trace, Trace) else None


def truth(x: Any) -> bool | Tensor:
    """Whether `x` is true: known now, or a 0-d bool of the graph.

    Raises:
        CaptureError: a tensor of several elements.
    """
    if is_dim(x) and is_runtime(x):
        if at_least(x, 1) or at_least(-x, 1):
            return True
        x = as_number(x)
    if not isinstance(x, Tensor) or active.trace is None:
        return bool(x)
    if any(not isinstance(d, int) or d != 1 for d in x.shape):
        raise CaptureError(
            f"a condition is a {x.type_} tensor, which is not one truth value",
            user_location(),
            hint="reduce it with .any() or .all()",
        )
    from tjit.ops.movement import reshape

    one = reshape(x, ()) if x.ndim else x
    return one if one.dtype is bool_ else one != 0


def if_(test: Any, then: Callable[[], None], orelse: Callable[[], None], state: State) -> None:
    """`if test: then() else: orelse()`."""
    known = truth(test)
    if isinstance(known, bool):
        (then if known else orelse)()
        return
    trace = _trace()
    assert trace is not None
    branch(trace, known, (then, orelse), state)


def while_(test: Callable[[], Any], body: Callable[[], None], state: State) -> None:
    """`while test(): body()`."""
    trace = _trace()
    nodes = trace.scope.builder.nodes if trace is not None else []
    before = len(nodes)
    trips = 0
    while (known := truth(test())) is not False:
        needed = known is not True or (trips == _MANY and len(nodes) > before)
        if trace is not None and (needed or trips == 0) and _captured_while(trace, test, body, state, known, needed):
            return
        body()
        trips += 1


def _captured_while(
    trace: Trace, test: Callable[[], Any], body: Callable[[], None], state: State, known: bool | Tensor, needed: bool
) -> bool:
    """Capture a loop as a node. False where Python runs it: its test does not depend on tensors."""
    try:
        for flags in (False, True):
            try:
                with _attempt(trace, state):
                    capture_while(trace, lambda: truth(test()), body, state, flags=flags, numbers=known is not True)
                return True
            except BreaksError:
                continue
    except (KnownTestError, NoTensorsError):
        if needed:
            raise CaptureError(
                f"a `while` computes tensors in more than {_MANY} trips, and its test is one of Python's values",
                user_location(),
                hint="count with a number that the test compares, or write it as `for` over range(n)",
            ) from None
        return False
    except Exception as error:
        if needed:
            raise
        trace.unrolled.append((user_location(), error))  # it needs Python's values
    return False


def for_(items: Any, body: Callable[[Any], None], state: State, goes_on: Callable[[], Any] | None = None) -> None:
    """`for item in items: body(item)`, as long as `goes_on()` holds after each (None: always)."""
    trace = _trace()
    iteration = None if trace is None else iteration_of(items)
    if trace is None or iteration is None or _is_short(iteration):
        _unrolled(items, body, state, goes_on)
        return
    try:
        with _attempt(trace, state):
            _captured_for(trace, iteration, body, state, goes_on)
    except NoTensorsError:
        _unrolled(items, body, state, goes_on)
    except Exception as error:
        if not isinstance(iteration.trip, int) or iteration.trip > _MANY:
            raise
        trace.unrolled.append((user_location(), error))
        _unrolled(items, body, state, goes_on)  # it needs the counter, or structures that change, in Python


def _is_short(items: Iteration) -> bool:
    """Whether each trip is captured by itself."""
    return isinstance(items.trip, int) and items.trip <= _FEW and not items.checkpoint


def _captured_for(
    trace: Trace, items: Iteration, body: Callable[[Any], None], state: State, goes_on: Callable[[], Any] | None
) -> None:
    def goes() -> Any:
        return goes_on is None or truth(goes_on())

    try:
        capture_for(trace, items, body, state, None if goes_on is None else goes)
    except BreaksError:
        _captured_until(trace, items, body, state, goes)


def _captured_until(
    trace: Trace, items: Iteration, body: Callable[[Any], None], state: State, goes: Callable[[], Any]
) -> None:
    """A `for` that may end early, as a `while` that counts."""
    position: list[Any] = [0]

    def place(values: tuple[Any, ...]) -> None:
        state.set(values[1:])
        position[0] = values[0]

    def test() -> Any:
        return and_(lambda: position[0] < items.trip, goes)

    def one() -> None:
        i = trace.bind(position[0], 0, items.trip - 1)
        body(items.item(i))
        position[0] = position[0] + 1

    names = (f"{INTERNAL}position", *state.names)
    numbers = not isinstance(items.trip, int)  # Python cannot run it
    counted = State(lambda: (position[0], *state.get()), place, names, 1 + state.assigned, state.live)
    capture_while(trace, lambda: truth(test()), one, counted, flags=True, numbers=numbers, checkpoint=items.checkpoint)


class _attempt:
    """A capture that may fail, and then leaves nothing behind."""

    def __init__(self, trace: Trace, state: State) -> None:
        self.trace, self.state = trace, state

    def __enter__(self) -> None:
        self.refused = self.trace.refused
        self.before = snapshot(self.state)
        self.mark = self.trace.scope.mark()

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if kind is None:
            return
        self.trace.refused = self.refused
        self.trace.scope.back_to(self.mark)
        restore(self.state, self.before)


def _unrolled(items: Any, body: Callable[[Any], None], state: State, goes_on: Callable[[], Any] | None) -> None:
    """Each item's trip by itself."""
    goes: bool | Tensor = True
    for item in items:
        if goes is True:
            body(item)
        else:
            if_(goes, lambda item=item: body(item), _nothing, state)
        if goes_on is not None:
            goes = truth(goes_on())
            if goes is False:
                return


def _nothing() -> None:
    pass


def if_expr(test: Any, then: Callable[[], Any], orelse: Callable[[], Any]) -> Any:
    """`then() if test else orelse()`."""
    known = truth(test)
    if isinstance(known, bool):
        return then() if known else orelse()
    box: list[Any] = [UNDEFINED]

    def put(value: Any) -> None:
        box[0] = value

    name = "the value of the conditional expression"
    state = State(lambda: (box[0],), lambda values: put(values[0]), (name,), 1, frozenset((name,)))
    if_(known, lambda: put(then()), lambda: put(orelse()), state)
    return box[0]


def and_(*values: Callable[[], Any]) -> Any:
    """Whether `a and b and c`."""
    return _decided(False, values, truth)


def or_(*values: Callable[[], Any]) -> Any:
    """Whether `a or b or c`."""
    return _decided(True, values, truth)


def first_false(*values: Callable[[], Any]) -> Any:
    """The value of `a and b and c`."""
    return _decided(False, values, lambda value: value)


def first_true(*values: Callable[[], Any]) -> Any:
    """The value of `a or b or c`."""
    return _decided(True, values, lambda value: value)


def _decided(by: bool, values: Sequence[Callable[[], Any]], wanted: Callable[[Any], Any]) -> Any:
    """What is `wanted` of the first of `values` whose truth is `by`, else of the last."""
    first, *rest = values
    value = first()
    if not rest:
        return value
    known = truth(value)
    if isinstance(known, bool):
        return value if known is by else _decided(by, rest, wanted)
    value = wanted(value)
    if isinstance(value, Tensor) and value.dtype is bool_:
        second = _without_effects(lambda: wanted(_decided(by, rest, wanted)))
        if isinstance(second, bool):
            return by if second is by else known
        if second is not None:
            return known | second if by else known & second
    arms = (lambda: value), (lambda: wanted(_decided(by, rest, wanted)))
    return if_expr(known, *(arms if by else arms[::-1]))


def _without_effects(compute: Callable[[], Any]) -> bool | Tensor | None:
    """A truth value computed here, where that is cheap and cannot fail, so that it need not wait for a condition.

    None where it is not, or is another value.
    """
    trace = _trace()
    assert trace is not None
    with part(trace, "second") as p:
        found = compute()
        value = trace.value_of(found) if isinstance(found, Tensor) else None
    nodes = p.scope.builder.nodes
    if p.scope.written or len(nodes) > _CHEAP or any(n.op.kind not in _PURE or n.result.type.ndim for n in nodes):
        return None
    if isinstance(found, bool):
        return found
    if value is None or value.type.dtype is not bool_ or value.type.ndim:
        return None
    outside = {e.value: trace.scope.value(traced, e.tensor) for traced, e in p.scope.entries.items()}
    trace.scope.builder.nodes += substitute(nodes, outside)
    return NumberTensor(Traced(outside.get(value, value)))


def not_(value: Any) -> Any:
    """`not value`."""
    known = truth(value)
    return not known if isinstance(known, bool) else known == 0 if known.dtype.kind != "bool" else ~known


def assert_(test: Callable[[], Any], message: Callable[[], Any] = lambda: None) -> None:
    """`assert test, message`: checked when the program runs where the test is a tensor."""
    known = truth(test())
    if isinstance(known, bool):
        if not known:
            raise AssertionError(*([text] if (text := message()) is not None else []))
        return
    trace = _trace()
    assert trace is not None
    text = message()
    check(trace, known, "AssertionError" if text is None else f"AssertionError: {text}")
