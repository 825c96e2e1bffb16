"""Products that a loop makes trip by trip from parts of arrays, made once for all trips."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

from tjit.devices import cpu
from tjit.ir.clone import clone_nodes
from tjit.ir.dims import Dim, at_least, coefficient, is_one, substitute
from tjit.ir.graph import TAPE, Graph, Literal, Node, Operand, Region, Value
from tjit.ir.op import OPS
from tjit.ir.scope import bound_symbol, mentioned
from tjit.ops.contract import contract
from tjit.ops.elementwise import add
from tjit.ops.movement import permute, reshape, slice_dims
from tjit.ops.sums import sum as total
from tjit.passes.rewrite import Rewriter, rewrite
from tjit.tensor import Tensor

__all__ = ["batch_contractions"]

_MORE_MEMORY = 4  # what is kept of a trip over its part of an array: the gates of an LSTM are four times its input


def batch_contractions(graph: Graph) -> Graph:
    """Take out of a `for` the contractions that are small for a trip and of which all trips together make one.

    A contraction of a trip's part of an array with what is the same on every trip is made before the loop, and the
    trip takes its part. A sum over the trips of contractions is one contraction after the loop, whose long dim is all
    trips' together; what a trip computes for it is kept. Either reads the large operand once, not on every trip.

    Before:
        graph f(%x: f32[9, 2, 4], %w: f32[4, 3], %z: f32[4, 3]) -> f32[4, 3] {
          %0: f32[4, 3] = for(%z, counter="i0", trip=9) {  # model.py:3
            body(%s: f32[4, 3]) {
              %1: f32[1, 2, 4] = slice(%x, starts=(i0, 0, 0), stops=(i0 + 1, 2, 4), steps=(1, 1, 1))  # model.py:4
              %2: f32[2, 4] = reshape(%1, shape=(2, 4))    # model.py:4
              %3: f32[2, 3] = dot(%2, %w)                  # model.py:4
              %4: f32[2, 3] = exp(%3)                      # model.py:4
              %5: f32[4, 2] = permute(%2, dims=(1, 0))     # model.py:5
              %6: f32[4, 3] = dot(%5, %4)                  # model.py:5
              %7: f32[4, 3] = add(%s, %6)                  # model.py:5
              yield %7
            }
          }
          return %0
        }

    After:
        graph f(%x: f32[9, 2, 4], %w: f32[4, 3], %z: f32[4, 3]) -> f32[4, 3] {
          %0: f32[18, 4] = reshape(%x, shape=(18, 4))                                 # model.py:4
          %1: f32[18, 3] = dot(%0, %w)                                                # model.py:4
          %2: f32[9, 2, 3] = reshape(%1, shape=(9, 2, 3))                             # model.py:4
          %3: f32[9, 2, 3] = full(value=0.0, shape=(9, 2, 3), dtype=f32, device=cpu)  # model.py:3
          %4: f32[9, 2, 3] = for(%3, counter="i0", trip=9) {                          # model.py:3
            body(%tape: f32[9, 2, 3]) {
              %5: f32[1, 2, 4] = slice(%x, starts=(i0, 0, 0), stops=(i0 + 1, 2, 4), steps=(1, 1, 1))  # model.py:4
              %6: f32[2, 4] = reshape(%5, shape=(2, 4))                               # model.py:4
              %7: f32[1, 2, 3] = slice(%2, starts=(i0, 0, 0), stops=(i0 + 1, 2, 3), steps=(1, 1, 1))  # model.py:4
              %8: f32[2, 3] = reshape(%7, shape=(2, 3))                               # model.py:4
              %9: f32[2, 3] = exp(%8)                                                 # model.py:4
              %10: f32[4, 2] = permute(%6, dims=(1, 0))                               # model.py:5
              %11: f32[1, 2, 3] = reshape(%9, shape=(1, 2, 3))                        # model.py:3
              %12: f32[9, 2, 3] = slice_update(%tape, %11, starts=(i0, 0, 0), stops=(i0 + 1, 2, 3), steps=(1, 1, 1))  # model.py:3
              yield %12
            }
          }
          %13: f32[18, 4] = reshape(%x, shape=(18, 4))                                # model.py:5
          %14: f32[18, 3] = reshape(%4, shape=(18, 3))                                # model.py:5
          %15: f32[4, 18] = permute(%13, dims=(1, 0))                                 # model.py:5
          %16: f32[4, 3] = dot(%15, %14)                                              # model.py:5
          %17: f32[4, 3] = add(%z, %16)                                               # model.py:5
          return %17
        }
    """  # noqa: E501
    return rewrite(graph, _batch) if any(node.regions for node in graph.nodes) else graph


def _batch(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.name != "for" or node.attrs.get("checkpoint"):
        return None
    loop = _Loop(rewriter, node)
    before, sums = _Before(loop), _Sums(loop)
    for inner in loop.region.nodes:
        if not sums.takes(inner) and not before.takes(inner):
            loop.body.append(inner)
    if not before.found and not sums.found:
        return None
    return sums.finish()


class _Part(NamedTuple):
    """A matrix in a loop's body: the part of `base` at `start` of its first dim, an index of 1 that moves by 1.

    Attributes:
        shape: of the part, as a matrix.
        flipped: the matrix is the part's transpose.
    """

    base: Value
    start: Dim
    shape: tuple[Dim, ...]
    flipped: bool


class _Loop:
    """A `for`, and the nodes that are left of its body."""

    def __init__(self, rewriter: Rewriter, node: Node) -> None:
        self.rewriter = rewriter
        self.node = node
        self.region = node.regions[0]
        symbol = bound_symbol("for", node.attrs)
        assert symbol is not None
        self.counter, self.trip = symbol, node.attrs["trip"]
        self.producer = {value: inner for inner in self.region.nodes for value in inner.results}
        self.inside = {*self.region.inputs, *self.producer}
        self.body: list[Node] = []

    def varies(self, node: Node) -> bool:
        """Whether the trip's number stands in a node's attrs or types."""
        return self.counter.name in mentioned(node)

    def part(self, operand: Operand) -> _Part | None:
        """What `operand` is a part of, if of another array on every trip."""
        node = self.made(operand)
        flipped = node is not None and node.op.name == "permute"
        if node is not None and flipped:
            operand = node.operands[0]
        shape = operand.type.shape
        while (node := self.made(operand)) is not None and node.op.name in ("reshape", "alias"):
            (operand,) = node.operands
        if node is None or node.op.name != "slice" or len(shape) != 2:
            return None
        base, attrs = node.operands[0], node.attrs
        (start, *starts), (stop, *stops) = attrs["starts"], attrs["stops"]
        if not isinstance(base, Value) or base in self.inside or coefficient(start, self.counter) not in (1, -1):
            return None
        whole = is_one(stop - start) and set(starts) <= {0} and tuple(stops) == base.type.shape[1:]
        return _Part(base, start, shape, flipped) if whole and set(attrs["steps"]) == {1} else None

    def made(self, operand: Operand) -> Node | None:
        """The node of the body that computes `operand`."""
        return None if isinstance(operand, Literal) else self.producer.get(operand)

    def first(self, start: Dim) -> Dim:
        """The least that `start` is on any trip."""
        at = 0 if coefficient(start, self.counter) == 1 else self.trip - 1
        return substitute(start, {self.counter: at})

    def place(self, start: Dim) -> Dim:
        """Where the trip's part is among those of all trips."""
        return start - self.first(start)

    def all_parts(self, base: Tensor, start: Dim, shape: tuple[Dim, ...]) -> Tensor:
        """The parts of all trips, as they lie in memory, as an array of `shape`."""
        low, rest = self.first(start), tuple(base.shape)[1:]
        parts = slice_dims(base, (low, *(0 for _ in rest)), (low + self.trip, *rest), (1,) * (len(rest) + 1))
        return _reshaped(parts, shape)

    def add(self, old: Node, op: str, operands: Sequence[Operand], result: Value, **attrs: Any) -> Value:
        """Append a node to the body, with the location of `old`."""
        self.body.append(Node(OPS[op], operands, attrs, [result], location=old.location))
        return result


