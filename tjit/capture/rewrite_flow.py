"""Rewrite the statements of a function: branches and loops become functions that `tjit.capture.operators` calls.

    if test:                       def then(): nonlocal y; y = a
        y = a                      def orelse(): nonlocal y; y = b
    else:                          _tjit_.if_(test, then, orelse, variables(("y",), 1, live))
        y = b

Jumps out of such functions are assignments to flags; what would be jumped over goes into the other branch, or runs
only where no flag is set. Statements whose condition is surely Python's, and jumps among them, stay what they are.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import dataclass, replace

from tjit.capture.dataflow import LOOPS, TRIES, Flows, Names, find_names, imported
from tjit.capture.rewrite import Expressions, Record, Scope, is_static
from tjit.capture.syntax import assign, call, constant, define, load, operator, put, store, thunk
from tjit.errors import CaptureError
from tjit.location import Location

__all__ = ["Statements"]

VALUE = "_tjit_value"
RETURNED = "_tjit_returned"
VARIABLES = "_tjit_variables"
THUNKS = frozenset({"_tjit_then", "_tjit_else", "_tjit_test", "_tjit_body"})
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class _Place:
    """Where a block of statements stands.

    Attributes:
        native: jumps that may be written as such.
        tail: jumps that lead where the end of the block leads.
        loop: the number of the loop around that flags belong to.
        elsewhere: names that are live where jumps lead.
    """

    native: frozenset[str]
    tail: frozenset[str] = _NONE
    loop: int = 0
    elsewhere: frozenset[str] = _NONE


class Statements(Expressions):
    """Rewrites functions. `file` is the user's, for errors."""

    file = ""
    _like: ast.AST

    @property
    def flows(self) -> Flows:
        return self.scope.flows

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
        place = _Place(native, native if lowers else _NONE)
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

    # -- blocks --------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt], place: _Place, live: frozenset[str]) -> list[ast.stmt]:
        """The rewritten statements of a block behind which `live` are live."""
        out: list[ast.stmt] = []
        after, _ = self.flows.after(body, live, place.elsewhere)
        for i, node in enumerate(body):
            if isinstance(node, (ast.Return, ast.Break, ast.Continue)):
                return out + self._jump(node, place)
            jumps = self._lowered(node, place.native)
            if jumps or (isinstance(node, LOOPS) and node.orelse and not self._is_native_loop(node, place.native)):
                return out + self._jumping(node, list(body[i + 1 :]), place, jumps, after[i], live)
            out += self.statement(node, replace(place, tail=_NONE), after[i])
            if not self.flows.of(node).completes:
                return out
        return out + self._end(place, body[-1] if body else None)

    def _end(self, place: _Place, like: ast.AST | None) -> list[ast.stmt]:
        """What the end of a block means: a function without `return` returns None."""
        if "return" not in place.tail:
            return []
        like = like if like is not None else self._like
        self.bind(VALUE)
        return [assign(VALUE, constant(None, like), like)]

    def _jumping(
        self,
        node: ast.stmt,
        rest: list[ast.stmt],
        place: _Place,
        jumps: frozenset[str],
        after: frozenset[str],
        live: frozenset[str],
    ) -> list[ast.stmt]:
        """A statement that may jump by flags, and the rest of its block."""
        if isinstance(node, LOOPS) and node.orelse:
            node, rest = self._without_else(node, rest)
            _, after = self.flows.after(rest, live, place.elsewhere)
            jumps = self._lowered(node, place.native)
            if not jumps:
                return self.statement(node, replace(place, tail=_NONE), after) + self.block(rest, place, live)
        if isinstance(node, ast.If):
            then, orelse = self.flows.block(node.body).completes, self.flows.block(node.orelse).completes
            if not rest or not (then and orelse):
                body = [*node.body, *rest] if then else node.body
                other = [*node.orelse, *rest] if orelse else node.orelse
                return self._if(node, body, other, place, live)
        out = self.statement(node, replace(place, tail=_NONE), after | place.elsewhere)
        if not self.flows.of(node).completes and not isinstance(node, LOOPS):
            rest = []
        if not rest and "return" not in place.tail:
            return out
        guard = put(ast.If(self._no_jump(jumps, place, node), rest, []), node)
        return out + self._if(guard, rest, None, place, live)

    def _without_else(self, node: ast.stmt, rest: list[ast.stmt]) -> tuple[ast.stmt, list[ast.stmt]]:
        """A loop without its `else`, which becomes a part of what follows."""
        assert isinstance(node, LOOPS)
        orelse = node.orelse
        copy: ast.stmt
        if isinstance(node, ast.For):
            copy = put(ast.For(node.target, node.iter, node.body, []), node)
        else:
            copy = put(ast.While(node.test, node.body, []), node)
        if "break" in self.flows.block(node.body).jumps:
            test = put(ast.UnaryOp(ast.Not(), load(self._break_flag(copy), node)), node)
            orelse = [put(ast.If(test, orelse, []), orelse[0])]
        return copy, [*orelse, *rest]

    def _no_jump(self, jumps: frozenset[str], place: _Place, like: ast.stmt) -> ast.expr:
        """A condition: none of the flags of `jumps` is set."""
        flags: list[ast.expr] = [load(self._flag(j, place), like) for j in sorted(jumps)]
        some = flags[0] if len(flags) == 1 else put(ast.BoolOp(ast.Or(), flags), like)
        return put(ast.UnaryOp(ast.Not(), some), like)

    def _flag(self, jump: str, place: _Place) -> str:
        name = RETURNED if jump == "return" else f"_tjit_{jump}_{place.loop}"
        self.scope.flags.add(name)
        return name

    def _jump(self, node: ast.stmt, place: _Place) -> list[ast.stmt]:
        """A `return`, `break` or `continue`."""
        kind = type(node).__name__.lower()
        with self.hoisting() as hoisted:
            if isinstance(node, ast.Return) and node.value is not None:
                node.value = self.expr(node.value)
        if kind in place.native:
            return [*hoisted, node]
        out: list[ast.stmt] = hoisted
        if isinstance(node, ast.Return):
            self.bind(VALUE)
            out.append(assign(VALUE, node.value or constant(None, node), node))
        if kind not in place.tail:
            flag = self._flag(kind, place)
            self.bind(flag)
            out.append(assign(flag, constant(True, node), node))
        return out or [put(ast.Pass(), node)]

    # -- which jumps become flags --------------------------------------------------------------------------------------

    def _lowered_block(self, body: Sequence[ast.stmt], native: frozenset[str]) -> frozenset[str]:
        """The jumps out of a block that cannot be written as such, where `native` could."""
        found = _NONE
        for node in body:
            found |= self._lowered(node, native)
            if not self.flows.of(node).completes:
                break
        return found

    def _lowered(self, node: ast.stmt, native: frozenset[str]) -> frozenset[str]:
        jumps = self.flows.of(node).jumps
        if not jumps or isinstance(node, (ast.Return, ast.Break, ast.Continue)):
            return jumps - native
        if isinstance(node, ast.If):
            return self._jumps(node.body, node.orelse, native) if is_static(node.test) else jumps
        if isinstance(node, LOOPS):
            return _NONE if self._is_native_loop(node, native) else jumps
        return _NONE.union(*(self._lowered_block(b, native) for b in self._blocks(node)))

    def _is_native_loop(self, node: ast.stmt, native: frozenset[str]) -> bool:
        """Whether a loop is surely Python's, and so is every jump in it."""
        assert isinstance(node, LOOPS)
        if node in self.scope.numbers:  # its flag is asked for
            return False
        if not (is_static(node.test) if isinstance(node, ast.While) else _is_display(node.iter)):
            return False
        inside = native | {"break", "continue"}
        return not self._lowered_block(node.body, inside) and not self._lowered_block(node.orelse, native)

    def _blocks(self, node: ast.stmt) -> list[list[ast.stmt]]:
        """The blocks of a `with`, `try` or `match` that can be reached."""
        if isinstance(node, ast.With):
            return [node.body]
        if isinstance(node, ast.Match):
            return [c.body for c in node.cases]
        if not isinstance(node, TRIES):
            return []
        orelse = [node.orelse] if self.flows.block(node.body).completes else []
        return [node.body, *orelse, node.finalbody, *(h.body for h in node.handlers)]

    # -- statements ----------------------------------------------------------------------------------------------------

    def statement(self, node: ast.stmt, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
        """One rewritten statement, with what must come before it."""
        self._like = node
        with self.hoisting() as hoisted:
            out = self._statement(node, place, live)
        return [*hoisted, *out]

    def _statement(self, node: ast.stmt, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
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
        operands = self.delayed_all([node.test] if node.msg is None else [node.test, node.msg])
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

    # -- branches ------------------------------------------------------------------------------------------------------

    def _if(
        self,
        node: ast.If,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt] | None,
        place: _Place,
        live: frozenset[str],
    ) -> list[ast.stmt]:
        """`if node.test: body else: orelse`; without `orelse` it is a guard: what it guards against has been done."""
        self._like = node
        static = is_static(node.test)
        jumps = self._jumps(body, orelse or (), place.native if static else _NONE)
        with self.recording() as record:
            with self.hoisting() as hoisted:
                test = self.expr(node.test)
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
        run = call("if_", [test, *names, self._state(record, live, test)], test)
        return [*hoisted, *functions, put(ast.Expr(run), test)]

    def _jumps(self, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], native: frozenset[str]) -> frozenset[str]:
        return self._lowered_block(body, native) | self._lowered_block(orelse, native)

    def _live_flags(self, jumps: frozenset[str], place: _Place) -> frozenset[str]:
        flags = {self._flag_name(j, place) for j in jumps}
        return frozenset(flags | {VALUE}) if "return" in jumps or "return" in place.tail else frozenset(flags)

    def _flag_name(self, jump: str, place: _Place) -> str:
        return RETURNED if jump == "return" else f"_tjit_{jump}_{place.loop}"

    def _branch(
        self, name: str, body: Sequence[ast.stmt], place: _Place, live: frozenset[str], like: ast.stmt
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
        place: _Place,
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

    def _state(self, record: Record, live: frozenset[str], like: ast.AST) -> ast.expr:
        """The variables of a statement, as the operators see them."""
        scope = self.scope
        scope.asks = True
        assigned = list(record.assigned)
        touched = [p for p in record.touched if p not in record.assigned]
        for path in (*assigned, *touched):
            root = path.partition(".")[0]
            if root in scope.local or root in scope.outer or root in scope.flags or root == VALUE:
                scope.asked.add(root)
        alive = [n for n in assigned if n in live or n in scope.always or "." in n]
        operands = [tuple(assigned + touched), len(assigned), frozenset(alive + touched)]
        return put(ast.Call(load(VARIABLES, like), [constant(o, like) for o in operands], []), like)

    # -- loops ---------------------------------------------------------------------------------------------------------

    def _break_flag(self, loop: ast.stmt) -> str:
        name = f"_tjit_break_{self._number(loop)}"
        self.scope.flags.add(name)
        return name

    def _number(self, loop: ast.stmt) -> int:
        numbers = self.scope.numbers
        return numbers.setdefault(loop, len(numbers) + 1)

    def _loop(self, node: ast.stmt, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        live = live | self.flows.of(node).reads  # behind the last trip, or at the start of the next
        if self._is_native_loop(node, place.native):
            return self._native_loop(node, place, live)
        number = self._number(node)
        jumps = self.flows.block(node.body).jumps
        inner = _Place(_NONE, frozenset({"continue"}), number, live | place.elsewhere)
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
        run.args.insert(2, self._state(record, live | flags, run))
        return before + out

    def _native_loop(self, node: ast.stmt, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        native = place.native | {"break", "continue"}
        inner = _Place(native, _NONE, place.loop, live | place.elsewhere)
        if isinstance(node, ast.For):
            node.iter = self.expr(node.iter)
        before = set(self.scope.bound)
        if isinstance(node, ast.For):
            node.target = self.expr(node.target)
        else:
            node.test = self.expr(node.test)
        node.body = self.block(node.body, inner, live) or [put(ast.Pass(), node)]
        self.scope.bound = set(before)
        node.orelse = self.block(node.orelse, place, live)
        self.scope.bound = before
        return [node]

    def _for(self, node: ast.For, inner: _Place, live: frozenset[str], stops: list[str]) -> list[ast.stmt]:
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
                operands.append(thunk(self.expr(self._none_set(stops, node.iter))))
        return [function, put(ast.Expr(call("for_", operands, node.iter)), node.iter)]

    def _loop_body(self, node: ast.stmt, inner: _Place, live: frozenset[str]) -> list[ast.stmt]:
        assert isinstance(node, LOOPS)
        skip = f"_tjit_continue_{inner.loop}"
        body = self.block(node.body, inner, live)
        if skip in self.scope.flags:
            self.bind(skip)
            body.insert(0, assign(skip, constant(False, node), node))
        return body

    def _none_set(self, stops: list[str], like: ast.AST) -> ast.expr:
        flags: list[ast.expr] = [load(s, like) for s in stops]
        some = flags[0] if len(flags) == 1 else put(ast.BoolOp(ast.Or(), flags), like)
        return put(ast.UnaryOp(ast.Not(), some), like)

    def _while(self, node: ast.While, inner: _Place, live: frozenset[str], stops: list[str]) -> list[ast.stmt]:
        test = node.test
        if stops:
            goes_on = self._none_set(stops, test)
            endless = isinstance(test, ast.Constant) and bool(test.value)
            test = goes_on if endless else put(ast.BoolOp(ast.And(), [goes_on, test]), test)
        with self.inside() as frame, self.hoisting() as hoisted:
            value = put(ast.Return(self.expr(test)), test)
            checks = [*self.declarations(frame, node), *hoisted, value]
        with self.inside() as frame:
            body = self._loop_body(node, inner, live) or [put(ast.Pass(), node)]
            body = [*self.declarations(frame, node), *body]
        functions: list[ast.stmt] = [define("_tjit_test", (), checks, node), define("_tjit_body", (), body, node)]
        operands: list[ast.expr] = [load("_tjit_test", test), load("_tjit_body", test)]
        return [*functions, put(ast.Expr(call("while_", operands, test)), test)]

    # -- statements that stay Python's ---------------------------------------------------------------------------------

    def inner_items(self, node: ast.With) -> None:
        for item in node.items:
            item.context_expr = self.expr(item.context_expr)
            if item.optional_vars is not None:
                item.optional_vars = self.expr(item.optional_vars)

    def _try(self, node: ast.stmt, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
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
        self, jumps: frozenset[str], body: list[ast.stmt], place: _Place, live: frozenset[str], like: ast.stmt
    ) -> list[ast.stmt]:
        """`body`, which must not run where one of `jumps` was taken."""
        if not body or not jumps:
            return self.block(body, place, live)
        guard = put(ast.If(self._no_jump(jumps, place, like), body, []), like)
        return self._if(guard, body, None, place, live)

    def _match(self, node: ast.Match, place: _Place, live: frozenset[str]) -> list[ast.stmt]:
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


def _is_display(node: ast.expr) -> bool:
    """Whether an iterable is written out: Python runs through it."""
    return isinstance(node, (ast.Tuple, ast.List)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, tuple))
    )


def _meet(a: set[str] | None, b: set[str] | None, before: set[str]) -> set[str]:
    """What is bound behind two branches, of which None is never left."""
    if a is None and b is None:
        return set(before)
    return (b or set()) if a is None else a if b is None else a & b
