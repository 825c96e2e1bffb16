"""Chains of matrix products."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import field
from typing import Union

from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, evaluate, symbols
from tjit.ir.graph import Graph, Node, Operand, Value, infer_types
from tjit.passes.rewrite import Rewriter

__all__ = ["reorder_matmul_chains"]

_LONGEST = 32  # factors of one chain: the time of the search grows with their cube
_PROBES = (4096, 1)  # what an unknown extent is taken for; a new order may be worse for neither

Order = Union[int, tuple["Order", "Order"]]  # the position of a factor, or the product of two orders


def reorder_matmul_chains(graph: Graph) -> Graph:
    """Multiply chains of matrices in the order of fewest operations. A product that is read twice is left alone.

    Before:
        graph f(%a: f32[64, 64], %b: f32[64, 64], %v: f32[64]) -> f32[64] {
          %0: f32[64, 64] = matmul(%a, %b)  # model.py:2
          %1: f32[64] = matmul(%0, %v)      # model.py:2
          return %1
        }

    After:
        graph f(%a: f32[64, 64], %b: f32[64, 64], %v: f32[64]) -> f32[64] {
          %0: f32[64] = matmul(%b, %v)  # model.py:2
          %1: f32[64] = matmul(%a, %0)  # model.py:2
          return %1
        }
    """
    chains = _find_chains(graph.nodes, _read_once(graph))
    better: dict[Value, tuple[_Chain, Order]] = {}
    dropped: set[Value] = set()
    for chain in chains:
        order = _better_order(chain)
        if order is not None:
            better[chain.value] = chain, order
            dropped.update(node.result for node in chain.nodes[:-1])
    if not better:
        return graph

    def reorder(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
        value = node.results[0] if node.results else None
        if value in dropped:
            return node.results  # read by its chain alone, which is multiplied anew
        if value not in better:
            return None
        chain, order = better[value]
        return (_multiply(rewriter, node, order, rewriter.mapped(chain.factors)),)

    return Rewriter(reorder).rewrite(graph)


def _multiply(rewriter: Rewriter, node: Node, order: Order, factors: Sequence[Operand]) -> Operand:
    if isinstance(order, int):
        return factors[order]
    operands = [_multiply(rewriter, node, part, factors) for part in order]
    return rewriter.add(node, node.op, operands, infer_types(node.op, operands, node.attrs), **node.attrs)[0]


@dataclass
class _Chain:
    """A product of products; a value that is none is a chain of one factor.

    Attributes:
        value: the product.
        now: the order in which `factors` are multiplied.
        nodes: the products, the last one `value`'s.
    """

    value: Value
    factors: list[Value]
    now: Order = 0
    nodes: list[Node] = field(default_factory=list)

    @property
    def starts_with_vector(self) -> bool:
        return self.factors[0].type.ndim == 1

    @property
    def ends_with_vector(self) -> bool:
        return self.factors[-1].type.ndim == 1

    @property
    def extents(self) -> list[Dim]:
        """Factor i is a matrix of extents[i] rows and extents[i + 1] columns."""
        shapes = [value.type.shape for value in self.factors]
        rows = 1 if self.starts_with_vector else shapes[0][0]
        return [rows, *(shape[0] for shape in shapes[1:]), 1 if self.ends_with_vector else shapes[-1][1]]


def _find_chains(nodes: Iterable[Node], once: set[Value]) -> list[_Chain]:
    """The longest chains of a body. They do not cross regions: what is outside of a loop stays outside."""
    found: list[_Chain] = []
    chains: dict[Value, _Chain] = {}
    for node in nodes:
        for region in node.regions:
            found.extend(_find_chains(region.nodes, once))
        if _is_product(node):
            left, right = (_part(o, node, once, chains) for o in node.operands if isinstance(o, Value))
            if left.ends_with_vector or len(left.factors) >= _LONGEST:
                left = _Chain(left.value, [left.value])  # a vector in the middle would be a column and a row
            if right.starts_with_vector or len(left.factors) + len(right.factors) > _LONGEST:
                right = _Chain(right.value, [right.value])
            for part in (left, right):
                if part.nodes:
                    del chains[part.value]
            chains[node.result] = _joined(node, left, right)
    return [*found, *chains.values()]


def _is_product(node: Node) -> bool:
    if node.op.name not in ("dot", "matmul") or not all(isinstance(o, Value) for o in node.operands):
        return False
    return all(1 <= o.type.ndim <= 2 for o in node.operands)


def _part(value: Value, node: Node, once: set[Value], chains: dict[Value, _Chain]) -> _Chain:
    chain = chains.get(value)
    if chain is None or value not in once or chain.nodes[-1].op is not node.op:
        return _Chain(value, [value])
    return chain


def _joined(node: Node, left: _Chain, right: _Chain) -> _Chain:
    order = left.now, _shifted(right.now, len(left.factors))
    return _Chain(node.result, left.factors + right.factors, order, [*left.nodes, *right.nodes, node])


def _shifted(order: Order, by: int) -> Order:
    return order + by if isinstance(order, int) else (_shifted(order[0], by), _shifted(order[1], by))


def _read_once(graph: Graph) -> set[Value]:
    """Values that one node reads, once, and that are no output."""
    counts: dict[Operand, int] = {}

    def count(nodes: Iterable[Node], outputs: Iterable[Operand]) -> None:
        for operand in outputs:
            counts[operand] = counts.get(operand, 0) + 2
        for node in nodes:
            for operand in node.operands:
                counts[operand] = counts.get(operand, 0) + 1
            for region in node.regions:
                count(region.nodes, region.outputs)

    count(graph.nodes, graph.outputs)
    return {o for o, n in counts.items() if n == 1 and isinstance(o, Value)}


def _better_order(chain: _Chain) -> Order | None:
    """An order of fewer multiplications than now, if there is one."""
    if len(chain.factors) < 3:
        return None
    large, small = ([_probed(d, size) for d in chain.extents] for size in _PROBES)
    best = _best_order(large)
    cheaper = _cost(best, large)[0] < _cost(chain.now, large)[0]
    return best if cheaper and _cost(best, small)[0] <= _cost(chain.now, small)[0] else None


def _probed(d: Dim, size: int) -> int:
    sizes: dict[str, int] = {}
    for s in symbols(d):
        high = s.maximum if isinstance(s.maximum, int) else size
        sizes[s.name] = max(s.minimum, min(size, high))
    return evaluate(d, sizes)


def _cost(order: Order, extents: Sequence[int]) -> tuple[int, int, int]:
    """Multiplications, rows and columns of a product."""
    if isinstance(order, int):
        return 0, extents[order], extents[order + 1]
    a, rows, inner = _cost(order[0], extents)
    b, _, columns = _cost(order[1], extents)
    return a + b + rows * inner * columns, rows, columns


def _best_order(extents: Sequence[int]) -> Order:
    """The cheapest order, by dynamic programming over the products of neighbours.

    Source: Cormen, Leiserson, Rivest and Stein, "Introduction to Algorithms", matrix-chain multiplication.
    """
    n = len(extents) - 1
    best: dict[tuple[int, int], tuple[int, Order]] = {(i, i + 1): (0, i) for i in range(n)}
    for length in range(2, n + 1):
        for i in range(n - length + 1):
            j = i + length
            costs = ((best[i, k][0] + best[k, j][0] + extents[i] * extents[k] * extents[j], k) for k in range(i + 1, j))
            cost, k = min(costs)
            best[i, j] = cost, (best[i, k][1], best[k, j][1])
    return best[0, n][1]
