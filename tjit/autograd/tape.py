"""Reverse mode: walks the tape from results to leaves. The same code runs on eager and on traced tensors."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np

from tjit.errors import AutogradError
from tjit.ir.op import Op
from tjit.location import user_location
from tjit.ops.apply import TapeNode, Total, state
from tjit.tensor import Modified, Tensor, Traced

__all__ = ["backward", "enable_grad", "grad", "inference_mode", "is_grad_enabled", "no_grad", "set_grad_enabled"]


class set_grad_enabled:
    """Turn the tape on or off: as a call, a `with` block, or a decorator."""

    def __init__(self, mode: bool) -> None:
        self.mode = mode
        self.previous = [state.grad]
        state.grad = mode

    def __enter__(self) -> None:
        state.grad = self.mode

    def __exit__(self, *_: object) -> None:
        state.grad = self.previous[-1]


class _GradMode:
    """A `with` block or decorator that sets the grad mode; re-entrant."""

    mode = True

    def __init__(self) -> None:
        self.previous: list[bool] = []

    def __enter__(self) -> None:
        self.previous.append(state.grad)
        state.grad = self.mode

    def __exit__(self, *_: object) -> None:
        state.grad = self.previous.pop()

    def __call__(self, fn: Any) -> Any:
        import functools

        @functools.wraps(fn)
        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with type(self)():
                return fn(*args, **kwargs)

        return wrapped

    def __new__(cls, fn: Any = None) -> Any:
        self = super().__new__(cls)
        if fn is None:
            return self
        self.__init__()
        return self(fn)  # `@no_grad` without parentheses


class no_grad(_GradMode):
    """Ops inside are not recorded: `with no_grad():`, `@no_grad()` or `@no_grad`."""

    mode = False


class enable_grad(_GradMode):
    """Ops inside are recorded, also within `no_grad`."""

    mode = True


class inference_mode(no_grad):
    """`no_grad`, without the further restrictions of PyTorch's; with `mode=False` it does nothing."""

    def __init__(self, mode: bool = True) -> None:
        super().__init__()
        self.mode = not mode and state.grad

    def __new__(cls, mode: Any = True) -> Any:
        if callable(mode):
            return no_grad(mode)
        return object.__new__(cls)


def is_grad_enabled() -> bool:
    """Whether ops are recorded for backward."""
    return state.grad


@contextmanager
def grad_mode(mode: bool) -> Iterator[None]:
    previous, state.grad = state.grad, mode
    try:
        yield
    finally:
        state.grad = previous


def backward(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    *,
    retain_graph: bool = False,
    create_graph: bool = False,
    inputs: Sequence[Tensor] | None = None,
) -> None:
    """Add d(sum of tensors * gradients)/d(leaf) to `.grad` of every leaf that requires grad.

    Args:
        tensors: what to differentiate.
        gradients: one cotangent each, of the tensor's type; None means 1 for a tensor of one element.
        inputs: only these leaves.

    Raises:
        AutogradError: a tensor is not on the tape, is no scalar and has no gradient, or its tape was freed.
    """
    found = _run(tensors, gradients, retain_graph or create_graph, create_graph, inputs)
    for leaf, g in found.values():
        _accumulate(leaf, g)


def grad(
    outputs: Tensor | Sequence[Tensor],
    inputs: Tensor | Sequence[Tensor],
    grad_outputs: Any = None,
    retain_graph: bool | None = None,
    create_graph: bool = False,
    allow_unused: bool = False,
) -> tuple[Tensor | None, ...]:
    """The gradients of the sum of `outputs * grad_outputs` with respect to `inputs`, without touching `.grad`.

    Raises:
        AutogradError: as `backward`; or an input is not reached and `allow_unused` is False.
    """
    outputs = [outputs] if isinstance(outputs, Tensor) else list(outputs)
    inputs = [inputs] if isinstance(inputs, Tensor) else list(inputs)
    gradients = [None] * len(outputs) if grad_outputs is None else grad_outputs
    gradients = [gradients] if isinstance(gradients, Tensor) else list(gradients)
    keep = create_graph if retain_graph is None else retain_graph
    found = _run(outputs, gradients, keep, create_graph, inputs)
    result = []
    for tensor in inputs:
        _, g = found.get(_key(tensor), (tensor, None))
        if g is None and not allow_unused:
            raise AutogradError(
                "one of the inputs was not used to compute the outputs",
                user_location(),
                hint="pass allow_unused=True to get None for it",
            )
        result.append(g)
    return tuple(result)


def grad_since(
    moment: int,
    outputs: Sequence[Tensor],
    inputs: Sequence[Tensor],
    gradients: Sequence[Tensor],
    create_graph: bool,
) -> list[Tensor | None]:
    """As `grad`, through what went on the tape since `moment`, a `TapeNode.order`; None for inputs not reached."""
    found = _run(outputs, gradients, create_graph, create_graph, inputs, moment)
    return [found.get(_key(t), (t, None))[1] for t in inputs]


