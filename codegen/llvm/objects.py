"""LLVM modules to object code: parse, verify, optimise, emit; several side by side."""

from __future__ import annotations

import ctypes
import heapq
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from typing import Any

import llvmlite.binding as llvm
from llvmlite import ir
from llvmlite.binding import ModuleRef, ffi

from tjit.codegen.llvm.pieces import join, take_apart
from tjit.codegen.llvm.target import Target, target_machine
from tjit.codegen.llvm.text import Printed, print_module
from tjit.dataclass import dataclass
from tjit.errors import CodegenError

__all__ = ["Compilation", "Job", "assembly", "compile_module", "compile_modules", "module_text", "optimized_text"]

Module = ir.Module | str
_BATCH = 100_000  # characters of modules compiled as one: of more, little is won


def module_text(module: Module, target: Target) -> str:
    """The module as LLVM reads it, with the target's triple and data layout. Equal modules give equal text."""
    return module if isinstance(module, str) else _printed(module, target).text


def _printed(module: ir.Module, target: Target) -> Printed:
    module.triple, module.data_layout = target.triple, _layout(target)
    return print_module(module)


@cache
def _layout(target: Target) -> str:
    """LLVM's description of how data lies in memory."""
    with _machine(target) as machine:
        return str(machine.target_data)


def compile_module(module: Module, target: Target, *, scalar: bool = False) -> bytes:
    """The object code (relocatable ELF) of a module or of its text. May run on many threads at once.

    Args:
        scalar: the module's loops are not spelt in vectors: all of LLVM's passes run, its vectorizers included.

    Raises:
        CodegenError: LLVM refuses the module: a bug in tjit.
    """
    with _optimized(module, target, scalar) as (parsed, machine):
        return _emit(parsed, machine, is_object=True)


@dataclass
class Job:
    """The object of one module, some time: ask after `Compilation.finish`.

    Attributes:
        printed: its text in parts, if it can be compiled together with others.
    """

    text: str
    scalar: bool = False
    printed: Printed | None = None
    data: bytes = b""
    error: BaseException | None = None

    def result(self) -> bytes:
        """
        Raises:
            CodegenError: LLVM refused the module.
        """
        if self.error is not None:
            raise self.error
        return self.data


