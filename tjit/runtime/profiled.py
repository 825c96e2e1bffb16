"""A program with notes of when its kernels run, for the profiler."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence

import numpy as np

from tjit.codegen.kernel_log import COUNTER_WORDS, EVENT_WORDS, HEAD_WORDS, log_words
from tjit.recording import Recorder, Run, Work
from tjit.runtime.program import Program

__all__ = ["MOST_EVENTS", "ProfiledProgram"]

MOST_EVENTS = 1 << 16  # of one run: the log has 1.5 MB of room, of which the pages that are used count


class ProfiledProgram:
    """A program whose code keeps the log of `codegen/kernel_log.py`.

    Args:
        program: takes the log as one more buffer.
        works: what its kernel steps do, in order.
    """

    def __init__(self, name: str, program: Program, works: tuple[Work, ...]) -> None:
        self.name = name
        self.program = program
        self.works = works

    def run_recorded(
        self, inputs: Sequence[np.ndarray], symbols: tuple[int, ...], recorder: Recorder
    ) -> list[np.ndarray]:
        """The outputs; what ran when is added to the recorder."""
        log = np.empty(log_words(len(self.works), MOST_EVENTS), np.int64)
        events = HEAD_WORDS + COUNTER_WORDS * len(self.works)
        log[:events] = 0
        log[1] = MOST_EVENTS
        start = time.perf_counter_ns()
        outputs = self.program.execute(inputs, symbols, log)
        end = time.perf_counter_ns()
        noted = min(int(log[0]), MOST_EVENTS)
        recorder.runs.append(
            Run(
                self.name,
                self.works,
                dict(zip(self.program.info.symbols, symbols, strict=True)),
                start,
                end,
                threading.get_ident(),
                log[HEAD_WORDS:events].reshape(-1, COUNTER_WORDS).tolist(),
                log[events : events + EVENT_WORDS * noted].reshape(-1, EVENT_WORDS).tolist(),
            )
        )
        return outputs
