"""Python functions whose results change from call to call: captured, the first result stays."""

from __future__ import annotations

import random
import sys
import time
import warnings
from typing import Any

from tjit.location import user_location

__all__ = ["warn_of_changing"]

_CLOCKS = frozenset(
    {time.time, time.time_ns, time.perf_counter, time.perf_counter_ns, time.monotonic, time.monotonic_ns}
)
_DRAWS = getattr(random, "_inst", None)


def warn_of_changing(fn: Any) -> None:
    """Warn where `fn` reads a clock, or draws from Python's or NumPy's global generator of random numbers."""
    hint = _hint(fn)
    if hint is None:
        return
    where = user_location()
    at = "" if where is None else f"\n  at {where.describe()}"
    warnings.warn(
        f"{fn.__name__}() runs while the function is captured: later calls have the result of this one{at}\n"
        f"  hint: {hint}",
        stacklevel=2,
    )


def _hint(fn: Any) -> str | None:
    owner = getattr(fn, "__self__", None)
    if owner is not None and (owner is _DRAWS or owner is _numpys_generator()):
        return "draw with tjit.rand, tjit.randn or tjit.randint, or outside of the function and pass it"
    return "read the clock outside of the compiled function" if owner is time and fn in _CLOCKS else None


def _numpys_generator() -> Any:
    module = sys.modules.get("numpy.random.mtrand")
    return getattr(module, "_rand", time.time)  # something that owns nothing
