"""Where time goes: `with tjit.profiler.profile() as prof: ...`, then `print(prof.table())`. See docs/profiling.md."""

from __future__ import annotations

from tjit.profiler.profile import profile as profile
from tjit.profiler.profile import record_function as record_function
from tjit.profiler.table import Average as Average

__all__ = ["Average", "profile", "record_function"]
