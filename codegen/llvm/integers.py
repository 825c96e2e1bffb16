"""i64 arithmetic that folds constants while it is emitted, and dims as code."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import llvmlite.ir as ir

from tjit.codegen.llvm.vectors import I64, counted_loop, i64, is_natural
from tjit.ir.dims import Dim, fold

__all__ = ["Integers"]


def _known(x: ir.Value) -> int | None:
    return x.constant if isinstance(x, ir.Constant) else None


def _natural(x: ir.Value, *operands: ir.Value) -> ir.Value:
    """`x`, which is not negative if its operands are not; without any it never is."""
    if all(map(is_natural, operands)):
        x.is_natural = True
    return x


class Integers:
    """Operations on i64 values; where all operands are constants the result is one.

    Attributes:
        symbols: values of the symbols by name, for `dim`. Add loop variables as they come into being.
    """

    def __init__(self, builder: ir.IRBuilder, symbols: Mapping[str, ir.Value] | None = None) -> None:
        self.b = builder
        self.symbols: dict[str, ir.Value] = dict(symbols or {})

    def const(self, value: int) -> ir.Constant:
        return i64(value)

    def dim(self, d: Dim) -> ir.Value:
        """The value of a dim."""
        return fold(d, constant=self.const, symbol=lambda s: self.symbols[s.name], apply=self._apply)

    def _apply(self, name: str, a: ir.Value, b: ir.Value) -> ir.Value:
        operations = {"+": self.add, "*": self.mul, "//": self.floor_div, "%": self.floor_mod}
        return (operations | {"min": self.min, "max": self.max})[name](a, b)

    def add(self, x: ir.Value, y: ir.Value) -> ir.Value:
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i + j)
        return y if i == 0 else x if j == 0 else _natural(self.b.add(x, y, flags=("nsw",)), x, y)

    def sub(self, x: ir.Value, y: ir.Value) -> ir.Value:
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i - j)
        return x if j == 0 else self.b.sub(x, y, flags=("nsw",))

    def mul(self, x: ir.Value, y: ir.Value) -> ir.Value:
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i * j)
        if i == 0 or j == 0:
            return self.const(0)
        return y if i == 1 else x if j == 1 else _natural(self.b.mul(x, y, flags=("nsw",)), x, y)

    def div(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x // y of numbers that are not negative."""
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i // j)
        return x if j == 1 else _natural(self.b.udiv(x, y))

    def mod(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x % y of numbers that are not negative."""
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i % j)
        return self.const(0) if j == 1 else _natural(self.b.urem(x, y))

    def floor_div(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x // y, y > 0."""
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(i // j)
        if j == 1:
            return x
        if is_natural(x):
            return self.div(x, y)
        b = self.b
        quotient = b.sdiv(x, y)
        inexact = b.icmp_signed("!=", b.mul(quotient, y), x)
        low = b.and_(inexact, b.icmp_signed("<", x, self.const(0)))
        return b.sub(quotient, b.zext(low, I64))

    def floor_mod(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """x % y, y > 0."""
        j = _known(y)
        if j is not None and j & (j - 1) == 0 and is_natural(x):
            return self.mod(x, y)  # some bits of it
        return self.sub(x, self.mul(self.floor_div(x, y), y))

    def ceil_div(self, x: ir.Value, y: ir.Value) -> ir.Value:
        """The least q with q*y >= x, of numbers that are not negative."""
        return self.div(self.add(x, self.sub(y, self.const(1))), y)

    def whole_steps(self, start: ir.Value, stop: ir.Value, step: int) -> ir.Value:
        """Where the last whole step from `start` on ends that is not beyond `stop`, which is not before it."""
        by = self.const(step)
        return self.add(start, self.mul(self.div(self.sub(stop, start), by), by))

    def min(self, x: ir.Value, y: ir.Value) -> ir.Value:
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(min(i, j))
        return self.b.select(self.b.icmp_signed("<", x, y), x, y)

    def max(self, x: ir.Value, y: ir.Value) -> ir.Value:
        i, j = _known(x), _known(y)
        if i is not None and j is not None:
            return self.const(max(i, j))
        return self.b.select(self.b.icmp_signed(">", x, y), x, y)

    @contextmanager
    def loop(self, start: ir.Value, stop: ir.Value, step: int | ir.Value = 1) -> Iterator[ir.Value]:
        """for (i = start; i < stop; i += step); the body alone where it is known to run once."""
        with counted_loop(self.b, start, stop, self.const(step) if isinstance(step, int) else step) as i:
            yield i
