"""Find the syntax tree of a function from its code object."""

from __future__ import annotations

import ast
import itertools
import linecache
from collections.abc import Iterator, Sequence
from contextlib import suppress
from types import CodeType

from tjit.capture.dataflow import parameters, walk

__all__ = ["UnreadableError", "find_function"]

Function = ast.FunctionDef | ast.Lambda


class UnreadableError(Exception):
    """The source of a function is not there, or is no longer what the function was made from."""


def find_function(code: CodeType) -> Function:
    """The definition that `code` was made from, at its lines in its file. The caller may change it.

    Raises:
        UnreadableError: there is no source, or none that fits.
    """
    lines = linecache.getlines(code.co_filename)
    if not lines:
        raise UnreadableError(f"{code.co_filename} has no text")
    first = code.co_firstlineno
    if not 0 < first <= len(lines):
        raise UnreadableError(f"{code.co_filename} has no line {first}")
    for tree in _trees(code, lines):
        found = [node for node in _functions(tree, code.co_name) if _fits(node, code, lines)]
        if code.co_name == "<lambda>":
            found = _innermost(sorted(found, key=lambda n: (_start(n), [-x for x in _end(n)])), code)
        if found:
            return found[0]
    raise UnreadableError(f"{code.co_filename} changed since the function was made")


def _trees(code: CodeType, lines: Sequence[str]) -> Iterator[ast.AST]:
    """The lines of the function alone, which may not be a whole statement; then the whole file."""
    first, last = code.co_firstlineno, _last_line(code, lines)
    text = "".join(lines[first - 1 : last])
    indented = text[:1] in (" ", "\t")
    if not indented:
        text = "\n" * (first - 1) + text
    elif first > 1:
        text = "\n" * (first - 2) + "if 1:\n" + text
    with suppress(SyntaxError, ValueError):
        yield ast.parse(text)
    try:
        yield ast.parse("".join(lines))
    except (SyntaxError, ValueError) as error:
        raise UnreadableError(str(error)) from None


def _last_line(code: CodeType, lines: Sequence[str]) -> int:
    """The last line of a function: of its instructions, and what follows at a deeper indentation."""
    last = max(_lines(code))
    if code.co_name == "<lambda>":
        return last
    depth = _depth(lines[code.co_firstlineno - 1])
    while last < len(lines):
        line = lines[last]
        if line.strip() and not line.lstrip().startswith("#") and _depth(line) <= depth:
            break
        last += 1
    return last


def _depth(line: str) -> int:
    expanded = line.expandtabs(8)
    return len(expanded) - len(expanded.lstrip())


def _lines(code: CodeType) -> Iterator[int]:
    yield code.co_firstlineno
    for _, _, line in code.co_lines():
        if line is not None:
            yield line
    for const in code.co_consts:
        if isinstance(const, CodeType):
            yield from _lines(const)


def _functions(tree: ast.AST, name: str) -> Iterator[Function]:
    for node in walk(tree):
        if isinstance(node, ast.Lambda):
            if name == "<lambda>":
                yield node
        elif isinstance(node, ast.FunctionDef) and node.name == name:
            yield node


def _fits(node: Function, code: CodeType, lines: Sequence[str]) -> bool:
    """Whether `code` can have been made from `node`: by line, parameters and names."""
    first = node.lineno
    if isinstance(node, ast.FunctionDef):
        first = min([first, *(d.lineno for d in node.decorator_list)])
    count = code.co_argcount + code.co_kwonlyargcount
    count += bool(code.co_flags & 0x04) + bool(code.co_flags & 0x08)
    given = parameters(node.args)
    same = len(given) == count and all(_same_name(a, b) for a, b in zip(given, code.co_varnames, strict=False))
    return first == code.co_firstlineno and same and _uses(node, code, lines)


def _same_name(written: str, compiled: str) -> bool:
    return compiled == written or compiled.endswith(written)


def _uses(node: Function, code: CodeType, lines: Sequence[str]) -> bool:
    """Whether the attributes and globals that the code names are in the text."""
    text = "".join(lines[node.lineno - 1 : node.end_lineno])
    return all(name in text for name in code.co_names if "__" not in name)


def _innermost(found: list[Function], code: CodeType) -> list[Function]:
    """Of lambdas on one line, the smallest whose body has all instructions of `code`."""
    places = [(a, c, b, d) for a, b, c, d in code.co_positions() if None not in (a, b, c, d) and (a, c) != (b, d)]
    if len(found) < 2 or not places:
        return found if len(found) < 2 else []
    start = min((a, c) for a, c, _, _ in places)
    end = max((b, d) for _, _, b, d in places)
    around = [node for node in found if _start(node) <= start and end <= _end(node)]
    return around[-1:] if _nested(around) else []


def _nested(found: list[Function]) -> bool:
    """Whether each is inside of the one before it."""
    return all(_start(a) <= _start(b) and _end(b) <= _end(a) for a, b in itertools.pairwise(found))


def _start(node: Function) -> tuple[int, int]:
    assert isinstance(node.body, ast.expr)
    return node.body.lineno, node.body.col_offset


def _end(node: Function) -> tuple[int, int]:
    assert isinstance(node.body, ast.expr)
    return node.body.end_lineno or 0, node.body.end_col_offset or 0
