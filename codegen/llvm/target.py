"""What code is generated for: the processor, its vectors, and LLVM's description of it."""

from __future__ import annotations

import platform
import sys
from functools import lru_cache
from typing import Any

from tjit.dataclass import dataclass
from tjit.errors import ArgumentError

__all__ = ["TARGETS", "Target", "host_target", "named_target", "target_machine"]


@dataclass(frozen=True, slots=True)
class Target:
    """A processor to generate code for.

    Attributes:
        name: as printed: "host" or a key of `TARGETS`.
        triple: LLVM's triple; the object format is always ELF (docs/design/0001).
        cpu, features: as LLVM's -mcpu and -mattr.
        vector_bytes: size of one vector register.
        registers: number of vector registers.
        fma: whether a fused multiply-add is one instruction.
        masks: whether masked vector loads and stores are single instructions that do not touch masked-off memory.
    """

    name: str
    triple: str
    cpu: str
    features: str
    vector_bytes: int
    registers: int
    fma: bool
    masks: bool

    def lanes(self, itemsize: int) -> int:
        """How many elements of `itemsize` bytes one vector register holds."""
        return self.vector_bytes // itemsize

    def has(self, feature: str) -> bool:
        """Whether the processor is known to have a feature that LLVM calls so."""
        return f"+{feature}" in self.features.split(",")

    @property
    def architecture(self) -> str:
        """The first part of the triple: "x86_64", "aarch64"."""
        return self.triple.split("-", 1)[0]

    def __str__(self) -> str:
        return f"{self.name} ({self.cpu}, {8 * self.vector_bytes}-bit vectors)"


_LINUX_X86 = "x86_64-unknown-linux-gnu"
_LINUX_ARM = "aarch64-unknown-linux-gnu"
# tuning for some AVX-512 processors prefers 256-bit vectors: the vectors here are spelt out and want the full width
_FULL_WIDTH = "-prefer-256-bit"

TARGETS: dict[str, Target] = {
    t.name: t
    for t in (
        Target("x86-64", _LINUX_X86, "x86-64", "", 16, 16, fma=False, masks=False),
        Target("x86-64-v3", _LINUX_X86, "x86-64-v3", "", 32, 16, fma=True, masks=True),
        Target("x86-64-v4", _LINUX_X86, "x86-64-v4", _FULL_WIDTH, 64, 32, fma=True, masks=True),
        Target("aarch64", _LINUX_ARM, "generic", "+neon", 16, 32, fma=True, masks=False),
    )
}


def named_target(name: str) -> Target:
    """The target of a name: "host" or a key of `TARGETS`.

    Raises:
        ArgumentError: there is none.
    """
    if name == "host":
        return host_target()
    if name not in TARGETS:
        raise ArgumentError(f"no target is called {name!r}", hint=f"known: host, {', '.join(TARGETS)}")
    return TARGETS[name]


@lru_cache(maxsize=1)
def host_target() -> Target:
    """The processor this program runs on."""
    import llvmlite.binding as llvm

    try:
        features: dict[str, bool] = llvm.get_host_cpu_features()
    except RuntimeError:  # LLVM cannot tell on this system
        features = {}
    flags = ",".join(("+" if on else "-") + name for name, on in sorted(features.items()))
    cpu = llvm.get_host_cpu_name() or "generic"
    machine = platform.machine().lower()
    if machine in ("x86_64", "amd64"):
        return _x86_host(cpu, features, flags)
    if machine in ("aarch64", "arm64"):
        if sys.platform == "darwin":  # the system may change x18 at any time
            flags = ",".join(filter(None, (flags, "+reserve-x18")))
        return Target("host", _LINUX_ARM, cpu, flags, 16, 32, fma=True, masks=False)
    raise ArgumentError(f"tjit generates code for x86-64 and AArch64, not for {platform.machine()}")


def _x86_host(cpu: str, features: dict[str, bool], flags: str) -> Target:
    # Windows passes arguments in other registers, which LLVM takes from the triple
    triple = "x86_64-pc-windows-elf" if sys.platform == "win32" else _LINUX_X86
    has = {name for name, on in features.items() if on}
    fma = "fma" in has
    if {"avx512f", "avx512bw", "avx512dq", "avx512vl"} <= has and fma:
        return Target("host", triple, cpu, f"{flags},{_FULL_WIDTH}", 64, 32, fma=True, masks=True)
    if "avx2" in has and fma:
        return Target("host", triple, cpu, flags, 32, 16, fma=True, masks=True)
    return Target("host", triple, cpu, flags, 16, 16, fma=fma, masks=False)


def target_machine(target: Target, opt: int = 2) -> Any:
    """A new TargetMachine that writes position-independent ELF objects for `target`; not to be shared by threads."""
    import llvmlite.binding as llvm

    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    found = llvm.Target.from_triple(target.triple)
    return found.create_target_machine(
        cpu=target.cpu, features=target.features, opt=opt, reloc="pic", codemodel="small"
    )