def _key(tensor: Tensor) -> tuple[int, int]:
    """Where a gradient for `tensor` arrives: a result of a tape node, or the leaf itself."""
    if tensor._grad_fn is not None:
        return id(tensor._grad_fn), tensor._index
    return id(tensor), 0


def _run(
    tensors: Sequence[Tensor],
    gradients: Sequence[Tensor | None],
    retain_graph: bool,
    create_graph: bool,
    inputs: Sequence[Tensor] | None,
    oldest: int = 0,
) -> dict[tuple[int, int], tuple[Tensor, Tensor]]:
    """The cotangents that arrive at the wanted tensors, by key. All leaves are wanted where `inputs` is None.

    `oldest`: what went on the tape before this moment is not walked.
    """
    wanted = None if inputs is None else {_key(t): t for t in inputs}
    cotangents: dict[tuple[int, int], Tensor] = {}
    leaves: dict[tuple[int, int], Tensor] = {}
    queue: list[tuple[int, TapeNode]] = []
    queued: set[int] = set()

    def arrive(edge: tuple[Any, int], g: Tensor | Total) -> None:
        source, index = edge
        key = (id(source), index)
        if isinstance(g, Total):
            cotangents[key] = g.value
        else:
            cotangents[key] = _sum(cotangents[key], g) if key in cotangents else g
        if not isinstance(source, TapeNode):
            leaves[key] = source
        elif id(source) not in queued and source.order >= oldest:
            queued.add(id(source))
            heapq.heappush(queue, (-source.order, source))

    with grad_mode(create_graph):
        for tensor, g in zip(tensors, gradients, strict=True):
            arrive(_root(tensor), _seed(tensor, g))
        finished: list[TapeNode] = []
        while queue:
            _, node = heapq.heappop(queue)
            _pull_back(node, cotangents, arrive, create_graph)
            finished.append(node)
            for index in range(len(node.types)):
                key = (id(node), index)
                if wanted is None or key not in wanted:
                    cotangents.pop(key, None)
    if not retain_graph:
        for node in finished:
            node.freed, node.operands, node.results, node.attrs = True, (), (), {}
    for key, leaf in leaves.items():
        cotangents[key] = _hooked(leaf.__dict__.get("_hooks", ()), cotangents[key])
    found = leaves if wanted is None else wanted
    return {key: (tensor, cotangents[key]) for key, tensor in found.items() if key in cotangents}


def _hooked(hooks: Iterable[Callable[[Tensor], Tensor | None]], g: Tensor) -> Tensor:
    """The gradient after `hooks`, each of which may replace it."""
    for hook in tuple(hooks):
        replaced = hook(g)
        g = g if replaced is None else replaced
    return g


def _root(tensor: Tensor) -> tuple[Any, int]:
    if tensor._grad_fn is not None:
        return tensor._grad_fn, tensor._index
    if tensor._requires_grad:
        return tensor, 0
    raise AutogradError(
        "the tensor does not require grad and does not have a grad_fn",
        user_location(),
        hint="set requires_grad=True on what you differentiate with respect to, and do not compute under no_grad()",
    )


def _seed(tensor: Tensor, g: Tensor | None) -> Tensor:
    from tjit.ops.creation import ones_like

    if g is None:
        if tensor.numel() != 1:
            raise AutogradError(
                f"grad can be created implicitly only for scalar outputs, not for {tensor.type_}",
                user_location(),
                hint="reduce it, for example with .sum(), or pass a gradient",
            )
        return ones_like(tensor)
    if tuple(g.shape) != tuple(tensor.shape):
        raise AutogradError(f"the gradient must have the tensor's shape: {g.type_} for {tensor.type_}", user_location())
    return g


def _pull_back(node: TapeNode, cotangents: dict, arrive: Any, create_graph: bool) -> None:
    if node.freed:
        raise AutogradError(
            "trying to backward through the graph a second time: its saved values have been freed",
            user_location(),
            hint="pass retain_graph=True to the first backward()",
        )
    trace = state.trace
    outer = trace.forced_location if trace is not None else None
    if trace is not None:
        trace.forced_location = node.location
    try:
        for index, hooks in node.hooks.items():
            cotangents[id(node), index] = _hooked(hooks, _cotangent(node, index, cotangents))
        g = tuple(_cotangent(node, i, cotangents) for i in range(len(node.types)))
        y = tuple(_saved_result(node, i, create_graph) for i in range(len(node.types)))
        operands = tuple(_saved_operand(node, i, create_graph) for i in range(len(node.operands)))
        rule = node.op.vjp or _decomposition_vjp(node.op)
        one = len(node.types) == 1
        more = {"so_far": _so_far(node, cotangents)} if node.op.kind == "control" else {}
        pulled = rule(g[0] if one else g, y[0] if one else y, *operands, **node.attrs, **more)
    finally:
        if trace is not None:
            trace.forced_location = outer
    for edge, value in zip(node.edges, pulled, strict=True):
        if edge is not None and value is not None:
            arrive(edge, value)


