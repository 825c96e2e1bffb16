"""Items: what kernels compute, and what each reads where.

Every reduction, every contraction and every elementwise value that must be in memory (graph outputs, operands of
contractions and of index ops) is an item. All other elementwise and movement nodes are computed where they are used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import field
from functools import cached_property
from typing import Any

from tjit.dataclass import dataclass
from tjit.dtypes import bool_
from tjit.ir.dims import Dim, DimExpr, Symbol, is_one, symbols
from tjit.ir.graph import Graph, Literal, Node, Value
from tjit.ir.types import TensorType
from tjit.ops.movement import _reshape_index

__all__ = [
    "INLINE_INDEX",
    "STORED_KINDS",
    "Group",
    "Index",
    "Item",
    "Program",
    "Read",
    "bare_symbol",
    "make_items",
    "picked_from",
    "pieces",
]

Index = tuple[Dim, ...]

STORED_KINDS = frozenset(
    {"contract", "reduce", "scan", "sort", "composite", "control"}
)  # of ops whose results are in memory
INLINE_INDEX = frozenset(
    {"gather", "take", "concat", "slice_update"}
)  # read in place; the others write at computed places


@dataclass(eq=False)
class Read:
    """Where an item reads a value that is in memory or is another item's; `is_picked`: at places that data say."""

    value: Value
    index: Index
    is_picked: bool = False


@dataclass(eq=False)
class Item:
    """A value that a kernel computes. `symbols` are one per dim of the domain: the result's, or a reduced operand's.

    An update writes a part of what its base is in: its domain is the part's. A node with regions, or one that binds a
    symbol, is an item too, a group of its own and no kernel. A composite that the passes left whole is one group too.
    """

    node: Node
    value: Value
    kind: str  # "store", "update", "reduce", "scan", "sort", "contract", "composite", "index", "control"
    domain: tuple[Dim, ...]
    symbols: tuple[Symbol, ...]
    reads: list[Read] = field(default_factory=list)
    inlined: list[Node] = field(default_factory=list)

    @property
    def reduced(self) -> tuple[int, ...]:
        return self.node.attrs["dims"] if self.kind == "reduce" else ()

    @property
    def looped(self) -> tuple[int, ...]:
        """The dims whose elements depend on each other: those of a reduction, that of a scan."""
        return (self.node.attrs["dim"],) if self.kind == "scan" else self.reduced

    @property
    def parallel(self) -> list[Symbol]:
        """Symbols of the other dims whose extent is not 1."""
        return [s for d, s in enumerate(self.symbols) if d not in self.looped and not is_one(self.domain[d])]

    def loop(self) -> list[Symbol]:
        return [s for d, s in enumerate(self.symbols) if d in self.looped and not is_one(self.domain[d])]

    def extent(self, symbol: Symbol) -> Dim:
        return self.domain[self.symbols.index(symbol)]

    def value_index(self) -> Index:
        """The index of the value's element that is computed at the domain's symbols."""
        if self.kind == "update":
            attrs = self.node.attrs
            places = zip(attrs["starts"], self.part_index(), attrs["steps"], strict=True)
            return tuple(start + i * step for start, i, step in places)
        if self.kind != "reduce":
            own = tuple(s.dim if not is_one(d) else 0 for s, d in zip(self.symbols, self.domain, strict=True))
            if self.domain == self.value.type.shape:
                return own
            return _reshape_index(own, self.value.type, self.domain)
        keep = self.node.attrs["keepdim"]
        kept = ((d, s) for d, s in enumerate(self.symbols) if keep or d not in self.reduced)
        return tuple(0 if d in self.reduced or is_one(self.domain[d]) else s.dim for d, s in kept)

    def part_index(self) -> Index:
        """The index of the element of an update's part that is computed at the domain's symbols."""
        own = tuple(s.dim if not is_one(d) else 0 for s, d in zip(self.symbols, self.domain, strict=True))
        part = self.node.operands[1].type
        return own if self.domain == part.shape else _reshape_index(own, part, self.domain)


@dataclass(eq=False)
class Group:
    """Items of one kernel. `axis` maps every item's symbols to the group's; `parallel` are the group's parallel ones.

    A group without a reduction is flexible: all its symbols are parallel, until a reduction fixes which are.
    `nodes` measures its size: an expensive node counts for several. `reads` are the values that its items read,
    `updates` those of its items that are updates, `extents` those of its symbols. `number`, `needs` and `users` place
    it among the others (codegen/group_order.py).
    """

    items: list[Item]
    parallel: list[Symbol]
    kind: str  # "store", "reduce", "contract"
    axis: dict[Symbol, Symbol] = field(default_factory=dict)
    nodes: int = 0
    reads: set[Value] = field(default_factory=set)
    updates: list[Item] = field(default_factory=list)
    extents: dict[Symbol, Dim] = field(default_factory=dict)
    number: int = 0
    needs: dict[Group, None] = field(default_factory=dict)
    users: dict[Group, None] = field(default_factory=dict)

    @property
    def flexible(self) -> bool:
        return self.kind == "store"


