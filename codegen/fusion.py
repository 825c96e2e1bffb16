"""Decide which nodes share a kernel.

Items (`items.py`) whose parallel points line up are merged into *groups*, one kernel each. softmax(x, dim=1) has
the items

    m[i] = max_j x[i,j]      s[i] = sum_j exp(x[i,j] - m[i])      y[i,j] = exp(x[i,j] - m[i]) / s[i]

where s reads m, and y reads m and s, at its own i: one group, parallel over i, with three loops over j.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

from tjit.codegen import group_order
from tjit.codegen.items import INLINE_INDEX, Group, Index, Item, Program, Read, make_items
from tjit.codegen.items import bare_symbol as _bare
from tjit.codegen.storage import Storage
from tjit.ir.dims import Dim, Symbol, at_least, coefficient, is_one, symbols, upper_bound
from tjit.ir.graph import Graph, Node, Value
from tjit.passes.costs import EXPENSIVE

__all__ = ["fuse"]

_MAX_INLINE = 200  # nodes computed in place under one item; beyond, a value is stored
_MAX_NODES = 400  # in one kernel: LLVM's time grows faster than the kernel, and long programs repeat themselves
_DEAR = 8  # nodes that an expensive one counts as: it is a hundred instructions
_CHEAP_AGAIN = 4  # nodes that are computed at several places rather than stored
_FEW_TIMES = 9  # more repetitions are long enough for what is the same in them to be computed before
_MAX_BUFFERS = 24  # in one kernel
_FEW_POINTS = 32  # of a kernel: below, threads have nothing to share
_MUCH_WORK = 1 << 13  # elements
_ALONE = frozenset({"index", "sort", "composite", "control"})  # kinds of groups that merge with no other
_NO_SIBLINGS = _ALONE | {"contract"}


def fuse(storage: Storage, mark: str = "", *, wide: bool = False) -> Program:
    """Items and groups of a graph, in an order in which they can run.

    Args:
        mark, wide: as of `Program`.
    """
    program = Program(storage.graph, storage.overwrites, mark, wide=wide)
    program.stored, program.blank = storage.stored, storage.blank
    spread = _read_at_several_places(program.graph) | _repeated(program)
    while True:
        make_items(program)
        _merge_groups(program)
        more = _recomputed_at_a_loss(program, spread)
        if not more:
            return program
        program = program.again(more)


# -- groups ------------------------------------------------------------------------------------------------------------


def _merge_groups(program: Program) -> None:
    readers: dict[Value, list[Item]] = {}
    for number, item in enumerate(program.items):
        kind = {"update": "store", "scan": "reduce"}.get(item.kind, item.kind)
        axis, reads = {s: s for s in item.symbols}, {read.value for read in item.reads}
        updates = [item] if item.kind == "update" else []
        extents = dict(zip(item.symbols, item.domain, strict=True))
        group = Group([item], list(item.parallel), kind, axis, _weight(item), reads, updates, extents)
        group_order.add(group, number, _depends_on(program, group))
        program.group_of[item] = group
        for read in item.reads:
            producer = program.item_of.get(read.value)
            if producer is not None:
                _try_merge(program, producer, item, read)
        for read in item.reads:
            for sibling in readers.get(read.value, ())[-4:]:
                if program.group_of[sibling] is not program.group_of[item]:
                    _try_siblings(program, sibling, item, read)
        for read in item.reads:
            readers.setdefault(read.value, []).append(item)
    program.groups = _in_order(program)


def _weight_of(node: Node) -> int:
    return _DEAR if node.op.name in EXPENSIVE else 1


def _weight(item: Item) -> int:
    """What an item adds to the size of a kernel."""
    return sum(map(_weight_of, item.inlined)) + 1


def _too_large(ga: Group, gb: Group) -> bool:
    """Whether both in one kernel would be too much; it stays so."""
    items = len(ga.items) + len(gb.items)
    if ga.nodes + gb.nodes > _MAX_NODES or items + max(len(ga.reads), len(gb.reads)) > _MAX_BUFFERS:
        return True
    return items + len(ga.reads | gb.reads) > _MAX_BUFFERS


def _try_merge(program: Program, producer: Item, consumer: Item, read: Read) -> None:
    """Merge the groups of a producer and a consumer, where the consumer reads at its own parallel points."""
    ga, gb = program.group_of[producer], program.group_of[consumer]
    if ga is gb or ga.kind in _ALONE or gb.kind in _ALONE or _too_large(ga, gb):
        return
    pairs = _pairs(ga, producer.value_index(), gb, read.index)
    if pairs is not None:
        _merge(program, ga, gb, pairs)


def _try_siblings(program: Program, first: Item, second: Item, read: Read) -> None:
    """Merge two groups that read the same data in the same order."""
    ga, gb = program.group_of[first], program.group_of[second]
    if ga.kind in _NO_SIBLINGS or gb.kind in _NO_SIBLINGS or _too_large(ga, gb):
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
    """gb's symbol for each of ga's, where two index tuples of the same value move alike: by the same steps."""
    pairs: dict[Symbol, Symbol] = {}
    for a, b in zip(a_index, b_index, strict=True):
        if isinstance(a, int) and isinstance(b, int) and a == b:
            continue
        found_a, found_b = _steps(a, ga), _steps(b, gb)
        if found_a is None or found_b is None:
            return None
        (steps_a, rest_a), (steps_b, rest_b) = found_a, found_b
        if steps_a.keys() != steps_b.keys() or rest_a != rest_b:
            return None
        for k, sa in steps_a.items():
            sb = steps_b[k]
            if sb in pairs or sa in pairs.values():
                return None
            pairs[sb] = sa
    return pairs


def _steps(d: Dim, group: Group) -> tuple[dict[int, Symbol], Dim] | None:
    """By how much `d` moves with each of the group's symbols, and the rest of it; None if not by different constants.

    `128*x1 + x2 + i0`, where i0 is the program's, gives {128: x1, 1: x2} and i0.
    """
    only = _bare(d)
    if only is not None:  # as nearly all are
        own = group.axis.get(only)
        return ({}, d) if own is None else ({1: own}, 0)
    found: dict[int, Symbol] = {}
    rest = d
    for symbol in symbols(d):
        own = group.axis.get(symbol)
        if own is None:
            continue
        k = coefficient(d, symbol)
        if not isinstance(k, int) or k in found:
            return None
        found[k] = own
        rest = rest - k * symbol.dim
    return found, rest


def _merge(program: Program, ga: Group, gb: Group, pairs: dict[Symbol, Symbol]) -> None:
    """Merge gb into ga if that is right, given gb's symbol to ga's symbol."""
    if _overwrites(program, ga, gb) or _overwrites(program, gb, ga):
        return
    if gb.kind == "contract" or (ga.kind == "contract" and gb.kind != "store"):
        return
    ea, eb = ga.extents, gb.extents
    if any(ea[a] != eb[b] for b, a in pairs.items()):
        return
    parallel = _common_parallel(ga, gb, pairs, ea, eb)
    if parallel is not None and _too_serial(program, ga, gb, parallel, ea):
        return
    if parallel is None or not _reads_line_up(program, ga, gb, pairs, parallel):
        return
    moved = group_order.between(ga, gb)
    if moved is None:
        return
    group_order.merge(ga, gb, moved)
    for symbol, own in gb.axis.items():
        ga.axis[symbol] = pairs.get(own, own)
    ga.items.extend(gb.items)
    ga.nodes += gb.nodes
    ga.reads |= gb.reads
    ga.updates += gb.updates
    ga.extents.update((pairs.get(own, own), d) for own, d in eb.items())
    ga.parallel = parallel
    if gb.kind == "reduce":
        ga.kind = "reduce"
    for item in gb.items:
        program.group_of[item] = ga


def _overwrites(program: Program, ga: Group, gb: Group) -> bool:
    """Whether ga writes over what gb reads or has made: it is to wait for all of gb.

    A reduction may be of the same kernel: it ends before the points that wait for it are written.
    """
    updates = ga.updates
    return any(
        program.group_of.get(e) is gb
        and (e.kind != "reduce" or e.value is i.node.operands[0])
        and not _write_apart(program, i, e)
        for i in updates
        for e in program.after[i]
    ) or any(
        program.root(e.value) is program.root(i.value) and not _write_apart(program, i, e)
        for i in updates
        for e in gb.updates
    )


def _write_apart(program: Program, a: Item, b: Item) -> bool:
    """Whether two updates write to different parts of one array, and neither reads what is in it."""
    root = program.root(a.value)
    if not a.kind == b.kind == "update" or any(program.root(r.value) is root for item in (a, b) for r in item.reads):
        return False
    bounds = zip(*(item.node.attrs[key] for item in (a, b) for key in ("starts", "stops")), strict=True)
    return any(at_least(b0 - a1, 0) or at_least(a0 - b1, 0) for a0, a1, b0, b1 in bounds)


def _too_serial(program: Program, ga: Group, gb: Group, parallel: list[Symbol], extents: dict[Symbol, Dim]) -> bool:
    """Whether gb, which waits for reductions of ga, would do much work at few parallel points."""
    points = _size(tuple(extents[s] for s in parallel))
    work = [upper_bound(_size(item.domain)) for item in gb.items]
    if not isinstance(points, int) or points >= _FEW_POINTS or not any(i.kind == "reduce" for i in ga.items):
        return False
    waits = any(
        (made := program.item_of.get(read.value)) is not None
        and made.kind == "reduce"
        and program.group_of.get(made) is ga
        for item in gb.items
        for read in item.reads
    )
    return waits and any(w is None or w >= _MUCH_WORK for w in work)


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
                if producer is None or program.group_of.get(producer) is not maker:
                    continue
                if producer.kind == "update":
                    return False
                for made, taken in zip(producer.value_index(), read.index, strict=True):
                    sm, st = _bare(made), _bare(taken)
                    at = None if sm is None else axis[sm]
                    if at in points or (st is not None and axis.get(st) in points):
                        if st is None or (axis.get(st) is not at and axis.get(st) != at):
                            return False
                    elif maker.kind == "contract" and (at is None) != (st is None):
                        return False
                if maker.kind == "contract" and item.kind not in ("store", "update"):
                    return False
                own = {axis.get(s) for t in read.index if (s := _bare(t)) is not None}
                # what is picked is in memory, where a kernel puts its sums last
                if producer.kind == "reduce" and (read.is_picked or not points <= own):
                    return False
    return True


def _depends_on(program: Program, group: Group) -> list[Group]:
    found: dict[Group, None] = {}
    for item in group.items:
        for read in item.reads:
            producer = program.item_of.get(read.value)
            if producer is not None and program.group_of[producer] is not group:
                found[program.group_of[producer]] = None
        for earlier in program.after.get(item, ()):
            if program.group_of[earlier] is not group:
                found[program.group_of[earlier]] = None
    return list(found)


def _in_order(program: Program) -> list[Group]:
    """Groups sorted so that each comes after what it reads; items inside likewise."""
    position = {item: i for i, item in enumerate(program.items)}
    groups = list(dict.fromkeys(program.group_of.values()))
    for group in groups:
        group.items.sort(key=position.__getitem__)
    ordered: list[Group] = []
    state: dict[int, int] = {}
    for root in sorted(groups, key=lambda g: position[g.items[-1]]):
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


def _recomputed_at_a_loss(program: Program, spread: set[Value]) -> set[Value]:
    """Values needed in several kernels, or at several places of one, that are dearer to compute again than to load.

    Args:
        spread: those needed at several places of one.
    """
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
    """Values of which one element is needed at several places, as in a stencil: by slices or windows that overlap."""
    partly = {o for node in graph.nodes if node.op.name in ("slice", "windows") for o in node.operands}
    parts: dict[Value, set[tuple[_Range, ...]]] = {}
    for node in graph.nodes if partly else ():
        for operand in node.operands:
            if isinstance(operand, Value) and operand in partly:
                parts.setdefault(operand, set()).add(_part_read(node, operand))
    return {v for v, found in parts.items() if any(_overlap(a, b) for a, b in combinations(found, 2))}


def _repeated(program: Program) -> set[Value]:
    """Values of which each element stands a few times side by side, as where an image is enlarged."""
    found: set[Value] = set()
    for node in program.graph.nodes:
        made: Node | None = node
        if node.op.name == "broadcast_to" and _is_few(node.result.type.size, node.operands[0].type.size):
            while made is not None and made.op.kind == "movement" and isinstance(value := made.operands[0], Value):
                made = program.producer.get(value)
                found.add(value)
    return found


def _is_few(after: Dim, before: Dim) -> bool:
    return isinstance(after, int) and isinstance(before, int) and before < after <= _FEW_TIMES * before


def _part_read(node: Node, operand: Value) -> tuple[_Range, ...]:
    """The range of each dim that a node reads; of windows, the range that their first elements are in."""
    whole = tuple((0, extent, 1) for extent in operand.type.shape)
    if node.op.name == "slice":
        return tuple(zip(*(node.attrs[k] for k in ("starts", "stops", "steps")), strict=True))
    if node.op.name == "windows":
        low, strides, out = (node.attrs[k] for k in ("low", "strides", "out"))
        firsts = ((-p, (n - 1) * s + 1 - p, s) for p, s, n in zip(low, strides, out, strict=True))
        return (*whole[: len(whole) - len(low)], *firsts)
    return whole


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
    count = _weight_of(node)
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
