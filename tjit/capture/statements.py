"""Rewrite the statements of a function, and the function."""

from __future__ import annotations

import ast

from tjit.capture.branches import Branches
from tjit.capture.dataflow import LOOPS, TRIES, Names, find_names, imported
from tjit.capture.frames import Scope
from tjit.capture.jumps import RETURNED, VALUE, Place
from tjit.capture.syntax import VARIABLES, assign, call, constant, load, operator, put, store, thunk
from tjit.errors import CaptureError
from tjit.location import Location

__all__ = ["Statements"]

_NONE: frozenset[str] = frozenset()


class Statements(Branches):
    """Rewrites functions. `file` is the user's, for errors."""

    file = ""

    def function(self, node: ast.FunctionDef, names: Names) -> None:
        """Rewrite the body of a function that is no generator."""
        scope = self.enter(node, names)
        self._like = node
        with self.within(scope):
            node.body = self._body(node, scope)

    def _body(self, node: ast.FunctionDef, scope: Scope) -> list[ast.stmt]:
        body: list[ast.stmt] = node.body
        docstring: list[ast.stmt] = []
        if isinstance(body[0], ast.Expr) and isinstance(body[0].value, ast.Constant):
            docstring, body = body[:1], body[1:]
        native = frozenset({"return"})
        lowers = "return" in self._lowered_block(body, native)
        place = Place(native, native if lowers else _NONE)
        scope.always = frozenset(scope.local if scope.names.looks else scope.names.inner)
        scope.always |= scope.names.global_ | scope.names.nonlocal_
        lowered = self.block(body, place, _NONE)
        if lowers and (not lowered or not isinstance(lowered[-1], ast.Return)):
            lowered.append(put(ast.Return(load(VALUE, node)), body[-1]))
        return [*docstring, *self._prologue(node, scope, lowers), *lowered] or [put(ast.Pass(), node)]

    def _prologue(self, node: ast.FunctionDef, scope: Scope, lowers: bool) -> list[ast.stmt]:
        """Declare what the rewritten code uses."""
        names = scope.names
        result: list[ast.stmt] = []
        if names.global_:
            result.append(put(ast.Global(sorted(names.global_)), node))
        if names.nonlocal_:
            result.append(put(ast.Nonlocal(sorted(names.nonlocal_)), node))
        made = sorted(scope.flags) + ([VALUE] if lowers else [])
        variables = [n for n in names.bound if n in scope.local] + made
        if variables:  # never runs: says that these are variables of this function
            never = assign(variables[0], constant(None, node), node)
            never.targets = [store(v, node) for v in variables]
            result.append(put(ast.If(constant(0, node), [never], []), node))
        if RETURNED in scope.flags:
            result.append(assign(RETURNED, constant(False, node), node))
        if scope.asks:
            read = put(ast.Tuple([load(n, node) for n in sorted(scope.asked)], ast.Load()), node)
            operands = [thunk(read)] + ([constant(self.owner, node)] if self.owner else [])
            result.append(assign(VARIABLES, call("Variables", operands, node), node))
        return result

    def statement(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        """One rewritten statement, with what must come before it."""
        self._like = node
        with self.hoisting() as hoisted:
            out = self._statement(node, place, live)
        return [*hoisted, *out]

    def _statement(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        if isinstance(node, ast.If):
            return self._if(node, node.body, node.orelse, place, live)
        if isinstance(node, LOOPS):
            return self._loop(node, place, live)
        if isinstance(node, ast.With):
            self.inner_items(node)
            node.body = self.block(node.body, place, live) or [put(ast.Pass(), node)]
            return [node]
        if isinstance(node, TRIES):
            return self._try(node, place, live)
        if isinstance(node, ast.Match):
            return self._match(node, place, live)
        return self._simple(node)

    def _simple(self, node: ast.stmt) -> list[ast.stmt]:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return self._nested(node)
        if isinstance(node, ast.ClassDef):
            node.decorator_list = [self.expr(d) for d in node.decorator_list]
            self.bind(node.name)
        elif isinstance(node, (ast.Global, ast.Nonlocal)):
            return []  # declared at the start of the function
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            for name in imported(node):
                self.bind(name)
        elif isinstance(node, ast.Assert):
            return self._assert(node)
        elif isinstance(node, ast.AnnAssign):
            return self._annotated(node)
        elif isinstance(node, ast.AugAssign):
            return self._augmented(node)
        elif isinstance(node, ast.Assign):
            node.value = self.expr(node.value)
            node.targets = [self.expr(t) for t in node.targets]
        elif isinstance(node, ast.Delete):
            return self._delete(node)
        else:
            self.inner(node)
        return [*self._globals_bound(node), node]

    def _globals_bound(self, node: ast.stmt) -> list[ast.stmt]:
        """Binding a global cannot be undone: under a tensor condition it is refused."""
        scope = self.scope
        if scope.frame.own or not scope.names.global_ or not isinstance(node, (ast.Assign, ast.AugAssign)):
            return []
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        names = [t.id for t in targets if isinstance(t, ast.Name) and t.id in scope.names.global_]
        return [self._python_only(f"the global {n} is assigned", node) for n in names]

    def _python_only(self, what: str, like: ast.stmt) -> ast.stmt:
        return put(ast.Expr(call("python_only", [constant(what, like)], like)), like)

    def _delete(self, node: ast.Delete) -> list[ast.stmt]:
        node.targets = [self.expr(t) for t in node.targets]
        if self.scope.frame.own:
            return [node]
        out = [self._python_only("`del` takes a value away", node)]
        for target in node.targets:
            out += self._checked(target, node)
            out.append(put(ast.Delete([target]), node))
        return out

    def _checked(self, target: ast.expr, like: ast.stmt) -> list[ast.stmt]:
        """Read a name first that may be unbound, so that the error is Python's."""
        read = self.read(load(target.id, target)) if isinstance(target, ast.Name) else None
        return [put(ast.Expr(read), like)] if isinstance(read, ast.Call) else []

    def _assert(self, node: ast.Assert) -> list[ast.stmt]:
        if not __debug__:
            return []
        test = self.condition(node.test)
        operands = self.delayed_all([test] if node.msg is None else [test, node.msg])
        assert operands is not None  # a statement can be preceded by definitions
        if node.msg is None:
            operands.append(operator("nothing", node))
        return [put(ast.Expr(call("assert_", operands, node)), node)]

    def _annotated(self, node: ast.AnnAssign) -> list[ast.stmt]:
        """Annotations of variables are not evaluated in a function."""
        if node.value is None:
            return []
        return self._simple(put(ast.Assign([node.target], node.value), node))

    def _augmented(self, node: ast.AugAssign) -> list[ast.stmt]:
        before = self._checked(node.target, node)
        node.value = self.expr(node.value)
        node.target = self.expr(node.target)  # pyright: ignore[reportAttributeAccessIssue]  # a target stays one
        return [*before, *self._globals_bound(node), node]

    def _nested(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> list[ast.stmt]:
        node.decorator_list = [self.expr(d) for d in node.decorator_list]
        node.args.defaults = [self.expr(d) for d in node.args.defaults]
        node.args.kw_defaults = [None if d is None else self.expr(d) for d in node.args.kw_defaults]
        if isinstance(node, ast.FunctionDef):
            names = find_names(node)
            if not names.generates:
                self.function(node, names)
        self.bind(node.name)
        return [node]

    def inner_items(self, node: ast.With) -> None:
        for item in node.items:
            item.context_expr = self.expr(item.context_expr)
            if item.optional_vars is not None:
                item.optional_vars = self.expr(item.optional_vars)

    def _try(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, TRIES)
        if self._lowered_block(node.finalbody, place.native):
            raise CaptureError(
                "a jump out of `finally` cannot be captured inside of a loop or branch that may become a node",
                Location(self.file, node.finalbody[0].lineno),
                hint="move it behind the try statement",
            )
        everything = live | self.flows.of(node).reads
        before = set(self.scope.bound)
        jumps = self._lowered_block(node.body, place.native)
        before_else = list(node.body)
        body = self.block(node.body, place, everything)
        reached = self.flows.block(before_else).completes
        node.orelse = self._guarded(jumps, node.orelse, place, everything, node) if reached else []
        if node.handlers:
            guard = put(ast.withitem(call("trying", [], node), None), node)
            node.body = [put(ast.With([guard], body or [put(ast.Pass(), node)]), node)]
        else:
            node.body = body or [put(ast.Pass(), node)]
        for handler in node.handlers:
            self.scope.bound = set(before)
            if handler.type is not None:
                handler.type = self.expr(handler.type)
            if handler.name:
                self.bind(handler.name)
            handler.body = self.block(handler.body, place, everything) or [put(ast.Pass(), handler)]
        behind = before if node.handlers else self.scope.bound
        self.scope.bound = set(before)
        node.finalbody = self.block(node.finalbody, place, live)
        self.scope.bound |= behind
        return [node]

    def _guarded(
        self, jumps: frozenset[str], body: list[ast.stmt], place: Place, live: frozenset[str], like: ast.stmt
    ) -> list[ast.stmt]:
        """`body`, which must not run where one of `jumps` was taken."""
        if not body or not jumps:
            return self.block(body, place, live)
        guard = put(ast.If(self._no_jump(jumps, place, like), body, []), like)
        return self._if(guard, body, None, place, live)

    def _match(self, node: ast.Match, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        node.subject = self.expr(node.subject)
        before = set(self.scope.bound)
        for case in node.cases:
            self.scope.bound = set(before)
            for name in _captures(case.pattern):
                self.bind(name)
            if case.guard is not None:
                case.guard = self.expr(case.guard)
            case.body = self.block(case.body, place, live) or [put(ast.Pass(), node)]
        self.scope.bound = before
        return [node]


def _captures(pattern: ast.pattern) -> list[str]:
    found: list[str] = []
    for node in ast.walk(pattern):
        name = node.rest if isinstance(node, ast.MatchMapping) else getattr(node, "name", None)
        if isinstance(node, ast.pattern) and name:
            found.append(name)
    return found
