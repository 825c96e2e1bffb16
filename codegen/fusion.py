"""Decide which nodes share a kernel.

Every reduction, every contraction and every elementwise value that must be in memory (graph outputs, operands of
contractions and of index ops) is an *item*. All other elementwise and movement nodes are computed where they are used.
Items whose parallel points line up are merged into *groups*, one kernel each. softmax(x, dim=1) has the items

    m[i] = max_j x[i,j]      s[i] = sum_j exp(x[i,j] - m[i])      y[i,j] = exp(x[i,j] - m[i]) / s[i]

where s reads m, and y reads m and s, at its own i: one group, parallel over i, with three loops over j.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

from tjit.ir.dims import Dim, DimExpr, Symbol, is_one
from tjit.ir.graph import Graph, Literal, Node, Value
from tjit.ops.movement import _reshape_index

__all__ = ["Group", "Item", "Program", "Read", "fuse", "is_one"]

Index = tuple[Dim, ...]

EXPENSIVE = frozenset(
    [
        "exp",
        "exp2",
        "expm1",
        "log",
        "log2",
        "log10",
        "log1p",
        "sin",
        "cos",
        "tan",
        "asin",
        "acos",
        "atan",
        "atan2",
        "sinh",
        "cosh",
        "tanh",
        "asinh",
        "acosh",
        "atanh",
        "erf",
        "erfc",
        "sigmoid",
        "pow",
        "rsqrt",
        "sqrt",
        "div",
        "floor_divide",
        "remainder",
        "fmod",
        "gelu",
        "silu",
    ]
)
INLINE_INDEX = frozenset(
    {"gather", "take", "concat", "slice_update"}
)  # read in place; the others write at computed places
_MAX_INLINE = 200  # nodes computed in place under one item; beyond, a value is stored
_CHEAP_AGAIN = 4  # nodes that are computed at several places rather than stored
_DEEP = 100  # nodes one under another
_MAX_BUFFERS = 24  # in one kernel
_FEW_POINTS = 32  # of a kernel: below, threads have nothing to share
_MUCH_WORK = 1 << 13  # elements
_CHEAP_PROLOGUE = frozenset({"cast"})


@dataclass(eq=False)
class Read:
    """Where an item reads a value that is in memory or is another item's."""

    value: Value
    index: Index


@dataclass(eq=False)
class Item:
    """A value that a kernel computes. `symbols` are one per dim of the domain: the result's, or a reduced operand's."""

    node: Node
    value: Value
    kind: str  # "store", "reduce", "contract"
    domain: tuple[Dim, ...]
    symbols: tuple[Symbol, ...]
    reads: list[Read] = field(default_factory=list)
    inlined: list[Node] = field(default_factory=list)

    @property
    def reduced(self) -> tuple[int, ...]:
        return self.node.attrs["dims"] if self.kind == "reduce" else ()

    @property
    def parallel(self) -> list[Symbol]:
        """Symbols of the kept dims whose extent is not 1."""
        return [s for d, s in enumerate(self.symbols) if d not in self.reduced and not is_one(self.domain[d])]

    def loop(self) -> list[Symbol]:
        return [s for d, s in enumerate(self.symbols) if d in self.reduced and not is_one(self.domain[d])]

    def extent(self, symbol: Symbol) -> Dim:
        return self.domain[self.symbols.index(symbol)]

    def value_index(self) -> Index:
        """The index of the value's element that is computed at the domain's symbols."""
        if self.kind != "reduce":
            own = tuple(s.dim if not is_one(d) else 0 for s, d in zip(self.symbols, self.domain, strict=True))
            if self.domain == self.value.type.shape:
                return own
            return _reshape_index(own, self.value.type, self.domain)
        keep = self.node.attrs["keepdim"]
        kept = ((d, s) for d, s in enumerate(self.symbols) if keep or d not in self.reduced)
        return tuple(0 if d in self.reduced or is_one(self.domain[d]) else s.dim for d, s in kept)


