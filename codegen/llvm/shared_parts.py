"""Parts that are the same function in many kernels: an image copied as it lies, sums stored as they are.

LLVM takes 3 to 6 ms for a part. What tells these apart from kernel to kernel are places and strides alone, and here
those are parameters: the parameters are the batch axes of a kernel that has such a part and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import llvmlite.ir as ir

from tjit.codegen.kernel import Accumulator, Axis, Buffer, Const, ContractKernel, Expr, Load, Store
from tjit.codegen.llvm.contract_lanes import emit_call_for, emit_epilogue, emit_image
from tjit.codegen.llvm.contract_operands import narrow_load
from tjit.codegen.llvm.contract_sides import Emission, Range
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, stack
from tjit.codegen.llvm.window_map import WindowMap
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, Symbol, coefficient, substitute, symbols

__all__ = ["CopiedImage", "StoredSums", "copied_image", "stored_sums"]

_FAR = 1 << 40  # elements: no place or stride is as large
_JOINED = 3  # axes: such images are copied by the function for one more, of which there is one
_POINTER = 3  # of the first buffer, in what a kernel's function is called with


@dataclass(frozen=True, slots=True)
class CopiedImage:
    """The image of an operand that is read from memory as it lies, with zeros around it.

    Attributes:
        load: an element, over the symbols of the image's axes and of batch axes.
        steps: how far apart the elements are along each axis but the last, where they are neighbours.
        guarded: the axes beyond whose range there is padding.
        dtype: of the image.
    """

    load: Load
    steps: tuple[Dim, ...]
    guarded: tuple[int, ...]
    dtype: DType

    def call(
        self,
        e: Emission,
        windows: WindowMap,
        strides: Sequence[int],
        to: ir.Value,
        places: Sequence[Range],
    ) -> None:
        """Copy the part of the image at `places` of its axes, whose `strides` in scratch are so."""
        ints, more = e.ints, int(len(places) == _JOINED)
        lows = []
        for i, (axis, place) in enumerate(zip(windows.axes, places, strict=True)):
            low, end = axis.inside or (0, 0)
            ints.symbols[axis.symbol.name] = ints.const(low) if i in self.guarded else place.start
            if i in self.guarded:
                lows += [ints.sub(ints.const(low), place.start), ints.const(end - low)]
        none = [ints.const(0)] * more
        parameters = [*none, *map(ints.const, strides[:-1]), *none, *map(ints.dim, self.steps), *lows]
        sizes = [ints.const(1)] * more + [place.size for place in places]
        starts_and_sizes = [value for size in sizes for value in (ints.const(0), size)]
        function = self._function(e, len(sizes), tuple(i + more for i in self.guarded))
        e.b.call(function, [_arguments(e, self.load), *parameters, to, *starts_and_sizes])

    def _function(self, e: Emission, rank: int, guarded: tuple[int, ...]) -> ir.Function:
        dtypes, target = (self.load.dtype, self.dtype), e.target
        axes = "".join(map(str, guarded))
        name = f"tjit.copied.{dtypes[0]}.{dtypes[1]}.{rank}.{axes}.{target.lanes(self.dtype.itemsize)}"
        kinds = [I64] * (2 * (rank - 1) + 2 * len(guarded)) + [PTR] + [I64] * (2 * rank)
        return _shared(
            e, f"{name}.image", kinds, lambda module: _emit_copy(module, name, target, dtypes, rank, guarded)
        )


def copied_image(kernel: ContractKernel, windows: WindowMap) -> CopiedImage | None:
    """The image of `kernel` as one that is copied; None: its elements are computed, or lie some other way."""
    load = narrow_load(kernel, windows.image)
    guarded = tuple(i for i, axis in enumerate(windows.axes) if axis.inside is not None)
    if load is None or len(load.conditions) != len(guarded) or len(windows.axes) < 2:
        return None
    own = {axis.symbol for axis in windows.axes}
    steps = [coefficient(load.buffer.offset(load.index), axis.symbol) for axis in windows.axes]
    fixed = [step for step in steps if step is not None and own.isdisjoint(symbols(step))]
    if len(fixed) < len(steps) or fixed[-1] != 1:
        return None
    return CopiedImage(load, tuple(fixed[:-1]), guarded, kernel.accumulate)


def _emit_copy(
    module: ir.Module, name: str, target: Target, dtypes: tuple[DType, DType], rank: int, guarded: tuple[int, ...]
) -> ir.Function:
    """(args, strides in the image..., in memory..., (low, extent) of guarded axes..., to, (0, size) of each axis)."""
    apart, steps = ([_number(f"{what}{i}") for i in range(rank - 1)] for what in ("apart", "step"))
    bounds = {i: (_number(f"low{i}"), _number(f"extent{i}")) for i in guarded}
    places = [Symbol(f"u.{i}", 0, _FAR) for i in range(rank)]
    index = [u.dim - bounds[i][0].index if i in bounds else u.dim for i, u in enumerate(places)]
    buffer = Buffer("memory", dtypes[0], (_FAR,) * rank, (*(step.index for step in steps), 1))
    load = Load(buffer, tuple(index), conditions=tuple((index[i], bounds[i][1].index) for i in guarded))
    batch = (*apart, *steps, *(axis for pair in bounds.values() for axis in pair))
    kernel = _kernel(name, buffer, batch, load, load, dtypes[1])
    return emit_image(module, kernel, target, load, places, [axis.index for axis in apart], batch)


@dataclass(frozen=True, slots=True)
class StoredSums:
    """An epilogue of one store, where neighbours along n are neighbours in memory.

    Attributes:
        first: the element of the first row and column, over batch axes.
        row: how far apart rows are, the values of m.
        summed: dtype of the sums in scratch.
        dtype: as what the graph has them; None where it is not they that are stored, but what is computed from them.
    """

    first: Load
    row: Dim
    summed: DType
    dtype: DType | None

    def run_epilogue(self, e: Emission, rest: Sequence[ir.Value]) -> None:
        """Call what `emit_epilogue` makes, in lines, of sums that are stored; `rest` follows the batch axes."""

        self._call(e, "epilogue", [PTR, *[I64] * 7], partial(emit_epilogue, in_lines=True), rest)

    def call_for(self, e: Emission, rest: Sequence[ir.Value]) -> None:
        """Call what `emit_call_for` makes, likewise."""
        self._call(e, "stores", [I64] * 4, emit_call_for, rest)

    def _call(
        self,
        e: Emission,
        part: str,
        kinds: Sequence[ir.Type],
        emit: Callable[[ir.Module, ContractKernel, Target], ir.Function],
        rest: Sequence[ir.Value],
    ) -> None:
        kernel = self._kernel(e)
        kinds = [I64, *kinds]
        function = _shared(e, f"{kernel.name}.{part}", kinds, lambda module: emit(module, kernel, e.target))
        e.b.call(function, [_arguments(e, self.first), e.ints.dim(self.row), *rest])

    def _kernel(self, e: Emission) -> ContractKernel:
        row, stored, dtype = _number("row"), self.first.dtype, self.dtype or self.summed
        name = f"tjit.sums.{self.summed}.{dtype}.{stored}.{e.target.lanes(self.summed.itemsize)}"
        buffer = Buffer("memory", stored, (_FAR, _FAR), (row.index, 1))
        return _kernel(name, buffer, (row,), Const(0, self.summed), Accumulator(dtype), self.summed)


def stored_sums(kernel: ContractKernel) -> StoredSums | None:
    """The epilogue of `kernel` as one store; None: there are several, or results lie some other way."""
    store, m, n = kernel.epilogue[0], kernel.m.symbol, kernel.n.symbol
    if len(kernel.epilogue) > 1 or store.past_caches:
        return None
    offset = store.buffer.offset(store.index)
    row = coefficient(offset, m)
    if row is None or coefficient(offset, n) != 1 or {m, n}.intersection(symbols(row)):
        return None
    first = Load(store.buffer, tuple(substitute(d, {m: 0, n: 0}) for d in store.index))
    dtype = store.value.dtype if isinstance(store.value, Accumulator) else None
    return StoredSums(first, row, kernel.accumulate, dtype)


_EmitPart = Callable[[ir.Module], ir.Function]


def _number(name: str) -> Axis:
    """A parameter, which may be negative, as an axis."""
    return Axis(Symbol(name, -_FAR, _FAR), _FAR)


def _kernel(
    name: str, buffer: Buffer, parameters: Sequence[Axis], b: Expr, value: Expr, dtype: DType
) -> ContractKernel:
    """What a shared part is the part of: of a kernel like this nothing else is emitted."""
    m, n, k = (Axis(Symbol(name, 0, _FAR), _FAR) for name in "mnk")
    store = Store(buffer, (m.index, n.index)[-len(buffer.shape) :], value)
    return ContractKernel(name, (buffer,), (), tuple(parameters), m, n, k, Const(0, dtype), b, dtype, (store,))


def _shared(e: Emission, name: str, kinds: Sequence[ir.Type], emit: _EmitPart) -> ir.Function:
    """The function of that name, (arguments, kinds...), declared; `emit` defines it in a module of its own."""

    def module() -> ir.Module:
        module = ir.Module(name=name, context=ir.Context())
        module.triple = e.target.triple
        function = emit(module)
        assert function.name == name, (function.name, name)
        function.linkage = ""
        return module

    return e.depend(name, ir.FunctionType(ir.VoidType(), [PTR, *kinds]), module)


def _arguments(e: Emission, first: Load) -> ir.Value:
    """What a kernel of one buffer is called with, where that begins at `first`."""
    b = e.b
    memory = ir.IntType(first.buffer.dtype.bits)
    table = stack(b, ir.ArrayType(PTR, _POINTER + 1), block=b.function.entry_basic_block)
    pointer = e.at(e.pointers[first.buffer.name], e.ints.dim(first.buffer.offset(first.index)), memory)
    b.store(pointer, b.gep(table, [e.ints.const(_POINTER)], source_etype=PTR))
    return table
