"""What `if`, `while` and `for` ask of their regions. `verify` checks it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tjit.dtypes import bool_
from tjit.ir.graph import Node, Operand, Region
from tjit.ir.types import TensorType

__all__ = ["region_problem"]

_REGIONS = {"if": ("then", "else"), "while": ("test", "body"), "for": ("body",)}


def region_problem(node: Node) -> str | None:
    """Which rule the regions of `node` break, as words that follow its name; None where they keep them all."""
    wanted = _REGIONS.get(node.op.name)
    if wanted is None:
        return "has regions, which only control ops have" if node.regions and node.op.kind != "control" else None
    names = tuple(region.name for region in node.regions)
    if names != wanted:
        return f"needs the regions {', '.join(wanted)}, not {', '.join(names) or 'none'}"
    return _CHECKS[node.op.name](node)


def _if_problem(node: Node) -> str | None:
    flag = TensorType(bool_, ())
    if not node.operands or node.operands[0].type != flag:
        return f"needs a condition of type {flag}, not {_types(node.operands[:1])}"
    carried = node.operands[1:]
    problem = _inputs_problem(node, carried)
    if problem is None and _types(node.results[: len(carried)]) != _types(carried):
        problem = f"has first results {_types(node.results[: len(carried)])}, but carries {_types(carried)}"
    for region in node.regions:
        problem = problem or _yield_problem(region, node.results, "its results are")
    return problem


def _while_problem(node: Node) -> str | None:
    test, body = node.regions
    flag = TensorType(bool_, ())
    problem = _inputs_problem(node, node.operands)
    if problem is None and [o.type for o in test.outputs] != [flag]:
        problem = f"yields {_types(test.outputs)} from region test, which needs one {flag}"
    return problem or _yield_problem(body, node.operands, "it carries")


def _for_problem(node: Node) -> str | None:
    return _inputs_problem(node, node.operands) or _yield_problem(node.regions[0], node.operands, "it carries")


_CHECKS: dict[str, Callable[[Node], str | None]] = {"if": _if_problem, "while": _while_problem, "for": _for_problem}


def _inputs_problem(node: Node, carried: Sequence[Operand]) -> str | None:
    for region in node.regions:
        if [v.type for v in region.inputs] != [o.type for o in carried]:
            return f"has region {region.name} with inputs {_types(region.inputs)}, but carries {_types(carried)}"
    return None


def _yield_problem(region: Region, wanted: Sequence[Operand], what: str) -> str | None:
    if [o.type for o in region.outputs] == [o.type for o in wanted]:
        return None
    return f"yields {_types(region.outputs)} from region {region.name}, but {what} {_types(wanted)}"


def _types(operands: Sequence[Operand]) -> str:
    return ", ".join(str(o.type) for o in operands) or "nothing"
