"""Random Python functions of nested control flow and jumps, on plain numbers and lists."""

from __future__ import annotations

import linecache
import random
from types import FunctionType

NAMES = ("a", "b", "c", "d")
_STEPS = 400  # of one call; more raise


def function(seed: int) -> FunctionType:
    """A random function `f(a, b)` whose source can be read."""
    text = _Writer(random.Random(seed)).function()
    file = f"<random source {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space: dict = {"tick": _tick}
    exec(compile(text, file, "exec"), space)
    return space["f"]


def _tick(log: list) -> None:
    log.append("tick")
    if len(log) > _STEPS:
        raise TimeoutError("too many steps")


def arguments(seed: int) -> list[tuple[int, int]]:
    """Arguments to call it with."""
    rng = random.Random(-seed - 1)
    return [(rng.randrange(-2, 5), rng.randrange(-2, 5)) for _ in range(6)]


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines: list[str] = []
        self.left = 40
        self.inner = 0

    def function(self) -> str:
        self.put(0, "def f(a, b):")
        self.put(1, "log = []")
        if self.rng.random() < 0.7:
            self.put(1, "c = a - b")
        self.block(1, loop=False, function=True)
        if self.rng.random() < 0.8:
            self.put(1, f"return log, {self.expression()}")
        return "\n".join(self.lines) + "\n"

    def put(self, depth: int, line: str) -> None:
        self.lines.append("    " * depth + line)

    def block(self, depth: int, loop: bool, function: bool) -> None:
        for _ in range(self.rng.randint(1, 4)):
            self.statement(depth, loop, function)

    def statement(self, depth: int, loop: bool, function: bool) -> None:
        self.left -= 1
        simple = [self.assign, self.augment, self.note]
        compound = [self.if_, self.if_, self.for_, self.while_, self.try_, self.with_else, self.define]
        if self.left > 0 and depth < 6 and self.rng.random() < 0.6:
            self.rng.choice(compound)(depth, loop, function)
        elif self.rng.random() < 0.3:
            self.jump(depth, loop, function)
        else:
            self.rng.choice(simple)(depth)

    # statements

    def assign(self, depth: int) -> None:
        if self.rng.random() < 0.2:
            x, y = self.rng.sample(NAMES, 2)
            self.put(depth, f"{x}, {y} = {self.expression()}, {self.expression()}")
        else:
            self.put(depth, f"{self.rng.choice(NAMES)} = {self.expression()}")

    def augment(self, depth: int) -> None:
        self.put(depth, f"{self.rng.choice(NAMES)} {self.rng.choice(['+=', '-=', '|='])} {self.expression()}")

    def note(self, depth: int) -> None:
        self.put(depth, f"log.append({self.expression()})")

    def jump(self, depth: int, loop: bool, function: bool) -> None:
        choices = ["return log", f"return {self.expression()}", "pass", "raise ValueError(log)"]
        if loop:
            choices += ["break", "continue", "break", "continue"]
        if self.rng.random() < 0.1:
            choices = [f"del {self.rng.choice(NAMES)}", f"assert {self.condition()}, log"]
        self.put(depth, self.rng.choice(choices))

    def if_(self, depth: int, loop: bool, function: bool) -> None:
        self.put(depth, f"if {self.condition()}:")
        self.block(depth + 1, loop, function)
        if self.rng.random() < 0.3:
            self.put(depth, f"elif {self.condition()}:")
            self.block(depth + 1, loop, function)
        if self.rng.random() < 0.5:
            self.put(depth, "else:")
            self.block(depth + 1, loop, function)

    def for_(self, depth: int, loop: bool, function: bool) -> None:
        items = self.rng.choice([f"range({self.expression()} % 4)", "(1, 2, 3)", "[a, b]", "range(3)"])
        self.put(depth, f"for {self.rng.choice(NAMES)} in {items}:")
        self.put(depth + 1, "tick(log)")
        self.block(depth + 1, True, function)
        self.orelse(depth, loop, function)

    def while_(self, depth: int, loop: bool, function: bool) -> None:
        self.put(depth, f"while {self.rng.choice([self.condition(), self.condition(), 'True'])}:")
        self.put(depth + 1, "tick(log)")
        self.block(depth + 1, True, function)
        self.orelse(depth, loop, function)

    def orelse(self, depth: int, loop: bool, function: bool) -> None:
        if self.rng.random() < 0.3:
            self.put(depth, "else:")
            self.block(depth + 1, loop, function)

    def try_(self, depth: int, loop: bool, function: bool) -> None:
        self.put(depth, "try:")
        self.block(depth + 1, loop, function)
        if self.rng.random() < 0.7:
            caught = self.rng.choice(["ValueError", "(NameError, TypeError)", "UnboundLocalError", "ValueError as d"])
            self.put(depth, f"except {caught}:")
            self.block(depth + 1, loop, function)
            self.orelse(depth, loop, function)
        self.put(depth, "finally:")
        self.note(depth + 1)

    def with_else(self, depth: int, loop: bool, function: bool) -> None:
        self.put(depth, f"if {self.rng.choice(NAMES)} is None:")
        self.block(depth + 1, loop, function)
        self.put(depth, "else:")
        self.block(depth + 1, loop, function)

    def define(self, depth: int, loop: bool, function: bool) -> None:
        self.inner += 1
        name = f"g{self.inner}"
        self.put(depth, f"def {name}(x):")
        if self.rng.random() < 0.5:
            self.put(depth + 1, f"nonlocal {'a'}")
            self.put(depth + 1, f"a = {self.expression()}")
        self.put(depth + 1, f"if {self.condition()}:")
        self.put(depth + 2, f"return {self.expression()}")
        self.put(depth + 1, "return x")
        self.put(depth, f"log.append({name}({self.expression()}))")

    # expressions

    def atom(self) -> str:
        return self.rng.choice([*NAMES[:2], *NAMES, "1", "2", "0", "len(log)"])

    def expression(self, depth: int = 0) -> str:
        roll = self.rng.random()
        if depth > 2 or roll < 0.45:
            return self.atom()
        x, y = self.expression(depth + 1), self.expression(depth + 1)
        if roll < 0.75:
            return f"({x} {self.rng.choice('+-*')} {y}) % 7"
        if roll < 0.85:
            return f"({x} if {self.condition(depth + 1)} else {y})"
        if roll < 0.9:
            return f"sum(q * {x} for q in range(3) if q or {y})"
        return f"({x} {self.rng.choice(['and', 'or'])} {y})"

    def condition(self, depth: int = 0) -> str:
        x, y = self.expression(depth + 1), self.expression(depth + 1)
        compare = f"{x} {self.rng.choice(['<', '>', '==', '!=', '<='])} {y}"
        roll = self.rng.random()
        if roll < 0.1:
            return f"({self.rng.choice(NAMES)} := {x}) > {y}"
        if roll < 0.2 and depth < 2:
            return f"not ({self.condition(depth + 1)})"
        if roll < 0.35 and depth < 2:
            return f"{compare} {self.rng.choice(['and', 'or'])} {self.condition(depth + 1)}"
        return f"{compare} < {self.atom()}" if roll < 0.5 else compare
