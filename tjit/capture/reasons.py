"""Why a call needs a capture of its own, in words: what differs from a call before."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tjit import dtypes
from tjit.capture.inputs import Signature
from tjit.capture.pytree import Tree
from tjit.ir.types import TensorType
from tjit.location import Location

__all__ = ["closest_difference", "definition"]


def closest_difference(now: Signature, past: Sequence[Signature], names: Sequence[str]) -> str | None:
    """What `now` differs in from the one of the past calls that it is most like; None where there is none.

    Args:
        names: of the leaves of the call `now`.
    """
    found = [_differences(before, now, names) for before in reversed(past)]
    found = [differences for differences in found if differences]
    return " and ".join(filter(None, min(found, key=len))) if found else None


def definition(fn: Callable[..., Any]) -> Location | None:
    """The line of a function's `def`."""
    code = getattr(getattr(fn, "forward", fn), "__code__", None)
    if code is None:
        return None
    body = [line for _, _, line in code.co_lines() if line is not None]
    for line in range(code.co_firstlineno, max(body, default=code.co_firstlineno) + 1):
        location = Location(code.co_filename, line)
        if "def " in location.describe() or "lambda" in location.describe():
            return location
    return Location(code.co_filename, code.co_firstlineno)


def _differences(before: Signature, now: Signature, names: Sequence[str]) -> list[str]:
    (old_tree, *old, old_grad), (tree, *new, grad) = before.family, now.family
    if old_tree != tree:
        return [*_structures(old_tree, tree), *[""] * len(names)]  # more different than any other
    found: list[str] = []
    extents = zip(before.extents, now.extents, strict=True)
    numbers = zip(before.numbers, now.numbers, strict=True)
    for name, was, part in zip(names, old, new, strict=True):
        if _is_array(was) and _is_array(part):
            found += _arrays(name, was, part, *next(extents))
        elif was != part:
            found.append(f"{name} was {_leaf(was)} and is {_leaf(part)}")
        elif part in _NUMBERS:
            a, b = next(numbers)
            found += [f"{name} was {a} and is {b}"] if a != b else []
    if old_grad != grad:
        found.append(f"gradients are {'recorded' if grad else 'not recorded'} now")
    return found


_NUMBERS = ((int,), (float,), (np.float64,))


def _is_array(part: Any) -> bool:
    return len(part) > 2


def _leaf(part: Any) -> str:
    if _is_array(part):
        return "a NumPy array" if part[0] is np.ndarray else "a Tensor"
    return f"a {part[0].__name__}" if part in _NUMBERS else str(part[1]) if part[0] is slice else repr(part[1])


def _arrays(name: str, was: Any, part: Any, old_shape: tuple[int, ...], shape: tuple[int, ...]) -> list[str]:
    found: list[str] = []
    if was[0] is not part[0]:
        return [f"{name} was {_leaf(was)} and is {_leaf(part)}"]
    if was[1] != part[1] or old_shape != shape:
        found.append(f"{name} was {_type(was, old_shape)} and is {_type(part, shape)}")
    if was[2] != part[2]:
        found.append(f"{name} {'requires' if part[2] else 'does not require'} grad now")
    if was[4] != part[4] and was[3] == part[3]:
        found.append(f"{name} lies in memory in another way")
    if was[5] != part[5]:
        found.append(f"{name} {'is no longer' if part[5] is None else 'is'} an array that is passed twice")
    return found


def _type(part: Any, shape: tuple[int, ...]) -> str:
    return str(TensorType(dtypes.from_numpy(part[1]), shape))


def _structures(was: Tree, now: Tree) -> list[str]:
    counts = [(len(t.children[0].children), t.children[1].keys) for t in (was, now)]
    if counts[0] != counts[1]:
        return [f"it was called with {_called(*counts[0])} and is called with {_called(*counts[1])}"]
    return ["a container among the arguments has another structure"]


def _called(positional: int, keywords: tuple[Any, ...]) -> str:
    named = f" and {', '.join(map(str, keywords))}" if keywords else ""
    return f"{positional} argument{'' if positional == 1 else 's'}{named}"
