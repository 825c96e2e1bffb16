"""Random functions of what else Python programs are made of: compiled they must be what they are eager.

    python tests/random_python.py --count 1000 --start 0 [--show]

Beyond the control flow of `random_control`: views that are bound to names and written, `out=`, tuples and dicts of
tensors that loops change, nested functions with their closures, comprehensions, `zip` and `enumerate`, `assert`,
`while` and `for` with `else`, returns out of nested loops, and tensors of integers as indices. By the seed, arguments
are tensors of float64 (with gradients) or float32, or NumPy arrays, whose oracle is NumPy.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import random_control
from random_control import TENSORS, Kind

import tjit

KINDS = (TENSORS, Kind(np.float64, np.copy, 1e-7), Kind(np.float32, tjit.tensor, 1e-4))

_NAMES = "add, arange, cos, multiply, sin, stack, subtract, tanh, where"

_HELPERS = """

def mix(a, b):
    if a.sum() > b.sum():
        return 0.5 * a + 0.25 * b
    return tanh(a) - 0.25 * b


def settle(s, steps):
    for _ in range(steps):
        if abs(s) < 0.25:
            return s + 0.125
        s = 0.5 * s
    return s


def first(rows, low):
    for i, row in enumerate(rows):
        for y in row:
            if y > low:
                return i, y
    return -1, rows[0, 0]


def scale(part, by):
    part *= by
    return part.sum()


