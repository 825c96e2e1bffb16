"""Random functions with control flow on tensors: compiled they must be what they are eager.

    python tests/random_control.py --count 1000 --start 0 [--show]

A seed gives one function of a matrix, a vector and a tensor that it writes: nested `if`, `for` and `while` whose
conditions, bounds and indices depend on tensors, counters and sizes, with `break`, `continue`, early `return`, writes
to elements and slices, numbers that loops change, lists that grow, and calls. Results, what is written into the
arguments, and gradients are compared with the function run eagerly. Values stay small: every assignment is squashed.
"""

from __future__ import annotations

import argparse
import importlib.util
import random
import sys
import tempfile
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import tjit
from tjit.errors import AutogradError

_HEADER = """import tjit
from tjit import cos, sin, stack, tanh, where


def mix(a, b):
    if a.sum() > b.sum():
        return 0.5 * a + 0.25 * b
    return tanh(a) - 0.25 * b


def settle(s, steps):
    for _ in range(steps):
        if s.abs() < 0.25:
            return s + 0.125
        s = 0.5 * s
    return s


"""


class Writer:
    """Writes one function. Variables keep their kind: v* vectors, m* matrices, s* 0-d, k* ints."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.depth = 1
        self.vectors = ["x", "v0"]
        self.matrices = ["w", "m0"]
        self.scalars = ["s0", "s1"]
        self.ints = ["k0"]
        self.counters: list[str] = []
        self.loops = 0
        self.names = 0
        self.budget = self.random.randint(1, 7)

    def pick(self, items: list[Any]) -> Any:
        return self.random.choice(items)

    def add(self, line: str) -> None:
        self.lines.append("    " * self.depth + line)

    # -- expressions -----------------------------------------------------------------------------------------------

    def position(self) -> str:
        """An index in [-n, n) of a vector or a matrix' dim."""
        choices = ["0", "-1", "n - 1", "n // 2", f"{self.random.randint(0, 3)}", "k0 % n"]
        choices += [f"{i}" for i in self.counters] + [f"n - 1 - {i}" for i in self.counters]
        choices += [f"({i} + 1) % n" for i in self.counters] + [f"{i} - 1" for i in self.counters]
        return self.pick(choices)

    def bound(self) -> str:
        choices = ["", "1", "-1", "n // 2", "k0", *self.counters, *(f"{i} + 1" for i in self.counters)]
        return self.pick(choices)

    def scalar(self, depth: int = 0) -> str:
        simple = [*self.scalars, f"{self.pick([0.5, -0.25, 1.5])}", f"x[{self.position()}]", "0.125 * k0"]
        simple += [f"w[{self.position()}, {self.position()}]", f"a[{self.position()}]"]
        simple += [f"0.0625 * {i}" for i in self.counters]
        if depth > 1 or self.random.random() < 0.4:
            return self.pick(simple)
        form = self.pick(["+", "-", "*", "sum", "max", "@", "if", "part"])
        if form in "+-*":
            return f"({self.scalar(depth + 1)} {form} {self.scalar(depth + 1)})"
        if form in ("sum", "max"):
            return f"({self.vector(depth + 1)}).{form}()"
        if form == "@":
            return f"(({self.vector(depth + 1)}) @ ({self.vector(depth + 1)}))"
        if form == "if":
            return f"({self.scalar(depth + 1)} if {self.condition(depth + 1)} else {self.scalar(depth + 1)})"
        return f"x[{self.bound()}:{self.bound()}].sum()"

    def vector(self, depth: int = 0) -> str:
        simple = [*self.vectors, f"w[{self.position()}]", f"w[:, {self.position()}]", "a"]
        if depth > 1 or self.random.random() < 0.4:
            return self.pick(simple)
        form = self.pick(["+", "- 0.5 *", "*", "sin", "cos", "tanh", "where", "matrix", "scaled", "rows", "mix", "if"])
        first = self.vector(depth + 1)
        if form in ("+", "- 0.5 *", "*"):
            return f"({first} {form} {self.vector(depth + 1)})"
        if form == "where":
            second = self.vector(depth + 1)
            return f"where({first} > {second}, {first}, 0.5 * {second})"
        if form == "matrix":
            return f"(({self.matrix(depth + 1)}) @ ({first}))"
        if form == "scaled":
            return f"({first} * {self.scalar(depth + 1)})"
        if form == "rows":
            return f"({self.matrix(depth + 1)}).sum(0)"
        if form == "mix":
            return f"mix({first}, {self.vector(depth + 1)})"
        if form == "if":
            return f"({first} if {self.condition(depth + 1)} else {self.vector(depth + 1)})"
        return f"{form}({first})"

    def matrix(self, depth: int = 0) -> str:
        first = self.pick(self.matrices)
        if depth > 1 or self.random.random() < 0.5:
            return first
        second = self.matrix(depth + 1)
        forms = [f"({first} + ({second}).T)", f"({second} * 0.5)", f"tanh({second})", f"({first} @ ({second}))"]
        return self.pick([*forms, f"({first} * {self.vector(depth + 1)})"])

    def condition(self, depth: int = 0) -> str:
        a, b = self.scalar(depth + 1), self.scalar(depth + 1)
        forms = [f"{a} > {b}", f"{a} < 0.25", f"{self.vector(2)}.mean() > 0", "k0 % 2 == 0", f"0 < {a} < 1"]
        forms += [f"{i} % 3 == 1" for i in self.counters] + [f"{i} > n // 2" for i in self.counters]
        if depth < 1 and self.random.random() < 0.3:
            return f"({self.pick(forms)}) {self.pick(['and', 'or', 'and not', 'or not'])} ({self.pick(forms)})"
        return self.pick(forms)

    # -- statements ------------------------------------------------------------------------------------------------

    def assign(self) -> None:
        kind = self.random.random()
        if kind < 0.25:
            name = self.pick(self.vectors[1:])
            self.add(f"{name} = tanh({self.vector()})")
        elif kind < 0.4:
            name = self.pick(self.matrices[1:])
            self.add(f"{name} = tanh({self.matrix()})")
        elif kind < 0.6:
            self.add(f"{self.pick(self.scalars)} = tanh(1.0 * ({self.scalar()}) + 0.0 * x[0])")
        elif kind < 0.7:
            self.add(self.pick(["k0 = k0 + 1", "k0 += 2", "k0 = (3 * k0 + 1) % 7"]))
        else:
            self.write()

    def write(self) -> None:
        targets = [
            f"a[{self.position()}] = sin({self.scalar()} + 0.0 * x[0])",
            "a[1:-1] = 0.5 * a[:-2] + 0.25 * a[2:]",
        ]
        targets += [
            "a *= 0.5",
            f"a += 0.125 * {self.vector(2)}",
            f"m0[{self.position()}, {self.position()}] = {self.scalar(2)}",
        ]
        targets += [f"m0[{self.position()}] = tanh({self.vector(1)})", f"m0[:, {self.position()}] *= 0.5"]
        targets += [f"v0[{self.position()}] += 0.25 * {self.scalar(2)}", f"a[{self.bound()}:] = 0.5"]
        self.add(self.pick(targets))

    def block(self, statements: int) -> None:
        self.depth += 1
        before = len(self.lines)
        for _ in range(statements):
            self.statement()
        if len(self.lines) == before:
            self.add("pass")
        self.depth -= 1

    def statement(self) -> None:
        self.budget -= 1
        kind = self.random.random()
        if self.budget < 0 or self.depth > 4 or kind < 0.5:
            self.assign()
        elif kind < 0.68:
            self.branch()
        elif kind < 0.86:
            self.loop()
        elif kind < 0.92:
            self.repeat()
        elif self.counters and kind < 0.95:
            self.add(f"if {self.condition()}:")
            self.add("    " + self.pick(["break", "continue"]))
        elif kind < 0.965:
            self.add(f"if {self.condition()}:")
            self.add(f"    return {self.vector(1)} + 0.0 * x, {self.scalar(1)} + 0.0 * x[0]")
        elif kind < 0.98:
            self.add(f"s0 = settle(s0 + 0.0 * x[0], {self.random.randint(1, 9)})")
        else:
            self.grow()

    def branch(self) -> None:
        self.add(f"if {self.condition()}:")
        self.block(self.random.randint(1, 2))
        if self.random.random() < 0.3:
            self.add(f"elif {self.condition()}:")
            self.block(1)
        if self.random.random() < 0.6:
            self.add("else:")
            self.block(self.random.randint(1, 2))

    def loop(self) -> None:
        name = f"i{self.loops}"
        self.loops += 1
        ranges = ["range(n)", "range(1, n)", "range(n - 1)", "range(0, n, 2)", "range(n - 1, -1, -1)", "range(3)"]
        ranges += [f"range({i}, n)" for i in self.counters] + [f"range({i})" for i in self.counters]
        self.add(f"for {name} in {self.pick(ranges)}:")
        self.counters.append(name)
        self.block(self.random.randint(1, 3))
        self.counters.pop()

    def repeat(self) -> None:
        self.names += 1
        count = f"t{self.names}"
        self.add(f"{count} = 0")
        self.add(f"while {count} < {self.random.randint(1, 6)} and {self.condition(1)}:")
        self.add(f"    {count} += 1")
        counters, self.counters = self.counters, []
        self.block(self.random.randint(1, 2))
        self.counters = counters

    def grow(self) -> None:
        self.names += 1
        rows, name = f"rows{self.names}", f"j{self.names}"
        self.add(f"{rows} = []")
        self.add(f"for {name} in range(n):")
        self.add(f"    s1 = tanh(s1 + {self.scalar(1)} + 0.0 * x[0])")
        self.add(f"    {rows}.append(s1 * x[{name}])")
        self.add(f"v0 = tanh(stack({rows}))")

    def text(self) -> str:
        self.lines = ["def f(w, x, a):"]
        for line in ("n = x.shape[0]", "v0 = 0.5 * x", "m0 = 0.5 * w", "s0 = 0.0", "s1 = x[0] * 0.5", "k0 = 1"):
            self.add(line)
        while self.budget > 0:
            self.statement()
        self.add("return tanh(v0) + m0.sum(1) + 0.0 * x, s0 + s1 + 0.0 * k0")
        return _HEADER + "\n".join(self.lines) + "\n\n\ndef g(w, x, a):\n    return f(w, x, 1.0 * a)\n"


