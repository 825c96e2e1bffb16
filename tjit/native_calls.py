"""From a variant and the arguments of a call to a spec of the native entry: what has to hold, and what to do then."""

from __future__ import annotations

import ctypes
import types
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from tjit.capture.aliases import view_again
from tjit.capture.guards import Guards
from tjit.capture.inputs import array_leaf
from tjit.capture.places import MISSING
from tjit.capture.pytree import Tree, unflatten
from tjit.compiled import Variant, numpy_result
from tjit.devices import Device
from tjit.dtypes import DType, i64
from tjit.ir.graph import Graph
from tjit.ops.apply import state
from tjit.runtime.entry import Spec, layout
from tjit.runtime.entry_layout import INPUT, KINDS, NODE, NODES, RESULTS, Layout
from tjit.runtime.entry_spec import SpecBuilder, row
from tjit.tensor import Tensor

__all__ = ["spec_of_call"]

_MOST_INPUTS = 1000  # the entry keeps their addresses on the stack
_BARE = -1
# Their identity says all about them.
_CONSTANTS = (int, float, complex, str, bytes, bool, type(None), DType, Device)


class _UnfitError(Exception):
    """The native entry cannot serve this kind of call."""


def spec_of_call(variant: Variant, symbols: tuple[int, ...], leaves: Sequence[Any], tree: Tree) -> Spec | None:
    """A spec for calls of `variant` like the one that has just run; its (args, kwargs) has these leaves.

    None: calls like that go through Python.
    """
    at = layout()
    if at is None:
        return None
    try:
        return _Builder(variant, symbols, leaves, tree, at).spec()
    except _UnfitError:
        return None


