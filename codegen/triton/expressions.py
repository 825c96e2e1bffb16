"""Expressions of the kernel IR as Triton lines, and index expressions as text."""

from __future__ import annotations

from dataclasses import field

from tjit.codegen.kernel import Accumulator, Axis, Buffer, Compute, Const, Expr, Index, Load, Reduced, Store
from tjit.codegen.scalars import held
from tjit.codegen.triton.scalars import Scalar, TritonScalars
from tjit.codegen.triton.source import Source, literal, strip_parentheses
from tjit.dataclass import dataclass
from tjit.dtypes import bf16, f16, i32, i64
from tjit.errors import CodegenError
from tjit.ir import dims
from tjit.ir.dims import Dim, Symbol

__all__ = ["Expressions", "Row", "lane", "unflatten"]


def unflatten(axes: tuple[Axis, ...], linear: Dim) -> dict[Symbol, Dim]:
    """The index of each axis from the row-major position in all of them."""
    result: dict[Symbol, Dim] = {}
    for i, axis in enumerate(reversed(axes)):
        outermost = i == len(axes) - 1
        if axis.extent == 0:  # no program runs
            result[axis.symbol] = 0
            continue
        result[axis.symbol] = linear if outermost else linear % axis.extent
        linear = linear if outermost else linear // axis.extent
    return result


def lane(source: Source, name: str, count: Dim) -> tuple[Symbol, str]:
    """A symbol for a linear position below `count`, and the name of its variable."""
    # Symbols of one name are one symbol, bounds included: the name carries the bound.
    return Symbol(f"{name}<{count}", 0, count - 1), source.fresh(name)


@dataclass(slots=True)
class Row:
    """What a `row` buffer holds: the store that filled it, and the variables that hold it, by index."""

    axes: tuple[Axis, ...]
    store: Store
    variables: dict[tuple[Dim, ...], Scalar] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Part:
    """An index expression: `rank` is 3 for an atom, 2 for a product, 1 for a sum."""

    text: str
    dim: Dim
    rank: int
    lanes: frozenset[str] = frozenset()

    def inside(self, rank: int) -> str:
        return self.text if self.rank >= rank else f"({self.text})"


