"""From a variant and the arguments of a call to a spec of the native entry: what has to hold, and what to do then."""

from __future__ import annotations

import types
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from tjit.capture.guards import Guards
from tjit.capture.inputs import array_leaf
from tjit.capture.pytree import Tree, unflatten
from tjit.compiled import Variant
from tjit.devices import Device
from tjit.dtypes import DType
from tjit.ir.graph import Graph
from tjit.ops.apply import state
from tjit.runtime import buffers
from tjit.runtime.entry import Spec, layout, records
from tjit.runtime.entry_layout import INPUT, KINDS, OUTPUT, RESULTS, Layout
from tjit.tensor import Tensor

__all__ = ["spec_of_call"]

_CONTIGUOUS, _ALIGNED, _WRITEABLE = 0x1, 0x100, 0x400  # NumPy's flags
_MOST_INPUTS = 1000  # the entry keeps their addresses on the stack
_LARGE = 1 << 16  # bytes of an output from which `buffers` has memory
_LONG = 1 << 14  # bytes read and written from which other threads may run Python
_STACK_ARENA = 4096
_BARE = -1
# Their identity says all about them.
_CONSTANTS = (int, float, complex, str, bytes, bool, type(None), DType, Device)


class _Unfit(Exception):
    """The native entry cannot serve this kind of call."""


def spec_of_call(variant: Variant, symbols: tuple[int, ...], args: Sequence[Any]) -> Spec | None:
    """A spec for calls of `variant` like the one with these positional arguments, which has just run.

    None: calls like that go through Python.
    """
    at = layout()
    if at is None or (variant.joint is not None and state.grad):
        return None
    try:
        return _Builder(variant, symbols, args, at).spec()
    except _Unfit:
        return None