def load(text: str, folder: Path, seed: int) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """The functions of a program's text, which lies in a file: the second one writes no argument."""
    path = folder / f"program_{seed}.py"
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.f, module.g


@dataclass(frozen=True)
class Kind:
    """What a program's arguments are: how an array of a type becomes one."""

    dtype: type[np.floating]
    wrap: Callable[[np.ndarray], Any]
    tolerance: float  # relative; a tenth of it, times the largest number, absolute


TENSORS = Kind(np.float64, tjit.tensor, 1e-7)


def arguments(kind: Kind, seed: int, size: int, nudged: bool = False) -> list[Any]:
    """A program's arguments. `nudged`: each element to a next number of its type."""
    numbers = np.random.default_rng(seed)
    drawn = (numbers.normal(size=(size, size)), numbers.normal(size=size), numbers.normal(size=size))
    arrays = [a.astype(kind.dtype) for a in drawn]
    ends = [numbers.choice([-np.inf, np.inf], size=a.shape).astype(kind.dtype) for a in arrays]
    return [kind.wrap(np.nextafter(a, end) if nudged else a) for a, end in zip(arrays, ends, strict=True)]


@dataclass(frozen=True)
class Run:
    """How a program is run: on what, of which size, and whether it is differentiated."""

    kind: Kind
    seed: int
    size: int
    gradients: bool

    def outcome(self, f: Callable[..., Any], nudged: bool = False) -> list[np.ndarray]:
        """Results, and the written argument, or the gradients of the results' sum."""
        w, x, a = arguments(self.kind, self.seed, self.size, nudged)
        if not self.gradients:
            results = f(w, x, a)
            return [np.asarray(r) for r in (*results, a)]
        w, x = w.requires_grad_(), x.requires_grad_()
        results = f(w, x, a)
        total = sum(r.sum() for r in results)
        assert isinstance(total, tjit.Tensor)
        total.backward()
        zeros = [np.zeros(t.shape) if t.grad is None else np.asarray(t.grad) for t in (w, x)]
        return [np.asarray(r.detach()) for r in results] + zeros

    def compared(self, f: Callable[..., Any], compiled: Any) -> str | None:
        """What differs between a function and the compiled one; both may refuse arguments."""
        try:
            wanted: Any = self.outcome(f)
        except AutogradError:
            return None  # eager has lost what backward needs
        except (IndexError, RuntimeError, AssertionError) as error:
            wanted = error
        try:
            found = self.outcome(compiled)
        except Exception as error:
            if isinstance(wanted, Exception) or "in place and then binds" in str(error):
                return None  # a loop cannot do both with one variable, and says so
            return "".join(traceback.format_exception(error))
        if isinstance(wanted, Exception):
            return f"eager raises {type(wanted).__name__} {wanted}, compiled gives a result"
        wrong = [i for i, (u, v) in enumerate(zip(wanted, found, strict=True)) if not self._close(u, v)]
        if not wrong:
            return None
        nudged = self.outcome(f, nudged=True)
        for i in wrong:
            if self._close(wanted[i], nudged[i]):  # else it is chaotic: a rounding in the arguments changes it as much
                return f"result {i}: wanted\n{wanted[i]}\nfound\n{found[i]}"
        return None

    def _close(self, a: np.ndarray, b: np.ndarray) -> bool:
        tolerance, size = self.kind.tolerance, np.nanmax(np.abs(a), initial=1.0)
        return np.allclose(a, b, rtol=tolerance, atol=tolerance * size / 10, equal_nan=True)


