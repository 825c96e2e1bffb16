"""From captured entry points to the sections of a package."""

from __future__ import annotations

import os
from dataclasses import replace
from typing import Any

from tjit.codegen.llvm.module import compile_schedule
from tjit.codegen.llvm.objects import compile_module
from tjit.codegen.llvm.target import Target, named_target
from tjit.codegen.llvm.threads import emit_threads
from tjit.codegen.schedule import schedule
from tjit.compiled import BuildOptions
from tjit.compiled import _info as program_info
from tjit.errors import CodegenError
from tjit.export import package
from tjit.export.entry import Entry
from tjit.export.header import write_header
from tjit.export.layouts import laid_out_programs
from tjit.export.manifest import manifest_json
from tjit.export.package import Section
from tjit.export.state import State
from tjit.export.table import write_table
from tjit.export.targets import LEVELS, MACHINES
from tjit.export.weights import write_weights
from tjit.ir.graph import Graph
from tjit.ir.printer import print_graph
from tjit.runtime.cache import default_cache
from tjit.runtime.image import Image
from tjit.runtime.link import link
from tjit.runtime.program import ProgramInfo

__all__ = ["PROVIDED", "build_sections"]

# What tjit.c gives to programs besides the thread pool.
PROVIDED = frozenset(
    {
        "aligned_alloc", "clock_gettime", "free", "malloc", "memcpy", "memmove", "memset",
        "pthread_create", "pthread_join", "pthread_sigmask", "sched_getaffinity", "sched_getcpu", "sched_setaffinity",
        "sched_yield", "sigfillset", "syscall", "sysconf",
    }
)  # fmt: skip


def build_sections(
    name: str,
    entries: list[Entry],
    state: State,
    targets: tuple[str, ...],
    extra_files: dict[str, bytes],
    metadata: Any,
) -> list[tuple[Section, bytes]]:
    """All sections of a package, compiled for all targets."""
    graphs = laid_out_programs(entries, state)
    weights = write_weights(state.arrays)
    code: list[tuple[Section, bytes]] = []
    infos: list[dict[str, ProgramInfo]] = []
    for e, (entry, graph) in enumerate(zip(entries, graphs, strict=True)):
        infos.append({})
        for t, level in enumerate(targets):
            image, infos[e][level] = _program(graph, named_target(level), entry.options)
            code.append((Section(package.IMAGE, e, t), image.to_bytes()))
    for t, level in enumerate(targets):
        code.append((Section(package.POOL, 0, t), _pool(level)))
    manifest = manifest_json(name, targets, state, entries, infos, list(extra_files), metadata)
    first = [info[targets[0]] for info in infos]
    table = write_table(targets, state, weights, list(extra_files), entries, first)
    return [
        (Section(package.MANIFEST), manifest.encode()),
        (Section(package.TABLE), table),
        (Section(package.WEIGHTS), weights),
        *((Section(package.GRAPH, e), print_graph(entry.graph).encode()) for e, entry in enumerate(entries)),
        *code,
        (Section(package.HEADER), write_header(name, entries, state).encode()),
        *((Section(package.EXTRA, i), data) for i, data in enumerate(extra_files.values())),
    ]


_OF_THE_POOL = {"tjit.parallel_for", "tjit.pool_threads"}


def _program(graph: Graph, target: Target, options: BuildOptions) -> tuple[Image, ProgramInfo]:
    plan = schedule(graph, options.costs(target), wide=options.fast_math)
    info = program_info(plan)
    # the user's folders are nobody's business
    checks = tuple((n, os.path.basename(file), line, text) for n, file, line, text in info.checks)
    image = compile_schedule(plan, target, default_cache())
    _check_imports(image, target)
    return image, replace(info, checks=checks)


def _check_imports(image: Image, target: Target) -> None:
    missing = sorted({n for n, _ in image.imports} - set(PROVIDED) - _OF_THE_POOL)
    if missing:
        raise CodegenError(f"the program for {target.name} calls {', '.join(missing)}, which packages do not provide")


def _pool(level: str) -> bytes:
    """The thread pool, for any processor of the machine."""
    target = named_target(MACHINES[LEVELS[level][0]])
    return link([compile_module(emit_threads(target.architecture), target)]).to_bytes()
