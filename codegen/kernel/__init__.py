"""The kernel IR: one loop program. The scheduler writes it, the backends spell it, and it prints as text.

    kernel softmax(%x: f32[3000, 1000], out b0: f32[3000, 1000])  # model.py:7
      parallel (p0: 3000)
        for (r0: 1000) vector r0
          m = max %x[p0, r0]
        for (r0: 1000) vector r0
          t0: f32 = exp(sub(%x[p0, r0], m))
          s = sum t0
          row0[r0] = t0
        for (r0: 1000) vector r0
          b0[p0, r0] = div(row0[r0], s)

Axes are symbols of `ir.dims`, so an index is a `Dim`. The loops of a kernel run in order for each parallel point.
"""

from tjit.codegen.kernel.contractions import (
    Attention,
    AttentionGradientKernel,
    AttentionKernel,
    Blocking,
    Contraction,
    ContractKernel,
)
from tjit.codegen.kernel.exprs import (
    Accumulator,
    Axis,
    Buffer,
    Compute,
    Const,
    Expr,
    Index,
    Load,
    Local,
    Reduce,
    Reduced,
    Scan,
    Scanned,
    Statement,
    Store,
    converted,
    fold_up,
    varies,
    walk,
)
from tjit.codegen.kernel.kinds import Divided, Kernel, failure_locations, kernel_exprs, kernel_symbols
from tjit.codegen.kernel.loops import Loop, LoopKernel, ScatterKernel, SortKernel
from tjit.codegen.kernel.nests import (
    Assign,
    Bind,
    Branch,
    Check,
    Counted,
    Fold,
    Let,
    NestKernel,
    NestStatement,
    Repeat,
    nest_statements,
    statement_exprs,
)

__all__ = [
    "Accumulator",
    "Assign",
    "Attention",
    "AttentionGradientKernel",
    "AttentionKernel",
    "Axis",
    "Bind",
    "Blocking",
    "Branch",
    "Buffer",
    "Check",
    "Compute",
    "Const",
    "ContractKernel",
    "Contraction",
    "Counted",
    "Divided",
    "Expr",
    "Fold",
    "Index",
    "Kernel",
    "Let",
    "Load",
    "Local",
    "Loop",
    "LoopKernel",
    "NestKernel",
    "NestStatement",
    "Reduce",
    "Reduced",
    "Repeat",
    "Scan",
    "Scanned",
    "ScatterKernel",
    "SortKernel",
    "Statement",
    "Store",
    "converted",
    "failure_locations",
    "fold_up",
    "kernel_exprs",
    "kernel_symbols",
    "nest_statements",
    "statement_exprs",
    "varies",
    "walk",
]
