"""Loops whose body is captured once: variables and tensors that it changes are carried from trip to trip."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from tjit.capture.iteration import Iteration
from tjit.capture.leaves import Spec, common_spec, fitted, fresh, handle, is_dim, is_value, outline, shown, spec_of
from tjit.capture.pytree import Tree, unflatten
from tjit.capture.regions import Part, add_control, part, store_results, written_by
from tjit.capture.stacked import StackedList
from tjit.capture.state import (
    INTERNAL,
    UNDEFINED,
    Contents,
    State,
    Unassigned,
    is_local_flag,
    rebuilt,
    restore,
    snapshot,
)
from tjit.capture.trace import Trace
from tjit.dataclass import dataclass
from tjit.dtypes import promote
from tjit.errors import CaptureError
from tjit.ir.dims import Dim, Symbol, add_runtime, counter, substitute, symbols
from tjit.ir.graph import Value
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.ops.apply import state as active
from tjit.ops.control import FOR, WHILE
from tjit.ops.movement import alias
from tjit.tensor import Tensor, Traced

__all__ = ["BreaksError", "KnownTestError", "NoTensorsError", "capture_for", "capture_while"]

Place = tuple[int, int]  # variable, leaf


class NoTensorsError(Exception):
    """A loop computes with Python's values only: Python runs it."""


class KnownTestError(Exception):
    """The test of a `while` is Python's to decide."""


class BreaksError(Exception):
    """A `for` ends early by a condition on tensors: it is a `while`."""


class _Retried(Exception):
    """The body shows how a variable is to be held: in a wider type, or as the tensor itself."""


@dataclass
class _Slot:
    """A leaf of a variable that is carried.

    Attributes:
        before: what it is before the loop: a leaf, or UNDEFINED (nothing) or a spec's zeros.
        inside: the handle in the region; `entry` is the value that this stands for at the region's start.
        end: what it is after a trip.
    """

    place: Place
    before: Any
    spec: Spec
    inside: Tensor
    entry: Value
    end: Tensor | None = None


def _slot(place: Place, before: Any, spec: Spec, name: str) -> _Slot:
    inside = fresh(spec, name.removeprefix(INTERNAL))
    assert isinstance(inside._data, Traced)
    return _Slot(place, before, spec, inside, inside._data.value)