class _Builder(SpecBuilder):
    """A spec under construction."""

    def __init__(
        self, variant: Variant, symbols: tuple[int, ...], leaves: Sequence[Any], tree: Tree, at: Layout
    ) -> None:
        super().__init__(variant.program, symbols)
        self.variant = variant
        self.leaves = leaves
        self.tree = tree
        self.at = at
        self.keep.append(variant)
        self.positions = [i for i, a in enumerate(leaves) if array_leaf(a)]
        # what follows the program
        self.in_python = (variant.joint is not None and state.grad) or bool(variant.captured.places)
        self.is_nested = any(a.kind is not None for part in tree.children for a in part.children)
        self.recheck = False
        self.words: list[list[int]] = []
        self.dicts: list[list[int]] = []
        self.items: list[list[int]] = []

    def spec(self) -> Spec:
        variant, captured = self.variant, self.variant.captured
        if len(variant.sources) > _MOST_INPUTS or len(self.shapes) > _MOST_INPUTS or captured.changes:
            raise _UnfitError
        if captured.replay is not None and captured.replay.in_python:
            raise _UnfitError
        if any(s.kind == "held" for s in variant.sources):
            raise _UnfitError
        lifted = {s.position for s in variant.sources if s.kind == "leaf"}
        plain = [(i, a) for i, a in enumerate(self.leaves) if not array_leaf(a) and i not in lifted]
        constants = [self._constant(i, a) for i, a in plain]
        self._guards(variant.guards)
        for tensor, _ in captured.wanted:
            self.words.append([self.id(tensor) + self.at.tensor_requires_grad, self.id(tensor._requires_grad)])
        for tensor in captured.grad_absent:
            self.words.append([self.id(tensor) + self.at.tensor_grad, id(None)])
        lists = {
            "words": self.words,
            "dicts": self.dicts,
            "items": self.items,
            "constants": constants,
            "twins": self._twins(),
            "inputs": [self._input(i) for i in range(len(variant.sources))],
            "outputs": [self.output(i, self._is_tensor(i), variant.freed.get(i)) for i in range(len(self.shapes))],
            "grads": [] if self.in_python else self._grads(),
            "names": [[self.id(name)] for name in self.tree.children[1].keys],
        }
        return self.build(
            lists | {"results": self._results()},
            long=_has_regions(variant.graph),
            **self._call_structure(),
            grad=id(state.grad),
            hold=int(self.in_python or self.is_nested),
            recheck=int(self.recheck),
            n_writes=len(variant.writes),
            **self._structure(captured.tree),
        )

    def _call_structure(self) -> dict[str, int]:
        """How many arguments there are, and what containers among them hold."""
        positional, named = self.tree.children
        arguments = (*positional.children, *named.children)
        counts = {"args": len(arguments), "leaves": len(self.leaves)}
        if not self.is_nested:
            return counts
        return counts | {"nodes": self.records([node for a in arguments for node in self._nodes(a)])}

    def _nodes(self, tree: Tree) -> list[list[int]]:
        if tree.kind is None:
            return [row(NODE)]
        if tree.kind not in (tuple, list, dict):
            raise _UnfitError
        keys = self.records([[self.id(key)] for key in tree.keys])
        first = row(NODE, kind=NODES[tree.kind.__name__], count=len(tree.children), keys=keys)
        return [first, *(node for child in tree.children for node in self._nodes(child))]

    # -- what has to hold ----------------------------------------------------------------------------------------------

    def _constant(self, i: int, value: Any) -> list[int]:
        if type(value) not in _CONSTANTS:
            raise _UnfitError
        return [i, self.id(value)]

    def _twins(self) -> list[list[int]]:
        """Pairs of arguments that are one object."""
        first: dict[int, int] = {}
        pairs = [[first.setdefault(id(self.leaves[i]), i), i] for i in self.positions]
        return [pair for pair in pairs if pair[0] != pair[1]]

    def _guards(self, guards: Guards) -> None:
        for slot in guards.slots:
            self._guard(slot.holder, slot.key, slot.wanted())
        for container, size, _ in guards.sizes:
            offset = self.at.set_size if isinstance(container, set) else self.at.dict_size
            if type(container).__len__ not in (dict.__len__, list.__len__, set.__len__):
                raise _UnfitError
            self.words.append([self.id(container) + offset, size])

    def _guard(self, holder: Any, key: Any, now: Any) -> None:
        if isinstance(holder, dict) and type(holder).get is dict.get and isinstance(key, (str, int, Tensor)):
            self.recheck = self.recheck or type(key) not in (str, int)  # a look-up may then run Python
            self.dicts.append([self.id(holder), self.id(key), 0 if now is MISSING else self.id(now)])
        elif type(holder) is types.CellType:
            self.words.append([self.id(holder) + self.at.cell_value, 0 if now is MISSING else self.id(now)])
        elif type(holder) is list and now is not MISSING:
            self.items.append([self.id(holder), key, self.id(now)])
        elif type(holder) is types.FunctionType:
            self.words.append([_word_of(holder, now), self.id(now)])
        else:
            raise _UnfitError

    # -- inputs and outputs --------------------------------------------------------------------------------------------

    def _input(self, i: int) -> list[int]:
        source = self.variant.sources[i]
        if source.is_number:
            return row(INPUT, **self._number(i, source), bytes=8)
        place, array = self._place(source)
        strided = self.variant.strides[i] is not None
        if array is not None and array.dtype.kind == "c":
            raise _UnfitError
        if type(array) is not np.ndarray or (strided and i in self.variant.writes):
            raise _UnfitError
        return self.array(i, array.dtype, **place)

    def _number(self, i: int, source: Any) -> dict[str, int]:
        """Where a number is found."""
        place = source.place
        is_int = {"integer": int(self.variant.graph.inputs[i].type.dtype is i64)}
        if place is None:
            if type(self.leaves[source.position]) not in (int, float):
                raise _UnfitError
            return {"kind": KINDS["leaf"], "source": source.position, **is_int}
        if type(place.holder) is types.CellType:
            return {"kind": KINDS["cell"], "source": self.id(place.holder) + self.at.cell_value, **is_int}
        if type(place.holder) is list:
            return {"kind": KINDS["item"], "source": self.id(place.holder), "type": place.key, **is_int}
        if type(place.holder) is not dict or type(place.key) is not str:
            raise _UnfitError
        return {"kind": KINDS["number"], "source": self.id(place.holder), "type": self.id(place.key), **is_int}

    def _place(self, source: Any) -> tuple[dict[str, int], Any]:
        """Where an input is found, and the array that is there now."""
        if source.kind == "argument":
            position = self.positions[source.position]
            value = self.leaves[position]
            if not isinstance(value, Tensor):
                return {"kind": KINDS["array"], "source": position}, value
            kind, requires = self.id(type(value)), int(value.requires_grad)
            return {"kind": KINDS["tensor"], "source": position, "type": kind, "requires": requires}, value._data
        tensor = source.tensor
        if source.kind == "tensor":
            return {"kind": KINDS["fixed"], "source": self.id(tensor)}, tensor._data
        grad = tensor._grad
        if grad is None:
            raise _UnfitError
        return {"kind": KINDS["grad"], "source": self.id(tensor), "type": self.id(type(grad))}, grad._data

    def _is_tensor(self, i: int) -> bool:
        """Whether the i-th output is returned as a Tensor."""
        if self.in_python or self.variant.returns_numpy:
            return False
        return any(r.kind == "output" and r.position == i and r.value is None for r in self.variant.captured.results)

    def _grads(self) -> list[list[int]]:
        """The tensors whose `.grad` is set."""
        rows: list[list[int]] = []
        for source, position in self.variant.captured.grads:
            if source.kind == "argument":
                raise _UnfitError
            rows.append([self.id(source.tensor), -1 if position is None else position])
        return rows

    # -- results -------------------------------------------------------------------------------------------------------

    def _results(self) -> list[list[int]]:
        if self.in_python:
            arguments = [[RESULTS["argument"], i] for i in self.positions]
            inputs = [self._held(i, source) for i, source in enumerate(self.variant.sources)]
            return [*arguments, *inputs, *([RESULTS["array"], i] for i in range(len(self.shapes)))]
        return [self._result(r.base if r.kind == "view" else r) for r in self.variant.captured.results]

    def _held(self, i: int, source: Any) -> list[int]:
        """What `_finish` gets of an input: its array, or its number."""
        if source.place is not None:
            return [RESULTS["object"], self.id(source.place)]
        return [RESULTS["argument"], source.position] if source.is_number else [RESULTS["input"], 2 * i]

    def _result(self, result: Any) -> list[int]:
        if result.kind == "output":
            is_array = self.variant.returns_numpy or result.value is not None
            return [RESULTS["array" if is_array else "tensor"], result.position]
        if result.kind == "argument":
            return [RESULTS["argument"], self.positions[result.position]]
        if result.kind in ("dim", "number"):
            raise _UnfitError
        return [RESULTS["object"], self.id(result.value)]

    def _structure(self, tree: Tree) -> dict[str, int]:
        """How the results are put together."""
        if self.in_python:
            counts = (len(self.positions), len(self.variant.sources))
            return {"finish": self.id(partial(_finish, self.variant, *counts))}
        results = self.variant.captured.results
        if any(r.kind == "view" or (r.kind == "output" and r.value not in (None, "array")) for r in results):
            return {"finish": self.id(partial(_formed, tree, results, self.values))}
        if tree.kind is None:
            return {"n_results": _BARE}
        if tree.kind is tuple and all(child.kind is None for child in tree.children):
            return {}
        return {"finish": self.id(partial(unflatten, tree))}


