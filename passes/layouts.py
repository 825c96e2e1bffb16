"""Layouts: the order in which the frozen operands of contractions lie in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from tjit.dtypes import f32, f64
from tjit.ir.graph import Graph, GraphBuilder, Literal, Node, Operand, Value
from tjit.ir.op import OPS
from tjit.ir.scope import each_node, yielded
from tjit.passes.dead_nodes import eliminate_dead_nodes
from tjit.passes.rewrite import Rewriter, with_operands

__all__ = ["lay_out_frozen"]

_PANEL_BYTES = 128  # of a step of k: whole tiles of every target, so that one layout serves all
_LEAST_STEPS = 8  # of k
_LEAST_RESULTS = 3  # beside the frozen operand: with fewer its memory is all that counts, however it lies
_MOST_PADDING = 3  # a third of the rows may be added
# Positions of products with frozen filters. With more, plain products have lanes along positions, and filters that are
# packed once for many tiles are read as fast.
_FEW_POSITIONS, _FEW_WINDOWS = 128, 256
_MOVES = ("reshape", "permute")


def lay_out_frozen(graph: Graph) -> Graph:
    """Read the frozen operands of contractions from panels, which are laid out once, before the first call.

    A panel has some rows (or columns) side by side for each step of k, as kernels read them: without panels they copy
    the operand into such at each call. An input that is read in any other way as well stays as it is, so that no
    program has a weight twice.

    Before:
        graph f(%x: f32[8, 64], frozen %w: f32[100, 64]) -> f32[8, 100] {
          %0: f32[64, 100] = permute(%w, dims=(1, 0))  # model.py:2
          %1: f32[8, 100] = dot(%x, %0)                # model.py:2
          return %1
        }

    After:
        graph f(%x: f32[8, 64], frozen %w: f32[100, 64]) -> f32[8, 100] {
          %0: f32[64, 100] = permute(%w, dims=(1, 0))                                 # model.py:2
          %1: f32[64, 128] = pad(%0, low=(0, 0), high=(0, 28), value=0)               # model.py:2
          %2: f32[64, 4, 32] = reshape(%1, shape=(64, 4, 32))                         # model.py:2
          %3: f32[4, 64, 32] = permute(%2, dims=(1, 0, 2))                            # model.py:2
          %4: f32[4, 64, 32] = clone(%3)                                              # model.py:2
          %5: f32[64, 4, 32] = permute(%4, dims=(1, 0, 2))                            # model.py:2
          %6: f32[64, 128] = reshape(%5, shape=(64, 128))                             # model.py:2
          %7: f32[64, 100] = slice(%6, starts=(0, 0), stops=(64, 100), steps=(1, 1))  # model.py:2
          %8: f32[8, 100] = dot(%x, %7)                                               # model.py:2
          return %8
        }
    """
    if not graph.frozen:
        return graph
    readers = _Readers(graph)
    wanted = readers.wanted()
    if not wanted:
        return graph
    found = {input: _Panels(input, readers.moves[value], rows) for input, (value, rows) in wanted.items()}
    rewriter = Rewriter(lambda rewriter, node: _read_panels(rewriter, node, readers, found))
    for panels in found.values():
        for node in panels.nodes:
            rewriter.emit(node)
    return eliminate_dead_nodes(rewriter.rewrite(graph))


class _Site(NamedTuple):
    """An operand of a contraction: `source` moved to its matrix, perhaps repeated along batch dims; `rows`: its dim."""

    source: Value
    rows: int


class _Readers:
    """Who reads the frozen inputs of a graph.

    Attributes:
        origin: of the values that are frozen inputs with their dims moved, the input.
        moves: of those, the nodes that move it.
        sites: by a contraction's result and the position of an operand.
    """

    def __init__(self, graph: Graph) -> None:
        frozen = [graph.inputs[i] for i in sorted(graph.frozen)]
        self.origin = {value: value for value in frozen}
        self.moves: dict[Value, tuple[Node, ...]] = {value: () for value in frozen}
        self.sites: dict[tuple[Value, int], _Site] = {}
        self.producers = {value: node for node in each_node(graph.nodes) for value in node.results}
        self.otherwise: set[Value] = set()  # inputs that something else reads
        self.repeated: dict[Value, Value] = {}
        for node in each_node(graph.nodes):
            self._read(node)
        self._note_plain([*graph.outputs, *yielded(graph.nodes)])

    def wanted(self) -> dict[Value, tuple[Value, int]]:
        """The inputs of which all readers want the same: a matrix that they are moved to, and its dim of rows."""
        wants: dict[Value, dict[object, tuple[Value, int]]] = {}
        for source, rows in self.sites.values():
            chain = tuple((n.op.name, tuple(sorted(n.attrs.items()))) for n in self.moves[source])
            wants.setdefault(self.origin[source], {})[chain, rows] = source, rows
        return {i: next(iter(w.values())) for i, w in wants.items() if len(w) == 1 and i not in self.otherwise}

    def _read(self, node: Node) -> None:
        if len(node.operands) == 1 and len(node.results) == 1 and not node.regions:
            (x,) = node.operands
            if isinstance(x, Value) and x in self.origin and self._moved(node, x):
                return
        if node.op.name == "dot":
            for j in (0, 1):
                site = self._site(node, j)
                if site is not None:
                    self.sites[node.result, j] = site
            self._note_plain([o for j, o in enumerate(node.operands) if (node.result, j) not in self.sites])
        else:
            self._note_plain(node.operands)

    def _moved(self, node: Node, x: Value) -> bool:
        if node.op.name in _MOVES and x not in self.repeated:
            self.origin[node.result], self.moves[node.result] = self.origin[x], (*self.moves[x], node)
            return True
        if node.op.name == "broadcast_to" and node.result.type.shape[-2:] == x.type.shape[-2:]:
            self.origin[node.result], self.repeated[node.result] = self.origin[x], x
            return True
        return False

    def _note_plain(self, operands: Sequence[Operand]) -> None:
        self.otherwise.update(self.origin[o] for o in operands if isinstance(o, Value) and o in self.origin)

    def _site(self, node: Node, j: int) -> _Site | None:
        """The operand `j` of a contraction, if panels of it pay."""
        operand, other = node.operands[j], node.operands[1 - j]
        if not isinstance(operand, Value) or operand not in self.origin or other in self.origin:
            return None
        source = self.repeated.get(operand, operand)
        shape = source.type.shape
        if source.type.dtype not in (f32, f64) or not all(isinstance(d, int) for d in shape) or 0 in shape:
            return None
        rows, steps = (-2, -1) if j == 0 else (-1, -2)
        added = -shape[rows] % (_PANEL_BYTES // source.type.dtype.itemsize)
        results = node.result.type.shape[-1 - j]
        if shape[steps] < _LEAST_STEPS or added * _MOST_PADDING > shape[rows] or not self._pays(other, results, j):
            return None
        return _Site(source, rows)

    def _pays(self, other: Operand, results: object, j: int) -> bool:
        if j == 1:
            return not isinstance(results, int) or results >= _LEAST_RESULTS
        if not isinstance(results, int) or results < _LEAST_RESULTS:
            return False
        return results <= (_FEW_WINDOWS if self._has_windows(other) else _FEW_POSITIONS)

    def _has_windows(self, operand: Operand) -> bool:
        node = self.producers.get(operand) if isinstance(operand, Value) else None
        while node is not None and node.op.name in (*_MOVES, "broadcast_to"):
            (x,) = node.operands
            node = self.producers.get(x) if isinstance(x, Value) else None
        return node is not None and node.op.name == "windows" and any(size != 1 for size in node.attrs["sizes"])


class _Panels:
    """The nodes that lay an input out, and that read it.

    Attributes:
        nodes: from the input to the panels, and from there to what `moves` made of the input.
    """

    def __init__(self, input: Value, moves: tuple[Node, ...], rows: int) -> None:
        self.builder = GraphBuilder("layouts")
        self.location = moves[-1].location if moves else None
        x = input
        for node in moves:
            (x,) = self.builder.add(node.op, [x], node.attrs, location=node.location)
        panels = self._packed(x, rows)
        panels.name = input.name
        self.matrix = self._unpacked(panels, x, rows)

    @property
    def nodes(self) -> list[Node]:
        return self.builder.nodes

    def _packed(self, x: Value, rows: int) -> Value:
        width = _PANEL_BYTES // x.type.dtype.itemsize
        added = -x.type.static_shape[rows] % width
        if added:
            high = tuple(added if d == x.type.ndim + rows else 0 for d in range(x.type.ndim))
            x = self._add("pad", x, low=(0,) * x.type.ndim, high=high, value=0)
        shape = list(x.type.static_shape)
        at = x.type.ndim + rows
        shape[at : at + 1] = [shape[at] // width, width]
        x = self._add("reshape", x, shape=tuple(shape))
        return self._add("clone", self._add("permute", x, dims=_panels_first(x.type.ndim, rows)))

    def _unpacked(self, panels: Value, x: Value, rows: int) -> Value:
        dims = _panels_first(panels.type.ndim, rows)
        found = self._add("permute", panels, dims=tuple(dims.index(d) for d in range(len(dims))))
        shape = list(found.type.static_shape)
        at = x.type.ndim + rows
        shape[at : at + 2] = [shape[at] * shape[at + 1]]
        found = self._add("reshape", found, shape=tuple(shape))
        if found.type == x.type:
            return found
        ones, zeros = (1,) * x.type.ndim, (0,) * x.type.ndim
        return self._add("slice", found, starts=zeros, stops=x.type.shape, steps=ones)

    def _add(self, op: str, x: Value, **attrs: object) -> Value:
        return self.builder.add_one(OPS[op], x, location=self.location, **attrs)


def _panels_first(ndim: int, rows: int) -> tuple[int, ...]:
    """The dims with panels before k before the rows of a panel: from rows in two dims before k, or behind it."""
    batch = tuple(range(ndim - 3))
    panel, row, step = (ndim - 3, ndim - 2, ndim - 1) if rows == -2 else (ndim - 2, ndim - 1, ndim - 3)
    return (*batch, panel, step, row)


def _read_panels(
    rewriter: Rewriter, node: Node, readers: _Readers, found: dict[Value, _Panels]
) -> Sequence[Operand] | None:
    """A contraction that reads what was laid out."""
    if node.op.name != "dot":
        return None
    operands = list(node.operands)
    for j, operand in enumerate(operands):
        site = readers.sites.get((node.result, j))
        panels = None if site is None else found.get(readers.origin[site.source])
        if panels is not None:
            operands[j] = _repeated(rewriter, node, panels.matrix, operand)
    if all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return None
    return rewriter.emit(with_operands(node, operands))


def _repeated(rewriter: Rewriter, node: Node, matrix: Value, operand: Operand) -> Value:
    """The matrix along the batch dims of the operand that it stands for."""
    if isinstance(operand, Literal) or matrix.type == operand.type:
        return matrix
    (value,) = rewriter.add(node, OPS["broadcast_to"], [matrix], [operand.type], shape=operand.type.shape)
    return value