class _Loop:
    """The captures of a loop, until the types of what it carries stay.

    Attributes:
        flags: jumps depend on tensors: their flags are carried.
        trip: counter and number of trips of a `for`, whose lists may grow.
        before: what the variables hold before the loop.
        wider: types of leaves that the body widened in an earlier attempt.
        shared: leaves that stay the tensors that they are: the body writes memory that they share with others.
        read: those of `shared` that the body reads before it binds them.
    """

    def __init__(self, trace: Trace, state: State, *, flags: bool, trip: tuple[Symbol, Dim] | None = None) -> None:
        self.trace = trace
        self.state = state
        self.flags = flags
        self.trip = trip
        found = zip(state.names, snapshot(state), strict=True)
        self.before = tuple(Contents.of(UNDEFINED) if is_local_flag(name) else c for name, c in found)
        self.wider: dict[Place, Spec] = {}
        self.shared: set[Place] = set()
        self.read: set[Place] = set()
        self.body: Part | None = None
        self.groups: dict[int, Tree] = {}  # of variables that are lists that grow: the structure of a trip's items

    # -- variables inside ----------------------------------------------------------------------------------------------

    def open(self, p: Part, *, jumped: bool | None = None) -> dict[Place, _Slot]:
        """Give the variables handles of the region. `jumped`: what the flags are known to be there."""
        slots: dict[Place, _Slot] = {}
        values = list(self.state.get())
        for i, contents in enumerate(self.before):
            flag = self._is_flag(i)
            if contents.tree is None or (flag and not self.flags):
                continue
            leaves = list(contents.leaves)
            for j, leaf in enumerate(leaves):
                if is_value(leaf) and (i, j) not in self.shared:
                    slots[i, j] = self._inside(p, (i, j), leaf)
                    leaves[j] = jumped if flag and jumped is not None else slots[i, j].inside
            values[i] = rebuilt(contents.value, contents.tree, leaves)
        self.state.set(tuple(values))
        return slots

    def _is_flag(self, i: int) -> bool:
        return self.state.names[i].startswith(INTERNAL) and isinstance(self.before[i].value, bool)

    def _inside(self, p: Part, place: Place, leaf: Any) -> _Slot:
        found = _slot(place, leaf, self.wider.get(place) or spec_of(leaf), self.state.names[place[0]])
        if isinstance(leaf, Tensor):
            _with_history(found.inside, leaf)
            if place not in self.wider and isinstance(found.inside._data, Traced):
                p.scope.variables[found.inside._data] = leaf
        return found

    # -- variables at the end ------------------------------------------------------------------------------------------

    def close(self, p: Part, slots: dict[Place, _Slot]) -> tuple[list[_Slot], list[Contents]]:
        """The slots that the body changes, and what the variables hold at its end.

        Raises:
            CaptureError: a variable changes its type or structure.
        """
        ends = list(snapshot(self.state))
        changed: list[_Slot] = []
        for i, (before, end) in enumerate(zip(self.before, ends, strict=True)):
            own = [s for (k, _), s in slots.items() if k == i]
            try:
                changed += self._closed(p, i, before, end, own)
            except CaptureError:
                if self._is_read(p, own) or any(k == i for k, _ in self.read) or i >= self.state.assigned:
                    raise
                # what it was before the loop does not matter: every trip makes it anew
                self.before = (*self.before[:i], Contents.of(UNDEFINED), *self.before[i + 1 :])
                changed += self._made(p, i, end)
        return changed, ends

    def _closed(self, p: Part, i: int, before: Contents, end: Contents, own: Sequence[_Slot]) -> list[_Slot]:
        if before.tree is None or end.tree is None:
            return self._made(p, i, end)
        if before.tree != end.tree:
            return self._grown(p, i, before, end, own)
        return self._changed(p, i, end.leaves, own)

    def _changed(self, p: Part, i: int, leaves: Sequence[Any], own: Sequence[_Slot]) -> list[_Slot]:
        changed: list[_Slot] = []
        by_leaf = {s.place[1]: s for s in own}
        for j, (leaf, old) in enumerate(zip(leaves, self.before[i].leaves, strict=False)):
            slot = by_leaf.get(j)
            if slot is not None and _is_stale(p, slot):
                self.shared.add(slot.place)
                if self._is_read(p, [slot]):
                    self.read.add(slot.place)
                raise _Retried
            if slot is not None and leaf is slot.inside and not _is_rewritten(p, slot):
                p.replaced[slot.entry] = slot.before
            elif slot is not None and leaf is slot.inside:
                slot.end = self.trace.snapshot(leaf)
                slot.end._grad_fn, slot.end._index = leaf._grad_fn, leaf._index
                changed.append(slot)
            elif slot is not None and is_value(leaf):
                self._check_written(slot)
                self._fit(slot, leaf)
                changed.append(slot)
            elif leaf is not old and not _equal(leaf, old):
                if self._is_flag(i):
                    raise BreaksError
                if (i, j) in self.shared:
                    raise self._written_and_bound(i)
                raise self._no_value(i, old, leaf)
        return changed

    def _fit(self, slot: _Slot, leaf: Any) -> None:
        """Note what a variable ends as, in the type that it is carried in."""
        own, found = slot.spec, spec_of(leaf)
        common = common_spec(own, found) or _promoted(own, found)
        if common is None:
            name = self.state.names[slot.place[0]]
            raise CaptureError(
                f"the loop changes the type of {name}: {shown(slot.before)} before it, {shown(leaf)} after a trip",
                user_location(),
                hint=f"give {name} the type before the loop that it has inside",
            )
        if common.type != own.type or common.is_number != own.is_number:
            self.wider[slot.place] = common
            raise _Retried
        slot.end = fitted(leaf, own)

    def _check_written(self, slot: _Slot) -> None:
        if slot.inside._data in self.trace.scope.root.through:
            raise self._written_and_bound(slot.place[0])

    def _written_and_bound(self, i: int) -> CaptureError:
        name = self.state.names[i]
        return CaptureError(
            f"the loop changes {name} in place and then binds it to another tensor",
            user_location(),
            hint=f"write {name} = {name} + ... instead of {name} += ..., or only change it in place",
        )

    def _is_read(self, p: Part, own: Sequence[_Slot]) -> bool:
        """Whether the body reads what a variable is at its start."""
        values = {s.entry for s in own}
        return any(o in values for n in p.scope.builder.nodes for o in n.reads())

    def _made(self, p: Part, i: int, end: Contents) -> list[_Slot]:
        """The leaves of a variable that every trip makes anew: carried out where something behind the loop reads it."""
        name = self.state.names[i]
        if end.tree is None or i >= self.state.assigned:
            return []
        if is_local_flag(name) or (name not in self.state.live and not name.startswith(INTERNAL)):
            return []
        found: list[_Slot] = []
        for j, leaf in enumerate(end.leaves):
            if isinstance(leaf, Tensor) or _is_bound_in(p, leaf):
                slot = _slot((i, j), UNDEFINED, spec_of(leaf), name)
                slot.end = handle(leaf)
                found.append(slot)
        return found

    def _grown(self, p: Part, i: int, before: Contents, end: Contents, own: Sequence[_Slot]) -> list[_Slot]:
        """A list that every trip appends to: the items become rows of tensors."""
        assert before.tree is not None
        assert end.tree is not None
        known = len(before.tree.children)
        fits = before.tree.kind is list and end.tree.kind is list and end.tree.children[:known] == before.tree.children
        new = end.leaves[len(before.leaves) :]
        if self.trip is None or not fits or not all(isinstance(leaf, Tensor) for leaf in new):
            raise self._restructured(i, before, end)
        self.groups[i] = Tree(list, end.tree.children[known:])
        changed = self._changed(p, i, end.leaves[: len(before.leaves)], own)
        for j, leaf in enumerate(new, len(before.leaves)):
            changed.append(self._row(i, j, leaf))
        return changed

    def _row(self, i: int, j: int, leaf: Tensor) -> _Slot:
        from tjit.ops.index import slice_update
        from tjit.ops.movement import reshape

        assert self.trip is not None
        symbol, trip = self.trip
        shape = tuple(leaf.shape)
        spec = Spec(TensorType(leaf.dtype, (trip, *shape)), Tensor if leaf._number else spec_of(leaf).kind)
        if any(symbol in symbols(d) for d in shape):
            raise CaptureError(
                f"the loop appends {shown(leaf)}, whose shape depends on the trip", user_location(), hint="pad it"
            )
        slot = _slot((i, j), UNDEFINED, spec, self.state.names[i])
        row = symbol.dim
        starts, stops = (row, *(0 for _ in shape)), (row + 1, *shape)
        slot.end = slice_update(slot.inside, reshape(leaf, (1, *shape)), starts, stops, (1,) * len(starts))
        return slot

    def _restructured(self, i: int, before: Contents, end: Contents) -> CaptureError:
        return CaptureError(
            f"the loop changes the structure of {self.state.names[i]}: {_structure(before)} before it, "
            f"{_structure(end)} after a trip",
            user_location(),
            hint="keep the structure: write x[i] = ... to a tensor made before the loop",
        )

    def _no_value(self, i: int, before: Any, leaf: Any) -> CaptureError:
        return CaptureError(
            f"the loop changes {self.state.names[i]} from {shown(before)} to {shown(leaf)}, no values of a graph",
            user_location(),
            hint="use tensors and numbers for what a loop changes",
        )

    # -- the node, and behind it ---------------------------------------------------------------------------------------

    def uses_tensors(self, parts: Sequence[Part], changed: Sequence[_Slot]) -> bool:
        """Whether the loop is one of tensors, and not only of Python's numbers."""
        if any(p.scope.entries for p in parts):
            return True
        return any(isinstance(s.before, Tensor) or is_dim(s.before) or not s.spec.is_number for s in changed)

    def start(self, slot: _Slot) -> Tensor:
        """What a carried variable is before the loop."""
        if slot.before is not UNDEFINED:
            return fitted(slot.before, slot.spec)
        from tjit.ops.creation import zeros

        return zeros(slot.spec.type.shape, dtype=slot.spec.type.dtype)

    def end(self, p: Part, changed: Sequence[_Slot]) -> None:
        """Have the body give the ends of what is carried."""
        self.body = p
        for slot in changed:
            assert slot.end is not None
            p.inputs.append(slot.entry)
            p.outputs.append(self.trace.value_of(slot.end))
            p.requires.append(slot.end.requires_grad)

    def finish(
        self, changed: Sequence[_Slot], ends: Sequence[Contents], results: Sequence[Tensor], last: Callable[[Any], Any]
    ) -> None:
        """Give the variables what they hold behind the loop. `last`: a leaf that the last trip leaves."""
        found = {s.place: r for s, r in zip(changed, results, strict=True)}
        values = list(self.state.get())
        for i, (before, end) in enumerate(zip(self.before, ends, strict=True)):
            if i < self.state.assigned or before.tree is not None:
                values[i] = self._after(i, before, end, found, last)
        self.state.set(tuple(values))

    def _after(
        self, i: int, before: Contents, end: Contents, found: dict[Place, Tensor], last: Callable[[Any], Any]
    ) -> Any:
        if end.tree is None:
            return before.put_back()
        if i in self.groups:
            return self._stacked(i, before, end, found)
        if before.tree == end.tree:
            assert before.tree is not None
            leaves = [found.get((i, j), leaf) for j, leaf in enumerate(before.leaves)]
            if end.value is before.value:
                return rebuilt(before.value, before.tree, leaves)
            before.put_back()  # the body has made a container of its own: the old one is as it was
            return unflatten(before.tree, leaves)
        leaves = [found[i, j] if (i, j) in found else last(leaf) for j, leaf in enumerate(end.leaves)]
        if any(self._is_lost(leaf) and (i, j) not in found for j, leaf in enumerate(leaves)):
            return Unassigned(self.state.names[i], "only the body of a loop gives it a value")
        return unflatten(end.tree, leaves)

    def _is_lost(self, leaf: Any) -> bool:
        """Whether a leaf that the body makes has no value behind the loop unless it is carried out."""
        assert self.body is not None
        return isinstance(leaf, Tensor) or _is_bound_in(self.body, leaf)

    def _stacked(self, i: int, before: Contents, end: Contents, found: dict[Place, Tensor]) -> StackedList:
        assert before.tree is not None
        assert self.trip is not None
        old = [found.get((i, j), leaf) for j, leaf in enumerate(before.leaves)]
        rows = [found[i, j] for j in range(len(old), len(end.leaves))]
        group = self.groups[i]
        return StackedList(unflatten(before.tree, old), rows, self.trip[1], lambda items: unflatten(group, items))

    def retried(self, once: Callable[[], None]) -> None:
        """Capture until the types of what is carried stay."""
        for _ in range(8):
            try:
                once()
                return
            except _Retried:
                restore(self.state, self.before)
            except BaseException:
                restore(self.state, self.before)
                raise
        raise CaptureError("the types of what a loop carries do not settle", user_location())


