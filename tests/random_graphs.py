"""Random graphs with control flow: text, rules, passes and compiled programs keep what `evaluate` gives.

A graph is drawn from a seed: nested if, while, for and bind; slices and updates of slices at counters and computed
positions; reductions, small contractions, arithmetic of numbers. Its values stay small, so that
rounding does not grow.

    python tests/random_graphs.py --count 500 --start 0             # prints the seeds that fail
    python tests/random_graphs.py --start 17 --show                 # one graph, and after the passes
    python tests/random_graphs.py --count 500 --compiled            # and run as programs
    python tests/random_graphs.py --count 500 --compiled --depth 1  # simpler graphs: at most this many nested regions
"""

from __future__ import annotations

import argparse
import os
import random
import sys
import traceback
from collections.abc import Callable, Sequence

import numpy as np

import tjit
from tjit.devices import cpu
from tjit.dtypes import bool_, f32, f64, i64
from tjit.errors import CheckError, DimensionError
from tjit.ir.dims import Dim, Symbol, at_least, counter, lower_bound, symbols
from tjit.ir.evaluate import evaluate
from tjit.ir.graph import Graph, GraphBuilder, Literal, Operand, Region, Value
from tjit.ir.op import OPS
from tjit.ir.parser import parse_graph
from tjit.ir.printer import RESERVED, print_graph
from tjit.ir.scope import bound_names
from tjit.ir.types import TensorType
from tjit.ir.verify import verify
from tjit.location import Location
from tjit.passes.dot_products import sum_dot_products
from tjit.passes.loop_contractions import batch_contractions
from tjit.passes.matmul_chains import reorder_matmul_chains
from tjit.passes.pipeline import DEFAULT, Pass

__all__ = ["check", "check_compiled", "random_arrays", "random_graph"]

FLAG, INT, FLOAT = TensorType(bool_, ()), TensorType(i64, ()), TensorType(f64, ())
UNARY = ("neg", "abs", "sin", "tanh", "sigmoid", "floor")
BINARY = ("add", "sub", "mul", "maximum", "minimum")
COMPARE = ("lt", "le", "gt", "ne")
_REORDERING = (reorder_matmul_chains, batch_contractions, sum_dot_products)  # they sum in other orders
LOGIC = ("bitwise_and", "bitwise_or", "bitwise_xor")


def random_graph(seed: int, depth: int = 3) -> Graph:
    """A verified graph, the same for the same seed."""
    return _Maker(random.Random(seed), depth).graph(f"random{seed}")


def random_arrays(graph: Graph, seed: int) -> list[np.ndarray]:
    """Inputs for a graph of `random_graph`: extents that its symbols allow, numbers of moderate size."""
    rng, sizes = np.random.default_rng(seed), random.Random(seed)
    extents: dict[str, int] = {}
    for value in graph.inputs:
        for d in value.type.shape:
            for s in symbols(d):
                extents.setdefault(s.name, s.minimum + sizes.randint(0, 4))
    arrays: list[np.ndarray] = []
    for value in graph.inputs:
        shape = tuple(tjit.ir.dims.evaluate(d, extents) for d in value.type.shape)
        if value.type.dtype is bool_:
            arrays.append(rng.random(shape) < 0.5)
        elif value.type.dtype is i64:
            arrays.append(rng.integers(-3, 6, shape))
        else:
            arrays.append(rng.uniform(-2, 2, shape).astype(value.type.dtype.numpy))
    return [np.asarray(a) for a in arrays]