class Program:
    """A graph seen by the scheduler: who makes what, what must be in memory, and the groups.

    Attributes:
        mark: what the names of kernels' own symbols begin with.
        wide: kernels hold f16 and bf16 as f32 from one elementwise op to the next (docs/design/0019).
    """

    def __init__(
        self, graph: Graph, overwrites: dict[Value, Value] | None = None, mark: str = "", *, wide: bool = False
    ) -> None:
        self.graph = graph
        self.mark = mark
        self.wide = wide
        self.producer: dict[Value, Node] = graph.producers()
        self.overwrites = overwrites or {}
        self.stored: set[Value] = set()
        self.blank: set[Value] = set()
        self.items: list[Item] = []
        self.item_of: dict[Value, Item] = {}
        self.groups: list[Group] = []
        self.group_of: dict[Item, Group] = {}
        self.after: dict[Item, list[Item]] = {}  # what an item waits for besides what it reads
        self.known: dict[Value, Item] = {}  # items that need not be made again
        self._counter = 0

    def again(self, more: Collection[Value]) -> Program:
        """The same graph with `more` values in memory, before items are made."""
        program = Program(self.graph, self.overwrites, self.mark, wide=self.wide)
        program.stored, program.blank = self.stored.union(more), self.blank
        program.known = {
            item.value: item
            for item in self.items
            if item.kind not in ("composite", "control")
            and not any(v in more for node in item.inlined for v in node.results)
        }
        program._counter = self._counter
        return program

    def symbol(self, prefix: str, extent: Dim) -> Symbol:
        self._counter += 1
        return self.named(f"{prefix}{self._counter}", extent)

    def named(self, name: str, extent: Dim) -> Symbol:
        """A symbol of kernels, whatever the program calls its own."""
        return Symbol(self.mark + name, 0, extent - 1)

    def root(self, value: Value) -> Value:
        """The first of the values that share memory with `value`."""
        while value in self.overwrites:
            value = self.overwrites[value]
        return value

    def in_memory(self, value: Value) -> bool:
        """Whether kernels other than its own read `value` from a buffer."""
        node = self.producer.get(value)
        if node is None or value in self.stored or value in self.overwrites or node.op.name == "constant":
            return True
        if node.op.kind in STORED_KINDS:
            return True
        return node.op.kind == "index" and node.op.name not in INLINE_INDEX

    @cached_property
    def epilogues(self) -> set[Value]:
        """Contractions, and what is not stored but computed of one: elementwise, and as large."""
        found: set[Value] = set()
        for node in self.graph.nodes:
            if node.op.kind == "contract":
                found.update(node.results)
            elif node.op.kind == "elementwise" or node.op.name in ("reshape", "alias"):
                value = node.result
                below = [o for o in node.operands if isinstance(o, Value) and o in found]
                if value not in self.stored and any(o.type.size == value.type.size for o in below):
                    found.add(value)
        return found

    @cached_property
    def position(self) -> dict[Value, int]:
        """Where in the graph a value is made."""
        return {v: n for n, node in enumerate(self.graph.nodes) for v in node.results}


def bare_symbol(d: Dim) -> Symbol | None:
    """The symbol that `d` is, if it is just one."""
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        ((monomial, c),) = d.terms.items()
        if c == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def picked_from(
    source: Any, producer: Mapping[Value, Node], stored: Collection[Value] = ()
) -> tuple[Value, list[Node]]:
    """The value in memory that a gather of `source` reads, and the reshapes between, the last one first."""
    assert isinstance(source, Value)
    reshapes: list[Node] = []
    while source not in stored and (node := producer.get(source)) is not None and node.op.name == "reshape":
        below = node.operands[0]
        if not isinstance(below, Value):
            break
        reshapes.append(node)
        source = below
    return source, reshapes


