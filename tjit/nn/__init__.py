"""Neural networks: modules, their functions, first values and helpers."""

from __future__ import annotations

from tjit.nn import functional as functional
from tjit.nn import init as init
from tjit.nn import utils as utils
from tjit.nn.activations import *  # noqa: F403
from tjit.nn.attention import *  # noqa: F403
from tjit.nn.containers import *  # noqa: F403
from tjit.nn.convolution import *  # noqa: F403
from tjit.nn.layers import *  # noqa: F403
from tjit.nn.losses import *  # noqa: F403
from tjit.nn.module import Module as Module
from tjit.nn.module import name_parameters as name_parameters
from tjit.nn.padding import *  # noqa: F403
from tjit.nn.parameter import Buffer as Buffer
from tjit.nn.parameter import Parameter as Parameter
from tjit.nn.recurrent import *  # noqa: F403
from tjit.nn.transformer import *  # noqa: F403
