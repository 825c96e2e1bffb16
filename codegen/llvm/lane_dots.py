"""Dot instructions: each lane of the sums takes the products of a few neighbouring steps of k at once.

Panels hold such a group of elements in one lane. The sums of bytes and 16-bit integers are exact. Those of bf16 are
sums of exact products in f32, where the instruction takes what is below the least normal number for zero.
"""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import declare
from tjit.dataclass import dataclass
from tjit.dtypes import DType, bf16, i8, i16, i32, u8

__all__ = ["I8_DOT", "LaneDot", "lane_dot", "lane_sum"]


@dataclass(frozen=True, slots=True)
class LaneDot:
    """One instruction of 512-bit vectors.

    Attributes:
        element: of panels; `group` of them are a lane.
        intrinsic: (sums, a, b): LLVM's name of it.
        feature: of the processor.
        unsigned_a: whether it takes a as unsigned: panels of a then hold a + 128, and those of b what is too much.
    """

    element: DType
    group: int
    intrinsic: str
    feature: str
    unsigned_a: bool = False

    def __str__(self) -> str:
        return f"{self.element}x{self.group}"


_BF16 = LaneDot(bf16, 2, "llvm.x86.avx512bf16.dpbf16ps.512", "avx512bf16")
_I16 = LaneDot(i16, 2, "llvm.x86.avx512.vpdpwssd.512", "avx512vnni")
I8_DOT = LaneDot(i8, 4, "llvm.x86.avx512.vpdpbusd.512", "avx512vnni", unsigned_a=True)


def lane_dot(a: DType, b: DType, accumulate: DType, target: Target) -> LaneDot | None:
    """The instruction of `target` for operands in memory as `a` and `b`; None where there is none."""
    found = None
    if a is b is bf16:
        found = _BF16
    elif a is b is i8 and accumulate is i32:
        found = I8_DOT
    elif {a, b} <= {i8, u8, i16} and accumulate is i32:
        found = _I16
    return found if found is not None and target.vector_bytes == 64 and target.has(found.feature) else None


def lane_sum(b: ir.IRBuilder, dot: LaneDot, sums: ir.Value, x: ir.Value, y: ir.Value) -> ir.Value:
    """`sums`, each with the products of the groups in one lane of x and y, which are vectors of i32."""
    function = declare(b, dot.intrinsic, ir.FunctionType(sums.type, [sums.type, x.type, y.type]))
    return b.call(function, [sums, x, y])
