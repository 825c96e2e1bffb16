"""Kernels to Triton source. Importing this package does not import triton."""

from tjit.codegen.triton.module import Compiled, TritonKernel, compile_kernel, compile_source, emit_kernel

__all__ = ["Compiled", "TritonKernel", "compile_kernel", "compile_source", "emit_kernel"]
