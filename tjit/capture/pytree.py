"""Nested containers of arguments and results: taken apart into leaves, and put together again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import fields
from typing import Any

from tjit.dataclass import dataclass
from tjit.numpy_api.array import ComplexScalar, ComplexTensor

__all__ = [
    "CONTAINERS", "Tree", "attributes_of", "flatten", "flatten_call", "is_record", "unflatten", "write_back",
]  # fmt: skip


@dataclass(frozen=True, slots=True)
class Tree:
    """The structure of a value: `kind` is the container's type, None for a leaf; `keys` a dict's or dataclass's."""

    kind: type | None
    children: tuple[Tree, ...] = ()
    keys: tuple[Any, ...] = ()

    @property
    def is_named(self) -> bool:
        """Whether the children have keys."""
        return bool(self.keys) or self.kind is dict

    def __hash__(self) -> int:
        return hash((self.kind, len(self.children), self.keys))  # children are compared: hashing them takes longer


_LEAF = Tree(None)
CONTAINERS = (tuple, list, dict)  # and what derives from them
_PLAIN = [Tree(tuple, (Tree(tuple, (_LEAF,) * n), Tree(dict))) for n in range(17)]


def flatten_call(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[list[Any], Tree]:
    """What `flatten((args, kwargs))` gives."""
    if kwargs or len(args) >= len(_PLAIN):
        return flatten((args, kwargs), whole=True)
    for value in args:
        if isinstance(value, CONTAINERS) or is_record(value):
            return flatten((args, kwargs), whole=True)
    return list(args), _PLAIN[len(args)]


def flatten(value: Any, whole: bool = False) -> tuple[list[Any], Tree]:
    """The leaves of nested tuples, lists, dicts and dataclasses, and the structure they came from.

    A complex number and a traced complex array are containers of two parts, unless `whole`.
    """
    leaves: list[Any] = []
    return leaves, _flatten(value, leaves, whole)


def _flatten(value: Any, leaves: list[Any], whole: bool) -> Tree:
    kind = type(value)
    if kind is tuple or kind is list:
        return Tree(kind, tuple(_flatten(v, leaves, whole) for v in value))
    if kind is dict or kind is OrderedDict:
        return Tree(kind, tuple(_flatten(v, leaves, whole) for v in value.values()), tuple(value))
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return Tree(kind, tuple(_flatten(v, leaves, whole) for v in value))
    if isinstance(value, complex) and not whole:
        leaves += (value.real, value.imag)
        return Tree(ComplexScalar, (_LEAF, _LEAF))
    if isinstance(value, ComplexTensor) and not whole:
        return Tree(kind, (_flatten(value.re, leaves, whole), _flatten(value.im, leaves, whole)))
    if is_record(value):
        attributes = attributes_of(value)
        return Tree(kind, tuple(_flatten(v, leaves, whole) for v in attributes.values()), tuple(attributes))
    if hasattr(kind, "stacked"):  # what a loop appended to
        return _flatten(list(value), leaves, whole)  # pyright: ignore[reportArgumentType]  # a list
    leaves.append(value)
    return _LEAF


def is_record(value: Any) -> bool:
    """Whether a value is an instance of a dataclass that is compared by its fields, and may change."""
    kind = type(value)
    return kind.__hash__ is None and hasattr(kind, "__dataclass_fields__")


def attributes_of(record: Any) -> dict[str, Any]:
    """The fields of a dataclass's instance, and what else was set."""
    found = {f.name: getattr(record, f.name) for f in fields(record) if hasattr(record, f.name)}
    return found | getattr(record, "__dict__", {})


def unflatten(tree: Tree, leaves: Sequence[Any]) -> Any:
    """The value that `flatten` took apart, with other leaves."""
    return _unflatten(tree, iter(leaves))


def _unflatten(tree: Tree, leaves: Any) -> Any:
    if tree.kind is None:
        return next(leaves)
    children = [_unflatten(c, leaves) for c in tree.children]
    if tree.kind is dict or tree.kind is OrderedDict:
        return tree.kind(zip(tree.keys, children, strict=True))
    if hasattr(tree.kind, "__dataclass_fields__"):
        return _record(tree.kind, tree.keys, children)
    return tree.kind(children) if tree.kind in (tuple, list) else tree.kind(*children)


def _record(kind: type, names: Sequence[str], values: Sequence[Any]) -> Any:
    """An instance of a dataclass; as with copy.copy, `__init__` does not run."""
    made = object.__new__(kind)
    for name, value in zip(names, values, strict=True):
        object.__setattr__(made, name, value)
    return made


def write_back(before: Any, after: Any) -> Any:
    """What stands for `before` once it is as `after`: lists, dicts and dataclasses stay the objects that they are."""
    if before is after:
        return before
    if type(before) is not type(after):
        return after
    if is_record(before):
        _write_attributes(before, attributes_of(after))
        return before
    if isinstance(before, dict):
        new = {key: write_back(before[key], value) if key in before else value for key, value in after.items()}
        before.clear()
        before.update(new)
        return before
    if not isinstance(before, (list, tuple)):
        return after
    items = [write_back(*pair) for pair in zip(before, after, strict=False)] + list(after[len(before) :])
    if isinstance(before, list):
        before[:] = items
        return before
    if len(before) == len(items) and all(a is b for a, b in zip(before, items, strict=True)):
        return before
    return type(before)(*items) if hasattr(before, "_fields") else tuple(items)


def _write_attributes(record: Any, after: dict[str, Any]) -> None:
    before = attributes_of(record)
    for name in before.keys() - after.keys():
        object.__delattr__(record, name)
    for name, value in after.items():
        object.__setattr__(record, name, write_back(before[name], value) if name in before else value)
