"""Optimizers and schedules of the learning rate."""

from __future__ import annotations

from tjit.optim import lr_scheduler as lr_scheduler
from tjit.optim.algorithms import *  # noqa: F403
from tjit.optim.optimizer import Optimizer as Optimizer
