"""The log of a profiled program: memory in 64-bit words, which the program's code fills and the profiler reads.

events      how many kernels ran
capacity    how many of them the log has room for
calls, ns   for each kernel step: how often it ran, and how long in all
step, start, end    for each of the first `capacity` runs; times are CLOCK_MONOTONIC's nanoseconds
"""

from __future__ import annotations

__all__ = ["COUNTER_WORDS", "EVENT_WORDS", "HEAD_WORDS", "log_words"]

HEAD_WORDS, COUNTER_WORDS, EVENT_WORDS = 2, 2, 3


def log_words(kernels: int, capacity: int) -> int:
    """The size of a log."""
    return HEAD_WORDS + COUNTER_WORDS * kernels + EVENT_WORDS * capacity