def make_items(program: Program) -> None:
    for node in program.graph.nodes:
        kind = node.op.kind
        if kind in ("reduce", "scan"):
            operand = node.operands[0]
            _add_item(program, node, node.result, kind, operand.type.shape)
        elif kind == "contract":
            _add_item(program, node, node.result, "contract", node.result.type.shape)
        elif kind == "index" and node.op.name not in INLINE_INDEX:
            _add_item(program, node, node.result, "index", node.result.type.shape)
        elif kind == "composite":
            _add_composite(program, node)
        elif kind == "sort":
            _add_item(program, node, node.results[0], "sort", node.operands[0].type.shape)
            program.item_of[node.results[1]] = program.items[-1]
        elif kind == "control":
            _add_control(program, node)
        elif node.op.name == "slice_update" and node.result in program.overwrites:
            part = node.operands[1]
            domain = _domain_of(program, part) if isinstance(part, Value) else ()
            _add_item(program, node, node.result, "update", domain)
        elif node.op.name != "constant":
            for value in node.results:
                if value in program.stored and value not in program.blank:
                    _add_item(program, node, value, "store", _domain_of(program, value))
    _add_order(program)


def _add_control(program: Program, node: Node) -> None:
    """One item for all results; one without results stands for a value that nothing reads."""
    value = node.results[0] if node.results else Value(TensorType(bool_, ()))
    item = Item(node, value, "control", (), ())
    program.items.append(item)
    for result in node.results:
        program.item_of[result] = item
    for operand in node.reads():
        if isinstance(operand, Value):
            index = tuple(program.symbol("y", d).dim for d in operand.type.shape)
            item.reads.append(Read(operand, index))


def _add_composite(program: Program, node: Node) -> None:
    """One item for all results."""
    item = Item(node, node.results[0], "composite", (), ())
    program.items.append(item)
    program.item_of.update(dict.fromkeys(node.results, item))
    seen: set[tuple[Value, Index]] = set()
    for operand in node.operands:
        _collect(program, item, operand, tuple(program.symbol("y", d).dim for d in operand.type.shape), seen)


def _add_order(program: Program) -> None:
    """Who waits for whom besides what they read.

    What overwrites a value comes after everything that reads it; what uses a symbol after the node that binds it.
    """
    bound = {item.node.attrs["symbol"]: item for item in program.items if item.node.op.name == "bind"}
    if not program.overwrites and not bound:
        return
    readers: dict[Value, list[Item]] = {}
    for item in program.items:
        for value in dict.fromkeys(read.value for read in item.reads):
            readers.setdefault(value, []).append(item)
    for result, base in program.overwrites.items():
        item = program.item_of[result]
        first = [program.item_of[base]] if base in program.item_of else []
        program.after.setdefault(item, []).extend(i for i in (*first, *readers.get(base, ())) if i is not item)
    for item in program.items if bound else ():
        binders = [bound[name] for name in sorted(_symbol_names(item)) if name in bound]
        program.after.setdefault(item, []).extend(i for i in binders if i is not item)


def _symbol_names(item: Item) -> set[str]:
    """The symbols that an item's shapes, indices and attrs mention."""
    found = {s.name for d in (*item.domain, *(i for read in item.reads for i in read.index)) for s in symbols(d)}
    for node in (item.node, *item.inlined):
        _note_symbols(node, found)
    return found


def _note_symbols(node: Node, found: set[str]) -> None:
    found.update(s.name for d in _dims_of(tuple(node.attrs.values())) for s in symbols(d))
    found.update(s.name for value in node.results for d in value.type.shape for s in symbols(d))
    for region in node.regions:
        for inner in region.nodes:
            _note_symbols(inner, found)


def _dims_of(attr: Any) -> Iterator[Dim]:
    if isinstance(attr, DimExpr):
        yield attr
    elif isinstance(attr, tuple):
        for item in attr:
            yield from _dims_of(item)


def _domain_of(program: Program, value: Value) -> tuple[Dim, ...]:
    """The result's shape, or that of the contraction it is the reshaped epilogue of."""
    current: Value | None = value
    seen = 0
    while current is not None and seen < 32:
        made = program.producer.get(current)
        if made is None:
            break
        if made.op.kind == "contract":
            same = current.type.size == value.type.size
            return current.type.shape if same else value.type.shape
        if made.op.kind not in ("elementwise", "movement") or (
            made.op.name not in ("reshape", "alias") and made.op.kind == "movement"
        ):
            break
        if current is not value and current in program.stored:
            break
        full = [o for o in made.operands if isinstance(o, Value) and o.type.size == value.type.size]
        through = [o for o in full if o in program.epilogues]
        current = through[0] if through else None
        seen += 1
    return value.type.shape