@dataclass(eq=False)
class Group:
    """Items of one kernel. `axis` maps every item's symbols to the group's; `parallel` are the group's parallel ones.

    A group without a reduction is flexible: all its symbols are parallel, until a reduction fixes which are.
    `bit` is one bit of its own; `reach` has those of all groups that it depends on, directly or not.
    """

    items: list[Item]
    parallel: list[Symbol]
    kind: str  # "store", "reduce", "contract"
    axis: dict[Symbol, Symbol] = field(default_factory=dict)
    bit: int = 0
    reach: int = 0

    @property
    def flexible(self) -> bool:
        return self.kind == "store"


class Program:
    """A graph seen by the scheduler: who makes what, what must be in memory, and the groups."""

    def __init__(self, graph: Graph) -> None:
        self.graph = graph
        self.producer: dict[Value, Node] = graph.producers()
        self.stored: set[Value] = set()
        self.items: list[Item] = []
        self.item_of: dict[Value, Item] = {}
        self.groups: list[Group] = []
        self.group_of: dict[Item, Group] = {}
        self._counter = 0

    def symbol(self, prefix: str, extent: Dim) -> Symbol:
        self._counter += 1
        return Symbol(f"{prefix}{self._counter}", 0, extent - 1)

    def in_memory(self, value: Value) -> bool:
        """Whether kernels other than its own read `value` from a buffer."""
        node = self.producer.get(value)
        if node is None or value in self.stored or node.op.kind in ("contract", "reduce") or node.op.name == "constant":
            return True
        return node.op.kind == "index" and node.op.name not in INLINE_INDEX


def fuse(graph: Graph) -> Program:
    """Items and groups of `graph`, in an order in which they can run."""
    stored = _must_be_stored(graph)
    while True:
        program = Program(graph)
        program.stored = stored
        _make_items(program)
        _merge_groups(program)
        more = _recomputed_at_a_loss(program)
        if not more:
            return program
        stored = stored | more


def _must_be_stored(graph: Graph) -> set[Value]:
    stored: set[Value] = set()
    producer = graph.producers()
    for output in graph.outputs:
        if isinstance(output, Value) and output in producer:
            stored.add(output)
    for node in graph.nodes:
        if node.op.kind == "contract":
            found = (_stored_operand(o, producer, _CHEAP_PROLOGUE) for o in node.operands)
            stored.update(v for v in found if v is not None)
        elif node.op.kind == "index":
            stored.update(_index_operands(node, producer))
    return stored | _too_deep(graph, stored)


def _too_deep(graph: Graph, stored: set[Value]) -> set[Value]:
    """What cuts long chains: an unrolled loop of hundreds of steps is neither one expression nor one kernel."""
    depth: dict[Value, int] = {}
    cut: set[Value] = set()
    for node in graph.nodes:
        below = 1 + max((depth.get(o, 0) for o in node.operands if isinstance(o, Value)), default=0)
        if node.op.kind in ("contract", "reduce") or any(v in stored for v in node.results):
            below = 0
        elif below >= _DEEP:
            cut.update(node.results)
            below = 0
        depth.update(dict.fromkeys(node.results, below))
    return cut


def _index_operands(node: Node, producer: dict[Value, Node]) -> Iterator[Value]:
    """What an index op reads at computed places must be in memory; what it reads in order is computed on the way."""
    source = node.operands[0]
    if node.op.name in ("gather", "take") and isinstance(source, Value) and source in producer:
        yield source


def _stored_operand(operand: Any, producer: dict[Value, Node], allowed: frozenset[str]) -> Value | None:
    """The value under movement (and `allowed` elementwise ops) that has to be in memory, if it is not already."""
    while isinstance(operand, Value):
        node = producer.get(operand)
        if node is None or node.op.kind in ("contract", "reduce"):
            return None
        if node.op.kind == "index":
            return operand if node.op.name in INLINE_INDEX else None
        if node.op.kind == "create":
            return operand if node.op.name == "constant" else None
        if node.op.kind == "movement" or node.op.name in allowed:
            operand = node.operands[0]
            continue
        return operand
    return None


def _make_items(program: Program) -> None:
    for node in program.graph.nodes:
        kind = node.op.kind
        if kind == "reduce":
            operand = node.operands[0]
            _add_item(program, node, node.result, "reduce", operand.type.shape)
        elif kind == "contract":
            _add_item(program, node, node.result, "contract", node.result.type.shape)
        elif kind == "index" and node.op.name not in INLINE_INDEX:
            _add_item(program, node, node.result, "index", node.result.type.shape)
        elif node.op.name != "constant":
            for value in node.results:
                if value in program.stored:
                    _add_item(program, node, value, "store", _domain_of(program, node, value))


