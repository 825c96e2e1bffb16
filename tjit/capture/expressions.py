"""Rewrite the expressions of a function: calls, conditions and boolean operators ask `tjit.capture.operators`.

f(x)                _tjit_.callee(f)(x)
if a and b          if_(_tjit_.and_(lambda: a, lambda: b), ...)
x = a or b          x = _tjit_.first_true(lambda: a, lambda: b)
a if t else b       _tjit_.if_expr(t, lambda: a, lambda: b)
a < b < c           _tjit_.compare(a, "<", lambda: b, "<", lambda: c)
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from contextlib import contextmanager

from tjit.capture.dataflow import LOOKS, Names, find_names, parameters, target_names, walk
from tjit.capture.frames import Frame, Record, Scope, dotted, is_static, root_of
from tjit.capture.syntax import RUNTIME, VARIABLES, call, constant, define, load, put, thunk

__all__ = ["Expressions"]

# They look at the frame that calls them, so they are called directly.
_OF_THE_FRAME = frozenset({*LOOKS, "globals", "super", "__import__", "breakpoint"})
_COMPARISONS: dict[type[ast.cmpop], str] = {
    ast.Eq: "==",
    ast.NotEq: "!=",
    ast.Lt: "<",
    ast.LtE: "<=",
    ast.Gt: ">",
    ast.GtE: ">=",
    ast.Is: "is",
    ast.IsNot: "is not",
    ast.In: "in",
    ast.NotIn: "not in",
}


class Expressions:
    """Rewrites the expressions of nested functions; nodes are changed in place.

    Args:
        owner: the class whose body the function stands in, for names such as `__x`.
        outer: the variables of functions around it.
        is_plain: whether a global name stands for a module, class or function, which no method call changes.
    """

    def __init__(self, owner: str | None, outer: set[str], is_plain: Callable[[str], bool]) -> None:
        self.owner = owner
        self.is_plain = is_plain
        self.scope = Scope(Names(), set(), outer, None, set())
        self.records = [Record()]
        self._conditions: set[ast.expr] = set()
        self._visit: dict[type, Callable[..., ast.expr]] = {
            ast.Name: self._name,
            ast.Call: self._call,
            ast.BoolOp: self._boolean,
            ast.UnaryOp: self._unary,
            ast.IfExp: self._choice,
            ast.Compare: self._compare,
            ast.Lambda: self._lambda,
            ast.NamedExpr: self._walrus,
            ast.ListComp: self._comprehension,
            ast.SetComp: self._comprehension,
            ast.DictComp: self._comprehension,
            ast.GeneratorExp: self._comprehension,
            ast.Constant: lambda node: node,
        }

    # -- scopes --------------------------------------------------------------------------------------------------------

    def enter(self, function: ast.FunctionDef | ast.Lambda, names: Names) -> Scope:
        """The scope of `function`, inside of the present one."""
        args = function.args
        first = next(iter([*args.posonlyargs, *args.args]), None)
        return Scope(
            names,
            names.local,
            self.scope.local | self.scope.outer,
            first.arg if first is not None else None,
            set(parameters(args)) - names.unbound,
        )

    @contextmanager
    def within(self, scope: Scope):
        """Rewrite in `scope`."""
        outer, self.scope = self.scope, scope
        self.records.append(Record())
        try:
            yield scope
        finally:
            self.scope = outer
            changed = self.records.pop()
            for path in [*changed.touched, *changed.assigned]:
                if path.partition(".")[0] not in scope.local:
                    outer.changed[path] = None

    @contextmanager
    def recording(self):
        """Note what the code at hand binds and changes, which the statement around it does as well."""
        record = Record()
        self.records.append(record)
        try:
            yield record
        finally:
            self.records.pop()
            if record.calls:
                record.assigned.update(dict.fromkeys(sorted(self.scope.names.rebound & self.scope.local)))
                record.touched.update(self.scope.changed)
            self.records[-1].add(record)

    @contextmanager
    def inside(self, own: bool = False):
        """Rewrite what becomes the body of a function made for it."""
        scope = self.scope
        frame, scope.frame = scope.frame, Frame(own)
        bound = set(scope.bound)
        try:
            yield scope.frame
        finally:
            scope.frame = frame
            scope.bound = bound

    @contextmanager
    def perhaps(self):
        """Rewrite what may not be evaluated: the names that it binds may be unbound behind it."""
        bound = set(self.scope.bound)
        yield
        self.scope.bound = bound

    @contextmanager
    def hoisting(self):
        """Collect the definitions that must come before the code at hand."""
        scope = self.scope
        around, scope.hoisted = scope.hoisted, []
        try:
            yield scope.hoisted
        finally:
            scope.hoisted = around

    def bind(self, name: str) -> None:
        """The code at hand gives `name` a value."""
        scope = self.scope
        scope.frame.bound[name] = None
        self.records[-1].assigned[name] = None
        if name not in scope.names.unbound:
            scope.bound.add(name)

    def touch(self, path: str | None) -> None:
        """The code at hand may change in place what `path` names."""
        if path is None:
            return
        root = path.partition(".")[0]
        if any(root in hidden for hidden in self.scope.hidden):
            return
        if root in self.scope.local or root in self.scope.outer or not self.is_plain(root):
            self.records[-1].touched[path] = None

    # -- expressions ---------------------------------------------------------------------------------------------------

    def expr(self, node: ast.expr) -> ast.expr:
        """The rewritten expression."""
        visit = self._visit.get(type(node))
        if visit is not None:
            return visit(node)
        if isinstance(node, ast.Attribute):
            if not isinstance(node.ctx, ast.Load):
                self._store_attribute(node)
            node.value = self.expr(node.value)
            return node
        if isinstance(node, ast.Subscript) and not isinstance(node.ctx, ast.Load):
            self.touch(root_of(node.value))
        self.inner(node)
        return node

    def inner(self, node: ast.AST) -> None:
        """Rewrite the expressions in `node`."""
        for name in node._fields:
            value = getattr(node, name, None)
            if isinstance(value, ast.expr):
                setattr(node, name, self.expr(value))
            elif isinstance(value, list):
                for i, item in enumerate(value):
                    if isinstance(item, ast.expr):
                        value[i] = self.expr(item)
                    elif isinstance(item, ast.AST):
                        self.inner(item)
            elif isinstance(value, ast.AST) and value._fields:
                self.inner(value)

    def _store_attribute(self, node: ast.Attribute) -> None:
        path = dotted(node)
        if path is None:
            self.touch(root_of(node.value))
        else:
            self.records[-1].assigned[path] = None

    def _name(self, node: ast.Name) -> ast.expr:
        if any(node.id in hidden for hidden in self.scope.hidden):
            return node
        if not isinstance(node.ctx, ast.Load):
            self.bind(node.id)
            return node
        return self.read(node)

    def read(self, node: ast.Name) -> ast.expr:
        """`node`; where it may be unbound and is not the frame's own, the error must still be Python's."""
        scope = self.scope
        if scope.frame.own or scope.hidden or node.id not in scope.local or node.id in scope.bound:
            return node
        return call("load", [constant(node.id, node), thunk(node)], node)

    def _call(self, node: ast.Call) -> ast.expr:
        record = self.records[-1]
        record.calls = True
        function = node.func
        if isinstance(function, ast.Name) and function.id in _OF_THE_FRAME and self._is_builtin(function.id):
            self.inner(node)
            return self._call_of_frame(node, function.id)
        if isinstance(function, ast.Attribute):
            self.touch(dotted(function.value))
        elif isinstance(function, ast.Name):
            self.touch(function.id)
        for operand in node.args:
            if isinstance(operand, ast.Name):
                self.touch(operand.id)
        self.inner(node)
        node.func = call("callee", [node.func], node.func)
        return node

    def _is_builtin(self, name: str) -> bool:
        return name not in self.scope.local and name not in self.scope.outer

    def _call_of_frame(self, node: ast.Call, name: str) -> ast.expr:
        """A call of what looks at its caller's frame, which the rewriting may have split."""
        if name == "super" and not node.args and not node.keywords and self.scope.first is not None:
            node.args = [load("__class__", node), load(self.scope.first, node)]
        elif name in ("locals", "vars", "dir") and not node.args:
            seen = call("visible", [self._every_name(node)], node)
            return seen if name != "dir" else put(ast.Call(load("sorted", node), [seen], []), node)
        elif name in ("eval", "exec") and len(node.args) == 1 and not node.keywords:
            spaces = put(ast.Call(load("globals", node), [], []), node)
            node.args += [spaces, call("visible", [self._every_name(node)], node)]
        return node

    def _every_name(self, like: ast.AST) -> ast.Lambda:
        scope = self.scope
        names = sorted(scope.local | (scope.outer & scope.names.inner))
        return thunk(put(ast.Tuple([load(n, like) for n in names], ast.Load()), like))

    def variables(self, record: Record, live: frozenset[str], like: ast.AST) -> ast.expr:
        """The variables of a part of the function, as the operators see them."""
        scope = self.scope
        scope.asks = True
        assigned = list(record.assigned)
        touched = [p for p in record.touched if p not in record.assigned]
        for path in (*assigned, *touched):
            root = path.partition(".")[0]
            if root in scope.local or root in scope.outer or root.startswith(RUNTIME):
                scope.asked.add(root)
        alive = [n for n in assigned if n in live or n in scope.always or "." in n]
        operands = [tuple(assigned + touched), len(assigned), frozenset(alive + touched)]
        return put(ast.Call(load(VARIABLES, like), [constant(o, like) for o in operands], []), like)

    def delayed(self, node: ast.expr) -> ast.expr | None:
        """A function that evaluates `node`; None where none can be made."""
        with self.recording() as record:
            function = self._delayed(node)
        changes = record.assigned or (record.calls and record.touched)
        if function is None or not changes or self.scope.hoisted is None:
            return function
        return call("apart", [function, self.variables(record, frozenset(), node)], node)

    def _delayed(self, node: ast.expr) -> ast.expr | None:
        scope = self.scope
        if scope.names.walrus and any(isinstance(n, ast.NamedExpr) for n in walk(node)):
            if scope.hoisted is None or scope.hidden:
                return None
            return self._hoist(node)
        with self.inside():
            return thunk(self.expr(node))

    def _hoist(self, node: ast.expr) -> ast.expr:
        """The name of a function that evaluates `node` and is defined before the statement: it binds variables."""
        scope = self.scope
        scope.thunks += 1
        name = f"_tjit_operand_{scope.thunks}"
        with self.inside() as frame, self.hoisting() as hoisted:
            value = put(ast.Return(self.expr(node)), node)
            definition = define(name, (), [*self.declarations(frame, node), *hoisted, value], node)
        assert scope.hoisted is not None
        scope.hoisted.append(definition)
        return load(name, node)

    def declarations(self, frame: Frame, like: ast.AST) -> list[ast.stmt]:
        """What makes the names that a made function binds those of the user's function."""
        names = self.scope.names
        shared = [n for n in frame.bound if n not in names.global_]
        result: list[ast.stmt] = [put(ast.Nonlocal(shared), like)] if shared else []
        if len(shared) < len(frame.bound):
            result.append(put(ast.Global([n for n in frame.bound if n in names.global_]), like))
        return result

    def delayed_all(self, nodes: list[ast.expr]) -> list[ast.expr] | None:
        """`delayed` for each, or None where one of them cannot be."""
        fixed = self.scope.names.walrus and (self.scope.hoisted is None or self.scope.hidden)
        if fixed and any(isinstance(n, ast.NamedExpr) for node in nodes for n in walk(node)):
            return None
        return [d for d in map(self.delayed, nodes) if d is not None]

    def _boolean(self, node: ast.BoolOp) -> ast.expr:
        operands = None if is_static(node) else self.delayed_all(node.values)
        if operands is None:
            with self.perhaps():
                self.inner(node)
            return node
        names = ("and_", "or_") if node in self._conditions else ("first_false", "first_true")
        return call(names[isinstance(node.op, ast.Or)], operands, node)

    def condition(self, node: ast.expr) -> ast.expr:
        """`node`, still to be rewritten, of which only the truth counts."""
        if isinstance(node, ast.BoolOp):
            self._conditions.add(node)
            for value in node.values:
                self.condition(value)
        return node

    def _unary(self, node: ast.UnaryOp) -> ast.expr:
        static = is_static(node)
        if isinstance(node.op, ast.Not):
            self.condition(node.operand)
        node.operand = self.expr(node.operand)
        if static or not isinstance(node.op, ast.Not):
            return node
        return call("not_", [node.operand], node)

    def _choice(self, node: ast.IfExp) -> ast.expr:
        static = is_static(node.test)
        branches = None
        test = self.expr(self.condition(node.test))
        if not static:
            branches = self.delayed_all([node.body, node.orelse])
        if branches is None:
            with self.perhaps():
                node.test, node.body, node.orelse = test, self.expr(node.body), self.expr(node.orelse)
            return node
        return call("if_expr", [test, *branches], node)

    def _compare(self, node: ast.Compare) -> ast.expr:
        left = self.expr(node.left)
        later = None if len(node.ops) == 1 or is_static(node) else self.delayed_all(node.comparators)
        if later is None:
            node.left = left
            first, *rest = node.comparators
            node.comparators = [self.expr(first)]
            with self.perhaps():
                node.comparators += map(self.expr, rest)
            return node
        operands = [left]
        for op, right in zip(node.ops, later, strict=True):
            operands += [constant(_COMPARISONS[type(op)], node), right]
        return call("compare", operands, node)

    def _walrus(self, node: ast.NamedExpr) -> ast.expr:
        node.value = self.expr(node.value)
        node.target = self.expr(node.target)  # pyright: ignore[reportAttributeAccessIssue]  # a target stays one
        return node

    def _lambda(self, node: ast.Lambda) -> ast.expr:
        self.inner(node.args)
        names = find_names(node)
        if names.generates:
            return node
        with self.within(self.enter(node, names)):
            node.body = self.expr(node.body)
        return node

    def _comprehension(self, node: ast.expr) -> ast.expr:
        """Its loops stay Python's; the first iterable is evaluated outside of it."""
        assert isinstance(node, (ast.ListComp, ast.SetComp, ast.DictComp, ast.GeneratorExp))
        if any(g.is_async for g in node.generators):
            return node
        first = node.generators[0]
        first.iter = self.expr(first.iter)
        self.scope.hidden.append(frozenset().union(*(target_names(g.target) for g in node.generators)))
        bound = set(self.scope.bound)
        try:
            for generator in node.generators:
                generator.target = self.expr(generator.target)
                if generator is not first:
                    generator.iter = self.expr(generator.iter)
                generator.ifs = [self.expr(self.condition(test)) for test in generator.ifs]
            for part in ("key", "value", "elt"):
                if hasattr(node, part):
                    setattr(node, part, self.expr(getattr(node, part)))
        finally:
            self.scope.hidden.pop()
            self.scope.bound = bound
        return node