def _with_history(inside: Tensor, before: Tensor) -> None:
    """Have what stands for a variable require grad as it does before the loop: as a leaf, or as a result."""
    if not before.requires_grad or not inside.dtype.is_floating_point:
        return
    leaf = Tensor(inside._data)
    leaf._requires_grad = True
    if before._grad_fn is None or not active.grad:
        inside._requires_grad = True
        return
    result = alias(leaf)
    inside._grad_fn, inside._index = result._grad_fn, result._index


def _is_rewritten(p: Part, slot: _Slot) -> bool:
    """Whether the body changes in place what only the variable holds."""
    assert isinstance(slot.inside._data, Traced)
    return slot.inside._data.value is not slot.entry and slot.inside._data not in p.scope.variables


def _is_stale(p: Part, slot: _Slot) -> bool:
    """Whether the body writes memory of the variable by another tensor, or by a view: handles would not show it."""
    before = slot.before
    if not isinstance(before, Tensor):
        return False
    assert isinstance(slot.inside._data, Traced)
    if slot.inside._data in p.scope.root.behind:
        return True
    return before._view is not None and any(t._storage is before._storage for t in p.scope.written.values())


def _promoted(own: Spec, found: Spec) -> Spec | None:
    """The type of two tensors of one shape where one dtype holds both."""
    if own.type.shape != found.type.shape:
        return None
    wide = promote((own.type.dtype, 1), (found.type.dtype, 1))
    return found if wide is found.type.dtype else own if wide is own.type.dtype else None