class _Maker:
    """Draws a graph. `values` are those that the present place sees, `in_scope` the symbols."""

    def __init__(self, rng: random.Random, depth: int) -> None:
        self.rng = rng
        self.depth = depth
        self.values: list[Value] = []
        self.in_scope: list[Symbol] = []
        self.names = 0
        self.line = 0
        self.builder = GraphBuilder("")

    # -- the graph -----------------------------------------------------------------------------------------------------

    def graph(self, name: str) -> Graph:
        g = self.builder = GraphBuilder(name)
        n: Dim = Symbol("N", 2).dim if self.rng.random() < 0.5 else self.rng.randint(2, 6)
        m: Dim = Symbol("M", 1).dim if self.rng.random() < 0.3 else self.rng.randint(1, 5)
        dtype = f64 if self.rng.random() < 0.8 else f32
        types = {"x": (dtype, (n,)), "z": (dtype, (n,)), "a": (dtype, (n, m)), "b": (dtype, (m, n))}
        for label, (kind, shape) in types.items():
            self.values.append(g.input(TensorType(kind, shape), label))
        for label, type in (("s", FLOAT), ("t", FLOAT), ("k", INT), ("j", INT), ("c", FLAG)):
            self.values.append(g.input(type, label))
        self.statements(self.rng.randint(4, 10))
        return self.finish(g)

    def finish(self, g: GraphBuilder) -> Graph:
        hidden = bound_names(g.nodes)
        seen = [v for v in self.values if not _names(v.type) & hidden]
        recent = [v for v in seen if v not in g.inputs][-8:] or seen
        outputs: list[Operand] = [self.rng.choice(recent) for _ in range(self.rng.randint(1, 3))]
        writes: dict[int, int] = {}
        for position, output in enumerate(outputs):
            targets = [i for i, v in enumerate(g.inputs) if v.type == output.type and i not in writes.values()]
            if output.type.ndim and targets and self.rng.random() < 0.5:
                writes[position] = self.rng.choice(targets)
        return g.finish(outputs, writes)

    def statements(self, count: int) -> None:
        for _ in range(count):
            self.line += 1
            self.rng.choice(_STATEMENTS)(self)

    def add(self, op: str, *operands: Operand, **attrs: object) -> Value:
        """One node of one result, which may be used from there on."""
        (value,) = self.builder.add(OPS[op], operands, attrs, location=Location("random.py", self.line))
        self.values.append(value)
        return value

    def name(self, stem: str) -> str:
        self.names += 1
        name = f"{stem}{self.names - 1}"
        return self.name(stem) if name in RESERVED else name  # i8 is a dtype

    # -- choices -------------------------------------------------------------------------------------------------------

    def value(self, fits: Callable[[TensorType], bool]) -> Value | None:
        """One of the values that fit, late ones more often."""
        found = [v for v in self.values if fits(v.type)]
        if not found:
            return None
        late = found[-6:] if self.rng.random() < 0.6 else found
        return self.rng.choice(late)

    def of(self, type: TensorType) -> Value | None:
        return self.value(lambda t: t == type)

    def array(self) -> Value:
        found = self.value(lambda t: t.is_float and t.ndim > 0)
        assert found is not None  # an input
        return found

    def number(self) -> Operand:
        """A float of no dims."""
        if self.rng.random() < 0.2:
            return Literal(self.rng.choice([0.0, -0.0, 1.0, 0.5, -2.0]), f64)
        return self.of(FLOAT) or Literal(0.25, f64)

    def int(self) -> Operand:
        if self.rng.random() < 0.2:
            return Literal(self.rng.randint(-1, 4), i64)
        return self.of(INT) or Literal(2, i64)

    def flag(self) -> Operand:
        if self.rng.random() < 0.05:
            return Literal(self.rng.random() < 0.5, bool_)
        return self.of(FLAG) or Literal(True, bool_)

    def position(self, extent: Dim) -> Dim | None:
        """A dim that is certainly an index into `extent`."""
        found: list[Dim] = [s.dim for s in self.in_scope for _ in range(3)]
        found += [s.dim + 1 for s in self.in_scope] + [s.dim - 1 for s in self.in_scope]
        found += [0, 1, extent - 1]
        fits = [d for d in found if at_least(d, 0) and at_least(extent - 1 - d, 0)]
        return self.rng.choice(fits) if fits else None

    def bounds(self, extent: Dim) -> tuple[Dim, Dim]:
        """A range of positions of a dim."""
        at = self.position(extent)
        if at is None:
            return 0, extent
        return self.rng.choice([(at, at + 1), (at, at + 1), (0, at + 1), (0, at), (at, extent), (0, extent)])

    def part(self, shape: Sequence[Dim]) -> dict[str, tuple[Dim, ...]]:
        """Attrs of a slice."""
        pairs = [self.bounds(d) for d in shape]
        steps = tuple(2 if self.rng.random() < 0.1 else 1 for _ in pairs)
        return {"starts": tuple(a for a, _ in pairs), "stops": tuple(b for _, b in pairs), "steps": steps}

    # -- statements ----------------------------------------------------------------------------------------------------

    def float_arithmetic(self) -> None:
        if self.rng.random() < 0.3:
            self.add(self.rng.choice(UNARY), self.number_value())
        else:
            made = self.add(self.rng.choice(BINARY), self.number_value(), self.number())
            self.add("tanh", made)

    def number_value(self) -> Value:
        found = self.of(FLOAT)
        return found if found is not None else self.add("full", value=0.75, shape=(), dtype=f64, device=cpu)

    def int_arithmetic(self) -> None:
        x = self.of(INT)
        if x is not None:
            made = self.add(self.rng.choice(("add", "sub", "mul", "maximum")), x, self.int())
            self.add("remainder", made, Literal(7, i64))

    def counter_number(self) -> None:
        """A counter as a number."""
        if self.in_scope:
            made = self.add("full", value=self.rng.choice(self.in_scope).dim, shape=(), dtype=i64, device=cpu)
            self.add("sin", self.add("cast", made, dtype=f64))

    def logic(self) -> None:
        if self.rng.random() < 0.5:
            self.add(self.rng.choice(COMPARE), self.number_value(), self.number())
        elif self.rng.random() < 0.5:
            x = self.of(INT)
            if x is not None:
                self.add(self.rng.choice(COMPARE), x, self.int())
        else:
            c = self.of(FLAG)
            if c is not None:
                self.add(self.rng.choice(LOGIC), c, self.flag())

    def choose(self) -> None:
        self.add("where", self.flag(), self.number_value(), self.number())

    def array_arithmetic(self) -> None:
        x = self.array()
        if self.rng.random() < 0.4:
            self.add(self.rng.choice(UNARY), x)
            return
        y: Operand | None = self.of(x.type)
        if self.rng.random() < 0.3:
            y = Literal(0.5, x.type.dtype)
            if x.type.dtype is f64:
                y = self.add("broadcast_to", self.number_value(), shape=x.type.shape)
        self.add("tanh", self.add(self.rng.choice(BINARY), x, y if y is not None else x))

    def read(self) -> None:
        """A slice; one of a single element becomes a number."""
        x = self.array()
        made = self.add("slice", x, **self.part(x.type.shape))
        if made.type.size == 1 and x.type.dtype is f64:
            self.add("reshape", made, shape=())

    def write(self) -> None:
        """A slice is written: with a number, another array, or what was there, changed."""
        x = self.array()
        part = self.part(x.type.shape)
        old = self.add("slice", x, **part)
        value = self.of(old.type) or old
        if self.rng.random() < 0.6 and x.type.dtype is f64:
            value = self.add("broadcast_to", self.number_value(), shape=old.type.shape)
        elif self.rng.random() < 0.5:
            value = self.add("mul", old, Literal(0.5, x.type.dtype))
        self.add("slice_update", x, value, **part)

    def accumulate(self) -> None:
        """Add to a slice by zeros around it, as gradients do."""
        x = self.array()
        part = self.part(x.type.shape)
        steps = self.add("slice", x, **part)
        extents = tuple(b - a for a, b in zip(part["starts"], part["stops"], strict=True))
        if set(part["steps"]) != {1}:
            steps = self.add("dilate", steps, steps=part["steps"], shape=extents)
        high = tuple(d - b for d, b in zip(x.type.shape, part["stops"], strict=True))
        around = self.add("pad", steps, low=part["starts"], high=high, value=0)
        self.add("tanh", self.add("add", self.of(x.type) or x, around))

    def reduce(self) -> None:
        x = self.array()
        dims = tuple(d for d in range(x.type.ndim) if self.rng.random() < 0.7)
        full = all(lower_bound(d) >= 1 for d in x.type.shape)
        made = self.add(
            self.rng.choice(("sum", "max", "min") if full else ("sum",)), x, dims=dims, keepdim=self.rng.random() < 0.3
        )
        self.add("sin", made)

    def join(self) -> None:
        """Two arrays one after the other, of which a part is read again."""
        x = self.array()
        y = self.of(x.type) or x
        dim = self.rng.randrange(x.type.ndim)
        both = self.add("concat", x, y, dim=dim)
        shape = both.type.shape
        starts = tuple(1 if d == dim and at_least(x.type.shape[d], 1) else 0 for d in range(len(shape)))
        stops = tuple(a + e for a, e in zip(starts, x.type.shape, strict=True))
        self.add("slice", both, starts=starts, stops=stops, steps=(1,) * len(shape))

    def pick(self) -> None:
        """Elements at computed positions, all of them in range."""
        x = self.value(lambda t: t.is_float and t.ndim == 1 and at_least(t.shape[0], 1))
        if x is None:
            return
        size = self.add("full", value=x.type.shape[0], shape=(), dtype=i64, device=cpu)
        at = self.add("remainder", self.of(INT) or size, size)
        if self.rng.random() < 0.5:
            made = self.add("take", x, at, dim=0)
            if x.type.dtype is f64:
                self.add("sin", made)
            return
        where = self.add("reshape", at, shape=(1,))
        value = self.add("slice", x, starts=(0,), stops=(1,), steps=(1,))
        self.add("tanh", self.add(self.rng.choice(("index_add", "index_copy")), x, where, value, dim=0))

    def demand(self) -> None:
        """A check that holds, mostly."""
        x = self.of(INT)
        if x is not None:
            holds = self.add("lt", x, Literal(7 if self.rng.random() < 0.9 else 5, i64))
            place = Location("random.py", self.line)
            self.builder.add(OPS["check"], [holds], {"message": "AssertionError: too large"}, location=place)

    def contract(self) -> None:
        a = self.value(lambda t: t.is_float and t.ndim == 2)
        assert a is not None  # an input
        b = self.value(lambda t: t.dtype is a.type.dtype and t.ndim == 2 and t.shape[0] == a.type.shape[1])
        if b is None:
            b = self.add("permute", a, dims=(1, 0))
        self.add("tanh", self.add("dot", a, b))

    def move(self) -> None:
        x = self.array()
        if x.type.ndim == 2:
            self.add("permute", x, dims=(1, 0))
        elif self.rng.random() < 0.5:
            self.add("flip", x, dims=(0,))
        else:
            self.add("broadcast_to", x, shape=(3, *x.type.shape))

    # -- control flow --------------------------------------------------------------------------------------------------

    def scope(self, carried: Sequence[Operand], fill: Callable[[list[Value]], list[Operand]]) -> tuple[list, ...]:
        """The inputs, nodes and outputs of a region whose statements `fill` makes."""
        outer = self.builder, self.values, self.in_scope
        self.builder, self.values, self.in_scope = GraphBuilder(""), list(self.values), list(self.in_scope)
        self.depth -= 1
        inputs = [Value(o.type, o.name if isinstance(o, Value) else "v") for o in carried]
        self.values.extend(inputs)
        outputs = fill(inputs)
        nodes = self.builder.nodes
        self.depth += 1
        self.builder, self.values, self.in_scope = outer
        return inputs, nodes, outputs

    def region(self, name: str, carried: Sequence[Operand], fill: Callable[[list[Value]], list[Operand]]) -> Region:
        inputs, nodes, outputs = self.scope(carried, fill)
        return Region(name, tuple(inputs), tuple(nodes), tuple(outputs))

    def carried(self) -> list[Operand]:
        """What a control node carries: distinct values, now and then a literal."""
        found: list[Operand] = []
        for _ in range(self.rng.randint(0, 3)):
            kind = self.rng.random()
            one: Operand = self.array() if kind < 0.5 else self.number() if kind < 0.8 else self.int()
            found.append(one)
        return found

    def yielded(self, wanted: Sequence[TensorType]) -> list[Operand]:
        """Values of the types that a region yields, those of its end more often."""
        return [self.yielded_one(type) for type in wanted]

    def yielded_one(self, type: TensorType) -> Operand:
        found = [v for v in self.values if v.type == type]
        if not found or (not type.ndim and self.rng.random() < 0.05):
            return Literal(True if type.dtype is bool_ else 1, type.dtype)
        return found[-1] if self.rng.random() < 0.85 else self.rng.choice(found[-5:])

    def node(self, op: str, operands: Sequence[Operand], attrs: dict, regions: list[Region], types: list) -> None:
        place = Location("random.py", self.line)
        results = self.builder.add(OPS[op], operands, attrs, regions=regions, types=types, location=place)
        self.values.extend(results)

    def branch(self) -> None:
        if self.depth <= 0:
            return
        carried = self.carried()
        more = [self.rng.choice([FLOAT, INT, FLAG]) for _ in range(self.rng.randint(0, 2))]
        types = [*(o.type for o in carried), *more]

        def fill(inputs: list[Value]) -> list[Operand]:
            self.statements(self.rng.randint(0, 3))
            return self.yielded(types)

        regions = [self.region(name, carried, fill) for name in ("then", "else")]
        self.node("if", [self.flag(), *carried], {}, regions, types)

    def count(self) -> None:
        if self.depth <= 0:
            return
        carried = self.carried()
        trip = self.trip()
        symbol = counter(self.name("i"), trip)

        def fill(inputs: list[Value]) -> list[Operand]:
            self.in_scope.append(symbol)
            self.statements(self.rng.randint(1, 4))
            return self.yielded([o.type for o in carried])

        body = self.region("body", carried, fill)
        attrs = {"counter": symbol.name, "trip": trip}
        self.node("for", carried, attrs, [body], [o.type for o in carried])

    def trip(self) -> Dim:
        extents = [d for v in self.values[:4] for d in v.type.shape]
        inner: list[Dim] = [s.dim for s in self.in_scope]
        choices: list[Dim] = [0, 1, 2, 3, *extents, *(d - 1 for d in extents), *inner, *(d + 1 for d in inner)]
        return self.rng.choice([d for d in choices if at_least(d, 0)])

    def repeat(self) -> None:
        """A `while` that counts, and may end earlier."""
        if self.depth <= 0:
            return
        carried: list[Operand] = [Literal(0, i64), *self.carried()]
        limit = Literal(self.rng.randint(0, 4), i64)

        def test(inputs: list[Value]) -> list[Operand]:
            self.statements(self.rng.randint(0, 1))
            more = self.add("lt", inputs[0], limit)
            if self.rng.random() < 0.4:
                more = self.add("bitwise_and", more, self.flag())
            return [more]

        def body(inputs: list[Value]) -> list[Operand]:
            self.statements(self.rng.randint(1, 4))
            rest = self.yielded([o.type for o in carried[1:]])
            return [self.add("add", inputs[0], Literal(1, i64)), *rest]

        regions = [self.region("test", carried, test), self.region("body", carried, body)]
        self.node("while", carried, {}, regions, [o.type for o in carried])

    def bind(self) -> None:
        """A computed number becomes a position or an extent."""
        extents = [d for v in self.values[:4] for d in v.type.shape if at_least(d, 1)]
        high: Dim | None = None
        if self.rng.random() < 0.04:  # which may be out of range
            number, high = self.of(INT) or self.values[6], self.rng.choice(extents) - 1
        elif self.rng.random() < 0.7:
            extent = self.rng.choice(extents)
            size = self.add("full", value=extent, shape=(), dtype=i64, device=cpu)
            number = self.add("remainder", self.of(INT) or size, size)
            high = extent - 1
        else:
            number = self.add("remainder", self.of(INT) or self.values[6], Literal(4, i64))
        symbol = Symbol(self.name("u"), 0, high)
        attrs = {"symbol": symbol.name, "low": 0, "high": high}
        self.builder.add(OPS["bind"], [number], attrs, location=Location("random.py", self.line))
        self.in_scope.append(symbol)


