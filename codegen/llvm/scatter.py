"""Scatter kernels: one point after the other, in order."""

from __future__ import annotations

import llvmlite.ir as ir

from tjit.codegen.kernel import Load, ScatterKernel, Store, kernel_symbols
from tjit.codegen.llvm.builder import Builder
from tjit.codegen.llvm.expressions import ExprEmitter, Lanes
from tjit.codegen.llvm.integers import Integers
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.vectors import I64, PTR, counted_loop, i64
from tjit.ir.dims import product

__all__ = ["emit_scatter"]


def emit_scatter(kernel: ScatterKernel, target: Target) -> ir.Module:
    """The module that defines `kernel.name` by the convention of docs/design/0001."""
    module = ir.Module(name=kernel.name, context=ir.Context())
    module.triple = target.triple
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [PTR, I64, I64]), kernel.name)
    args, _, _ = function.args
    b = Builder(function.append_basic_block("entry"))
    ints = Integers(b)

    def argument(i: int) -> ir.Value:
        return b.load(b.gep(args, [i64(i)], source_etype=PTR), typ=PTR)

    symbols = kernel_symbols(kernel)
    for i, symbol in enumerate(symbols):
        ints.symbols[symbol.name] = b.load(b.gep(argument(0), [i64(i)], source_etype=I64), typ=I64)
    pointers = {buffer.name: argument(3 + i) for i, buffer in enumerate(kernel.buffers)}
    emitter = ExprEmitter(b, target, Lanes(None, 1), ints, pointers, error=argument(1))
    with counted_loop(b, i64(0), ints.dim(product(a.extent for a in kernel.axes)), i64(1)) as point, emitter.scope():
        linear = point
        for axis in reversed(kernel.axes):
            extent = ints.dim(axis.extent)
            ints.symbols[axis.symbol.name] = ints.mod(linear, extent)
            linear = ints.div(linear, extent)
        for symbol, value, extent in kernel.bindings:
            ints.symbols[symbol.name] = emitter.bind(value, extent, None)
        value = emitter.emit(kernel.value)
        old = emitter.emit(Load(kernel.target, kernel.index))
        new = emitter.scalars.add(old, value) if kernel.add else value
        emitter.put(Store(kernel.target, kernel.index, kernel.value), new)
    b.ret_void()
    return module
