"""Rewrite branches and loops: they become functions that `tjit.capture.operators` calls.

if test:                       def then(): nonlocal y; y = a
    y = a                      def orelse(): nonlocal y; y = b
else:                          _tjit_.if_(test, then, orelse, variables(("y",), 1, live))
    y = b
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from tjit.capture.dataflow import LOOPS
from tjit.capture.frames import is_static
from tjit.capture.jumps import RETURNED, VALUE, Jumps, Place
from tjit.capture.syntax import assign, call, constant, define, load, operator, put, thunk

__all__ = ["THUNKS", "Branches"]

THUNKS = frozenset({"_tjit_then", "_tjit_else", "_tjit_test", "_tjit_body"})
_NONE: frozenset[str] = frozenset()


class Branches(Jumps):
    """Rewrites `if`, `for` and `while`."""

    def _if(
        self,
        node: ast.If,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt] | None,
        place: Place,
        live: frozenset[str],
    ) -> list[ast.stmt]:
        """`if node.test: body else: orelse`; without `orelse` it is a guard: what it guards against has been done."""
        self._like = node
        static = is_static(node.test)
        jumps = self._jumps(body, orelse or (), place.native if static else _NONE)
        with self.recording() as record:
            with self.hoisting() as hoisted:
                test = self.expr(self.condition(node.test))
            if static:
                return [*hoisted, *self._native_if(node, test, body, orelse or (), place, live)]
            inner = replace(place, native=_NONE)
            before = self.scope.bound
            then, bound = self._branch("_tjit_then", body, inner, live, node)
            other_place = inner if orelse is not None else replace(inner, tail=_NONE)
            other, other_bound = self._branch("_tjit_else", orelse or (), other_place, live, node)
        self.scope.bound = _meet(bound, other_bound, before)
        live = live | self._live_flags(jumps, place)
        functions: list[ast.stmt] = [f for f in (then, other) if f is not None]
        names: list[ast.expr] = [operator("nothing", test) if f is None else load(f.name, test) for f in (then, other)]
        run = call("if_", [test, *names, self.variables(record, live, test)], test)
        return [*hoisted, *functions, put(ast.Expr(run), test)]

    def _branch(
        self, name: str, body: Sequence[ast.stmt], place: Place, live: frozenset[str], like: ast.stmt
    ) -> tuple[ast.FunctionDef | None, set[str] | None]:
        """A function for one branch (None: it does nothing), and what is bound behind it (None: never there)."""
        with self.inside() as frame:
            lowered = self.block(body, place, live)
            bound = self.scope.bound if self.flows.block(body).completes else None
        if not lowered:
            return None, bound
        return define(name, (), [*self.declarations(frame, like), *lowered], like), bound

    def _native_if(
        self,
        node: ast.If,
        test: ast.expr,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt],
        place: Place,
        live: frozenset[str],
    ) -> list[ast.stmt]:
        before = set(self.scope.bound)
        then = self.block(body, place, live) or [put(ast.Pass(), node)]
        bound = self.scope.bound if self.flows.block(body).completes else None
        self.scope.bound = set(before)
        other = self.block(orelse, place, live)
        other_bound = self.scope.bound if self.flows.block(orelse).completes else None
        self.scope.bound = _meet(bound, other_bound, before)
        return [put(ast.If(test, then, other), node)]

    def _loop(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        live = live | self.flows.of(node).reads  # behind the last trip, or at the start of the next
        if self._is_native_loop(node, place.native):
            return self._native_loop(node, place, live)
        number = self._number(node)
        jumps = self.flows.block(node.body).jumps
        inner = Place(_NONE, frozenset({"continue"}), number, live | place.elsewhere)
        stops = [RETURNED] if "return" in jumps else []
        stops += [self._break_flag(node)] if "break" in jumps else []
        self.scope.flags.update(stops)
        before: list[ast.stmt] = [assign(s, constant(False, node), node) for s in stops if s != RETURNED]
        flags = frozenset({*stops, VALUE} if "return" in jumps else stops)
        with self.recording() as record:
            for stop in stops:
                if stop != RETURNED:
                    self.bind(stop)
            if isinstance(node, ast.For):
                out = self._for(node, inner, live, stops)
            else:
                out = self._while(node, inner, live, stops)
        assert isinstance(out[-1], ast.Expr)
        run = out[-1].value
        assert isinstance(run, ast.Call)
        run.args.insert(2, self.variables(record, live | flags, run))
        return before + out

    def _native_loop(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        native = place.native | {"break", "continue"}
        inner = Place(native, _NONE, place.loop, live | place.elsewhere)
        if isinstance(node, ast.For):
            node.iter = self.expr(node.iter)
        before = set(self.scope.bound)
        if isinstance(node, ast.For):
            node.target = self.expr(node.target)
        else:
            node.test = self.expr(self.condition(node.test))
        node.body = self.block(node.body, inner, live) or [put(ast.Pass(), node)]
        self.scope.bound = set(before)
        node.orelse = self.block(node.orelse, place, live)
        self.scope.bound = before
        return [node]

    def _for(self, node: ast.For, inner: Place, live: frozenset[str], stops: list[str]) -> list[ast.stmt]:
        items = self.expr(node.iter)
        with self.inside() as frame:
            target = self.expr(node.target)
            body = self._loop_body(node, inner, live)
            take = put(ast.Assign([target], load("_tjit_item", node.target)), node.target)
            body = [*self.declarations(frame, node), take, *body]
        function = define("_tjit_body", ["_tjit_item"], body, node)
        operands = [items, load(function.name, node.iter)]
        if stops:
            with self.inside():
                operands.append(thunk(self.expr(self.condition(self._none_set(stops, node.iter)))))
        return [function, put(ast.Expr(call("for_", operands, node.iter)), node.iter)]

    def _loop_body(self, node: ast.stmt, inner: Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        skip = f"_tjit_continue_{inner.loop}"
        body = self.block(node.body, inner, live)
        if skip in self.scope.flags:
            self.bind(skip)
            body.insert(0, assign(skip, constant(False, node), node))
        return body

    def _while(self, node: ast.While, inner: Place, live: frozenset[str], stops: list[str]) -> list[ast.stmt]:
        test = node.test
        if stops:
            goes_on = self._none_set(stops, test)
            endless = isinstance(test, ast.Constant) and bool(test.value)
            test = goes_on if endless else put(ast.BoolOp(ast.And(), [goes_on, test]), test)
        with self.inside() as frame, self.hoisting() as hoisted:
            value = put(ast.Return(self.expr(self.condition(test))), test)
            checks = [*self.declarations(frame, node), *hoisted, value]
        with self.inside() as frame:
            body = self._loop_body(node, inner, live) or [put(ast.Pass(), node)]
            body = [*self.declarations(frame, node), *body]
        functions: list[ast.stmt] = [define("_tjit_test", (), checks, node), define("_tjit_body", (), body, node)]
        operands: list[ast.expr] = [load("_tjit_test", test), load("_tjit_body", test)]
        return [*functions, put(ast.Expr(call("while_", operands, test)), test)]


def _meet(a: set[str] | None, b: set[str] | None, before: set[str]) -> set[str]:
    """What is bound behind two branches, of which None is never left."""
    if a is None and b is None:
        return set(before)
    return (b or set()) if a is None else a if b is None else a & b
