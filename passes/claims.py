"""Composites that a backend claims whole."""

from __future__ import annotations

from tjit.ir.graph import Node
from tjit.ir.types import TensorType

__all__ = ["is_attention_claimed", "is_claimed"]

_FEW_QUERIES = 8  # their scores are no more memory than the keys, and products of few rows read those once


def is_claimed(node: Node) -> bool:
    """Whether the backend of the node's device has a kernel for it that is better than those of its parts."""
    if node.op.name == "scaled_dot_product_attention":
        query, _, value = (operand.type for operand in node.operands[:3])
    elif node.op.name == "scaled_dot_product_attention_backward":
        query, _, value = (operand.type for operand in node.operands[1:4])
    else:
        return False
    return is_attention_claimed(query, value)


def is_attention_claimed(query: TensorType, value: TensorType) -> bool:
    """Whether attention of these operands is."""
    if query.device.type != "cpu" or any(isinstance(d, int) and d == 0 for d in (*query.shape, *value.shape)):
        return False
    return not (isinstance(query.shape[-2], int) and query.shape[-2] < _FEW_QUERIES)
