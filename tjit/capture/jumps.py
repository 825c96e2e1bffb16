"""Lower jumps out of functions that are made for parts of a user's function.

Such a jump is an assignment to a flag. What it would jump over goes into the other branch, or runs only where no flag
is set:

    if test: return a              def then(): value = a
    rest                           def orelse(): rest

Statements whose condition is surely Python's, and jumps among them, stay what they are.
"""

from __future__ import annotations

import ast
from collections.abc import Sequence
from dataclasses import replace

from tjit.capture.dataflow import LOOPS, TRIES, Flows
from tjit.capture.expressions import Expressions
from tjit.capture.frames import is_static
from tjit.capture.syntax import assign, constant, load, put
from tjit.dataclass import dataclass

__all__ = ["RETURNED", "VALUE", "Jumps", "Place"]

VALUE = "_tjit_value"
RETURNED = "_tjit_returned"
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Place:
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


class Jumps(Expressions):
    """Rewrites blocks of statements."""

    _like: ast.AST

    @property
    def flows(self) -> Flows:
        return self.scope.flows

    def statement(self, node: ast.stmt, place: Place, live: frozenset[str]) -> list[ast.stmt]:
        """One rewritten statement, with what must come before it."""
        raise NotImplementedError

    def _if(
        self,
        node: ast.If,
        body: Sequence[ast.stmt],
        orelse: Sequence[ast.stmt] | None,
        place: Place,
        live: frozenset[str],
    ) -> list[ast.stmt]:
        """`if node.test: body else: orelse`; without `orelse` it is a guard: what it guards against has been done."""
        raise NotImplementedError

    # -- blocks --------------------------------------------------------------------------------------------------------

    def block(self, body: Sequence[ast.stmt], place: Place, live: frozenset[str]) -> list[ast.stmt]:
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

    def _end(self, place: Place, like: ast.AST | None) -> list[ast.stmt]:
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
        place: Place,
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
        if not self.flows.of(node).completes:
            if isinstance(node, LOOPS) and jumps <= {"return"}:
                return out  # `while True` that only a return ends: what is returned is known behind it
            rest = [] if not isinstance(node, LOOPS) else rest
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

    def _no_jump(self, jumps: frozenset[str], place: Place, like: ast.stmt) -> ast.expr:
        """A condition: none of the flags of `jumps` is set."""
        flags: list[ast.expr] = [load(self._flag(j, place), like) for j in sorted(jumps)]
        some = flags[0] if len(flags) == 1 else put(ast.BoolOp(ast.Or(), flags), like)
        return put(ast.UnaryOp(ast.Not(), some), like)

    def _none_set(self, stops: list[str], like: ast.AST) -> ast.expr:
        flags: list[ast.expr] = [load(s, like) for s in stops]
        some = flags[0] if len(flags) == 1 else put(ast.BoolOp(ast.Or(), flags), like)
        return put(ast.UnaryOp(ast.Not(), some), like)

    def _flag(self, jump: str, place: Place) -> str:
        name = RETURNED if jump == "return" else f"_tjit_{jump}_{place.loop}"
        self.scope.flags.add(name)
        return name

    def _flag_name(self, jump: str, place: Place) -> str:
        return RETURNED if jump == "return" else f"_tjit_{jump}_{place.loop}"

    def _jump(self, node: ast.stmt, place: Place) -> list[ast.stmt]:
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

    def _break_flag(self, loop: ast.stmt) -> str:
        name = f"_tjit_break_{self._number(loop)}"
        self.scope.flags.add(name)
        return name

    def _number(self, loop: ast.stmt) -> int:
        numbers = self.scope.numbers
        return numbers.setdefault(loop, len(numbers) + 1)

    def _jumps(self, body: Sequence[ast.stmt], orelse: Sequence[ast.stmt], native: frozenset[str]) -> frozenset[str]:
        return self._lowered_block(body, native) | self._lowered_block(orelse, native)

    def _live_flags(self, jumps: frozenset[str], place: Place) -> frozenset[str]:
        flags = {self._flag_name(j, place) for j in jumps}
        return frozenset(flags | {VALUE}) if "return" in jumps or "return" in place.tail else frozenset(flags)

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


def _is_display(node: ast.expr) -> bool:
    """Whether an iterable is written out: Python runs through it."""
    return isinstance(node, (ast.Tuple, ast.List)) or (
        isinstance(node, ast.Constant) and isinstance(node.value, (str, tuple))
    )
