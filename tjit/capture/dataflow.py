"""What the statements of a function bind, read, leave by, and which names are live after them.

Works on the syntax tree as the user wrote it. Sets of reads may be too large, sets of what is surely bound too small.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Sequence
from dataclasses import field
from functools import cache
from typing import Any

from tjit.dataclass import dataclass

__all__ = ["Flow", "Flows", "Names", "find_names", "parameters", "reads", "walk"]

FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)
LOOPS = (ast.For, ast.While)
TRIES = (ast.Try, ast.TryStar)
COMPREHENSIONS = (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp)
_YIELDS = (ast.Yield, ast.YieldFrom, ast.Await)


# Fields that hold no nodes, or only those of operators and contexts.
_PLAIN = frozenset({
    "ctx", "op", "ops", "id", "attr", "arg", "name", "names", "module", "level", "kind", "type_comment", "conversion",
    "rest", "kwd_attrs", "is_async", "simple",
})  # fmt: skip


@cache
def _fields(kind: type[ast.AST]) -> tuple[str, ...]:
    """The fields of a kind of node that may hold nodes."""
    return () if kind in (ast.Constant, ast.MatchSingleton) else tuple(f for f in kind._fields if f not in _PLAIN)


def children(node: ast.AST) -> list[Any]:
    """The nodes directly in `node`, operators and contexts aside."""
    found: list[Any] = []
    for name in _fields(type(node)):
        value = getattr(node, name, None)
        if type(value) is list:
            found += value
        elif value is not None:
            found.append(value)
    return found if None not in found else [n for n in found if n is not None]  # keys of {**a}


def walk(node: ast.AST) -> list[Any]:
    """`node` and all nodes inside, operators and contexts aside."""
    found: list[Any] = [node]
    for node in found:
        if node.__class__ is not ast.Name and node.__class__ is not ast.Constant:
            found += children(node)
    return found


def reads(*nodes: ast.AST | None) -> set[str]:
    """Every name that evaluating `nodes` may read."""
    return {
        n.id
        for node in nodes
        if node is not None
        for n in walk(node)
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load)
    }


def parameters(args: ast.arguments) -> list[str]:
    """The names of a function's parameters."""
    plain = [*args.posonlyargs, *args.args, *args.kwonlyargs, args.vararg, args.kwarg]
    return [a.arg for a in plain if a is not None]


# What a function binds


@dataclass
class Names:
    """What the names of one function are.

    Attributes:
        bound: names that the function binds, parameters included, in order.
        global_, nonlocal_: what it declares.
        unbound: names that may lose their value again: of `del` and `except ... as`.
        inner: names that functions inside of it use, whenever they may be called.
        rebound: names that functions inside declare nonlocal.
        walrus: whether an assignment expression binds a name of the function.
        generates: whether it is a generator or a coroutine.
        looks: whether it calls `locals` or its like, and so may read every name.
    """

    bound: dict[str, None] = field(default_factory=dict)
    global_: set[str] = field(default_factory=set)
    nonlocal_: set[str] = field(default_factory=set)
    unbound: set[str] = field(default_factory=set)
    inner: set[str] = field(default_factory=set)
    rebound: set[str] = field(default_factory=set)
    walrus: bool = False
    generates: bool = False
    looks: bool = False

    @property
    def local(self) -> set[str]:
        """Names of variables that the function owns."""
        return self.bound.keys() - self.global_ - self.nonlocal_


LOOKS = frozenset({"locals", "vars", "dir", "eval", "exec"})


def find_names(function: ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) -> Names:
    """The names of `function`."""
    found = Names(dict.fromkeys(parameters(function.args)))
    body = function.body if isinstance(function.body, list) else [function.body]
    for node in body:
        _find(node, found)
    return found


def _find(root: ast.AST, found: Names) -> None:
    stack = [root]
    while stack:
        node = stack.pop()
        kind = type(node)
        if kind is ast.Name:
            _find_name(node, found)  # pyright: ignore[reportArgumentType]  # by its type
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef)):
            stack += _find_inner(node, found)
        elif isinstance(node, COMPREHENSIONS):
            _find_comprehension(node, found)
        else:
            _find_other(node, found)
            stack += children(node)[::-1]


def _find_name(node: ast.Name, found: Names) -> None:
    if not isinstance(node.ctx, ast.Load):
        found.bound[node.id] = None
        if isinstance(node.ctx, ast.Del):
            found.unbound.add(node.id)
    elif node.id in LOOKS:
        found.looks = True


