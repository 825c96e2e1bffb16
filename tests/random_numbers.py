"""Random functions that compute with Python numbers which vary, and keep some of them: compiled they must be Python.

python tests/random_numbers.py --count 1000 --start 0 [--show]
"""

from __future__ import annotations

import argparse
import linecache
import random
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import numpy as np

import tjit

_INTS = ("n", "s.i", "s.j", "s.log['k']", "s.row[1]")
_FLOATS = ("r", "s.f", "s.log['g']", "s.row[0]")
_COMPARED = ("<", "<=", "==", "!=", ">", ">=")


class _Writer:
    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.lines = ["def f(x, n, r):", "    y = x"]

    def function(self) -> str:
        for _ in range(self.rng.randrange(2, 7)):
            self.statement("    ")
        tensors = self.rng.choice(("y", f"y * {self.number(2)}", f"y + {self.int(2)}"))
        self.lines.append(f"    return {tensors}, {self.number(2)}, {self.int(1)}")
        return "\n".join(self.lines) + "\n"

    def statement(self, indent: str, depth: int = 2) -> None:
        kind = self.rng.randrange(7)
        if kind == 0 and depth:
            self.lines.append(f"{indent}if {self.condition()}:")
            self.statement(indent + "    ", depth - 1)
            self.lines.append(f"{indent}else:")
            self.statement(indent + "    ", depth - 1)
        elif kind <= 2:
            self.lines.append(f"{indent}{self.rng.choice(_INTS)} = {self.int(2)}")
        elif kind == 3:
            self.lines.append(f"{indent}{self.rng.choice(_FLOATS)} = {self.number(2)} * 1.0")
        elif kind == 4:
            self.lines.append(f"{indent}{self.rng.choice(_INTS)} {self.rng.choice(('+=', '-=', '*='))} {self.int(1)}")
        elif kind == 5:
            self.lines.append(f"{indent}y = y {self.rng.choice('+-*')} {self.number(2)}")
        else:
            self.lines.append(f"{indent}y = y + (s.table[{self.int(1)} % 3] if {self.condition()} else {self.int(1)})")

    def condition(self) -> str:
        test = f"{self.number(0)} {self.rng.choice(_COMPARED)} {self.number(0)}"
        return self.rng.choice((test, f"{self.int(0)} % {self.rng.randrange(2, 4)} == 0", f"not {self.int(0)}"))

    def int(self, depth: int) -> str:
        if not depth or self.rng.random() < 0.2:
            return self.rng.choice((*_INTS, str(self.rng.randrange(-3, 6))))
        a, b = self.int(depth - 1), self.int(depth - 1)
        forms = (
            f"({a} + {b})", f"({a} - {b})", f"({a} * {b})", f"({a} // {b})", f"({a} % {b})", f"-{a}", f"abs({a})",
            f"min({a}, {b})", f"max({a}, {b}, 1)", f"int({self.float(depth - 1)})", f"round({self.float(depth - 1)})",
            f"({a} & 7)", f"({a} << 2)", f"({a} >> 1)", f"({a} if {self.condition()} else {b})",
        )  # fmt: skip
        return self.rng.choice(forms)

    def float(self, depth: int) -> str:
        if not depth or self.rng.random() < 0.2:
            return self.rng.choice((*_FLOATS, "0.5", "-1.25"))
        a, b, i = self.float(depth - 1), self.float(depth - 1), self.int(depth - 1)
        forms = (
            f"({a} + {b})", f"({a} * {i})", f"({a} / {b})", f"({i} / {self.int(depth - 1)})", f"abs({a})",
            f"({a} - {b})", f"math.cos({a})", f"math.sqrt({a})", f"min({a}, {b})", f"({a} % {b})", f"0.5 ** {i}",
            f"float({i})", f"math.floor({a})", f"round({a}, 2)",
        )  # fmt: skip
        return self.rng.choice(forms)

    def number(self, depth: int) -> str:
        return self.rng.choice((self.int, self.float))(depth)


def function(seed: int) -> tuple[Callable[..., Any], str]:
    """A random function of a tensor, an int and a float, with its state as the global `s`; and its text."""
    text = "import math\n\n" + _Writer(random.Random(seed)).function()
    file = f"<random numbers {seed}>"
    linecache.cache[file] = (len(text), None, text.splitlines(True), file)
    space: dict[str, Any] = {"s": state()}
    exec(compile(text, file, "exec"), space)
    return space["f"], text


def state() -> SimpleNamespace:
    """What the functions keep their numbers in."""
    return SimpleNamespace(i=0, j=3, f=0.5, log={"k": 1, "g": 2.0}, row=[0.25, 2], table=[1.0, 2.0, 4.0])


def outcome(f: Callable[..., Any], call: int) -> tuple[str, Any]:
    """What a call returns or raises, as text that tells numbers apart, and the tensor."""
    try:
        y, *numbers = f(tjit.tensor([1.0, -2.0], dtype=tjit.float64), call % 5 - 1, call / 4)
    except (ArithmeticError, ValueError, TypeError) as error:
        return type(error).__name__, None
    return repr([(type(v).__name__, v) for v in numbers]), y.numpy()


def check(seed: int, calls: int = 12) -> str | None:
    """What is wrong with the compiled function of a seed; None where nothing is."""
    (f, text), (eager, _) = function(seed), function(seed)
    ours, theirs = f.__globals__["s"], eager.__globals__["s"]
    compiled = tjit.compile(f)
    for call in range(calls):
        want, y = outcome(eager, call)
        got, z = outcome(compiled, call)
        if got != want or repr(ours) != repr(theirs):
            return f"{text}call {call}: {got} {ours}\n  instead of {want} {theirs}"
        if y is not None and not np.allclose(z, y, rtol=1e-12, atol=0, equal_nan=True):
            return f"{text}call {call}: {z} instead of {y}"
        if max(abs(ours.i), abs(ours.j)) > 2**200:
            break
    return None


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    for seed in range(options.start, options.start + options.count):
        if options.show:
            print(seed, function(seed)[1])
        problem = check(seed)
        if problem is not None:
            print(f"seed {seed}\n{problem}")


if __name__ == "__main__":
    main()
