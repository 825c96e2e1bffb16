"""The record of everything known of an op, and the registry of all of them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import field
from typing import Any

from tjit.dataclass import dataclass
from tjit.errors import ArgumentError

__all__ = ["KINDS", "OPS", "Op", "Sample", "register"]

KINDS = (
    "elementwise",  # one scalar body; operands and results of one shape, or literals
    "movement",  # one operand; an index map says where each result element comes from
    "create",  # no tensor operand: full, iota
    "reduce",  # dims, keepdim
    "scan",  # dim, reverse: each element with all before it along the dim, or all after it
    "sort",  # dim, descending, count: the first elements in order, and where they were
    "contract",  # dot with batch dims
    "index",  # gather, scatter, slice update, concat: data moved by rules of their own
    "control",  # nodes with regions
    "composite",  # defined by its decomposition
)


@dataclass(frozen=True)
class Sample:
    """Operands and attrs that the generated tests call an op with.

    Attributes:
        shapes: one per operand.
        low, high: range of the operands' random values (all operands), in which the op is defined and smooth.
        dtypes: one per operand, a name or None for "the dtype under test"; empty means all None.
        attrs: the op's attrs.
        ranges: one (low, high) per operand instead of low and high.
    """

    shapes: tuple[tuple[int, ...], ...]
    low: float = -3.0
    high: float = 3.0
    dtypes: tuple[str | None, ...] = ()
    attrs: dict[str, Any] = field(default_factory=dict)
    ranges: tuple[tuple[float, float], ...] = ()


@dataclass(frozen=True, eq=False, kw_only=True)
class Op:
    """All that is known of an op. Fields are required: "no gradient" is said aloud with None.

    Attributes:
        name: as printed in graphs; frozen once released.
        kind: one of `KINDS`.
        infer: (operand types..., **attrs) to the result's type, or a tuple of types; raises `TypeRuleError`
            without a location. None only for composites: their decomposition is traced instead.
        reference: (NumPy arrays or numbers..., **attrs) to an array, or a tuple: the eager implementation and oracle.
        vjp: (g, y, operands..., **attrs) to one cotangent per operand, None where there is none; written with
            public functions. g and y are tuples where the op has several results. None: not differentiable, or, for
            composites, the gradient of the decomposition.
        samples: what the generated tests call it with.
        dtypes: what the operands may be: "float", "int", "number" (int or float), "bool", "integral" (int or bool),
            or "any".
        scalar: elementwise only: (Scalars, operands..., **attrs) to one element.
        index: movement only: (index of a result element, operand type, **attrs) to the operand's index; or a pair
            (index, conditions), where a condition (e, n) means "0 <= e < n or else the element is attr `value`".
        decompose: composite only: (tensors or numbers..., **attrs) to tensors, written with public functions.
        differentiable: False where the result is not float or has a zero gradient everywhere by definition.
        view: the eager result shares memory with its operand.
        exact: compiled results equal the reference bit for bit (no rounding involved).
        tolerance: factor on the test suite's tolerance, with its reason beside it in the record.
    """

    name: str
    kind: str
    infer: Callable[..., Any] | None
    reference: Callable[..., Any]
    vjp: Callable[..., Any] | None
    samples: tuple[Sample, ...]
    dtypes: str = "float"
    scalar: Callable[..., Any] | None = None
    index: Callable[..., Any] | None = None
    decompose: Callable[..., Any] | None = None
    differentiable: bool = True
    view: bool = False
    exact: bool = False
    tolerance: float = 1.0

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise ArgumentError(f"op {self.name} has kind {self.kind!r}, not one of {', '.join(KINDS)}")
        needs = {"elementwise": "scalar", "movement": "index", "composite": "decompose"}.get(self.kind)
        if needs and getattr(self, needs) is None:
            raise ArgumentError(f"{self.kind} op {self.name} needs `{needs}`")

    def __repr__(self) -> str:
        return f"Op({self.name})"

    def __reduce__(self) -> str | tuple[Any, ...]:
        return OPS.__getitem__, (self.name,)


OPS: dict[str, Op] = {}


def register(op: Op) -> Op:
    """Add `op` to the registry under its name; there is one op of a name."""
    if op.name in OPS:
        raise ArgumentError(f"op {op.name} is registered twice")
    OPS[op.name] = op
    return op
