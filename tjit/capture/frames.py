"""What is known of a user's function, and of the functions that it becomes, while its source is rewritten."""

from __future__ import annotations

import ast
from dataclasses import field

from tjit.capture.dataflow import Flows, Names
from tjit.dataclass import dataclass

__all__ = ["Frame", "Record", "Scope", "dotted", "is_static", "root_of"]


@dataclass
class Record:
    """What a statement may bind and what it may change in place, in the order of its text."""

    assigned: dict[str, None] = field(default_factory=dict)
    touched: dict[str, None] = field(default_factory=dict)
    calls: bool = False

    def add(self, other: Record) -> None:
        self.assigned.update(other.assigned)
        self.touched.update(other.touched)
        self.calls |= other.calls


@dataclass
class Frame:
    """A function of the rewritten code: the user's own (`own`), or one made for a part of it.

    Attributes:
        bound: names that its code binds.
    """

    own: bool = True
    bound: dict[str, None] = field(default_factory=dict)


@dataclass
class Scope:
    """A function of the user's while it is rewritten.

    Attributes:
        names: what its names are.
        local: variables it owns.
        outer: variables of functions around it.
        first: its first parameter, which `super()` means.
        bound: its variables that surely have a value here.
        frame: of the code at hand.
        hoisted: definitions that must come before the statement at hand, None where nothing can come before.
        hidden: targets of the comprehensions around the code at hand.
        changed: variables from outside that functions inside of it change.
        thunks: how many were hoisted.
        flows: what its statements do.
        always: names that may be read at any time.
        numbers: of its loops.
        flags: variables made for jumps.
        asks: whether a statement asks `Variables` for some, which are those `asked`.
    """

    names: Names
    local: set[str]
    outer: set[str]
    first: str | None
    bound: set[str]
    frame: Frame = field(default_factory=Frame)
    hoisted: list[ast.stmt] | None = None
    hidden: list[frozenset[str]] = field(default_factory=list)
    changed: dict[str, None] = field(default_factory=dict)
    thunks: int = 0
    flows: Flows = field(default_factory=Flows)
    always: frozenset[str] = frozenset()
    numbers: dict[ast.stmt, int] = field(default_factory=dict)
    flags: set[str] = field(default_factory=set)
    asks: bool = False
    asked: set[str] = field(default_factory=set)


def is_static(test: ast.expr) -> bool:
    """Whether a condition is Python's own, whatever its operands are."""
    if isinstance(test, ast.Constant):
        return True
    if isinstance(test, ast.Compare):
        return all(isinstance(op, (ast.Is, ast.IsNot)) for op in test.ops)
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return is_static(test.operand)
    return isinstance(test, ast.BoolOp) and all(map(is_static, test.values))


def dotted(node: ast.expr) -> str | None:
    """`self.cache.rows` for an expression of names and attributes alone."""
    parts: list[str] = []
    while isinstance(node, ast.Attribute):
        parts.append(node.attr)
        node = node.value
    return ".".join([node.id, *reversed(parts)]) if isinstance(node, ast.Name) else None


def root_of(node: ast.expr) -> str | None:
    """The container or object that a store to `node` changes: `a` for `a[i].h[j]`."""
    while not isinstance(node, ast.Name):
        if isinstance(node, (ast.Attribute, ast.Subscript, ast.Starred)):
            path = dotted(node)
            if path is not None:
                return path
            node = node.value
        else:
            return None
    return node.id
