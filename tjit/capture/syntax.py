"""Nodes of the syntax tree, made at the place of another one: errors and tracebacks name the user's line."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar

__all__ = [
    "RUNTIME",
    "VARIABLES",
    "assign",
    "call",
    "constant",
    "define",
    "load",
    "no_parameters",
    "operator",
    "put",
    "store",
    "thunk",
]

RUNTIME = "_tjit_"  # the variable that holds what rewritten code calls
VARIABLES = "_tjit_variables"  # the one that makes the `State` of a statement

T = TypeVar("T", bound=ast.AST)


def put(node: T, like: Any) -> T:
    """`node`, at the place of `like`."""
    node.lineno = like.lineno  # pyright: ignore[reportAttributeAccessIssue]  # expressions and statements have it
    node.col_offset = like.col_offset  # pyright: ignore[reportAttributeAccessIssue]
    node.end_lineno = like.end_lineno  # pyright: ignore[reportAttributeAccessIssue]
    node.end_col_offset = like.end_col_offset  # pyright: ignore[reportAttributeAccessIssue]
    return node


def load(name: str, like: Any) -> ast.Name:
    return put(ast.Name(name, ast.Load()), like)


def store(name: str, like: Any) -> ast.Name:
    return put(ast.Name(name, ast.Store()), like)


def constant(value: Any, like: Any) -> ast.Constant:
    return put(ast.Constant(value), like)


def assign(name: str, value: ast.expr, like: Any) -> ast.Assign:
    return put(ast.Assign([store(name, like)], value), like)


def operator(name: str, like: Any) -> ast.expr:
    """A function that rewritten code calls."""
    return put(ast.Attribute(load(RUNTIME, like), name, ast.Load()), like)


def call(name: str, operands: Sequence[ast.expr], like: Any) -> ast.Call:
    """A call of one of those."""
    return put(ast.Call(operator(name, like), list(operands), []), like)


def no_parameters(names: Iterable[str] = (), like: Any = None) -> ast.arguments:
    """The parameters of a function that has none but `names`."""
    return ast.arguments([], [put(ast.arg(n), like) for n in names], None, [], [], None, [])


def thunk(body: ast.expr) -> ast.Lambda:
    """`lambda: body`."""
    return put(ast.Lambda(no_parameters(), body), body)


def define(name: str, names: Iterable[str], body: list[ast.stmt], like: Any) -> ast.FunctionDef:
    """`def name(*names): body`."""
    made = put(ast.FunctionDef(name, no_parameters(names, like), body, []), like)
    made.type_params = []  # pyright: ignore[reportAttributeAccessIssue]  # Python 3.12 asks for it
    return made
