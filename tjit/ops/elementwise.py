"""The elementwise families under one name."""

from __future__ import annotations

from tjit.ops.activation import *  # noqa: F403
from tjit.ops.arithmetic import *  # noqa: F403
from tjit.ops.bitwise import *  # noqa: F403
from tjit.ops.bounds import *  # noqa: F403
from tjit.ops.combinations import *  # noqa: F403
from tjit.ops.compare import *  # noqa: F403
from tjit.ops.conversion import *  # noqa: F403
from tjit.ops.math import *  # noqa: F403
from tjit.ops.powers import *  # noqa: F403
from tjit.ops.rounding import *  # noqa: F403
from tjit.ops.trigonometry import *  # noqa: F403
