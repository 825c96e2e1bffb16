"""Type annotations of scripted functions: what arguments must be, and `tjit.jit.isinstance`."""

from __future__ import annotations

import builtins
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, Union

from tjit.errors import ArgumentError
from tjit.location import user_location
from tjit.tensor import Tensor

__all__ = ["check_arguments", "fits", "isinstance"]

_CHECKED = (Tensor, int, float, bool, str, complex)


def fits(value: Any, kind: Any) -> bool:
    """Whether a value is of an annotated type: classes, Optional, Union, List, Tuple, Dict. Others fit anything."""
    if kind is None or kind is type(None):
        return value is None
    if kind is float:
        return builtins.isinstance(value, (int, float)) and not builtins.isinstance(value, bool)
    if kind is int:
        return builtins.isinstance(value, int) and not builtins.isinstance(value, bool)
    if kind in _CHECKED:
        return builtins.isinstance(value, kind)
    origin, parts = typing.get_origin(kind), typing.get_args(kind)
    if origin in (Union, types.UnionType):
        return any(fits(value, part) for part in parts)
    if origin is list:
        return builtins.isinstance(value, list) and all(fits(v, parts[0]) for v in value)
    if origin is dict:
        return builtins.isinstance(value, dict) and all(
            fits(k, parts[0]) and fits(v, parts[1]) for k, v in value.items()
        )
    if origin is tuple:
        return builtins.isinstance(value, tuple) and _tuple_fits(value, parts)
    return builtins.isinstance(value, kind) if kind in (list, dict, tuple) else True


def _tuple_fits(value: tuple[Any, ...], parts: tuple[Any, ...]) -> bool:
    if len(parts) == 2 and parts[1] is Ellipsis:
        return all(fits(v, parts[0]) for v in value)
    return len(value) == len(parts) and all(fits(v, p) for v, p in zip(value, parts, strict=True))


def isinstance(obj: Any, target_type: Any) -> bool:
    """Whether `obj` is of `target_type`, also of containers with the types of what they hold: `List[Tensor]`.

    Args:
        target_type: a type, or a tuple of types.
    """
    kinds = target_type if builtins.isinstance(target_type, tuple) else (target_type,)
    return any(fits(obj, kind) for kind in kinds)


def check_arguments(fn: Callable[..., Any], name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Arguments have the types that the function's annotations say.

    Raises:
        ArgumentError: one has not. What the signature itself refuses is left to the call.
    """
    try:
        bound = inspect.signature(fn).bind(*args, **kwargs)
        hints = typing.get_type_hints(fn)
    except (TypeError, ValueError, NameError):
        return
    for key, value in bound.arguments.items():
        if key in hints and not fits(value, hints[key]):
            shown = getattr(hints[key], "__name__", str(hints[key]))
            raise ArgumentError(
                f"{name}() expected a value of type '{shown}' for argument '{key}' but found type "
                f"'{type(value).__name__}'",
                user_location(),
                hint=f"pass one, or change the annotation of {key}",
            )
