"""Trade time for memory: what a function or loop computes is not kept for backward, which computes it again."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from tjit.autograd.tape import grad_mode, grad_since
from tjit.capture.calls import callee
from tjit.capture.iteration import Checkpointed, Iteration
from tjit.capture.loops import NoTensorsError, capture_for
from tjit.capture.pytree import flatten, unflatten
from tjit.capture.state import UNDEFINED, State
from tjit.capture.trace import Trace
from tjit.ir.op import Op
from tjit.ops.apply import TapeNode, state, tape_moment
from tjit.random import get_rng_state, set_rng_state
from tjit.tensor import Tensor

__all__ = ["checkpoint", "checkpointed"]


def checkpointed(items: Any) -> Any:
    """What `for` goes over as it does over `items`: `for i in tjit.checkpointed(range(n))`.

    In a compiled function the gradient of such a loop keeps only what the loop carries from trip to trip, and computes
    the rest of each trip again.

    Args:
        items: a range, a tensor, or anything else that `for` goes over.
    """
    return Checkpointed(items)


def checkpoint(
    function: Callable[..., Any],
    *args: Any,
    use_reentrant: bool | None = None,
    preserve_rng_state: bool = True,
    **kwargs: Any,
) -> Any:
    """`function(*args, **kwargs)`, of which nothing but the arguments is kept for backward: that calls it again.

    Args:
        use_reentrant: for PyTorch's programs; both of its ways are the same here.
        preserve_rng_state: backward draws the random numbers that forward drew.
    """
    trace = state.trace
    if isinstance(trace, Trace):
        return _captured(trace, lambda: callee(function)(*args, **kwargs))
    if not state.grad:
        return function(*args, **kwargs)
    return _Eager(function, args, kwargs, preserve_rng_state).call()


def _captured(trace: Trace, call: Callable[[], Any]) -> Any:
    """A loop of one trip: its gradient keeps nothing of what the trip computes."""
    box: list[Any] = [UNDEFINED]

    def put(values: Sequence[Any]) -> None:
        box[0] = values[0]

    name = "checkpoint"
    variables = State(lambda: (box[0],), put, (name,), 1, frozenset((name,)))
    try:
        items = Iteration(1, lambda _: None, checkpoint=True)
        capture_for(trace, items, lambda _: put((call(),)), variables, None)
    except NoTensorsError:
        return call()
    return box[0]


# -- eager -------------------------------------------------------------------------------------------------------------


class _Eager:
    """A call whose tape is dropped; backward writes it anew."""

    def __init__(self, function: Callable[..., Any], args: Any, kwargs: Any, preserve: bool) -> None:
        self.function = function
        self.leaves, self.tree = flatten((args, kwargs))
        self.random = get_rng_state() if preserve else None

    def call(self) -> Any:
        moment = tape_moment()
        returned = self._run(self.leaves)
        leaves, tree = flatten(returned)
        results = [t for t in leaves if isinstance(t, Tensor) and t._grad_fn is not None and t._grad_fn.order > moment]
        if not results:
            return returned
        outside = _read_from_outside(results, moment)
        kept = {id(t): t.detach() for t in results}
        node = TapeNode(_CHECKPOINT, tuple(outside), {"call": self}, tuple(kept.values()))
        for index, tensor in enumerate(kept.values()):
            tensor._grad_fn, tensor._index = node, index
        places = {id(t): i for i, t in enumerate(leaves)}
        self.positions = [places[i] for i in kept]
        return unflatten(tree, [kept.get(id(t), t) for t in leaves])

    def _run(self, leaves: Sequence[Any]) -> Any:
        args, kwargs = unflatten(self.tree, leaves)
        return self.function(*args, **kwargs)

    def pull_back(self, cotangents: Sequence[Tensor], outside: Sequence[Tensor]) -> list[Tensor | None]:
        """The cotangents of what the function read from outside of it."""
        create_graph, moment = state.grad, tape_moment()
        with grad_mode(True), _random_state(self.random):
            leaves, _ = flatten(self._run(self.leaves))
        outputs = [leaves[i] for i in self.positions]
        return grad_since(moment, outputs, outside, cotangents, create_graph)


def _read_from_outside(results: Sequence[Tensor], moment: int) -> list[Tensor]:
    """The tensors from before `moment` that the results depend on."""
    found: dict[tuple[int, int], Tensor] = {}
    stack: list[Any] = [t._grad_fn for t in results]
    seen: set[int] = set()
    while stack:
        node = stack.pop()
        if id(node) in seen:
            continue
        seen.add(id(node))
        for operand, edge in zip(node.operands, node.edges, strict=True):
            if edge is None:
                continue
            source, index = edge
            if isinstance(source, TapeNode) and source.order > moment:
                stack.append(source)
            else:
                found.setdefault((id(source), index), source if isinstance(source, Tensor) else operand)
    return list(found.values())


@contextmanager
def _random_state(random: Tensor | None) -> Iterator[None]:
    if random is None:
        yield
        return
    now = get_rng_state()
    set_rng_state(random)
    try:
        yield
    finally:
        set_rng_state(now)


def _vjp(g: Any, y: Any, *outside: Any, call: _Eager) -> list[Tensor | None]:
    for tensor in outside:
        _ = tensor.array  # raises where it was written since
    return call.pull_back(g if isinstance(g, tuple) else (g,), outside)


def _never(*_: Any, **__: Any) -> Any:
    raise AssertionError("a checkpointed function is called, not applied as an op")


_CHECKPOINT = Op(
    name="checkpoint", kind="composite", infer=None, reference=_never, vjp=_vjp, samples=(), decompose=_never
)
