"""Algebra: local identities."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any, NamedTuple

from tjit.ir.graph import Graph, Literal, Node, Operand, Value
from tjit.passes import rules
from tjit.passes.known import make_full
from tjit.passes.moves import simplify_move
from tjit.passes.rewrite import Rewriter, rewrite, with_operands
from tjit.passes.rules import Rule

__all__ = ["COMMUTATIVE", "simplify_algebra", "simplify_algebra_fast"]

# Operands may change places: the result is the same to the bit, up to which nan it is.
COMMUTATIVE = frozenset({"add", "mul", "maximum", "minimum", "bitwise_and", "bitwise_or", "bitwise_xor", "eq", "ne"})

Bound = Mapping[str, Operand]


class _Case(NamedTuple):
    """A rule for one kind of dtype: the pattern as a tree, by the node that makes the result."""

    rule: Rule
    kind: str
    root: Node
    producers: Mapping[Value, Node]
    numbers: frozenset[str]

    def may_be(self, node: Node, makers: Sequence[Node | None]) -> bool:
        """Whether `node` has operands of the sorts that the pattern has, given who makes each; most nodes have not."""
        operands, patterns = node.operands, self.root.operands
        if all(map(self._may_stand_for, patterns, operands, makers)):
            return True
        return node.op.name in COMMUTATIVE and all(map(self._may_stand_for, patterns, operands[::-1], makers[::-1]))

    def _may_stand_for(self, pattern: Operand, operand: Operand, maker: Node | None) -> bool:
        if isinstance(pattern, Literal):
            return isinstance(operand, Literal)
        inner = self.producers.get(pattern)
        if inner is not None:
            return maker is not None and maker.op is inner.op
        if pattern.name in self.numbers and not isinstance(operand, Literal):
            return False
        return pattern.name == "c" or operand.type.dtype.kind == self.kind


_Cases = Mapping[tuple[str, str], Sequence[_Case]]


def simplify_algebra(graph: Graph, fast_math: bool = False) -> Graph:
    """Apply the identities of `rules.py`, and join moves of elements that follow each other.

    Args:
        fast_math: apply also those that hold for real numbers but not for -0, inf, nan or in the last bit.

    Before:
        graph f(%x: f32[4, 8]) -> f32[4, 8] {
          %0: f32[4, 8] = mul(%x, 1.0)                 # model.py:2
          %1: f32[8, 4] = permute(%0, dims=(1, 0))     # model.py:3
          %2: f32[8, 4] = div(%1, 8.0)                 # model.py:4
          %3: f32[2, 16] = reshape(%2, shape=(2, 16))  # model.py:5
          %4: f32[4, 8] = reshape(%3, shape=(4, 8))    # model.py:6
          return %4
        }

    After:
        graph f(%x: f32[4, 8]) -> f32[4, 8] {
          %0: f32[8, 4] = permute(%x, dims=(1, 0))     # model.py:3
          %1: f32[8, 4] = mul(%0, 0.125)               # model.py:4
          %2: f32[2, 16] = reshape(%1, shape=(2, 16))  # model.py:5
          %3: f32[4, 8] = reshape(%1, shape=(4, 8))    # model.py:6
          return %3
        }
    """
    return rewrite(graph, partial(_simplify, _cases(rules.RULES, fast_math)))


def simplify_algebra_fast(graph: Graph) -> Graph:
    """`simplify_algebra` with fast math."""
    return simplify_algebra(graph, fast_math=True)


def _simplify(cases: _Cases, rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
    # A clone is its operand for all who read it; as an output it stays, since outputs are memory of their own.
    originals = tuple(_original(rewriter, o) for o in node.operands)
    changed = originals != node.operands
    if changed:
        node = with_operands(node, originals)
    found = simplify_move(rewriter, node)
    if found is None and node.op.kind == "elementwise":
        found = _by_rule(cases, rewriter, node)
    if found is None and changed:
        return tuple(rewriter.emit(node))
    return found


def _original(rewriter: Rewriter, operand: Operand) -> Operand:
    node = rewriter.producer(operand)
    return operand if node is None or node.op.name != "clone" else node.operands[0]


def _by_rule(cases: _Cases, rewriter: Rewriter, node: Node) -> tuple[Operand, ...] | None:
    of_op = cases.get((node.op.name, node.operands[-1].type.dtype.kind), ())
    if not of_op or all(isinstance(o, Literal) for o in node.operands):
        return None  # `fold_constants` computes what has literals alone
    makers = [rewriter.producer(o) for o in node.operands]
    for case in of_op:
        if not case.may_be(node, makers):
            continue
        for bound in _match_operands(case, case.root, node, {}, rewriter):
            if _fits(case, bound):
                return _replaced(rewriter, case, node, bound)
    return None


def _fits(case: _Case, bound: Bound) -> bool:
    free = [o for p, o in bound.items() if p != "c"]
    if any(o.type.dtype.kind != case.kind for o in free):
        return False
    numbers = [o.value for p in case.rule.numbers if isinstance(o := bound[p], Literal)]
    return case.rule.when is None or case.rule.when(*numbers, free[0].type.dtype)


def _replaced(rewriter: Rewriter, case: _Case, node: Node, bound: Bound) -> tuple[Operand, ...] | None:
    type = node.result.type
    operands = [bound[p] for p in case.rule.parameters if p not in case.rule.numbers]
    numbers = {p: o.value for p in case.rule.numbers if isinstance(o := bound[p], Literal)}

    def replacement(*tensors: Any) -> Any:
        named = dict(zip((p for p in case.rule.parameters if p not in case.rule.numbers), tensors, strict=True))
        result = case.rule.replacement(**named, **numbers)
        return result if isinstance(result, Literal) or result.type_ == type else _broadcast(result, type.shape)

    (result,) = rewriter.trace(node, replacement, operands)
    return make_full(rewriter, result, type, node) if isinstance(result, Literal) else (result,)


def _broadcast(result: Any, shape: Any) -> Any:
    """A 0-d operand stood beside one that the rule drops."""
    from tjit.ops.movement import broadcast_to

    return broadcast_to(result, shape)


@lru_cache(maxsize=8)
def _cases(chosen: tuple[Rule, ...], fast_math: bool) -> _Cases:
    """The rules by the op that makes the result, and by the kind of dtype of its last operand: no condition is last."""
    found: dict[tuple[str, str], list[_Case]] = {}
    for rule in chosen:
        for kind in (*rule.exact, *(rule.fast if fast_math else ())):
            graph = rule.graph(kind)
            producers = graph.producers()
            (output,) = graph.outputs
            assert isinstance(output, Value)
            root = producers[output]
            case = _Case(rule, kind, root, producers, frozenset(rule.numbers))
            found.setdefault((root.op.name, kind), []).append(case)
    return {key: tuple(cases) for key, cases in found.items()}


def _match_operands(case: _Case, pattern: Node, node: Node, bound: Bound, rewriter: Rewriter) -> Iterator[Bound]:
    """Every way to give the pattern's parameters operands so that it spells `node`."""
    yield from _match_all(case, pattern.operands, node.operands, bound, rewriter)
    if node.op.name in COMMUTATIVE:
        yield from _match_all(case, pattern.operands, node.operands[::-1], bound, rewriter)


def _match_all(
    case: _Case, patterns: tuple[Operand, ...], operands: tuple[Operand, ...], bound: Bound, rewriter: Rewriter
) -> Iterator[Bound]:
    if len(patterns) != len(operands):
        return
    if not patterns:
        yield bound
        return
    for more in _match(case, patterns[0], operands[0], bound, rewriter):
        yield from _match_all(case, patterns[1:], operands[1:], more, rewriter)


def _match(case: _Case, pattern: Operand, operand: Operand, bound: Bound, rewriter: Rewriter) -> Iterator[Bound]:
    if isinstance(pattern, Literal):
        if isinstance(operand, Literal) and Literal(pattern.value, operand.dtype) == operand:
            yield bound
        return
    inner = case.producers.get(pattern)
    if inner is not None:
        node = rewriter.producer(operand)
        if node is not None and node.op is inner.op and node.attrs == inner.attrs:
            yield from _match_operands(case, inner, node, bound, rewriter)
        return
    name = pattern.name or ""
    known = bound.get(name)
    if known is not None:
        if known == operand:
            yield bound
    elif isinstance(operand, Literal) or name not in case.numbers:
        yield {**bound, name: operand}