def _so_far(node: TapeNode, cotangents: dict) -> tuple[Tensor | None, ...]:
    """The cotangents that operands have already: control flow goes on adding to them in place. Each is given once."""
    found: dict[Any, Tensor | None] = {}
    given: list[Tensor | None] = []
    for edge in node.edges:
        key = None if edge is None else (id(edge[0]), edge[1])
        given.append(None if key is None or key in found else cotangents.get(key))
        found[key] = None
    return tuple(given)


def _cotangent(node: TapeNode, index: int, cotangents: dict) -> Any:
    """What arrived at a result: zeros where nothing did, but None for control flow, which then has less to do."""
    from tjit.ops.creation import zeros

    g = cotangents.get((id(node), index))
    if g is not None or node.op.kind == "control":
        return g
    t = node.types[index]
    return zeros(t.shape, dtype=t.dtype, device=t.device)


def _saved_result(node: TapeNode, index: int, create_graph: bool) -> Tensor:
    data, storage = node.results[index]
    if storage.version != node.result_versions[index] and not isinstance(data, Traced):
        return Tensor(Modified(node.types[index]))
    y = Tensor(data)
    if create_graph and node.types[index].is_float:
        y._grad_fn, y._index = node, index
    return y


def _saved_operand(node: TapeNode, index: int, create_graph: bool) -> Any:
    operand = node.operands[index]
    if not isinstance(operand, Tensor):
        return operand
    if not operand.is_traced:
        if operand._storage.version != node.versions[index]:
            return Tensor(Modified(operand.type_))
        return operand
    edge = node.edges[index]
    if create_graph and edge is not None:
        operand = Tensor(operand._data)
        if isinstance(edge[0], TapeNode):
            operand._grad_fn, operand._index = edge
        else:
            return edge[0]
    return operand


def _decomposition_vjp(op: Op) -> Any:
    """The gradient of a composite's decomposition, as a rule."""
    if op.decompose is None:
        raise AutogradError(f"{op.name} has no gradient", user_location(), hint="detach() what it is applied to")
    decompose = op.decompose

    def rule(g: Any, y: Any, *operands: Any, **attrs: Any) -> tuple[Tensor | None, ...]:
        create_graph = state.grad
        with grad_mode(True):
            handles = tuple(_handle(o, create_graph) if isinstance(o, Tensor) else o for o in operands)
            outputs = decompose(*handles, **attrs)
            outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        pairs = [
            (out, cotangent)
            for out, cotangent in zip(outputs, g if isinstance(g, tuple) else (g,), strict=True)
            if out.requires_grad
        ]
        wanted = [h for h in handles if isinstance(h, Tensor) and h.requires_grad]
        if not pairs:
            return tuple(None for _ in operands)
        found = grad([p[0] for p in pairs], wanted, [p[1] for p in pairs], True, create_graph, allow_unused=True)
        by_id = {id(h): value for h, value in zip(wanted, found, strict=True)}
        return tuple(by_id.get(id(h)) for h in handles)

    return rule


def _sum(a: Tensor, b: Tensor) -> Tensor:
    """Two cotangents of one tensor, added."""
    from tjit.ops.movement import as_addend

    addend = as_addend(b)
    return as_addend(a) + b if addend is b else a + addend


def _handle(operand: Tensor, create_graph: bool) -> Tensor:
    """An operand as a starting point for a nested backward; still on the outer tape where that goes on."""
    if create_graph and operand.requires_grad:
        from tjit.ops.movement import alias

        return alias(operand)
    handle = Tensor(operand._data)
    handle._requires_grad = operand.dtype.is_floating_point
    return handle


def _accumulate(leaf: Tensor, g: Tensor) -> None:
    previous = leaf.grad
    if previous is None:
        # a fresh tensor: the cotangent may be shared with another leaf, or be a broadcast view
        leaf.grad = _fresh(g)
    elif state.grad:
        leaf.grad = previous + g
    else:
        from tjit.ops.apply import assign

        with grad_mode(False):
            assign(previous, previous + g)


def _fresh(g: Tensor) -> Tensor:
    if g.requires_grad:
        from tjit.ops.movement import alias

        return alias(g)
    if isinstance(g._data, Traced):
        return Tensor(Traced(g._data.value))
    return Tensor(np.array(g.array))
