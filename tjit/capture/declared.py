"""Shapes that annotations declare: `def f(x: tjit.Tensor["batch", 784])`, with `tjit.Dim` for bounds."""

from __future__ import annotations

import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tjit.capture.inputs import array_leaf
from tjit.errors import ArgumentError
from tjit.ir.dims import Symbol
from tjit.ir.printer import RESERVED
from tjit.location import user_location

__all__ = ["Dim", "check_extents", "declared_dims"]


class Dim:
    """A named extent with bounds, for annotations and for `dynamic` of `tjit.export`. Two of one name are one extent.

    Args:
        name: an identifier; the argument of exported C functions is called so.
        min, max: the smallest and largest extent that a call may have, both included.

    Raises:
        ArgumentError: the name is no identifier or means something in dumps, or max is below min.
    """

    __slots__ = ("max", "min", "name")

    def __init__(self, name: str, min: int = 0, max: int | None = None) -> None:
        if not name.isidentifier() or not name.isascii() or name in RESERVED:
            raise ArgumentError(f"a Dim's name is an identifier, not {name!r}", user_location())
        if min < 0 or (max is not None and max < min):
            raise ArgumentError(f"the Dim {name} has no extents between {min} and {max}", user_location())
        self.name = name
        self.min = min
        self.max = max

    def __repr__(self) -> str:
        return f"Dim({self.name!r}, min={self.min}, max={self.max})"

    @property
    def symbol(self) -> Symbol:
        """The symbol that stands for it in graphs."""
        return Symbol(self.name, self.min, self.max)


Declared = Mapping[str, tuple[Any, ...]]


def declared_dims(fn: Callable[..., Any]) -> Declared:
    """For each parameter annotated with a shape its dims: a Dim, an int, or None for any extent.

    Raises:
        ArgumentError: an annotation has something else, or cannot be evaluated.
    """
    fn = getattr(fn, "forward", fn)
    written = getattr(fn, "__annotations__", {})
    if not any("Tensor[" in str(a) or typing.get_origin(a) is typing.Annotated for a in written.values()):
        return {}
    code, cells = getattr(fn, "__code__", None), getattr(fn, "__closure__", None) or ()
    names = {} if code is None else dict(zip(code.co_freevars, cells, strict=True))
    local = {name: cell.cell_contents for name, cell in names.items()}
    try:
        hints = typing.get_type_hints(fn, localns=local, include_extras=True)
    except NameError as error:
        raise ArgumentError(
            f"the annotations of {getattr(fn, '__name__', 'the function')} cannot be evaluated: {error}",
            hint="define the Dims where the module or the function can see them, or name them with strings",
        ) from None
    found = {name: hint.__metadata__[0] for name, hint in hints.items() if typing.get_origin(hint) is typing.Annotated}
    shapes = {name: dims for name, dims in found.items() if isinstance(dims, tuple)}
    known: dict[str, Dim] = {}
    for dim in [d for dims in shapes.values() for d in dims if isinstance(d, Dim)]:
        first = known.setdefault(dim.name, dim)
        if (first.min, first.max) != (dim.min, dim.max):
            raise ArgumentError(f"the Dim {dim.name} has two bounds: {first} and {dim}")
    return {name: tuple(_dim(name, d, known) for d in dims) for name, dims in shapes.items()}


def _dim(parameter: str, dim: Any, known: dict[str, Dim]) -> Any:
    if dim is None or isinstance(dim, int):
        return dim
    if isinstance(dim, Dim):
        return known[dim.name]
    if isinstance(dim, str):
        return known.get(dim) or Dim(dim)
    raise ArgumentError(f"the annotation of {parameter} has a Dim, a name, an int or None for each dim, not {dim!r}")


def check_extents(declared: Declared, names: Sequence[str], leaves: Sequence[Any]) -> None:
    """The arguments of a call have the shapes that annotations declare.

    Raises:
        ArgumentError: one has not.
    """
    seen: dict[str, tuple[str, int]] = {}
    for name, leaf in zip(names, leaves, strict=True):
        dims = declared.get(name) if array_leaf(leaf) else None
        if dims is None:
            continue
        if len(dims) != len(leaf.shape):
            raise ArgumentError(
                f"{name} has {len(leaf.shape)} dims, {list(leaf.shape)}, and is annotated with {len(dims)}",
                user_location(),
            )
        for d, (dim, extent) in enumerate(zip(dims, leaf.shape, strict=True)):
            _check_extent(f"dim {d} of {name}", dim, extent, seen)


def _check_extent(what: str, dim: Any, extent: int, seen: dict[str, tuple[str, int]]) -> None:
    if isinstance(dim, int) and extent != dim:
        raise ArgumentError(f"{what} is {extent}, and is annotated with {dim}", user_location())
    if not isinstance(dim, Dim):
        return
    if extent < dim.min or (dim.max is not None and extent > dim.max):
        raise ArgumentError(
            f"{what} is {extent}, out of the bounds of {dim}",
            user_location(),
            hint="pass another size, or widen the Dim",
        )
    where, first = seen.setdefault(dim.name, (what, extent))
    if first != extent:
        raise ArgumentError(
            f"the Dim {dim.name} is {first} as {where} and {extent} as {what}",
            user_location(),
            hint="give extents that differ Dims of different names",
        )
