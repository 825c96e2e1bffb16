"""Gradients: the eager tape, and the split of a captured function's joint graph."""

from __future__ import annotations

from tjit.autograd.tape import backward, enable_grad, grad, is_grad_enabled, no_grad, set_grad_enabled

__all__ = ["backward", "enable_grad", "grad", "is_grad_enabled", "no_grad", "set_grad_enabled"]
