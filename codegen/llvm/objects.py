"""LLVM modules to object code: parse, verify, optimise, emit; several side by side."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from llvmlite.binding import ffi

from tjit.codegen.llvm.target import Target, target_machine
from tjit.errors import CodegenError

__all__ = ["assembly", "compile_module", "compile_modules", "module_text", "optimized_text"]

Module = ir.Module | str


def module_text(module: Module, target: Target) -> str:
    """The module as LLVM reads it, with the target's triple and data layout. Equal modules give equal text."""
    if isinstance(module, str):
        return module
    with _machine(target) as machine:
        module.triple = target.triple
        module.data_layout = str(machine.target_data)
    return str(module)


def compile_module(module: Module, target: Target) -> bytes:
    """The object code (relocatable ELF) of a module or of its text. May run on many threads at once.

    Raises:
        CodegenError: LLVM refuses the module: a bug in tjit.
    """
    with _optimized(module, target) as (parsed, machine):
        return _emit(parsed, machine, is_object=True)


def compile_modules(modules: Sequence[Module], target: Target, threads: int | None = None) -> list[bytes]:
    """The objects of several modules, compiled side by side; equal text is compiled once."""
    texts = [module_text(m, target) for m in modules]
    # the longest first: none is left over at the end
    distinct = sorted(dict.fromkeys(texts), key=len, reverse=True)
    workers = min(threads or len(os.sched_getaffinity(0)), len(distinct))
    if workers <= 1:
        objects = [compile_module(text, target) for text in distinct]
    else:
        with ThreadPoolExecutor(workers) as executor:
            objects = list(executor.map(lambda text: compile_module(text, target), distinct))
    of_text = dict(zip(distinct, objects, strict=True))
    return [of_text[text] for text in texts]


def optimized_text(module: Module, target: Target) -> str:
    """The module's text after LLVM's passes, for dumps."""
    with _optimized(module, target) as (parsed, _):
        return str(parsed)


def assembly(module: Module, target: Target) -> str:
    """The assembler text of what `compile_module` makes, for dumps."""
    with _optimized(module, target) as (parsed, machine):
        return _emit(parsed, machine, is_object=False).decode()


# llvmlite holds one lock around every call of LLVM. The calls that take long, on a context and a target machine that no
# other thread has, go around it, through a second handle of the same library.
_unlocked = ctypes.CDLL(None, handle=ffi.lib._handle)
_parse = _unlocked.LLVMPY_ParseAssembly
_parse.argtypes, _parse.restype = [ffi.LLVMContextRef, ctypes.c_char_p, ctypes.c_void_p], ffi.LLVMModuleRef
_run_passes = _unlocked.LLVMPY_RunNewModulePassManager
_run_passes.argtypes, _run_passes.restype = [ctypes.c_void_p, ffi.LLVMModuleRef, ctypes.c_void_p], None
_emit_to_memory = _unlocked.LLVMPY_TargetMachineEmitToMemory


@contextmanager
def _machine(target: Target) -> Iterator[Any]:
    """A target machine that no other thread uses meanwhile; they are kept for reuse."""
    free = _machines.setdefault(target, [])
    try:
        machine = free.pop()
    except IndexError:
        machine = target_machine(target)
    try:
        yield machine
    finally:
        free.append(machine)


_machines: dict[Target, list[Any]] = {}


@contextmanager
def _optimized(module: Module, target: Target) -> Iterator[tuple[Any, Any]]:
    text = module_text(module, target)
    with _machine(target) as machine, llvm.create_context() as context:
        try:
            with llvm.parse_assembly(text, context) as parsed:
                parsed.verify()
                optimize(parsed, machine)
                yield parsed, machine
        except RuntimeError as error:
            raise CodegenError(f"LLVM refuses a module: {error}") from error


def _emit(parsed: Any, machine: Any, *, is_object: bool) -> bytes:
    return machine.emit_object(parsed) if is_object else machine.emit_assembly(parsed).encode()


LEVEL = 1


def optimize(parsed, machine):
    options = llvm.create_pipeline_tuning_options(speed_level=LEVEL)
    options.loop_vectorization = options.slp_vectorization = options.loop_unrolling = options.loop_interleaving = False
    builder = llvm.create_pass_builder(machine, options)
    builder.getModulePassManager().run(parsed, builder)
