"""What a call looked like, without its elements: enough to lower and to export what it ran."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from tjit.capture.inputs import array_leaf
from tjit.capture.pytree import Tree, flatten, unflatten
from tjit.dataclass import dataclass
from tjit.dtypes import DType
from tjit.tensor import Tensor

__all__ = ["Examples"]


@dataclass(frozen=True)
class _Array:
    shape: tuple[int, ...]
    dtype: DType | np.dtype
    is_tensor: bool

    def make(self) -> Any:
        kind = self.dtype.numpy if isinstance(self.dtype, DType) else self.dtype
        zeros = np.zeros(self.shape, kind)
        return Tensor(zeros) if self.is_tensor else zeros


class Examples:
    """The arguments of the first call, and where those of later ones differed in shape."""

    def __init__(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        leaves, self.tree = flatten((tuple(args), dict(kwargs)))
        self.leaves = [_spec(leaf) for leaf in leaves]
        self.varied: set[tuple[int, int]] = set()  # leaf, dim
        self.empty: set[tuple[int, int]] = set()  # of them, those that were 0

    def note(self, args: Sequence[Any], kwargs: Mapping[str, Any]) -> None:
        """Another call."""
        leaves, tree = flatten((tuple(args), dict(kwargs)))
        if tree != self.tree:
            return
        for i, (leaf, spec) in enumerate(zip(leaves, self.leaves, strict=True)):
            if isinstance(spec, _Array) and array_leaf(leaf) and len(leaf.shape) == len(spec.shape):
                pairs = list(enumerate(zip(leaf.shape, spec.shape, strict=True)))
                self.varied |= {(i, d) for d, (a, b) in pairs if a != b}
                self.empty |= {(i, d) for d, (a, b) in pairs if 0 in (a, b)}

    def arguments(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Arguments of the same types."""
        return unflatten(self.tree, [s.make() if isinstance(s, _Array) else s for s in self.leaves])

    def dims(self, names: Sequence[str]) -> dict[str, dict[int, Any]]:
        """The dims that varied, for `tjit.export`, by the names of the positional arguments."""
        from tjit.export import Dim

        found: dict[str, dict[int, Any]] = {}
        positional: Tree = self.tree.children[0]
        if any(child.kind is not None for child in positional.children):
            return {}
        for i, d in sorted(self.varied):
            if i < len(names):
                found.setdefault(names[i], {})[d] = Dim(f"{names[i]}_{d}", min=0 if (i, d) in self.empty else 1)
        return found


def _spec(leaf: Any) -> Any:
    if not array_leaf(leaf):
        return leaf
    is_tensor = isinstance(leaf, Tensor)
    return _Array(tuple(leaf.shape), leaf.dtype, is_tensor)
