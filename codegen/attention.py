"""Attention kernels from nodes that the passes left whole (docs/design/0008)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tjit.codegen.expander import BufferOf, Expander
from tjit.codegen.items import Item, Program
from tjit.codegen.kernel import (
    Accumulator,
    Attention,
    AttentionGradientKernel,
    AttentionKernel,
    Axis,
    Compute,
    Const,
    Expr,
    Index,
    Store,
    converted,
)
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bool_, f32, f64, i64
from tjit.ir.dims import Dim
from tjit.ir.graph import Node, Operand, Value
from tjit.ir.op import OPS

__all__ = ["build_attention"]

Indices = tuple[Dim, ...]


def build_attention(
    program: Program, item: Item, buffer_of: BufferOf, needed: Callable[[Value], bool], name: str
) -> Attention:
    """The kernel of an attention or of its gradient; its buffers and tasks are still to be chosen."""
    builder = _Builder.of(program, item.node, buffer_of)
    if item.node.op.name == "scaled_dot_product_attention":
        return builder.forward(name, needed)
    return builder.backward(name)


@dataclass(frozen=True)
class _Builder:
    node: Node
    expander: Expander
    buffer_of: BufferOf
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    v: Axis

    @classmethod
    def of(cls, program: Program, node: Node, buffer_of: BufferOf) -> _Builder:
        first = 1 if node.op.name.endswith("backward") else 0
        query, value = (node.operands[first + i].type.shape for i in (0, 2))
        extents = (*query[:-1], value[-2], query[-1], value[-1])
        axes = [Axis(program.named(f"p{i}", d), d) for i, d in enumerate(extents)]
        return cls(node, Expander(program, buffer_of), buffer_of, tuple(axes[:-4]), *axes[-4:])

    def forward(self, name: str, needed: Callable[[Value], bool]) -> AttentionKernel:
        query, key, value, *mask = self.node.operands
        output, log_sum = self.node.results
        return AttentionKernel(
            name=name,
            **self._shared(query, key, value, mask),
            zero_blind=self.node.attrs["zero_blind"] and bool(mask),
            output=self._store(output, self.m, self.v),
            log_sum=self._store(log_sum, self.m) if needed(log_sum) else None,
        )

    def backward(self, name: str) -> AttentionGradientKernel:
        gradient, query, key, value, log_sum, delta, *mask = self.node.operands
        rows = ((query, self.m, self.k), (key, self.n, self.k), (value, self.n, self.v))
        stores = [self._store(found, *axes) for found, (_, *axes) in zip(self.node.results, rows, strict=True)]
        return AttentionGradientKernel(
            name=name,
            **self._shared(query, key, value, mask),
            gradient=self._read(gradient, self.m, self.v),
            log_sum=self._read(log_sum, self.m),
            delta=self._read(delta, self.m),
            scale=self.node.attrs["scale"],
            query_gradient=stores[0],
            key_gradient=stores[1],
            value_gradient=stores[2],
        )

    def _shared(self, query: Operand, key: Operand, value: Operand, mask: list[Operand]) -> dict[str, Any]:
        return {
            **{name: getattr(self, name) for name in ("batch", "m", "n", "k", "v")},
            "query": self._read(query, self.m, self.k),
            "key": self._read(key, self.n, self.k),
            "value": self._read(value, self.n, self.v),
            "score": self._score(*mask),
            "causal": self.node.attrs["is_causal"],
            "accumulate": self._accumulate,
            "location": self.node.location,
        }

    @property
    def _accumulate(self) -> DType:
        return f64 if self.node.results[0].type.dtype is f64 else f32

    def _read(self, operand: Operand, *axes: Axis) -> Expr:
        return self.expander.number(operand, self._index(*axes))

    def _index(self, *axes: Axis) -> Indices:
        return tuple(axis.index for axis in (*self.batch, *axes))

    def _store(self, value: Value, *axes: Axis) -> Store:
        return Store(self.buffer_of(value), self._index(*axes), Accumulator(self._accumulate), self.node.location)

    def _score(self, mask: Operand | None = None) -> Expr:
        dtype = self._accumulate
        score = self._compute("mul", Accumulator(dtype), Const(self.node.attrs["scale"], dtype))
        sees: Expr | None = None
        if self.node.attrs["is_causal"]:
            sees = self._compute("ge", Index(self.m.index, i64), Index(self.n.index, i64), dtype=bool_)
        elif mask is not None and mask.type.dtype is bool_:
            sees = self._read(mask, self.m, self.n)
        elif mask is not None:
            added = self._read(mask, self.m, self.n)
            score = self._compute("add", score, converted(added, dtype, self.node.location))
        return score if sees is None else self._compute("where", sees, score, Const(float("-inf"), dtype))

    def _compute(self, op: str, *operands: Expr, dtype: DType | None = None) -> Expr:
        return Compute(OPS[op], operands, (), dtype or self._accumulate, self.node.location)