def _add_item(program: Program, node: Node, value: Value, kind: str, domain: tuple[Dim, ...]) -> None:
    known = program.known.get(value)
    if known is not None and known.kind == kind and known.domain == domain:
        program.items.append(known)
        program.item_of[value] = known
        return
    symbols = tuple(program.symbol("x", d) for d in domain)
    item = Item(node, value, kind, domain, symbols)
    program.items.append(item)
    program.item_of[value] = item
    index: Index = tuple(s.dim if not is_one(d) else 0 for s, d in zip(symbols, domain, strict=True))
    seen: set[tuple[Value, Index]] = set()
    if kind in ("reduce", "scan", "sort"):
        _collect(program, item, node.operands[0], index, seen)
    elif kind == "contract":
        _collect_contract(program, item, node, index, seen)
    elif kind == "index":
        for operand in node.operands:
            if isinstance(operand, Value):
                inner = tuple(program.symbol("y", d).dim for d in operand.type.shape)
                _collect(program, item, operand, inner, seen)
    elif kind == "update":
        _collect(program, item, node.operands[1], item.part_index(), seen)
    else:
        if domain != value.type.shape:
            index = _reshape_index(index, value.type, domain)
        _collect_node(program, item, node, index, seen)


def _collect_contract(program: Program, item: Item, node: Node, index: Index, seen: set[Any]) -> None:
    a, b = node.operands
    k = program.symbol("k", a.type.shape[-1]).dim
    _collect(program, item, a, (*index[:-1], k), seen)
    _collect(program, item, b, (*index[:-2], k, index[-1]), seen)


def _collect(program: Program, item: Item, operand: Any, index: Index, seen: set[Any]) -> None:
    """Note what `item` reads under `operand` at `index`."""
    stack = [(operand, index)]  # not recursion: an unrolled program is thousands of operations deep
    while stack:
        operand, index = stack.pop()
        if isinstance(operand, Literal) or (operand, index) in seen:
            continue
        seen.add((operand, index))
        if program.in_memory(operand):
            item.reads.append(Read(operand, index))
        else:
            stack += reversed(_inline(program, item, program.producer[operand], index))


def _collect_node(program: Program, item: Item, node: Node, index: Index, seen: set[Any]) -> None:
    for operand, inner in _inline(program, item, node, index):
        _collect(program, item, operand, inner, seen)


def _inline(program: Program, item: Item, node: Node, index: Index) -> list[tuple[Any, Index]]:
    """Note that `item` computes `node` at `index`; which operands it then needs, and where."""
    item.inlined.append(node)
    op = node.op
    if op.kind == "movement":
        operand = node.operands[0]
        if isinstance(operand, Literal):
            return []
        assert op.index is not None, op.name
        mapped = op.index(index, operand.type, **node.attrs)
        if mapped and isinstance(mapped[0], tuple):
            mapped = mapped[0]
        return [(operand, mapped)]
    if op.kind == "elementwise":
        return [(operand, index) for operand in node.operands]
    if op.name in ("gather", "take"):
        source, picks = node.operands[:2]
        source, _ = picked_from(source, program.producer, program.stored)
        places = tuple(program.symbol("g", d).dim for d in source.type.shape)
        item.reads.append(Read(source, places, is_picked=True))
        dim = node.attrs["dim"]
        inner = index if op.name == "gather" else index[dim : dim + picks.type.ndim]
        return [(picks, inner)]
    if op.name in ("concat", "slice_update"):
        return [(operand, inner) for operand, inner, _ in pieces(node, index)]
    return []


def pieces(node: Node, index: Index) -> list[tuple[Any, Index, tuple[tuple[Dim, Dim], ...]]]:
    """What an element of a concat or slice_update may come from: (operand, index there, conditions (e, n): 0 <= e < n).

    The first whose conditions hold is the one; the last has none.
    """
    attrs = node.attrs
    if node.op.name == "concat":
        dim, start = attrs["dim"], 0
        found = []
        for operand in node.operands:
            i = index[dim] - start
            extent = operand.type.shape[dim]
            found.append((operand, (*index[:dim], i, *index[dim + 1 :]), ((i, extent),)))
            start = start + extent
        return found
    base, value = node.operands
    inner, conditions = [], []
    slices = zip(index, base.type.shape, value.type.shape, *(attrs[k] for k in ("starts", "steps")), strict=True)
    for i, n, count, start, step in slices:
        place, found = _in_slice(i, n, count, start, step)
        inner.append(place)
        conditions += found
    return [(value, tuple(inner), tuple(conditions)), (base, index, ())]


def _in_slice(i: Dim, n: Dim, count: Dim, start: Dim, step: Dim) -> tuple[Dim, list[tuple[Dim, Dim]]]:
    """Where place i of a dim of n is in a slice of `count`, and the conditions (e, n) that it is: 0 <= e < n."""
    if is_one(step):
        whole = isinstance(start, int) and start == 0 and count == n
        return i - start, [] if whole else [(i - start, count)]
    # digits of i by `step`: both are not negative
    place, last = i // step - start // step, i % step - start % step
    to_the_end = isinstance(start, int) and isinstance(step, int) and start < step and count == -(-(n - start) // step)
    return place, [(last, 1)] if to_the_end else [(place, count), (last, 1)]