class _Builder:
    """A spec under construction; `keep` holds the objects and memory that it points at."""

    def __init__(self, variant: Variant, symbols: tuple[int, ...], args: Sequence[Any], at: Layout) -> None:
        self.variant = variant
        self.args = args
        self.at = at
        self.keep: list[Any] = [variant]
        self.positions = [i for i, a in enumerate(args) if array_leaf(a)]
        self.shapes, self.arena, self.symbols = variant.program.sizes(symbols)
        self.bytes = self.arena
        self.recheck = False
        self.words: list[list[int]] = []
        self.dicts: list[list[int]] = []
        self.items: list[list[int]] = []

    def spec(self) -> Spec:
        variant, captured = self.variant, self.variant.captured
        if len(variant.sources) > _MOST_INPUTS or len(self.shapes) > _MOST_INPUTS:
            raise _Unfit
        constants = [self._constant(i, a) for i, a in enumerate(self.args) if not array_leaf(a)]
        self._guards(variant.guards)
        for tensor, _ in captured.wanted:
            self.words.append([self.id(tensor) + self.at.tensor_requires_grad, self.id(tensor._requires_grad)])
        for tensor in captured.grad_absent:
            self.words.append([self.id(tensor) + self.at.tensor_grad, id(None)])
        inputs = [self._input(i) for i in range(len(variant.sources))]
        outputs = [self._output(i, shape) for i, shape in enumerate(self.shapes)]
        release = self.bytes >= _LONG or _has_regions(variant.graph)
        large = self.arena > _STACK_ARENA or any(o[OUTPUT["make"] // 8] for o in outputs)
        program = variant.program
        lists = {
            "words": self.words, "dicts": self.dicts, "items": self.items, "constants": constants, "twins": self._twins(),
            "inputs": inputs, "outputs": outputs, "grads": self._grads(),
        }  # fmt: skip
        counts = {f"n_{name}": len(rows) for name, rows in lists.items()}
        places = {name: self._records(rows) for name, rows in lists.items()}
        return Spec(
            self.keep,
            len(inputs) + len(outputs) + 1,
            args=len(self.args),
            grad=id(state.grad),
            **places,
            **counts,
            program=program.address,
            pool=program.pool,
            symbols=self.address(self.symbols),
            arena=self.arena,
            arenas=self.id(program._arenas),
            take_arena=self.id(partial(program._arena, self.arena)),
            recheck=int(self.recheck),
            release=int(release),
            hold=int(release or large),
            fail=self.id(program.fail),
            n_writes=len(variant.writes),
            **self._results(captured.tree),
        )

    # -- memory --------------------------------------------------------------------------------------------------------

    def id(self, thing: Any) -> int:
        """The address of an object that is kept."""
        self.keep.append(thing)
        return id(thing)

    def address(self, memory: Any) -> int:
        import ctypes

        self.keep.append(memory)
        return ctypes.addressof(memory)

    def _records(self, rows: Sequence[Sequence[int]]) -> int:
        return self.address(records(rows)) if rows else 0

    def _numbers(self, numbers: Sequence[int]) -> int:
        return self._records([numbers])

    # -- what has to hold ----------------------------------------------------------------------------------------------

    def _constant(self, i: int, value: Any) -> list[int]:
        if type(value) not in _CONSTANTS:
            raise _Unfit
        return [i, self.id(value)]

    def _twins(self) -> list[list[int]]:
        """Pairs of arguments that are one object."""
        first: dict[int, int] = {}
        pairs = [[first.setdefault(id(self.args[i]), i), i] for i in self.positions]
        return [pair for pair in pairs if pair[0] != pair[1]]

    def _guards(self, guards: Guards) -> None:
        for slot in guards.slots:
            self._guard(slot.holder, slot.key, slot.now())
        for container, size, _ in guards.sizes:
            offset = self.at.set_size if isinstance(container, set) else self.at.dict_size
            if type(container).__len__ not in (dict.__len__, list.__len__, set.__len__):
                raise _Unfit
            self.words.append([self.id(container) + offset, size])

    def _guard(self, holder: Any, key: Any, now: Any) -> None:
        if isinstance(holder, dict) and type(holder).get is dict.get and isinstance(key, (str, int, Tensor)):
            self.recheck = self.recheck or not isinstance(key, (str, int))  # a look-up may then run Python
            present = key in holder
            self.dicts.append([self.id(holder), self.id(key), self.id(now) if present else 0])
        elif type(holder) is types.CellType:
            try:
                expected = self.id(holder.cell_contents)
            except ValueError:
                expected = 0
            self.words.append([self.id(holder) + self.at.cell_value, expected])
        elif type(holder) is list and key < len(holder):
            self.items.append([self.id(holder), key, self.id(now)])
        else:
            raise _Unfit

    # -- inputs and outputs --------------------------------------------------------------------------------------------

    def _input(self, i: int) -> list[int]:
        variant, source = self.variant, self.variant.sources[i]
        if source.kind == "number":
            if type(source.holder) is not dict or type(source.key) is not str:
                raise _Unfit
            return _row(INPUT, kind=KINDS["number"], source=self.id(source.holder), type=self.id(source.key), bytes=8)
        place, array = self._place(source)
        strided = variant.strides[i] is not None
        written = i in variant.writes
        if type(array) is not np.ndarray or (strided and written) or array.flags.c_contiguous is strided:
            raise _Unfit
        self.bytes += array.nbytes
        return _row(
            INPUT,
            **place,
            descr=self.id(array.dtype),
            dims=self._numbers(array.shape),
            strides=self._numbers(array.strides) if strided else 0,
            nd=array.ndim,
            flags=_ALIGNED | (0 if strided else _CONTIGUOUS) | (_WRITEABLE if written else 0),
            bytes=array.nbytes,
            written=int(written),
        )

    def _place(self, source: Any) -> tuple[dict[str, int], Any]:
        """Where an input is found, and the array that is there now."""
        if source.kind == "argument":
            position = self.positions[source.position]
            value = self.args[position]
            if not isinstance(value, Tensor):
                return {"kind": KINDS["array"], "source": position}, value
            if value._grad_fn is not None:
                raise _Unfit
            kind, requires = self.id(type(value)), self.id(value._requires_grad)
            return {"kind": KINDS["tensor"], "source": position, "type": kind, "requires": requires}, value._data
        tensor = source.tensor
        if source.kind == "tensor":
            return {"kind": KINDS["fixed"], "source": self.id(tensor)}, tensor._data
        if tensor._grad is None:
            raise _Unfit
        return {"kind": KINDS["grad"], "source": self.id(tensor), "type": self.id(type(tensor._grad))}, tensor._grad._data

    def _output(self, i: int, shape: tuple[int, ...]) -> list[int]:
        variant = self.variant
        dtype = variant.program.output_dtypes[i]
        size = dtype.itemsize
        for extent in shape:
            size *= extent
        self.bytes += size
        returned = any(r.kind == "output" and r.position == i for r in variant.captured.results)
        return _row(
            OUTPUT,
            descr=self.id(dtype),
            dims=self._numbers(shape),
            nd=len(shape),
            make=self.id(partial(buffers.empty, shape, dtype)) if size >= _LARGE else 0,
            tensor=int(returned and not variant.returns_numpy),
        )

    def _grads(self) -> list[list[int]]:
        """The tensors whose `.grad` is set."""
        rows: list[list[int]] = []
        for source, position in self.variant.captured.grads:
            if source.kind == "argument":
                raise _Unfit
            rows.append([self.id(source.tensor), -1 if position is None else position])
        return rows

    def _results(self, tree: Tree) -> dict[str, int]:
        rows = [self._result(r) for r in self.variant.captured.results]
        flat = all(child.kind is None for child in tree.children)
        count = _BARE if tree.kind is None else len(rows)
        finish = 0 if tree.kind is None or (tree.kind is tuple and flat) else self.id(_finisher(tree))
        return {"results": self._records(rows), "n_results": count, "finish": finish}

    def _result(self, result: Any) -> list[int]:
        if result.kind == "output":
            return [RESULTS["array" if self.variant.returns_numpy else "tensor"], result.position]
        if result.kind == "argument":
            return [RESULTS["argument"], self.positions[result.position]]
        return [RESULTS["object"], self.id(result.value)]


def _finisher(tree: Tree) -> Callable[[Any], Any]:
    return partial(unflatten, tree)


def _row(names: Any, **values: int) -> list[int]:
    row = [0] * (names.size // 8)
    for name, value in values.items():
        row[names[name] // 8] = value
    return row


def _has_regions(graph: Graph) -> bool:
    """Whether the program has loops or branches, of which nobody knows how long they take."""
    return any(node.regions for node in graph.nodes)
