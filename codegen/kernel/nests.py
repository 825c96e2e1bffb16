"""Kernels of loops and branches as the user wrote them, and their statements."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Union

from tjit.codegen.kernel.exprs import Axis, Buffer, Expr, Local, Store
from tjit.dataclass import dataclass
from tjit.ir.dims import Dim, Symbol
from tjit.ir.graph import Node
from tjit.location import Location

__all__ = [
    "Assign",
    "Bind",
    "Branch",
    "Check",
    "Counted",
    "Fold",
    "Let",
    "NestKernel",
    "NestStatement",
    "Repeat",
    "nest_statements",
    "statement_exprs",
]


@dataclass(frozen=True, eq=False, slots=True)
class Let:
    """local = value, the only time in a run of the statements around it."""

    local: Local
    value: Expr
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Assign:
    """locals = values, all at once: the values read the locals as they were. The locals are variables."""

    locals: tuple[Local, ...]
    values: tuple[Expr, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Bind:
    """symbol = value, an integer that the rest of the region may index with.

    Unless low <= value <= high (high None: unbounded), the kernel reports failure `number` + 1 and ends.
    """

    symbol: Symbol
    value: Expr
    low: int
    high: Dim | None
    number: int
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Check:
    """Unless the bool `value` is true, the kernel reports failure `number` + 1 and ends."""

    value: Expr
    number: int
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Fold:
    """local = kind (as in `Reduce`) over `axes` of value, with `body` run at each point before it.

    Sums may be added in another, fixed order.
    """

    local: Local
    kind: str
    axes: tuple[Axis, ...]
    body: tuple[NestStatement, ...]
    value: Expr
    location: Location | None = None


@dataclass(frozen=True, eq=False, slots=True)
class Counted:
    """A loop over an axis, or over its part from `start` up to, but not with, `stop` (None: to its end)."""

    axis: Axis
    body: tuple[NestStatement, ...]
    start: Dim = 0
    stop: Dim | None = None

    @property
    def end(self) -> Dim:
        return self.axis.extent if self.stop is None else self.stop


@dataclass(frozen=True, eq=False, slots=True)
class Repeat:
    """test, then out of the loop unless `condition`, then body, and again."""

    test: tuple[NestStatement, ...]
    condition: Expr
    body: tuple[NestStatement, ...]


@dataclass(frozen=True, eq=False, slots=True)
class Branch:
    condition: Expr
    then: tuple[NestStatement, ...]
    otherwise: tuple[NestStatement, ...]


NestStatement = Union[Let, Assign, Bind, Check, Fold, Store, Counted, Repeat, Branch]


@dataclass(frozen=True, eq=False, slots=True)
class NestKernel:
    """Native loops and branches around scalars and single elements, in order, on one thread.

    Attributes:
        scratch: buffers in the scratch memory, and for each an upper bound of its elements by the kernel's symbols.
        checks: the nodes (bind, check, gather, take) whose failure is number i + 1.
    """

    name: str
    buffers: tuple[Buffer, ...]
    outputs: tuple[Buffer, ...]
    body: tuple[NestStatement, ...]
    scratch: tuple[tuple[Buffer, Dim], ...] = ()
    checks: tuple[Node, ...] = ()
    tasks: Dim = 1
    location: Location | None = None


def nest_statements(body: tuple[NestStatement, ...]) -> Iterator[NestStatement]:
    """Every statement of a nest, those inside of others after them."""
    for statement in body:
        yield statement
        if isinstance(statement, (Counted, Fold)):
            yield from nest_statements(statement.body)
        elif isinstance(statement, Repeat):
            yield from nest_statements(statement.test)
            yield from nest_statements(statement.body)
        elif isinstance(statement, Branch):
            yield from nest_statements(statement.then)
            yield from nest_statements(statement.otherwise)


def statement_exprs(statement: NestStatement) -> tuple[Expr, ...]:
    """The expressions that a statement itself holds."""
    if isinstance(statement, Assign):
        return statement.values
    if isinstance(statement, (Repeat, Branch)):
        return (statement.condition,)
    return () if isinstance(statement, Counted) else (statement.value,)
