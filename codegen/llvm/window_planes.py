"""Images in scratch whose elements are vectors: one of each filter's plane, where every filter reads its own.

A depthwise convolution has one filter for each channel. Lanes along rows of 7 or 14 are half empty and its weight
gradient adds up lanes for every weight; lanes along channels are full, and strides, short rows and padding cost
nothing. The planes of as many channels as there are lanes are transposed into scratch, and results are turned back.
"""

from __future__ import annotations

from dataclasses import replace
from math import prod

import llvmlite.ir as ir

from tjit.codegen.digits import expression_dims
from tjit.codegen.kernel import ContractKernel, Load
from tjit.codegen.llvm.builder import function_module
from tjit.codegen.llvm.contract_operands import narrow_load
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.packing import transposed
from tjit.codegen.llvm.scalars import LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, byte_gep, counted_loop, element_type, i64, least, prefetch
from tjit.codegen.llvm.window_blocks import Blocks
from tjit.codegen.llvm.window_map import ImageAxis, WindowMap
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.ir.dims import Dim, coefficient, substitute, symbols

__all__ = ["FILLING", "Planes", "PlanesFilling", "emit_planes_filling", "filter_for_each", "planes_of"]


@dataclass(frozen=True, slots=True)
class Planes:
    """The images that filters read, each one run of memory.

    Attributes:
        load: an element, over the symbols of the image's axes, of m and of batch axes.
        first: the place in memory of the first element, over m, batch and the axes that are no part of a plane.
        apart: elements from a filter's plane to the next one's.
        axes: of the image, the last ones, that make up a plane.
        inside: the range of each of them that is in memory; all else is zero.
    """

    load: Load
    first: Dim
    apart: int
    axes: tuple[ImageAxis, ...]
    inside: tuple[tuple[int, int], ...]

    @property
    def length(self) -> int:
        """Elements of a plane."""
        return prod(end - low for low, end in self.inside)

    def positions(self, windows: WindowMap) -> int:
        """Of the axis n in a plane."""
        return prod(windows.n[axis.n].extent for axis in self.axes if axis.n is not None)

    def steps(self, windows: WindowMap) -> int:
        """Of the axis k in a plane."""
        return prod(windows.k[axis.k].extent for axis in self.axes if axis.k is not None)

    def are_whole(self, n: Blocks, k: Blocks) -> bool:
        """Whether a block of n and one of k read whole planes."""
        return all(
            digit is None or blocks.span_of(digit) == blocks.digits[digit].extent
            for axis in self.axes
            for blocks, digit in ((n, axis.n), (k, axis.k))
        )

    def hold(self, axes: tuple[ImageAxis, ...], extents: tuple[int, ...]) -> tuple[int, ...]:
        """The `extents` of an image of `axes` with room for whole planes, where windows do not read all of them."""
        least = dict.fromkeys(axes, 0) | {axis: end for axis, (_, end) in zip(self.axes, self.inside, strict=True)}
        return tuple(max(extent, least[axis]) for axis, extent in zip(axes, extents, strict=True))


def filter_for_each(kernel: ContractKernel) -> ContractKernel | None:
    """`kernel` with a batch axis of both operands as its axis m, where it has one row for each value of that."""
    sides = [{s for d in expression_dims(side) for s in symbols(d)} for side in (kernel.a, kernel.b)]
    own = [axis for axis in kernel.batch if all(axis.symbol in side for side in sides)]
    if kernel.m.extent != 1 or len(own) != 1:
        return None
    batch = tuple(kernel.m if axis is own[0] else axis for axis in kernel.batch)
    return replace(kernel, m=own[0], batch=batch)


def planes_of(kernel: ContractKernel, windows: WindowMap) -> Planes | None:
    """The planes that the filters of `kernel` read; None where these are no runs of memory."""
    load = narrow_load(kernel, windows.image)
    if load is None or len(load.conditions) != sum(axis.inside is not None for axis in windows.axes):
        return None
    offset = load.buffer.offset(load.index)
    apart = coefficient(offset, kernel.m.symbol)
    axes = list(windows.axes)
    run, count = 1, 0
    inside = [axis.inside or (0, _extent(windows, axis)) for axis in axes]
    while count < len(axes) and coefficient(offset, axes[-1 - count].symbol) == run:
        low, end = inside[-1 - count]
        run *= end - low
        count += 1
    outer = axes[: len(axes) - count]
    if not isinstance(apart, int) or not count or any(axis.inside is not None for axis in outer):
        return None
    inner, ranges = tuple(axes[len(outer) :]), tuple(inside[len(outer) :])
    if any(low < 0 or end <= low for low, end in ranges):
        return None
    first = substitute(offset, {axis.symbol: low for axis, (low, _) in zip(inner, ranges, strict=True)})
    return Planes(load, first, apart, inner, ranges)


