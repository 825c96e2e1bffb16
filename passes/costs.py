"""What is dear to compute."""

from __future__ import annotations

from tjit.ir.graph import Node

__all__ = ["EXPENSIVE", "is_dear"]

# Elementwise ops of many instructions, or of one that takes long.
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
        "erfinv",
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


def is_dear(node: Node) -> bool:
    """Whether to keep a node's result in memory costs less than to compute it again."""
    return node.op.kind in ("contract", "reduce", "scan", "sort") or node.op.name in EXPENSIVE
