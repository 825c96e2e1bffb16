"""Loop kernels around one scalar operation: compiled for a target, and run on arrays."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from typing import Any

import llvmlite.ir as ir
import numpy as np

from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import features_of
from tjit.codegen.llvm.objects import compile_module, module_text
from tjit.codegen.llvm.scalars import Lane, LlvmScalars
from tjit.codegen.llvm.target import Target
from tjit.dtypes import DType, f64, from_numpy
from tjit.runtime.image import Image, load
from tjit.runtime.link import link

__all__ = ["Body", "compiled", "image_of", "run"]

Body = Callable[..., Lane]
_I64 = ir.IntType(64)


def _module(body: Body, operands: tuple[DType, ...], result: DType, width: int, target: Target) -> ir.Module:
    module = ir.Module("kernel", context=ir.Context())
    pointers = [ir.PointerType()] * (len(operands) + 1)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [*pointers, _I64]), "kernel")
    entry, loop, end = (function.append_basic_block(n) for n in ("entry", "loop", "end"))
    b = Builder(entry)
    b.branch(loop)
    b.position_at_end(loop)
    i = b.phi(_I64)
    i.add_incoming(_I64(0), entry)
    s = LlvmScalars(b, width, features_of(target))

    def at(pointer: ir.Value, dtype: DType) -> ir.Value:
        kind = s.memory_type(dtype)
        return b.gep(pointer, [i], source_etype=kind if width == 1 else kind.element)

    lanes = [
        s.from_memory(b.load(at(p, t), typ=s.memory_type(t), align=1), t)
        for p, t in zip(function.args, operands, strict=False)
    ]
    b.store(s.to_memory(body(s, *lanes)), at(function.args[-2], result), align=1)
    following = b.add(i, _I64(width))
    i.add_incoming(following, b.block)
    b.cbranch(b.icmp_signed("<", following, function.args[-1]), loop, end)
    b.position_at_end(end)
    b.ret_void()
    return module


def image_of(body: Body, operands: tuple[DType, ...], result: DType, target: Target, width: int = 0) -> Image:
    """The kernel's linked code; by default with the vectors of the target."""
    width = width or target.lanes(8 if f64 in operands else 4)
    module = _module(body, operands, result, width, target)
    return link([compile_module(module_text(module, target), target)])


def compiled(body: Body, operands: tuple[DType, ...], result: DType, target: Target, width: int = 0) -> Any:
    """A function of arrays that applies `body` to each element."""
    loaded = load(image_of(body, operands, result, target, width))
    types = [ctypes.c_void_p] * (len(operands) + 1)
    function = ctypes.CFUNCTYPE(None, *types, ctypes.c_int64)(loaded.address("kernel"))

    def call(*arrays: np.ndarray) -> np.ndarray:
        n = arrays[0].size
        padded = [np.concatenate([a.ravel(), np.ones(64, a.dtype)]) for a in arrays]
        out = np.empty(n + 64, result.numpy)
        function(*(a.ctypes.data for a in (*padded, out)), n)
        return out[:n]

    call.__dict__["code"] = loaded  # mapped as long as this function lives
    return call


def run(body: Body, *arrays: np.ndarray, target: Target, result: DType | None = None, width: int = 0) -> np.ndarray:
    """`body` on the elements of the arrays."""
    operands = tuple(from_numpy(a.dtype) for a in arrays)
    return compiled(body, operands, result or operands[0], target, width)(*arrays)
