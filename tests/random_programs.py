"""Random programs: compiled equals eager, in values, gradients and mutations.

A program is a list of steps drawn from a seed; each step applies an op to values made before. It runs eagerly and
compiled, at several sizes (the third size runs the symbolic variant), and with gradients taken inside and outside of
the compiled function.

    python tests/random_programs.py --count 2000 --start 0      # prints the seeds that fail
"""

from __future__ import annotations

import argparse
import random
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

import tjit
import tjit.nn.functional as F

UNARY: tuple[Callable, ...] = (
    tjit.neg,
    tjit.exp,
    tjit.tanh,
    tjit.sigmoid,
    tjit.relu,
    tjit.sin,
    tjit.abs,
    lambda x: x * 0.5 + 1.0,
    lambda x: tjit.sqrt(tjit.abs(x) + 1.0),
    lambda x: F.gelu(x),
    lambda x: x.clamp(-1.0, 1.0),
    lambda x: tjit.log(tjit.abs(x) + 0.5),
    lambda x: tjit.where(x > 0, x, x * 0.1),
)
BINARY: tuple[Callable, ...] = (tjit.add, tjit.sub, tjit.mul, tjit.maximum, lambda a, b: a / (tjit.abs(b) + 1.0))
REDUCE: tuple[Callable, ...] = (
    lambda x, d, k: x.sum(d, keepdim=k),
    lambda x, d, k: x.mean(d, keepdim=k),
    lambda x, d, k: x.amax(d, keepdim=k),
    lambda x, d, k: x.amin(d, keepdim=k),
    lambda x, d, k: x.var(d, keepdim=k, correction=0),
    lambda x, d, k: tjit.logsumexp(x, d, keepdim=k),
)
ROWWISE: tuple[Callable, ...] = (
    lambda x, d: F.softmax(x, d),
    lambda x, d: F.log_softmax(x, d),
    lambda x, d: x - x.mean(d, keepdim=True),
    lambda x, d: x / (x.abs().sum(d, keepdim=True) + 1.0),
    lambda x, d: F.layer_norm(x, (x.shape[-1],)),
)

DRAWN = (
    *("unary", "unary", "binary", "binary", "reduce", "rowwise", "matmul", "permute", "slice", "cat", "reshape"),
    *("expand", "take", "inplace", "write"),
)


@dataclass
class Step:
    """`apply(values)` gives the next value."""

    name: str
    apply: Callable


