"""Strides: where the elements of a tensor lie. Views and copies are so made in the same places eagerly and captured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from tjit.ir.dims import Dim, is_one
from tjit.tensor import Tensor

__all__ = ["can_view", "contiguous_strides", "is_contiguous", "merged_dims", "strides_of"]


def contiguous_strides(shape: Sequence[Dim]) -> tuple[Dim, ...]:
    """Strides in elements of a row-major tensor."""
    strides: list[Dim] = []
    stride: Dim = 1
    for d in reversed(shape):
        strides.append(stride)
        stride = stride * (1 if isinstance(d, int) and d == 0 else d)
    return tuple(reversed(strides))


def merged_dims(shape: Sequence[int], strides: Sequence[int]) -> tuple[bool, ...]:
    """For each dim but the last whether it goes on where the next one ends, so that both are as one dim."""
    return tuple(strides[d] == strides[d + 1] * shape[d + 1] for d in range(len(shape) - 1))


def strides_of(x: Tensor) -> tuple[Dim, ...]:
    """Strides in elements. A traced tensor has those that its chain of views gives it; its base is row-major,
    unless it stands for an argument that is not, whose strides are in its `_strides`.
    """
    if isinstance(x._data, np.ndarray):
        return tuple(s // x._data.itemsize for s in x._data.strides)
    if x._view is None:
        return x.__dict__.get("_strides") or contiguous_strides(x.shape)
    base, op, attrs = x._view
    own = strides_of(base)
    if op.name == "permute":
        return tuple(own[d] for d in attrs["dims"])
    if op.name == "slice":
        return tuple(s * step for s, step in zip(own, attrs["steps"], strict=True))
    if op.name == "diagonal":
        return (*own[:-2], own[-2] + own[-1])
    if op.name == "broadcast_to":
        lead = x.ndim - base.ndim
        kept = (s if d == e else 0 for s, d, e in zip(own, base.shape, x.shape[lead:], strict=True))
        return (0,) * lead + tuple(kept)
    if op.name == "reshape":
        found = _view_strides(base.shape, own, x.shape)
        return contiguous_strides(x.shape) if found is None else found
    return own


def is_contiguous(x: Tensor) -> bool:
    """Whether the elements lie in row-major order without gaps."""
    if isinstance(x._data, np.ndarray):
        return x._data.flags.c_contiguous
    if x._view is None:
        return "_strides" not in x.__dict__
    pairs = zip(x.shape, strides_of(x), contiguous_strides(x.shape), strict=True)
    return 0 in x.shape or all(s == c or (isinstance(d, int) and d == 1) for d, s, c in pairs)


def can_view(x: Tensor, shape: Sequence[Dim]) -> bool:
    """Whether a reshape of x to `shape` needs no copy."""
    return is_contiguous(x) or _view_strides(x.shape, strides_of(x), shape) is not None


def _view_strides(old: Sequence[Dim], strides: Sequence[Dim], new: Sequence[Dim]) -> tuple[Dim, ...] | None:
    """Strides of memory under another shape, or None where no strides say it."""
    if any(isinstance(d, int) and d == 0 for d in (*old, *new)):
        return contiguous_strides(new)
    kept = [(d, s) for d, s in zip(old, strides, strict=True) if not is_one(d)]
    if [d for d, _ in kept] == [d for d in new if not is_one(d)]:  # dims of extent 1 come and go
        rest = iter(kept)
        return tuple(1 if is_one(d) else next(rest)[1] for d in new)
    runs = _runs(old, strides)
    result: list[Dim] = []
    position = len(new)
    for extent, stride in reversed(runs):
        left = extent
        while position > 0 and not is_one(left):
            d = new[position - 1]
            if not is_one(d):
                if left % d != 0:
                    return None
                left = left // d
            position -= 1
            result.append(stride)
            stride = stride * d
        if not is_one(left):
            return None
    while position > 0:
        if not is_one(new[position - 1]):
            return None
        position -= 1
        result.append(1)
    return tuple(reversed(result))


def _runs(shape: Sequence[Dim], strides: Sequence[Dim]) -> list[tuple[Dim, Dim]]:
    """(extent, stride) of the longest groups of dims that one stride runs through."""
    runs: list[tuple[Dim, Dim]] = []
    for d, s in zip(shape, strides, strict=True):
        if is_one(d):
            continue
        if runs and runs[-1][1] == s * d:
            runs[-1] = (runs[-1][0] * d, s)
        else:
            runs.append((d, s))
    return runs
