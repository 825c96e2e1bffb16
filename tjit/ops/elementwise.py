"""The elementwise families under one name."""

from __future__ import annotations

from tjit.ops.activation import *  # noqa: F403
from tjit.ops.arithmetic import *  # noqa: F403
from tjit.ops.bitwise import *  # noqa: F403
from tjit.ops.compare import *  # noqa: F403
from tjit.ops.conversion import cast as cast
from tjit.ops.math import *  # noqa: F403
