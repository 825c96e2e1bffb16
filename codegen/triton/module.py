"""A kernel as Triton source, and the source as a cubin. Only compiling needs triton; neither needs a GPU."""

from __future__ import annotations

import hashlib
import linecache
from collections.abc import Mapping
from typing import Any

from tjit.codegen.kernel import Attention, ContractKernel, Kernel, LoopKernel, NestKernel, SortKernel
from tjit.codegen.triton.contract import emit_contract
from tjit.codegen.triton.loops import emit_loops, is_flat
from tjit.codegen.triton.scatter import emit_scatter
from tjit.codegen.triton.source import DeviceKernel, Source, TritonKernel
from tjit.dataclass import dataclass
from tjit.errors import CodegenError

__all__ = ["Compiled", "TritonKernel", "compile_kernel", "compile_source", "emit_kernel"]


@dataclass(frozen=True, slots=True)
class Compiled:
    """A kernel's machine code.

    Attributes:
        shared: bytes of dynamic shared memory of a block.
        warps: a block has 32 threads a warp.
        scratch: bytes of global scratch a program needs; its pointer and a profiler's follow the kernel's parameters.
    """

    name: str
    cubin: bytes
    ptx: str
    shared: int
    warps: int
    scratch: int


def emit_kernel(kernel: Kernel, constants: Mapping[str, int] | None = None) -> TritonKernel:
    """The Triton source of a kernel.

    Args:
        constants: block sizes to use instead of the emitter's, by the names in `TritonKernel.constants`.

    Raises:
        CodegenError: the kernel breaks a rule of the kernel IR, is a nest, a sort or an attention, or has a scan.
    """
    if isinstance(kernel, NestKernel):
        message = f"Triton takes loops, contractions and scatters; kernel {kernel.name} is a nest, for one thread"
        raise CodegenError(message, kernel.location, hint="schedule the graph with nests=False")
    if isinstance(kernel, SortKernel):
        raise CodegenError(f"kernel {kernel.name} is a sort, which Triton's emitter does not spell", kernel.location)
    if isinstance(kernel, Attention):
        message = f"kernel {kernel.name} is an attention, which Triton's emitter does not spell"
        raise CodegenError(message, kernel.location)
    constants = {} if constants is None else constants
    if _is_empty(kernel):
        return Source(kernel).finish(0)
    if isinstance(kernel, LoopKernel):
        return emit_loops(kernel, constants)
    if isinstance(kernel, ContractKernel):
        return emit_contract(kernel, constants)
    return emit_scatter(kernel, constants)


def _is_empty(kernel: DeviceKernel) -> bool:
    """Whether there is no element to compute."""
    if isinstance(kernel, LoopKernel):
        axes = (*kernel.parallel, *(kernel.loops[0].axes if is_flat(kernel) else ()))
    elif isinstance(kernel, ContractKernel):
        axes = (*kernel.batch, kernel.m, kernel.n)
    else:
        axes = kernel.axes
    return any(axis.extent == 0 for axis in axes)


def compile_kernel(tk: TritonKernel, arch: int, *, aligned: bool = True) -> bytes:
    """The cubin of `tk` for compute capability `arch` (80, 90, ...); see `compile_source`."""
    return compile_source(tk, arch, aligned=aligned).cubin


def compile_source(tk: TritonKernel, arch: int, *, aligned: bool = True) -> Compiled:
    """Compile `tk` for compute capability `arch`, without a device.

    Args:
        aligned: every pointer will be a multiple of 16 bytes.

    Raises:
        CodegenError: triton is not installed, or refuses the source.
    """
    try:
        import triton
        from triton.backends.compiler import GPUTarget
        from triton.compiler import ASTSource
    except ImportError:
        raise CodegenError("compiling for a GPU needs triton", hint="pip install tjit[gpu]") from None
    attrs: dict[Any, Any] = {}
    if aligned:
        attrs = {(i,): [["tt.divisibility", 16]] for i in range(len(tk.buffers))}
    source = ASTSource(_load(tk), tk.signature, tk.constants, attrs)
    options = {"num_warps": tk.warps, "num_stages": tk.stages, "enable_fp_fusion": False, "enable_reflect_ftz": False}
    try:
        built: Any = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    except Exception as error:
        raise CodegenError(f"triton refuses kernel {tk.name} for sm_{arch}: {error}\n{tk.source}") from error
    metadata = built.metadata
    scratch = getattr(metadata, "global_scratch_size", 0)
    return Compiled(metadata.name, built.asm["cubin"], built.asm["ptx"], metadata.shared, metadata.num_warps, scratch)


def _load(tk: TritonKernel) -> Any:
    """The kernel as a triton function. Triton reads the text again through `linecache`."""
    digest = hashlib.sha256(tk.source.encode()).hexdigest()[:16]
    file = f"/tjit/triton/{tk.name}_{digest}.py"
    linecache.cache[file] = (len(tk.source), None, tk.source.splitlines(keepends=True), file)
    namespace: dict[str, Any] = {"__name__": f"tjit_triton_{digest}"}
    exec(compile(tk.source, file, "exec"), namespace)
    return namespace[tk.name]