def _equal(x: Any, y: Any) -> bool:
    try:
        return type(x) is type(y) and not isinstance(x, Tensor) and bool(x == y)
    except Exception:
        return False


def _structure(contents: Contents) -> str:
    tree = contents.tree
    return shown(contents.value) if tree is None or tree.kind is None else outline(tree, contents.leaves)


# -- for ---------------------------------------------------------------------------------------------------------------


def capture_for(trace: Trace, items: Iteration, body: Callable[[Any], None], state: State, goes_on: Any) -> None:
    """Capture a `for` as one node.

    Raises:
        NoTensorsError: Python runs it.
        BreaksError: it is a `while`.
    """
    symbol = counter(trace.fresh_name("i"), items.trip)
    add_runtime(symbol)
    loop = _Loop(trace, state, flags=False, trip=(symbol, items.trip))

    def once() -> None:
        with part(trace, "body") as p:
            slots = loop.open(p)
            body(items.item(symbol.dim))
            if goes_on is not None and goes_on() is not True:
                raise BreaksError
            changed, ends = loop.close(p, slots)
            loop.end(p, changed)
        restore(state, loop.before)
        if isinstance(items.trip, int) and not loop.uses_tensors([p], changed):
            raise NoTensorsError
        starts = [loop.start(s) for s in changed]
        writes = list(written_by([p]).values())
        attrs = {"counter": symbol.name, "trip": items.trip, **_checkpoint(items.checkpoint)}
        results = add_control(trace, FOR, [], starts, [p], [s.spec for s in changed], attrs, (True,))
        store_results(trace, writes, results[: len(writes)])
        loop.finish(changed, ends, results[len(writes) :], lambda leaf: _last(leaf, symbol, items.trip))

    loop.retried(once)


