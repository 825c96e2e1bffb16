"""What a contraction reads and writes, as memory: plain strided operands, a direct output, which side is which."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

from tjit.codegen.digits import Digits, digits_of, split_digits
from tjit.codegen.kernel import Accumulator, Axis, Buffer, Compute, ContractKernel, Expr, Load, Store, walk
from tjit.codegen.scalars import held
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, Symbol, coefficient, substitute, symbols

__all__ = [
    "Direct",
    "InPanels",
    "Operand",
    "direct_output",
    "exchanged",
    "few_rows",
    "holds",
    "leads_with_m",
    "narrow_load",
    "operand_in_panels",
    "plain_operand",
    "plain_operands",
    "results_along_n",
    "results_in_memory",
]


@dataclass(frozen=True, slots=True)
class InPanels:
    """Rows that lie in panels of `width` in memory, `stride` elements apart."""

    width: int
    stride: Dim


@dataclass(frozen=True, slots=True)
class Operand:
    """An operand that is a plain strided read: element (row, k) lies at base + row*row_stride + k*k_stride.

    Attributes:
        base: over batch axes and program symbols; where k has digits over the higher ones too, and k is the lowest.
        panels: where rows lie in panels: `row` is then that within its panel.
    """

    buffer: Buffer
    base: Dim
    row_stride: Dim
    k_stride: Dim
    panels: InPanels | None = None

    @property
    def order(self) -> str:
        """Which stride is 1, as in `Packing`."""
        return "rows" if self.row_stride == 1 else "k" if self.k_stride == 1 else "any"


@dataclass(frozen=True, slots=True)
class Direct:
    """Where finished sums go as they are: element (m, n) lies at base + m*row_stride + n."""

    buffer: Buffer
    base: Dim
    row_stride: Dim


def results_along_n(kernel: ContractKernel) -> ContractKernel:
    """The kernel with a and b exchanged, if its stores are contiguous along m and not along n."""
    strides = [
        (coefficient(o, kernel.m.symbol), coefficient(o, kernel.n.symbol)) for o in map(_offset, kernel.epilogue)
    ]
    if any(n == 1 for _, n in strides) or not any(m == 1 for m, _ in strides):
        return kernel
    return exchanged(kernel)


def leads_with_m(kernel: ContractKernel) -> bool:
    """Whether the results of a row lie together in memory, rather than those of a column."""
    offset = _offset(kernel.epilogue[0])
    m, n = coefficient(offset, kernel.m.symbol), coefficient(offset, kernel.n.symbol)
    return not (isinstance(m, int) and isinstance(n, int)) or m >= n


def results_in_memory(kernel: ContractKernel) -> int:
    """How many arrays the epilogue reads or writes at each m and n."""
    loads = (e for store in kernel.epilogue for e in walk(store.value) if isinstance(e, Load))
    places = {_offset(access) for access in (*kernel.epilogue, *loads)}
    return sum({kernel.m.symbol, kernel.n.symbol}.issubset(symbols(place)) for place in places)


def exchanged(kernel: ContractKernel) -> ContractKernel:
    """The kernel with a and b, m and n exchanged."""
    return replace(kernel, m=kernel.n, n=kernel.m, a=kernel.b, b=kernel.a)


def _offset(access: Store | Load) -> Dim:
    return access.buffer.offset(access.index)


def plain_operands(kernel: ContractKernel) -> tuple[Digits, Operand | None, Operand | None]:
    """a and b as plain reads, and the digits of k, as few as will do, over which they are: k itself for most.

    Images make digits of k: a weight's gradient sums over g[n, f, p] * x[n, c, p], k = n*3136 + p.
    """
    k = kernel.k.symbol
    a, b = (_plain_load(kernel, side) for side in (kernel.a, kernel.b))
    digits = split_digits(k, *(load for load in (a, b) if load is not None))
    places = (digits.lowest, *digits.higher)

    def split(load: Load | None, row: Axis) -> tuple[Dim, ...] | None:
        return load and _split(kernel, substitute(_offset(load), {k: digits.value}), row.symbol, *places)

    splits = split(a, kernel.m), split(b, kernel.n)
    scales = [big // small for small, big in pairwise((1, *digits.radices))]
    kept = [i for i, scale in enumerate(scales) if any(s and s[i + 3] != s[i + 2] * scale for s in splits)]
    runs = digits_of(k, [digits.radices[i] for i in kept])

    def operand(load: Load | None, strides: tuple[Dim, ...] | None) -> Operand | None:
        if load is None or strides is None:
            return None
        base, row_stride, k_stride, *higher = strides
        for symbol, i in zip(runs.higher, kept, strict=True):
            base = base + symbol.dim * higher[i]
        result = Operand(load.buffer, base, row_stride, k_stride)
        # a gather of elements in short runs is better evaluated
        return None if runs.radices and result.order == "any" else result

    return runs, operand(a, splits[0]), operand(b, splits[1])


def plain_operand(kernel: ContractKernel, expr: Expr, row: Axis) -> Operand | None:
    """`expr`, over the axis `row` and k, as a strided read; None where it is more than that."""
    load = _plain_load(kernel, expr)
    split = load and _split(kernel, _offset(load), row.symbol, kernel.k.symbol)
    return Operand(load.buffer, split[0], split[1], split[2]) if load and split else None


def operand_in_panels(kernel: ContractKernel, expr: Expr, row: Axis) -> Operand | None:
    """`expr`, over the axis `row` and k, as a read of panels like those that are packed; None where it is not that.

    Each step of k has the `width` rows of a panel side by side, which is what a tile reads; of the dtype of the sums.
    """
    digits = split_digits(row.symbol, expr)
    load = _plain_load(kernel, expr) if len(digits.radices) == 1 else None
    if load is None or load.dtype is not kernel.accumulate:
        return None
    (width,), (panel,) = digits.radices, digits.higher
    offset = substitute(_offset(load), {row.symbol: digits.value})
    split = _split(kernel, offset, digits.lowest, kernel.k.symbol, panel)
    if split is None or split[1:3] != (1, width):
        return None
    return Operand(load.buffer, split[0], split[1], split[2], InPanels(width, split[3]))


def _plain_load(kernel: ContractKernel, expr: Expr) -> Load | None:
    """What `expr` reads, if it is a load under no conditions; as of `narrow_load`."""
    load = narrow_load(kernel, expr)
    return None if load is None or load.conditions else load


def narrow_load(kernel: ContractKernel, expr: Expr) -> Load | None:
    """What `expr` reads, if it is a load; it may be narrower than the sums: whoever reads it widens it."""
    while isinstance(expr, Compute) and expr.op.name == "cast" and holds(expr.dtype, expr.operands[0].dtype):
        (expr,) = expr.operands
    return expr if isinstance(expr, Load) and not expr.bindings and holds(kernel.accumulate, expr.dtype) else None


def holds(wide: DType, narrow: DType) -> bool:
    if wide is narrow:
        return True
    if wide.kind == narrow.kind == "float":
        return narrow.itemsize < wide.itemsize
    return wide.kind == narrow.kind == "int" and narrow.itemsize < wide.itemsize


def _split(kernel: ContractKernel, offset: Dim, *places: Symbol) -> tuple[Dim, ...] | None:
    """`offset` as base + sum of symbol*stride: (base, *strides), where no stride depends on an axis of the kernel."""
    own = {axis.symbol for axis in (*kernel.batch, kernel.m, kernel.n, kernel.k)}.union(places)
    strides = []
    for symbol in places:
        stride = coefficient(offset, symbol)
        if stride is None or own.intersection(symbols(stride)):
            return None
        strides.append(stride)
        offset = substitute(offset, {symbol: 0})
    return (offset, *strides)


def direct_output(kernel: ContractKernel, *, rounds: bool = False) -> Direct | None:
    """The output that the sums may be written to as they are; None where there is more to do.

    Args:
        rounds: they may also be rounded to f16 or bf16.
    """
    if len(kernel.epilogue) != 1:
        return None
    (store,) = kernel.epilogue
    dtype = store.buffer.dtype
    if not isinstance(store.value, Accumulator) or (held(dtype) if rounds else dtype) is not kernel.accumulate:
        return None
    if store.value.dtype not in (dtype, kernel.accumulate):
        return None
    split = _split(kernel, _offset(store), kernel.m.symbol, kernel.n.symbol)
    if split is None or split[2] != 1:
        return None
    return Direct(store.buffer, split[0], split[1])


def few_rows(kernel: ContractKernel, lanes: int) -> ContractKernel:
    """The kernel with a and b exchanged, if it has few columns and more rows: lanes along the longer side."""
    m, n = kernel.m.extent, kernel.n.extent
    if not isinstance(n, int) or n > lanes // 4 or (isinstance(m, int) and m <= n):
        return kernel
    return exchanged(kernel)
