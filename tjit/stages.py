"""What `lower` gives: every stage of a program as text."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import field
from typing import Any

from tjit.dataclass import dataclass
from tjit.errors import ArgumentError, CodegenError
from tjit.ir.graph import Graph
from tjit.ir.printer import print_graph
from tjit.location import user_location

__all__ = ["STAGES", "Lowered", "dump_stage"]

STAGES = ("graph", "passes", "schedule", "llvm", "asm", "triton", "ptx")


@dataclass
class Lowered:
    """The stages of one compiled variant.

    Attributes:
        graph: as captured.
        passes: runs the passes; gives the final graph.
        schedule: gives the schedule.
        wide: f16 and bf16 are rounded where they are stored, not after each op.
        backward: the stages of the gradient's program, where the call is differentiated from outside.
    """

    graph: Graph
    passes: Callable[[], Graph]
    schedule: Callable[[], Any]
    target: Any = None
    wide: bool = False
    backward: Lowered | None = None
    seconds: dict[str, float] = field(default_factory=dict)

    def text(self, stage: str) -> str:
        """The text of a stage: graph, passes, schedule, llvm, asm, triton or ptx.

        Raises:
            ArgumentError: no such stage.
            CodegenError: ptx without triton installed; a scan or a sort, which Triton's emitter does not spell.
        """
        if stage not in STAGES:
            raise ArgumentError(f"no stage {stage!r}", user_location(), hint=f"one of {', '.join(STAGES)}")
        text = getattr(self, f"_{stage}")()
        if self.backward is not None:
            text += "\n\n" + self.backward.text(stage)
        return text

    def _graph(self) -> str:
        return print_graph(self.graph)

    def _passes(self) -> str:
        return print_graph(self.passes())

    def _schedule(self) -> str:
        return str(self.schedule())

    def _llvm(self) -> str:
        from tjit.codegen.llvm.module import print_llvm

        return print_llvm(self.schedule(), self._target())

    def _asm(self) -> str:
        from tjit.codegen.llvm.module import print_assembly

        return print_assembly(self.schedule(), self._target())

    def _target(self) -> Any:
        from tjit.codegen.llvm.target import host_target

        return self.target or host_target()

    def _triton_kernels(self) -> list[Any]:
        from tjit.codegen.kernel import NestKernel
        from tjit.codegen.schedule import schedule
        from tjit.codegen.steps import kernel_steps
        from tjit.codegen.triton import emit_kernel
        from tjit.ir.scope import each_node
        from tjit.passes.pipeline import UNCLAIMED, run_passes

        claimed = self.passes()
        graph = run_passes(claimed, UNCLAIMED) if any(n.op.decompose for n in each_node(claimed.nodes)) else claimed
        steps = kernel_steps(self.schedule() if graph is claimed else schedule(graph, wide=self.wide))
        if any(isinstance(s.kernel, NestKernel) for s in steps):  # which run on one thread of a processor
            steps = kernel_steps(schedule(graph, nests=False, wide=self.wide))
        return [emit_kernel(k) for k in {s.kernel.name: s.kernel for s in steps}.values()]

    def _triton(self) -> str:
        return "\n\n".join(k.source for k in self._triton_kernels())

    def _ptx(self) -> str:
        from tjit.codegen.triton import compile_source

        return "\n\n".join(compile_source(k, 90).ptx for k in self._triton_kernels())


_dumps = 0


def dump_stage(name: str, stage: str, text: Callable[[], str]) -> None:
    """Write a stage to a numbered file, where TJIT_DUMP names it (TJIT_DUMP=graph,passes,schedule,llvm,asm).

    Files go to the folder TJIT_DUMP_DIR, or tjit_dump in the working directory. Where a backend does not spell a kernel
    the program goes on, and the file says why.
    """
    global _dumps
    wanted = os.environ.get("TJIT_DUMP", "")
    if stage not in wanted.split(","):
        return
    folder = os.environ.get("TJIT_DUMP_DIR", "tjit_dump")
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, f"{_dumps:03}_{name}_{stage}.txt"), "w") as file:
        try:
            file.write(text() + "\n")
        except CodegenError as error:
            file.write(f"{error}\n")
    _dumps += 1