class Program:
    """A random program of tensors over the extents n (varies between calls), m and k."""

    def __init__(self, seed: int, length: int | None = None) -> None:
        self.random = random.Random(seed)
        self.m, self.k = self.random.choice((1, 2, 3, 5, 8, 17, 33)), self.random.choice((1, 2, 4, 7, 16, 19))
        # ranks and shapes are known while the program is drawn: "n" stands for the extent that varies
        self.shapes: list[tuple] = [("n", self.m), ("n", self.m), (self.m, self.k), (self.m,), ("n", 1)]
        self.inputs = len(self.shapes)
        self.steps: list[Step] = []
        for _ in range(length or self.random.randint(3, 14)):
            self.draw()
        count = self.random.randint(1, 3)
        made = list(range(self.inputs, len(self.shapes)))
        self.outputs = sorted(set(self.random.choices(made, k=count)) | {made[-1]})
        self.write = self.random.random() < 0.3

    def pick(self, fits: Callable[[tuple], bool] = lambda s: True) -> int | None:
        found = [i for i, s in enumerate(self.shapes) if fits(s)]
        return self.random.choice(found[-6:] if self.random.random() < 0.6 else found) if found else None

    def add(self, name: str, shape: tuple, apply: Callable) -> None:
        self.steps.append(Step(name, apply))
        self.shapes.append(shape)

    def draw(self) -> None:
        getattr(self, f"draw_{self.random.choice(DRAWN)}")()

    def draw_unary(self) -> None:
        i, f = self.pick(), self.random.choice(UNARY)
        assert i is not None
        self.add(f"unary {i}", self.shapes[i], lambda v, i=i, f=f: f(v[i]))

    def draw_binary(self) -> None:
        i = self.pick()
        assert i is not None
        s = self.shapes[i]
        j, f = self.pick(lambda o: self.broadcast(s, o) is not None), self.random.choice(BINARY)
        assert j is not None  # i fits itself
        shape = self.broadcast(s, self.shapes[j])
        assert shape is not None
        self.add(f"binary {i} {j}", shape, lambda v, i=i, j=j, f=f: f(v[i], v[j]))

    def broadcast(self, a: tuple, b: tuple) -> tuple | None:
        rank = max(len(a), len(b))
        a, b = (1,) * (rank - len(a)) + a, (1,) * (rank - len(b)) + b
        result = []
        for x, y in zip(a, b, strict=True):
            if x != y and x != 1 and y != 1:
                return None
            result.append(y if x == 1 else x)
        return tuple(result)

    def draw_reduce(self) -> None:
        i = self.pick(lambda s: len(s) >= 1)
        if i is None:
            return
        d, keep, f = self.random.randrange(len(self.shapes[i])), self.random.random() < 0.5, self.random.choice(REDUCE)
        s = self.shapes[i]
        self.add(f"reduce {i}", s[:d] + ((1,) if keep else ()) + s[d + 1 :], lambda v, i=i: f(v[i], d, keep))

    def draw_rowwise(self) -> None:
        i = self.pick(lambda s: len(s) >= 1)
        if i is None:
            return
        d, f = self.random.randrange(len(self.shapes[i])), self.random.choice(ROWWISE)
        self.add(f"rowwise {i}", self.shapes[i], lambda v, i=i: f(v[i], d))

    def draw_matmul(self) -> None:
        i = self.pick(lambda s: len(s) == 2)
        if i is None:
            return
        a = self.shapes[i]
        j = self.pick(lambda s: len(s) == 2 and (s[0] == a[1] or s[1] == a[1]))
        if j is None:
            return
        b = self.shapes[j]
        if b[0] == a[1]:
            self.add(f"matmul {i} {j}", (a[0], b[1]), lambda v: v[i] @ v[j])
        else:
            self.add(f"matmul {i} {j}.T", (a[0], b[0]), lambda v: v[i] @ v[j].T)

    def draw_permute(self) -> None:
        i = self.pick(lambda s: len(s) >= 2)
        if i is None:
            return
        order = list(range(len(self.shapes[i])))
        self.random.shuffle(order)
        self.add(f"permute {i}", tuple(self.shapes[i][d] for d in order), lambda v: v[i].permute(*order))

    def draw_slice(self) -> None:
        i = self.pick(lambda s: any(isinstance(d, int) and d >= 2 for d in s))
        if i is None:
            return
        s = self.shapes[i]
        d = self.random.choice([d for d, e in enumerate(s) if isinstance(e, int) and e >= 2])
        start = self.random.randrange(s[d])
        step = self.random.choice((1, 1, 2))
        extent = -(-(s[d] - start) // step)
        where = (slice(None),) * d + (slice(start, None, step),)
        self.add(f"slice {i}", (*s[:d], extent, *s[d + 1 :]), lambda v: v[i][where])

    def draw_cat(self) -> None:
        i = self.pick(lambda s: len(s) >= 1 and any(isinstance(d, int) for d in s))
        if i is None:
            return
        s = self.shapes[i]
        d = self.random.choice([d for d, e in enumerate(s) if isinstance(e, int)])
        j = self.pick(lambda o: len(o) == len(s) and isinstance(o[d], int) and o[:d] + o[d + 1 :] == s[:d] + s[d + 1 :])
        assert j is not None  # i fits itself
        self.add(f"cat {i} {j}", (*s[:d], s[d] + self.shapes[j][d], *s[d + 1 :]), lambda v: tjit.cat([v[i], v[j]], d))

    def draw_reshape(self) -> None:
        i = self.pick(lambda s: len(s) >= 1)
        if i is None:
            return
        s = self.shapes[i]
        if len(s) == 2 and all(isinstance(d, int) for d in s):
            self.add(f"flatten {i}", (s[0] * s[1],), lambda v: v[i].reshape(-1))
        else:
            d = self.random.randint(0, len(s))
            if len(s) < 4:
                self.add(f"unsqueeze {i}", (*s[:d], 1, *s[d:]), lambda v: v[i].unsqueeze(d))
            else:
                self.add(f"same {i}", s, lambda v: v[i])

    def draw_expand(self) -> None:
        i = self.pick(lambda s: 1 in s)
        if i is None:
            return
        s = self.shapes[i]
        d = s.index(1)
        sizes = [-1 if e != d else self.m for e in range(len(s))]
        self.add(f"expand {i}", (*s[:d], self.m, *s[d + 1 :]), lambda v: v[i].expand(*sizes))

    def draw_take(self) -> None:
        i = self.pick(lambda s: any(isinstance(d, int) for d in s))
        if i is None:
            return
        s = self.shapes[i]
        d = self.random.choice([d for d, e in enumerate(s) if isinstance(e, int)])
        picks = [self.random.randrange(-s[d], s[d]) for _ in range(self.random.randint(1, 5))] if s[d] else []
        if picks:
            shape = (*s[:d], len(picks), *s[d + 1 :])
            self.add(f"take {i}", shape, lambda v: tjit.index_select(v[i], d, tjit.tensor([p % s[d] for p in picks])))

    def draw_inplace(self) -> None:
        i = self.pick(lambda s: len(s) >= 1 and isinstance(s[-1], int) and s[-1] >= 1)
        if i is None:
            return
        s = self.shapes[i]
        stop = self.random.randint(1, s[-1])

        def apply(v: list) -> object:
            x = v[i].clone()
            x[..., :stop] *= 2.0
            x[..., 0] = 1.5
            x += 1.0
            return x

        self.add(f"inplace {i}", s, apply)

    def draw_write(self) -> None:
        """Overwrite an argument with a value of its shape, where the program may write at all."""
        i = self.random.choice((0, 1))
        j = self.pick(lambda s: s == self.shapes[i])
        how = self.random.choice(("copy", "add", "rows"))
        assert j is not None  # i has its own shape

        def apply(v: list) -> object:
            if self.write:
                if how == "copy":
                    v[i].copy_(v[j] * 0.5)
                elif how == "add":
                    v[i].add_(v[j].sin())
                else:
                    v[i][:, :1] = v[j][:, :1] + 1.0
            return v[i] * 1.0

        self.add(f"write {i} {how} {j}", self.shapes[i], apply)

    # -- running -------------------------------------------------------------------------------------------------------

    def arrays(self, n: int) -> list[np.ndarray]:
        rng = np.random.default_rng(n + 7)
        return [rng.uniform(-1.5, 1.5, [n if d == "n" else d for d in s]) for s in self.shapes[: self.inputs]]

    def forward(self, *inputs: Any) -> tuple:
        values = list(inputs)
        for step in self.steps:
            values.append(step.apply(values))
        if self.write:
            inputs[0].mul_(0.5)
        return tuple(values[i] for i in self.outputs)

    def loss(self, *inputs: Any) -> Any:
        return sum((out * out).mean() for out in self.forward(*inputs))

    def gradients(self, *inputs: Any) -> tuple:
        """The gradients, taken inside: of handles that require grad."""
        handles = [x.detach().clone().requires_grad_() for x in inputs]
        self_write, self.write = self.write, False
        try:
            return tjit.autograd.grad(self.loss(*handles), handles, allow_unused=True)
        finally:
            self.write = self_write

    def text(self) -> str:
        made = zip(self.steps, self.shapes[self.inputs :], strict=True)
        return "\n".join(f"%{n}: {step.name} {shape}" for n, (step, shape) in enumerate(made, self.inputs))


def tensors(arrays: list[np.ndarray], **options: Any) -> list:
    return [tjit.tensor(a, **options) for a in arrays]


def same(got: tuple, want: tuple, what: str) -> None:
    for n, (g, w) in enumerate(zip(got, want, strict=True)):
        if g is None or w is None:
            zero = np.zeros(()) if g is None else g.numpy()
            assert g is w or not np.any(zero), f"{what} {n}: one is None"
            continue
        assert tuple(g.shape) == tuple(w.shape), f"{what} {n}: {g.type_} is not {w.type_}"
        assert g.dtype is w.dtype, f"{what} {n}: {g.type_} is not {w.type_}"
        np.testing.assert_allclose(g.detach().numpy(), w.detach().numpy(), rtol=1e-9, atol=1e-9, err_msg=f"{what} {n}")


SIZES = (3, 6, 1, 11)  # of the dim that varies; the first is compiled for itself, the others for a symbol
MANY = (300, 513, 2)  # beyond the least sizes of tiles, of lanes for short rows, and of several tasks


def check(seed: int, sizes: Sequence[int] = SIZES) -> None:
    """Run the program of a seed in every way; raises AssertionError where two ways differ.

    In f64, so that the tolerance tells a wrong program from another order of summation.
    """
    program = Program(seed)
    forward, gradients, loss = (tjit.compile(f) for f in (program.forward, program.gradients, program.loss))
    for n in sizes:
        arrays = program.arrays(n)
        eager, compiled = tensors(arrays), tensors(arrays)
        same(forward(*compiled), program.forward(*eager), f"n={n} output")
        same(tuple(compiled), tuple(eager), f"n={n} argument")
        same(gradients(*tensors(arrays)), program.gradients(*tensors(arrays)), f"n={n} gradient inside")
        if program.write:
            continue
        a, b = tensors(arrays, requires_grad=True), tensors(arrays, requires_grad=True)
        loss(*a).backward()
        program.loss(*b).backward()
        same(tuple(t.grad for t in a), tuple(t.grad for t in b), f"n={n} gradient outside")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--count", type=int, default=200)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    failed = []
    for seed in range(options.start, options.start + options.count):
        try:
            check(seed, options.sizes)
        except Exception as error:
            failed.append(seed)
            print(f"seed {seed}: {type(error).__name__}: {str(error).strip()[:300]}")
            if options.show:
                print(Program(seed).text())
                traceback.print_exc()
    print(f"{options.count} programs, {len(failed)} failed: {failed}")
    return bool(failed)


if __name__ == "__main__":
    sys.exit(main())
