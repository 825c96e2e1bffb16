"""A schedule to an image: every distinct function is compiled once, side by side, and kept in the disk cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import llvmlite.ir as ir

from tjit.codegen.kernel import Contraction, NestKernel
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.llvm.objects import Compilation, Job, assembly, module_text
from tjit.codegen.llvm.program import emit_kernel, emit_program, kernel_modules
from tjit.codegen.llvm.target import Target
from tjit.codegen.schedule import Schedule
from tjit.errors import CodegenError
from tjit.runtime.cache import Cache
from tjit.runtime.image import Image
from tjit.runtime.link import link
from tjit.runtime.version import compiler_version

__all__ = ["Unit", "compile_schedule", "print_assembly", "print_llvm"]


@dataclass(frozen=True)
class Unit:
    """One module of a program: what it is kept under, how to emit it, and whether LLVM is to find its vectors."""

    name: str
    key: str
    emit: Callable[[], ir.Module]
    scalar: bool = False


def _key(text: str, target: Target) -> str:
    data = f"{compiler_version()}|{target}|{target.features}|{text}"
    return hashlib.blake2b(data.encode(), digest_size=16).hexdigest()


def _units(plan: Schedule, target: Target) -> Iterator[Unit]:
    """The kernels' modules and what they are joined with, each once; those that LLVM takes longest for come first."""
    seen: set[str] = set()
    kernels = kernel_modules(plan, target).items()
    for name, kernel in sorted(kernels, key=lambda item: not isinstance(item[1], Contraction)):
        module, dependencies = emit_kernel(kernel, target)
        for dependency in dependencies:
            if dependency.name not in seen:
                seen.add(dependency.name)
                yield Unit(dependency.name, _key(dependency.name, target), dependency.emit)
        key, scalar = _key(print_kernel(kernel, locations=False), target), isinstance(kernel, NestKernel)
        yield Unit(name, key, lambda module=module: module, scalar)


def compile_schedule(
    plan: Schedule,
    target: Target,
    cache: Cache | None,
    name: str = "tjit.main",
    threads: bool = False,
    profiled: bool = False,
) -> Image:
    """The image of a schedule's program.

    Args:
        cache: where objects of kernels are kept; None compiles all.
        threads: put the thread pool into the image too (an exported program brings its own).
        profiled: have the program note when its kernels run, in one more buffer.
    """
    objects: list[bytes | Job] = []  # in the units' order, whichever the cache holds: equal programs are equal bytes
    missing: list[tuple[Unit, Job]] = []
    with Compilation(target) as work:
        for unit in _units(plan, target):
            data = cache.get(unit.key, "object") if cache is not None else None
            if data is None:
                data = work.add(unit.emit(), scalar=unit.scalar)
                missing.append((unit, data))
            objects.append(data)
        objects.append(work.add(emit_program(plan, target, name, profiled)))
        if threads:
            from tjit.codegen.llvm.threads import emit_threads  # only exports do

            objects.append(work.add(emit_threads(target.architecture)))
        work.finish()
        for unit, job in missing:
            if cache is not None:
                cache.put(unit.key, "object", job.result(), label=unit.name)
    try:
        return link([data if isinstance(data, bytes) else data.result() for data in objects])
    except CodegenError:
        if len(missing) + 1 + threads == len(objects):
            raise
        return compile_schedule(
            plan, target, None, name, threads, profiled
        )  # what the cache held were no objects of ours


def print_llvm(plan: Schedule, target: Target) -> str:
    """LLVM's text of every module of the program, before LLVM's passes."""
    units = _units(plan, target)
    return "\n".join(module_text(m, target) for m in (*(u.emit() for u in units), emit_program(plan, target)))


def print_assembly(plan: Schedule, target: Target) -> str:
    """The assembler text of every module of the program."""
    units = _units(plan, target)
    kernels = (assembly(u.emit(), target, scalar=u.scalar) for u in units)
    return "\n".join((*kernels, assembly(emit_program(plan, target), target)))
