"""The parts of a contraction that evaluate expressions over lanes: its epilogue, and operands that are not plain reads.

Each is an internal function beside the kernel, so that LLVM spends its time on these loops and not on the loops around.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

import llvmlite.ir as ir

from tjit.codegen.digits import Digits, split_digits, substitute_symbol
from tjit.codegen.kernel import Accumulator, Axis, Contraction, ContractKernel, Expr, Load, Store, kernel_symbols, walk
from tjit.codegen.lanes import NEAR
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.positions import Lanes
from tjit.codegen.llvm.scalars import Lane
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import (
    I32,
    I64,
    PTR,
    byte_gep,
    element_type,
    i64,
    numbers,
    prefetch,
    splat,
    stack,
    while_loop,
)
from tjit.codegen.scalars import held
from tjit.ir.dims import Dim, Symbol, coefficient, substitute

__all__ = [
    "Part",
    "bind_digits",
    "emit_call_for",
    "emit_epilogue",
    "emit_fill",
    "emit_image",
    "lane_order",
    "load_arguments",
    "runs",
]


def load_arguments(b: ir.IRBuilder, ints: Integers, args: ir.Value, kernel: Contraction) -> dict[str, ir.Value]:
    """Bind the program's symbols in `ints`; the pointers of the kernel's buffers by name."""

    def argument(i: int) -> ir.Value:
        return b.load(b.gep(args, [i64(i)], source_etype=PTR), typ=PTR)

    symbols = kernel_symbols(kernel)
    if symbols:
        values = argument(0)
        for i, symbol in enumerate(symbols):
            ints.symbols[symbol.name] = b.load(b.gep(values, [i64(i)], source_etype=I64), typ=I64)
    return {buffer.name: argument(3 + i) for i, buffer in enumerate(kernel.buffers)}


def lane_order(kernel: ContractKernel, expr: Expr, row: Symbol, default: str) -> str:
    """Along which axis the loads of `expr` read more of what lies together: "rows" or "k"."""
    rows, k = _nearness(expr, row), _nearness(expr, kernel.k.symbol)
    return default if rows == k else "rows" if rows > k else "k"


def _nearness(expr: Expr, axis: Symbol) -> int:
    """Elements that loads read from one run of memory along an axis, fewer where they pick every other of them."""
    digits = split_digits(axis, expr)
    run = digits.radices[0] if digits.radices else 1 << 20
    loads = [e for e in walk(substitute_symbol(expr, axis, digits.value)) if isinstance(e, Load)]
    steps = [coefficient(load.buffer.offset(load.index), digits.lowest) for load in loads]
    return sum(run // step for step in steps if isinstance(step, int) and 1 <= step <= NEAR)


def emit_epilogue(module: ir.Module, kernel: ContractKernel, target: Target, *, in_lines: bool = False) -> ir.Function:
    """(args, batch..., sums, stride, m, rows, n, columns): run the epilogue on a tile of finished sums.

    `columns` are a multiple of the lanes wherever n's extent is, unless they are `in_lines`: the function then takes
    (..., lines, apart) too, for so many times `columns`, whose sums are `apart`.
    """
    lines = ("lines", "apart") if in_lines else ()
    part = Part(module, kernel, target, "epilogue", ("sums", "stride", "m", "rows", "n", "columns", *lines))
    ints, b = part.ints, part.b
    m, n = kernel.m.symbol, kernel.n.symbol
    places = (Load(store.buffer, store.index) for store in kernel.epilogue)
    digits = split_digits(n, *places, *(store.value for store in kernel.epilogue))
    stores = [_substituted(store, n, digits.value) for store in kernel.epilogue]
    values = [store.value for store in stores]
    sums = {e.dtype for value in values for e in walk(value) if isinstance(e, Accumulator)}
    result = sums.pop() if sums else kernel.accumulate  # sums are rounded to the dtype the graph gives them
    width = target.lanes(kernel.accumulate.itemsize)
    element = element_type(kernel.accumulate)
    extent = kernel.n.extent
    full = not in_lines and not digits.radices and isinstance(extent, int) and extent % width == 0

    with ExitStack() as loops:
        line = loops.enter_context(ints.loop(i64(0), part["lines"])) if in_lines else i64(0)
        first = ints.add(part["n"], ints.mul(line, part["columns"]))
        tile = b.gep(part["sums"], [ints.mul(line, part["apart"])], source_etype=element) if in_lines else part["sums"]
        start, lowest, size = loops.enter_context(runs(b, ints, digits, first, part["columns"]))

        def column(emitter: ExprEmitter, j: ir.Value) -> None:
            ints.symbols[digits.lowest.name] = ints.add(lowest, j)
            with emitter.scope():
                emitter.hoist(values, frozenset((m,)))
                with ints.loop(i64(0), part["rows"]) as i:
                    ints.symbols[m.name] = ints.add(part["m"], i)
                    place = ints.add(ints.mul(i, part["stride"]), ints.add(start, j))
                    at = b.gep(tile, [place], source_etype=element)
                    kind = element if emitter.lanes.width == 1 else ir.VectorType(element, width)
                    total = b.load(at, typ=kind, align=kernel.accumulate.itemsize)
                    if held(result) is kernel.accumulate:
                        emitter.accumulator = emitter.scalars.rounded(Lane(total, result))
                    else:
                        emitter.accumulator = emitter.scalars.cast(Lane(total, kernel.accumulate), result)
                    with emitter.scope():
                        for store in stores:
                            emitter.store(store)

        part.lanes(digits.lowest, size, width, column, full=full)
    b.ret_void()
    return part.function


def emit_call_for(module: ir.Module, kernel: ContractKernel, target: Target) -> ir.Function:
    """(args, batch..., m, rows, n, columns): ask for the memory that the epilogue of such a tile will write."""
    part = Part(module, kernel, target, "stores", ("m", "rows", "n", "columns"))
    ints, b = part.ints, part.b
    last = ints.sub(ints.add(part["n"], part["columns"]), i64(1))
    with ints.loop(i64(0), part["rows"]) as i:
        ints.symbols[kernel.m.symbol.name] = ints.add(part["m"], i)
        for store in kernel.epilogue:
            for n in (part["n"], last):
                ints.symbols[kernel.n.symbol.name] = n
                at = ints.mul(ints.dim(store.buffer.offset(store.index)), i64(store.buffer.dtype.itemsize))
                prefetch(b, byte_gep(b, part.pointers[store.buffer.name], at), write=True)
    b.ret_void()
    return part.function


def _substituted(store: Store, symbol: Symbol, value: Dim) -> Store:
    index = tuple(substitute(d, {symbol: value}) for d in store.index)
    return replace(store, index=index, value=substitute_symbol(store.value, symbol, value))


def emit_fill(
    module: ir.Module, kernel: Contraction, target: Target, name: str, expr: Expr, row: Symbol, order: str
) -> ir.Function:
    """(args, batch..., to, stride, row, rows, k, steps): evaluate `expr` into a matrix whose lanes run along `order`.

    Up to one vector behind each line of the matrix is overwritten: lines must be written in order, and be padded.
    """
    part = Part(module, kernel, target, name, ("to", "stride", "row", "rows", "k", "steps"))
    ints, b = part.ints, part.b
    across, along = (kernel.k.symbol, row) if order == "rows" else (row, kernel.k.symbol)
    first_across, lines = (part["k"], part["steps"]) if order == "rows" else (part["row"], part["rows"])
    first_along, length = (part["row"], part["rows"]) if order == "rows" else (part["k"], part["steps"])
    element = element_type(kernel.accumulate)
    width = target.lanes(kernel.accumulate.itemsize)

    digits = split_digits(along, expr)
    expr = substitute_symbol(expr, along, digits.value)

    with ints.loop(i64(0), lines) as line:
        ints.symbols[across.name] = ints.add(first_across, line)
        to = b.gep(part["to"], [ints.mul(line, part["stride"])], source_etype=element)
        with runs(b, ints, digits, first_along, length) as (start, lowest, size):

            def piece(emitter: ExprEmitter, i: ir.Value) -> None:
                ints.symbols[digits.lowest.name] = ints.add(lowest, i)
                with emitter.scope():
                    value = emitter.scalars.cast(emitter.emit(expr), kernel.accumulate).value
                at = b.gep(to, [ints.add(start, i)], source_etype=element)
                b.store(value, at, align=kernel.accumulate.itemsize)

            part.lanes(digits.lowest, size, width, piece)
    b.ret_void()
    return part.function


def emit_image(
    module: ir.Module,
    kernel: ContractKernel,
    target: Target,
    expr: Expr,
    symbols: Sequence[Symbol],
    strides: Sequence[Dim],
    batch: Sequence[Axis],
) -> ir.Function:
    """(args, batch..., to, (start, size) of each symbol...): evaluate `expr` at all of them, lanes along the last."""
    names = [f"{what}{i}" for i in range(len(symbols)) for what in ("start", "size")]
    part = Part(module, kernel, target, "image", ("to", *names), batch)
    ints = part.ints
    element = element_type(kernel.accumulate)
    width = target.lanes(kernel.accumulate.itemsize)
    to = part["to"]
    with ExitStack() as loops:
        for i, (symbol, stride) in enumerate(zip(symbols[:-1], strides, strict=False)):
            u = loops.enter_context(ints.loop(i64(0), part[f"size{i}"]))
            ints.symbols[symbol.name] = ints.add(part[f"start{i}"], u)
            to = part.b.gep(to, [ints.mul(u, ints.dim(stride))], source_etype=element)
        last = len(symbols) - 1
        if last > 1:
            _prefetch_line(part, expr, symbols, part[f"size{last}"])

        def piece(emitter: ExprEmitter, i: ir.Value) -> None:
            ints.symbols[symbols[last].name] = ints.add(part[f"start{last}"], i)
            with emitter.scope():
                value = emitter.scalars.cast(emitter.emit(expr), kernel.accumulate).value
            part.b.store(value, part.b.gep(to, [i], source_etype=element), align=kernel.accumulate.itemsize)

        part.lanes(symbols[last], part[f"size{last}"], width, piece)
    part.b.ret_void()
    return part.function


def _prefetch_line(part: Part, expr: Expr, symbols: Sequence[Symbol], size: ir.Value) -> None:
    """Ask for the line that follows in the last dim but two: as far apart as they are, no hardware foresees them."""
    ints, b = part.ints, part.b
    *_, outer, _, last = symbols
    here = ints.symbols[outer.name]
    ints.symbols |= {outer.name: ints.add(here, i64(1)), last.name: part[f"start{len(symbols) - 1}"]}
    for load in {e.buffer.name: e for e in walk(expr) if isinstance(e, Load) and not e.bindings}.values():
        at = ints.mul(ints.dim(load.buffer.offset(load.index)), i64(load.dtype.itemsize))
        line = byte_gep(b, part.pointers[load.buffer.name], at)
        with ints.loop(i64(0), ints.mul(size, i64(load.dtype.itemsize)), 64) as i:
            prefetch(b, byte_gep(b, line, i))
    ints.symbols[outer.name] = here


@contextmanager
def runs(
    b: ir.IRBuilder, ints: Integers, digits: Digits, first: ir.Value, length: ir.Value
) -> Iterator[tuple[ir.Value, ir.Value, ir.Value]]:
    """The runs of [first, first + length) in which only the lowest digit changes: (start - first, its digit, size)."""
    if not digits.radices:
        yield i64(0), first, length
        return
    done = stack(b, I64)
    b.store(i64(0), done)
    with while_loop(b, lambda: b.icmp_signed("<", b.load(done, typ=I64), length)):
        start = b.load(done, typ=I64)
        lowest = bind_digits(ints, digits, ints.add(first, start))
        size = ints.min(ints.sub(i64(digits.radices[0]), lowest), ints.sub(length, start))
        yield start, lowest, size
        b.store(ints.add(start, size), done)


def bind_digits(ints: Integers, digits: Digits, value: ir.Value) -> ir.Value:
    """The lowest digit of `value`; the higher ones are bound in `ints`."""
    if not digits.radices:
        return value
    for symbol, below, radix in zip(digits.higher, digits.radices, (*digits.radices[1:], None), strict=True):
        ints.symbols[symbol.name] = ints.div(value if radix is None else ints.mod(value, i64(radix)), i64(below))
    return ints.mod(value, i64(digits.radices[0]))


_POINTERS = ("sums", "to", "scores", "cotangents", "state")  # parameters of parts; the others are integers


class Part:
    """An internal function of a kernel's module: its builder, symbols, buffers and parameters."""

    def __init__(
        self,
        module: ir.Module,
        kernel: Contraction,
        target: Target,
        name: str,
        parameters: Sequence[str],
        axes: Sequence[Axis] | None = None,
    ) -> None:
        kinds = [PTR if p in _POINTERS else I64 for p in parameters]
        batch = [axis.symbol.name for axis in (kernel.batch if axes is None else axes)]
        type_ = ir.FunctionType(ir.VoidType(), [PTR, *([I64] * len(batch)), *kinds])
        self.target = target
        self.function = ir.Function(module, type_, f"{kernel.name}.{name}")
        self.function.linkage = "internal"
        self.function.attributes.add("noinline")
        self.b = Builder(self.function.append_basic_block("entry"))
        args, *rest = self.function.args
        self.ints = Integers(self.b, dict(zip(batch, rest, strict=False)))
        self.parameters = dict(zip(parameters, rest[len(batch) :], strict=True))
        self.pointers = load_arguments(self.b, self.ints, args, kernel)
        self.error = self.b.load(self.b.gep(args, [i64(1)], source_etype=PTR), typ=PTR)

    def __getitem__(self, parameter: str) -> ir.Value:
        return self.parameters[parameter]

    def lanes(
        self,
        symbol: Symbol,
        count: ir.Value,
        width: int,
        body: Callable[[ExprEmitter, ir.Value], None],
        *,
        full: bool = False,
    ) -> None:
        """`body` for all of [0, count) in vectors; a rest is masked, or done one by one. full: there is no rest."""
        if full:
            with self._loop(symbol, i64(0), count, width) as (emitter, i):
                body(emitter, i)
        elif self.target.masks and self.target.vector_bytes == 64:
            with self._loop(symbol, i64(0), count, width, masked=True) as (emitter, i):
                body(emitter, i)
        else:
            whole = self.b.and_(count, i64(-width))
            with self._loop(symbol, i64(0), whole, width) as (emitter, i):
                body(emitter, i)
            with self._loop(symbol, whole, count, 1) as (emitter, i):
                body(emitter, i)

    @contextmanager
    def _loop(
        self, symbol: Symbol, start: ir.Value, stop: ir.Value, width: int, masked: bool = False
    ) -> Iterator[tuple[ExprEmitter, ir.Value]]:
        b = self.b
        with self.ints.loop(start, stop, width) as i:
            mask = None
            if masked:
                left = b.trunc(self.ints.sub(stop, i), I32)
                mask = b.icmp_signed("<", numbers(range(width)), splat(b, left, width))
            lanes = Lanes(symbol if width > 1 else None, width, mask)
            yield ExprEmitter(b, self.target, lanes, self.ints, self.pointers, error=self.error), i