def _finish(variant: Variant, n_arguments: int, n_inputs: int, whole: tuple[Any, ...]) -> Any:
    """What follows a program whose call goes on the tape; `whole`: arguments, inputs and outputs."""
    last = n_arguments + n_inputs
    inputs = [x if type(x) is np.ndarray else _number_array(x) for x in whole[n_arguments:last]]
    return variant.finish(list(whole[:n_arguments]), inputs, list(whole[last:]), {})


def _number_array(number: Any) -> np.ndarray:
    value = number if isinstance(number, (int, float)) else number.now()
    return np.array(value, np.float64 if isinstance(value, float) else np.int64)


def _formed(tree: Tree, results: Sequence[Any], sizes: dict[str, int], whole: tuple[Any, ...]) -> Any:
    """What a call returns, given outputs as they are, and in place of views what they are views of."""
    return unflatten(tree, [_form(leaf, r, sizes) for leaf, r in zip(whole, results, strict=True)])


def _form(leaf: Any, result: Any, sizes: dict[str, int]) -> Any:
    if result.kind == "view":
        return view_again(leaf, result.chain, sizes, result.requires_grad)
    return numpy_result(leaf, result.value) if result.kind == "output" and result.value is not None else leaf


def _word_of(holder: Any, value: Any) -> int:
    """The address of the word in an object that points to `value`."""
    start = id(holder)
    found = [
        at
        for at in range(start + 16, start + type(holder).__basicsize__, 8)
        if ctypes.c_size_t.from_address(at).value == id(value)
    ]
    if len(found) != 1:
        raise _UnfitError
    return found[0]


def _has_regions(graph: Graph) -> bool:
    """Whether the program has loops or branches, of which nobody knows how long they take."""
    return any(node.regions for node in graph.nodes)
