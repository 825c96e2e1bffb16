"""Constants: numbers known while compiling."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tjit.ir.graph import Graph, Literal, Node, Operand
from tjit.passes.constant_control import fold_control
from tjit.passes.known import is_zero, known_number, make_full
from tjit.passes.rewrite import Rewriter, rewrite, with_operands
from tjit.quiet import quietly

__all__ = ["fold_constants"]

# of one number it stays one number
_MOVES = ("alias", "broadcast_to", "detach", "diagonal", "flip", "permute", "reshape", "slice")


def fold_constants(graph: Graph) -> Graph:
    """Compute what depends on numbers only, and read filled tensors as numbers.

    An elementwise node of numbers and of tensors filled with one number becomes a `full`, by the op's reference; a
    `full` among the operands of an elementwise node becomes a number where another operand has the result's shape. A
    branch that is taken for certain, and the body of a loop of one trip, take the place of their node.

    Before:
        graph f(%x: f32[4]) -> f32[4] {
          %0: f32[] = full(value=2.0, shape=(), dtype=f32, device=cpu)  # model.py:2
          %1: f32[] = mul(%0, 0.25)                                     # model.py:3
          %2: f32[4] = broadcast_to(%1, shape=(4,))                     # model.py:4
          %3: f32[4] = add(%x, %2)                                      # model.py:4
          return %3
        }

    After:
        graph f(%x: f32[4]) -> f32[4] {
          %0: f32[] = full(value=2.0, shape=(), dtype=f32, device=cpu)     # model.py:2
          %1: f32[] = full(value=0.5, shape=(), dtype=f32, device=cpu)     # model.py:3
          %2: f32[4] = full(value=0.5, shape=(4,), dtype=f32, device=cpu)  # model.py:4
          %3: f32[4] = add(%x, 0.5)                                        # model.py:4
          return %3
        }
    """
    return rewrite(graph, _fold)


def _fold(rewriter: Rewriter, node: Node) -> Sequence[Operand] | None:
    if node.op.kind == "elementwise":
        return _fold_elementwise(rewriter, node)
    if node.regions:
        return fold_control(rewriter, node)
    if len(node.operands) != 1 or len(node.results) != 1:
        return None
    number = known_number(rewriter, node.operands[0])
    moved = number is not None and node.op.name in _MOVES
    if number is not None and (moved or (node.op.name == "sum" and is_zero(number))):
        return make_full(rewriter, number, node.result.type, node)
    return None


def _fold_elementwise(rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
    numbers = [known_number(rewriter, o) for o in node.operands]
    if not any(numbers):
        return None
    type = node.result.type
    if all(n is not None for n in numbers):
        return make_full(rewriter, _computed(node, [n for n in numbers if n is not None]), type, node)
    kept = any(n is None and o.type.shape == type.shape for n, o in zip(numbers, node.operands, strict=True))
    operands = [o if n is None else n for n, o in zip(numbers, node.operands, strict=True)]
    # identity, since a literal that was one already comes back as it is
    if not kept or all(a is b for a, b in zip(operands, node.operands, strict=True)):
        return None
    return tuple(rewriter.emit(with_operands(node, operands)))


def _computed(node: Node, numbers: list[Literal]) -> Literal:
    operands = [quietly(n.dtype.numpy.type, n.value) for n in numbers]
    found = quietly(node.op.reference, *operands, **node.attrs)
    return Literal(np.asarray(found).item(), node.result.type.dtype)