def _extent(windows: WindowMap, axis: ImageAxis) -> int:
    """Of an axis, as far as windows read."""
    n = 0 if axis.n is None else (windows.n[axis.n].extent - 1) * axis.scale_n
    return n + 1 + (0 if axis.k is None else (windows.k[axis.k].extent - 1) * axis.scale_k)


# -- filling -----------------------------------------------------------------------------------------------------------

# (planes, last, following, image): the first plane, how many there are less one, how many bytes away the first of
# those is that will be wanted next, where the first element is to be
FILLING = ir.FunctionType(ir.VoidType(), [PTR, I64, I64, PTR])


@dataclass(frozen=True, slots=True)
class PlanesFilling:
    """A function that transposes planes of `extents`, at least as long as a vector: a plane for each lane.

    Attributes:
        source, target: dtypes in memory and in scratch.
        apart: elements from plane to plane.
        strides: of the image in scratch, in vectors.
    """

    source: DType
    target: DType
    apart: int
    extents: tuple[int, ...]
    strides: tuple[int, ...]

    def name(self, target: Target) -> str:
        shape = "x".join(map(str, (*self.extents, *self.strides)))
        return f"tjit.planes.{self.source}.{self.target}.{self.apart}.{shape}.{target.lanes(self.target.itemsize)}"


def emit_planes_filling(filling: PlanesFilling, target: Target) -> ir.Module:
    """A module with the one function `filling.name(target)` of type `FILLING`; there may be fewer planes than lanes."""
    with function_module(filling.name(target), FILLING, target.triple) as (module, b, function):
        planes, last, following, image = function.args
        lanes = target.lanes(filling.target.itemsize)
        scalars = LlvmScalars(b, lanes, features_of(target))
        memory, element = scalars.memory_type(filling.source), element_type(filling.target)
        length, bits = prod(filling.extents), ir.IntType(filling.source.bits)
        lines = [b.mul(least(b, i64(r), last), i64(filling.apart)) for r in range(lanes)]
        with counted_loop(b, i64(0), i64(length), i64(lanes)) as i:
            start = least(b, i, i64(length - lanes))  # the last square reads some elements once more
            square = []
            for line in lines:
                at = b.gep(planes, [b.add(line, start)], source_etype=bits)
                prefetch(b, byte_gep(b, at, following))
                loaded = b.load(at, typ=memory, align=filling.source.itemsize)
                square.append(scalars.cast(scalars.from_memory(loaded, filling.source), filling.target).value)
            place = _Place(b, filling, start)
            for vector in transposed(b, square):
                to = b.gep(image, [b.mul(place.linear, i64(lanes))], source_etype=element)
                b.store(vector, to, align=filling.target.itemsize)
                place.advance()
    return module


class _Place:
    """Where in the image an element of a plane belongs: its digits, and what they come to."""

    def __init__(self, b: ir.IRBuilder, filling: PlanesFilling, element: ir.Value) -> None:
        self.b, self.extents, self.strides = b, filling.extents, filling.strides
        self.digits: list[ir.Value] = []
        for extent in reversed(self.extents[1:]):
            self.digits.insert(0, b.urem(element, i64(extent)))
            element = b.udiv(element, i64(extent))
        self.digits.insert(0, element)
        self.linear = i64(0)
        for digit, stride in zip(self.digits, self.strides, strict=True):
            self.linear = b.add(self.linear, b.mul(digit, i64(stride)))

    def advance(self) -> None:
        """To the next element."""
        b, carry = self.b, None
        for d in range(len(self.digits) - 1, -1, -1):
            step = i64(1) if carry is None else b.zext(carry, I64)
            self.linear = b.add(self.linear, b.mul(step, i64(self.strides[d])))
            self.digits[d] = b.add(self.digits[d], step)
            if d:
                carry = b.icmp_signed("==", self.digits[d], i64(self.extents[d]))
                self.digits[d] = b.select(carry, i64(0), self.digits[d])
                self.linear = b.select(carry, b.sub(self.linear, i64(self.extents[d] * self.strides[d])), self.linear)