def _find_other(node: ast.AST, found: Names) -> None:
    if isinstance(node, ast.NamedExpr):
        found.walrus = True
    elif isinstance(node, ast.Global):
        found.global_.update(node.names)
        found.bound.update(dict.fromkeys(node.names))
    elif isinstance(node, ast.Nonlocal):
        found.nonlocal_.update(node.names)
        found.bound.update(dict.fromkeys(node.names))
    elif isinstance(node, (ast.Import, ast.ImportFrom)):
        found.bound.update(dict.fromkeys(imported(node)))
    elif isinstance(node, ast.ExceptHandler):
        if node.name:
            found.bound[node.name] = None
            found.unbound.add(node.name)
    elif isinstance(node, (ast.MatchAs, ast.MatchStar)):
        if node.name:
            found.bound[node.name] = None
    elif isinstance(node, ast.MatchMapping):
        if node.rest:
            found.bound[node.rest] = None
    elif isinstance(node, _YIELDS):
        found.generates = True


def imported(node: ast.Import | ast.ImportFrom) -> list[str]:
    """The names that an import binds."""
    return [a.asname or a.name.split(".")[0] for a in node.names]


def _find_inner(node: ast.AST, found: Names) -> list[ast.AST]:
    """What of a function or class is evaluated where it stands; its body is another scope's."""
    if isinstance(node, ast.ClassDef):
        found.bound[node.name] = None
        _find_uses(node.body, found)
        return [*node.decorator_list, *node.bases, *node.keywords]
    assert isinstance(node, FUNCTIONS)
    body = node.body if isinstance(node.body, list) else [node.body]
    _find_uses(body, found)
    here: list[ast.AST] = [node.args]
    if not isinstance(node, ast.Lambda):
        found.bound[node.name] = None
        here += node.decorator_list
        here += [node.returns] if node.returns is not None else []
    return here


def _find_uses(body: Iterable[ast.AST], found: Names) -> None:
    for part in body:
        for node in walk(part):
            if isinstance(node, ast.Name):
                found.inner.add(node.id)
            elif isinstance(node, ast.Nonlocal):
                found.inner.update(node.names)
                found.rebound.update(node.names)


def _find_comprehension(node: ast.AST, found: Names) -> None:
    """Its targets are names of its own; what it assigns with := is the function's."""
    for part in walk(node):
        if isinstance(part, ast.NamedExpr):
            assert isinstance(part.target, ast.Name)
            found.bound[part.target.id] = None
            found.walrus = True
        elif isinstance(part, FUNCTIONS):
            _find_uses([part], found)
        elif isinstance(part, ast.Name) and part.id in LOOKS:
            found.looks = True
        elif isinstance(part, _YIELDS):
            found.generates = True
    if isinstance(node, ast.GeneratorExp):
        _find_uses([node], found)  # it may run later


# What a statement does


@dataclass(frozen=True)
class Flow:
    """What a statement or a block of them does.

    Attributes:
        reads: names whose value before it may be read.
        binds: names that are bound behind it, None where control never comes there.
        jumps: of "return", "break", "continue": how control may leave it for somewhere else.
    """

    reads: frozenset[str]
    binds: frozenset[str] | None
    jumps: frozenset[str]

    @property
    def completes(self) -> bool:
        return self.binds is not None


_NONE: frozenset[str] = frozenset()


def _both(a: frozenset[str] | None, b: frozenset[str] | None) -> frozenset[str] | None:
    if a is None or b is None:
        return b if a is None else a
    return a & b


def target_names(target: ast.AST | None) -> frozenset[str]:
    """The names that an assignment to `target` binds."""
    if target is None:
        return _NONE
    return frozenset(n.id for n in walk(target) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))