class Expressions:
    """Evaluates expressions where `axes` are known dims over lane variables.

    Attributes:
        axes: each axis as an index expression over lane symbols.
        lanes: lane symbols: variable's name and the name of its mask ("" where every lane is in range).
        mask_lanes: lanes that a mask varies over besides its own.
        reduced: results of reductions by the id of their statement.
        rows: contents of `row` buffers.
        accumulator: the finished sum of a contraction.
    """

    def __init__(self, source: Source) -> None:
        self.source = source
        self.scalars = TritonScalars(source)
        self.axes: dict[Symbol, Dim] = {}
        self.lanes: dict[Symbol, tuple[str, str]] = {}
        self.mask_lanes: dict[str, frozenset[str]] = {}
        self.bound: dict[Symbol, Scalar] = {}
        self.reduced: dict[int, Scalar] = {}
        self.rows: dict[Buffer, Row] = {}
        self.accumulator: Scalar | None = None
        self.fill_masked = False
        self._memo: dict[int, Scalar] = {}

    def forget(self) -> None:
        """Evaluate again what was evaluated: axes or memory have changed."""
        self._memo.clear()

    # index expressions
    def lane_form(self, d: Dim) -> Dim:
        """`d` over lane symbols."""
        return dims.substitute(d, self.axes)

    def index(self, d: Dim) -> Scalar:
        """The text of an index expression; `value` is set where it is a constant."""
        d = self.lane_form(d)
        part = dims.fold(d, constant=self._constant, symbol=self._symbol, apply=self._apply)
        assert isinstance(part, _Part)
        dtype = i64 if self.source.wide else i32
        return Scalar(part.inside(3), dtype, part.lanes, d if isinstance(d, int) else None)

    @staticmethod
    def _constant(value: int) -> _Part:
        return _Part(str(value), value, 3 if value >= 0 else 1)

    def _symbol(self, symbol: Symbol) -> _Part:
        if symbol in self.lanes:
            name, _ = self.lanes[symbol]
            return _Part(name, symbol.dim, 3, frozenset((name,)))
        if symbol in self.bound:
            value = self.bound[symbol]
            return _Part(value.text, symbol.dim, 3, value.lanes)
        if symbol in self.source.symbol_names:
            return _Part(self.source.symbol_names[symbol], symbol.dim, 3)
        kernel = self.source.kernel
        raise CodegenError(f"kernel {kernel.name} uses the symbol {symbol} outside its loop", kernel.location)

    def _apply(self, name: str, a: _Part, b: _Part) -> _Part:
        lanes = a.lanes | b.lanes
        if name == "+":
            text = f"{a.text} - {b.text[1:]}" if b.text.startswith("-") else f"{a.text} + {b.text}"
            return _Part(text, a.dim + b.dim, 1, lanes)
        if name == "*":
            if a.dim == -1:
                return _Part(f"-{b.inside(2)}", -b.dim, 1, lanes)
            left = a.text if isinstance(a.dim, int) else a.inside(2)
            return _Part(f"{left} * {b.inside(3)}", a.dim * b.dim, 1 if left.startswith("-") else 2, lanes)
        if name in ("min", "max"):
            whole = dims.minimum(a.dim, b.dim) if name == "min" else dims.maximum(a.dim, b.dim)
            return _Part(f"tl.{name}imum({a.text}, {b.text})", whole, 3, lanes)
        whole = a.dim // b.dim if name == "//" else a.dim % b.dim
        if dims.lower_bound(a.dim) >= 0:  # Triton's // and % round to zero
            return _Part(f"{a.inside(2)} {name} {b.inside(3)}", whole, 2, lanes)
        helper = self.source.helper("floor_div" if name == "//" else "floor_mod")
        return _Part(f"{helper}({a.text}, {b.text})", whole, 3, lanes)

    # values
    def evaluate(self, expr: Expr) -> Scalar:
        """The value of `expr` in every lane."""
        known = self._memo.get(id(expr))
        if known is None:
            known = self._memo[id(expr)] = self._evaluate(expr)
        return known

    def _evaluate(self, expr: Expr) -> Scalar:
        if isinstance(expr, Const):
            return self.scalars.constant(expr.value, expr.dtype)
        if isinstance(expr, Load):
            return self.widened(self.load(expr))
        if isinstance(expr, Compute):
            return self._compute(expr)
        if isinstance(expr, Reduced):
            return self.reduced[id(expr.reduce)]
        if isinstance(expr, Index):
            return self.scalars.cast(self.index(expr.value), expr.dtype)
        assert isinstance(expr, Accumulator)
        if self.accumulator is None:
            raise CodegenError(f"kernel {self.source.name} reads an accumulator outside an epilogue")
        return self.scalars.cast(self.accumulator, expr.dtype)

    def _compute(self, expr: Compute) -> Scalar:
        if expr.op.scalar is None:
            raise CodegenError(f"{expr.op.name} is not elementwise", expr.location)
        operands = [self.evaluate(operand) for operand in expr.operands]
        at = "" if expr.location is None else f", {expr.location.short}"
        outer, self.source.comment = self.source.comment, f"{expr.op.name}{at}"
        result = expr.op.scalar(self.scalars, *operands, **dict(expr.attrs))
        result = self.scalars.cast(result, expr.dtype)  # of f16 and bf16, what memory would hold
        if result.value is None and not result.text.isidentifier():
            result = Scalar(self.source.bind(result.text), result.dtype, result.lanes)
        self.source.comment = outer
        return result

    def widened(self, x: Scalar) -> Scalar:
        """`x`, as loaded, in the dtype it is computed in."""
        if x.dtype in (f16, bf16) and x.value is None:
            return Scalar(f"{x.text}.to(tl.float32)", x.dtype, x.lanes)
        return x

    def load(self, expr: Load) -> Scalar:
        """An element as memory holds it: f16 and bf16 not widened."""
        for symbol, value, extent in expr.bindings:
            self.bind(symbol, value, extent)
        if expr.buffer.row:
            return self._load_row(expr)
        address, mask, lanes = self.address(expr.buffer, expr.index, expr.conditions)
        text = f"tl.load({address}"
        if mask:
            text += f", mask={mask}"
        if mask and (expr.conditions or self.fill_masked):
            text += f", other={literal(expr.fill, held(expr.buffer.dtype))}"
        name = self.source.pointer(expr.buffer).removesuffix("_ptr")
        outer, self.source.comment = self.source.comment, ""
        name = self.source.bind(f"{text})", name)
        self.source.comment = outer
        return Scalar(name, expr.buffer.dtype, lanes)

    def address(
        self, buffer: Buffer, index: tuple[Dim, ...], conditions: tuple[tuple[Dim, Dim], ...] = ()
    ) -> tuple[str, str, frozenset[str]]:
        """The pointer's text, the mask's text ("" for none) and the lanes of an access."""
        offset = self.index(buffer.offset(index))
        tests = [test for e, n in conditions for test in self._tests(e, n)]
        lanes = offset.lanes.union(*(test.lanes for test in tests))
        masks = [mask for name, mask in self.lanes.values() if mask and name in lanes]
        lanes = lanes.union(*(self.mask_lanes.get(mask, ()) for mask in masks))
        text = self.source.pointer(buffer)
        if offset.text != "0":
            text += f" + {strip_parentheses(offset.text)}"
        for name in sorted(lanes - offset.lanes):
            text += f" + 0 * {name}"  # a mask must not have more lanes than the pointer
        masks = [mask for name, mask in self.lanes.values() if mask and name in lanes]
        parts = [*dict.fromkeys(masks), *(test.text for test in tests)]
        return text, " & ".join(parts), lanes

    def _tests(self, e: Dim, n: Dim) -> list[Scalar]:
        """0 <= e < n, without what is certain."""
        e, n = self.lane_form(e), self.lane_form(n)
        found = []
        if dims.lower_bound(e) < 0:
            x = self.index(e)
            found.append(Scalar(f"({strip_parentheses(x.text)} >= 0)", x.dtype, x.lanes))
        if dims.lower_bound(n - 1 - e) < 0:
            x, size = self.index(e), self.index(n)
            found.append(Scalar(f"({strip_parentheses(x.text)} < {size.text})", x.dtype, x.lanes | size.lanes))
        return found

    def bind(self, symbol: Symbol, value: Expr, extent: Dim) -> None:
        """Let `symbol` be the integer `value`: from the end where negative, clamped to the extent."""
        x = self.evaluate(value)
        if x.dtype is not i64 and x.dtype is not i32:
            x = self.scalars.cast(x, i32)
        text, lanes = self.scalars.typed(x), x.lanes
        size, last = self.index(extent), self.index(extent - 1)
        name = self.source.bind(f"tl.where({text} < 0, {text} + {size.text}, {text})", symbol.name)
        clamped = f"tl.minimum(tl.maximum({name}, 0), {strip_parentheses(last.text)})"
        if (x.dtype is i64) != self.source.wide:
            clamped += f".to({self.source.integer})"
        name = self.source.bind(clamped, symbol.name)
        self.bound[symbol] = Scalar(name, i64 if self.source.wide else i32, lanes)

    def _load_row(self, expr: Load) -> Scalar:
        """A row buffer's element: the variable that holds it, or its value computed again."""
        row = self.rows.get(expr.buffer)
        if row is None:
            raise CodegenError(f"kernel {self.source.name} reads {expr.buffer} before writing it")
        index = tuple(self.lane_form(d) for d in expr.index)
        value = row.variables.get(index)
        if value is None:
            value = self._recompute(row, index)
        if expr.conditions:
            tests = [test for e, n in expr.conditions for test in self._tests(e, n)]
            if tests:
                inside = " & ".join(test.text for test in tests)
                condition = Scalar(inside, value.dtype, frozenset().union(*(test.lanes for test in tests)))
                value = self.scalars.select(condition, value, self.scalars.constant(expr.fill, value.dtype))
        return value

    def _recompute(self, row: Row, index: tuple[Dim, ...]) -> Scalar:
        axes = dict(self.axes)
        axes.update({axis.symbol: 0 for axis in row.axes if axis.extent == 1})
        for d, at in zip(row.store.index, index, strict=True):
            ((symbol, shift),) = [(s, d - s.dim) for s in dims.symbols(d)] or [(None, d)]
            if symbol is None and d == 0:
                continue
            if symbol is None or shift != 0:
                raise CodegenError(f"kernel {self.source.name} fills a row buffer at [{d}], not at its loop's index")
            axes[symbol] = at
        outer_axes, self.axes = self.axes, axes
        outer_memo, self._memo = self._memo, {}
        value = self.rounded(self.evaluate(row.store.value), row.store.buffer)
        self.axes, self._memo = outer_axes, outer_memo
        return value

    def rounded(self, value: Scalar, buffer: Buffer) -> Scalar:
        """`value` as `buffer` would give it back."""
        if value.dtype is buffer.dtype and buffer.dtype not in (f16, bf16):
            return value
        return self.scalars.cast(value, buffer.dtype)

    def store(self, statement: Store) -> None:
        """buffer[index] = value, where the masks hold."""
        value = self.evaluate(statement.value)
        address, mask, _ = self.address(statement.buffer, statement.index)
        mask = f", mask={mask}" if mask else ""
        text = strip_parentheses(self.scalars.stored(value, statement.buffer.dtype))
        at = "" if statement.location is None else statement.location.short
        self.source.line(f"tl.store({address}, {text}{mask})", at)
        self.source.forget(self.source.pointer(statement.buffer))
        self.forget()
