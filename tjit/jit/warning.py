"""The warning of traces."""

from __future__ import annotations

__all__ = ["TracerWarning"]


class TracerWarning(Warning):
    """A trace keeps a value as it is for the example inputs."""
