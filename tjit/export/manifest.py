"""What a package holds, as JSON: for Python, and for people who look into the file.

    {"format": 1, "name": ..., "tjit": version, "targets": [...], "metadata": ...,
     "state": {name: {"type": "f32[10, 64]", "number": bool, "written": bool}},
     "extra_files": [...],
     "entries": [{"name": ..., "arguments": [{"name", "type", "written"}], "outputs": [{"name", "type"}],
                  "symbols": {name: [min, max or null]}, "inputs": ["argument:0", "state:weight", ...],
                  "call": tree, "returns": tree, "parameters": [...], "programs": {target: ProgramInfo}}]}

A tree is {"leaf": ...}, {"list": [trees]}, {"tuple": [trees]} (a namedtuple too) or {"dict": {key: tree}}; leaves are
"argument:0", "output:0", "state:name" or {"value": a Python value}.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from tjit.capture.pytree import Tree
from tjit.errors import ArgumentError
from tjit.export.entry import Entry, Field
from tjit.export.package import VERSION
from tjit.export.state import State
from tjit.ir.dims import Symbol, symbols
from tjit.runtime.program import ProgramInfo

__all__ = ["entry_symbols", "input_names", "manifest_json", "read_tree"]


def manifest_json(
    name: str,
    targets: tuple[str, ...],
    state: State,
    entries: list[Entry],
    infos: list[dict[str, ProgramInfo]],
    extra_files: list[str],
    metadata: Any,
) -> str:
    """The manifest.

    Raises:
        ArgumentError: the metadata, or a Python value that an entry point takes or returns, has no form in JSON.
    """
    from tjit import __version__

    document = {
        "format": VERSION,
        "name": name,
        "tjit": __version__,
        "targets": targets,
        "metadata": metadata,
        "state": {
            n: {"type": str(t), "number": n in state.numbers, "written": n in state.written}
            for n, t in state.types.items()
        },
        "extra_files": extra_files,
        "entries": [_entry(entry, state, info) for entry, info in zip(entries, infos, strict=True)],
    }
    try:
        return json.dumps(document, indent=1, ensure_ascii=False)
    except (TypeError, ValueError) as error:
        raise ArgumentError(f"metadata must be made of what JSON has: {error}") from None


def _entry(entry: Entry, state: State, infos: dict[str, ProgramInfo]) -> dict[str, Any]:
    arguments = [f"argument:{leaf}" if isinstance(leaf, int) else _value(entry, leaf[1]) for leaf in entry.leaves]
    return {
        "name": entry.name,
        "arguments": [_field(f) for f in entry.arguments],
        "outputs": [_field(f) for f in entry.outputs],
        "symbols": {s.name: [s.minimum, s.maximum] for s in entry_symbols(entry)},
        "inputs": input_names(entry, state),
        "call": _tree(entry.tree.children[0], iter(arguments)),
        "returns": _tree(entry.returns, (_result(entry, state, *r) for r in entry.results)),
        "parameters": entry.parameters,
        "programs": {target: json.loads(info.to_json()) for target, info in infos.items()},
    }


def _field(f: Field) -> dict[str, Any]:
    return {"name": f.name, "type": str(f.type), "written": f.written}


def input_names(entry: Entry, state: State) -> list[str]:
    """What each input of the program is."""
    return [f"argument:{s.position}" if s.kind == "argument" else f"state:{state.name_of(s)}" for s in entry.sources]


def entry_symbols(entry: Entry) -> tuple[Symbol, ...]:
    """The symbols of an entry point's types, by name."""
    found = {s.name: s for f in entry.arguments for d in f.type.shape for s in symbols(d)}
    return tuple(found[n] for n in sorted(found))


def _result(entry: Entry, state: State, kind: str, value: Any) -> Any:
    if kind == "state":
        return f"state:{state.places['tensor', id(value)]}"
    return _value(entry, value) if kind == "value" else f"{kind}:{value}"


def _value(entry: Entry, value: Any) -> Any:
    if value is None or isinstance(value, (bool, int, float, str)):
        return {"value": value}
    raise ArgumentError(
        f"{entry.name} takes or returns a {type(value).__name__}, which a package cannot hold",
        hint="arguments and results are arrays, numbers, strings, and lists, tuples, dicts and dataclasses of them",
    )


def _tree(tree: Tree, leaves: Iterator[Any]) -> Any:
    if tree.kind is None:
        return {"leaf": next(leaves)}
    children = [_tree(child, leaves) for child in tree.children]
    if tree.is_named:
        if not all(isinstance(k, str) for k in tree.keys):
            raise ArgumentError(f"a package can hold dicts whose keys are strings, not {list(tree.keys)}")
        return {"dict": dict(zip(tree.keys, children, strict=True))}
    return {"list" if tree.kind is list else "tuple": children}


def read_tree(tree: Any) -> tuple[list[Any], Tree]:
    """The leaves and the structure that `_tree` wrote."""
    leaves: list[Any] = []
    return leaves, _read(tree, leaves)


def _read(tree: Any, leaves: list[Any]) -> Tree:
    ((kind, inner),) = tree.items()
    if kind == "leaf":
        leaves.append(inner)
        return Tree(None)
    if kind == "dict":
        return Tree(dict, tuple(_read(c, leaves) for c in inner.values()), tuple(inner))
    return Tree(list if kind == "list" else tuple, tuple(_read(c, leaves) for c in inner))