class Flows:
    """The flow of statements, each computed once."""

    def __init__(self) -> None:
        self._known: dict[ast.AST, Flow] = {}

    def of(self, node: ast.AST) -> Flow:
        """The flow of one statement."""
        known = self._known.get(node)
        if known is None:
            known = self._known[node] = self._compute(node)
        return known

    def block(self, body: Sequence[ast.AST]) -> Flow:
        """The flow of statements one after the other."""
        read: set[str] = set()
        bound: set[str] = set()
        jumps: set[str] = set()
        for node in body:
            flow = self.of(node)
            read |= flow.reads - bound
            jumps |= flow.jumps
            if flow.binds is None:
                return Flow(frozenset(read), None, frozenset(jumps))
            bound |= flow.binds
        return Flow(frozenset(read), frozenset(bound), frozenset(jumps))

    def after(
        self, body: Sequence[ast.AST], out: frozenset[str], elsewhere: frozenset[str]
    ) -> tuple[list[frozenset[str]], frozenset[str]]:
        """The names live after each statement of `body`, and before it, where `out` are live behind it.

        Args:
            elsewhere: what is live where jumps lead to.
        """
        live = out
        result: list[frozenset[str]] = []
        for node in reversed(body):
            flow = self.of(node)
            behind = live | elsewhere if flow.jumps else live
            result.append(behind)
            live = flow.reads | (_NONE if flow.binds is None else live - flow.binds)
            if flow.jumps:
                live |= elsewhere
        return result[::-1], live

    def _compute(self, node: ast.AST) -> Flow:
        if isinstance(node, ast.If):
            return self._if(node)
        if isinstance(node, LOOPS):
            return self._loop(node)
        if isinstance(node, ast.With):
            return self._with(node)
        if isinstance(node, TRIES):
            return self._try(node)
        if isinstance(node, ast.Match):
            return self._match(node)
        return self._simple(node)

    def _simple(self, node: ast.AST) -> Flow:
        read = frozenset(reads(node))
        if isinstance(node, (ast.Return, ast.Raise)):
            return Flow(read, None, frozenset({"return"}) if isinstance(node, ast.Return) else _NONE)
        if isinstance(node, (ast.Break, ast.Continue)):
            return Flow(_NONE, None, frozenset({type(node).__name__.lower()}))
        bound = _NONE
        if isinstance(node, ast.Assign):
            bound = frozenset().union(*map(target_names, node.targets))
        elif isinstance(node, ast.AnnAssign):
            bound = target_names(node.target) if node.value is not None else _NONE
        elif isinstance(node, ast.AugAssign):
            bound = target_names(node.target)
            read |= bound
        elif isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            bound = frozenset({node.name})
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            bound = frozenset(imported(node))
        return Flow(read, bound, _NONE)

    def _if(self, node: ast.If) -> Flow:
        then, orelse = self.block(node.body), self.block(node.orelse)
        read = then.reads | orelse.reads | reads(node.test)
        return Flow(read, _both(then.binds, orelse.binds), then.jumps | orelse.jumps)

    def _loop(self, node: ast.AST) -> Flow:
        assert isinstance(node, LOOPS)
        body, orelse = self.block(node.body), self.block(node.orelse)
        jumps = (body.jumps - {"break", "continue"}) | orelse.jumps
        if isinstance(node, ast.For):
            read = reads(node.iter, node.target) | (body.reads - target_names(node.target))
            return Flow(frozenset(read | orelse.reads), _NONE, jumps)
        endless = isinstance(node.test, ast.Constant) and bool(node.test.value) and "break" not in body.jumps
        return Flow(body.reads | orelse.reads | reads(node.test), None if endless else _NONE, jumps)

    def _with(self, node: ast.With) -> Flow:
        body = self.block(node.body)
        bound = frozenset().union(*(target_names(i.optional_vars) for i in node.items))
        read = (body.reads - bound) | reads(*node.items)
        # it may suppress an exception, or a return that raises: what follows can be reached
        return Flow(read, bound | (body.binds or _NONE), body.jumps)

    def _try(self, node: ast.AST) -> Flow:
        assert isinstance(node, TRIES)
        handled = [self.block(h.body) for h in node.handlers]
        body, last = self.block([*node.body, *node.orelse]), self.block(node.finalbody)
        read = body.reads | last.reads | reads(*(h.type for h in node.handlers))
        jumps = body.jumps | last.jumps
        for flow in handled:
            read |= flow.reads
            jumps |= flow.jumps
        completes = last.completes and (body.completes or any(f.completes for f in handled))
        bound = (last.binds or _NONE) | ((body.binds or _NONE) if not handled else _NONE)
        return Flow(frozenset(read), bound if completes else None, jumps)

    def _match(self, node: ast.Match) -> Flow:
        read = reads(node.subject)
        jumps = _NONE
        for case in node.cases:
            flow = self.block(case.body)
            read |= flow.reads | reads(case.guard, case.pattern)
            jumps |= flow.jumps
        return Flow(frozenset(read), _NONE, jumps)