def _names(type: TensorType) -> set[str]:
    return {s.name for d in type.shape for s in symbols(d)}


_STATEMENTS: tuple[Callable[[_Maker], None], ...] = (
    *((_Maker.float_arithmetic,) * 3),
    *((_Maker.int_arithmetic,) * 2),
    _Maker.counter_number,
    _Maker.logic,
    _Maker.choose,
    *((_Maker.array_arithmetic,) * 2),
    *((_Maker.read,) * 3),
    *((_Maker.write,) * 4),
    _Maker.accumulate,
    _Maker.reduce,
    _Maker.contract,
    _Maker.move,
    _Maker.join,
    _Maker.pick,
    _Maker.demand,
    *((_Maker.branch,) * 2),
    *((_Maker.count,) * 4),
    _Maker.repeat,
    _Maker.bind,
)


def check(seed: int, depth: int = 3, passes: Sequence[Pass] = DEFAULT) -> None:
    """Text comes back, and every pass keeps what the graph computes, to the bit but for the order of products."""
    graph = random_graph(seed, depth)
    verify(graph)
    text = print_graph(graph)
    again = parse_graph(text)
    verify(again)
    assert print_graph(again) == text, "the text that is parsed prints otherwise"
    arrays = random_arrays(graph, seed)
    wanted = _outcome(lambda: evaluate(graph, arrays))
    _compare("parsing", _outcome(lambda: evaluate(again, arrays)), wanted, exact=True)
    for one in passes:
        after = one(graph)
        if after is not graph:
            try:
                verify(after)
                found = _outcome(lambda after=after: evaluate(after, arrays))
                _compare(one.__name__, found, wanted, exact=one not in _REORDERING)
            except Exception as error:
                error.add_note(f"before {one.__name__}:\n{print_graph(graph)}\nafter:\n{print_graph(after)}")
                raise
            assert one(after) is after, f"{one.__name__} changes its own result"
            graph, wanted = after, found


