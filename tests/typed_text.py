"""Results as text that tells all numbers, and their types, apart."""

from __future__ import annotations

from typing import Any

import tjit

__all__ = ["plain"]


def plain(value: Any) -> Any:
    """A result with its types, in lists where it is in tuples or lists."""
    if isinstance(value, tjit.Tensor):
        return f"{value.dtype} {value.tolist()}"
    if isinstance(value, (tuple, list)):
        return [plain(v) for v in value]
    return f"{type(value).__name__} {value!r}"