def _domain_of(program: Program, node: Node, value: Value) -> tuple[Dim, ...]:
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
        through = [o for o in full if _reaches_contract(program, o)]
        current = through[0] if through else None
        seen += 1
    return value.type.shape


def _reaches_contract(program: Program, value: Value) -> bool:
    seen = level = {value}
    for _ in range(32):
        below: set[Value] = set()
        for current in level:
            node = program.producer.get(current)
            if node is None:
                continue
            if node.op.kind == "contract":
                return True
            through = node.op.kind == "elementwise" or node.op.name in ("reshape", "alias")
            if through and current not in program.stored:
                below.update(o for o in node.operands if isinstance(o, Value) and o.type.size == current.type.size)
        level = below - seen  # each value once: there are exponentially many paths where values are used twice
        seen = seen | level
    return False


def _add_item(program: Program, node: Node, value: Value, kind: str, domain: tuple[Dim, ...]) -> None:
    symbols = tuple(program.symbol("x", d) for d in domain)
    item = Item(node, value, kind, domain, symbols)
    program.items.append(item)
    program.item_of[value] = item
    index: Index = tuple(s.dim if not is_one(d) else 0 for s, d in zip(symbols, domain, strict=True))
    seen: set[tuple[Value, Index]] = set()
    if kind == "reduce":
        _collect(program, item, node.operands[0], index, seen)
    elif kind == "contract":
        _collect_contract(program, item, node, index, seen)
    elif kind == "index":
        for operand in node.operands:
            if isinstance(operand, Value):
                inner = tuple(program.symbol("y", d).dim for d in operand.type.shape)
                _collect(program, item, operand, inner, seen)
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
    if isinstance(operand, Literal) or (operand, index) in seen:
        return
    seen.add((operand, index))
    if program.in_memory(operand):
        item.reads.append(Read(operand, index))
        return
    _collect_node(program, item, program.producer[operand], index, seen)


