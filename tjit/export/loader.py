"""Packages in Python: the same machine code that C runs, on tensors and NumPy arrays."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from typing import Any

import numpy as np

from tjit.capture.inputs import array_leaf, array_of
from tjit.capture.leaves import outline
from tjit.capture.pytree import Tree, flatten, unflatten
from tjit.dtypes import from_numpy
from tjit.errors import ArgumentError, CacheError, PackageError
from tjit.export import package as sections
from tjit.export.manifest import read_tree
from tjit.export.package import Section, pack, unpack
from tjit.export.targets import best_target
from tjit.export.weights import read_weights, write_weights
from tjit.ir.graph import Graph
from tjit.ir.types import TensorType
from tjit.location import user_location
from tjit.runtime.image import Image
from tjit.runtime.program import Program, ProgramInfo
from tjit.tensor import Tensor

__all__ = ["EntryPoint", "Package", "load"]


def load(path: str | os.PathLike[str]) -> Package:
    """The package in a file.

    Raises:
        PackageError: it is no package, of another format version, cut short, damaged, or made for other machines.
    """
    path = os.fspath(path)
    with open(path, "rb") as file:
        return Package(file.read(), path)


class Package:
    """A loaded package: `package["predict"](x)` runs an entry point.

    Attributes:
        name, metadata, targets: as exported.
        target: the target whose code runs here.
        entries: entry points by name.
        extra_files: the user's files by name.
    """

    def __init__(self, data: bytes, path: str = "the package") -> None:
        self._sections = unpack(data, path)
        self._path = path
        self._lock = threading.RLock()
        try:
            self._manifest: dict[str, Any] = json.loads(self._sections[Section(sections.MANIFEST)])
            self.name: str = self._manifest["name"]
            self.metadata: Any = self._manifest["metadata"]
            self.targets: tuple[str, ...] = tuple(self._manifest["targets"])
            self.target = best_target(self.targets, path)
            state = read_weights(self._sections[Section(sections.WEIGHTS)], f"the weights of {path}")
            self._state = {name: state[name] for name in self._manifest["state"]}
            self._stateful = any(s["written"] for s in self._manifest["state"].values())
            self.extra_files = {
                n: self._sections[Section(sections.EXTRA, i)] for i, n in enumerate(self._manifest["extra_files"])
            }
            self.entries = {e["name"]: EntryPoint(self, i, e) for i, e in enumerate(self._manifest["entries"])}
        except (ValueError, KeyError, TypeError, AttributeError, CacheError) as error:
            if isinstance(error, PackageError):
                raise
            raise PackageError(f"{path} is malformed: its manifest does not read: {error!r}") from None

    def __getitem__(self, name: str) -> EntryPoint:
        if name not in self.entries:
            raise ArgumentError(f"the package has no entry point {name!r}", hint=f"it has {', '.join(self.entries)}")
        return self.entries[name]

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the only entry point."""
        if len(self.entries) != 1:
            raise ArgumentError(
                f"the package has several entry points: {', '.join(self.entries)}", hint="index it by name"
            )
        return next(iter(self.entries.values()))(*args, **kwargs)

    def state_dict(self) -> dict[str, Tensor]:
        """Copies of the state's tensors by name; numbers are 0-d tensors of f64."""
        with self._lock:
            return {name: Tensor(array.copy()) for name, array in self._state.items()}

    def load_state_dict(self, state: Mapping[str, Any], strict: bool = True) -> None:
        """Replace the state.

        Raises:
            ArgumentError: a name is missing or unknown (where `strict`), or a tensor has another shape or dtype.
        """
        missing = sorted(self._state.keys() - state.keys())
        unknown = sorted(state.keys() - self._state.keys())
        if strict and (missing or unknown):
            raise ArgumentError(f"the state lacks {missing} and has {unknown}, which the package does not know")
        arrays = {n: np.asarray(array_of(v) if array_leaf(v) else v) for n, v in state.items() if n in self._state}
        for name, array in arrays.items():
            mine = self._state[name]
            if array.shape != mine.shape or (array.dtype != mine.dtype and array_leaf(state[name])):
                raise ArgumentError(
                    f"{name} is {mine.dtype}{list(mine.shape)} in the package, not {array.dtype}{list(array.shape)}"
                )
        with self._lock:
            for name, array in arrays.items():
                self._state[name][...] = array

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write a package with the state as it is now."""
        from tjit.export import _write

        with self._lock:
            weights = write_weights(self._state)
        key = Section(sections.WEIGHTS)
        _write(os.fspath(path), pack([(s, weights if s == key else data) for s, data in self._sections.items()]))

    def save_weights(self, path: str | os.PathLike[str]) -> None:
        """Write the state as a safetensors file, which `tjit_load_weights` reads too."""
        from tjit.export import _write

        with self._lock:
            _write(os.fspath(path), write_weights(self._state))

    def graph(self, name: str) -> Graph:
        """The graph of an entry point as captured."""
        from tjit.ir.parser import parse_graph

        return parse_graph(self._sections[Section(sections.GRAPH, self[name]._index)].decode())

    def header(self) -> str:
        """The C header."""
        return self._sections[Section(sections.HEADER)].decode()

    def write_c(self, folder: str | os.PathLike[str]) -> None:
        """Write what a C program needs besides the package: NAME.h, tjit.h and tjit.c."""
        os.makedirs(folder, exist_ok=True)
        native = os.path.join(os.path.dirname(os.path.abspath(__file__)), "native")
        for file in ("tjit.h", "tjit.c"):
            with open(os.path.join(native, file), encoding="utf-8") as source:
                text = source.read()
            with open(os.path.join(folder, file), "w", encoding="utf-8") as target:
                target.write(text)
        with open(os.path.join(folder, f"{self.name}.h"), "w", encoding="utf-8") as target:
            target.write(self.header())

    def _image(self, entry: int) -> Image:
        try:
            return Image.from_bytes(self._sections[Section(sections.IMAGE, entry, self.targets.index(self.target))])
        except (KeyError, ArgumentError) as error:
            raise PackageError(f"{self._path} is malformed: image {entry} does not read: {error}") from None

    def __repr__(self) -> str:
        return f"<package {self.name}: {', '.join(map(str, self.entries.values()))}; {self.target}>"


class EntryPoint:
    """A function of a package. Call it as the exported function was called."""

    def __init__(self, package: Package, index: int, manifest: dict[str, Any]) -> None:
        self._package = package
        self._index = index
        self.name: str = manifest["name"]
        self.arguments: tuple[tuple[str, str], ...] = tuple((a["name"], a["type"]) for a in manifest["arguments"])
        self.outputs: tuple[tuple[str, str], ...] = tuple((o["name"], o["type"]) for o in manifest["outputs"])
        self._parameters: list[str] = manifest["parameters"]
        self._leaves, self._tree = read_tree(manifest["call"])
        self._results, self._returns = read_tree(manifest["returns"])
        self._inputs = [tuple(name.split(":", 1)) for name in manifest["inputs"]]
        self._bounds: dict[str, tuple[int, int | None]] = {n: (lo, hi) for n, (lo, hi) in manifest["symbols"].items()}
        self._info = ProgramInfo.from_json(json.dumps(manifest["programs"][package.target]))
        self._program: Program | None = None

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        """Run the program, with arguments in order or by name.

        Raises:
            ArgumentError: the arguments are not those of the exported function.
        """
        args = self._positional(args, kwargs)
        arguments = self._bind(args)
        program = self._load()
        state = self._package._state
        with self._package._lock if self._package._stateful else nullcontext():
            inputs = [arguments[int(n)] if kind == "argument" else state[n] for kind, n in self._inputs]
            contiguous = [self._usable(i, a) for i, a in enumerate(inputs)]
            symbols = program.bind(contiguous)
            if symbols is None:
                raise self._misfit(arguments)
            self._check_bounds(symbols)
            outputs = program.run(contiguous, symbols)
        numpy_only = bool(args) and all(isinstance(a, np.ndarray) for a in flatten(args)[0] if array_leaf(a))
        return unflatten(self._returns, [self._result(r, outputs, args, state, numpy_only) for r in self._results])

    def _positional(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, ...]:
        rest = self._parameters[len(args) :]
        if kwargs and set(kwargs) != set(rest):
            raise self._refused(f"not arguments named {', '.join(kwargs)}")
        return (*args, *(kwargs[name] for name in rest)) if kwargs else args

    def _bind(self, args: tuple[Any, ...]) -> list[np.ndarray]:
        leaves, tree = flatten(args)
        if _plain(tree) != self._tree:
            raise self._refused(f"not {outline(tree, leaves)}")
        arrays: list[np.ndarray] = []
        for leaf, wanted in zip(leaves, self._leaves, strict=True):
            if isinstance(wanted, str):
                if not array_leaf(leaf):
                    raise self._refused(f"not the Python value {leaf!r}")
                arrays.append(array_of(leaf))
            elif type(leaf) is not type(wanted["value"]) or leaf != wanted["value"]:
                text = f"{self.name} was exported with the Python value {wanted['value']!r}, not {leaf!r}"
                raise ArgumentError(text, user_location())
        return arrays

    def _usable(self, i: int, array: np.ndarray) -> np.ndarray:
        if array.flags.c_contiguous and (i not in self._info.writes or array.flags.writeable):
            return array
        if i in self._info.writes:
            text = f"{self.name} writes to its argument {self._inputs[i][1]}: it must be contiguous and writable"
            raise ArgumentError(text, user_location())
        return np.ascontiguousarray(array).reshape(array.shape)

    def _misfit(self, arguments: list[np.ndarray]) -> ArgumentError:
        got = [TensorType(from_numpy(a.dtype), a.shape) for a in arguments]
        inputs = zip(self._inputs, self._info.inputs, strict=True)
        wanted = [(got[int(n)], type) for (kind, n), type in inputs if kind == "argument"]
        sizes_only = all(g.dtype is w.dtype and g.ndim == w.ndim for g, w in wanted)
        hint = "for other sizes, export it with dynamic= (tjit.export says how)" if sizes_only else None
        return self._refused(f"not {', '.join(map(str, got))}", hint)

    def _refused(self, text: str, hint: str | None = None) -> ArgumentError:
        return ArgumentError(f"{self.name} takes {self._signature()}, {text}", user_location(), hint)

    def _check_bounds(self, symbols: tuple[int, ...]) -> None:
        for name, value in zip(self._info.symbols, symbols, strict=True):
            low, high = self._bounds[name]
            if value < low or (high is not None and value > high):
                top = "inf" if high is None else high
                raise ArgumentError(f"{name} is {value}; {self.name} takes {low} to {top}", user_location())

    def _result(
        self, leaf: Any, outputs: Sequence[np.ndarray], args: Any, state: dict[str, np.ndarray], numpy_only: bool
    ) -> Any:
        if not isinstance(leaf, str):
            return leaf["value"]
        kind, _, rest = leaf.partition(":")
        if kind == "argument":
            return [a for a in flatten(args)[0] if array_leaf(a)][int(rest)]
        array = outputs[int(rest)] if kind == "output" else state[rest].copy()
        return array if numpy_only else Tensor(array)

    def _load(self) -> Program:
        with self._package._lock:
            if self._program is None:
                self._program = Program(self._package._image(self._index), self._info)
            return self._program

    def _signature(self) -> str:
        return ", ".join(f"{name}: {type}" for name, type in self.arguments) or "nothing"

    def __str__(self) -> str:
        return f"{self.name}({self._signature()}) -> {', '.join(type for _, type in self.outputs) or '()'}"

    def __repr__(self) -> str:
        return f"<entry point {self}>"


def _plain(tree: Tree) -> Tree:
    """The structure as packages have it: with tuples for namedtuples, and dicts for dataclasses."""
    kind = dict if tree.is_named else tree.kind if tree.kind in (None, list) else tuple
    return Tree(kind, tuple(map(_plain, tree.children)), tree.keys)
