"""The families of composites under one name."""

from __future__ import annotations

from tjit.ops.nonlinear import *  # noqa: F403