"""


def kind_of(seed: int) -> Kind:
    return KINDS[seed % len(KINDS)]


class Writer(random_control.Writer):
    """Writes one function. Besides: u* views, p* tuples (vector, scalar), d* dicts {"h": vector, "c": scalar}, q* ints
    that tensors give."""

    def __init__(self, seed: int) -> None:
        super().__init__(seed)
        self.module = "numpy" if kind_of(seed).wrap is np.copy else "tjit"
        self.views: list[str] = []
        self.pairs: list[str] = []
        self.dicts: list[str] = []
        self.picks: list[str] = []
        self.functions: list[str] = []

    def name(self, letter: str) -> str:
        self.names += 1
        return f"{letter}{self.names}"

    # -- expressions -----------------------------------------------------------------------------------------------

    def position(self) -> str:
        return self.pick(self.picks) if self.picks and self.random.random() < 0.3 else super().position()

    def scalar(self, depth: int = 0) -> str:
        if self.random.random() < 0.7:
            return super().scalar(depth)
        forms: list[Callable[[], str]] = [
            lambda: f"sum([{self.row_scalar(depth + 1)} for r in w])",
            lambda: f"sum(y * z for y, z in zip(x, {self.vector(2)}))",
            lambda: f"sum([x[j] for j in range(n) if j % {self.random.randint(2, 3)} == 1])",
            lambda: f"x[:{self.count()}].sum()",
            lambda: f"max({self.scalar(2)}, {self.scalar(2)})",
            lambda: f"first(w, {self.pick([0.0, 0.75, 1.5])})[1]",
        ]
        forms += [lambda: f"{self.pick(self.pairs)}[1]"] if self.pairs else []
        forms += [lambda: f'{self.pick(self.dicts)}["c"]'] if self.dicts else []
        return self.pick(forms)()

    def row_scalar(self, depth: int) -> str:
        return self.pick(
            ["r.sum()", "r[0]", f"r @ ({self.vector(2)})", "tanh(r).max()", f"(r * {self.scalar(2)}).sum()"]
        )

    def count(self) -> str:
        """An int that tensors give, in [0, n]."""
        return self.pick(["(x > 0).sum()", "x.argmax()", "(w[0] > 0.5).sum()", *self.picks])

    def vector(self, depth: int = 0) -> str:
        if self.random.random() < 0.7:
            return super().vector(depth)
        forms: list[Callable[[], str]] = [
            lambda: f"stack([{self.row_scalar(depth + 1)} for r in w])",
            lambda: f"stack([tanh(y + {self.scalar(2)}) for y in {self.vector(2)}])",
            lambda: f"({self.vector(2)})[arange(n) // 2]",
            lambda: f"w[arange(n), {self.position()}]",
            lambda: f"w[{self.count()} % n]",
            lambda: "w.T[0]",
            lambda: "w.diagonal()",
        ]
        forms += [lambda: f"{self.pick(self.pairs)}[0]"] if self.pairs else []
        forms += [lambda: f'{self.pick(self.dicts)}["h"]'] if self.dicts else []
        forms += [lambda: f"{self.pick(self.functions)}({self.vector(2)})"] if self.functions else []
        return self.pick(forms)()

    # -- statements ------------------------------------------------------------------------------------------------

    def block(self, statements: int) -> None:
        kept = [list(names) for names in self.local_names()]
        super().block(statements)
        for names, before in zip(self.local_names(), kept, strict=True):
            names[:] = before  # only some branches or trips give the others a value

    def local_names(self) -> tuple[list[str], ...]:
        return self.views, self.pairs, self.dicts, self.picks, self.functions

    def statement(self) -> None:
        if self.budget < 1 or self.depth > 4 or self.random.random() < 0.4:
            super().statement()
            return
        self.budget -= 1
        self.pick([
            self.view, self.view, self.write_view, self.write_view, self.out, self.pair, self.swap, self.mapping,
            self.function, self.zipped, self.enumerated, self.assertion, self.chosen, self.while_else, self.for_else,
            self.leave, self.masked, self.indexed, self.helped, self.number, self.number,
        ])()  # fmt: skip

    def view(self) -> None:
        """A name for a part of memory that is then written, by either name."""
        name = self.name("u")
        whole = [f"m0[{self.position()}]", f"m0[:, {self.position()}]", "m0.T[0]", "a[:]", "v0[::-1]", "m0.diagonal()"]
        parts = ["a[1:-1]", "v0[::2]", "m0[1:, 0]", f"a[{self.bound()}:]", "m0.T[1:]", "m0.reshape(-1)[1:3]"]
        if self.module == "numpy":
            whole = [w for w in whole if "diagonal" not in w]  # NumPy's cannot be written
        else:
            whole = [w for w in whole if "::-1" not in w]
        if self.random.random() < 0.5:
            self.add(f"{name} = {self.pick(whole)}")
        else:
            self.add(f"{name} = {self.pick(parts)}")
        self.views.append(name)
        self.write_view()

    def write_view(self) -> None:
        if not self.views:
            self.view()
            return
        name = self.pick(self.views)
        forms = [
            f"{name} *= 0.5",
            f"{name} += 0.125 * {self.scalar(1)}",
            f"{name}[...] = tanh({self.scalar(1)} + 0.0 * x[0])",
        ]
        forms += [f"{name}[0] = {self.scalar(2)}", f"{name}[-1:] = 0.25", f"{name}[1:] -= 0.5 * {name}[:-1]"]
        forms += [f"s1 = tanh(s1 + scale({name}, 0.5))", f"s0 = tanh({name}.sum() + 0.0 * x[0])"]
        self.add(self.pick(forms))

    def out(self) -> None:
        fn = self.pick(["add", "multiply", "subtract"])
        target = self.pick(["v0", f"m0[{self.position()}]", "a"])
        self.add(f"{fn}({self.vector(2)}, 0.5 * {self.vector(2)}, out={target})")

    def pair(self) -> None:
        if self.pairs and self.random.random() < 0.6:
            name = self.pick(self.pairs)
            self.add(f"{name} = (tanh({name}[0] + {self.vector(2)}), tanh({name}[1] + {self.scalar(2)} + 0.0 * x[0]))")
            return
        name = self.name("p")
        self.add(f"{name} = ({self.pick(['v0', '0.5 * x', '1.0 * a'])}, x[{self.position()}])")
        self.pairs.append(name)

    def swap(self) -> None:
        if self.pairs and self.random.random() < 0.5:
            self.add(f"v0, s1 = {self.pick(self.pairs)}")
        else:
            self.add(self.pick(["s0, s1 = s1 + 0.0 * x[0], s0 + 0.0 * x[0]", "v0, m0 = m0[0] + 0.0 * x, m0.T * v0"]))

    def mapping(self) -> None:
        if not self.dicts or self.random.random() < 0.3:
            name = self.name("d")
            self.add(f'{name} = {{"h": 0.5 * x, "c": x[{self.position()}] * 1.0}}')
            self.dicts.append(name)
            return
        name = self.pick(self.dicts)
        forms = [f'{name}["h"] = tanh({self.vector(1)})', f'{name}["c"] = tanh({self.scalar(1)} + 0.0 * x[0])']
        forms += [f'{name}["h"] *= 0.5', f'{name}["h"][{self.position()}] = {self.scalar(2)}']
        self.add(self.pick(forms))

    def function(self) -> None:
        name = self.name("h")
        form = self.random.random()
        if form < 0.3:
            self.add(f"{name} = lambda t: tanh(t * s0 + {self.vector(2)})")
        elif form < 0.7:
            self.add(f"def {name}(t, by=0.5):")
            self.add(f"    if {self.condition(1)}:")
            self.add(f"        return by * t + {self.vector(2)}")
            self.add(f"    return t * {self.scalar(2)} + 0.0 * x")
        else:
            self.add(f"def {name}(t):")
            self.add("    nonlocal k0, s1")
            self.add("    k0 += 1")
            self.add("    s1 = tanh(s1 + t.sum())")
            self.add("    return t * s1")
        if form < 0.7:
            self.functions.append(name)
        else:
            self.add(f"v0 = tanh({name}({self.vector(2)}))")

    def zipped(self) -> None:
        y, z = self.name("y"), self.name("z")
        self.add(f"for {y}, {z} in zip({self.pick(['w', 'w.T', 'm0'])}, {self.pick(['x', 'v0', 'a'])}):")
        self.vectors.append(y)
        self.scalars.append(z)
        self.reading_block(y, z)

    def enumerated(self) -> None:
        i, y = self.name("i"), self.name("y")
        self.add(f"for {i}, {y} in enumerate({self.pick(['w', 'm0', 'w[1:]'])}):")
        self.counters.append(i)
        self.vectors.append(y)
        self.reading_block(y)
        self.counters.remove(i)

    def reading_block(self, *names: str) -> None:
        """A block whose statements read `names` but do not bind or write them."""
        kept = self.vectors, self.scalars
        self.add(f"    v0 = tanh(v0 + {self.pick([*(n for n in names if n[0] == 'y'), 'x'])} * {self.scalar(1)})")
        self.vectors, self.scalars = ([n for n in kind if n not in names] for kind in kept)
        self.block(self.random.randint(1, 2))

    def assertion(self) -> None:
        holds = ["abs(v0).max() < 1e6", "x.shape[0] == n", f"({self.vector(2)}).shape[0] > 0"]
        test = self.pick([*holds, *holds, f"{self.scalar(1)} < 2.5"])
        self.add(f'assert {test}, "wanted small numbers"')

    def chosen(self) -> None:
        name = self.name("q")
        test = self.vector(2)
        forms = [f"({test} > 0).sum() % n", f"({test}).argmax()", f"({test}).argmin()"]
        self.add(f"{name} = {self.pick(forms)}")
        self.picks.append(name)

    def while_else(self) -> None:
        count = self.name("t")
        self.add(f"{count} = 0")
        self.add(f"while {count} < {self.random.randint(1, 6)}:")
        self.add(f"    {count} += 1")
        self.body_with_break(count)
        self.add("else:")
        self.block(1)

    def for_else(self) -> None:
        name = f"i{self.loops}"
        self.loops += 1
        self.add(f"for {name} in {self.pick(['range(n)', 'range(n - 1)', 'range(1, n)'])}:")
        self.counters.append(name)
        self.body_with_break(name)
        self.counters.pop()
        self.add("else:")
        self.block(1)

    def body_with_break(self, name: str) -> None:
        self.block(1)
        self.add(f"    if {self.condition(1)}:")
        if self.random.random() < 0.3:
            self.add(f"        v0 = tanh(v0 + {name})")
        self.add(f"        {self.pick(['break', 'break', 'continue'])}")
        self.block(1)

    def leave(self) -> None:
        """A return from inside of two loops."""
        i, j = self.name("i"), self.name("i")
        self.add(f"for {i} in range(n):")
        self.add(f"    for {j} in range({self.pick(['n', i, '3'])}):")
        self.add(f"        if w[{i}, {j}] > {self.pick([1.0, 1.5, 2.0])} and {self.condition(1)}:")
        self.add(f"            return x * {self.scalar(2)} + {i}, x[{j}] + {i} * {j}")
        self.add(f"    s1 = tanh(s1 + w[{i}, -1])")

    def masked(self) -> None:
        vector = self.vector(2)
        forms = ["v0[v0 > 0.5] = 0.5", f"m0[m0 > {self.pick([0.25, 1.0])}] = 0.125"]
        forms += [f"v0 = where({vector} > 0, v0, 0.5 * x)"]
        if self.module == "numpy":  # of a tensor, what a mask picks has a shape that depends on data, and is refused
            forms += [f"s1 = tanh(x[x > {self.pick([0.0, 0.5])}].sum() + s1)", "a[a < 0] *= 0.5"]
        self.add(self.pick(forms))

    def indexed(self) -> None:
        forms = [f"v0[arange(n) // 2] = {self.scalar(2)}", f"m0[arange(n), arange(n)] = 0.5 * {self.vector(2)}"]
        forms += [
            f"a[x.argmax()] += {self.scalar(2)}",
            "m0 = tanh(m0[arange(n) // 2])",
            "v0[[0, 2]] = v0[[1, 0]] * 0.5",
        ]
        self.add(self.pick(forms))

    def helped(self) -> None:
        name = self.name("k")
        self.add(f"{name}, s1 = first({self.pick(['w', 'm0'])}, {self.pick([0.0, 0.5, 3.0])})")
        self.add("s1 = tanh(s1)")
        if self.random.random() < 0.5:
            self.add(f"v0[{name}] = 0.5")

    def number(self) -> None:
        """Arithmetic of Python's numbers, which a loop or branch makes values of the graph."""
        i = self.pick([*self.counters, "k0", "n"])
        ints = ["(k0 - 5) // 2", f"abs(k0 - {i})", f"({i} or k0)", f"(k0 and {i})", f"({i} % 2 == 0 or k0 > 2) + k0"]
        ints += [
            f"k0 + {i} // -2",
            f"max(k0, {i}) - min(k0, 1)",
            "(k0 ^ 3) & 6",
            "(k0 << 2) >> 1",
            f"{i} * k0 - 3 % -2",
        ]
        ints += ["round(1.75 * k0)", f"divmod(3 * k0, {self.pick([4, -4])})[0]", f"int(0.375 * {i}) - k0", "2 ** k0"]
        if self.random.random() < 0.7:
            self.add(f"k0 = ({self.pick(ints)}) % 7")
        else:
            self.add(f"s0 = tanh(s0 / ({i} + 1) + 0.25 * k0 // 1.5 - {i} % 2.5 + 0.0 * x[0])")

    def text(self) -> str:
        program = super().text()
        body = program[program.index("def f(") :]
        return f"from {self.module} import {_NAMES}" + _HELPERS + body


def check(seed: int, folder: Path) -> str | None:
    """What is wrong with the program of a seed; None where all is well."""
    return random_control.check(seed, folder, Writer, kind_of(seed))


if __name__ == "__main__":
    sys.exit(random_control.main(check, lambda seed: Writer(seed).text(), __doc__))