class Compilation:
    """Modules compiled on other threads while the caller emits more: of those that wait, the longest goes first.

    Equal text is compiled once. Small modules are compiled several at a time; their objects are the same as alone.
    """

    def __init__(self, target: Target, *, threads: int | None = None) -> None:
        self.target = target
        self._jobs: dict[tuple[str, bool], Job] = {}
        self._waiting: list[tuple[int, str, bool]] = []
        self._count = threading.Semaphore(0)  # of modules added, and once more for each helper to end
        self._finishing = False
        # The caller is busy emitting, then helps. Not concurrent.futures: its import takes 3 ms.
        helpers = (_usable_cores() if threads is None else threads) - 1
        self._helpers = [threading.Thread(target=self._help, daemon=True) for _ in range(helpers)]

    def __enter__(self) -> Compilation:
        _short_turns(1)
        for helper in self._helpers:
            helper.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._waiting.clear()
        self.finish()
        _short_turns(-1)

    def add(self, module: Module, *, scalar: bool = False) -> Job:
        """Have `module` compiled, which is empty then; `scalar` as in `compile_module`."""
        printed = None if isinstance(module, str) else _printed(module, self.target)
        text = module if printed is None else printed.text
        _empty(module)
        found = self._jobs.get((text, scalar))
        if found is None:
            joins = printed is not None and printed.is_functions and not printed.is_plain and not scalar
            found = self._jobs[text, scalar] = Job(text, scalar, printed if joins else None)
            heapq.heappush(self._waiting, (-len(text), text, scalar))
            self._count.release()
        return found

    def finish(self) -> None:
        """Compile what still waits on this thread too, until all is done. Nothing can be added then."""
        self._finishing = True
        while self._compile_some():
            pass
        for _ in self._helpers:
            self._count.release()
        for helper in self._helpers:
            helper.join()
        self._helpers.clear()

    def _help(self) -> None:
        while True:
            self._count.acquire()
            if not self._compile_some() and self._finishing:
                return

    def _compile_some(self) -> bool:
        """Compile the longest of those that wait, with others as long as that leaves work to the other threads."""
        waiting = sum(-length for length, _, _ in self._waiting.copy())
        first = self._take()
        if first is None:
            return False
        batch, names, length = [first], set(first.printed.defined if first.printed else ()), len(first.text)
        most = min(_BATCH, waiting // (len(self._helpers) + 1) // (2 if self._finishing else 1))
        while length < most and first.printed:
            more = self._take()
            if more is None:
                break
            self._count.acquire(blocking=False)
            if more.printed and names.isdisjoint(more.printed.defined):
                batch.append(more)
                names.update(more.printed.defined)
                length += len(more.text)
            else:
                self._compile([more])
        self._compile(batch)
        return True

    def _take(self) -> Job | None:
        try:
            _, text, scalar = heapq.heappop(self._waiting)  # one step under the interpreter's lock
        except IndexError:
            return None
        return self._jobs[text, scalar]

    def _compile(self, jobs: list[Job]) -> None:
        for job, data in zip(jobs, self._objects(jobs), strict=True):
            if isinstance(data, bytes):
                job.data = data
            else:
                job.error = data

    def _objects(self, jobs: list[Job]) -> list[bytes] | list[bytes | BaseException]:
        first, printed = jobs[0], [job.printed for job in jobs if job.printed]
        try:
            if not printed:
                return [compile_module(first.text, self.target, scalar=first.scalar)]
            joined = compile_module(join(printed), self.target)
            pieces = take_apart(joined, len(jobs))
            if pieces is None:
                pieces = [joined] if len(jobs) == 1 else [data for job in jobs for data in self._objects([job])]
        except BaseException as error:
            if len(jobs) == 1:
                return [error]
            return [data for job in jobs for data in self._objects([job])]  # to hear which it was
        return pieces


def _empty(module: Module) -> None:
    """Take apart what refers to each other: instructions go at once, and not to the garbage collector."""
    if isinstance(module, str):
        return
    for function in module.functions:
        for block in function.blocks:
            block.instructions.clear()
        function.blocks.clear()
    module.globals.clear()


_turns = threading.RLock()  # a finalizer may compile
_turn_takers = 0
_turn_seconds = 0.0


def _short_turns(more: int) -> None:
    """While modules are compiled, threads that come back from LLVM do not wait 5 ms for another's Python."""
    global _turn_takers, _turn_seconds
    with _turns:
        if _turn_takers == 0:
            _turn_seconds = sys.getswitchinterval()
            sys.setswitchinterval(min(_turn_seconds, 2e-4))
        _turn_takers += more
        if _turn_takers == 0:
            sys.setswitchinterval(_turn_seconds)


def compile_modules(
    modules: Sequence[Module], target: Target, *, scalar: bool = False, threads: int | None = None
) -> list[bytes]:
    """The objects of several modules, compiled side by side; equal text is compiled once."""
    with Compilation(target, threads=threads) as work:
        objects = [work.add(module, scalar=scalar) for module in modules]
        work.finish()
        return [each.result() for each in objects]


def optimized_text(module: Module, target: Target, *, scalar: bool = False) -> str:
    """The module's text after LLVM's passes, for dumps."""
    with _optimized(module, target, scalar) as (parsed, _):
        return str(parsed)


def assembly(module: Module, target: Target, *, scalar: bool = False) -> str:
    """The assembler text of what `compile_module` makes, for dumps."""
    with _optimized(module, target, scalar) as (parsed, machine):
        return _emit(parsed, machine, is_object=False).decode()


def _usable_cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@contextmanager
def _optimized(module: Module, target: Target, scalar: bool) -> Iterator[tuple[Any, Any]]:
    """The parsed and optimised module, with the target machine that may emit it."""
    text = module_text(module, target)
    plain = _is_plain(text)
    # A context of its own: modules of one context must not be worked on by two threads.
    with _machine(target, 0 if plain else 2) as machine, llvm.create_context() as context:
        try:
            with _parse(text, context) as parsed:
                parsed.verify()
                if not plain:
                    _optimize(parsed, machine, scalar)
                yield parsed, machine
        except RuntimeError as error:
            if isinstance(error, CodegenError):
                raise
            raise CodegenError(f"LLVM refuses a module: {error}") from error


def _is_plain(text: str) -> bool:
    """Whether no function of the module wants to be optimised: then the code generator leaves it out as a whole."""
    if " optnone" not in text:  # as most
        return False
    return all(" optnone" in line for line in text.splitlines() if line.startswith("define "))


def _optimize(parsed: Any, machine: Any, scalar: bool) -> None:
    options = llvm.create_pipeline_tuning_options(speed_level=2)
    # A new builder each time: the instrumentation that llvmlite leaves in it does not outlive the run.
    builder = llvm.create_pass_builder(machine, options)
    if scalar:
        options.loop_vectorization = options.slp_vectorization = True
        passes = builder.getModulePassManager()
    else:
        # Vectors are spelt out, and code generation hoists, merges and strength-reduces by itself: O1 to O3 take
        # two to five times as long as the rest of a kernel's compilation and its code runs no faster.
        passes = llvm.create_new_module_pass_manager()
        passes.add_always_inliner_pass()
        passes.add_sroa_pass()
        passes.add_simplify_cfg_pass()
        # No instruction combining: it makes blends of constant lane masks, which LLVM 22 then selects wrongly for
        # AVX-512 (tests/test_schedule.py, test_padding_of_a_guarded_quotient); and the code runs no faster with it.
    _run_passes(passes, parsed, builder)


# Target machines are not for two threads at once, and cost a millisecond: those not in use wait here.
_machines: dict[tuple[Target, int], list[Any]] = {}


@contextmanager
def _machine(target: Target, opt: int = 2) -> Iterator[Any]:
    idle = _machines.setdefault((target, opt), [])
    try:
        machine = idle.pop()
    except IndexError:
        machine = target_machine(target, opt)
    yield machine
    idle.append(machine)  # not after an error: it is cheaper to make a new one than to know its state


# llvmlite holds one lock around every call of LLVM. The three that take long go around it through a second handle of
# the library: each works on a context and a target machine that no other thread has.
_library = ctypes.CDLL(None, handle=ffi.lib._handle)
_parse_assembly = _library.LLVMPY_ParseAssembly
_parse_assembly.argtypes = [ffi.LLVMContextRef, ctypes.c_char_p, ctypes.POINTER(ctypes.c_char_p)]
_parse_assembly.restype = ffi.LLVMModuleRef
_run_passes = _library.LLVMPY_RunNewModulePassManager
_run_passes.argtypes = ffi.lib.LLVMPY_RunNewModulePassManager.argtypes
_run_passes.restype = None
_emit_to_memory = _library.LLVMPY_TargetMachineEmitToMemory
_emit_to_memory.argtypes = ffi.lib.LLVMPY_TargetMachineEmitToMemory.argtypes
_emit_to_memory.restype = ffi.LLVMMemoryBufferRef


def _parse(text: str, context: Any) -> Any:
    with ffi.OutputString() as message:
        parsed = ModuleRef(_parse_assembly(context, text.encode(), message), context)
        if message:
            parsed.close()
            raise CodegenError(f"LLVM cannot parse a module: {message}")
    return parsed


def _emit(parsed: Any, machine: Any, *, is_object: bool) -> bytes:
    with ffi.OutputString() as message:
        buffer = _emit_to_memory(machine, parsed, int(is_object), message)
        if not buffer:
            raise CodegenError(f"LLVM cannot emit a module: {message}")
    try:
        return ctypes.string_at(ffi.lib.LLVMPY_GetBufferStart(buffer), ffi.lib.LLVMPY_GetBufferSize(buffer))
    finally:
        ffi.lib.LLVMPY_DisposeMemoryBuffer(buffer)
