"""Targets of packages: which levels a processor supports, told without loading LLVM.

A package is made for levels, not for single processors, so that it runs wherever the level does: the target "host"
stands for the best level of the exporting machine.
"""

from __future__ import annotations

import platform
from collections.abc import Iterable, Sequence
from functools import cache

from tjit.errors import ArgumentError, PackageError
from tjit.runtime.image import AARCH64, X86_64, host_machine

__all__ = ["LEVELS", "MACHINES", "best_target", "host_levels", "resolve_targets"]

# Of each level: the machine, and a number that C compares, higher for better.
LEVELS: dict[str, tuple[int, int]] = {
    "x86-64": (X86_64, 1),
    "x86-64-v3": (X86_64, 3),
    "x86-64-v4": (X86_64, 4),
    "aarch64": (AARCH64, 1),
}
# The target whose instructions every processor of a machine has.
MACHINES: dict[int, str] = {X86_64: "x86-64", AARCH64: "aarch64"}

# Linux's names; abm stands for lzcnt.
_V3 = frozenset({"avx", "avx2", "bmi1", "bmi2", "f16c", "fma", "abm", "movbe"})
_V4 = _V3 | frozenset({"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"})


@cache
def host_levels() -> tuple[str, ...]:
    """The levels that this machine runs, best first."""
    machine = host_machine()
    if machine == AARCH64:
        return ("aarch64",)
    if machine != X86_64:
        return ()
    flags = _flags()
    return tuple(
        level for level, needed in (("x86-64-v4", _V4), ("x86-64-v3", _V3), ("x86-64", frozenset())) if needed <= flags
    )


def _flags() -> frozenset[str]:
    try:
        with open("/proc/cpuinfo") as file:
            return frozenset(next((line for line in file if line.startswith("flags")), "").split())
    except OSError:
        return frozenset()


def resolve_targets(names: Sequence[str]) -> tuple[str, ...]:
    """Levels of target names, "host" resolved, each once.

    Raises:
        ArgumentError: a name is no target, or there is none.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name != "host" and name not in LEVELS:
            raise ArgumentError(f"no target is called {name!r}", hint=f"known: host, {', '.join(LEVELS)}")
    if not names or ("host" in names and not host_levels()):
        raise ArgumentError(f"export needs a target, known: {', '.join(LEVELS)}")
    return tuple(dict.fromkeys(host_levels()[0] if name == "host" else name for name in names))


def best_target(targets: Iterable[str], path: str) -> str:
    """The best of a package's targets that this machine runs.

    Raises:
        PackageError: there is none.
    """
    targets = tuple(targets)
    for level in host_levels():
        if level in targets:
            return level
    mine = host_levels()[0] if host_levels() else platform.machine()
    raise PackageError(
        f"{path} is made for {', '.join(targets)}; this machine runs {mine}",
        hint=f'export it with targets=("{mine}",)' if host_levels() else None,
    )
