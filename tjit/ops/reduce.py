"""The reduce families under one name."""

from __future__ import annotations

from tjit.ops.extrema import *  # noqa: F403
from tjit.ops.statistics import *  # noqa: F403
from tjit.ops.sums import *  # noqa: F403
