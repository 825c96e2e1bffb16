"""Kernels that sum products: contractions, and attention with its gradients."""

from __future__ import annotations

from typing import Union

from tjit.codegen.kernel.exprs import Axis, Buffer, Expr, Store
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim
from tjit.location import Location

__all__ = ["Attention", "AttentionGradientKernel", "AttentionKernel", "Blocking", "ContractKernel", "Contraction"]


@dataclass(frozen=True, slots=True)
class Blocking:
    """How a contraction is cut, where that was measured; None: as the backend reckons.

    Attributes:
        k, m, n: about how many steps, rows and columns a block has.
        packs_a, packs_b: whether the operand is packed, where it could be read in place.
    """

    k: int | None = None
    m: int | None = None
    n: int | None = None
    packs_a: bool | None = None
    packs_b: bool | None = None

    def __str__(self) -> str:
        blocks = [f"{name} {size}" for name, size in (("k", self.k), ("m", self.m), ("n", self.n)) if size]
        packs = [(name, on) for name, on in (("a", self.packs_a), ("b", self.packs_b)) if on is not None]
        return ", ".join([*blocks, *(f"{name} {'packed' if on else 'in place'}" for name, on in packs)])


@dataclass(frozen=True, eq=False, slots=True)
class ContractKernel:
    """acc[batch, m, n] = sum over k of a * b, then the epilogue's stores at each (batch, m, n).

    Attributes:
        a: expression over batch, m and k axes; usually a `Load`, any prologue else.
        b: expression over batch, k and n axes.
        accumulate: dtype of the sum: f32 for f16, bf16 and f32; f64; i32 for ints up to it; i64.
        epilogue: stores over batch, m and n; their expressions read `Accumulator` and may load other buffers.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    a: Expr
    b: Expr
    accumulate: DType
    epilogue: tuple[Store, ...]
    tasks: Dim = 1
    location: Location | None = None
    blocking: Blocking = Blocking()


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class _Attention:
    """What attention and its gradients share.

    Attributes:
        query, key, value: expressions over batch and (m, k), (n, k), (n, v).
        score: expression over batch, m and n, that reads `Accumulator`; -inf where n is not seen.
        causal: n + first_key > m is not seen.
        first_key: what stands before the kernel's own keys, over batch.
    """

    name: str
    buffers: tuple[Buffer, ...] = ()
    batch: tuple[Axis, ...]
    m: Axis
    n: Axis
    k: Axis
    v: Axis
    query: Expr
    key: Expr
    value: Expr
    score: Expr
    causal: bool
    first_key: Dim = 0
    accumulate: DType
    tasks: Dim = 1
    location: Location | None = None

    @property
    def stores(self) -> tuple[Store, ...]:
        raise NotImplementedError

    @property
    def outputs(self) -> tuple[Buffer, ...]:
        return tuple(dict.fromkeys(store.buffer for store in self.stores))

    @property
    def reads(self) -> tuple[Expr, ...]:
        raise NotImplementedError

    @property
    def axes(self) -> tuple[Axis, ...]:
        return (*self.batch, self.m, self.n, self.k, self.v)


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AttentionKernel(_Attention):
    """Weights over n for each (batch, m), and the sums over n of weight * value; no weights are in memory.

    acc = sum over k of query * key; weight = exp(score) / sum over n of exp(score).

    Attributes:
        zero_blind: a row that sees nothing is zero, and its log-sum-exp inf; else they are what arithmetic gives.
        output: at (batch, m, v), of `Accumulator`.
        log_sum: the log of the sum over n of exp(score), at (batch, m); None where nothing reads it.
    """

    zero_blind: bool
    output: Store
    log_sum: Store | None

    @property
    def stores(self) -> tuple[Store, ...]:
        return (self.output,) if self.log_sum is None else (self.output, self.log_sum)

    @property
    def reads(self) -> tuple[Expr, ...]:
        return self.query, self.key, self.value, self.score


@dataclass(frozen=True, eq=False, slots=True, kw_only=True)
class AttentionGradientKernel(_Attention):
    """The cotangents of an attention's query, key and value, from that of its output; the weights are computed again.

    weight = exp(score - log_sum); ds = weight * (sum over v of gradient * value - delta) * scale;
    of query: the sum over n of ds * key; of key: that over m of ds * query; of value: that over m of weight * gradient.

    Attributes:
        gradient: of the output: expression over batch, m and v.
        log_sum, delta: expressions over batch and m.
        scale: the derivative of the score by acc, where it is not -inf.
        query_gradient, key_gradient, value_gradient: at (batch, m, k), (batch, n, k), (batch, n, v), of `Accumulator`.
    """

    gradient: Expr
    log_sum: Expr
    delta: Expr
    scale: float
    query_gradient: Store
    key_gradient: Store
    value_gradient: Store

    @property
    def stores(self) -> tuple[Store, ...]:
        return self.query_gradient, self.key_gradient, self.value_gradient

    @property
    def reads(self) -> tuple[Expr, ...]:
        return self.query, self.key, self.value, self.gradient, self.log_sum, self.delta, self.score


Attention = Union[AttentionKernel, AttentionGradientKernel]
Contraction = Union[ContractKernel, Attention]