def check_compiled(seed: int, depth: int = 3) -> None:
    """The compiled program gives what the graph evaluates to, with what it writes back, or fails alike."""
    from tjit.compiled import BuildOptions, build_program

    graph = random_graph(seed, depth)
    arrays = random_arrays(graph, seed)
    wanted = _outcome(lambda: evaluate(graph, arrays))
    program = build_program(graph, (None,) * len(graph.inputs), BuildOptions(), {})
    inputs = [np.array(a) for a in arrays]
    sizes = program.bind(inputs)
    assert sizes is not None, "the program refuses the inputs"
    returned = _outcome(lambda: program.run(inputs, sizes))
    try:
        if isinstance(returned, Exception):
            _compare("the compiled program", returned, wanted)
            return
        rest = iter(returned)
        found = [inputs[graph.writes[i]] if i in graph.writes else next(rest) for i in range(len(graph.outputs))]
        _compare("the compiled program", found, wanted)
        kept = [i for i in range(len(inputs)) if i not in graph.writes.values()]
        _compare("an input after the program", [inputs[i] for i in kept], [arrays[i] for i in kept])
    except AssertionError as error:
        error.add_note(print_graph(graph))
        raise


Outcome = Sequence[np.ndarray] | Exception


def _outcome(run: Callable[[], Sequence[np.ndarray]]) -> Outcome:
    """The results, or the error of an index out of range or of a check."""
    try:
        return run()
    except (DimensionError, CheckError) as error:
        return error