class _Before:
    """Contractions of a trip's part with what is the same on every trip: made before the loop."""

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop
        self.found = False

    def takes(self, node: Node) -> bool:
        """Whether `node` is replaced by a part of a contraction that is made before the loop."""
        if node.op.name != "dot" or node.result.type.ndim != 2 or self.loop.varies(node):
            return False
        for i in (0, 1):
            part = self.loop.part(node.operands[i])
            if part is not None and _saves(node, i):
                other = self._outside(node.operands[1 - i])
                if other is not None:
                    self._replace(node, i, part, other)
                    self.found = True
                    return True
        return False

    def _outside(self, value: Operand) -> Operand | None:
        """A value that stands outside of the loop for one that is the same on every trip."""
        needed: set[Operand] = {value}
        nodes: list[Node] = []
        for node in reversed(self.loop.region.nodes):
            if needed.isdisjoint(node.results):
                continue
            if node.op.kind not in ("movement", "elementwise") or self.loop.varies(node):
                return None
            needed.update(node.operands)
            nodes.append(node)
        if not needed.isdisjoint(self.loop.region.inputs):
            return None
        copies: dict[Value, Operand] = {}
        for node in clone_nodes(reversed(nodes), copies):
            self.loop.rewriter.emit(node)
        return value if isinstance(value, Literal) else copies.get(value, value)

    def _replace(self, node: Node, i: int, part: _Part, other: Operand) -> None:
        """Contract the rows of all trips' parts, or columns, with the other operand."""
        loop, (m, n) = self.loop, node.result.type.shape
        k = node.operands[0].type.shape[1]
        rows, columns = (m, n) if i == 0 else (n, m)

        def of_all(base: Tensor, fixed: Tensor) -> Tensor:
            parts = loop.all_parts(base, part.start, (loop.trip, *part.shape))
            parts = parts if part.flipped == (i == 1) else permute(parts, (0, 2, 1))
            made = contract(_reshaped(parts, (loop.trip * rows, k)), fixed if i == 0 else permute(fixed, (1, 0)))
            return _reshaped(made, (loop.trip, rows, columns))

        (made,) = loop.rewriter.trace(node, of_all, [part.base, other])
        at = loop.place(part.start)
        bounds = {"starts": (at, 0, 0), "stops": (at + 1, rows, columns), "steps": (1, 1, 1)}
        own = loop.add(node, "slice", [made], Value(made.type.with_shape((1, rows, columns))), **bounds)
        if i == 0:
            loop.add(node, "reshape", [own], node.result, shape=(rows, columns))
        else:
            upright = Value(made.type.with_shape((rows, columns)))
            loop.add(node, "reshape", [own], upright, shape=(rows, columns))
            loop.add(node, "permute", [upright], node.result, dims=(1, 0))