def check(seed: int, folder: Path, writer: Callable[[int], Any] = Writer, kind: Kind = TENSORS) -> str | None:
    """What is wrong with the program of a seed; None where all is well.

    Of the function and of the one that is differentiated, one is compiled for every size and the other for one size,
    turn about: two compilations.
    """
    f, g = load(writer(seed).text(), folder, seed)
    for function, gradients in ((f, False), (g, True)):
        if gradients and kind.wrap is not tjit.tensor:
            continue
        dynamic = gradients is (seed % 2 == 0)
        compiled = tjit.compile(function, dynamic=dynamic)
        for size in (6, 5) if dynamic else (5,):
            problem = Run(kind, seed, size, gradients).compared(function, compiled)
            if problem is not None:
                return f"{'gradients' if gradients else 'values'}, size {size}: {problem}"
    return None


def main(check: Callable[[int, Path], str | None], text: Callable[[int], str], purpose: str | None) -> int:
    """Check the programs of the seeds that the command line asks for, and print what is wrong."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    wrong = 0
    with tempfile.TemporaryDirectory() as name:
        for seed in range(options.start, options.start + options.count):
            if options.show:
                print(text(seed))
            problem = check(seed, Path(name))
            if problem is not None:
                wrong += 1
                print(f"seed {seed}: {problem}", flush=True)
    print(f"{options.count} programs, {wrong} wrong")
    return wrong > 0


if __name__ == "__main__":
    sys.exit(main(check, lambda seed: Writer(seed).text(), __doc__))