def _compare(what: str, found: Outcome, wanted: Outcome, exact: bool = False) -> None:
    """`exact`: to the bit, but for which nan it is."""
    if isinstance(found, Exception) or isinstance(wanted, Exception):
        assert type(found) is type(wanted), f"{what}: {found!r}, not {wanted!r}"
        return
    for position, (a, b) in enumerate(zip(found, wanted, strict=True)):
        close = 0.0 if exact else 1e-4 if b.dtype == np.float32 else 1e-9
        np.testing.assert_allclose(a, b, rtol=close, atol=close, err_msg=f"{what}: output {position}")
        if exact and b.dtype.kind == "f":
            signs = [np.signbit(x[~np.isnan(b)]) for x in (a, b)]
            np.testing.assert_array_equal(*signs, err_msg=f"{what}: the sign of a zero of output {position}")


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--count", type=int, default=1)
    parser.add_argument("--start", type=int, default=0)
    parser.add_argument("--depth", type=int, default=3)
    parser.add_argument("--compiled", action="store_true", help="build and run the programs too")
    parser.add_argument("--show", action="store_true", help="print the graphs")
    parser.add_argument("--trace", action="store_true", help="print the whole error")
    options = parser.parse_args(arguments)
    failed = [seed for seed in range(options.start, options.start + options.count) if not _passes(seed, options)]
    print(f"{len(failed)} of {options.count} failed: {failed[:60]}")
    return 1 if failed else 0


def _passes(seed: int, options: argparse.Namespace) -> bool:
    if options.show:
        print(random_graph(seed, options.depth), "\n")
    try:
        check(seed, options.depth)
        if options.compiled:
            check_compiled(seed, options.depth)
    except Exception as error:  # every failure is reported with its seed
        print(f"seed {seed}: {type(error).__name__}: {str(error).strip().split(chr(10))[0]}")
        if options.trace:
            traceback.print_exc()
        return False
    return True


if __name__ == "__main__":
    os.environ.setdefault("TJIT_CACHE", "0")
    sys.exit(main())