def _saves(node: Node, i: int) -> bool:
    """Whether a trip reads more of the other operand than it makes, and makes not much more than number `i` has."""
    (m, k), n = node.operands[0].type.shape, node.result.type.shape[1]
    rows, columns = (m, n) if i == 0 else (n, m)
    return at_least(k - rows, 1) and at_least(_MORE_MEMORY * k - columns, 0)


class _Sum(NamedTuple):
    """`left.T @ right`, or the sum of right's rows, that the trips add to carried value number `carried`."""

    node: Node
    carried: int
    left: _Part | Value | None
    right: _Part | Value


class _Sums:
    """Sums over the trips: made after the loop of what the trips leave.

    Attributes:
        found: the sums.
        kept: what is computed on each trip and wanted of all, to where a trip's part lies among all.
    """

    def __init__(self, loop: _Loop) -> None:
        self.loop = loop
        self.found: list[_Sum] = []
        self.kept: dict[Value, Dim] = {}
        self.gone: set[Node] = set()
        region = loop.region
        self.times_read = Counter([*(o for node in region.nodes for o in node.reads()), *region.outputs])
        if any(node.op.name in ("for", "while") for node in region.nodes):
            return  # what an inner loop keeps is not kept of every trip of this one too: `checkpoint` saved that
        terms = [(j, *found) for j in range(len(region.inputs)) if (found := self._term(j)) is not None]
        for op, find in (("dot", self._product), ("sum", self._rows_sum)):  # what products keep, sums may read
            for j, node, add_node in terms:
                made = find(node, j) if node.op.name == op else None
                if made is not None:
                    self.found.append(made)
                    self.gone.update((node, add_node))

    def takes(self, node: Node) -> bool:
        """Whether `node` is made after the loop."""
        return node in self.gone

    def _term(self, j: int) -> tuple[Node, Node] | None:
        """What computes the term that a trip only adds to carried value number j, and what adds it."""
        region = self.loop.region
        carried, output = region.inputs[j], region.outputs[j]
        node = self.loop.made(output)
        if node is None or node.op.name != "add" or self.times_read[output] > 1 or self.times_read[carried] > 1:
            return None
        terms = [o for o in node.operands if o is not carried]
        made = self.loop.made(terms[0]) if len(terms) == 1 else None
        if made is None or made.op.name not in ("dot", "sum") or self.loop.varies(made):
            return None
        if self.times_read[terms[0]] > 1 or made.result.type != carried.type or not carried.type.is_float:
            return None
        return made, node

    def _product(self, node: Node, j: int) -> _Sum | None:
        if node.result.type.ndim != 2:
            return None
        a, b = node.operands
        (m, k), n = a.type.shape, node.result.type.shape[1]
        left, right = self._rows(a, k, flipped=True), self._rows(b, k, flipped=False)
        if left is None or right is None or not at_least(m - k, 1):
            return None
        if isinstance(left, _Part) and isinstance(right, _Part):
            return _Sum(node, j, left, right) if left.start == right.start else None
        part, other = (left, right) if isinstance(left, _Part) else (right, left)
        own, more = (m, n) if part is left else (n, m)
        if not isinstance(part, _Part) or not isinstance(other, Value) or not at_least(_MORE_MEMORY * own - more, 0):
            return None
        at = self.loop.place(part.start)
        return _Sum(node, j, left, right) if self.kept.setdefault(other, at) == at else None

    def _rows_sum(self, node: Node, j: int) -> _Sum | None:
        operand = node.operands[0]
        if operand.type.ndim != 2 or node.attrs["dims"] != (0,):
            return None
        right = self._rows(operand, operand.type.shape[0], flipped=False)
        return _Sum(node, j, None, right) if isinstance(right, _Part) or right in self.kept else None

    def _rows(self, operand: Operand, k: Dim, flipped: bool) -> _Part | Value | None:
        """What has the k rows of a product's right side, or of its left side `flipped`, as they lie in memory."""
        if is_one(k):
            flipped = self._is_flipped(operand)  # one row lies as one column does
        if self._is_flipped(operand) != flipped:
            return None
        part = self.loop.part(operand)
        if part is not None:
            return part
        made = self.loop.made(operand)
        if flipped and made is not None:
            operand = made.operands[0]
        return operand if isinstance(operand, Value) and operand in self.loop.inside else None

    def _is_flipped(self, operand: Operand) -> bool:
        made = self.loop.made(operand)
        return made is not None and made.op.name == "permute"

    def finish(self) -> Sequence[Operand]:
        """Emit the loop and the sums; what stands for the results of the old one."""
        loop, node = self.loop, self.loop.node
        zeros = [self._zeros(value) for value in self.kept]
        tapes = {value: Value(zero.type, TAPE) for value, zero in zip(self.kept, zeros, strict=True)}
        kept = [self._keep(value, at, tapes[value]) for value, at in self.kept.items()]
        results = [Value(tape.type, TAPE) for tape in tapes.values()]
        stay = [j for j in range(len(node.results)) if j not in {one.carried for one in self.found}]
        inputs = *(loop.region.inputs[j] for j in stay), *tapes.values()
        outputs = *(loop.region.outputs[j] for j in stay), *kept
        region = Region(loop.region.name, inputs, tuple(loop.body), outputs)
        operands = *(node.operands[j] for j in stay), *zeros
        all_results = *(node.results[j] for j in stay), *results
        loop.rewriter.emit(Node(node.op, operands, node.attrs, all_results, regions=[region], location=node.location))
        all_parts = dict(zip(self.kept, results, strict=True))
        sums = {one.carried: self._total(one, all_parts) for one in self.found}
        return [sums.get(j, result) for j, result in enumerate(node.results)]

    def _zeros(self, value: Value) -> Value:
        type = value.type.with_shape((self.loop.trip, *value.type.shape))
        attrs = {"value": 0.0, "shape": type.shape, "dtype": type.dtype, "device": cpu}
        return self.loop.rewriter.add(self.loop.node, OPS["full"], [], [type], **attrs)[0]

    def _keep(self, value: Value, at: Dim, tape: Value) -> Value:
        loop, shape = self.loop, value.type.shape
        row = loop.add(loop.node, "reshape", [value], Value(value.type.with_shape((1, *shape))), shape=(1, *shape))
        starts, stops = (at, *(0 for _ in shape)), (at + 1, *shape)
        bounds = {"starts": starts, "stops": stops, "steps": (1,) * len(starts)}
        return loop.add(loop.node, "slice_update", [tape, row], Value(tape.type), **bounds)

    def _total(self, one: _Sum, all_parts: dict[Value, Value]) -> Operand:
        loop, carried = self.loop, self.loop.node.operands[one.carried]
        sides = [side for side in (one.left, one.right) if side is not None]
        rows = loop.trip * one.node.operands[0].type.shape[1 if one.left is not None else 0]
        widths = one.node.result.type.shape[-len(sides) :]

        def made(start: Tensor, *arrays: Tensor) -> Tensor:
            given = zip(sides, arrays, widths, strict=True)
            flat = [self._flat(side, array, (rows, width)) for side, array, width in given]
            return add(start, contract(permute(flat[0], (1, 0)), flat[1]) if len(flat) > 1 else total(flat[0], 0))

        arrays = [side.base if isinstance(side, _Part) else all_parts[side] for side in sides]
        return loop.rewriter.trace(one.node, made, [carried, *arrays])[0]

    def _flat(self, side: _Part | Value, array: Tensor, shape: tuple[Dim, ...]) -> Tensor:
        """All trips' rows, one below the other."""
        return _reshaped(array, shape) if isinstance(side, Value) else self.loop.all_parts(array, side.start, shape)


def _reshaped(x: Tensor, shape: tuple[Dim, ...]) -> Tensor:
    return x if tuple(x.shape) == shape else reshape(x, shape)
