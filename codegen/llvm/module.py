"""A schedule to an image: every distinct function is compiled once, side by side, and kept in the disk cache."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass

import llvmlite.ir as ir

from tjit.codegen.kernel_text import print_kernel
from tjit.codegen.llvm.objects import assembly, compile_modules, module_text
from tjit.codegen.llvm.program import emit_kernel, emit_program, kernel_modules
from tjit.codegen.llvm.target import Target
from tjit.codegen.llvm.threads import emit_threads
from tjit.codegen.schedule import Schedule
from tjit.runtime.cache import Cache
from tjit.runtime.image import Image
from tjit.runtime.link import link
from tjit.runtime.version import compiler_version

__all__ = ["Unit", "compile_schedule", "print_assembly", "print_llvm"]


@dataclass(frozen=True)
class Unit:
    """One module of a program: what it is kept under, and how to emit it."""

    name: str
    key: str
    emit: Callable[[], ir.Module]


def _key(text: str, target: Target) -> str:
    return hashlib.blake2b(f"{compiler_version()}|{target}|{target.features}|{text}".encode(), digest_size=16).hexdigest()


def _units(plan: Schedule, target: Target) -> tuple[list[Unit], dict[str, ir.Module]]:
    """The kernels' modules and what they are joined with; modules already emitted by name."""
    units: dict[str, Unit] = {}
    emitted: dict[str, ir.Module] = {}
    for name, kernel in kernel_modules(plan, target).items():
        module, dependencies = emit_kernel(kernel, target)
        emitted[name] = module
        text = print_kernel(kernel, locations=False)
        units[name] = Unit(name, _key(text, target), lambda module=module: module)
        for dependency in dependencies:
            units[dependency.name] = Unit(dependency.name, _key(dependency.name, target), dependency.emit)
    return list(units.values()), emitted


def compile_schedule(plan: Schedule, target: Target, cache: Cache | None, name: str = "tjit.main", threads: bool = False) -> Image:
    """The image of a schedule's program.

    Args:
        cache: where objects of kernels are kept; None compiles all.
        threads: put the thread pool into the image too (an exported program brings its own).
    """
    units, _ = _units(plan, target)
    objects: list[bytes] = []
    missing: list[Unit] = []
    for unit in units:
        known = cache.get(unit.key, "object") if cache is not None else None
        if known is not None:
            objects.append(known)
        else:
            missing.append(unit)
    modules = [unit.emit() for unit in missing] + [emit_program(plan, target, name)]
    if threads:
        modules.append(emit_threads(target.architecture))
    compiled = compile_modules(modules, target)
    if cache is not None:
        for unit, data in zip(missing, compiled, strict=False):
            cache.put(unit.key, "object", data, label=unit.name)
    return link([*objects, *compiled])


def print_llvm(plan: Schedule, target: Target) -> str:
    """LLVM's text of every module of the program, before LLVM's passes."""
    units, _ = _units(plan, target)
    return "\n".join(module_text(m, target) for m in (*(u.emit() for u in units), emit_program(plan, target)))


def print_assembly(plan: Schedule, target: Target) -> str:
    """The assembler text of every module of the program."""
    units, _ = _units(plan, target)
    return "\n".join(assembly(m, target) for m in (*(u.emit() for u in units), emit_program(plan, target)))