def _collect_node(program: Program, item: Item, node: Node, index: Index, seen: set[Any]) -> None:
    item.inlined.append(node)
    op = node.op
    if op.kind == "movement":
        operand = node.operands[0]
        if isinstance(operand, Literal):
            return
        assert op.index is not None, op.name
        mapped = op.index(index, operand.type, **node.attrs)
        if mapped and isinstance(mapped[0], tuple):
            mapped = mapped[0]
        _collect(program, item, operand, mapped, seen)
    elif op.kind == "elementwise":
        for operand in node.operands:
            _collect(program, item, operand, index if isinstance(operand, Value) else (), seen)
    elif op.name in ("gather", "take"):
        source, picks = node.operands[:2]
        assert isinstance(source, Value)
        item.reads.append(Read(source, tuple(program.symbol("g", d).dim for d in source.type.shape)))
        dim = node.attrs["dim"]
        inner = index if op.name == "gather" else index[dim : dim + picks.type.ndim]
        _collect(program, item, picks, inner, seen)
    elif op.name in ("concat", "slice_update"):
        for operand, inner, _ in pieces(node, index):
            _collect(program, item, operand, inner, seen)


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
    for d, (i, a, b, s) in enumerate(zip(index, attrs["starts"], attrs["stops"], attrs["steps"], strict=True)):
        inner.append((i - a) // s)
        whole = is_one(s) and isinstance(a, int) and a == 0 and b == base.type.shape[d]
        if not whole:
            conditions.append((i - a, b - a))
            if not is_one(s):
                conditions.append(((i - a) % s, 1))
    return [(value, tuple(inner), tuple(conditions)), (base, index, ())]


# -- groups ------------------------------------------------------------------------------------------------------------


def _merge_groups(program: Program) -> None:
    readers: dict[Value, list[Item]] = {}
    for number, item in enumerate(program.items):
        group = Group([item], list(item.parallel), item.kind, {s: s for s in item.symbols}, 1 << number)
        for needed in _depends_on(program, group):
            group.reach |= needed.bit | needed.reach
        program.groups.append(group)
        program.group_of[item] = group
        for read in item.reads:
            producer = program.item_of.get(read.value)
            if producer is not None:
                _try_merge(program, producer, item, read)
        for read in item.reads:
            for sibling in readers.get(read.value, ())[-4:]:
                _try_siblings(program, sibling, item, read)
        for read in item.reads:
            readers.setdefault(read.value, []).append(item)
    program.groups = _in_order(program)


def _bare(d: Dim) -> Symbol | None:
    """The symbol that `d` is, if it is just one."""
    if isinstance(d, DimExpr) and len(d.terms) == 1:
        ((monomial, c),) = d.terms.items()
        if c == 1 and len(monomial) == 1 and isinstance(monomial[0], Symbol):
            return monomial[0]
    return None


def _try_merge(program: Program, producer: Item, consumer: Item, read: Read) -> None:
    """Merge the groups of a producer and a consumer, where the consumer reads at its own parallel points."""
    ga, gb = program.group_of[producer], program.group_of[consumer]
    if ga is gb:
        return
    pairs = _pairs(ga, producer.value_index(), gb, read.index)
    if pairs is not None:
        _merge(program, ga, gb, pairs)


def _try_siblings(program: Program, first: Item, second: Item, read: Read) -> None:
    """Merge two groups that read the same data in the same order."""
    ga, gb = program.group_of[first], program.group_of[second]
    if ga is gb or "contract" in (ga.kind, gb.kind) or "index" in (ga.kind, gb.kind):
        return
    for other in first.reads:
        if other.value is read.value:
            if read.value.type.ndim == 0 or (
                isinstance(read.value.type.size, int)
                and isinstance(_size(second.domain), int)
                and read.value.type.size * 2 <= _size(second.domain)
            ):
                return  # little is saved
            pairs = _pairs(ga, other.index, gb, read.index)
            if pairs is not None:
                _merge(program, ga, gb, pairs)
            return


def _size(shape: tuple[Dim, ...]) -> Dim:
    total: Dim = 1
    for d in shape:
        total = total * d
    return total


def _pairs(ga: Group, a_index: Index, gb: Group, b_index: Index) -> dict[Symbol, Symbol] | None:
    """gb's symbol for each of ga's, where two index tuples of the same value are both plain symbols."""
    pairs: dict[Symbol, Symbol] = {}
    for a, b in zip(a_index, b_index, strict=True):
        if isinstance(a, int) and isinstance(b, int) and a == b:
            continue
        sa, sb = _bare(a), _bare(b)
        if sa is None or sb is None or sb not in gb.axis or sa not in ga.axis:
            return None
        sa, sb = ga.axis[sa], gb.axis[sb]
        if sb in pairs or sa in pairs.values():
            return None
        pairs[sb] = sa
    return pairs


def _extents(group: Group) -> dict[Symbol, Dim]:
    return {group.axis[s]: d for item in group.items for s, d in zip(item.symbols, item.domain, strict=True)}


def _merge(program: Program, ga: Group, gb: Group, pairs: dict[Symbol, Symbol]) -> bool:
    """Merge gb into ga if that is right, given gb's symbol to ga's symbol."""
    if "index" in (ga.kind, gb.kind) or (gb.kind == "contract") or (ga.kind == "contract" and gb.kind != "store"):
        return False
    if (
        len({r.value for g in (ga, gb) for i in g.items for r in i.reads}) + len(ga.items) + len(gb.items)
        > _MAX_BUFFERS
    ):
        return False
    ea, eb = _extents(ga), _extents(gb)
    if any(ea[a] != eb[b] for b, a in pairs.items()):
        return False
    parallel = _common_parallel(ga, gb, pairs, ea, eb)
    if parallel is not None and _too_serial(program, ga, gb, parallel, ea):
        return False
    if parallel is None or not _reads_line_up(program, ga, gb, pairs, parallel) or _path_between(program, ga, gb):
        return False
    for symbol, own in gb.axis.items():
        ga.axis[symbol] = pairs.get(own, own)
    ga.items.extend(gb.items)
    ga.parallel = parallel
    if gb.kind == "reduce":
        ga.kind = "reduce"
    for item in gb.items:
        program.group_of[item] = ga
    program.groups.remove(gb)
    both = ga.bit | gb.bit
    ga.reach = (ga.reach | gb.reach) & ~both
    for group in program.groups:
        if group.reach & both:
            group.reach = group.reach & ~gb.bit | ga.bit | ga.reach
    return True


def _too_serial(program: Program, ga: Group, gb: Group, parallel: list[Symbol], extents: dict[Symbol, Dim]) -> bool:
    """Whether gb, which waits for reductions of ga, would do much work at few parallel points."""
    points = _size(tuple(extents[s] for s in parallel))
    work = [_size(item.domain) for item in gb.items]
    if not isinstance(points, int) or points >= _FEW_POINTS or not any(i.kind == "reduce" for i in ga.items):
        return False
    waits = any(
        program.item_of.get(read.value) in ga.items and program.item_of[read.value].kind == "reduce"
        for item in gb.items
        for read in item.reads
    )
    return waits and any(not isinstance(w, int) or w >= _MUCH_WORK for w in work)


def _common_parallel(ga: Group, gb: Group, pairs: dict[Symbol, Symbol], ea: Any, eb: Any) -> list[Symbol] | None:
    """The parallel symbols (named as ga's) of the merged group; None where they do not line up."""
    a_all = [s for s in dict.fromkeys(ga.axis.values()) if not is_one(ea[s])]
    b_all = [s for s in dict.fromkeys(gb.axis.values()) if not is_one(eb[s])]
    if (ga.flexible and gb.flexible) or ga.kind == "contract":
        whole = set(pairs) == set(b_all) and set(pairs.values()) == set(a_all)
        return ga.parallel if whole else None
    if not ga.flexible and not gb.flexible:
        inner = {b: pairs[b] for b in gb.parallel if b in pairs}
        exact = len(inner) == len(gb.parallel) and set(inner.values()) == set(ga.parallel)
        # a parallel point of one must not be a loop of the other
        crossed = any((a in ga.parallel) != (b in gb.parallel) for b, a in pairs.items())
        return ga.parallel if exact and not crossed else None
    if gb.flexible:
        return ga.parallel if set(ga.parallel) <= set(pairs.values()) else None
    # ga is flexible: gb's reduction says which of ga's symbols are parallel
    if not set(gb.parallel) <= set(pairs):
        return None
    return [pairs[b] for b in gb.parallel]


def _reads_line_up(program: Program, ga: Group, gb: Group, pairs: dict[Symbol, Symbol], parallel: list[Symbol]) -> bool:
    """Every read of one group's items by the other's is at the reader's own parallel point."""
    axis = dict(ga.axis)
    axis.update({s: pairs.get(own, own) for s, own in gb.axis.items()})
    points = set(parallel)
    for reader, maker in ((gb, ga), (ga, gb)):
        for item in reader.items:
            for read in item.reads:
                producer = program.item_of.get(read.value)
                if producer is None or producer not in maker.items:
                    continue
                for made, taken in zip(producer.value_index(), read.index, strict=True):
                    sm, st = _bare(made), _bare(taken)
                    at = None if sm is None else axis[sm]
                    if at in points or (st is not None and axis.get(st) in points):
                        if st is None or (axis.get(st) is not at and axis.get(st) != at):
                            return False
                    elif maker.kind == "contract" and (at is None) != (st is None):
                        return False
                if maker.kind == "contract" and item.kind != "store":
                    return False
                own = {axis.get(s) for t in read.index if (s := _bare(t)) is not None}
                if producer.kind == "reduce" and not points <= own:
                    return False
    return True


def _depends_on(program: Program, group: Group) -> list[Group]:
    found: dict[Group, None] = {}
    for item in group.items:
        for read in item.reads:
            producer = program.item_of.get(read.value)
            if producer is not None and program.group_of[producer] is not group:
                found[program.group_of[producer]] = None
    return list(found)


def _path_between(program: Program, ga: Group, gb: Group) -> bool:
    """Whether one depends on the other through a third group: merging would make a cycle."""
    for start, goal in ((gb, ga), (ga, gb)):
        if start.reach & goal.bit and any(start.reach & g.bit and g.reach & goal.bit for g in program.groups):
            return True
    return False


def _in_order(program: Program) -> list[Group]:
    """Groups sorted so that each comes after what it reads; items inside likewise."""
    position = {item: i for i, item in enumerate(program.items)}
    for group in program.groups:
        group.items.sort(key=position.__getitem__)
    ordered: list[Group] = []
    state: dict[int, int] = {}
    for root in sorted(program.groups, key=lambda g: position[g.items[-1]]):
        stack: list[tuple[Group, bool]] = [(root, False)]
        while stack:
            group, done = stack.pop()
            if done:
                ordered.append(group)
                continue
            if state.get(id(group)):
                continue
            state[id(group)] = 1
            stack.append((group, True))
            stack.extend((g, False) for g in _depends_on(program, group) if not state.get(id(g)))
    return ordered


# -- recompute or store ------------------------------------------------------------------------------------------------


def _recomputed_at_a_loss(program: Program) -> set[Value]:
    """Values needed in several kernels, or at several places of one, that are dearer to compute again than to load."""
    spread = _read_at_several_places(program.graph)
    users: dict[Node, set[int]] = {}
    for item in program.items:
        for node in item.inlined:
            users.setdefault(node, set()).add(id(program.group_of[item]))
    found: set[Value] = set()
    cost: dict[Value, tuple[bool, frozenset[Value], int]] = {}
    for node in program.graph.nodes:
        if node not in users:
            continue
        for value in node.results:
            dear, loads, count = _inline_cost(program, node, value, cost)
            cost[value] = (dear, loads, count)
            if value in program.stored or (node.op.kind != "elementwise" and node.op.name not in INLINE_INDEX):
                continue
            again = value in spread and (dear or count > _CHEAP_AGAIN)
            shared = node.op.kind == "elementwise" and len(users[node]) > 1
            if again or count > _MAX_INLINE or (shared and (dear or len(loads) > 1)):
                found.add(value)
                cost[value] = (False, frozenset((value,)), 1)
    return found


_Range = tuple[Dim, Dim, int]  # start, stop, step


def _read_at_several_places(graph: Graph) -> set[Value]:
    """Values of which one element is needed at several places, as in a stencil: by slices that overlap."""
    parts: dict[Value, set[tuple[_Range, ...]]] = {}
    for node in graph.nodes:
        for operand in node.operands:
            if isinstance(operand, Value):
                part = tuple((0, extent, 1) for extent in operand.type.shape)
                if node.op.name == "slice":
                    part = tuple(zip(*(node.attrs[k] for k in ("starts", "stops", "steps")), strict=True))
                parts.setdefault(operand, set()).add(part)
    return {v for v, found in parts.items() if any(_overlap(a, b) for a, b in combinations(found, 2))}


def _overlap(a: tuple[_Range, ...], b: tuple[_Range, ...]) -> bool:
    """Whether two parts may share an element, and not at the same place of both."""
    if all(
        start == other and step == other_step for (start, _, step), (other, _, other_step) in zip(a, b, strict=True)
    ):
        return False
    return not any(_apart(p, q) for p, q in zip(a, b, strict=True))


def _apart(a: _Range, b: _Range) -> bool:
    (start, stop, step), (other_start, other_stop, other_step) = a, b
    if isinstance(start - other_start, int) and step == other_step and (start - other_start) % step:
        return True  # x[::2] and x[1::2]
    gaps = (start - other_stop, other_start - stop)
    return any(isinstance(gap, int) and gap >= 0 for gap in gaps)


def _inline_cost(
    program: Program, node: Node, value: Value, cost: dict[Any, Any]
) -> tuple[bool, frozenset[Value], int]:
    """(has an expensive op, values loaded that are as large as `value`, nodes)."""
    dear = node.op.name in EXPENSIVE or node.op.name in ("gather", "take")
    loads: frozenset[Value] = frozenset()
    count = 1
    for operand in node.operands:
        if not isinstance(operand, Value):
            continue
        if program.in_memory(operand):
            if operand.type.size == value.type.size:
                loads |= {operand}
        elif operand in cost:
            d, inner, n = cost[operand]
            dear, loads, count = dear or d, loads | inner, count + n
    return dear, loads, count
