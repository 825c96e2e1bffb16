"""`if` with a tensor as its condition: both branches are captured, and what they leave behind is merged."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from tjit.capture.leaves import Spec, common_spec, fitted, is_value, outline, shown, spec_of
from tjit.capture.pytree import unflatten
from tjit.capture.regions import Part, add_control, part, store_results, written_by
from tjit.capture.state import INTERNAL, UNDEFINED, Contents, State, Unassigned, rebuilt, restore, snapshot
from tjit.capture.trace import Trace
from tjit.errors import CaptureError, TjitError
from tjit.location import Location, innermost, is_raised_by_user, user_location
from tjit.ops.control import CHECK, IF
from tjit.ops.numbers import Number
from tjit.tensor import Tensor

__all__ = ["branch", "check"]


class _Output(NamedTuple):
    """A leaf that the node computes: what each branch makes it, and what both fit."""

    ends: tuple[Any, Any]
    spec: Spec


class _Merged(NamedTuple):
    """A variable behind the branches: a value that is known now, or a structure with outputs among its leaves."""

    value: Any
    contents: Contents | None = None
    leaves: tuple[Any, ...] = ()


def branch(trace: Trace, test: Tensor, arms: Sequence[Callable[[], None]], state: State) -> None:
    """Capture `if test: arms[0]() else: arms[1]()`.

    Raises:
        CaptureError: the branches leave a variable in different types or structures.
    """
    before = snapshot(state)
    parts: list[Part] = []
    ends: list[tuple[Contents, ...]] = []
    for side, (name, arm) in enumerate(zip(("then", "else"), arms, strict=True)):
        try:
            with part(trace, name) as captured:
                arm()
                ends.append(snapshot(state))
        except BaseException as error:
            restore(state, before)
            by_user = isinstance(error, Exception) and not isinstance(error, TjitError | RecursionError)
            if not by_user or not is_raised_by_user(error):
                raise
            # where this branch would run the program ends; behind it only the other one did
            check(trace, test if side else ~test, _described(error), innermost(error.__traceback__))
            arms[1 - side]()
            return
        parts.append(captured)
        restore(state, before)
    merged = [_merge(state, i, before[i], ends[0][i], ends[1][i]) for i in range(len(before))]
    outputs = [leaf for m in merged for leaf in m.leaves if isinstance(leaf, _Output)]
    for side, captured in enumerate(parts):
        with part(trace, captured.name, captured):
            tensors = [fitted(o.ends[side], o.spec) for o in outputs]
            captured.outputs += [trace.value_of(t) for t in tensors]
            captured.requires += [t.requires_grad for t in tensors]
    writes = list(written_by(parts).values())
    results = add_control(trace, IF, [test], [], parts, [o.spec for o in outputs], {}, (True, True))
    store_results(trace, writes, results[: len(writes)])
    _set(state, before, ends, merged, iter(results[len(writes) :]))


def check(trace: Trace, ok: Tensor, message: str, location: Location | None = None) -> None:
    """Have the program end where `ok` is false. `message` is "<class>: <text>" of the error."""
    where = location or trace.location()
    trace.scope.builder.add(CHECK, (trace.value_of(ok),), {"message": message}, location=where)


def _described(error: BaseException) -> str:
    text = str(error)
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def _set(state: State, before: Any, ends: Any, merged: Sequence[_Merged], results: Any) -> None:
    now = state.get()
    values: list[Any] = []
    for i, m in enumerate(merged):
        if m.contents is None:
            values.append(now[i] if m.value is UNDEFINED and i >= state.assigned else m.value)
            continue
        leaves = [next(results) if isinstance(leaf, _Output) else leaf for leaf in m.leaves]
        assert m.contents.tree is not None
        in_place = all(e[i].value is before[i].value for e in ends)
        values.append(
            rebuilt(before[i].value, m.contents.tree, leaves) if in_place else unflatten(m.contents.tree, leaves)
        )
    state.set(tuple(values))


def _merge(state: State, i: int, before: Contents, a: Contents, b: Contents) -> _Merged:
    name = state.names[i]
    if a.tree is None and b.tree is None:
        return _Merged(UNDEFINED)
    if a.same(b):
        return _Merged(before.put_back() if a.same(before) and a.value is before.value else a.value)
    if a.tree is None or b.tree is None:
        return _one_sided(state, name, a if b.tree is None else b, "first" if b.tree is None else "second")
    leaves = _merged_leaves(a, b) if a.tree == b.tree else None
    if leaves is not None:
        return _Merged(None, a, leaves)
    if name not in state.live and not name.startswith(INTERNAL):
        return _Merged(Unassigned(name, "the branches of an `if` give it two types"))
    raise _disagreement(name, a, b)


def _merged_leaves(a: Contents, b: Contents) -> tuple[Any, ...] | None:
    leaves: list[Any] = []
    for x, y in zip(a.leaves, b.leaves, strict=True):
        if x is y or (type(x) is type(y) and not isinstance(x, Tensor) and _equal(x, y)):
            leaves.append(x)
            continue
        spec = common_spec(spec_of(x), spec_of(y)) if is_value(x) and is_value(y) else None
        if spec is None:
            return None
        leaves.append(_Output((x, y), spec))
    return tuple(leaves)


def _equal(x: Any, y: Any) -> bool:
    if type(x) is Number:
        return x._step == y._step
    try:
        return bool(x == y) and repr(x) == repr(y)  # 0.0 is not -0.0
    except Exception:
        return False


def _one_sided(state: State, name: str, end: Contents, side: str) -> _Merged:
    """A variable that only one branch gives a value. What is returned there is never read where it is not."""
    if not name.startswith(INTERNAL):
        return _Merged(Unassigned(name, f"only the {side} branch of an `if` gives it a value"))
    zeros = tuple(_Output(_in_order(leaf, side), spec_of(leaf)) if is_value(leaf) else leaf for leaf in end.leaves)
    return _Merged(None, end, zeros)


def _in_order(leaf: Any, side: str) -> tuple[Any, Any]:
    dtype = spec_of(leaf).type.dtype
    zero = False if dtype.kind == "bool" else 0 if dtype.kind == "int" else 0.0
    return (leaf, zero) if side == "first" else (zero, leaf)


def _disagreement(name: str, a: Contents, b: Contents) -> CaptureError:
    what = "the returned value" if name.startswith(INTERNAL) else name
    assert a.tree is not None
    assert b.tree is not None
    if a.tree == b.tree and len(a.leaves) > 1:
        pairs = zip(a.leaves, b.leaves, strict=True)
        x, y = map(shown, next((p for p in pairs if _merged_pair(*p) is None), (a.value, b.value)))
        what = f"a part of {what}"
    else:
        x, y = (outline(c.tree, c.leaves) if c.tree.kind else shown(c.value) for c in (a, b) if c.tree)
    return CaptureError(
        f"the branches of an `if` disagree on {what}: {x} where the condition holds, {y} where not",
        user_location(),
        hint="give it one type and structure in both: convert with .to(dtype), reshape, or return the same containers",
    )


def _merged_pair(x: Any, y: Any) -> Any:
    if x is y:
        return True
    return common_spec(spec_of(x), spec_of(y)) if is_value(x) and is_value(y) else (True if _equal(x, y) else None)
