"""What this machine can do, measured with loops written in LLVM IR: the floors are reckoned from it.

python -m tjit.profiler.machine THREADS       prints the limits as JSON
"""

from __future__ import annotations

import ctypes
import json
import os
import platform
import sys
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from typing import Any

import numpy as np

from tjit.dataclass import dataclass

__all__ = ["Limits", "measure", "processor"]

STREAM = 1 << 24  # floats an array: 64 MB, beyond any cache
FMA_STEPS = 500_000
CHAINS = 12  # independent multiply-adds: more than latency times pipes
ROUNDS = 25


@dataclass(frozen=True)
class Limits:
    """What the machine can do, measured: GB/s and GFLOP/s of f32, on some threads and on one core."""

    triad: float
    read: float
    peak: float
    peak_one_core: float


def measure(threads: int) -> Limits:
    """Triad and read bandwidth and the multiply-add peak. ctypes releases the GIL, so threads run at once."""
    code = _Code()
    x, y, z = (np.ones(STREAM + 4096, np.float32)[272 * k :] for k in range(3))  # not at equal offsets in their pages
    part = STREAM // threads

    def triad(t: int) -> None:
        code.triad(*(a.ctypes.data + 4 * t * part for a in (x, y, z)), part)

    def read(t: int) -> None:
        code.read(x.ctypes.data + 4 * t * part, part)

    def fma(t: int) -> None:
        code.fma(FMA_STEPS)

    flops = 2.0 * code.lanes * CHAINS * FMA_STEPS / 1e9
    return Limits(
        triad=12 * STREAM / 1e9 / _best(triad, threads),
        read=4 * STREAM / 1e9 / _best(read, threads),
        peak=threads * flops / _best(fma, threads),
        peak_one_core=flops / _best(fma, 1),
    )


def _best(work: Callable[[int], None], threads: int) -> float:
    """Seconds of a fast round of `work` on every thread, the third of 25: the very first can be a clock's mistake."""
    rounds = []
    with ThreadPoolExecutor(threads) as pool:
        for _ in range(ROUNDS):
            start = time.perf_counter()
            list(pool.map(work, range(threads)))
            rounds.append(time.perf_counter() - start)
    return sorted(rounds)[2]


class _Code:
    """The three loops as machine code."""

    def __init__(self) -> None:
        import llvmlite.binding as llvm

        llvm.initialize_native_target()
        llvm.initialize_native_asmprinter()
        features = llvm.get_host_cpu_features()
        self.lanes = 16 if features.get("avx512f") else 8 if features.get("avx") else 4
        target = llvm.Target.from_default_triple()
        machine = target.create_target_machine(
            cpu=llvm.get_host_cpu_name(), features=features.flatten(), opt=3, jit=True
        )
        module = llvm.parse_assembly(_text(self.lanes))
        module.verify()
        self._engine = llvm.create_mcjit_compiler(module, machine)  # owns the code
        self._engine.finalize_object()
        pointer, size = ctypes.c_void_p, ctypes.c_int64
        self.triad = self._function("triad", None, pointer, pointer, pointer, size)
        self.read = self._function("read", ctypes.c_float, pointer, size)
        self.fma = self._function("fma", ctypes.c_float, size)

    def _function(self, name: str, *types: Any) -> Any:
        return ctypes.CFUNCTYPE(*types)(self._engine.get_function_address(name))


def _text(lanes: int) -> str:
    """Text, not the builder: three fixed loops read best as they are."""
    v = f"<{lanes} x float>"
    accumulators = 4
    step = lanes * accumulators
    loads = [
        f"  %o{k} = add i64 %i, {k * lanes}\n  %q{k} = getelementptr float, ptr %x, i64 %o{k}\n"
        f"  %v{k} = load {v}, ptr %q{k}, align 4"
        for k in range(accumulators)
    ]
    sums = [f"  %s{k} = phi {v} [ zeroinitializer, %entry ], [ %t{k}, %loop ]" for k in range(accumulators)]
    adds = [f"  %t{k} = fadd {v} %s{k}, %v{k}" for k in range(accumulators)]
    total = [f"  %u{k} = fadd {v} %{'u' + str(k - 1) if k > 1 else 't0'}, %t{k}" for k in range(1, accumulators)]
    chains = [f"  %a{k} = phi {v} [ zeroinitializer, %entry ], [ %b{k}, %loop ]" for k in range(CHAINS)]
    steps = [f"  %b{k} = call {v} @llvm.fma.v{lanes}f32({v} %a{k}, {v} %f, {v} %f)" for k in range(CHAINS)]
    meet = [f"  %c{k} = fadd {v} %{'c' + str(k - 1) if k > 1 else 'b0'}, %b{k}" for k in range(1, CHAINS)]
    lines = [
        f"declare {v} @llvm.fma.v{lanes}f32({v}, {v}, {v})",
        "define void @triad(ptr %x, ptr %y, ptr %z, i64 %n) {",
        f"entry:\n  %h = insertelement {v} poison, float 3.0, i32 0",
        f"  %f = shufflevector {v} %h, {v} poison, <{lanes} x i32> zeroinitializer\n  br label %loop",
        "loop:\n  %i = phi i64 [ 0, %entry ], [ %j, %loop ]\n  %px = getelementptr float, ptr %x, i64 %i",
        "  %py = getelementptr float, ptr %y, i64 %i\n  %pz = getelementptr float, ptr %z, i64 %i",
        f"  %a = load {v}, ptr %px, align 4\n  %b = load {v}, ptr %py, align 4",
        f"  %c = call {v} @llvm.fma.v{lanes}f32({v} %b, {v} %f, {v} %a)\n  store {v} %c, ptr %pz, align 4",
        f"  %j = add i64 %i, {lanes}\n  %more = icmp ult i64 %j, %n\n  br i1 %more, label %loop, label %done",
        "done:\n  ret void\n}",
        "define float @read(ptr %x, i64 %n) {\nentry:\n  br label %loop",
        "loop:\n  %i = phi i64 [ 0, %entry ], [ %j, %loop ]",
        *sums,
        *loads,
        *adds,
        f"  %j = add i64 %i, {step}\n  %more = icmp ult i64 %j, %n\n  br i1 %more, label %loop, label %done\ndone:",
        *total,
        f"  %r = extractelement {v} %u{accumulators - 1}, i32 0\n  ret float %r\n}}",
        "define float @fma(i64 %n) {",
        f"entry:\n  %h = insertelement {v} poison, float 0.5, i32 0",
        f"  %f = shufflevector {v} %h, {v} poison, <{lanes} x i32> zeroinitializer\n  br label %loop",
        "loop:\n  %i = phi i64 [ 0, %entry ], [ %j, %loop ]",
        *chains,
        *steps,
        "  %j = add i64 %i, 1\n  %more = icmp ult i64 %j, %n\n  br i1 %more, label %loop, label %done\ndone:",
        *meet,
        f"  %r = extractelement {v} %c{CHAINS - 1}, i32 0\n  ret float %r\n}}",
    ]
    return "\n".join(lines)


def processor() -> str:
    """The processor's name."""
    try:
        with open("/proc/cpuinfo") as file:
            names = [line.partition(":")[2].strip() for line in file if line.startswith("model name")]
    except OSError:
        names = []
    return names[0] if names else platform.processor() or platform.machine()


if __name__ == "__main__":
    cores = sorted(os.sched_getaffinity(0))
    count = int(sys.argv[1]) if len(sys.argv) > 1 else len(cores)
    os.sched_setaffinity(0, cores[:count])
    print(json.dumps(asdict(measure(count))))
