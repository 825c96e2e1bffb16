"""A schedule to an image: every distinct function is compiled once, side by side, and kept in the disk cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import llvmlite.ir as ir

from tjit.codegen.kernel import Kernel, NestKernel
from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.llvm.objects import Compilation, Job, assembly, module_text
from tjit.codegen.llvm.plain import take_optimised
from tjit.codegen.llvm.program import emit_kernel, emit_program, kernel_modules
from tjit.codegen.llvm.target import Target
from tjit.codegen.schedule import Schedule
from tjit.dataclass import dataclass
from tjit.errors import CodegenError
from tjit.runtime.cache import Cache
from tjit.runtime.image import Image
from tjit.runtime.link import link
from tjit.runtime.version import compiler_version

__all__ = ["KernelObjects", "Unit", "compile_schedule", "print_assembly", "print_llvm"]


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


def _units(kernel: Kernel, target: Target) -> Iterator[Unit]:
    """A kernel's modules, after those that it is joined with."""
    module, dependencies = emit_kernel(kernel, target)
    for dependency in dependencies:
        yield Unit(dependency.name, _key(dependency.name, target), dependency.emit)
    text, scalar = print_kernel(kernel, locations=False), isinstance(kernel, NestKernel)
    parts = take_optimised(module)
    if parts is not None:
        yield Unit(parts.name, _key(f"parts of {text}", target), lambda: parts, scalar)
    yield Unit(kernel.name, _key(text, target), lambda: module, scalar)


class KernelObjects:
    """The objects of kernels and of what they are joined with, while the caller goes on to decide about more kernels.

    They come from the disk cache, or are compiled on other threads. A context manager.

    Args:
        cache: where the objects are kept; None compiles all.
    """

    def __init__(self, target: Target, cache: Cache | None) -> None:
        self.target = target
        self.cache = cache
        self._work = Compilation(target)
        self._units: dict[str, tuple[str, ...]] = {}  # by the kernel's name
        self._objects: dict[str, bytes | Job] = {}  # by the unit's name
        self._missing: list[tuple[Unit, Job]] = []

    def __enter__(self) -> KernelObjects:
        self._work.__enter__()
        return self

    def __exit__(self, *error: object) -> None:
        self._work.__exit__(*error)

    def add(self, kernel: Kernel) -> None:
        """Begin to make a kernel's objects, unless that is done."""
        if kernel.name not in self._units:
            units = list(_units(kernel, self.target))
            self._units[kernel.name] = tuple(unit.name for unit in units)
            for unit in units:
                self._add(unit)

    def _add(self, unit: Unit) -> None:
        if unit.name in self._objects:
            return
        data = self.cache.get(unit.key, "object") if self.cache is not None else None
        if data is None:
            data = self._work.add(unit.emit(), scalar=unit.scalar)
            self._missing.append((unit, data))
        self._objects[unit.name] = data

    def image(self, plan: Schedule, name: str = "tjit.main", threads: bool = False, profiled: bool = False) -> Image:
        """The image of a schedule's program; nothing can be added then. `compile_schedule` has the arguments."""
        kernels = list(kernel_modules(plan, self.target).values())
        for kernel in kernels:
            self.add(kernel)
        more = [self._work.add(emit_program(plan, self.target, name, profiled))]
        if threads:
            from tjit.codegen.llvm.threads import emit_threads  # only exports do

            more.append(self._work.add(emit_threads(self.target.architecture)))
        self._work.finish()
        if self.cache is not None:
            for unit, job in self._missing:
                self.cache.put(unit.key, "object", job.result(), label=unit.name)
        # in the kernels' order, whichever the cache held: equal programs are equal bytes
        used = dict.fromkeys(unit for kernel in kernels for unit in self._units[kernel.name])
        objects = [self._objects[unit] for unit in used]
        try:
            return link([data if isinstance(data, bytes) else data.result() for data in (*objects, *more)])
        except CodegenError:
            if len(self._missing) == len(self._objects):
                raise
            # what the cache held were no objects of ours
            return compile_schedule(plan, self.target, None, name, threads, profiled)


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
    with KernelObjects(target, cache) as objects:
        return objects.image(plan, name, threads, profiled)


def _all_units(plan: Schedule, target: Target) -> list[Unit]:
    """What a program is linked from besides its own module, each once."""
    units = (unit for kernel in kernel_modules(plan, target).values() for unit in _units(kernel, target))
    return list({unit.name: unit for unit in units}.values())


def print_llvm(plan: Schedule, target: Target) -> str:
    """LLVM's text of every module of the program, before LLVM's passes."""
    modules = (*(unit.emit() for unit in _all_units(plan, target)), emit_program(plan, target))
    return "\n".join(module_text(module, target) for module in modules)


def print_assembly(plan: Schedule, target: Target) -> str:
    """The assembler text of every module of the program."""
    kernels = (assembly(u.emit(), target, scalar=u.scalar) for u in _all_units(plan, target))
    return "\n".join((*kernels, assembly(emit_program(plan, target), target)))
