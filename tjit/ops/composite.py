"""The families of composites under one name."""

from __future__ import annotations

from tjit.ops.attention import *  # noqa: F403
from tjit.ops.cross_entropy import *  # noqa: F403
from tjit.ops.dropout import *  # noqa: F403
from tjit.ops.einsum import *  # noqa: F403
from tjit.ops.embedding import *  # noqa: F403
from tjit.ops.loss import *  # noqa: F403
from tjit.ops.margin import *  # noqa: F403
from tjit.ops.nonlinear import *  # noqa: F403
from tjit.ops.normalize import *  # noqa: F403
