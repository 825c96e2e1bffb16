"""Looking inside: what a function became, and why."""

from __future__ import annotations

from tjit.inspect.report import Explanation as Explanation
from tjit.inspect.report import KernelLine as KernelLine
from tjit.inspect.report import explain as explain

__all__ = ["Explanation", "KernelLine", "explain"]