def _checkpoint(wanted: bool) -> dict[str, Any]:
    return {"checkpoint": True} if wanted else {}


def _is_bound_in(p: Part, leaf: Any) -> bool:
    """Whether `leaf` is a dim of integers that the region computes: behind it they have no names."""
    inner = {s for d in p.scope.bound.values() for s in symbols(d)}
    return is_dim(leaf) and any(s in inner for s in symbols(leaf))


def _last(leaf: Any, symbol: Symbol, trip: Dim) -> Any:
    """What a dim of the counter is after the last trip."""
    return substitute(leaf, {symbol: trip - 1}) if is_dim(leaf) else leaf


# -- while -------------------------------------------------------------------------------------------------------------


def capture_while(
    trace: Trace,
    test: Callable[[], Any],
    body: Callable[[], None],
    state: State,
    *,
    flags: bool,
    numbers: bool,
    checkpoint: bool = False,
) -> None:
    """Capture a `while` as one node.

    Args:
        test: gives a 0-d bool tensor, or what Python knows.
        flags: jumps depend on tensors: their flags are carried.
        numbers: whether it is captured also if it computes with numbers alone.

    Raises:
        KnownTestError: the test does not depend on tensors.
        NoTensorsError: Python runs it.
    """
    loop = _Loop(trace, state, flags=flags)

    def once() -> None:
        with part(trace, "test") as first:
            seen = loop.open(first)
            condition = test()
            if isinstance(condition, bool):
                raise KnownTestError
            first.outputs.append(trace.value_of(condition))
        if first.scope.written:
            raise CaptureError("the test of a `while` changes a tensor", user_location(), hint="do it in the body")
        restore(state, loop.before)
        with part(trace, "body") as p:
            slots = loop.open(p, jumped=False)
            body()
            changed, ends = loop.close(p, slots)
            loop.end(p, changed)
        restore(state, loop.before)
        if not numbers and not loop.uses_tensors([first, p], changed):
            raise NoTensorsError
        for slot in changed:
            first.inputs.append(seen[slot.place].entry if slot.place in seen else Value(slot.spec.type))
        carried = {s.place for s in changed}
        first.replaced.update({s.entry: s.before for s in seen.values() if s.place not in carried})
        starts = [loop.start(s) for s in changed]
        writes = list(written_by([p]).values())
        attrs, specs = _checkpoint(checkpoint), [s.spec for s in changed]
        results = add_control(trace, WHILE, [], starts, [first, p], specs, attrs, (False, True))
        store_results(trace, writes, results[: len(writes)])
        loop.finish(changed, ends, results[len(writes) :], lambda leaf: leaf)

    loop.retried(once)
