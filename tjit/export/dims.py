"""Dim: an extent that may differ from call to call of an exported program."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tjit.capture.declared import Dim
from tjit.capture.inputs import array_leaf
from tjit.errors import ArgumentError
from tjit.ir.dims import Dim as IrDim
from tjit.ir.dims import Symbol

__all__ = ["Dim", "shapes_of"]


def shapes_of(leaves: Sequence[Any], names: Sequence[str], dynamic: Any) -> list[tuple[IrDim, ...] | None]:
    """The shape to capture each leaf with; None for a Python value.

    Args:
        names: of the leaves.
        dynamic: as in `tjit.export`.

    Raises:
        ArgumentError: `dynamic` names no argument or no dim of it, or a Dim's bounds or uses contradict the examples.
    """
    if dynamic is None or dynamic is False:
        return [tuple(leaf.shape) if array_leaf(leaf) else None for leaf in leaves]
    if dynamic is True:
        return _all_dynamic(leaves)
    if not isinstance(dynamic, Mapping):
        raise ArgumentError(f"dynamic is None, True or a dict of argument names, not {type(dynamic).__name__}")
    arrays = [name for leaf, name in zip(leaves, names, strict=True) if array_leaf(leaf)]
    for name in dynamic:
        if name not in arrays:
            raise ArgumentError(
                f"dynamic names {name!r}, which is no array argument", hint=f"one of {', '.join(arrays)}"
            )
    reader = _Reader()
    return [
        reader.shape(name, leaf.shape, dynamic.get(name)) if array_leaf(leaf) else None
        for leaf, name in zip(leaves, names, strict=True)
    ]


def _all_dynamic(leaves: Sequence[Any]) -> list[tuple[IrDim, ...] | None]:
    """Every dim a symbol; equal extents are one symbol, as in `compile(dynamic=True)`."""
    found: dict[int, IrDim] = {}
    return [
        tuple(found.setdefault(d, Symbol(f"s{len(found)}").dim) for d in leaf.shape) if array_leaf(leaf) else None
        for leaf in leaves
    ]


class _Reader:
    """Turns Dims into symbols, and checks them against the examples."""

    def __init__(self) -> None:
        self.dims: dict[str, Dim] = {}
        self.extents: dict[str, int] = {}

    def shape(self, name: str, extents: Sequence[int], spec: Any) -> tuple[IrDim, ...]:
        chosen = dict(spec) if isinstance(spec, Mapping) else dict(enumerate(spec or ()))
        for d in chosen:
            if not isinstance(d, int) or not -len(extents) <= d < len(extents):
                raise ArgumentError(f"dynamic names dim {d!r} of {name}, which has {len(extents)} dims")
        by_dim = {d % len(extents): dim for d, dim in chosen.items() if dim is not None}
        return tuple(self.dim(name, d, extent, by_dim.get(d)) for d, extent in enumerate(extents))

    def dim(self, name: str, d: int, extent: int, dim: Any) -> IrDim:
        if dim is None:
            return extent
        dim = Dim(dim) if isinstance(dim, str) else dim
        if not isinstance(dim, Dim):
            raise ArgumentError(f"dim {d} of {name} should be a tjit.Dim or a name, not {dim!r}")
        first = self.dims.setdefault(dim.name, dim)
        if (first.min, first.max) != (dim.min, dim.max):
            raise ArgumentError(f"the Dim {dim.name} has two bounds: {first} and {dim}")
        if self.extents.setdefault(dim.name, extent) != extent:
            raise ArgumentError(
                f"the Dim {dim.name} is {self.extents[dim.name]} and {extent} in the examples: dim {d} of {name}",
                hint="give extents that differ Dims of different names",
            )
        if extent < dim.min or (dim.max is not None and extent > dim.max):
            raise ArgumentError(f"the example's dim {d} of {name} is {extent}, out of the bounds of {dim}")
        return Symbol(dim.name, dim.min, dim.max).dim
