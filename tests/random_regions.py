"""Random graphs with control flow, writes of parts, and values that change places."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from tjit.devices import cpu
from tjit.dtypes import f64, i64
from tjit.ir.dims import Dim, Symbol, counter
from tjit.ir.graph import Graph, GraphBuilder, Literal, Node, Operand, Region, Value
from tjit.ir.op import OPS
from tjit.ir.types import TensorType

__all__ = ["random_graph"]

_COLUMNS = 3


class _Scope:
    """Where nodes go, and what they may read: values by kind ("scalar", "line", "grid")."""

    def __init__(self, outer: _Scope | None = None) -> None:
        self.nodes: list[Node] = []
        self.values: dict[str, list[Value]] = {k: list(v) for k, v in outer.values.items()} if outer else {}
        self.places: list[Dim] = list(outer.places) if outer else [0]


class _Generator:
    def __init__(self, rng: np.random.Generator, extent: Dim) -> None:
        self.rng = rng
        self.extent = extent
        self.types = {
            "scalar": TensorType(f64, ()),
            "line": TensorType(f64, (extent,)),
            "grid": TensorType(f64, (extent, _COLUMNS)),
        }
        self.names = 0

    def pick(self, items: Sequence[Any]) -> Any:
        return items[int(self.rng.integers(len(items)))]

    def add(self, scope: _Scope, op: str, *operands: Operand, regions: Sequence[Region] = (), **attrs: Any) -> Any:
        builder = GraphBuilder("part")
        types = None
        if op in ("if", "for", "while"):
            carried = operands[1:] if op == "if" else operands
            types = [o.type for o in carried]
        results = builder.add(OPS[op], operands, attrs, types=types, regions=regions)
        scope.nodes += builder.nodes
        return results[0] if len(results) == 1 else results

    def keep(self, scope: _Scope, kind: str, value: Value) -> None:
        scope.values.setdefault(kind, []).append(value)

    def value(self, scope: _Scope, kind: str) -> Value:
        found = scope.values[kind]
        return found[-1] if self.rng.random() < 0.4 else self.pick(found)

    def tame(self, scope: _Scope, value: Operand) -> Value:
        """Keeps numbers within [-1, 1]."""
        return self.add(scope, "tanh", value)

    # -- statements ----------------------------------------------------------------------------------------------------

    def statements(self, scope: _Scope, count: int, depth: int) -> None:
        simple = (
            self.elementwise,
            self.elementwise,
            self.write,
            self.write,
            self.write,
            self.swap,
            self.peek,
            self.reduce,
            self.move,
            self.fill,
        )
        rare = (self.product, self.scatter, self.bind)
        control = (self.loop, self.branch, self.repeat)
        for _ in range(count):
            chance = self.rng.random()
            if chance < 0.25 and depth:
                self.pick(control)(scope, depth - 1)
            else:
                self.pick(rare if chance > 0.85 else simple)(scope)

    def elementwise(self, scope: _Scope) -> None:
        kind = self.pick(("scalar", "line", "grid"))
        x, y = self.value(scope, kind), self.value(scope, kind)
        other: Operand = Literal(float(self.rng.integers(-2, 3)) / 2, f64) if self.rng.random() < 0.3 else y
        made = self.add(scope, self.pick(("add", "sub", "mul")), x, other)
        self.keep(scope, kind, self.tame(scope, made))

    def fill(self, scope: _Scope) -> None:
        kind = self.pick(("scalar", "line", "grid"))
        attrs = {"value": 0.25, "shape": self.types[kind].shape, "dtype": f64, "device": cpu}
        self.keep(scope, kind, self.add(scope, "full", **attrs))

    def part(self, kind: str, scope: _Scope) -> tuple[tuple[Dim, ...], tuple[Dim, ...]]:
        """A row, the first or last of two halves that overlap, or all."""
        n, place = self.extent, self.pick(scope.places)
        start, stop = self.pick(((place, place + 1), (place, place + 1), (0, n - 1), (1, n), (0, n)))
        return (start, *(0,) * (kind == "grid")), (stop, *(_COLUMNS,) * (kind == "grid"))

    def write(self, scope: _Scope) -> None:
        """A part of one array becomes a part, of the same extents, of another or the same."""
        kind = self.pick(("line", "grid"))
        target, source = self.value(scope, kind), self.value(scope, kind)
        ones = (1,) * self.types[kind].ndim
        starts, stops = self.part(kind, scope)
        found, ends = starts, stops
        for _ in range(9):
            a, b = self.part(kind, scope)
            if b[0] - a[0] == stops[0] - starts[0]:
                found, ends = a, b
        value = self.add(scope, "slice", source, starts=found, stops=ends, steps=ones)
        if self.rng.random() < 0.5:
            value = self.add(scope, "mul", value, Literal(0.5, f64))
        if self.rng.random() < 0.3:
            own = self.add(scope, "slice", target, starts=starts, stops=stops, steps=ones)
            value = self.add(scope, "sub", value, own)
        if self.rng.random() < 0.3:
            self.keep(scope, "scalar", self.total(scope, value))
        self.keep(scope, kind, self.add(scope, "slice_update", target, value, starts=starts, stops=stops, steps=ones))

    def peek(self, scope: _Scope) -> None:
        """One element, which may be used after it was overwritten."""
        place = self.pick(scope.places)
        element = self.add(scope, "slice", self.value(scope, "line"), starts=(place,), stops=(place + 1,), steps=(1,))
        self.keep(scope, "scalar", self.add(scope, "reshape", element, shape=()))

    def swap(self, scope: _Scope) -> None:
        """Two elements, or rows, of the latest array change places."""
        kind = self.pick(("line", "grid"))
        array, ones = scope.values[kind][-1], (1,) * self.types[kind].ndim
        rows = [self.pick(scope.places) for _ in range(2)]
        ends = [((r, *(0,) * (kind == "grid")), (r + 1, *(_COLUMNS,) * (kind == "grid"))) for r in rows]
        parts = [self.add(scope, "slice", array, starts=a, stops=b, steps=ones) for a, b in ends]
        for part, (a, b) in zip(reversed(parts), ends, strict=True):
            array = self.add(scope, "slice_update", array, part, starts=a, stops=b, steps=ones)
        self.keep(scope, kind, array)

    def total(self, scope: _Scope, value: Value) -> Value:
        dims = tuple(range(value.type.ndim))
        return self.tame(scope, self.add(scope, "sum", value, dims=dims, keepdim=False))

    def reduce(self, scope: _Scope) -> None:
        if self.rng.random() < 0.5:
            self.keep(scope, "scalar", self.total(scope, self.value(scope, self.pick(("line", "grid")))))
            return
        line = self.add(scope, "sum", self.value(scope, "grid"), dims=(1,), keepdim=False)
        self.keep(scope, "line", self.tame(scope, line))

    def move(self, scope: _Scope) -> None:
        choice = self.rng.integers(3)
        if choice == 0:
            self.keep(scope, "line", self.add(scope, "flip", self.value(scope, "line"), dims=(0,)))
        elif choice == 1:
            self.keep(scope, "line", self.add(scope, "broadcast_to", self.value(scope, "scalar"), shape=(self.extent,)))
        else:
            column = self.add(scope, "reshape", self.value(scope, "line"), shape=(self.extent, 1))
            self.keep(scope, "grid", self.add(scope, "broadcast_to", column, shape=(self.extent, _COLUMNS)))

    def product(self, scope: _Scope) -> None:
        a, b = self.value(scope, "grid"), self.value(scope, "grid")
        across = self.add(scope, "permute", a, dims=(1, 0))
        square = self.add(scope, "dot", across, b)
        self.keep(scope, "grid", self.tame(scope, self.add(scope, "dot", self.value(scope, "grid"), square)))

    def scatter(self, scope: _Scope) -> None:
        index = self.add(scope, "iota", shape=(self.extent,), dim=0, dtype=i64)
        half = self.add(scope, "floor_divide", index, Literal(2, i64))
        name = self.pick(("index_add", "index_copy", "scatter", "scatter_add"))
        line = self.add(scope, name, self.value(scope, "line"), half, self.value(scope, "line"), dim=0)
        self.keep(scope, "line", self.tame(scope, line) if name.endswith("add") else line)

    def bind(self, scope: _Scope) -> None:
        """A place that numbers decide."""
        name, last = self.name("bound"), self.extent - 1
        scaled = self.add(scope, "mul", self.value(scope, "scalar"), Literal(1000.0, f64))
        whole = self.add(scope, "cast", scaled, dtype=i64)
        most = self.add(scope, "full", value=self.extent, shape=(), dtype=i64, device=cpu)
        self.add(scope, "bind", self.add(scope, "remainder", whole, most), symbol=name, low=0, high=last)
        scope.places.append(Symbol(name, 0, last).dim)

    # -- control -------------------------------------------------------------------------------------------------------

    def name(self, prefix: str) -> str:
        self.names += 1
        return f"{prefix}{self.names}"

    def carried(self, scope: _Scope) -> tuple[list[str], list[Operand]]:
        kinds = [self.pick(("scalar", "line", "grid")) for _ in range(int(self.rng.integers(1, 4)))]
        operands: list[Operand] = [self.value(scope, kind) for kind in kinds]
        if kinds[0] == "scalar" and self.rng.random() < 0.3:
            operands[0] = Literal(0.5, f64)
        return kinds, operands

    def region(self, outer: _Scope, name: str, kinds: Sequence[str], depth: int, place: Dim | None = None) -> Region:
        scope = _Scope(outer)
        inputs = [Value(self.types[kind], "v") for kind in kinds]
        for kind, value in zip(kinds, inputs, strict=True):
            self.keep(scope, kind, value)
        scope.places += [] if place is None else [place, place]
        self.statements(scope, int(self.rng.integers(1, 5)), depth)
        outputs = [self.value(scope, kind) for kind in kinds]
        return Region(name, tuple(inputs), tuple(scope.nodes), tuple(outputs))

    def after(self, scope: _Scope, kinds: Sequence[str], results: Any) -> None:
        for kind, value in zip(kinds, results if isinstance(results, tuple) else (results,), strict=True):
            self.keep(scope, kind, value)

    def loop(self, scope: _Scope, depth: int) -> None:
        kinds, operands = self.carried(scope)
        name, trip = self.name("at"), self.pick((self.extent, self.extent - 1, 2))
        trip = trip if trip != 2 else 1
        body = self.region(scope, "body", kinds, depth, counter(name, trip).dim)
        self.after(scope, kinds, self.add(scope, "for", *operands, regions=[body], counter=name, trip=trip))

    def branch(self, scope: _Scope, depth: int) -> None:
        kinds, operands = self.carried(scope)
        condition = self.add(scope, "gt", self.value(scope, "scalar"), Literal(0.1, f64))
        regions = [self.region(scope, name, kinds, depth) for name in ("then", "else")]
        self.after(scope, kinds, self.add(scope, "if", condition, *operands, regions=regions))

    def repeat(self, scope: _Scope, depth: int) -> None:
        kinds, operands = self.carried(scope)
        body = self.region(scope, "body", kinds, depth)
        count = Value(TensorType(i64, ()), "n")
        builder = GraphBuilder("count")
        (more,) = builder.add(OPS["add"], (count, Literal(1, i64)))
        nodes, inputs = (*body.nodes, *builder.nodes), (*body.inputs, count)
        body = Region("body", inputs, nodes, (*body.outputs, more))
        tested = [Value(v.type, "t") for v in inputs]
        builder = GraphBuilder("test")
        (go_on,) = builder.add(OPS["lt"], (tested[-1], Literal(int(self.rng.integers(3)), i64)))
        test = Region("test", tuple(tested), tuple(builder.nodes), (go_on,))
        results = self.add(scope, "while", *operands, Literal(0, i64), regions=[test, body])
        self.after(scope, kinds, results[:-1])

    # -- the whole -----------------------------------------------------------------------------------------------------

    def graph(self) -> Graph:
        scope = _Scope()
        inputs = [Value(self.types[kind], f"a{n}") for n, kind in enumerate(("scalar", "line", "line", "grid", "grid"))]
        for value, kind in zip(inputs, ("scalar", "line", "line", "grid", "grid"), strict=True):
            self.keep(scope, kind, value)
        self.statements(scope, int(self.rng.integers(4, 10)), 2)
        written = [k for k in range(1, 5) if self.rng.random() < 0.6]
        kinds = ["line" if k < 3 else "grid" for k in written]
        outputs = [self.value(scope, self.pick(("scalar", "line", "grid"))) for _ in range(2)]
        outputs += [self.value(scope, kind) for kind in kinds]
        writes = {2 + n: k for n, k in enumerate(written)}
        return Graph("f", tuple(inputs), tuple(scope.nodes), tuple(outputs), writes)


def random_graph(seed: int, extent: Dim) -> tuple[Graph, list[np.ndarray]]:
    """A graph of five inputs, some of them written back, and arrays for it with 4 as the extent of its first dims."""
    rng = np.random.default_rng(seed)
    graph = _Generator(rng, extent).graph()
    shapes = ((), (4,), (4,), (4, _COLUMNS), (4, _COLUMNS))
    return graph, [np.asarray(rng.uniform(-1, 1, shape)) for shape in shapes]
